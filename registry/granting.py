"""Roles that accounts and groups have: granted, listed and taken away."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry import audit
from registry.access import Action, Identity
from registry.errors import Invalid, NotFound
from registry.models import Account, AccountGroup, Domain, Repository, RoleGrant
from registry.policy.places import Place
from registry.policy.roles import role_of
from registry.rulebook import bump, grants

SERVER = "server"
_PATTERN = re.compile(r"[A-Za-z0-9._*?-]{1,100}\Z")


@dataclass(frozen=True, slots=True)
class Grant:
    """A granted role. ``principal`` is ``user/NAME`` or ``group/NAME``.

    ``where`` is ``server``, ``DOMAIN`` or ``DOMAIN/REPOSITORY``, whose name may be a pattern with ``*`` and ``?``.
    """

    id: int
    role: str
    principal: str
    where: str
    granted_at: datetime
    granted_by: str


def place_of(where: str) -> Place:
    """The place that a role is granted on, to decide who may do that; a pattern stands for its domain. Raises Invalid."""
    domain, slash, repository = where.partition("/")
    if where == SERVER:
        return Place()
    if not domain or (slash and not _PATTERN.match(repository)) or any(sign in domain for sign in "*?"):
        raise Invalid(f"{where[:200]!r}: write server, DOMAIN, or DOMAIN/REPOSITORY (with * and ? in its name)")
    return Place(domain, "" if _is_pattern(repository) else repository)


def grant(session: Session, role: str, principal: str, where: str, *, actor: str, now: datetime) -> Grant:
    """Give a role; twice is harmless. Raises Invalid or NotFound."""
    role_of(role)
    place_of(where)
    bump(session)
    row = RoleGrant(
        role=role, created_at=now, created_by=actor, **_principal(session, principal), **_where(session, where)
    )
    had = next(
        (each for each in listed(session) if (each.role, each.principal, each.where) == (role, principal, where)), None
    )
    if had is not None:
        return had
    session.add(row)
    session.flush()
    audit.record(session, now, actor, "role.grant", principal, role=role, where=where)
    return Grant(row.id, role, principal, where, now, actor)


def find(session: Session, grant_id: int) -> Grant:
    """A granted role by its number. Raises NotFound."""
    found = next((each for each in listed(session) if each.id == grant_id), None)
    if found is None:
        raise NotFound("role grant", str(grant_id))
    return found


def find_managed(session: Session, grant_id: int, caller: Identity) -> Grant:
    """A granted role whose place's roles ``caller`` manages. Raises NotFound, also for one elsewhere."""
    found = find(session, grant_id)
    if not caller.decide(Action.ADMIN, place_of(found.where), "entrepot:ManageRoles").allowed:
        raise NotFound("role grant", str(grant_id))
    return found


def revoke(session: Session, grant_id: int, *, actor: str, now: datetime) -> None:
    """Take a granted role away. Raises NotFound."""
    bump(session)
    found = find(session, grant_id)
    session.delete(session.get_one(RoleGrant, grant_id))
    audit.record(session, now, actor, "role.revoke", found.principal, role=found.role, where=found.where)


def listed(session: Session) -> list[Grant]:
    """All granted roles, in the order in which they were given."""
    found = []
    for row, account, group, domain, repository in grants(session):
        principal = f"user/{account}" if account is not None else f"group/{group}"
        name = repository or row.pattern
        where = SERVER if domain is None else f"{domain}/{name}" if name else domain
        found.append(Grant(row.id, row.role, principal, where, row.created_at, row.created_by))
    return found


def _is_pattern(name: str) -> bool:
    return "*" in name or "?" in name


def _principal(session: Session, text: str) -> dict[str, int]:
    kind, _, name = text.partition("/")
    if kind not in {"user", "group"} or not name:
        raise Invalid(f"{text[:100]!r} is nobody: write user/NAME or group/NAME")
    if kind == "user":
        found = session.scalar(select(Account.id).where(Account.name == name))
    else:
        found = session.scalar(select(AccountGroup.id).where(AccountGroup.name == name))
    if found is None:
        raise NotFound(kind, name)
    return {"account_id" if kind == "user" else "group_id": found}


def _where(session: Session, where: str) -> dict[str, int | str]:
    if where == SERVER:
        return {}
    domain, _, repository = where.partition("/")
    domain_id = session.scalar(select(Domain.id).where(Domain.name == domain))
    if domain_id is None:
        raise NotFound("domain", domain)
    if not repository:
        return {"domain_id": domain_id}
    if _is_pattern(repository):
        return {"domain_id": domain_id, "pattern": repository}
    found = session.scalar(
        select(Repository.id).where(Repository.domain_id == domain_id, Repository.name == repository)
    )
    if found is None:
        raise NotFound("repository", where)
    return {"domain_id": domain_id, "repository_id": found}
