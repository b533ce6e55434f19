"""Which machines a group has: CodeDeploy's filters of tags, and names. Pure.

A list of filters is an OR; a set of up to three lists is an AND of them. A machine is of a selection when it is named
there, or when one of its sets matches.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from hooks.deployments.documents.values import StrictReader

MOST_TAGS = 10
MOST_LISTS = 3
MOST_NAMES = 1000
TYPES = ("KEY_ONLY", "VALUE_ONLY", "KEY_AND_VALUE")

Tags = Collection[Mapping[str, str]]
"""A machine's tags, each ``{"Key": …, "Value": …}``; a key may be there with several values."""


@dataclass(frozen=True, slots=True)
class TagFilter:
    """One filter; ``type`` says which of its halves count."""

    key: str
    value: str
    type: str

    def matches(self, tags: Tags) -> bool:
        """Whether a tag is what it asks for. Keys and values are compared as they are."""
        return any(
            (self.type == "VALUE_ONLY" or tag.get("Key", "") == self.key)
            and (self.type == "KEY_ONLY" or tag.get("Value", "") == self.value)
            for tag in tags
        )

    @staticmethod
    def of(document: Mapping[str, str]) -> TagFilter:
        """From its checked document."""
        return TagFilter(document.get("Key", ""), document.get("Value", ""), document["Type"])


TagSet = tuple[tuple[TagFilter, ...], ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """Machines by name, or by any one of some sets of filters. Without either it has none."""

    names: frozenset[str] = frozenset()
    sets: tuple[TagSet, ...] = ()

    def has(self, name: str, tags: Tags) -> bool:
        """Whether a machine is one of these."""
        return name in self.names or any(matches(each, tags) for each in self.sets)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was said of which machines there are."""
        return not self.names and not any(self.sets)

    @staticmethod
    def of(document: Mapping[str, Any]) -> Selection:
        """From a group's (or ``targetInstances``') checked document."""
        sets = [
            [document[key]]
            for key in ("ec2TagFilters", "onPremisesInstanceTagFilters", "tagFilters")
            if key in document
        ]
        sets += [document[key][f"{key}List"] for key in ("ec2TagSet", "onPremisesTagSet") if key in document]
        return Selection(
            frozenset(document.get("targets", ())),
            tuple(tuple(tuple(TagFilter.of(each) for each in filters) for filters in lists) for lists in sets),
        )


def matches(tag_set: TagSet, tags: Tags) -> bool:
    """Whether each list of a set has a filter that matches. A set without a list matches nothing."""
    return bool(tag_set) and all(any(each.matches(tags) for each in filters) for filters in tag_set)


def read_filters(reader: StrictReader, node: yaml.Node | None, where: str) -> list[dict[str, str]]:
    """A list of filters of tags, with their types filled in."""
    return [_filter(reader, item, path) for path, item in reader.listed(node, where, MOST_TAGS)]


def read_tag_set(reader: StrictReader, node: yaml.Node, where: str) -> dict[str, Any]:
    """CodeDeploy's ``ec2TagSet`` or ``onPremisesTagSet``: up to three lists, of ten filters together."""
    key = f"{where.rpartition('.')[2]}List"
    entries = reader.fields(node, where, {key})
    lists = [
        read_filters(reader, each, path) for path, each in reader.listed(entries.get(key), f"{where}.{key}", MOST_LISTS)
    ]
    if not all(lists):
        reader.fault(node, f"{where}.{key}: a list without a filter matches nothing")
    if sum(map(len, lists)) > MOST_TAGS:
        reader.fault(node, f"{where} has more than {MOST_TAGS} tags")
    return {key: lists}


def read_names(reader: StrictReader, node: yaml.Node | None, where: str) -> list[str]:
    """Names of targets."""
    names = [reader.name(item, path) for path, item in reader.listed(node, where, MOST_NAMES)]
    if node is not None and len(set(names)) != len(names):
        reader.fault(node, f"{where}: a name is there twice")
    return names


def tag_faults(tags: Sequence[Mapping[str, str]]) -> list[str]:
    """What is wrong with a machine's own tags."""
    faults = []
    if len(tags) > MOST_TAGS:
        faults.append(f"a machine has at most {MOST_TAGS} tags")
    if any(not 1 <= len(tag.get("Key", "")) <= 128 or len(tag.get("Value", "")) > 256 for tag in tags):
        faults.append("a tag has a key of 1 to 128 and a value of at most 256 characters")
    return faults


def _filter(reader: StrictReader, node: yaml.Node, where: str) -> dict[str, str]:
    entries = reader.fields(node, where, {"Key", "Value", "Type"})
    key = reader.limited(entries.get("Key"), f"{where}.Key", 128)
    value = reader.limited(entries.get("Value"), f"{where}.Value", 256)
    usual = "KEY_AND_VALUE" if "Key" in entries and "Value" in entries else "KEY_ONLY" if key else "VALUE_ONLY"
    kind = reader.word(entries.get("Type"), f"{where}.Type", TYPES, usual)
    if not key and kind != "VALUE_ONLY":
        reader.fault(node, f"{where}: a filter of type {kind} needs a Key")
    if "Value" not in entries and kind == "VALUE_ONLY":
        reader.fault(node, f"{where}: a filter needs a Key or a Value")
    found = {"Type": kind}
    if kind != "VALUE_ONLY":
        found["Key"] = key
    if kind != "KEY_ONLY":
        found["Value"] = value
    return found
