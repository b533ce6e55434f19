"""The one reader of JSON request bodies: bounded, whole, and meaning the same to every parser (RFC 8259)."""

from __future__ import annotations

from typing import Any

from flask import request
from werkzeug.exceptions import ClientDisconnected

from registry.errors import Invalid, TooLarge
from registry.http import context
from registry.http.upload import leak_watch
from registry.json_text import parse


def read_json(limit_bytes: int, *, holds_secrets: bool = False) -> Any:
    """The request's JSON value. Raises Invalid for a body that is cut, coded or ambiguous, TooLarge over the limit.

    Raises TokenInside for one with a live token of ours in it, but where a secret is what is sent.
    """
    if request.mimetype != "application/json":
        raise Invalid("send the body as Content-Type: application/json")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        # A compressed body is bounded by what it unpacks to, and nobody needs it at these sizes.
        raise Invalid("send the body without Content-Encoding")
    body = read_body(limit_bytes)
    watch = None if holds_secrets else leak_watch()
    if watch is not None:
        watch.feed(body)
    return parse(body)


def read_body(limit_bytes: int) -> bytes:
    """The request's whole body, read once however often it is asked for. Raises Invalid or TooLarge as ``read_json``."""
    return context.body(lambda: _whole_body(limit_bytes))


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
