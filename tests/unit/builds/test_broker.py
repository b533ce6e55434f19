"""The broker as a build's client sees it: what is refused is answered, however much the client sends before it reads."""

import http.client
import socket
import threading
from collections.abc import Iterator

import pytest

from hooks.builds.broker import Broker
from hooks.builds.executor import Publishing
from hooks.builds.forwarder import carry, serve

MAY = Publishing(("/pypi/default/staging/",), "Bearer secret")
MORE_THAN_SOCKETS_HOLD = b"x" * (8 * 1024 * 1024)


def unreachable() -> socket.socket:
    raise ConnectionRefusedError("nobody there")


def answers_early() -> socket.socket:
    """A registry that answers when it has the head, reads none of the body, and resets the connection."""
    here, there = socket.socketpair()

    def answer() -> None:
        with there:
            there.recv(4096)
            there.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    threading.Thread(target=answer, daemon=True).start()
    return here


@pytest.fixture
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """Where a sandbox's forwarder listens: behind it the broker, and what it dials."""
    broker = Broker(MAY, request.param)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve, args=(listener, broker.connect), daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.mark.parametrize(
    ("port", "path", "status"),
    [
        (unreachable, "/pypi/default/prod/", 403),
        (unreachable, "/pypi/default/staging/", 502),
        (answers_early, "/pypi/default/staging/", 413),
    ],
    indirect=["port"],
)
def test_a_large_body_does_not_hide_the_answer(port: int, path: str, status: int) -> None:
    for _attempt in range(5):
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        client.request("POST", path, body=MORE_THAN_SOCKETS_HOLD)
        assert client.getresponse().status == status
        client.close()


def test_a_client_that_has_gone_ends_the_connection_to_the_server() -> None:
    """A server that sends without end is read from no longer, however much it still has."""
    client, here = socket.socketpair()
    there, server = socket.socketpair()
    carried = threading.Thread(target=carry, args=(here, there), daemon=True)
    carried.start()
    client.close()
    with server, pytest.raises(OSError, match=r"pipe|reset"):
        server.sendall(MORE_THAN_SOCKETS_HOLD * 64)
    carried.join(20)
    assert not carried.is_alive()
