"""Taking domains and repositories away, with all that hangs from them, and with the rights that named them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Table, delete, func, or_, select
from sqlalchemy.orm import Session

from registry import audit
from registry.db import Base, table_of
from registry.errors import Conflict, NotFound
from registry.models import Account, Domain, Package, Repository, RepositoryUpstream, RetiredId, Token
from registry.repos import topology
from registry.rulebook import bump


def delete_repository(session: Session, domain: str, name: str, *, is_forced: bool, actor: str, now: datetime) -> None:
    """Delete a repository. Raises NotFound; Conflict while another one asks it, or while it holds packages unless forced."""
    domain_row, row = topology.find_repository(session, domain, name)
    users = session.scalars(
        select(Repository.name)
        .join(RepositoryUpstream, RepositoryUpstream.repository_id == Repository.id)
        .where(RepositoryUpstream.upstream_id == row.id)
        .order_by(Repository.name)
    ).all()
    if users:
        raise Conflict(f"{domain}/{name} is an upstream of {', '.join(users)}; change their upstreams first")
    held = _packages(session, Package.repository_id == row.id)
    _refuse_full(f"repository {domain}/{name}", held, is_forced=is_forced)
    bump(session)
    _raze(session, table_of(Repository), row.id)
    _forget_name(session, f"{domain}/{name}")
    topology.bump(session, domain_row.id)
    audit.record(session, now, actor, "repository.delete", f"{domain}/{name}", packages=held)


def delete_domain(session: Session, name: str, *, is_forced: bool, actor: str, now: datetime) -> None:
    """Delete a domain with its keys. Raises NotFound, or Conflict while it holds packages unless forced.

    Its bodies cannot be read from then on, and the next sweep removes them.
    """
    row = session.scalar(select(Domain).where(Domain.name == name))
    if row is None:
        raise NotFound("domain", name)
    inside = select(Repository.id).where(Repository.domain_id == row.id)
    held = _packages(session, Package.repository_id.in_(inside))
    _refuse_full(f"domain {name}", held, is_forced=is_forced)
    bump(session)
    for repository in session.scalars(select(Repository).where(Repository.domain_id == row.id)).all():
        _retire(session, "repository", repository.id)
        _forget_name(session, f"{name}/{repository.name}")
    _forget_name(session, f"{name}/*")
    _raze(session, table_of(Domain), row.id)
    audit.record(session, now, actor, "domain.delete", name, packages=held)


def _packages(session: Session, where: ColumnElement[bool]) -> int:
    return session.scalar(select(func.count()).select_from(Package).where(where)) or 0


def _refuse_full(what: str, held: int, *, is_forced: bool) -> None:
    if held and not is_forced:
        packages = "1 package" if held == 1 else f"{held} packages"
        raise Conflict(f"{what} holds {packages}; delete them first, or force it")


def _raze(session: Session, table: Table, row_id: int) -> None:
    """Delete a row, and before it every row of every table that hangs from it by foreign keys, however deep."""
    _retire(session, table.name, row_id)
    tables = Base.metadata.sorted_tables
    doomed: dict[Table, ColumnElement[bool]] = {table: table.c.id == row_id}
    for each in tables[tables.index(table) + 1 :]:
        links: list[Any] = [
            key.parent.in_(select(key.column).where(doomed[key.column.table]))
            for key in each.foreign_keys
            if key.column.table in doomed
        ]
        if links:
            doomed[each] = or_(*links)
    for each in reversed(tables):
        if each in doomed:
            session.execute(delete(each).where(doomed[each]))
    session.expire_all()


def _retire(session: Session, kind: str, row_id: int) -> None:
    kept = session.get(RetiredId, kind)
    if kept is None:
        session.add(RetiredId(kind=kind, highest=row_id))
    else:
        kept.highest = max(kept.highest, row_id)
    session.flush()


def _forget_name(session: Session, path: str) -> None:
    """Take a name out of accounts' and tokens' rights: a thing made anew under it is another thing."""
    holders: list[Account | Token] = [
        *session.scalars(select(Account).where(Account.repositories.is_not(None))),
        *session.scalars(select(Token).where(Token.repositories.is_not(None))),
    ]
    for holder in holders:
        if holder.repositories and path in holder.repositories:
            holder.repositories = [pattern for pattern in holder.repositories if pattern != path]
    session.flush()
