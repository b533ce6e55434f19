"""Two hundred clients want one cold file of 50 MiB from a server of two workers: one upstream request, little memory."""

import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fakes.upstream import FaultyUpstream
from tests.harness import processes
from tests.harness.server import Server

CLIENTS = 200
MIB = 1024 * 1024
FILE_BYTES = 50 * MIB
MOST_GROWTH_BYTES = 64 * MIB
GIVE_UP_SECONDS = 240
FILENAME = "crowd-1.0.tar.gz"


@pytest.fixture
def upstream() -> Iterator[FaultyUpstream]:
    with FaultyUpstream() as running:
        yield running


@pytest.fixture
def server(tmp_path: Path, upstream: FaultyUpstream) -> Iterator[Server]:
    settings = {"ENTREPOT_UPSTREAM_URLS": f"pypi={upstream.url}/simple/"}
    made = Server(tmp_path / "data", with_worker=False, environment=settings).start()
    yield made
    made.kill()


def download(server: Server, path: str, token: str, body: bytes, together: threading.Barrier) -> bool:
    """Whether the answer is ``body``, compared as it comes: two hundred copies of it would fill this machine."""
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    together.wait(GIVE_UP_SECONDS)
    with socket.create_connection(("127.0.0.1", server.port), GIVE_UP_SECONDS) as connection:
        connection.sendall(request.encode())
        head, _, rest = _head(connection)
        at = len(rest)
        if not head.startswith(b"HTTP/1.1 200 ") or rest != body[:at]:
            return False
        while piece := connection.recv(256 * 1024):
            if piece != body[at : at + len(piece)]:
                return False
            at += len(piece)
    return at == len(body)


def _head(connection: socket.socket) -> tuple[bytes, bytes, bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(64 * 1024)
        if not piece:
            break
        received += piece
    return received.partition(b"\r\n\r\n")


def warm_up(server: Server, upstream: FaultyUpstream, token: str) -> None:
    """Have both workers do this once, in small: the code they load for it is no growth by the crowd."""
    upstream.add_project("tiny", {"tiny-1.0.tar.gz": b"tiny"})
    together = threading.Barrier(64)
    with ThreadPoolExecutor(64) as pool:
        path = "/pypi/default/dev/files/tiny/tiny-1.0.tar.gz"
        assert all(pool.map(lambda _: download(server, path, token, b"tiny", together), range(64)))


@pytest.mark.slow
def test_two_hundred_clients_of_one_cold_file(server: Server, upstream: FaultyUpstream) -> None:
    body = os.urandom(FILE_BYTES)
    upstream.add_project("crowd", {FILENAME: body})
    token = server.token("admin", "read")
    warm_up(server, upstream, token)
    together = threading.Barrier(CLIENTS)
    assert server.process is not None
    with (
        processes.MemoryWatch(processes.descendants(server.process.pid)) as watch,
        ThreadPoolExecutor(CLIENTS) as pool,
    ):
        path = f"/pypi/default/dev/files/crowd/{FILENAME}"
        right = list(pool.map(lambda _: download(server, path, token, body, together), range(CLIENTS)))
    assert right.count(True) == CLIENTS
    assert upstream.count(f"/files/crowd/{FILENAME}") == 1
    assert upstream.count("/simple/crowd/") == 1
    growth = {pid: grown // MIB for pid, grown in watch.growth_bytes.items()}
    assert max(watch.growth_bytes.values()) < MOST_GROWTH_BYTES, growth
