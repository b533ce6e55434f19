"""Reading a YAML or JSON document so that every fault has its line, and no document can hurt the reader. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import yaml

from registry.errors import InvalidDocument

MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 40
_NULL = "tag:yaml.org,2002:null"
_STRING = "tag:yaml.org,2002:str"
_INTEGER = "tag:yaml.org,2002:int"
_DIGITS = re.compile(r"[0-9]{1,9}\Z")


@dataclass(slots=True)
class Faults:
    """Everything that is wrong with a document, in the order of its lines."""

    document: str
    _found: list[tuple[int, str]] = field(default_factory=list)

    def add(self, line: int, message: str) -> None:
        """Note a fault at ``line`` (from 1)."""
        if (line, message) not in self._found:
            self._found.append((line, message))

    def messages(self) -> list[str]:
        """``line 4: …``, sorted by line."""
        return [f"line {line}: {message}" for line, message in sorted(self._found, key=lambda fault: fault[0])]

    def raise_if_any(self) -> None:
        """Raise InvalidDocument holding all faults."""
        if self._found:
            raise InvalidDocument(self.document, self.messages())


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file: its own text, and its root node with marks that count lines in the whole file."""

    text: str
    root: yaml.Node


def read_documents(text: str, name: str) -> list[Document]:
    """All non-empty documents of ``text`` (YAML with ``---`` between them, or one JSON document).

    Raises InvalidDocument (``name`` says which document) when it is not readable at all.
    """
    if len(text) > MAX_CHARACTERS:
        raise InvalidDocument(name, [f"line 1: longer than {MAX_CHARACTERS} characters"])
    readable = _json_as_yaml(text, name) if text.lstrip()[:1] == "{" else text
    try:
        starts = _check_events(readable, name)
        loader = yaml.SafeLoader(readable)
        roots = []
        while loader.check_node():
            roots.append(loader.get_node())
    except yaml.YAMLError as error:
        raise InvalidDocument(name, [_yaml_fault(error, text)]) from error
    documents = [
        Document(_own_text(text, start, end), root)
        for start, end, root in zip(starts, [*starts, len(text)][1:], roots, strict=True)
        if root is not None and root.tag != _NULL
    ]
    if not documents:
        raise InvalidDocument(name, ["line 1: the document is empty"])
    return documents


def line_of(node: yaml.Node) -> int:
    """The line (from 1) on which ``node`` begins."""
    return int(node.start_mark.line) + 1


def fields(
    node: yaml.Node, what: str, known: Collection[str], faults: Faults, *, refused: Mapping[str, str] | None = None
) -> dict[str, yaml.Node]:
    """The entries of a structural mapping by camelCase key; PascalCase (CloudFormation) is accepted.

    Unknown and repeated keys are faults, and so are ``refused`` ones (key → why) unless their value is empty.
    """
    if not isinstance(node, yaml.MappingNode):
        faults.add(line_of(node), f"{what} must be a mapping")
        return {}
    found: dict[str, yaml.Node] = {}
    for key_node, value in node.value:
        raw = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
        key = raw[:1].lower() + raw[1:]
        if key in found:
            faults.add(line_of(key_node), f"{what}: key {raw!r} is there twice")
        elif refused and key in refused:
            if not _is_empty(value):
                faults.add(line_of(key_node), f"{what}: {raw!r} is not carried out by this release: {refused[key]}")
        elif key not in known:
            faults.add(line_of(key_node), f"{what}: unknown key {raw!r} (known: {', '.join(sorted(known))})")
        else:
            found[key] = value
    return found


def pairs(node: yaml.Node, what: str, faults: Faults) -> Iterator[tuple[str, yaml.Node, int]]:
    """The entries of a mapping whose keys are the user's own: key as written, value, line of the key."""
    if not isinstance(node, yaml.MappingNode):
        if not _is_empty(node):
            faults.add(line_of(node), f"{what} must be a mapping")
        return
    seen: set[str] = set()
    for key_node, value in node.value:
        if not isinstance(key_node, yaml.ScalarNode) or key_node.value in seen:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
            faults.add(line_of(key_node), f"{what}: key {key!r} is there twice or is no text")
            continue
        seen.add(key_node.value)
        yield key_node.value, value, line_of(key_node)


def items(node: yaml.Node | None, what: str, faults: Faults) -> list[yaml.Node]:
    """The elements of a list; nothing for an absent or null one."""
    if node is None or (isinstance(node, yaml.ScalarNode) and node.tag == _NULL):
        return []
    if not isinstance(node, yaml.SequenceNode):
        faults.add(line_of(node), f"{what} must be a list")
        return []
    return list(node.value)


def text_of(node: yaml.Node, what: str, faults: Faults, *, strict: bool = False) -> str:
    """A scalar's text. ``strict``: numbers, booleans and null are faults unless they are quoted."""
    if not isinstance(node, yaml.ScalarNode) or node.tag == _NULL:
        faults.add(line_of(node), f"{what} must be text")
        return ""
    if strict and node.tag != _STRING:
        faults.add(line_of(node), f'{what} must be text: write it in quotes, "{node.value}"')
    # JSON writes a character beyond the first plane as two escapes, which YAML reads as two half characters.
    text = str(node.value)
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        faults.add(line_of(node), f"{what} is not valid Unicode")
        return ""


def integer_of(node: yaml.Node, what: str, bounds: tuple[int, int], faults: Faults) -> int:
    """A whole number within ``bounds`` (both included); the lower one after a fault."""
    low, high = bounds
    text = node.value if isinstance(node, yaml.ScalarNode) else ""
    if isinstance(text, str) and node.tag in {_INTEGER, _STRING} and _DIGITS.match(text) and low <= int(text) <= high:
        return int(text)
    faults.add(line_of(node), f"{what} must be a whole number from {low} to {high}")
    return low


def named(node: yaml.Node, entries: dict[str, yaml.Node], what: str, pattern: re.Pattern[str], faults: Faults) -> str:
    """The ``name`` among ``entries``, which has to match ``pattern``; empty after a fault."""
    if "name" not in entries:
        faults.add(line_of(node), f"{what}: name is missing")
        return ""
    return matching(entries["name"], f"{what}: name", pattern, faults)


def matching(node: yaml.Node, what: str, pattern: re.Pattern[str], faults: Faults) -> str:
    """A scalar's text, which has to match ``pattern``."""
    text = text_of(node, what, faults)
    if text and not pattern.match(text):
        allowed = pattern.pattern.removesuffix(r"\Z")
        faults.add(line_of(node), f"{what} {text[:120]!r} must match {allowed}")
    elif not text and isinstance(node, yaml.ScalarNode):
        faults.add(line_of(node), f"{what} is empty")
    return text


def limited(node: yaml.Node, what: str, limit: int, faults: Faults, *, strict: bool = False) -> str:
    """A scalar's text of at most ``limit`` characters; ``strict`` as in ``text_of``."""
    text = text_of(node, what, faults, strict=strict)
    if len(text) > limit:
        faults.add(line_of(node), f"{what} has {len(text)} characters, at most {limit} are allowed")
    return text


def whole(entries: dict[str, yaml.Node], key: str, what: str, bounds: tuple[int, int], faults: Faults) -> int | None:
    """The whole number at ``key``; None where there is none."""
    return integer_of(entries[key], f"{what}: {key}", bounds, faults) if key in entries else None


def _is_empty(node: yaml.Node) -> bool:
    return not node.value if not isinstance(node, yaml.ScalarNode) else node.tag == _NULL


def _json_as_yaml(text: str, name: str) -> str:
    # JSON is YAML except for tabs between tokens, which PyYAML refuses; inside JSON strings no bare tab is allowed,
    # so that every tab of a valid document stands between tokens.
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return text  # a YAML flow mapping, perhaps; the YAML reader says what is wrong with it
    except RecursionError as error:
        raise InvalidDocument(name, [f"line 1: nested deeper than {MAX_DEPTH} levels"]) from error
    return text.replace("\t", " ")


def _check_events(text: str, name: str) -> list[int]:
    # Aliases let 1 KB become gigabytes when expanded, and the node composer recurses: both are refused in the event
    # stream, before any tree exists. Returns where the documents start.
    starts: list[int] = []
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = _position(event)[0]
        if isinstance(event, yaml.DocumentStartEvent):
            starts.append(_position(event)[1] if starts else 0)
            if event.version or event.tags:
                raise InvalidDocument(name, [f"line {line}: %-directives are not used here"])
        elif (getattr(event, "tag", None) or "").startswith("!") and event.tag != "!":  # type: ignore[attr-defined]
            told = f"{event.tag} is not resolved here; write its value out"  # type: ignore[attr-defined]
            raise InvalidDocument(name, [f"line {line}: {told}"])
        elif isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise InvalidDocument(name, [f"line {line}: anchors and aliases are not used here; write the value out"])
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise InvalidDocument(name, [f"line {line}: nested deeper than {MAX_DEPTH} levels"])
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return starts


def _position(event: yaml.Event) -> tuple[int, int]:
    """Line (from 1) and offset of an event."""
    mark = event.start_mark
    return (mark.line + 1, mark.index) if mark is not None else (1, 0)


def _own_text(text: str, start: int, end: int) -> str:
    if start == 0 and end == len(text):
        return text
    own = text[start:end]
    if own.startswith("---"):
        own = own[3:].lstrip(" ").removeprefix("\n")
    return own.rstrip() + "\n"


def _yaml_fault(error: yaml.YAMLError, text: str) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        return f"line {line}: {error.problem or error.context}"
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"line {line}: a character that is not allowed in a document"
    return f"line 1: {error}"
