"""Groups of accounts: who is in them, and who says so."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from registry import audit
from registry.errors import Conflict, NotFound
from registry.models import Account, AccountGroup, GroupMember
from registry.names import GroupName, group_name
from registry.rulebook import bump

LOCAL = "local"
"""The source of memberships that an administrator of this server keeps."""


def create(session: Session, name: str, description: str, actor: str, now: datetime) -> AccountGroup:
    """Add a group. Raises Invalid for a bad name, Conflict for a taken one."""
    checked = group_name(name)
    if session.scalar(select(AccountGroup.id).where(AccountGroup.name == checked)) is not None:
        raise Conflict(f"group {name} exists already")
    group = AccountGroup(name=checked, description=description, created_at=now)
    session.add(group)
    session.flush()
    audit.record(session, now, actor, "group.create", f"group/{checked}")
    return group


def delete_group(session: Session, name: str, actor: str, now: datetime) -> None:
    """Take a group away with its memberships. Raises NotFound."""
    bump(session)
    session.delete(find(session, name))
    audit.record(session, now, actor, "group.delete", f"group/{name}")


def find(session: Session, name: str) -> AccountGroup:
    """The group of that name. Raises NotFound."""
    group = session.scalar(select(AccountGroup).where(AccountGroup.name == name))
    if group is None:
        raise NotFound("group", name)
    return group


def add_member(session: Session, name: str, account: Account, actor: str, now: datetime) -> None:
    """Put an account into a group by this server's own word; twice is harmless. Raises NotFound."""
    group = find(session, name)
    here = (group.id, account.id, LOCAL)
    if session.get(GroupMember, here) is None:
        bump(session)
        session.add(GroupMember(group_id=group.id, account_id=account.id, source=LOCAL))
        audit.record(session, now, actor, "group.add-member", f"group/{name}", user=account.name)


def remove_member(session: Session, name: str, account: Account, actor: str, now: datetime) -> None:
    """Take an account out of a group, whoever put it there. Raises NotFound when it is not in it."""
    group = find(session, name)
    mine = GroupMember.group_id == group.id, GroupMember.account_id == account.id
    if session.scalar(select(GroupMember.source).where(*mine).limit(1)) is None:
        raise NotFound("member", account.name)
    bump(session)
    session.execute(delete(GroupMember).where(*mine))
    audit.record(session, now, actor, "group.remove-member", f"group/{name}", user=account.name)


def of_account(session: Session, account_id: int) -> frozenset[GroupName]:
    """The groups an account is in, at this moment."""
    found = session.scalars(
        select(AccountGroup.name).join(GroupMember).where(GroupMember.account_id == account_id).distinct()
    )
    return frozenset(map(GroupName, found))


def members(session: Session, name: str) -> dict[str, list[str]]:
    """Who is in a group, and the sources that say so, by account name. Raises NotFound."""
    found = session.execute(
        select(Account.name, GroupMember.source)
        .join(GroupMember, GroupMember.account_id == Account.id)
        .where(GroupMember.group_id == find(session, name).id)
        .order_by(Account.name, GroupMember.source)
    ).all()
    listed: dict[str, list[str]] = {}
    for account, source in found:
        listed.setdefault(account, []).append(source)
    return listed


def sync(session: Session, account: Account, source: str, names: Collection[str], now: datetime) -> None:
    """Make the account's memberships of one source those in ``names``; groups that do not exist here are left out.

    An entry is written when that changes anything.
    """
    named = select(AccountGroup.id, AccountGroup.name).where(AccountGroup.name.in_(list(names)))
    known = {row.id: row.name for row in session.execute(named)}
    mine = GroupMember.account_id == account.id, GroupMember.source == source
    had = set(session.scalars(select(GroupMember.group_id).where(*mine)))
    if had == known.keys():
        return
    bump(session)
    session.execute(delete(GroupMember).where(*mine))
    if known:
        session.execute(
            insert(GroupMember),
            [{"group_id": group_id, "account_id": account.id, "source": source} for group_id in known],
        )
    audit.record(
        session, now, account.name, "group.sync", f"user/{account.name}", source=source, groups=sorted(known.values())
    )
