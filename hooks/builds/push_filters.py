"""Which pushes and pull requests start a build: CodeBuild's filter groups. Pure.

The groups are OR, the filters of one AND. Two things differ from CodeBuild, where an unanchored pattern for one account's
id let in every account whose id holds it: a pattern has to match the whole value, and accounts are named by their exact
ids, never by what a commit says of its author. And a FILE_PATH that is excluded keeps a build back only when all changed
files match, so that "unless nothing but documents changed" can be said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hooks.builds.patterns import is_whole, pattern_fault

PUSH = "PUSH"
EVENTS = (
    PUSH,
    "PULL_REQUEST_CREATED",
    "PULL_REQUEST_UPDATED",
    "PULL_REQUEST_REOPENED",
    "PULL_REQUEST_MERGED",
    "PULL_REQUEST_CLOSED",
    "RELEASED",
    "PRERELEASED",
)
TYPES = (
    "EVENT",
    "BASE_REF",
    "HEAD_REF",
    "ACTOR_ACCOUNT_ID",
    "FILE_PATH",
    "COMMIT_MESSAGE",
    "TAG_NAME",
    "RELEASE_NAME",
    "REPOSITORY_NAME",
)
MAX_GROUPS = 20
MAX_FILTERS = 20
MAX_PATTERN_CHARACTERS = 1000
_IDS = re.compile(r"[A-Za-z0-9_.:{}-]{1,128}(?:,[A-Za-z0-9_.:{}-]{1,128})*\Z")
_KNOWN = {"type", "pattern", "excludeMatchedPattern"}


@dataclass(frozen=True, slots=True)
class Happening:
    """What a forge tells of, as filters see it. None is what the event does not have, or the forge does not tell.

    ``actor_id`` is the forge's id of the account that did it.
    """

    event: str
    actor_id: str
    head_ref: str | None = None
    base_ref: str | None = None
    files: tuple[str, ...] | None = None
    message: str | None = None
    tag_name: str | None = None
    release_name: str | None = None
    repository: str | None = None


def group_faults(groups: Sequence[Sequence[Mapping[str, Any]]]) -> list[str]:
    """Everything that is wrong with filter groups."""
    faults = [] if 1 <= len(groups) <= MAX_GROUPS else [f"filterGroups: 1 to {MAX_GROUPS} groups"]
    for number, group in enumerate(groups):
        where = f"filterGroups[{number}]"
        if not 1 <= len(group) <= MAX_FILTERS:
            faults.append(f"{where}: 1 to {MAX_FILTERS} filters")
        if sum(1 for each in group if each.get("type") == "EVENT") != 1:
            faults.append(f"{where}: exactly one filter of type EVENT")
        for each in group:
            faults += [f"{where}: {fault}" for fault in _filter_faults(each)]
    return faults


def _filter_faults(given: Mapping[str, Any]) -> list[str]:
    kind, pattern = given.get("type"), given.get("pattern")
    if set(given) - _KNOWN or not isinstance(given.get("excludeMatchedPattern", False), bool):
        return ["a filter has a type, a pattern and excludeMatchedPattern"]
    if kind not in TYPES:
        return [f"type {str(kind)[:60]!r} is not one of {', '.join(TYPES)}"]
    if not isinstance(pattern, str) or not 1 <= len(pattern) <= MAX_PATTERN_CHARACTERS:
        return [f"{kind}: a pattern of 1 to {MAX_PATTERN_CHARACTERS} characters"]
    if kind == "EVENT":
        unknown = [word for word in _words(pattern) if word not in EVENTS]
        return [f"EVENT: {', '.join(unknown)} not among {', '.join(EVENTS)}"] if unknown else []
    if kind == "ACTOR_ACCOUNT_ID":
        fine = _IDS.match(pattern)
        return [] if fine else ["ACTOR_ACCOUNT_ID: exact account ids with commas between, no regular expression"]
    fault = pattern_fault(pattern)
    return [f"{kind}: {fault}"] if fault else []


def passes(groups: Sequence[Sequence[Mapping[str, Any]]], happening: Happening) -> bool:
    """Whether one of the groups (checked by ``group_faults``) lets it start a build."""
    return any(all(_passes(each, happening) for each in group) for group in groups)


def _passes(given: Mapping[str, Any], happening: Happening) -> bool:
    kind, pattern = str(given["type"]), str(given["pattern"])
    excludes = bool(given.get("excludeMatchedPattern", False))
    if kind == "FILE_PATH":
        matching = [is_whole(pattern, path) for path in happening.files or ()]
        return not (matching and all(matching)) if excludes else any(matching)
    value = _value(kind, happening)
    if kind in {"EVENT", "ACTOR_ACCOUNT_ID"}:
        return (value in _words(pattern)) != excludes
    return (value is not None and is_whole(pattern, value)) != excludes


def _value(kind: str, happening: Happening) -> str | None:
    return {
        "EVENT": happening.event,
        "BASE_REF": happening.base_ref,
        "HEAD_REF": happening.head_ref,
        "ACTOR_ACCOUNT_ID": happening.actor_id,
        "COMMIT_MESSAGE": happening.message,
        "TAG_NAME": happening.tag_name,
        "RELEASE_NAME": happening.release_name,
        "REPOSITORY_NAME": happening.repository,
    }[kind]


def _words(pattern: str) -> list[str]:
    return [word.strip() for word in pattern.split(",")]
