"""What is asked of an upstream and what it can answer. Everything but these answers is ``UpstreamUnavailable``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from registry.upstream.guard import AddressPolicy


@dataclass(frozen=True, slots=True)
class Upstream:
    """One external connection as the client sees it.

    ``base_url`` holds no user name or password. ``credential`` (user, password) goes as Basic, ``token`` as Bearer, to
    exactly the scheme, host and port of ``base_url``. ``ca_bundle`` is a file or directory of certificates that
    replaces the usual ones, ``ca_pem`` the text of such a file, which goes before it.
    """

    id: int
    base_url: str
    policy: AddressPolicy = field(default_factory=AddressPolicy)
    credential: tuple[str, str] | None = field(default=None, repr=False)
    ca_bundle: str | None = None
    token: str | None = field(default=None, repr=False)
    ca_pem: str | None = field(default=None, repr=False)


class Watcher(Protocol):
    """Told how each question to an upstream ended. Called by many threads; it must not raise and must be quick."""

    def succeeded(self, upstream_id: int, /) -> None:
        """A usable answer, a sure absence among them."""

    def failed(self, upstream_id: int, reason: str, left_alone_seconds: float, /) -> None:
        """No usable answer, for ``reason``; its origin is left alone for ``left_alone_seconds`` from now on."""


class NoWatcher:
    """Nobody wants to know."""

    def succeeded(self, upstream_id: int, /) -> None:
        """Nothing happens."""

    def failed(self, upstream_id: int, reason: str, left_alone_seconds: float, /) -> None:
        """Nothing happens."""


@dataclass(frozen=True, slots=True)
class Found:
    """A whole document, decoded. ``final_url`` (after redirects, without query) is what its relative links refer to."""

    body: bytes = field(repr=False)
    content_type: str
    final_url: str
    etag: str | None
    last_modified: str | None
    max_age_seconds: int | None


@dataclass(frozen=True, slots=True)
class FilePart:
    """Some bytes of a file, from ``start`` on, of ``size_bytes`` in all. Nothing vouches for them but the upstream."""

    data: bytes = field(repr=False)
    start: int
    size_bytes: int
    last_modified: str | None


@dataclass(frozen=True, slots=True)
class FileHead:
    """What an upstream says of a file without sending it: its length, and digests in lower-case hex by algorithm."""

    size_bytes: int
    checksums: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class NotModified:
    """The document that the caller's validators belong to is still the one."""

    max_age_seconds: int | None


@dataclass(frozen=True, slots=True)
class MissingUpstream:
    """The upstream is sure that there is no such document (404 or 410, nothing else)."""


DocumentAnswer = Found | NotModified | MissingUpstream


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Patience, in seconds unless the name says otherwise."""

    resolve_seconds: float = 3.0
    connect_seconds: float = 5.0  # and as long again for the TLS handshake
    head_seconds: float = 15.0  # from the request to the end of the response's head
    idle_seconds: float = 30.0  # between two pieces of a body
    document_seconds: float = 25.0  # a document with its redirects and retries; a file until its head
    file_grace_seconds: float = 60.0  # time spent waiting for a file's body beyond what the floor grants
    file_floor_bytes_per_second: int = 16 * 1024
    retries: int = 2
    backoff_seconds: float = 0.25  # doubled per retry, full jitter
    longest_wait_seconds: float = 5.0  # a Retry-After up to this is waited for, a longer one is passed on
    longest_hold_seconds: float = 300.0
    breaker_failures: int = 5
    breaker_probe_seconds: float = 15.0
    idle_connections: int = 16  # kept per origin
    idle_connection_seconds: float = 45.0
