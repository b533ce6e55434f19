"""Sockets to vetted addresses: one resolution per connection, every answer judged, the judged address dialled.

Resolving once for the check and again for the connection is the gap that DNS rebinding uses; here the name is never
given to anything that resolves again.
"""

from __future__ import annotations

import logging
import math
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING

from registry.upstream.guard import (
    AddressPolicy,
    BlockedAddress,
    IPAddress,
    Scope,
    adoptable,
    literal_address,
    scope_of,
)

log = logging.getLogger(__name__)

Resolver = Callable[[str], Sequence[str]]
"""Gives a host name's addresses, best first. Raises OSError when it has none or cannot tell. May block."""

_ADOPTION_SECONDS = 60.0


def system_resolver(host: str) -> list[str]:
    """Addresses from the machine's own resolver (files, DNS), in its order of preference."""
    answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


if TYPE_CHECKING:
    _SocketBase = socket.socket
else:
    _SocketBase = object


class _Bounded(_SocketBase):
    """A socket whose reads end at a deadline however the peer drips.

    A plain socket time-out starts anew with each byte, so a head sent at one byte per second would never time out.
    ``socket.makefile`` reads through ``recv_into``, which makes it the one place to enforce this.
    """

    _deadline = math.inf
    _idle_seconds = 30.0

    def bound(self, deadline: float, idle_seconds: float) -> None:
        """No read from now on may last ``idle_seconds``, or beyond ``deadline`` (monotonic seconds)."""
        self._deadline = deadline
        self._idle_seconds = idle_seconds
        # Sending too: a request is small, but a full send buffer must not wait for ever.
        self.settimeout(idle_seconds)

    def recv_into(self, *args: object, **kwargs: object) -> int:
        """``socket.recv_into`` within the bounds. Raises TimeoutError."""
        remaining_seconds = self._deadline - time.monotonic()
        if remaining_seconds <= 0:
            raise TimeoutError("the deadline has passed")
        self.settimeout(min(self._idle_seconds, remaining_seconds))
        return super().recv_into(*args, **kwargs)  # type: ignore[arg-type]  # handed through as they came


class BoundedSocket(_Bounded, socket.socket):
    """A TCP socket with ``bound``."""


class BoundedTlsSocket(_Bounded, ssl.SSLSocket):
    """A TLS socket with ``bound``; made by a context whose ``sslsocket_class`` it is."""


class Dialer:
    """Opens sockets for one upstream. Used by many threads.

    ``home`` is the host of the configured base URL. What it resolves to may be dialled although it is not global, also
    when a document or redirect of this upstream names another host there; not so for a host that was seen at a global
    address before: that is a public name turning inwards. With ``adopts`` false the policy alone decides.
    """

    def __init__(
        self,
        home: str,
        policy: AddressPolicy,
        *,
        resolver: Resolver = system_resolver,
        resolve_seconds: float = 3.0,
        connect_seconds: float = 5.0,
        adopts: bool = True,
    ) -> None:
        self._home = home
        self._adopts = adopts
        self._policy = policy
        self._resolver = resolver
        self._resolve_seconds = resolve_seconds
        self.connect_seconds = connect_seconds
        self._lock = threading.Lock()
        self._home_was_global = False
        self._adopted: frozenset[IPAddress] = frozenset()
        self._adopted_at = -math.inf

    def dial(self, host: str, port: int, deadline: float = math.inf) -> BoundedSocket:
        """Connect before ``deadline`` (monotonic). Raises BlockedAddress, or OSError (TimeoutError, gaierror too)."""
        addresses = self._vetted(host, deadline)
        deadline = min(deadline, time.monotonic() + self.connect_seconds)
        problem: OSError = ConnectionError("no address")
        for left in range(len(addresses), 0, -1):
            # A share of what is left for each, so that a black hole first in the list does not use up all the time.
            share_seconds = (deadline - time.monotonic()) / left
            try:
                return _connect(addresses[-left], port, max(0.01, share_seconds))
            except OSError as failure:
                problem = failure
        raise problem

    def _vetted(self, host: str, deadline: float) -> list[IPAddress]:
        addresses = self._resolve(host, deadline)
        if self._adopts and host == self._home and literal_address(host) is None:
            self._learn(addresses)
        try:
            self._check(addresses)
        except BlockedAddress as blocked:
            # Only now is it worth knowing where the connection's own host is.
            may_learn = self._adopts and host != self._home and literal_address(self._home) is None
            if not (may_learn and self._is_adoption_old()):
                log.warning("address of %s refused: %s", host, blocked)
                raise
            self._learn(self._resolve(self._home, deadline))
            self._check(addresses)
        return addresses

    def _check(self, addresses: list[IPAddress]) -> None:
        # All of them: a name with one permitted and one refused address is a rebinding attempt, not a choice.
        adopted = self._adopted
        for address in addresses:
            self._policy.check(address, adopted)

    def _learn(self, addresses: list[IPAddress]) -> None:
        with self._lock:
            if any(scope_of(address) is Scope.GLOBAL for address in addresses):
                self._home_was_global = True
            self._adopted = frozenset() if self._home_was_global else adoptable(addresses)
            self._adopted_at = time.monotonic()

    def _is_adoption_old(self) -> bool:
        return time.monotonic() - self._adopted_at > _ADOPTION_SECONDS

    def _resolve(self, host: str, deadline: float) -> list[IPAddress]:
        literal = literal_address(host)
        if literal is not None:
            return [literal]
        answers: queue.SimpleQueue[Sequence[str] | OSError] = queue.SimpleQueue()

        def ask() -> None:
            try:
                answers.put(self._resolver(host))
            except (OSError, UnicodeError) as failure:  # getaddrinfo's own encoding refuses odd labels
                answers.put(failure if isinstance(failure, OSError) else socket.gaierror(str(failure)))

        patience_seconds = max(0.0, min(self._resolve_seconds, deadline - time.monotonic()))
        # getaddrinfo knows no time-out; the thread of a hanging one ends when the resolver gives up.
        threading.Thread(target=ask, name="resolve", daemon=True).start()
        try:
            answer = answers.get(timeout=patience_seconds)
        except queue.Empty:
            raise TimeoutError("the name was not resolved in time") from None
        if isinstance(answer, OSError):
            raise answer
        try:
            return [ip_address(text) for text in answer]
        except ValueError:  # a scoped address such as fe80::1%eth0
            raise BlockedAddress(f"{host!r} resolves to something that is not a plain address") from None


def _connect(address: IPAddress, port: int, timeout_seconds: float) -> BoundedSocket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    sock = BoundedSocket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_seconds)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect((str(address), port))
        _check_peer(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _check_peer(sock: socket.socket, address: IPAddress) -> None:
    """What counts is whom we talk to, not whom we meant to."""
    if ip_address(sock.getpeername()[0]) != address:
        raise BlockedAddress(f"dialled {address} and reached another address")
