"""The proxy through which git reaches the outside: it dials vetted addresses only, whatever host it is asked for.

HTTP's CONNECT for https and ssh, absolute-form requests for http (RFC 9110 section 9.3.6, RFC 9112 section 3.2.2). The
client's side is one end of a socket pair, so that nobody else on the machine can use it.
"""

from __future__ import annotations

import logging
import re
import socket
import threading
import time

from hooks.builds.forwarder import carry
from hooks.builds.request_head import read_head, refuse
from registry.errors import Invalid
from registry.upstream.dial import Dialer
from registry.upstream.guard import AddressPolicy, BlockedAddress, parse_url

LOG = logging.getLogger(__name__)

_DIAL_SECONDS = 20.0
_CONNECT = re.compile(rb"CONNECT (\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]{1,253}):([0-9]{1,5}) HTTP/1\.[01]\Z")
_ABSOLUTE = re.compile(rb"(GET|POST|HEAD) (http://[!-~]+) HTTP/1\.[01]\Z")
_HOP = (b"proxy-connection:", b"connection:", b"proxy-authorization:", b"keep-alive:")


class Egress:
    """Makes connections to the proxy; each is served by a thread of its own."""

    def __init__(self, policy: AddressPolicy) -> None:
        """``policy`` says which addresses beyond the global ones may be dialled."""
        self._policy = policy

    def connect(self) -> socket.socket:
        """The client's end of a fresh connection."""
        client, server = socket.socketpair()
        threading.Thread(target=self._serve, args=(server,), name="egress", daemon=True).start()
        return client

    def _serve(self, client: socket.socket) -> None:
        try:
            head, rest = read_head(client)
            host, port, opening = _asked(head)
            self._policy.check_host(host)
            target = Dialer(host, self._policy, adopts=False).dial(host, port, time.monotonic() + _DIAL_SECONDS)
        except (BlockedAddress, Invalid) as error:
            _refuse(client, "403 Forbidden", str(error))
            return
        except OSError as error:
            _refuse(client, "502 Bad Gateway", str(error))
            return
        try:
            target.settimeout(None)
            if opening:
                target.sendall(opening + rest)
            else:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                if rest:
                    target.sendall(rest)
        except OSError as error:
            LOG.info("a connection of a git source to %s broke off: %s", host, error)
            target.close()
            client.close()
            return
        carry(client, target)


def _asked(head: bytes) -> tuple[str, int, bytes]:
    """Host and port, and what is sent there first (nothing for a tunnel)."""
    line, *fields = head.split(b"\r\n")
    tunnel = _CONNECT.match(line)
    if tunnel is not None:
        # Read by the one parser, so that what is checked is what is dialled.
        url = parse_url(f"https://{tunnel[1].decode()}:{tunnel[2].decode()}/")
        return url.origin.host, url.origin.port, b""
    request = _ABSOLUTE.match(line)
    if request is None:
        raise Invalid("only CONNECT and plain http requests are carried on")
    url = parse_url(request[2].decode())
    kept = [field for field in fields if not field.lower().startswith(_HOP)]
    # One request for each connection: the next one may be for another host, and is looked at again.
    lines = [request[1] + b" " + url.target.encode() + b" HTTP/1.1", *kept, b"Connection: close", b"", b""]
    return url.origin.host, url.origin.port, b"\r\n".join(lines)


def _refuse(client: socket.socket, status: str, why: str) -> None:
    LOG.warning("a git source may not reach what it asks for: %s", why)
    refuse(client, status, why)
