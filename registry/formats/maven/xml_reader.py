"""Reading XML of others: no document type, no entities, and bounds on size, depth and number of elements.

Only the texts that are asked for are kept, so that memory does not grow with the document.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator
from typing import BinaryIO
from xml.sax import SAXException
from xml.sax.handler import ContentHandler

import defusedxml.sax
from defusedxml.common import DefusedXmlException

Path = tuple[str, ...]
"""An element by the names from the root down, without prefixes."""

MOST_ELEMENTS = 100_000
DEEPEST = 50
LONGEST_TEXT = 100_000


class BadXml(ValueError):
    """The document is not well-formed, larger than a bound, or uses what is not read (a document type, entities)."""


def read_texts(body: bytes | BinaryIO, wanted: Collection[Path], *, limit_bytes: int) -> Iterator[tuple[Path, str]]:
    """The elements at the ``wanted`` paths with their texts, stripped, in the order in which they end.

    An element that only groups others has an empty text, and comes behind what is in it. The root is always given, and
    last. Raises BadXml.
    """
    text = body if isinstance(body, bytes) else _read(body, limit_bytes)
    if len(text) > limit_bytes:
        raise BadXml(f"it is larger than {limit_bytes} bytes")
    collector = _Collector(frozenset(wanted))
    parser = defusedxml.sax.make_parser()
    parser.forbid_dtd = True
    parser.setContentHandler(collector)
    try:
        parser.parse(io.BytesIO(text))
    except DefusedXmlException as error:
        raise BadXml("a document type or entities are not read") from error
    except BadXml:
        raise
    except (SAXException, ValueError, LookupError) as error:
        raise BadXml(f"it is not XML: {' '.join(str(error).split())[:150]}") from error
    yield from collector.found


def _read(body: BinaryIO, limit_bytes: int) -> bytes:
    body.seek(0)
    return body.read(limit_bytes + 1)


class _Collector(ContentHandler):
    """Follows where the parser is and keeps the texts that are wanted."""

    def __init__(self, wanted: frozenset[Path]) -> None:
        super().__init__()
        self._wanted = wanted
        self._path: list[str] = []
        self._texts: list[list[str]] = []
        self._elements = 0
        self._text_size = 0
        self.found: list[tuple[Path, str]] = []

    def startElement(self, name: str, attrs: object) -> None:  # noqa: N802  (the parser's names)
        """An element begins."""
        _ = attrs
        self._elements += 1
        if self._elements > MOST_ELEMENTS or len(self._path) >= DEEPEST:
            raise BadXml(f"it has more than {MOST_ELEMENTS} elements, or more than {DEEPEST} within one another")
        self._path.append(name.rpartition(":")[2])
        self._texts.append([])
        self._text_size = 0

    def endElement(self, name: str) -> None:  # noqa: N802
        """An element ends."""
        _ = name
        text = "".join(self._texts.pop())
        path = tuple(self._path)
        if path in self._wanted or len(path) == 1:
            self.found.append((path, text.strip()))
        self._path.pop()

    def characters(self, content: str) -> None:
        """A part of the text of the element that the parser is in."""
        if self._texts and tuple(self._path) in self._wanted:
            self._text_size += len(content)
            if self._text_size > LONGEST_TEXT:
                raise BadXml(f"a text in it is longer than {LONGEST_TEXT} characters")
            self._texts[-1].append(content)
