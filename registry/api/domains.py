"""Domains: which there are, making and deleting them. What is in one is never seen from another."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from registry import audit
from registry.access import Action
from registry.api.codeartifact import DomainDescription, DomainEntry
from registry.api.routes import Route
from registry.api.shapes import Length
from registry.errors import Invalid, NotFound
from registry.http import context
from registry.http.auth import requires, signed_in_api
from registry.models import Asset, Blob, Domain, Package, Repository
from registry.names import domain_name
from registry.repos import removal, topology


@dataclass(frozen=True, slots=True)
class DomainView:
    """A domain, in CodeArtifact's words. ``assetSizeBytes`` counts each body once, however often it is used.

    ``domain`` has what CodeArtifact has under that name.
    """

    name: str
    arn: str
    status: str
    created_time: datetime
    repository_count: int
    package_count: int
    asset_count: int
    asset_size_bytes: int
    domain: DomainDescription


@dataclass(frozen=True, slots=True)
class DomainList:
    """Domains by name; ``next`` is null: there are never so many. ``domains`` says the same in CodeArtifact's words."""

    items: tuple[DomainView, ...]
    next: str | None
    domains: tuple[DomainEntry, ...]
    next_token: str | None


@dataclass(frozen=True, slots=True)
class NewDomain:
    """A domain to make, with a key of its own and no repository."""

    name: str


@dataclass(frozen=True, slots=True)
class Removal:
    """``force=true`` deletes what holds packages as well."""

    force: Annotated[str, Length(0, 5)] = "false"

    @property
    def is_forced(self) -> bool:
        """Whether packages go with it. Raises Invalid for another word than true or false."""
        if self.force not in {"true", "false"}:
            raise Invalid("force is true or false")
        return self.force == "true"


def list_domains() -> DomainList:
    """The domains that the caller may look into: all of it, or some repository of it."""
    with context.services().db.read() as session:
        names = session.scalars(select(Domain.name).order_by(Domain.name)).all()
        found = [_view(session, name) for name in names if is_visible(session, name)]
    items = sorted(found, key=lambda item: item.name)
    entries = (DomainEntry(each.name, each.arn, each.status, each.created_time) for each in items)
    return DomainList(tuple(items), None, tuple(entries), None)


def show_domain(domain: str) -> DomainView:
    """One domain."""
    with context.services().db.read() as session:
        if not is_visible(session, domain):
            raise NotFound("domain", domain)
        return _view(session, domain)


def create_domain(body: NewDomain) -> DomainView:
    """Make a domain."""
    services, caller = context.services(), context.caller()
    name, now = domain_name(body.name), services.clock()
    with services.db.write() as session:
        made = topology.create_domain(session, name, now)
        services.stores.new_key(session, made.id, now)
        audit.record(session, now, caller.name, "domain.create", name)
        session.flush()
        return _view(session, name)


def delete_domain(domain: str, query: Removal) -> None:
    """Delete a domain with everything in it; refused while it holds packages unless `force=true`."""
    services, caller = context.services(), context.caller()
    with services.db.write() as session:
        removal.delete_domain(session, domain, is_forced=query.is_forced, actor=caller.name, now=services.clock())


def delete_repository(domain: str, repository: str, query: Removal) -> None:
    """Delete a repository; refused while it holds packages unless `force=true`, and while another one asks it."""
    services, caller = context.services(), context.caller()
    with services.db.write() as session:
        removal.delete_repository(
            session, domain, repository, is_forced=query.is_forced, actor=caller.name, now=services.clock()
        )


def is_visible(session: Session, domain: str) -> bool:
    """Whether the caller may know of a domain: from rights on it, or on some repository of it."""
    who = context.identity()
    domain_id = session.scalar(select(Domain.id).where(Domain.name == domain))
    if domain_id is None:
        return who is not None and who.may(Action.ADMIN)
    rows = session.execute(
        select(Repository.name, Repository.anonymous_read).where(Repository.domain_id == domain_id)
    ).all()
    if who is None:
        return any(is_open for _, is_open in rows)
    return who.may(Action.READ, domain=domain, permission="codeartifact:DescribeDomain") or any(
        who.may(Action.READ, f"{domain}/{name}") for name, _ in rows
    )


def _view(session: Session, name: str) -> DomainView:
    domain = session.scalar(select(Domain).where(Domain.name == name))
    if domain is None:
        raise NotFound("domain", name)
    repositories = select(Repository.id).where(Repository.domain_id == domain.id)
    packages = select(Package.id).where(Package.repository_id.in_(repositories))

    def count(of: type[Repository | Package | Asset], where: object) -> int:
        return session.scalar(select(func.count()).select_from(of).where(where)) or 0  # type: ignore[arg-type]

    size = session.scalar(select(func.coalesce(func.sum(Blob.size_bytes), 0)).where(Blob.domain_id == domain.id))
    described = DomainDescription(
        domain.name,
        f"domain/{domain.name}",
        "Active",
        domain.created_at,
        count(Repository, Repository.domain_id == domain.id),
        int(size or 0),
    )
    return DomainView(
        described.name,
        described.arn,
        described.status,
        described.created_time,
        described.repository_count,
        count(Package, Package.repository_id.in_(repositories)),
        count(Asset, Asset.package_id.in_(packages)),
        described.asset_size_bytes,
        described,
    )


_DOMAIN = "/domains/<domain>"
ROUTES = (
    Route("GET", "/domains", signed_in_api, list_domains, answer=DomainList),
    Route(
        "POST",
        "/domains",
        requires(Action.ADMIN, permission="codeartifact:CreateDomain"),
        create_domain,
        body=NewDomain,
        answer=DomainView,
        status=201,
    ),
    Route("GET", _DOMAIN, signed_in_api, show_domain, answer=DomainView),
    Route(
        "DELETE",
        _DOMAIN,
        requires(Action.ADMIN, domain=True, permission="codeartifact:DeleteDomain"),
        delete_domain,
        query=Removal,
        status=204,
    ),
    Route(
        "DELETE",
        f"{_DOMAIN}/repositories/<repository>",
        requires(Action.ADMIN, repository=True, permission="codeartifact:DeleteRepository"),
        delete_repository,
        query=Removal,
        status=204,
    ),
)
