"""Changes to Maven's ``settings.xml``: as text, so that comments, order and everything else in it stay.

The result is read back and compared with what was there before: a file that came out wrong is never handed on.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.sax import SAXException
from xml.sax.handler import ContentHandler
from xml.sax.xmlreader import InputSource

import defusedxml.sax
from defusedxml.common import DefusedXmlException

from registry.errors import Invalid

Path = tuple[str, ...]

EMPTY = """<?xml version="1.0" encoding="UTF-8"?>
<settings xmlns="http://maven.apache.org/SETTINGS/1.0.0">
</settings>
"""
_ROOT: Path = ("settings",)
_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(slots=True)
class _Element:
    """An element: where it and what is in it begin and end, in characters. ``text`` is its own, stripped."""

    path: Path
    start: int
    inner_start: int = 0
    inner_end: int = 0
    end: int = 0
    text: str = ""
    children: list[_Element] = field(default_factory=list)

    def child_text(self, name: str) -> str:
        return next((child.text for child in self.children if child.path[-1] == name), "")


def set_entry(text: str, group: str, entry: str, identifier: str) -> str:
    """Make ``entry`` the one in ``group`` with its ``<id>`` (or the whole text of an ``activeProfile``): first of all.

    ``entry`` is an element as text, not indented; it replaces the one that is there. Raises Invalid for a file that
    cannot be read, and for one in which it does not come out right.
    """
    root = _read(text)
    if root.inner_start == root.end:  # <settings/>
        text = f"{text[: root.end].removesuffix('>').removesuffix('/').rstrip()}>\n</settings>{text[root.end :]}"
        root = _read(text)
    holders = [child for child in root.children if child.path[-1] == group]
    indented = "".join(f"    {line}\n" for line in entry.splitlines())
    if not holders:
        before = _start_of_line(text, root.inner_end)
        result = f"{text[:before]}  <{group}>\n{indented}  </{group}>\n{text[before:]}"
    else:
        holder = holders[0]
        kept = text[holder.inner_start : holder.inner_end]
        for old in reversed([child for child in holder.children if _is(child, identifier)]):
            start, end = old.start - holder.inner_start, old.end - holder.inner_start
            kept = kept[:start].rstrip(" \t\r\n") + kept[end:]
        if not kept.strip():
            kept = "\n  "
        elif not kept.startswith(("\n", "\r")):
            kept = "\n    " + kept.lstrip(" \t")
        result = f"{text[: holder.start]}<{group}>\n{indented.rstrip()}{kept}</{group}>{text[holder.end :]}"
    if _others(_read(result), group, identifier) != _others(root, group, identifier):
        raise Invalid(f"cannot add to <{group}> in this file; add it by hand")
    return result


def _is(element: _Element, identifier: str) -> bool:
    return identifier in (element.child_text("id"), element.text if not element.children else None)


def _others(root: _Element, group: str, identifier: str) -> list[tuple[Path, str]]:
    """Everything with a text but our own entries in ``group``, in order."""

    def walk(element: _Element) -> Iterator[tuple[Path, str]]:
        for child in element.children:
            if element.path == (*_ROOT, group) and _is(child, identifier):
                continue
            if child.text:
                yield child.path, child.text
            yield from walk(child)

    return list(walk(root))


def _start_of_line(text: str, at: int) -> int:
    """The start of the line if nothing but blanks is before ``at`` in it, else ``at``."""
    start = max(text.rfind("\n", 0, at), text.rfind("\r", 0, at)) + 1
    return start if not text[start:at].strip() else at


def _read(text: str) -> _Element:
    follower = _Follower(text)
    parser = defusedxml.sax.make_parser()
    parser.forbid_dtd = True
    parser.setContentHandler(follower)
    source = InputSource()
    source.setByteStream(io.BytesIO(text.encode()))
    source.setEncoding("utf-8")  # the text was decoded already, whatever its declaration says
    try:
        parser.parse(source)
    except (SAXException, DefusedXmlException, ValueError) as error:
        raise Invalid(f"the existing file cannot be read: {' '.join(str(error).split())[:150]}") from error
    if follower.root is None or follower.root.path != _ROOT:
        raise Invalid("the existing file cannot be read: its root is not <settings>")
    return follower.root


class _Follower(ContentHandler):
    """Builds the elements with their places in the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text
        self._lines = [0, *(found.end() for found in _LINE_END.finditer(text))]
        self._open: list[_Element] = []
        self._where: Callable[[], int] = lambda: 0
        self.root: _Element | None = None

    def setDocumentLocator(self, locator: Any) -> None:  # noqa: N802  (the parser's names)
        """The parser tells where it is."""
        self._where = lambda: self._lines[locator.getLineNumber() - 1] + locator.getColumnNumber()

    def startElement(self, name: str, attrs: object) -> None:  # noqa: N802
        """An element begins."""
        _ = attrs
        parent = self._open[-1] if self._open else None
        element = _Element((*(parent.path if parent else ()), name), self._where())
        element.inner_start = self._tag_end(element.start)
        if parent is None:
            self.root = element
        else:
            parent.children.append(element)
        self._open.append(element)

    def endElement(self, name: str) -> None:  # noqa: N802
        """An element ends."""
        _ = name
        element = self._open.pop()
        element.text = element.text.strip()
        if self._text[element.inner_start - 2] == "/":  # <name/>
            element.inner_end = element.end = element.inner_start
        else:
            element.inner_end = self._where()
            element.end = self._text.index(">", element.inner_end) + 1

    def characters(self, content: str) -> None:
        """A part of an element's text."""
        if self._open:
            self._open[-1].text += content

    def _tag_end(self, start: int) -> int:
        """Behind the ``>`` of a tag; there may be others within quotes."""
        quote = ""
        for at in range(start, len(self._text)):
            character = self._text[at]
            if quote:
                quote = "" if character == quote else quote
            elif character in "\"'":
                quote = character
            elif character == ">":
                return at + 1
        return len(self._text)
