"""JSON: the one strict reader of what strangers send, and the fast reader and writer of indexes' documents (RFC 8259)."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

import orjson

from registry.errors import Invalid

_slow_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def parse(body: bytes) -> Any:
    """The value of a JSON text. Raises Invalid.

    Refused beyond the grammar: duplicate keys (two parsers would see two documents), NaN and Infinity, numbers of
    thousands of digits, nesting that exhausts the stack, and lone surrogates (they cannot be stored as UTF-8).
    """
    try:
        value = json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise Invalid("the JSON body is nested too deeply") from error
    except UnicodeError as error:
        raise Invalid("the JSON body is not valid UTF-8 text") from error
    except ValueError as error:
        raise Invalid(f"the body is not JSON: {error}") from error
    return value


def decode(text: bytes | str) -> Any:
    """The value of a document, as ``json.loads`` has it and many times as fast. Raises ValueError or RecursionError.

    But that integers beyond 64 bits become floats, as in JavaScript. What orjson refuses and Python's own reader takes
    (NaN, lone surrogates) is read by the latter.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text, parse_constant=_Unbounded, parse_float=_number)


def encode(value: Any) -> str:
    """Compact JSON in ASCII: one byte for each character in memory, whatever is in it. Raises ValueError for NaN."""
    try:
        encoded = orjson.dumps(value)
    except TypeError:  # a lone surrogate, an integer beyond 64 bits, NaN
        return _slow_encode(value)
    return encoded.decode("ascii") if encoded.isascii() else _slow_encode(value)


class _Unbounded(float):
    """NaN or an infinity. A type of its own, for which orjson would write ``null`` were it a plain float."""


def _number(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _Unbounded(value)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise Invalid(f"field {repeated[:100]!r} is there twice")
    return found


def _no_constant(word: str) -> NoReturn:
    raise Invalid(f"{word} is not JSON")
