"""Built-in roles and who has them, and groups of accounts, which roles and policies may name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from sqlalchemy import func, select

from registry import granting, groups
from registry.access import Action, check_at
from registry.accounts import find_account
from registry.api.routes import Route
from registry.api.shapes import Length
from registry.http import context
from registry.http.auth import requires, signed_in_api
from registry.models import AccountGroup, GroupMember
from registry.policy.roles import ROLES

MANAGE_ROLES = "entrepot:ManageRoles"


@dataclass(frozen=True, slots=True)
class RoleView:
    """A role: what it is for, and the actions it allows (lower case, ``*`` for all)."""

    name: str
    description: str
    actions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RoleList:
    """All roles there are."""

    items: tuple[RoleView, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class GrantList:
    """Roles that somebody has, as far as the caller may manage them."""

    items: tuple[granting.Grant, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class NewGrant:
    """``principal``: ``user/NAME`` or ``group/NAME``. ``where``: ``server``, ``DOMAIN`` or ``DOMAIN/REPOSITORY``."""

    role: Annotated[str, Length(1, 32)]
    principal: Annotated[str, Length(1, 100)]
    where: Annotated[str, Length(1, 200)]


@dataclass(frozen=True, slots=True)
class GroupView:
    """A group of accounts."""

    name: str
    description: str
    member_count: int
    created_time: datetime


@dataclass(frozen=True, slots=True)
class Member:
    """An account in a group, and who says so: ``local``, or an identity provider."""

    user: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GroupDetail:
    """A group and who is in it."""

    name: str
    description: str
    created_time: datetime
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class GroupList:
    """Groups by name."""

    items: tuple[GroupView, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class NewGroup:
    """A group to make."""

    name: str
    description: Annotated[str, Length(0, 500)] = ""


def list_roles() -> RoleList:
    """The built-in roles."""
    return RoleList(tuple(RoleView(role.name, role.meaning, role.actions) for role in ROLES.values()), None)


def list_role_grants() -> GrantList:
    """Who has which role where, in the places whose roles the caller manages."""
    caller = context.caller()
    with context.services().db.read() as session:
        found = granting.listed(session)
    shown = (each for each in found if caller.decide(Action.ADMIN, granting.place_of(each.where), MANAGE_ROLES).allowed)
    return GrantList(tuple(shown), None)


def grant_role(body: NewGrant) -> granting.Grant:
    """Give a user or a group a role; whoever gives it must be allowed to manage roles there. Twice is harmless."""
    services, caller = context.services(), context.caller()
    check_at(caller, Action.ADMIN, granting.place_of(body.where), MANAGE_ROLES)
    with services.db.write() as session:
        return granting.grant(session, body.role, body.principal, body.where, actor=caller.name, now=services.clock())


def revoke_role(grant_id: int) -> None:
    """Take a granted role away. It counts from the next request on."""
    services, caller = context.services(), context.caller()
    with services.db.write() as session:
        granting.find_managed(session, grant_id, caller)
        granting.revoke(session, grant_id, actor=caller.name, now=services.clock())


def list_groups() -> GroupList:
    """All groups."""
    with context.services().db.read() as session:
        rows = session.execute(
            select(AccountGroup, func.count(GroupMember.account_id.distinct()))
            .outerjoin(GroupMember, GroupMember.group_id == AccountGroup.id)
            .group_by(AccountGroup.id)
            .order_by(AccountGroup.name)
        )
        found = [GroupView(row.name, row.description, count, row.created_at) for row, count in rows]
    return GroupList(tuple(sorted(found, key=lambda group: group.name)), None)


def create_group(body: NewGroup) -> GroupDetail:
    """Make a group."""
    services, caller = context.services(), context.caller()
    with services.db.write() as session:
        made = groups.create(session, body.name, body.description, caller.name, services.clock())
        return GroupDetail(made.name, made.description, made.created_at, ())


def show_group(group: str) -> GroupDetail:
    """A group and its members."""
    with context.services().db.read() as session:
        row = groups.find(session, group)
        members = groups.members(session, group)
    return GroupDetail(
        row.name,
        row.description,
        row.created_at,
        tuple(Member(user, tuple(sources)) for user, sources in sorted(members.items())),
    )


def delete_group(group: str) -> None:
    """Delete a group. What its members had through it ends with their next request."""
    services, caller = context.services(), context.caller()
    with services.db.write() as session:
        groups.delete_group(session, group, caller.name, services.clock())


def add_member(group: str, user: str) -> None:
    """Put somebody into a group; twice is harmless."""
    services, caller = context.services(), context.caller()
    with services.db.write() as session:
        groups.add_member(session, group, find_account(session, user), caller.name, services.clock())


def remove_member(group: str, user: str) -> None:
    """Take somebody out of a group. What they had through it ends with their next request."""
    services, caller = context.services(), context.caller()
    with services.db.write() as session:
        groups.remove_member(session, group, find_account(session, user), caller.name, services.clock())


_manage = requires(Action.ADMIN, permission="entrepot:ManageGroups")
_GROUP = "/groups/<group>"
_MEMBER = f"{_GROUP}/members/<user>"
ROUTES = (
    Route("GET", "/roles", signed_in_api, list_roles, answer=RoleList),
    Route("GET", "/role-grants", signed_in_api, list_role_grants, answer=GrantList),
    Route("POST", "/role-grants", signed_in_api, grant_role, body=NewGrant, answer=granting.Grant, status=201),
    Route("DELETE", "/role-grants/<id:grant_id>", signed_in_api, revoke_role, status=204),
    Route("GET", "/groups", _manage, list_groups, answer=GroupList),
    Route("POST", "/groups", _manage, create_group, body=NewGroup, answer=GroupDetail, status=201),
    Route("GET", _GROUP, _manage, show_group, answer=GroupDetail),
    Route("DELETE", _GROUP, _manage, delete_group, status=204),
    Route("PUT", _MEMBER, _manage, add_member, status=204),
    Route("DELETE", _MEMBER, _manage, remove_member, status=204),
)
