"""Carries bytes between two stream sockets: inside a sandbox from a loopback port to a unix socket, outside onwards.

Inside it is run as a file by the system's interpreter, so it is standard library only; outside ``hooks.builds.relay``
imports it.
"""

from __future__ import annotations

import select
import socket
import sys
import threading
from collections.abc import Callable

CHUNK_BYTES = 65536
MAX_CONNECTIONS = 128


def carry(client: socket.socket, server: socket.socket) -> None:
    """Copy both ways until both directions have ended; each end of file is passed on. Closes both sockets.

    What the server no longer takes is thrown away: it may have answered before (a refused upload), and a connection closed
    on unread bytes is reset, which would lose that answer. A client that takes no more is gone, and ends it all.
    """
    with client, server:
        waiting = {client: server, server: client}
        is_deaf = False
        while waiting:
            ready, _, _ = select.select(list(waiting), [], [])
            for source in ready:
                target = waiting[source]
                data = _receive(source)
                if not data:
                    del waiting[source]
                    _finish_writing(target)
                elif target is client:
                    if not _sent(client, data):
                        return
                elif not is_deaf:
                    is_deaf = not _sent(server, data)


def _sent(target: socket.socket, data: bytes) -> bool:
    try:
        target.sendall(data)
    except OSError:
        return False
    return True


def _receive(source: socket.socket) -> bytes:
    try:
        return source.recv(CHUNK_BYTES)
    except OSError:
        return b""  # a reset connection ends like a closed one


def _finish_writing(target: socket.socket) -> None:
    try:
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the peer was quicker


def serve(listener: socket.socket, connect: Callable[[], socket.socket]) -> None:
    """Accept until the listener is closed; every connection is carried to a new one of ``connect``, 128 at a time."""
    places = threading.BoundedSemaphore(MAX_CONNECTIONS)

    def handle(accepted: socket.socket) -> None:
        try:
            try:
                target = connect()
            except OSError:
                accepted.close()
                return
            carry(accepted, target)
        finally:
            places.release()

    while True:
        places.acquire()
        try:
            accepted, _address = listener.accept()
        except OSError:
            return
        threading.Thread(target=handle, args=(accepted,), daemon=True).start()


def main(port: int, path: str) -> None:
    """Listen on the loopback ``port``, say so with one line on standard output, and carry everything to ``path``."""

    def connect() -> socket.socket:
        target = socket.socket(socket.AF_UNIX)
        target.connect(path)
        return target

    with socket.create_server(("127.0.0.1", port), backlog=MAX_CONNECTIONS) as listener:
        sys.stdout.write("listening\n")
        sys.stdout.flush()
        serve(listener, connect)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
