"""Takes a JSON object apart and collects what is wrong with it, with its place. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeVar

W = TypeVar("W", bound=StrEnum)
_MISSING = object()


class Fields:
    """An object's fields. Each method gives a usable value after a fault, so that all faults are found.

    ``faults`` is the list that they are added to; ``where`` names the object.
    """

    def __init__(self, value: Any, where: str, faults: list[str]) -> None:
        self.where = where
        self._faults = faults
        self._values: Mapping[str, Any] = value if isinstance(value, Mapping) else {}
        if not isinstance(value, Mapping):
            self._faults.append(f"{where} has to be an object")

    def has(self, name: str) -> bool:
        """Whether it stands here."""
        return name in self._values

    def fault(self, name: str, text: str) -> None:
        """Note what is wrong with a field."""
        self._faults.append(f"{self.where}.{name} {text}")

    def known(self, names: Iterable[str]) -> None:
        """Every field that is none of ``names`` is a fault."""
        for name in sorted(map(str, self._values.keys() - frozenset(names))):
            self._faults.append(f"{self.where}.{name[:80]} is not a field")

    def text(self, name: str, default: str | None = None, *, longest: int = 2000) -> str:
        """A text on one line; without a default it has to be there, and not to be empty."""
        value = self._values.get(name, _MISSING)
        if value is _MISSING and default is not None:
            return default
        if value is _MISSING:
            self.fault(name, "is missing")
        elif not isinstance(value, str) or len(value) > longest or not value.isprintable():
            self.fault(name, f"has to be text on one line, of at most {longest} characters")
        elif not value and default is None:
            self.fault(name, "is empty")
        else:
            return value
        return default or ""

    def texts(self, name: str, *, longest: int) -> tuple[str, ...]:
        """A list of texts, of ``longest`` characters together; the first is not empty, and none has a NUL."""
        value = self._values.get(name)
        are_texts = isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)
        if not are_texts or not value or not value[0]:
            self.fault(name, "has to be a list of texts, a program and its arguments")
        elif sum(map(len, value)) + len(value) > longest or any("\0" in each for each in value):
            self.fault(name, f"has at most {longest} characters, and no NUL")
        else:
            return tuple(value)
        return ()

    def whole(self, name: str, default: int, *, least: int, most: int) -> int:
        """A whole number."""
        value = self._values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.fault(name, f"has to be a whole number from {least} to {most}")
            return default
        return value

    def number(self, name: str) -> float:
        """A number that has to be there."""
        value = self._values.get(name, _MISSING)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.fault(name, "is missing" if value is _MISSING else "has to be a number")
            return 0.0
        return float(value)

    def switch(self, name: str, *, default: bool | None) -> bool:
        """A JSON boolean; without a default it has to be there."""
        value = self._values.get(name, default)
        if not isinstance(value, bool):
            self.fault(name, "has to be true or false" if name in self._values else "is missing: true or false")
            return False
        return value

    def word(self, name: str, words: type[W], default: W | None = None) -> W | None:
        """One of an enumeration's words; None after a fault."""
        value = self._values.get(name, default)
        try:
            return words(value)
        except ValueError:
            self.fault(name, f"has to be one of {', '.join(words)}")
            return None

    def object(self, name: str) -> Fields | None:
        """An object within; None when it is not there."""
        return Fields(self._values[name], f"{self.where}.{name}", self._faults) if name in self._values else None

    def entries(self, name: str, *, most: int) -> Iterator[Fields]:
        """The objects of a list; none when it is not there."""
        yield from entries(self._values.get(name, ()), f"{self.where}.{name}", self._faults, most=most)


def entries(value: Any, where: str, faults: list[str], *, most: int) -> Iterator[Fields]:
    """The objects of a list, each with its place."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        faults.append(f"{where} has to be a list of objects")
        return
    if len(value) > most:
        faults.append(f"{where} has more than {most} entries")
        return
    yield from (Fields(entry, f"{where}[{index}]", faults) for index, entry in enumerate(value))
