"""Request and answer bodies of the npm routes: small JSON documents, perhaps compressed, and errors as npm prints them."""

from __future__ import annotations

import json
from typing import Any

from flask import Response, request
from werkzeug.wrappers import Response as BaseResponse

from registry.errors import Invalid, TooLarge
from registry.http.problems import BASIC_CHALLENGE, reason_phrase
from registry.http.upload import counted_body
from registry.json_text import parse
from registry.upstream.bodies import UnusableBody, gunzip

_PIECE_BYTES = 64 * 1024
# What a body may unfold to, compared with what was sent: dependency lists compress well, bombs better.
_UNFOLDS = 8


def read_json(limit_bytes: int, *, holds_secrets: bool = False) -> Any:
    """The request's JSON value; clients send it under several types, audits gzipped. Raises Invalid or TooLarge."""
    source = counted_body(limit_bytes, holds_secrets=holds_secrets)
    pieces = []
    while piece := source.read(_PIECE_BYTES):
        pieces.append(piece)
    body = b"".join(pieces)
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding == "gzip":
        try:
            body = gunzip(body, limit_bytes * _UNFOLDS)
        except UnusableBody as error:
            if "larger" in str(error):
                raise TooLarge("the unpacked request body", limit_bytes * _UNFOLDS) from error
            raise Invalid(f"the request body cannot be unpacked: {error}") from error
    elif encoding not in ("identity", ""):
        raise Invalid("send the body plain or as gzip")
    return parse(body)


def read_object(limit_bytes: int, *, holds_secrets: bool = False) -> dict[str, Any]:
    """The request's JSON object. Raises Invalid or TooLarge; ``holds_secrets`` as in ``counted_body``."""
    value = read_json(limit_bytes, holds_secrets=holds_secrets)
    if not isinstance(value, dict):
        raise Invalid("the body is not a JSON object")
    return value


def answer(value: Any, status: int = 200, **headers: str) -> Response:
    """A small JSON answer that nobody keeps."""
    response = Response(json.dumps(value), status=status, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    for name, text in headers.items():
        response.headers[name.replace("_", "-")] = text
    return response


def notice(text: str) -> dict[str, str]:
    """A header whose text npm shows to the person at the terminal."""
    return {"npm_notice": reason_phrase(text)}


def say(status: int, message: str, _code: str) -> BaseResponse:
    """An error as npm's clients print it: they look for ``error``.

    They do not show it of a 401, but explain its challenge: of Bearer npm says that the token is invalid and how to sign
    in, of Basic that the password is wrong, and where people of another registry recover theirs.
    """
    if status == 401 and not _came_with_password():
        return answer({"error": message}, status, WWW_Authenticate=f'Bearer realm="entrepot", {BASIC_CHALLENGE}')
    return answer({"error": message}, status)


def _came_with_password() -> bool:
    sent = request.headers.get("Authorization", "").partition(" ")[0].lower()
    return sent == "basic" or "/-/user/org.couchdb.user:" in request.path
