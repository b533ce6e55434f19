"""The head of an HTTP/1.1 request, read from a socket that is a proxy's: at most so long, in so many seconds."""

from __future__ import annotations

import logging
import socket

from registry.errors import Invalid

LOG = logging.getLogger(__name__)

_HEAD_BYTES = 32 * 1024
_HEAD_SECONDS = 30.0


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
    """Answer with ``status`` and close."""
    body = f"{why}\n".encode(errors="replace")
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    try:
        client.sendall(head.encode() + body)
    except OSError:
        LOG.debug("the client was gone before it was refused")
    client.close()
