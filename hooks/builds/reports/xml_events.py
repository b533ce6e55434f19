"""XML of strangers as a stream of elements: bounded in depth, number and text, and nothing outside of it is asked for.

A document type is taken when it only names itself (JaCoCo and Cobertura write one); one that declares anything is
refused, and so is every entity. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser, ParseError

from hooks.builds.reports.model import Malformed

DEEPEST = 100
MOST_ELEMENTS = 1_000_000
MOST_KEPT_ELEMENTS = 20_000
LONGEST_TEXT = 20_000
_CHUNK_BYTES = 64 * 1024


@dataclass(slots=True)
class Node:
    """An element, names without namespaces. Children and text are there inside of kept elements only."""

    name: str
    attributes: dict[str, str]
    parent: Node | None
    children: list[Node] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    room: int = LONGEST_TEXT

    @property
    def text(self) -> str:
        """The text between its tags, its children's left out; at most ``LONGEST_TEXT`` characters."""
        return "".join(self.pieces)

    def get(self, name: str) -> str:
        """An attribute; empty when it is not there."""
        return self.attributes.get(name, "")

    def all(self, *names: str) -> Iterator[Node]:
        """The children of these names."""
        return (child for child in self.children if child.name in names)

    def first(self, *path: str) -> Node | None:
        """The first element at a path below this one."""
        node: Node | None = self
        for name in path:
            node = next(node.all(name), None) if node is not None else None
        return node

    def text_at(self, *path: str) -> str:
        """The stripped text of the first element at a path; empty when there is none."""
        node = self.first(*path)
        return node.text.strip() if node is not None else ""

    def outer(self, *names: str) -> Iterator[Node]:
        """The elements of these names around this one, innermost first."""
        node = self.parent
        while node is not None:
            if node.name in names:
                yield node
            node = node.parent


def walk(stream: IO[bytes], roots: Collection[str], keep: Collection[str] = ()) -> Iterator[tuple[bool, Node]]:
    """(whether it ends, element) for the beginning and the end of each. What is in a ``keep`` element is kept in it.

    ``roots`` are the names that the outermost may have. Raises Malformed, maybe after some elements.
    """
    target = _Target(frozenset(roots), frozenset(keep))
    parser = _Parser(target=target, forbid_dtd=False, forbid_entities=True, forbid_external=True)
    try:
        while chunk := stream.read(_CHUNK_BYTES):
            parser.feed(chunk)
            yield from target.take()
        parser.close()
    except DefusedXmlException as error:
        raise Malformed("declares entities, which are not read") from error
    except Malformed:
        raise
    except (ParseError, ValueError, LookupError, RecursionError) as error:
        raise Malformed(f"is not well-formed XML: {' '.join(str(error).split())[:150]}") from error
    yield from target.take()


class _Parser(DefusedXMLParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.parser.StartDoctypeDeclHandler = _refuse_declarations


def _refuse_declarations(_name: str, _system_id: str | None, _public_id: str | None, has_subset: int) -> None:
    # Default attributes alone can make a small file endless.
    if has_subset:
        raise Malformed("declares a document type of its own, which is not read")


class _Target:
    """What the parser tells; takes elements apart from the tree as soon as nobody keeps them."""

    def __init__(self, roots: frozenset[str], keep: frozenset[str]) -> None:
        self._roots = roots
        self._keep = keep
        self._at: Node | None = None
        self._depth = 0
        self._elements = 0
        self._kept_depth = 0
        self._kept = 0
        self._events: list[tuple[bool, Node]] = []

    def take(self) -> list[tuple[bool, Node]]:
        events, self._events = self._events, []
        return events

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._elements += 1
        if self._depth > DEEPEST:
            raise Malformed(f"has elements more than {DEEPEST} deep")
        if self._elements > MOST_ELEMENTS:
            raise Malformed(f"has more than {MOST_ELEMENTS} elements")
        name = _local(tag)
        if self._at is None and name not in self._roots:
            expected = " or ".join(f"<{root}>" for root in sorted(self._roots))
            raise Malformed(f"begins with <{name[:100]}> instead of {expected}")
        node = Node(name, {_local(key): value for key, value in attributes.items()}, self._at)
        if self._kept_depth:
            self._kept += 1
            if self._kept > MOST_KEPT_ELEMENTS:
                raise Malformed(f"has more than {MOST_KEPT_ELEMENTS} elements in one <{min(self._keep)}>")
            if self._at is not None:
                self._at.children.append(node)
        if self._kept_depth or name in self._keep:
            self._kept_depth += 1
        self._at = node
        self._events.append((False, node))

    def end(self, _tag: str) -> None:
        node = self._at
        assert node is not None
        self._depth -= 1
        if self._kept_depth:
            self._kept_depth -= 1
            self._kept = self._kept if self._kept_depth else 0
        self._at = node.parent
        self._events.append((True, node))

    def data(self, text: str) -> None:
        node = self._at
        if self._kept_depth and node is not None and node.room:
            node.pieces.append(text[: node.room])
            node.room -= len(node.pieces[-1])

    def close(self) -> None:
        return None


def _local(name: str) -> str:
    return name.rpartition("}")[2].rpartition(":")[2]
