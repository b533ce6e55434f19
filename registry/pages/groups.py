"""Groups of accounts: who is in them and who says so, and what roles their members have through them."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, render_template, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import func, select

from registry import granting, groups
from registry.access import Action, check
from registry.accounts import find_account
from registry.errors import Conflict, Invalid, NotFound, Problem
from registry.http import context
from registry.http.auth import page
from registry.http.problems import status_of
from registry.models import AccountGroup, GroupMember
from registry.pages.administration import MANAGE_GROUPS, RoleForm, asked, back_to, sentence, text
from registry.pages.appearance import redirect_with
from registry.pages.proof import proved
from registry.policy.roles import ROLES

PAGE_OF_GROUPS = 50


@dataclass(frozen=True, slots=True)
class GroupForm:
    """What stands in the form for a new group, and what is wrong with its name."""

    name: str = ""
    description: str = ""
    wrong: str = ""


def routes(pages: Blueprint) -> None:
    """Add the routes."""
    pages.add_url_rule("/access/groups", "groups", _groups)
    pages.add_url_rule("/access/groups/<group>", "group", _group)
    for rule, name, view in (
        ("/access/groups", "create_group", _create),
        ("/access/groups/<group>/delete", "delete_group", _delete),
        ("/access/groups/<group>/members", "add_member", _add_member),
        ("/access/groups/<group>/members/<user>/remove", "remove_member", _remove_member),
        ("/access/users/<user>/join", "join_group", _join),
    ):
        pages.add_url_rule(rule, name, view, methods=["POST"])


def _check() -> None:
    check(context.caller(), Action.ADMIN, permission=MANAGE_GROUPS)


@page
def _groups() -> str:
    _check()
    return _list(GroupForm())


def _list(form: GroupForm) -> str:
    searched, after = asked("q", 64), asked("after", 64)
    query = (
        select(AccountGroup.name, AccountGroup.description, func.count(GroupMember.account_id.distinct()))
        .outerjoin(GroupMember, GroupMember.group_id == AccountGroup.id)
        .where(AccountGroup.name > after, AccountGroup.name.contains(searched.lower(), autoescape=True))
        .group_by(AccountGroup.id)
        .order_by(AccountGroup.name)
        .limit(PAGE_OF_GROUPS + 1)
    )
    with context.services().db.read() as session:
        found = session.execute(query).all()
        grants = granting.listed(session)
    shown = found[:PAGE_OF_GROUPS]
    return render_template(
        "administration/groups.html",
        groups=[
            (name, description, count, [each for each in grants if each.principal == f"group/{name}"])
            for name, description, count in shown
        ],
        searched=searched,
        after=after,
        next_after=shown[-1][0] if len(found) > len(shown) else None,
        form=form,
    )


@page
def _group(group: str) -> str:
    _check()
    return _one(group)


def _one(group: str, *, member: str = "", wrong: str = "", message: str = "") -> str:
    services = context.services()
    with services.db.read() as session:
        row = groups.find(session, group)
        description, created_at = row.description, row.created_at
        members = groups.members(session, group)
        grants = [each for each in granting.listed(session) if each.principal == f"group/{group}"]
    mapped = [
        (provider.button, provider.groups_claim, value)
        for provider in services.relying.providers.values()
        for value, name in sorted(provider.groups.items())
        if name == group
    ]
    return render_template(
        "administration/group.html",
        group=group,
        description=description,
        created_at=created_at,
        members=members,
        grants=grants,
        mapped=mapped,
        has_providers=bool(services.relying.providers),
        roles=ROLES.values(),
        role_form=RoleForm(),
        member=member,
        wrong=wrong,
        message=message,
    )


@page
def _create() -> ResponseReturnValue:
    _check()
    services, form = context.services(), GroupForm(text("name", 100), text("description"))
    try:
        with services.db.write() as session:
            made = groups.create(session, form.name, form.description, context.caller().name, services.clock()).name
    except (Invalid, Conflict) as error:
        return _list(GroupForm(form.name, form.description, sentence(error))), status_of(error)
    return redirect_with("group-changed", url_for("pages.group", group=made))


@page
@proved()
def _delete(group: str) -> ResponseReturnValue:
    _check()
    services = context.services()
    with services.db.write() as session:
        groups.delete_group(session, group, context.caller().name, services.clock())
    return redirect_with("group-changed", url_for("pages.groups"))


@page
@proved()
def _add_member(group: str) -> ResponseReturnValue:
    _check()
    user = text("user", 100)
    try:
        _add(group, user)
    except NotFound as error:
        return _member_refused(group, user, error), status_of(error)
    return redirect_with("group-changed", url_for("pages.group", group=group))


def _add(group: str, user: str) -> None:
    services = context.services()
    with services.db.write() as session:
        groups.add_member(session, group, find_account(session, user), context.caller().name, services.clock())


def _member_refused(group: str, user: str, error: Problem) -> str:
    """The group's page with the fault beside the field. Raises NotFound where it is the group that is not there."""
    return _one(group, member=user, wrong=sentence(error))


@page
@proved()
def _join(user: str) -> ResponseReturnValue:
    _check()
    _add(text("group", 100), user)
    return redirect_with("group-changed", url_for("pages.user", user=user))


@page
@proved()
def _remove_member(group: str, user: str) -> ResponseReturnValue:
    _check()
    services = context.services()
    with services.db.write() as session:
        groups.remove_member(session, group, find_account(session, user), context.caller().name, services.clock())
    return redirect_with("group-changed", back_to(url_for("pages.group", group=group)))
