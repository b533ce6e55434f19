"""Quotas of repositories and domains: what may be published, and what is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sqlalchemy import select

from registry.access import Action
from registry.api.routes import Route
from registry.api.shapes import Between
from registry.errors import NotFound
from registry.http import context
from registry.http.auth import requires
from registry.models import Domain
from registry.rates import CostClass
from registry.repos import quotas
from registry.repos.quotas import Quota


@dataclass(frozen=True, slots=True)
class NewQuota:
    """Most bytes that may be published; null for no bound. What is there already stays, whatever it says."""

    bytes: Annotated[int, Between(0, 2**62)] | None


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Requests of one class (``read``, ``manage``, ``publish``, ``search``, ``mint``) a minute; null for no limit."""

    cost_class: str
    per_minute: int | None


@dataclass(frozen=True, slots=True)
class RateLimitList:
    """The limits of this server."""

    items: tuple[RateLimit, ...]
    next: str | None


def show_repository_quota() -> Quota:
    """What may be published in a repository, and what is."""
    with context.services().db.read() as session:
        return quotas.of_repository(session, context.admission().repository_id)


def put_repository_quota(domain: str, repository: str, body: NewQuota) -> Quota:
    """Bound what may be published in a repository."""
    services, caller = context.services(), context.caller()
    with services.db.write() as session:
        row_id = quotas.put_repository(session, domain, repository, body.bytes, caller.name, services.clock())
        return quotas.of_repository(session, row_id)


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
        row_id = quotas.put_domain(session, domain, body.bytes, caller.name, services.clock())
        return quotas.of_domain(session, row_id)


def list_rate_limits() -> RateLimitList:
    """How often each caller may ask in a minute, by what it costs: the `[limits]` of the settings."""
    rates = context.services().rates.rates
    return RateLimitList(tuple(RateLimit(cost.value, rates.get(cost) or None) for cost in CostClass), None)


_MANAGE = "entrepot:ManageQuotas"
_OF_DOMAIN = "/domains/<domain>/quota"
_OF_REPOSITORY = "/domains/<domain>/repositories/<repository>/quota"
ROUTES = (
    Route("GET", "/rate-limits", requires(Action.ADMIN), list_rate_limits, answer=RateLimitList),
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
