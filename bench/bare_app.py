"""The least a WSGI application can do: finished bytes by path, files by sendfile, bodies synced to the disk unread.

Runs under the same gunicorn settings as Entrepot, and so shows what the HTTP server alone costs. ``BENCH_SITE`` is the
folder it serves.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_SITE = Path(os.environ["BENCH_SITE"])
_TYPES = {"html": "text/html", "json": "application/vnd.pypi.simple.v1+json"}
_FILE_TYPE = "application/octet-stream"


def _finished() -> dict[str, tuple[bytes, bytes, str, str]]:
    """Path → body, compressed body, type, entity tag, of everything small."""
    pages = {}
    for path in _SITE.rglob("*"):
        if path.is_file() and path.suffix != ".gz" and path.stat().st_size <= 1024 * 1024:
            top = path.relative_to(_SITE).parts[0]
            is_page = path.name == "index.html"
            address = "/" + str(path.relative_to(_SITE)).removesuffix("index.html")
            packed = path.with_name(path.name + ".gz")
            body = path.read_bytes()
            tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
            pages[address] = (
                body,
                packed.read_bytes() if packed.exists() else body,
                _TYPES[top] if is_page else _FILE_TYPE,
                tag,
            )
    return pages


_PAGES = _finished()


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    if environ["REQUEST_METHOD"] == "POST":
        return _keep(environ, start_response)
    path = environ["PATH_INFO"]
    page = _PAGES.get(path)
    if page is None:
        return _send_file(path, environ, start_response)
    body, packed, kind, tag = page
    headers = [("Content-Type", kind), ("ETag", tag)]
    if environ.get("HTTP_IF_NONE_MATCH") == tag:
        start_response("304 Not Modified", headers)
        return []
    if packed is not body and "gzip" in environ.get("HTTP_ACCEPT_ENCODING", ""):
        body = packed
        headers.append(("Content-Encoding", "gzip"))
    start_response("200 OK", [*headers, ("Content-Length", str(len(body)))])
    return [body]


def _send_file(path: str, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    try:
        file = (_SITE / path.lstrip("/")).open("rb")
    except OSError:
        start_response("404 Not Found", [("Content-Length", "0")])
        return []
    length = os.fstat(file.fileno()).st_size
    start_response("200 OK", [("Content-Type", _FILE_TYPE), ("Content-Length", str(length))])
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file, 256 * 1024)
    return wrapped


def _keep(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    with tempfile.NamedTemporaryFile(dir=os.environ["BENCH_UPLOADS"]) as file:
        while piece := environ["wsgi.input"].read(256 * 1024):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    start_response("200 OK", [("Content-Length", "0")])
    return []
