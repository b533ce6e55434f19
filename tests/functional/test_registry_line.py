"""The line between a runner's builds and a registry at https://: real TLS, with an authority that only its file knows."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hooks.builds.remote.registry_line import line_to
from tests.harness.key_services import certificate
from tests.harness.tls_front import Front, tls_front

MANY_BYTES = 6 * 1024 * 1024


class Echo(socketserver.StreamRequestHandler):
    """Sends back what comes; ``end`` makes it say good-bye and hang up."""

    def handle(self) -> None:
        while data := self.request.recv(65536):
            if data == b"end":
                self.request.sendall(b"good-bye")
                return
            self.request.sendall(data)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        with tls_front(server.server_address[1], tmp_path_factory.mktemp("front")) as made:
            yield made
        server.shutdown()


def dial(front: Front, authority: Path | None) -> Callable[[], socket.socket]:
    line = line_to(front.url, None if authority is None else str(authority))
    assert callable(line)
    return line


def received(line: socket.socket, count: int) -> bytes:
    body = bytearray()
    while len(body) < count and (piece := line.recv(65536)):
        body += piece
    return bytes(body)


def test_much_goes_both_ways_at_once_and_an_end_is_an_end(front: Front) -> None:
    sent = bytes(range(256)) * (MANY_BYTES // 256)
    with dial(front, front.authority)() as line:
        line.settimeout(30)
        writer = threading.Thread(target=line.sendall, args=(sent,), daemon=True)
        writer.start()
        assert received(line, len(sent)) == sent
        writer.join(30)
        for _ in range(3):  # what is small waits for nothing either
            line.sendall(b"ping")
            assert received(line, 4) == b"ping"
        line.sendall(b"end")
        assert received(line, 100) == b"good-bye"
        assert line.recv(1) == b""


def test_many_lines_stand_beside_each_other(front: Front) -> None:
    connect = dial(front, front.authority)
    lines = [connect() for _ in range(8)]
    for number, line in enumerate(lines):
        line.settimeout(30)
        line.sendall(f"line {number}".encode())
    for number, line in reversed(list(enumerate(lines))):
        assert received(line, 6) == f"line {number}".encode()
        line.close()


def test_a_server_that_nobody_vouches_for_gets_nothing(front: Front) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        dial(front, None)()
    elsewhere = Front(front.url.replace("127.0.0.1", "localhost"), front.authority, front.port)
    with pytest.raises(ssl.SSLCertVerificationError, match="localhost"):
        dial(elsewhere, front.authority)()  # the certificate is another host's


def test_an_early_answer_reaches_who_is_still_sending(tmp_path: Path) -> None:
    """A refused upload: the server answers at its head, reads no more, and hangs up."""
    authority, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, key)
    told = b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line = line_to(f"https://127.0.0.1:{listener.getsockname()[1]}", str(authority))
        assert callable(line)

        def answer() -> None:
            while True:
                try:
                    accepted, _ = listener.accept()
                except OSError:
                    return
                # As servers do. Without it an answer that waits behind a session ticket is still here when this hangs up on
                # what it has not read, and is lost before any line could have had it.
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with context.wrap_socket(accepted, server_side=True) as server:
                    server.recv(1000)
                    server.sendall(told)

        threading.Thread(target=answer, daemon=True).start()
        for _ in range(5):
            with line() as client:
                client.settimeout(30)
                with contextlib.suppress(OSError):
                    client.sendall(bytes(MANY_BYTES))
                assert received(client, len(told)) == told
        listener.shutdown(socket.SHUT_RDWR)


def test_to_a_server_without_tls_builds_go_straight() -> None:
    assert line_to("http://packages.example.com") == ("packages.example.com", 80)
    assert line_to("http://127.0.0.1:8080/") == ("127.0.0.1", 8080)
