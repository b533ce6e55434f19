"""Adds a build's credential outside of its sandbox: what is inside can publish with it and never have it.

Each connection carries one request (RFC 9112 section 9.6): its head is read and written anew, the rest is bytes. A second
request behind it would carry no credential, and the server closes the connection after the first.
"""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Callable
from urllib.parse import unquote

from hooks.builds.executor import Publishing
from hooks.builds.forwarder import carry
from hooks.builds.request_head import read_head, refuse
from registry.errors import Invalid

LOG = logging.getLogger(__name__)

_REQUEST = re.compile(rb"(GET|HEAD|PUT|POST) (/[!-~]{0,8000}) HTTP/1\.[01]\Z")
_FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}:[\t -~\x80-\xff]*\Z")
_DROPPED: tuple[bytes, ...] = (
    b"authorization:",
    b"proxy-authorization:",
    b"proxy-connection:",
    b"connection:",
    b"keep-alive:",
)
_DROPPED += (b"cookie:", b"forwarded:", b"x-forwarded-", b"x-real-ip:", b"upgrade:")


class Broker:
    """Makes connections to the registry that publish as the build; each is served by a thread of its own."""

    def __init__(self, publishing: Publishing, dial: Callable[[], socket.socket]) -> None:
        """``dial`` connects to the registry."""
        self._publishing = publishing
        self._dial = dial

    def connect(self) -> socket.socket:
        """The client's end of a fresh connection."""
        client, server = socket.socketpair()
        threading.Thread(target=self._serve, args=(server,), name="publishing", daemon=True).start()
        return client

    def _serve(self, client: socket.socket) -> None:
        try:
            head, rest = read_head(client)
            request = rewritten(head, self._publishing)
            target = self._dial()
        except Invalid as error:
            LOG.warning("a build may not do what it asks for: %s", error)
            refuse(client, "403 Forbidden", str(error))
            return
        except OSError as error:
            refuse(client, "502 Bad Gateway", f"the registry cannot be reached: {error}")
            return
        try:
            target.sendall(request + rest)
        except OSError as error:
            LOG.info("a connection of a build to the registry broke off: %s", error)
            target.close()
            client.close()
            return
        carry(client, target)


def rewritten(head: bytes, publishing: Publishing) -> bytes:
    """A request's head as the registry gets it, with the credential. Pure. Raises Invalid for what is not let through."""
    line, *fields = head.split(b"\r\n")
    request = _REQUEST.match(line)
    if request is None:
        raise Invalid("only GET, HEAD, PUT and POST of HTTP/1.1 are carried on")
    path = request[2].decode().partition("?")[0]
    segments = unquote(path).replace("\\", "/").split("/")
    if not path.startswith(publishing.paths) or ".." in segments or "." in segments:
        raise Invalid(f"this build publishes below {' and '.join(publishing.paths)} only")
    if not all(_FIELD.match(field) for field in fields):
        raise Invalid("the request has a header that is none")
    kept = [field for field in fields if not field.lower().startswith(_DROPPED)]
    own = (b"Authorization: " + publishing.authorization.encode(), b"Connection: close")
    return b"\r\n".join([line, *kept, *own, b"", b""])
