"""Repositories made and changed on somebody's behalf, with their entries, in one place for the API and the pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry import audit
from registry.access import Action, Identity, check
from registry.errors import Invalid, NotFound
from registry.models import Domain, Repository
from registry.names import RepositoryName
from registry.repos import topology

LONGEST_DESCRIPTION = 500


@dataclass(frozen=True, slots=True)
class Wanted:
    """A repository to make. ``upstreams`` are names of its domain in the order in which they are asked.

    ``connections`` maps a format to an index URL, or to None for the one its own tools point at; checked already.
    """

    name: RepositoryName
    description: str = ""
    upstreams: tuple[str, ...] = ()
    connections: Mapping[str, str | None] = field(default_factory=dict)
    anonymous_read: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What to change; None leaves it."""

    description: str | None = None
    upstreams: tuple[str, ...] | None = None
    anonymous_read: bool | None = None


def create(session: Session, domain: str, wanted: Wanted, caller: Identity, now: datetime) -> Repository:
    """Make a repository. Raises NotFound, Conflict for a taken name, Invalid, Denied for an upstream one may not read."""
    domain_id = session.scalar(select(Domain.id).where(Domain.name == domain))
    if domain_id is None:
        raise NotFound("domain", domain)
    made = topology.create_repository(
        session,
        domain_id,
        wanted.name,
        description=wanted.description,
        upstreams=_checked_upstreams(wanted.upstreams, domain, caller),
        external_formats=wanted.connections,
        anonymous_read=wanted.anonymous_read,
        now=now,
    )
    audit.record(
        session,
        now,
        caller.name,
        "repository.create",
        f"{domain}/{wanted.name}",
        upstreams=list(wanted.upstreams),
        external_connections=dict(wanted.connections),
        anonymous_read=wanted.anonymous_read,
    )
    session.flush()
    return made


def change(
    session: Session, domain: str, repository: str, wanted: Change, caller: Identity, now: datetime
) -> Repository:
    """Change a repository's description, upstreams or anonymous reading. Raises NotFound, Invalid and Denied.

    Whoever sets an upstream must be able to read it: its packages are served through this repository from then on.
    """
    _, row = topology.find_repository(session, domain, repository)
    changed: dict[str, object] = {}
    if wanted.description is not None:
        row.description = changed["description"] = wanted.description
    if wanted.anonymous_read is not None:
        row.anonymous_read = changed["anonymous_read"] = wanted.anonymous_read
    if wanted.upstreams is not None:
        changed["upstreams"] = list(wanted.upstreams)
        topology.set_upstreams(session, row, _checked_upstreams(wanted.upstreams, domain, caller))
    if changed:
        audit.record(session, now, caller.name, "repository.change", f"{domain}/{repository}", **changed)
    session.flush()
    return row


def _checked_upstreams(upstreams: tuple[str, ...], domain: str, caller: Identity) -> tuple[str, ...]:
    for name in upstreams:
        check(caller, Action.READ, f"{domain}/{name}")
    if len(set(upstreams)) != len(upstreams):
        raise Invalid("upstreams names a repository twice")
    return upstreams
