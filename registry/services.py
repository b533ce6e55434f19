"""What serving a request needs, assembled once per process by the composition root."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from registry.accounts import Accounts
from registry.clock import Clock
from registry.db import Database
from registry.format import Format
from registry.idempotency import Idempotency
from registry.leaks import LeakGuard
from registry.oidc.relying import Relying
from registry.rates import RateLimits
from registry.repos.admission import Admissions
from registry.repos.ahead import ReadAhead
from registry.repos.connections import Connections
from registry.repos.documents import DocumentCache
from registry.repos.idle import IdleVersions
from registry.repos.keep import Files
from registry.repos.publish import Publisher
from registry.repos.resolve import Resolver
from registry.repos.signing import Signer
from registry.repos.states import FROZEN_AFTER
from registry.repos.upstreams import Upstreams
from registry.stores import DomainStores
from registry.upstream.client import UpstreamClient
from storage.blobs import GIB


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes beyond which a request is refused."""

    upload_bytes: int = 4 * GIB
    json_bytes: int = 1024 * 1024


def _no_providers() -> Relying:
    return Relying((), UpstreamClient(), "")


@dataclass(frozen=True)
class Services:
    """The registry's parts. Immutable; each part is safe for many threads."""

    db: Database
    stores: DomainStores
    accounts: Accounts
    clock: Clock
    formats: Mapping[str, Format]
    admissions: Admissions
    resolver: Resolver
    files: Files
    publisher: Publisher
    connections: Connections
    idle: IdleVersions
    documents: DocumentCache
    upstreams: Upstreams
    signer: Signer
    ahead: ReadAhead
    rates: RateLimits
    leaks: LeakGuard
    idempotency: Idempotency
    relying: Relying = field(default_factory=_no_providers)
    limits: Limits = Limits()
    release_frozen_after: timedelta = FROZEN_AFTER
    public_url: str | None = None
    cookie_secure: bool = False
    readiness: tuple[Callable[[], None], ...] = field(default=())
