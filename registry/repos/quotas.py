"""How much may be published into a repository, and into all repositories of a domain together.

Counted is what somebody put there, by publishing, promoting or copying. What is kept of upstreams has a bound of its own
(``storage.cache_limit_bytes``), because it can go without a loss. A domain keeps a body once, however many of its
repositories refer to it, and counts it once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from registry import audit
from registry.errors import NotFound, QuotaExceeded
from registry.models import Asset, Blob, Domain, Package, Repository
from registry.repos import topology
from registry.repos.kept_rows import BY_UPSTREAM


@dataclass(frozen=True, slots=True)
class Quota:
    """``used_bytes`` of ``bytes`` (None: there is no bound)."""

    bytes: int | None
    used_bytes: int


def of_repository(session: Session, repository_id: int) -> Quota:
    """A repository's quota and what is used of it."""
    bound = session.scalar(select(Repository.quota_bytes).where(Repository.id == repository_id))
    return Quota(bound, _used_by_repository(session, repository_id))


def of_domain(session: Session, domain_id: int) -> Quota:
    """A domain's quota and what is used of it."""
    bound = session.scalar(select(Domain.quota_bytes).where(Domain.id == domain_id))
    return Quota(bound, _used_by_domain(session, domain_id))


@dataclass(frozen=True, slots=True)
class Used:
    """A repository of a domain with its quota."""

    repository: str
    quota: Quota


def of_repositories(session: Session, domain_id: int) -> list[Used]:
    """The quota of every repository of a domain, by name, and what is used of each; asked at once."""
    sums = session.execute(
        _put_there()
        .join(Package, Package.id == Asset.package_id)
        .join(Repository, Repository.id == Package.repository_id)
        .where(Repository.domain_id == domain_id)
        .group_by(Package.repository_id)
        .with_only_columns(Package.repository_id, func.sum(Asset.size_bytes))
    ).all()
    counted = dict(sums)
    rows = session.execute(
        select(Repository.id, Repository.name, Repository.quota_bytes)
        .where(Repository.domain_id == domain_id)
        .order_by(Repository.name)
    )
    return [Used(name, Quota(bound, int(counted.get(row_id) or 0))) for row_id, name, bound in rows]


def put_repository(session: Session, domain: str, repository: str, bound: int | None, actor: str, now: datetime) -> int:
    """Bound what may be published in a repository (None: no bound); returns its id. Raises NotFound."""
    _, row = topology.find_repository(session, domain, repository)
    row.quota_bytes = bound
    audit.record(session, now, actor, "repository.quota", f"{domain}/{repository}", bytes=bound)
    session.flush()
    return row.id


def put_domain(session: Session, domain: str, bound: int | None, actor: str, now: datetime) -> int:
    """Bound what may be published in all repositories of a domain together; returns its id. Raises NotFound."""
    row = session.scalar(select(Domain).where(Domain.name == domain))
    if row is None:
        raise NotFound("domain", domain)
    row.quota_bytes = bound
    audit.record(session, now, actor, "domain.quota", domain, bytes=bound)
    session.flush()
    return row.id


def check(session: Session, repository_id: int) -> None:
    """Raise QuotaExceeded when more is in the repository, or its domain, than may be; the caller has just added to it.

    Where there is a bound, writers wait for each other at its row, so that two do not both find room for one. The lock
    is the weaker one (FOR NO KEY UPDATE): each has a key share of that row already, for the package it has made.
    """
    row = session.execute(
        select(Domain.id, Domain.name, Domain.quota_bytes, Repository.name, Repository.quota_bytes)
        .join(Repository, Repository.domain_id == Domain.id)
        .where(Repository.id == repository_id)
    ).one()
    domain_id, domain, of_all, repository, of_one = row
    if of_one is not None:
        session.execute(select(Repository.id).where(Repository.id == repository_id).with_for_update(key_share=True))
        _refuse_over(f"the repository {domain}/{repository}", of_one, _used_by_repository(session, repository_id))
    if of_all is not None:
        session.execute(select(Domain.id).where(Domain.id == domain_id).with_for_update(key_share=True))
        _refuse_over(f"the domain {domain}", of_all, _used_by_domain(session, domain_id))


def _refuse_over(what: str, bound_bytes: int, used_bytes: int) -> None:
    if used_bytes > bound_bytes:
        raise QuotaExceeded(what, bound_bytes, used_bytes)


def _put_there() -> Select[Any]:
    return select(Asset.blob_id).where(Asset.published_by != BY_UPSTREAM)


def _used_by_repository(session: Session, repository_id: int) -> int:
    counted = (
        _put_there()
        .join(Package, Package.id == Asset.package_id)
        .where(Package.repository_id == repository_id)
        .with_only_columns(func.coalesce(func.sum(Asset.size_bytes), 0))
    )
    return int(session.execute(counted).scalar_one())


def _used_by_domain(session: Session, domain_id: int) -> int:
    bodies = (
        _put_there()
        .join(Package, Package.id == Asset.package_id)
        .join(Repository, Repository.id == Package.repository_id)
        .where(Repository.domain_id == domain_id)
    )
    return int(
        session.execute(select(func.coalesce(func.sum(Blob.size_bytes), 0)).where(Blob.id.in_(bodies))).scalar_one()
    )
