"""A real HTTP server on loopback that misbehaves on command, and a little package index on it.

    with FaultyUpstream() as upstream:
        upstream.serve("/page", b"{}", content_type="application/json", fault=Fault.RESET_HALF)
        upstream.add_project("demo", {"demo-1.0-py3-none-any.whl": wheel_bytes})

Waits (``SLOW_*``, ``SILENCE``, ``STALL_HALF``) end when the server is closed, so no test waits for them.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import socketserver
import ssl
import threading
from collections.abc import Mapping
from typing import Any, Self

from tests.fakes.answering import Fault, Handler, Page, PartFault, Seen
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

__all__ = ["Fault", "FaultyUpstream", "PartFault", "Seen"]


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
        takes_head: bool = True,
    ) -> str:
        """Answer ``path`` with this from now on; gives its URL. With ``etag`` a matching If-None-Match gets 304."""
        self._pages[path] = Page(
            body,
            content_type,
            status,
            headers or {},
            fault,
            etag,
            pace_seconds,
            takes_ranges=takes_ranges,
            takes_head=takes_head,
        )
        return self.url + path

    def break_parts(self, path: str, fault: PartFault) -> None:
        """Answer ranges of ``path`` with a fault from now on, and the whole as it is."""
        self._pages[path].part_fault = fault

    def hold(
        self,
        path: str,
        *,
        with_head: bool = False,
        until_a_part_is_asked: bool = False,
        after_bytes: int | None = None,
    ) -> None:
        """Send half of the whole from now on (or so much of it, or not even the head); the rest after ``release``.

        With ``until_a_part_is_asked`` also after an answer to a range.
        """
        page = self._pages[path]
        page.held_after_bytes = after_bytes
        page.fault = Fault.HELD_HEAD if with_head else Fault.HELD
        page.is_released_by_part = until_a_part_is_asked

    def release(self, path: str) -> None:
        """Send the rest of what is held, and everything at once from now on."""
        self._pages[path].fault = None
        self._pages[path].released.set()

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
        return len(self.asked(path))

    def asked(self, path: str) -> list[str]:
        """How ``path`` was asked for: the method, and the range if there was one."""
        with self.lock:
            seen = [seen for seen in self.requests if seen.path == path]
        return [" ".join(filter(None, (each.method, each.headers.get("range")))) for each in seen]

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
        super().__init__(address, Handler)

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
