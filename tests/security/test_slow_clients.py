"""F3: clients that are slow on purpose do not hold the server's threads."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from config import client_socket
from config.client_socket import ClientSocket
from tests.harness.server import Server

LIMIT_SECONDS = 0.6


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ClientSocket, socket.socket]]:
    """The server's end and the client's, with limits of parts of a second."""
    for name in ("IDLE_SECONDS", "HEAD_SECONDS", "GRACE_SECONDS"):
        monkeypatch.setattr(client_socket, name, LIMIT_SECONDS)
    monkeypatch.setattr(client_socket, "FLOOR_BYTES_PER_SECOND", 1000)
    ours, theirs = socket.socketpair()
    served = ClientSocket.of(ours)
    served.setblocking(True)
    with served, theirs:
        yield served, theirs


def _trickle(to: socket.socket, piece: bytes, every_seconds: float) -> Callable[[], None]:
    ended = threading.Event()

    def run() -> None:
        with contextlib.suppress(OSError):
            while not ended.wait(every_seconds):
                to.sendall(piece)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def end() -> None:
        ended.set()
        thread.join()

    return end


def _read_until_refused(served: ClientSocket, most: int) -> None:
    def read() -> None:
        received = 0
        while received < most:
            received += len(served.recv(65536))

    with pytest.raises(ConnectionResetError):
        read()


def test_F3_a_head_that_comes_byte_by_byte_is_given_up(pair: tuple[ClientSocket, socket.socket]) -> None:
    served, theirs = pair
    served.begin_head()
    end = _trickle(theirs, b"x", 0.02)  # never idle
    _read_until_refused(served, 1000)
    end()


def test_F3_a_body_that_comes_byte_by_byte_is_given_up(pair: tuple[ClientSocket, socket.socket]) -> None:
    served, theirs = pair
    served.begin_body()
    end = _trickle(theirs, b"x", 0.02)
    _read_until_refused(served, 1000)
    end()


def test_F3_a_body_at_an_honest_rate_goes_on_for_as_long_as_it_takes(pair: tuple[ClientSocket, socket.socket]) -> None:
    served, theirs = pair
    served.begin_body()
    end = _trickle(theirs, b"x" * 200, 0.02)
    began, received = time.monotonic(), 0
    while time.monotonic() - began < 3 * LIMIT_SECONDS:
        received += len(served.recv(65536))
    end()
    assert received > 0


def test_F3_what_this_server_does_meanwhile_does_not_make_a_client_slow(
    pair: tuple[ClientSocket, socket.socket],
) -> None:
    served, theirs = pair
    served.begin_body()
    theirs.sendall(b"x")
    assert served.recv(1) == b"x"
    time.sleep(2 * LIMIT_SECONDS)
    theirs.sendall(b"y")
    assert served.recv(1) == b"y"


def test_F3_who_says_nothing_is_given_up(pair: tuple[ClientSocket, socket.socket]) -> None:
    served, _ = pair
    served.begin_body()
    _read_until_refused(served, 1)


def test_F3_who_takes_nothing_is_given_up(pair: tuple[ClientSocket, socket.socket]) -> None:
    served, theirs = pair
    served.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    def send() -> None:
        for _ in range(1000):
            served.sendall(b"x" * 100)

    with pytest.raises(ConnectionResetError):
        send()


def test_F3_negative_control_a_plain_socket_waits(pair: tuple[ClientSocket, socket.socket]) -> None:
    served, theirs = pair
    plain = socket.socket(fileno=served.detach())
    plain.setblocking(True)
    end = _trickle(theirs, b"x", 0.02)
    received = 0
    began = time.monotonic()
    with plain:
        while time.monotonic() - began < 2 * LIMIT_SECONDS:
            received += len(plain.recv(1))
        end()
    assert received > 0


@pytest.mark.parametrize("patience", ["1", "600"])
def test_F3_slow_connections_do_not_take_the_server(tmp_path: Path, patience: str) -> None:
    """More of them than there are threads; with endless patience (the control) nobody else is answered."""
    environment = {"ENTREPOT_SERVER_CLIENT_PATIENCE_SECONDS": patience, "ENTREPOT_SERVER_THREADS": "4"}
    environment["ENTREPOT_SERVER_GRACEFUL_TIMEOUT_SECONDS"] = "0"
    head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
    body = b"POST /pypi/default/dev/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nx"
    server = Server(tmp_path / "data", with_worker=False, web_processes=1, environment=environment).start()
    slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(16)]
    try:
        for number, connection in enumerate(slow):
            connection.sendall(head if number % 2 else body)
        time.sleep(0.5)
        if patience == "1":
            assert requests.get(f"{server.url}/healthz", timeout=60).status_code == 200
        else:
            with pytest.raises(requests.Timeout):
                requests.get(f"{server.url}/healthz", timeout=3)
    finally:
        for connection in slow:
            connection.close()
        server.kill()
