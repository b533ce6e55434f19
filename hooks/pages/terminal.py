"""A build's log as HTML: colours are kept, everything else that a terminal would act on is shown or dropped. Pure.

Whoever runs in a build writes the log, so it is as hostile as a README: nothing in it may become markup, hide other
text (carriage returns, bidirectional controls) or be carried out (cursor movement, titles, links).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from markupsafe import Markup, escape

MAX_LINE_CHARACTERS = 10_000

_COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_FLAGS = {1: "bold", 2: "faint", 3: "italic", 4: "underline", 9: "strike"}
_ENDS = {22: {"bold", "faint"}, 23: {"italic"}, 24: {"underline"}, 29: {"strike"}}
_FLAG_NAMES = frozenset(_FLAGS.values())

# ECMA-48 §5.4 (CSI) and §5.6 (OSC, DCS and other strings); bounded, so that an unfinished one costs no more than its text.
# A string that does not end is none: its text is shown, for it would hide the rest of the line.
_TOKEN = re.compile(
    r"\x1b\[(?P<parameters>[0-?]{0,200})[ -/]{0,10}(?P<final>[@-~])"
    r"|\x1b[\]P_^X][^\x07\x1b\n]{0,4096}(?:\x07|\x1b\\)"
    r"|\x1b[ -/]{0,10}[0-OQ-WYZ\\`-~]"
    r"|(?P<odd>[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff])"
)
_NAMES = {
    0x061C: "Arabic letter mark",
    0x200B: "zero width space",
    0x200E: "left-to-right mark",
    0x200F: "right-to-left mark",
    0x2028: "line separator",
    0x2029: "paragraph separator",
    0x202A: "left-to-right embedding",
    0x202B: "right-to-left embedding",
    0x202C: "end of direction",
    0x202D: "left-to-right override",
    0x202E: "right-to-left override",
    0x2066: "left-to-right isolate",
    0x2067: "right-to-left isolate",
    0x2068: "first strong isolate",
    0x2069: "end of isolate",
    0xFEFF: "byte order mark",
}


@dataclass(frozen=True, slots=True)
class Style:
    """The rendition in force (ECMA-48 §8.3.117): colour names, empty for the default."""

    colour: str = ""
    ground: str = ""
    flags: frozenset[str] = frozenset()

    @property
    def classes(self) -> str:
        """The classes of the style sheet."""
        names = [f"t-{self.colour}"] if self.colour else []
        names += [f"t-on-{self.ground}"] if self.ground else []
        return " ".join(names + [f"t-{flag}" for flag in sorted(self.flags)])

    def __str__(self) -> str:
        return ".".join((self.colour, self.ground, *sorted(self.flags)))


PLAIN = Style()


def parse_style(text: str) -> Style:
    """The style that ``str`` wrote; the plain one for anything else (it comes back from the browser)."""
    colour, _, rest = text.partition(".")
    ground, _, flags = rest.partition(".")
    known = {"", *_COLOURS}
    return Style(
        colour if colour in known else "",
        ground if ground in known else "",
        frozenset(flags.split(".")) & _FLAG_NAMES,
    )


@dataclass(frozen=True, slots=True)
class Rendered:
    """Lines as HTML, with where the next ones go on."""

    html: Markup
    next_line: int
    style: Style


def render(text: str, *, first_line: int = 1, style: Style = PLAIN) -> Rendered:
    """Render whole lines, numbered from ``first_line``, each with the anchor ``L<number>``."""
    parts: list[Markup] = []
    lines = text.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    number = first_line
    for line in lines:
        shown, style = _line(line.removesuffix("\r"), style)
        parts.append(_ROW.format(number=number, shown=shown))
        number += 1
    return Rendered(Markup().join(parts), number, style)


def render_line(text: str) -> Markup:
    """One line, or a part of one, by itself."""
    return _line(text.replace("\n", " "), PLAIN)[0]


def render_tail(text: str) -> Markup:
    """Lines for a ``pre`` without numbers and anchors: a page may have several such pieces."""
    parts: list[Markup] = []
    style = PLAIN
    for line in text.removesuffix("\n").split("\n"):
        shown, style = _line(line.removesuffix("\r"), style)
        parts.append(shown)
    return Markup("\n").join(parts)


_ROW = Markup('<div class="log-line" id="L{number}"><a href="#L{number}">{number}</a><span>{shown}</span></div>')


def _line(line: str, style: Style) -> tuple[Markup, Style]:
    left_out = len(line) - MAX_LINE_CHARACTERS
    pieces: list[Markup] = []
    for piece, style_after in _pieces(line[:MAX_LINE_CHARACTERS], style):
        pieces.append(piece)
        style = style_after
    if left_out > 0:
        pieces.append(Markup(' <span class="t-odd">… {} more characters in the raw log</span>').format(f"{left_out:,}"))
    return Markup().join(pieces), style


def _pieces(line: str, style: Style) -> Iterator[tuple[Markup, Style]]:
    at = 0
    for match in _TOKEN.finditer(line):
        if match.start() > at:
            yield _text(line[at : match.start()], style), style
        at = match.end()
        if match["final"] == "m":
            style = _apply(style, match["parameters"])
            yield Markup(), style
        elif match["odd"]:
            yield _odd(match["odd"]), style
    if at < len(line):
        yield _text(line[at:], style), style


def _text(text: str, style: Style) -> Markup:
    if style == PLAIN:
        return escape(text)
    return Markup('<span class="{}">{}</span>').format(style.classes, text)


def _odd(character: str) -> Markup:
    code = ord(character)
    if code < 0x20:
        return Markup('<span class="t-odd" title="control character {}">{}</span>').format(code, chr(0x2400 + code))
    name = _NAMES.get(code, "control character")
    return Markup('<span class="t-odd" title="{}">U+{}</span>').format(name, f"{code:04X}")


def _apply(style: Style, parameters: str) -> Style:
    codes = iter([int(code) if code.isascii() and code.isdecimal() else 0 for code in re.split("[;:]", parameters)])
    for code in codes:
        if code in {38, 48}:
            colour = _extended(codes)
            if colour is not None:
                style = replace(style, colour=colour) if code == 38 else replace(style, ground=colour)
        else:
            style = _apply_one(style, code)
    return style


def _apply_one(style: Style, code: int) -> Style:
    if code == 0:
        return PLAIN
    if code in _FLAGS:
        return replace(style, flags=style.flags | {_FLAGS[code]})
    if code in _ENDS:
        return replace(style, flags=style.flags - _ENDS[code])
    tens, unit = divmod(code, 10)
    if tens in {3, 9} and unit < 8:
        return replace(style, colour=_COLOURS[unit])
    if tens in {4, 10} and unit < 8:
        return replace(style, ground=_COLOURS[unit])
    if code == 39:
        return replace(style, colour="")
    return replace(style, ground="") if code == 49 else style


def _extended(codes: Iterable[int]) -> str | None:
    """The named colour of ``5;n`` for n under 16; what has no name (256 colours, RGB) keeps the colour in force."""
    remaining = iter(codes)
    kind = next(remaining, 0)
    if kind == 5:
        index = next(remaining, 255)
        return _COLOURS[index % 8] if index < 16 else None
    if kind == 2:
        for _ in range(3):
            next(remaining, 0)
    return None
