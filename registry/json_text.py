"""The one reader of JSON that strangers send: it means the same to every parser, or it is refused (RFC 8259)."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from registry.errors import Invalid


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


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise Invalid(f"field {repeated[:100]!r} is there twice")
    return found


def _no_constant(word: str) -> NoReturn:
    raise Invalid(f"{word} is not JSON")
