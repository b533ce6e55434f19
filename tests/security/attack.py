"""What attackers have and clients do not: raw sockets, hand-made forms, a twine that lies; and how to see what was kept."""

import contextlib
import functools
import hashlib
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import requests

from tests.harness.clients import Clients, Done
from tests.harness.server import Server

LYING_TWINE = Path(__file__).with_name("lying_twine.py")
BOUNDARY = "an-honest-boundary"
KEPT_TABLES = (
    "package", "package_version", "asset", "blob", "event", "audit_entry", "package_state", "retired_filename",
)  # fmt: skip


@dataclass
class House:
    """A running server with somebody who may publish, and clients."""

    server: Server
    token: str
    clients: Clients

    @property
    def upload_url(self) -> str:
        return self.server.index(simple=False)

    def post(self, body: bytes | Iterable[bytes], **headers: str) -> requests.Response:
        sent = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}", "Authorization": f"Bearer {self.token}"}
        return requests.post(self.upload_url, data=body, headers={**sent, **headers}, timeout=60)

    def lying_twine(self, honest: Path, **lies: object) -> Done:
        """Upload ``honest`` by a real twine that says something else: ``fields``, ``filename``, or another ``body``."""
        arguments = ["upload", "--non-interactive", "--disable-progress-bar", "--repository-url", self.upload_url]
        assert self.liar.stdin is not None
        assert self.liar.stdout is not None
        self.liar.stdin.write(json.dumps({**lies, "arguments": [*arguments, str(honest)]}) + "\n")
        self.liar.stdin.flush()
        failed, output = json.loads(self.liar.stdout.readline())
        return Done(int(failed), output)

    @functools.cached_property
    def liar(self) -> "subprocess.Popen[str]":
        environment = self.clients.environment(TWINE_USERNAME="__token__", TWINE_PASSWORD=self.token)
        return subprocess.Popen(
            [sys.executable, str(LYING_TWINE)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=self.clients.home,
        )  # fmt: skip

    def close(self) -> None:
        if "liar" in self.__dict__:
            self.liar.communicate()
        self.server.kill()


@dataclass(frozen=True)
class Stock:
    """What a server holds: rows by table, and files below its blob directory, unfinished ones included."""

    rows: dict[str, int]
    files: frozenset[str]

    @classmethod
    def of(cls, data: Path) -> "Stock":
        with contextlib.closing(sqlite3.connect(f"file:{data / 'entrepot.db'}?mode=ro", uri=True, timeout=30)) as db:
            rows = {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in KEPT_TABLES}
        blobs = data / "blobs"
        files = frozenset(str(path.relative_to(blobs)) for path in blobs.rglob("*") if path.is_file())
        return cls(rows, files)


@contextlib.contextmanager
def nothing_stored(server: Server) -> Iterator[None]:
    """Whatever happens inside leaves neither a row nor a file, and a server that answers."""
    before = Stock.of(server.data)
    yield
    assert Stock.of(server.data) == before
    assert requests.get(f"{server.url}/readyz", timeout=10).status_code == 200


def words(text: str) -> str:
    """``text`` without the line breaks that a terminal's width makes."""
    return " ".join(text.split())


# --- forms -----------------------------------------------------------------------------------------------------------


def form_fields(filename: str, body: bytes, **changes: str) -> list[tuple[str, str]]:
    """What twine sends for demo 1.0; ``changes`` by field name (``action`` for ``:action``)."""
    is_wheel = filename.endswith(".whl")
    fields = {
        ":action": "file_upload",
        "protocol_version": "1",
        "name": "demo",
        "version": "1.0",
        "filetype": "bdist_wheel" if is_wheel else "sdist",
        "pyversion": "py3" if is_wheel else "source",
        "metadata_version": "2.1",
        "sha256_digest": hashlib.sha256(body).hexdigest(),
    }
    return list({**fields, **changes}.items())


def multipart(fields: Sequence[tuple[str, str]], files: Sequence[tuple[str, bytes, bytes]]) -> bytes:
    """A form; ``files`` are (field, raw file name, content)."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + value.encode() + b"\r\n"
        for name, value in fields
    ]
    parts += [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="'.encode()
        + filename
        + b'"\r\nContent-Type: application/octet-stream\r\n\r\n'
        + body
        + b"\r\n"
        for name, filename, body in files
    ]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


# --- raw requests ----------------------------------------------------------------------------------------------------


@dataclass
class Answer:
    """One HTTP answer read from a socket; ``rest`` is what came after it, ``is_closed`` whether the server hung up."""

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes
    rest: bytes = b""
    is_closed: bool = False
    raw: bytes = field(default=b"", repr=False)


def exchange(port: int, sent: bytes, *, end: bool = False, patience_seconds: float = 10.0) -> Answer:
    """Send bytes as they are and read the first answer; with ``end`` the client closes its side after sending."""
    with socket.create_connection(("127.0.0.1", port), timeout=patience_seconds) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(sent)
            if end:
                connection.shutdown(socket.SHUT_WR)
        return _read_answer(connection)


def _read_answer(connection: socket.socket) -> Answer:
    raw, is_closed = b"", False
    while not is_closed and not _is_complete(raw):
        piece = _receive(connection)
        is_closed = not piece
        raw += piece
    if not is_closed:
        connection.settimeout(1.0)
        with contextlib.suppress(TimeoutError):
            while piece := _receive(connection):
                raw += piece
            is_closed = True
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    match = re.match(r"HTTP/1\.[01] (\d{3}) ?(.*)", lines[0])
    assert match is not None, f"no HTTP answer: {raw[:200]!r}"
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    length = int(headers.get("content-length", len(body)))
    return Answer(int(match[1]), match[2], headers, body[:length], body[length:], is_closed, raw)


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except ConnectionResetError:
        return b""


def _is_complete(raw: bytes) -> bool:
    head, gap, body = raw.partition(b"\r\n\r\n")
    length = re.search(rb"(?im)^content-length: *(\d+)", head)
    return bool(gap) and length is not None and len(body) >= int(length[1])


def request(method: str, target: str, *lines: str, host: str = "localhost", body: bytes = b"") -> bytes:
    """A request as bytes, with nothing normalised; the connection closes after the answer."""
    head = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close", *lines]
    if body:
        head.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + body


# --- memory ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def measured_memory(server: Server) -> Iterator[dict[str, int]]:
    """Fills in ``growth_bytes``: by how much any one process of the server grew at most while the block ran."""
    assert server.process is not None
    found: dict[str, int] = {}
    group = _processes(server.process.pid)
    before = {}
    for pid in group:
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the high-water mark starts again from here
        before[pid] = _status_bytes(pid, "VmRSS")
    yield found
    assert set(_processes(server.process.pid)) >= set(group), "a process of the server ended"
    found["growth_bytes"] = max(_status_bytes(pid, "VmHWM") - before[pid] for pid in group)


def _processes(leader: int) -> list[int]:
    group = os.getpgid(leader)
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(ProcessLookupError):
                if os.getpgid(int(entry.name)) == group:
                    found.append(int(entry.name))
    return found


def _status_bytes(pid: int, name: str) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    match = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024


# --- many at once ----------------------------------------------------------------------------------------------------


def at_once(*calls: object) -> list[object]:
    """Run callables in threads that start together; their results in order. An exception is a result."""
    barrier = threading.Barrier(len(calls))
    results: list[object] = [None] * len(calls)

    def run(position: int) -> None:
        barrier.wait()
        try:
            results[position] = calls[position]()  # type: ignore[operator]
        except Exception as error:
            results[position] = error

    threads = [threading.Thread(target=run, args=(position,)) for position in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
