"""The relay: bytes both ways, ends of file passed on, one address and no other."""

import contextlib
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hooks.builds.relay import Relay


@contextlib.contextmanager
def echo_server() -> Iterator[tuple[str, int]]:
    """Answers with everything it was sent, once the sender has finished."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                data = b""
                while more := connection.recv(65536):
                    data += more
                connection.sendall(data)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="r") as folder:  # short: a socket's path has 107 bytes
        yield Path(folder) / "s"


def ask(path: Path, data: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(path))
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while more := client.recv(65536):
            answer += more
        return answer


def test_bytes_go_both_ways_and_ends_are_passed_on(place: Path):
    with echo_server() as address:
        relay = Relay(place, address, None)
        try:
            body = os.urandom(3_000_000)
            assert ask(place, body) == body
            assert ask(place, b"again") == b"again"
        finally:
            relay.close()


def test_when_the_registry_is_away_the_connection_ends(place: Path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    relay = Relay(place, address, None)
    try:
        with contextlib.suppress(ConnectionError):
            assert ask(place, b"x") == b""
    finally:
        relay.close()


def test_closed_is_closed_and_may_be_closed_again(place: Path):
    relay = Relay(place, ("127.0.0.1", 1), None)
    relay.close()
    relay.close()
    with pytest.raises(OSError):
        ask(place, b"x")


def test_only_its_owner_may_use_it(place: Path):
    relay = Relay(place, ("127.0.0.1", 1), None)
    try:
        assert place.stat().st_mode & 0o777 == 0o600
    finally:
        relay.close()
