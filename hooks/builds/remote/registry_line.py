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
    """Copy both ways in one thread (an SSL connection is nothing for two); closes both."""
    with plain, tls:
        is_open = True
        while True:
            waiting: list[socket.socket] = [tls, plain] if is_open else [tls]
            # What TLS has read and decrypted already shows in no select.
            ready = [tls] if tls.pending() else select.select(waiting, [], [])[0]
            try:
                if tls in ready:
                    data = _received(tls)
                    if data == b"":
                        return
                    plain.sendall(data or b"")
                if plain in ready:
                    data = plain.recv(_CHUNK_BYTES)
                    is_open = bool(data)
                    if data:
                        tls.settimeout(None)
                        tls.sendall(data)
            except OSError:
                return


def _received(tls: ssl.SSLSocket) -> bytes | None:
    """What has come; None for a record that is TLS's own business (a session ticket), which must hold nobody up."""
    tls.settimeout(0.0)
    try:
        return tls.recv(_CHUNK_BYTES)
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return None
