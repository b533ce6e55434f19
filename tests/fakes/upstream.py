"""A real HTTP server on loopback that misbehaves on command, and a little package index on it.

    with FaultyUpstream() as upstream:
        upstream.serve("/page", b"{}", content_type="application/json", fault=Fault.RESET_HALF)
        upstream.add_project("demo", {"demo-1.0-py3-none-any.whl": wheel_bytes})

Waits (``SLOW_*``, ``SILENCE``, ``STALL_HALF``) end when the server is closed, so no test waits for them.
"""

from __future__ import annotations

import gzip
import hashlib
import http.server
import json
import re
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Self

from tests.fakes.index_pages import (
    HTML_INDEX,
    JSON_INDEX,
    Project,
    index_html,
    index_json,
    project_html,
    project_json,
)
from tests.harness import npm_packages


class Fault(Enum):
    """How an answer goes wrong."""

    SILENCE = auto()  # accepted, then nothing
    SLOW_HEAD = auto()  # the head byte by byte, ``pace_seconds`` apart
    SLOW_BODY = auto()  # the body likewise
    STALL_HALF = auto()  # half of the body, then nothing
    RESET_START = auto()  # TCP reset instead of an answer
    RESET_HALF = auto()
    RESET_END = auto()  # after 99 % of the body
    CUT = auto()  # half of the body, then a clean end, with Content-Length
    CUT_UNFRAMED = auto()  # the same without Content-Length
    UNFRAMED = auto()  # all of it, but only the connection's end marks the end
    TOO_LONG = auto()  # more than Content-Length, in one piece
    BAD_CHUNK = auto()  # chunked, with a size that is no number
    CUT_CHUNKS = auto()  # chunked, without the last chunk
    CHUNKED = auto()  # chunked, and right
    TWO_LENGTHS = auto()  # two Content-Length fields that differ
    NOT_GZIP = auto()  # says gzip, is not
    HIDDEN_GZIP = auto()  # is gzip, does not say so
    GZIP = auto()  # gzip, and right
    CUT_GZIP = auto()  # gzip without its end, length as sent
    GZIP_BOMB = auto()  # 64 MiB of zeros
    BROTLI = auto()  # says br
    PARTIAL = auto()  # 206 with the first half, unasked
    LYING_304 = auto()  # 304 whatever was asked
    LOGIN_PAGE = auto()  # 200 with a sign-in form
    HUGE_HEAD = auto()  # a header line of 100 KiB
    CONTINUES = auto()  # "100 Continue" without end
    STRAY_ANSWER = auto()  # the right answer; after ``send_stray`` is set a second one, unasked
    NONSENSE = auto()  # not HTTP
    FLAPPING = auto()  # every second answer is 503, the first one too


@dataclass(frozen=True)
class Seen:
    """One request as it arrived; header names are lower-case."""

    path: str
    headers: dict[str, str]
    connection: int
    method: str = "GET"
    body: bytes = b""


@dataclass
class Page:
    """What a path answers."""

    body: bytes
    content_type: str
    status: int
    headers: Mapping[str, str]
    fault: Fault | None
    etag: str | None
    pace_seconds: float
    asked: int = 0
    takes_ranges: bool = True


LOGIN_PAGE = b"<!DOCTYPE html><html><body><form><input name=u><input type='password' name=p></form></body></html>"


class FaultyUpstream:
    """The server. Everything may be changed while it runs; ``requests`` is the log."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, address: str = "127.0.0.1") -> None:
        self._pages: dict[str, Page] = {}
        self._projects: dict[str, Project] = {}
        self._tls = tls
        self._address = address
        self._port = 0
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.send_stray = threading.Event()
        self.sent_stray = threading.Event()
        self.requests: list[Seen] = []

    def __enter__(self) -> Self:
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.send_stray.set()
        self.refuse()

    @property
    def url(self) -> str:
        """Without a slash at the end."""
        scheme = "https" if self._tls else "http"
        return f"{scheme}://{self._address}:{self._port}"

    @property
    def port(self) -> int:
        return self._port

    def accept(self) -> None:
        """Listen (again), always on the same port."""
        self._server = _Server((self._address, self._port), self, self._tls)
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @property
    def is_refusing(self) -> bool:
        """Whether it does not listen now."""
        return self._server is None

    def refuse(self) -> None:
        """Stop listening: connections are refused from now on, and open ones are cut."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.cut_connections()
            self._server = None

    def serve(
        self,
        path: str,
        body: bytes = b"",
        *,
        content_type: str = "application/octet-stream",
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        fault: Fault | None = None,
        etag: str | None = None,
        pace_seconds: float = 0.05,
        takes_ranges: bool = True,
    ) -> str:
        """Answer ``path`` with this from now on; gives its URL. With ``etag`` a matching If-None-Match gets 304."""
        self._pages[path] = Page(
            body, content_type, status, headers or {}, fault, etag, pace_seconds, takes_ranges=takes_ranges
        )
        return self.url + path

    def redirect(self, path: str, location: str, *, status: int = 302) -> str:
        """Answer ``path`` with a redirect; gives its URL."""
        return self.serve(path, b"moved", status=status, headers={"Location": location})

    def add_project(
        self,
        name: str,
        files: Mapping[str, bytes],
        *,
        json: bool = True,
        yanked: Mapping[str, str] | None = None,
        requires_python: Mapping[str, str] | None = None,
        metadata: Mapping[str, bytes] | None = None,
        wrong_digests: frozenset[str] = frozenset(),
        status: tuple[str, str] | None = None,
        provenance: Mapping[str, bytes] | None = None,
    ) -> str:
        """List ``files`` under ``/simple/{name}/`` (PEP 691 or PEP 503 by Accept; never JSON with ``json=False``).

        ``yanked`` maps file names to reasons, ``metadata`` to the metadata file served beside them (PEP 658), ``provenance`` to their provenance (PEP 740);
        ``status`` is the project's with its reason (PEP 792).
        Gives the URL of the index. Adding a name again replaces it.
        """
        normalized = re.sub(r"[-_.]+", "-", name).lower()
        project = Project(
            normalized, files, json, yanked or {}, requires_python or {}, metadata or {}, wrong_digests, status, provenance or {}
        )  # fmt: skip
        self._projects[normalized] = project
        for filename, content in files.items():
            self.serve(f"/files/{normalized}/{filename}", content)
        for filename, content in project.metadata.items():
            self.serve(f"/files/{normalized}/{filename}.metadata", content)
        for filename, content in project.provenance.items():
            kind = "application/vnd.pypi.integrity.v1+json"
            self.serve(f"/integrity/{normalized}/{filename}/provenance", content, content_type=kind)
        return f"{self.url}/simple/"

    def add_npm_package(self, name: str, tarballs: Mapping[str, bytes], **options: Any) -> None:
        """List ``tarballs`` (by version) in a packument under ``/npm/``; ``options`` as ``npm_packages.packument``."""
        document = npm_packages.packument(name, tarballs, f"{self.url}/npm", **options)
        path = "/npm/" + name.replace("/", "%2f")
        body = json.dumps(document).encode()
        self.serve(path, body, content_type="application/json", etag=f'"{hashlib.sha256(body).hexdigest()[:16]}"')
        for version, content in tarballs.items():
            self.serve(f"/npm/{name}/-/{name.rpartition('/')[2]}-{version}.tgz", content)

    def remove_project(self, name: str) -> None:
        """The project is gone: 404 from now on."""
        del self._projects[name]

    def count(self, path: str) -> int:
        """How often ``path`` was asked for."""
        with self.lock:
            return sum(seen.path == path for seen in self.requests)

    def page_for(self, path: str, accept: str) -> Page:
        """What to answer; counts the asking."""
        page = self._pages.get(path) or self._index_page(path, accept)
        if page is None:
            return Page(b"no such thing", "text/plain", 404, {}, None, None, 0.0)
        with self.lock:
            page.asked += 1
        return page

    def _index_page(self, path: str, accept: str) -> Page | None:
        match = re.fullmatch(r"/simple/(?:([^/]+)/)?", path)
        if match is None:
            return None
        name = match[1]
        if name is None:
            listed: Project | None = None
            takes_json = True
        else:
            listed = self._projects.get(name)
            if listed is None:
                return None
            takes_json = listed.json
        if takes_json and JSON_INDEX in accept:
            document = project_json(listed) if listed else index_json(list(self._projects))
            body, kind = json.dumps(document).encode(), JSON_INDEX
        else:
            body, kind = (project_html(listed) if listed else index_html(list(self._projects))), HTML_INDEX
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        return Page(body, kind, 200, {"Cache-Control": "max-age=600"}, None, etag, 0.0)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], owner: FaultyUpstream, tls: ssl.SSLContext | None) -> None:
        self.owner = owner
        self._tls = tls
        self._open: set[socket.socket] = set()
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def process_request_thread(self, request, client_address) -> None:
        # The handshake is made here and not in ``accept``: a client that refuses our certificate must not stop us.
        if self._tls is not None:
            try:
                request = self._tls.wrap_socket(request, server_side=True)
            except OSError:
                request.close()
                return
        self._open.add(request)
        super().process_request_thread(request, client_address)
        self._open.discard(request)

    def handle_error(self, request, client_address) -> None:
        """Clients that go away are what this server is for."""

    def cut_connections(self) -> None:
        for sock in list(self._open):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        """The log is ``FaultyUpstream.requests``."""

    def do_POST(self) -> None:
        """As GET: the page of the path; what was posted is in the log."""
        self.do_GET()

    def do_GET(self) -> None:
        owner = self.server.owner
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        with owner.lock:
            owner.requests.append(Seen(self.path, headers, id(self.connection), self.command, body))
        self.page = owner.page_for(self.path.partition("?")[0], headers.get("accept", ""))
        if self.page.fault is None:
            self._answer_properly(headers)
        elif self.page.fault is Fault.FLAPPING:
            self._answer_properly(headers) if self.page.asked % 2 == 0 else self._send(503, b"down")
        else:
            self._answer_badly(self.page.fault)

    def _answer_properly(self, headers: Mapping[str, str]) -> None:
        page = self.page
        if page.etag is not None and headers.get("if-none-match") == page.etag:
            self._send(304, b"", length=None)
            return
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", headers.get("range", ""))
        if wanted and any(wanted.groups()) and page.status == 200 and page.takes_ranges:
            size = len(page.body)
            start = int(wanted[1]) if wanted[1] else max(0, size - int(wanted[2]))
            stop = min(int(wanted[2]) + 1, size) if wanted[1] and wanted[2] else size
            if start < stop:
                self._send(206, page.body[start:stop], {"Content-Range": f"bytes {start}-{stop - 1}/{size}"})
                return
        self._send(page.status, page.body, length=None if page.status in {204, 304} else len(page.body))

    def _answer_badly(self, fault: Fault) -> None:
        body = self.page.body
        half = len(body) // 2
        packed = gzip.compress(body)
        match fault:
            case Fault.SILENCE:
                self._wait()
            case Fault.SLOW_HEAD:
                self._drip(self._head(200, len(body)))
            case Fault.SLOW_BODY:
                self._write(self._head(200, len(body)))
                self._drip(body)
            case Fault.STALL_HALF:
                self._write(self._head(200, len(body)) + body[:half])
                self._wait()
            case Fault.RESET_START | Fault.RESET_HALF | Fault.RESET_END:
                self._reset(fault)
            case Fault.CUT:
                self._write(self._head(200, len(body)) + body[:half])
                self._hang_up()
            case Fault.CUT_UNFRAMED | Fault.UNFRAMED:
                sent = body if fault is Fault.UNFRAMED else body[:half]
                self._write(self._head(200, None, {"Connection": "close"}) + sent)
                self._hang_up()
            case Fault.TOO_LONG:
                self._write(self._head(200, half) + body)
            case Fault.BAD_CHUNK | Fault.CUT_CHUNKS | Fault.CHUNKED:
                self._chunks(fault)
            case Fault.TWO_LENGTHS:
                self._write(self._head(200, half, {"Content-length": str(len(body))}) + body)
            case Fault.NOT_GZIP:
                self._send(200, body, {"Content-Encoding": "gzip"})
            case Fault.GZIP:
                self._send(200, packed, {"Content-Encoding": "gzip"})
            case Fault.HIDDEN_GZIP:
                self._send(200, packed)
            case Fault.CUT_GZIP:
                self._send(200, packed[:-4], {"Content-Encoding": "gzip"})
            case Fault.GZIP_BOMB:
                self._send(200, gzip.compress(bytes(64 * 1024 * 1024), 1), {"Content-Encoding": "gzip"})
            case Fault.BROTLI:
                self._send(200, body, {"Content-Encoding": "br"})
            case Fault.PARTIAL:
                self._send(206, body[:half], {"Content-Range": f"bytes 0-{half - 1}/{len(body)}"})
            case Fault.LYING_304:
                self._send(304, b"", length=None)
            case Fault.LOGIN_PAGE:
                self.page.content_type = "text/html"
                self._send(200, LOGIN_PAGE)
            case Fault.HUGE_HEAD:
                self._send(200, body, {"X-Padding": "x" * 100 * 1024})
            case Fault.CONTINUES:
                while not self.server.owner.stopping.wait(self.page.pace_seconds):
                    self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
            case Fault.STRAY_ANSWER:
                self._send(200, body)
                if self.server.owner.send_stray.wait(30):
                    self._send(200, body)
                    self.server.owner.sent_stray.set()
            case Fault.NONSENSE:
                self._write(b"220 mail.example ESMTP ready\r\n")
                self._hang_up()
            case _:
                raise AssertionError(fault)

    def _head(self, status: int, length: int | None, extra: Mapping[str, str] | None = None) -> bytes:
        fields = {"Content-Type": self.page.content_type, **self.page.headers, **(extra or {})}
        if length is not None:
            fields["Content-Length"] = str(length)
        if self.page.etag is not None:
            fields["ETag"] = self.page.etag
        lines = [f"HTTP/1.1 {status} Told So", *(f"{name}: {value}" for name, value in fields.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _send(self, status: int, body: bytes, extra: Mapping[str, str] | None = None, length: int | None = -1) -> None:
        self._write(self._head(status, len(body) if length == -1 else length, extra) + body)

    def _write(self, data: bytes) -> None:
        self.connection.sendall(data)

    def _drip(self, data: bytes) -> None:
        for value in data:
            self._write(bytes([value]))
            if self.server.owner.stopping.wait(self.page.pace_seconds):
                return

    def _wait(self) -> None:
        self.server.owner.stopping.wait(60)
        self.close_connection = True

    def _hang_up(self) -> None:
        self.connection.shutdown(socket.SHUT_WR)
        self.close_connection = True

    def _reset(self, fault: Fault) -> None:
        body = self.page.body
        if fault is not Fault.RESET_START:
            part = len(body) // 2 if fault is Fault.RESET_HALF else len(body) * 99 // 100
            self._write(self._head(200, len(body)) + body[:part])
        # A linger time of zero turns the close into a reset; the server's own shutdown would make it a clean end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.connection.close()
        self.close_connection = True

    def _chunks(self, fault: Fault) -> None:
        body = self.page.body
        half = len(body) // 2
        first = f"{half:x}\r\n".encode() + body[:half] + b"\r\n"
        rest = f"{len(body) - half:x}\r\n".encode() + body[half:] + b"\r\n0\r\n\r\n"
        self._write(self._head(200, None, {"Transfer-Encoding": "chunked"}) + first)
        if fault is Fault.CHUNKED:
            self._write(rest)
            return
        if fault is Fault.BAD_CHUNK:
            self._write(b"zz\r\n" + body[half:] + b"\r\n0\r\n\r\n")
        self._hang_up()
