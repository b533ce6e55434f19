"""What no route should ever see: requests whose path or head is an attack or nonsense, refused before routing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# Control characters, the backslash, and whatever could be decoded a second time into a dot, slash or percent.
_FORBIDDEN = re.compile(rb"[\x00-\x1f\x7f\\]|%(?:2e|2f|5c|00|25)", re.IGNORECASE)
_DOT_SEGMENT = re.compile(rb"(?:^|/)\.{1,2}(?:/|$|;)")


class RequestGuard:
    """WSGI middleware. Frameworks pass ``..``, NUL and friends through to views (measured); here they end with 400."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Pass a sound request on; answer any other with 400."""
        fault = fault_of(environ)
        if fault is None:
            return self._app(environ, start_response)
        kind, body = "text/plain; charset=utf-8", fault.encode() + b"\n"
        if (environ.get("RAW_URI") or environ.get("PATH_INFO", "")).startswith("/api/"):
            # As everything else there answers (RFC 9457); ``registry.http.problems`` is not reached.
            kind = "application/problem+json"
            body = json.dumps({"status": 400, "code": "invalid", "detail": fault}).encode() + b"\n"
        start_response(f"400 {fault}", [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body]


def fault_of(environ: WSGIEnvironment) -> str | None:
    """Why a request is refused, or None. Looks at the raw path where the server gives it (gunicorn: RAW_URI)."""
    if environ.get("SERVER_PROTOCOL") == "HTTP/1.1" and not environ.get("HTTP_HOST"):
        return "the Host header is missing"  # RFC 9112 §3.2
    raw = environ.get("RAW_URI") or environ.get("REQUEST_URI")
    if raw is None:
        path = environ.get("PATH_INFO", "").encode("latin-1")
    else:
        path = unquote_to_bytes(raw.partition("?")[0].partition("#")[0])
    if _FORBIDDEN.search(path):
        return "the path holds a forbidden character"
    if _DOT_SEGMENT.search(path):
        return "the path holds a dot segment"
    return None
