"""Quotas of repositories and domains: what may be published, and what is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sqlalchemy import select

from registry import audit
from registry.access import Action
from registry.api.routes import Route
from registry.api.shapes import Between
from registry.errors import NotFound
from registry.http import context
from registry.http.auth import requires
from registry.models import Domain
from registry.repos import quotas, topology
from registry.repos.quotas import Quota


@dataclass(frozen=True, slots=True)
class NewQuota:
    """Most bytes that may be published; null for no bound. What is there already stays, whatever it says."""

    bytes: Annotated[int, Between(0, 2**62)] | None


def show_repository_quota() -> Quota:
    """What may be published in a repository, and what is."""
    with context.services().db.read() as session:
        return quotas.of_repository(session, context.admission().repository_id)


def put_repository_quota(domain: str, repository: str, body: NewQuota) -> Quota:
    """Bound what may be published in a repository."""
    services, caller = context.services(), context.caller()
    with services.db.write() as session:
        _, row = topology.find_repository(session, domain, repository)
        row.quota_bytes = body.bytes
        audit.record(
            session, services.clock(), caller.name, "repository.quota", f"{domain}/{repository}", bytes=body.bytes
        )
        session.flush()
        return quotas.of_repository(session, row.id)


def show_domain_quota(domain: str) -> Quota:
    """What may be published in all repositories of a domain together, and what is."""
    with context.services().db.read() as session:
        found = session.scalar(select(Domain.id).where(Domain.name == domain))
        if found is None:
            raise NotFound("domain", domain)
        return quotas.of_domain(session, found)


def put_domain_quota(domain: str, body: NewQuota) -> Quota:
    """Bound what may be published in all repositories of a domain together."""
    services, caller = context.services(), context.caller()
    with services.db.write() as session:
        row = session.scalar(select(Domain).where(Domain.name == domain))
        if row is None:
            raise NotFound("domain", domain)
        row.quota_bytes = body.bytes
        audit.record(session, services.clock(), caller.name, "domain.quota", domain, bytes=body.bytes)
        session.flush()
        return quotas.of_domain(session, row.id)


_MANAGE = "entrepot:ManageQuotas"
_OF_DOMAIN = "/domains/<domain>/quota"
_OF_REPOSITORY = "/domains/<domain>/repositories/<repository>/quota"
ROUTES = (
    Route("GET", _OF_REPOSITORY, requires(Action.READ, repository=True), show_repository_quota, answer=Quota),
    Route(
        "PUT",
        _OF_REPOSITORY,
        requires(Action.ADMIN, repository=True, permission=_MANAGE),
        put_repository_quota,
        body=NewQuota,
        answer=Quota,
    ),
    Route("GET", _OF_DOMAIN, requires(Action.ADMIN, domain=True, permission=_MANAGE), show_domain_quota, answer=Quota),
    Route(
        "PUT",
        _OF_DOMAIN,
        requires(Action.ADMIN, domain=True, permission=_MANAGE),
        put_domain_quota,
        body=NewQuota,
        answer=Quota,
    ),
)
