"""All accounts as administrators see them: looked for, and one of them with everything that gives it a right."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from registry import granting, second_factor
from registry.accounts import SESSION_IDLE, find_account
from registry.errors import Invalid
from registry.models import Account, AccountGroup, GroupMember, Token, Totp, WebSession

STATES, KINDS, FACTORS = ("active", "disabled"), ("person", "service"), ("on", "off")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which accounts; an empty text leaves a condition out.

    ``search`` is a part of the name, ``state`` one of STATES, ``kind`` of KINDS, ``second_factor`` of FACTORS.
    """

    search: str = ""
    state: str = ""
    kind: str = ""
    second_factor: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Person:
    """An account; ``repositories`` null means all, ``role_count`` counts roles given to it and to its groups.

    ``last_used_at`` is when one of its tokens was last used, to ten minutes.
    """

    name: str
    actions: tuple[str, ...]
    repositories: tuple[str, ...] | None
    has_password: bool
    is_disabled: bool
    is_service: bool
    created_at: datetime
    has_second_factor: bool
    groups: tuple[str, ...]
    role_count: int
    last_sign_in_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class HeldRole:
    """A role that an account has: ``through`` is ``group/NAME``, or null where it was given to the account itself."""

    id: int
    role: str
    where: str
    through: str | None
    granted_at: datetime
    granted_by: str


@dataclass(frozen=True, slots=True)
class Membership:
    """A group that an account is in, and who says so: ``local``, or an identity provider."""

    group: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PersonDetail:
    """An account, the roles and groups it has, and what is open in its name at this moment."""

    user: Person
    roles: tuple[HeldRole, ...]
    memberships: tuple[Membership, ...]
    recovery_codes_left: int
    session_count: int
    token_count: int


def listed(session: Session, wanted: Wanted, *, after: str, limit: int) -> list[Person]:
    """The accounts that are wanted, by name, behind ``after``. Raises Invalid for a word that is no state or kind."""
    query = _matching(wanted).where(Account.name > after).order_by(Account.name).limit(limit)
    return _people(session, session.scalars(query).all())


def shown(session: Session, name: str, now: datetime) -> PersonDetail:
    """One account. Raises NotFound."""
    account = find_account(session, name)
    (person,) = _people(session, [account])
    open_sessions = (
        select(func.count())
        .select_from(WebSession)
        .where(
            WebSession.account_id == account.id, WebSession.expires_at > now, WebSession.seen_at >= now - SESSION_IDLE
        )
    )
    live_tokens = (
        select(func.count())
        .select_from(Token)
        .where(Token.account_id == account.id, Token.revoked_at.is_(None), Token.expires_at > now)
    )
    return PersonDetail(
        person,
        tuple(_roles(session, person)),
        tuple(memberships(session, account.id)),
        second_factor.state_of(session, account.id).codes_left,
        session.scalar(open_sessions) or 0,
        session.scalar(live_tokens) or 0,
    )


def memberships(session: Session, account_id: int) -> list[Membership]:
    """The groups of an account by name."""
    found: dict[str, list[str]] = defaultdict(list)
    for group, source in session.execute(
        select(AccountGroup.name, GroupMember.source)
        .join(GroupMember, GroupMember.group_id == AccountGroup.id)
        .where(GroupMember.account_id == account_id)
        .order_by(AccountGroup.name, GroupMember.source)
    ):
        found[group].append(source)
    return [Membership(group, tuple(sources)) for group, sources in found.items()]


def _matching(wanted: Wanted) -> Select[Account]:
    for word, known in ((wanted.state, STATES), (wanted.kind, KINDS), (wanted.second_factor, FACTORS)):
        if word and word not in known:
            raise Invalid(f"{word[:60]!r} is none of {', '.join(known)}")
    query = select(Account)
    if wanted.search:
        query = query.where(Account.name.contains(wanted.search.lower(), autoescape=True))
    if wanted.state:
        query = query.where(Account.is_disabled == (wanted.state == "disabled"))
    if wanted.kind:
        query = query.where(Account.is_service == (wanted.kind == "service"))
    if wanted.second_factor:
        confirmed = select(Totp.account_id).where(Totp.confirmed_at.is_not(None))
        is_on = Account.id.in_(confirmed)
        query = query.where(is_on if wanted.second_factor == "on" else ~is_on)
    if wanted.group:
        members = select(GroupMember.account_id).join(AccountGroup).where(AccountGroup.name == wanted.group)
        query = query.where(Account.id.in_(members))
    return query


def _people(session: Session, accounts: Sequence[Account]) -> list[Person]:
    ids = [account.id for account in accounts]
    confirmed = set(
        session.scalars(select(Totp.account_id).where(Totp.account_id.in_(ids), Totp.confirmed_at.is_not(None)))
    )
    rows = session.execute(
        select(Token.account_id, func.max(Token.last_used_at))
        .where(Token.account_id.in_(ids))
        .group_by(Token.account_id)
    ).all()
    used = dict(rows)
    groups: dict[int, set[str]] = defaultdict(set)
    for account_id, group in session.execute(
        select(GroupMember.account_id, AccountGroup.name)
        .join(AccountGroup, AccountGroup.id == GroupMember.group_id)
        .where(GroupMember.account_id.in_(ids))
    ):
        groups[account_id].add(group)
    roles = Counter(grant.principal for grant in granting.listed(session))
    return [
        _person(account, sorted(groups[account.id]), account.id in confirmed, used.get(account.id), roles)
        for account in accounts
    ]


def _person(
    account: Account, groups: list[str], has_factor: bool, used_at: datetime | None, roles: Mapping[str, int]
) -> Person:
    principals = (f"user/{account.name}", *(f"group/{group}" for group in groups))
    return Person(
        account.name,
        tuple(account.actions),
        None if account.repositories is None else tuple(account.repositories),
        account.password_hash is not None,
        account.is_disabled,
        account.is_service,
        account.created_at,
        has_factor,
        tuple(groups),
        sum(roles.get(principal, 0) for principal in principals),
        account.last_sign_in_at,
        used_at,
    )


def _roles(session: Session, person: Person) -> list[HeldRole]:
    through = {f"user/{person.name}": None, **{f"group/{group}": f"group/{group}" for group in person.groups}}
    return [
        HeldRole(each.id, each.role, each.where, through[each.principal], each.granted_at, each.granted_by)
        for each in granting.listed(session)
        if each.principal in through
    ]
