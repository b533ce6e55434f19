"""The head of an HTTP/1.1 request, read from a socket that is a proxy's: at most so long, in so many seconds."""

from __future__ import annotations

import logging
import socket
import time

from registry.errors import Invalid

LOG = logging.getLogger(__name__)

_HEAD_BYTES = 32 * 1024
_HEAD_SECONDS = 30.0
_LINGER_SECONDS = 30.0


def read_head(client: socket.socket) -> tuple[bytes, bytes]:
    """The request's head without its empty line, and what came behind it. Raises Invalid, OSError."""
    client.settimeout(_HEAD_SECONDS)
    data = b""
    while b"\r\n\r\n" not in data:
        if len(data) > _HEAD_BYTES:
            raise Invalid("the request's head is too large")
        piece = client.recv(8192)
        if not piece:
            raise Invalid("the request broke off")
        data += piece
    client.settimeout(None)
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def refuse(client: socket.socket, status: str, why: str) -> None:
    """Answer with ``status`` and close, once the client has closed or after half a minute.

    A client may send its whole body before it reads. Closed on what it has sent, its connection is reset, and it sees
    no answer (RFC 9112 section 9.6 has the remedy).
    """
    body = f"{why}\n".encode(errors="replace")
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    try:
        client.sendall(head.encode() + body)
        client.shutdown(socket.SHUT_WR)
        _drain(client)
    except OSError:
        LOG.debug("the client was gone before it had read that it was refused")
    client.close()


def _drain(client: socket.socket) -> None:
    end = time.monotonic() + _LINGER_SECONDS
    while (left := end - time.monotonic()) > 0:
        client.settimeout(left)
        if not client.recv(65536):
            return
