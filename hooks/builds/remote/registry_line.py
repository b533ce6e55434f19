"""How builds on a runner reach the registry: through the runner, to the server's own address and no other.

Inside a sandbox the registry is a port of its loopback and speaks plain HTTP. To a server at https:// the runner carries
those bytes under TLS, and makes sure of the certificate itself.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

_CONNECT_SECONDS = 10.0
_CHUNK_BYTES = 65536


def line_to(url: str, ca_file: str | None = None) -> tuple[str, int] | Callable[[], socket.socket]:
    """Where builds reach the registry of the server at ``url``; ``ca_file`` holds authorities beyond the machine's own."""
    parts = urlsplit(url)
    host, is_tls = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if is_tls else 80)
    if not is_tls:
        return host, port
    context = ssl.create_default_context(cafile=ca_file)

    def connect() -> socket.socket:
        target = socket.create_connection((host, port), timeout=_CONNECT_SECONDS)
        try:
            tls = context.wrap_socket(target, server_hostname=host)
        except OSError:
            target.close()
            raise
        own, other = socket.socketpair()
        threading.Thread(target=_carry, args=(own, tls), name="registry-line", daemon=True).start()
        return other

    return connect


def _carry(plain: socket.socket, tls: ssl.SSLSocket) -> None:
    """Copy both ways in one thread (an SSL connection is nothing for two) until the server has ended; closes both.

    Nothing blocks: a side that takes nothing at the moment holds up its own direction alone. What the server no longer
    takes is thrown away, because it may have answered before (a refused upload).
    """
    with plain, tls:
        plain.setblocking(False)
        tls.setblocking(False)
        up, down = b"", b""
        sends, hears, is_ended = True, True, False
        while down or not is_ended:
            reads = [plain] * (sends and not up) + [tls] * (not is_ended and not down)
            writes = [tls] * bool(up) + [plain] * bool(down)
            # What TLS has read and decrypted already shows in no select.
            select.select(reads, writes, [], 0 if tls in reads and tls.pending() else None)
            if sends and not up:
                data = _received(plain)
                sends, up = data != b"", (data or b"") if hears else b""
            if up:
                left = _left(tls, up)
                hears, up = left is not None, left or b""
            if not is_ended and not down:
                data = _received(tls)
                is_ended, down = data == b"", data or b""
            if down:
                left = _left(plain, down)
                if left is None:
                    return  # nobody listens any more
                down = left


def _received(source: socket.socket) -> bytes | None:
    """What has come, empty at the end; None for nothing yet (also for a record that is TLS's own, a session ticket)."""
    try:
        return source.recv(_CHUNK_BYTES)
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return None
    except OSError:
        return b""  # a reset connection ends like a closed one


def _left(target: socket.socket, data: bytes) -> bytes | None:
    """What ``target`` has not taken of ``data`` yet; None when it takes nothing any more."""
    try:
        return data[target.send(data) :]
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return data
    except OSError:
        return None
