"""The order of versions: Maven 3's ``ComparableVersion`` (Version Order Specification of the POM reference).

A version is a list of numbers and qualifiers. A dot separates the items of one list, a hyphen opens a list within it,
and so does a change between digits and letters: ``1-a1`` is ``1-alpha-1``. Maven 4 has changed how qualifiers that mean
the release compare when digits follow them (``1-ga1``); the rules here are those of the Maven that is in use.
"""

from __future__ import annotations

from functools import cmp_to_key, lru_cache
from typing import Any

from registry.errors import Invalid
from registry.formats.maven.coordinates import check_version, snapshot_build

# Known qualifiers in their order; "" is the release itself. Others follow all of them, in alphabetical order.
_QUALIFIERS = ("alpha", "beta", "milestone", "rc", "snapshot", "", "sp")
_ALIASES = {"ga": "", "final": "", "release": "", "cr": "rc"}
_SHORT = {"a": "alpha", "b": "beta", "m": "milestone"}  # before a digit only
_DIGITS = frozenset("0123456789")

# An item is a number, a qualifier, or a list of items.
_Item = int | str | list[Any]


@lru_cache(maxsize=8192)
def sort_key(version: str) -> Any:
    """Release order; what is no version comes before all versions.

    Different texts never compare equal, because each is a version of its own: ``1.0`` and ``1.0.0``, which Maven puts
    at the same place, are told apart by their text. The builds of a snapshot lie at the place of the snapshot, in the
    order of their time.
    """
    try:
        check_version(version)
    except Invalid:
        return (0,)
    build = snapshot_build(version)
    if build is None:
        return 1, _ORDER(parse(version)), ("", 0), version
    return 1, _ORDER(parse(build.base)), (build.timestamp, build.number), version


def compare(one: str, other: str) -> int:
    """Negative, zero or positive, as ``ComparableVersion.compareTo``."""
    return _compare(parse(one), parse(other))


def parse(version: str) -> list[Any]:
    """A version's items, in normal form."""
    return _Parser(version.lower()).parse()


class _Parser:
    """One pass over a version. ``_start`` is where the item under way began."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._start = 0
        self._is_digit = False
        self._list: list[Any] = []
        self._lists = [self._list]

    def parse(self) -> list[Any]:
        """All items, lists without what does not count in them."""
        for at, character in enumerate(self._text):
            if character in ".-":
                self._end_item(at)
                self._start = at + 1
                if character == "-":
                    self._nest()
            else:
                self._letter_or_digit(at, is_digit=character in _DIGITS)
        if len(self._text) > self._start:
            if not self._is_digit and self._list:
                self._nest()  # ".x" counts as "-x": 1.0.rc is older than 1.0
            self._end_item(len(self._text))
        for items in reversed(self._lists):
            _normalize(items)
        return self._lists[0]

    def _letter_or_digit(self, at: int, *, is_digit: bool) -> None:
        if at > self._start and is_digit != self._is_digit:
            if is_digit and self._list:
                self._nest()  # as above: the letters before the digit are a qualifier
            self._end_item(at, followed_by_digit=is_digit)
            self._start = at
            self._nest()
        self._is_digit = is_digit

    def _nest(self) -> None:
        inner: list[Any] = []
        self._list.append(inner)
        self._list = inner
        self._lists.append(inner)

    def _end_item(self, end: int, *, followed_by_digit: bool = False) -> None:
        text = self._text[self._start : end]
        if not text or self._is_digit:
            self._list.append(int(text or 0))
            return
        text = _SHORT.get(text, text) if followed_by_digit else text
        self._list.append(_ALIASES.get(text, text))


def _normalize(items: list[Any]) -> None:
    """Drop what does not count behind the last number or qualifier, and in front of lists: ``1.0-1`` is ``1-1``."""
    for at in range(len(items) - 1, -1, -1):
        if items[at] in (0, "", []):
            del items[at]
        elif not isinstance(items[at], list):
            return


def _compare(one: _Item, other: _Item | None) -> int:
    if other is None:
        return _against_nothing(one)
    if isinstance(one, list) and isinstance(other, list):
        return _compare_lists(one, other)
    # Numbers come after lists, lists after qualifiers: 1.1 > 1-1 > 1-sp.
    kinds = _sign(_kind(one), _kind(other))
    if kinds or isinstance(one, int):
        return kinds or _sign(one, other)
    return _sign(_rank(str(one)), _rank(str(other)))


def _kind(item: _Item) -> int:
    return 2 if isinstance(item, int) else 1 if isinstance(item, list) else 0


def _against_nothing(item: _Item) -> int:
    if isinstance(item, int):
        return int(item > 0)
    if isinstance(item, list):
        return next((found for inner in item if (found := _against_nothing(inner))), 0)
    return _sign(_rank(item), _rank(""))


def _compare_lists(one: list[Any], other: list[Any]) -> int:
    for at in range(max(len(one), len(other))):
        if at >= len(one):
            found = -_against_nothing(other[at])
        else:
            found = _compare(one[at], other[at] if at < len(other) else None)
        if found:
            return found
    return 0


def _rank(qualifier: str) -> tuple[int, str]:
    if qualifier in _QUALIFIERS:
        return _QUALIFIERS.index(qualifier), ""
    return len(_QUALIFIERS), qualifier


def _sign(one: Any, other: Any) -> int:
    return int(one > other) - int(one < other)


_ORDER = cmp_to_key(_compare)
