"""What the sections of ``appspec.yml`` are read with. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

import yaml

from hooks.document import DocumentReader, is_empty

MAX_ENTRIES = 1000


def absolute(reader: DocumentReader, text: str, node: yaml.Node, where: str) -> str:
    """A normal absolute path, or "" after a fault."""
    if not text.startswith("/"):
        reader.fault(node, f"{where} {text!r} has to be an absolute path; it begins with /")
        return ""
    if has_controls(text) or ".." in text.split("/"):
        reader.fault(node, f"{where} {text!r} must not contain '..' or control characters")
        return ""
    return "/" + posixpath.normpath(text).lstrip("/")


def has_controls(text: str) -> bool:
    """Whether a text holds what no path in a document has."""
    return any(ord(character) < 32 or ord(character) == 127 for character in text)


def entries_of(reader: DocumentReader, node: yaml.Node | None, where: str) -> Iterator[tuple[str, yaml.Node]]:
    """The entries of a list, each with its name; none for an empty value."""
    if node is None or is_empty(node):
        return
    if not isinstance(node, yaml.SequenceNode):
        reader.fault(node, f"{where} has to be a list; each entry begins with '- '")
        return
    if len(node.value) > MAX_ENTRIES:
        reader.fault(node, f"{where} has more than {MAX_ENTRIES} entries")
        return
    yield from ((f"{where}[{index}]", item) for index, item in enumerate(node.value))
