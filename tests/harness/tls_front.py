"""A TLS front before a plain server, as a reverse proxy of an operator's is: with a certificate of an authority of its own."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.harness.key_services import certificate

_PIECE_BYTES = 65536


@dataclass(frozen=True)
class Front:
    """Where it listens, and the file with the authority that vouches for it."""

    url: str
    authority: Path
    port: int


@contextlib.contextmanager
def tls_front(port: int, folder: Path) -> Iterator[Front]:
    """Carry what comes under TLS to ``port`` on loopback."""
    authority, key = certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, key)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                client = context.wrap_socket(self.request, server_side=True)
            except OSError:
                return  # who connects does not trust it
            with client, socket.create_connection(("127.0.0.1", port)) as target:
                back = threading.Thread(target=_carry, args=(target, client), daemon=True)
                back.start()
                _carry(client, target)
                back.join()

    class Listener(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False
        allow_reuse_address = True

    with Listener(("127.0.0.1", 0), Handler) as listener:
        threading.Thread(target=listener.serve_forever, args=(0.05,), daemon=True).start()
        try:
            own = listener.server_address[1]
            yield Front(f"https://127.0.0.1:{own}", authority, own)
        finally:
            listener.shutdown()


def _carry(source: socket.socket, target: socket.socket) -> None:
    try:
        while piece := source.recv(_PIECE_BYTES):
            target.sendall(piece)
        if isinstance(target, ssl.SSLSocket):
            target.unwrap()  # all is said; without this it would look cut off
        target.shutdown(socket.SHUT_WR)
    except OSError:
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
