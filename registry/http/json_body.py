"""The one reader of JSON request bodies: bounded, whole, and meaning the same to every parser (RFC 8259)."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from flask import request
from werkzeug.exceptions import ClientDisconnected

from registry.errors import Invalid, TooLarge


def read_json(limit_bytes: int) -> Any:
    """The request's JSON value. Raises Invalid for a body that is cut, coded or ambiguous, TooLarge over the limit.

    Refused beyond RFC 8259's grammar: duplicate keys (two parsers would see two documents), NaN and Infinity, numbers
    of thousands of digits, nesting that exhausts the stack, and lone surrogates (they cannot be stored as UTF-8).
    """
    if request.mimetype != "application/json":
        raise Invalid("send the body as Content-Type: application/json")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        # A compressed body is bounded by what it unpacks to, and nobody needs it at these sizes.
        raise Invalid("send the body without Content-Encoding")
    return parse(_whole_body(limit_bytes))


def _whole_body(limit_bytes: int) -> bytes:
    length = request.content_length
    if length is None:
        raise Invalid("send the body with a Content-Length")
    if length > limit_bytes:
        raise TooLarge("the JSON body", limit_bytes)
    pieces = []
    missing = length
    try:
        while missing > 0 and (piece := request.stream.read(missing)):
            pieces.append(piece)
            missing -= len(piece)
    except ClientDisconnected as error:
        raise Invalid(f"the body ended before its announced {length} bytes") from error
    if missing:
        # gunicorn hands over what came before a hang-up as if it were the whole; half of `[1234]` may parse as well.
        raise Invalid(f"the body ended {missing} bytes before its announced {length}")
    return b"".join(pieces)


def parse(body: bytes) -> Any:
    """The value of a JSON text. Raises Invalid as ``read_json`` says."""
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
