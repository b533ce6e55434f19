"""Which repositories a repository is made of: its chain of upstreams, and the external connections at its ends."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from registry.errors import Conflict, Invalid, NotFound
from registry.models import (
    Domain,
    ExternalConnection,
    PackageGroup,
    PackageGroupRepository,
    Repository,
    RepositoryUpstream,
    RetiredId,
)
from registry.names import DomainName, RepositoryName
from registry.repos.group_patterns import Group, GroupTree, Mode, Restriction, parse
from registry.repos.origins import Facts

LONGEST_CHAIN = 32


@dataclass(frozen=True, slots=True)
class Connection:
    """An external connection as resolution needs it; ``url`` None means the ecosystem's own default.

    ``sealed_credential`` opens with the key ring of the domain (``registry.repos.connections.open_credential``).
    """

    id: int
    repository_id: int
    format: str
    name: str
    url: str | None
    domain_id: int = 0
    sealed_credential: bytes | None = field(default=None, repr=False)
    ca_pem: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Node:
    """A repository in a chain, with its own external connections."""

    id: int
    name: str
    connections: tuple[Connection, ...]


@dataclass(frozen=True, slots=True)
class Topology:
    """All repositories and package groups of a domain at one ``revision``."""

    domain_id: int
    domain: str
    revision: int
    nodes: Mapping[int, Node]
    upstreams: Mapping[int, tuple[int, ...]]
    groups: GroupTree = field(default_factory=GroupTree)
    remembered: dict[Hashable, Facts] = field(default_factory=dict, compare=False, repr=False)
    """Decisions' facts under this revision, as long as it counts; see ``held.facts_from``."""

    def chain(self, repository_id: int) -> tuple[Node, ...]:
        """The repository, then its upstreams depth first, each once: the order in which they are asked."""
        found: dict[int, Node] = {}

        def visit(at: int) -> None:
            if at in found:
                return
            found[at] = self.nodes[at]
            for upstream in self.upstreams.get(at, ()):
                visit(upstream)

        visit(repository_id)
        return tuple(found.values())


def load(session: Session, domain_id: int) -> Topology:
    """Read a domain's topology."""
    domain = session.get_one(Domain, domain_id)
    connections: dict[int, list[Connection]] = {}
    rows = session.execute(
        select(ExternalConnection)
        .join(Repository)
        .where(Repository.domain_id == domain_id)
        .order_by(ExternalConnection.position, ExternalConnection.id)
    ).scalars()
    for row in rows:
        connections.setdefault(row.repository_id, []).append(
            Connection(
                row.id,
                row.repository_id,
                row.format,
                row.name,
                row.url,
                domain_id,
                row.sealed_credential,
                row.ca_bundle,
            )
        )
    nodes = {
        repository.id: Node(repository.id, repository.name, tuple(connections.get(repository.id, ())))
        for repository in session.scalars(select(Repository).where(Repository.domain_id == domain_id))
    }
    upstreams: dict[int, list[int]] = {}
    for link in session.scalars(
        select(RepositoryUpstream)
        .where(RepositoryUpstream.repository_id.in_(nodes))
        .order_by(RepositoryUpstream.repository_id, RepositoryUpstream.position)
    ):
        upstreams.setdefault(link.repository_id, []).append(link.upstream_id)
    return Topology(
        domain_id,
        domain.name,
        domain.topology_revision,
        nodes,
        {key: tuple(ids) for key, ids in upstreams.items()},
        load_groups(session, domain_id),
    )


def load_groups(session: Session, domain_id: int) -> GroupTree:
    """Read a domain's package groups."""
    named: dict[int, dict[Restriction, set[int]]] = {}
    lists = select(PackageGroupRepository).join(PackageGroup).where(PackageGroup.domain_id == domain_id)
    for entry in session.scalars(lists):
        named.setdefault(entry.group_id, {}).setdefault(Restriction(entry.restriction), set()).add(entry.repository_id)
    return GroupTree(
        Group(
            parse(row.pattern),
            {
                Restriction.PUBLISH: Mode(row.publish),
                Restriction.INTERNAL_UPSTREAM: Mode(row.internal_upstream),
                Restriction.EXTERNAL_UPSTREAM: Mode(row.external_upstream),
            },
            {restriction: frozenset(ids) for restriction, ids in named.get(row.id, {}).items()},
            row.description,
            row.contact_info,
            row.created_at,
        )
        for row in session.scalars(select(PackageGroup).where(PackageGroup.domain_id == domain_id))
    )


class TopologyCache:
    """The last topology of each domain, per process; a caller that knows a newer revision makes it load again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[int, Topology] = {}

    def peek(self, domain_id: int) -> Topology | None:
        """What is known without asking the database; may be old."""
        with self._lock:
            return self._known.get(domain_id)

    def current(self, session: Session, domain_id: int) -> Topology:
        """The topology as of the transaction of ``session``, whatever the caller knew before."""
        revision = session.scalar(select(Domain.topology_revision).where(Domain.id == domain_id))
        return self.get(session, domain_id, revision or 0)

    def get(self, session: Session, domain_id: int, revision: int) -> Topology:
        """The topology at ``revision`` or newer."""
        known = self.peek(domain_id)
        if known is not None and known.revision >= revision:
            return known
        loaded = load(session, domain_id)
        with self._lock:
            self._known[domain_id] = loaded
        return loaded


def bump(session: Session, domain_id: int) -> None:
    """Say that the domain's topology changed, in the transaction of the change."""
    session.execute(update(Domain).where(Domain.id == domain_id).values(topology_revision=Domain.topology_revision + 1))


def create_domain(session: Session, name: DomainName, now: datetime) -> Domain:
    """Add a domain. Raises Conflict."""
    if session.scalar(select(Domain.id).where(Domain.name == name)) is not None:
        raise Conflict(f"domain {name} exists already")
    domain = Domain(id=_unused_id(session, Domain), name=name, topology_revision=1, created_at=now)
    session.add(domain)
    session.flush()
    return domain


def create_repository(
    session: Session,
    domain_id: int,
    name: RepositoryName,
    *,
    description: str = "",
    upstreams: Sequence[str] = (),
    external_formats: Mapping[str, str | None] | None = None,
    anonymous_read: bool = False,
    now: datetime,
) -> Repository:
    """Add a repository with its upstreams (by name, in order) and external connections (format → URL or None).

    Raises Conflict for a taken name, NotFound for an unknown upstream, Invalid for a chain that is too long.
    """
    if session.scalar(select(Repository.id).where(Repository.domain_id == domain_id, Repository.name == name)):
        raise Conflict(f"repository {name} exists already")
    repository = Repository(
        id=_unused_id(session, Repository),
        domain_id=domain_id,
        name=name,
        description=description,
        anonymous_read=anonymous_read,
        created_at=now,
    )
    session.add(repository)
    session.flush()
    for format_name, url in (external_formats or {}).items():
        session.add(
            ExternalConnection(
                repository_id=repository.id, format=format_name, name="public", url=url, position=0, created_at=now
            )
        )
    if upstreams:
        set_upstreams(session, repository, upstreams)
    else:
        session.flush()
        bump(session, domain_id)
    return repository


def _unused_id(session: Session, model: type[Domain | Repository]) -> int | None:
    """A row number that no deleted thing had, where the database would give such a one away again; None elsewhere."""
    retired = session.get(RetiredId, model.__tablename__)
    if retired is None or session.get_bind().dialect.name != "sqlite":
        return None
    return max(retired.highest, session.scalar(select(func.max(model.id))) or 0) + 1


def set_upstreams(session: Session, repository: Repository, upstreams: Sequence[str]) -> None:
    """Replace a repository's upstreams. Raises NotFound, or Invalid for a cycle or a chain of more than 32."""
    ids = []
    for name in upstreams:
        found = session.scalar(
            select(Repository.id).where(Repository.domain_id == repository.domain_id, Repository.name == name)
        )
        if found is None:
            raise NotFound("repository", name)
        ids.append(found)
    for old in session.scalars(select(RepositoryUpstream).where(RepositoryUpstream.repository_id == repository.id)):
        session.delete(old)
    session.flush()
    for position, upstream_id in enumerate(ids):
        session.add(RepositoryUpstream(repository_id=repository.id, upstream_id=upstream_id, position=position))
    session.flush()
    bump(session, repository.domain_id)
    # The links alone: whoever makes hundreds of repositories at once asks hundreds of times.
    links = _links(session, repository.domain_id)
    chain = _reached(links, repository.id)
    if repository.id in chain:
        raise Invalid(f"repository {repository.name} would be its own upstream")
    if len(chain) + 1 > LONGEST_CHAIN:
        raise Invalid(f"a chain of upstreams has at most {LONGEST_CHAIN} repositories")


def _links(session: Session, domain_id: int) -> Mapping[int, list[int]]:
    """Of each repository of a domain that has upstreams, their ids."""
    found: dict[int, list[int]] = {}
    rows = session.execute(
        select(RepositoryUpstream.repository_id, RepositoryUpstream.upstream_id)
        .join(Repository, Repository.id == RepositoryUpstream.repository_id)
        .where(Repository.domain_id == domain_id)
    )
    for repository_id, upstream_id in rows:
        found.setdefault(repository_id, []).append(upstream_id)
    return found


def _reached(links: Mapping[int, list[int]], start: int) -> set[int]:
    """All that is asked behind a repository; itself only where the links go in a circle."""
    waiting, seen = list(links.get(start, ())), set[int]()
    while waiting:
        at = waiting.pop()
        if at not in seen:
            seen.add(at)
            waiting.extend(links.get(at, ()))
    return seen


def find_repository(session: Session, domain: str, repository: str) -> tuple[Domain, Repository]:
    """A repository by its names. Raises NotFound."""
    row = session.execute(
        select(Domain, Repository)
        .join(Repository, Repository.domain_id == Domain.id)
        .where(Domain.name == domain, Repository.name == repository)
    ).first()
    if row is None:
        raise NotFound("repository", f"{domain}/{repository}")
    return row[0], row[1]
