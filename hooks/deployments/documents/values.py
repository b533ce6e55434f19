"""What CodeDeploy's documents are read with: YAML or JSON, unknown names refused, every fault with its line. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

import yaml

from hooks.deployments.reading import entries_of
from hooks.document import DocumentReader, compose, is_empty

NAME = re.compile(r"[A-Za-z0-9._+=,@-]{1,100}\Z")
"""CodeDeploy's names of applications, groups and configurations."""
MOST_PLAIN_VALUES = 2000
_WHOLE = re.compile(r"[0-9]{1,9}\Z")
_NUMBER = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?\Z")
_PAIR = re.compile(r"(\\\\)|\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")


class StrictReader(DocumentReader):
    """A reader to which what is unknown is a fault, and which takes names in CloudFormation's spelling, too."""

    def __init__(self, document: str) -> None:
        super().__init__(document)
        self.is_strict = True
        self.notes: list[str] = []
        """What is accepted and has no effect, with the reason."""

    @property
    def fault_count(self) -> int:
        """How many faults have been found so far."""
        return len(self._faults)

    def fields(
        self,
        node: yaml.Node | None,
        where: str,
        known: Collection[str],
        *,
        refused: Mapping[str, str] | None = None,
        ignored: Mapping[str, str] | None = None,
    ) -> dict[str, yaml.Node]:
        """The entries of a mapping, by the names in ``known`` whatever the case of their first letter.

        ``refused`` (name → why) are faults unless their value is empty, ``ignored`` are noted and left out.
        """
        found: dict[str, yaml.Node] = {}
        spelt = {name[:1].lower() + name[1:]: name for name in (*known, *(refused or {}), *(ignored or {}))}
        for raw, value in self.mapping(node, where or "the document").items():
            name = spelt.get(raw[:1].lower() + raw[1:])
            path = f"{where}.{raw}" if where else raw
            if name is None:
                self.unknown(value, f"{path} is unknown (known: {', '.join(sorted(known))})", "and is ignored")
            elif name in found:
                self.fault(value, f"{path} stands here twice")
            elif name in known:
                found[name] = value
            elif not _is_nothing(value) and refused and name in refused:
                self.fault(value, f"{path} is not carried out here: {refused[name]}")
            elif not _is_nothing(value) and ignored and ignored.get(name):
                self.notes.append(f"{path} has no effect here: {ignored[name]}")
        return {name: value for name, value in found.items() if not is_empty(value)}

    def listed(self, node: yaml.Node | None, where: str, most: int) -> list[tuple[str, yaml.Node]]:
        """The entries of a list of at most ``most``, each with its name for messages."""
        found = list(entries_of(self, node, where))
        if node is not None and len(found) > most:
            self.fault(node, f"{where} has {len(found)} entries, at most {most} are allowed")
        return found[:most]

    def limited(self, node: yaml.Node | None, where: str, most: int, least: int = 0) -> str:
        """A text of ``least`` to ``most`` characters without control characters."""
        text = self.text(node, where)
        if node is not None and not least <= len(text) <= most:
            self.fault(node, f"{where} has {len(text)} characters, {least} to {most} are allowed")
        if node is not None and any(ord(character) < 32 or ord(character) == 127 for character in text):
            self.fault(node, f"{where} holds control characters")
        return text

    def name(self, node: yaml.Node | None, where: str) -> str:
        """A name as CodeDeploy has them; "" where there is none."""
        text = self.text(node, where)
        if node is not None and not NAME.match(text):
            self.fault(node, f"{where} {text[:120]!r}: 1 to 100 of letters, digits and . _ + = , @ -")
            return ""
        return text

    def word(self, node: yaml.Node | None, where: str, allowed: Collection[str], default: str = "") -> str:
        """One of ``allowed``."""
        if node is None:
            return default
        text = self.text(node, where)
        if text not in allowed:
            self.fault(node, f"{where} is {' or '.join(allowed)}, not {text[:100]!r}")
            return default
        return text

    def whole(self, node: yaml.Node | None, where: str, bounds: tuple[int, int]) -> int | None:
        """A whole number within ``bounds``, both included; None where there is none."""
        if node is None:
            return None
        text = self.text(node, where)
        if not _WHOLE.match(text) or not bounds[0] <= int(text) <= bounds[1]:
            self.fault(node, f"{where} has to be a whole number from {bounds[0]} to {bounds[1]}")
            return bounds[0]
        return int(text)

    def plain(self, node: yaml.Node, where: str) -> Any:
        """Any value as JSON has them, for documents that somebody else looks into; at most 2000 values in all."""
        left = [MOST_PLAIN_VALUES]
        value = self._plain(node, where, left)
        if left[0] < 0:
            self.fault(node, f"{where} holds more than {MOST_PLAIN_VALUES} values")
            return None
        return value

    def _plain(self, node: yaml.Node, where: str, left: list[int]) -> Any:
        left[0] -= 1
        if left[0] < 0:  # aliases may stand for gigabytes: what is over the limit is not looked at
            return None
        if isinstance(node, yaml.MappingNode):
            return {key: self._plain(value, where, left) for key, value in self.mapping(node, where).items()}
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(item, where, left) for item in node.value[: MOST_PLAIN_VALUES + 1]]
        return _scalar(node)


def read_document(text: str, name: str) -> tuple[StrictReader, yaml.Node]:
    """A YAML or JSON document's reader and root. Raises InvalidDocument for what is neither, or over a limit."""
    reader = StrictReader(name)
    root = compose(_json_as_yaml(text.removeprefix("\ufeff")), name)
    if not isinstance(root, yaml.MappingNode):
        reader.fault(root, "the document has to be a mapping of names to values")
        reader.check()
    return reader, root


def _json_as_yaml(text: str) -> str:
    # JSON is YAML but for tabs between tokens (inside its texts no bare tab is allowed), and for characters beyond the
    # first plane, which it writes as two escapes.
    if not text.lstrip().startswith("{"):
        return text
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text  # YAML's flow style, or a fault that the YAML reader says with its line
    return _PAIR.sub(_joined, text.replace("\t", " "))


def _joined(match: re.Match[str]) -> str:
    if match[1]:
        return match[1]
    return chr(0x10000 + ((int(match[2], 16) - 0xD800) << 10) + int(match[3], 16) - 0xDC00)


def _is_nothing(node: yaml.Node) -> bool:
    return is_empty(node) if isinstance(node, yaml.ScalarNode) else not node.value


def _scalar(node: yaml.Node) -> Any:
    text = str(node.value)
    if getattr(node, "style", None):
        return text
    if is_empty(node):
        return None
    if text in {"true", "false"}:
        return text == "true"
    if _NUMBER.match(text):
        return float(text) if "." in text else int(text)
    return text
