"""A linear-time reader of the start tags of an HTML page.

The standard library's parser takes time that is quadratic in hostile input (measured: minutes for 120 kB of ``<a ``),
and index pages come from outside. Anchors and their attributes are all an index has.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from html import unescape

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*")
# HTML 13.2.5.32-33: a name ends at a blank, "/", ">" or "="; a first "=" belongs to it.
_ATTRIBUTE = re.compile(r"=?[^\s/>=]*")
_BLANKS = re.compile(r"[\s/]*")
_EQUALS = re.compile(r"\s*+(=?)\s*+")
_UNQUOTED = re.compile(r"[^\s>]*")
# Elements whose content is text whatever it looks like.
_TEXT_ELEMENTS = frozenset({"script", "style", "title", "textarea", "xmp", "iframe", "noembed", "noframes"})


def tags(text: str, wanted: Collection[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield name and attributes of each start tag in ``wanted`` (lower case), in order.

    Attribute names are lower case, values unescaped, the first of several counts. A construct that never ends ends
    the reading, as in a browser.
    """
    position = text.find("<")
    while position >= 0:
        if text.startswith("<!--", position):
            position = _after(text, "-->", position + 4)
        elif matched := _NAME.match(text, position + 1):
            name = matched[0].lower()
            attributes, position = _attributes(text, matched.end())
            if position >= 0 and name in wanted:
                yield name, attributes
            if position >= 0 and name in _TEXT_ELEMENTS:
                position = _end_of_text(text, name, position)
        else:  # an end tag, a declaration, or a bare "<"
            position += 1
        position = text.find("<", position) if position >= 0 else -1


def _attributes(text: str, position: int) -> tuple[dict[str, str], int]:
    """The attributes from ``position`` on, and where the tag has ended; -1 if it does not end."""
    attributes: dict[str, str] = {}
    while True:
        position = _span(_BLANKS, text, position)
        if position >= len(text):
            return attributes, -1
        if text[position] == ">":
            return attributes, position + 1
        end = _span(_ATTRIBUTE, text, position)
        name = text[position:end].lower()
        equals = _EQUALS.match(text, end)
        value, position = "", end
        if equals is not None and equals[1]:
            value, position = _value(text, equals.end())
            if position < 0:
                return attributes, -1
        attributes.setdefault(name, value)


def _value(text: str, position: int) -> tuple[str, int]:
    quotation = text[position : position + 1]
    if quotation in ("'", '"'):
        end = text.find(quotation, position + 1)
        return unescape(text[position + 1 : max(end, 0)]), end + 1 if end >= 0 else -1
    end = _span(_UNQUOTED, text, position)
    return unescape(text[position:end]), end


def _end_of_text(text: str, name: str, position: int) -> int:
    ending = re.compile(f"</{name}", re.IGNORECASE | re.ASCII).search(text, position)
    return ending.end() if ending else -1


def _after(text: str, mark: str, position: int) -> int:
    found = text.find(mark, position)
    return found + len(mark) if found >= 0 else -1


def _span(pattern: re.Pattern[str], text: str, position: int) -> int:
    matched = pattern.match(text, position)
    return matched.end() if matched else position
