"""All accounts, and one of them: how it signs in, what gives it a right, and what an administrator can do about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select
from sqlalchemy.orm import Session

from registry import account_care, directory, people, self_service
from registry.access import Action, check
from registry.accounts import find_account
from registry.errors import Conflict, Denied, Invalid, NotFound, Problem
from registry.http import context
from registry.http.auth import charge, page
from registry.http.problems import status_of
from registry.models import AccountGroup
from registry.oidc import people as oidc_people
from registry.pages.account import MEANINGS
from registry.pages.administration import MANAGE_GROUPS, MANAGE_USERS, RoleForm, asked, sentence, text
from registry.pages.appearance import redirect_with
from registry.pages.proof import proved
from registry.policy.roles import ROLES
from registry.rates import CostClass
from registry.scopes import checked_patterns

PAGE_OF_USERS = 50
TOKENS_SHOWN = 10
_LONGEST_LIST = 2000


@dataclass(frozen=True, slots=True)
class UserForm:
    """What stands in the form of an account's own rights; ``wrong`` has a sentence for each field at fault."""

    name: str = ""
    actions: tuple[str, ...] = (Action.READ.value,)
    repositories: str = ""
    is_service: bool = False
    wrong: tuple[tuple[str, str], ...] = ()

    def fault(self, name: str) -> str:
        """What is wrong with a field; empty for nothing."""
        return dict(self.wrong).get(name, "")


def routes(pages: Blueprint) -> None:
    """Add the routes."""
    one = "/access/users/<user>"
    pages.add_url_rule("/access/users", "users", _users)
    pages.add_url_rule("/access/users", "create_user", _create, methods=["POST"])
    pages.add_url_rule(one, "user", _user)
    pages.add_url_rule(one, "change_user", _change, methods=["POST"])
    for word, name, view in (
        ("disable", "disable_user", _disable),
        ("enable", "enable_user", _enable),
        ("delete", "delete_user", _delete),
        ("login-link", "make_login_link", _make_link),
        ("sign-out", "sign_user_out", _sign_out),
        ("second-factor/reset", "reset_user_factor", _reset_factor),
    ):
        pages.add_url_rule(f"{one}/{word}", name, view, methods=["POST"])


def _check() -> None:
    check(context.caller(), Action.ADMIN, permission=MANAGE_USERS)


# --- all of them -----------------------------------------------------------------------------------------------------


@page
def _users() -> str:
    _check()
    return _list(UserForm())


def _list(form: UserForm, message: str = "") -> str:
    wanted = directory.Wanted(
        asked("q", 64),
        _one_of("state", directory.STATES),
        _one_of("kind", directory.KINDS),
        _one_of("factor", directory.FACTORS),
        asked("group", 64),
    )
    after = asked("after", 64)
    with context.services().db.read() as session:
        found = directory.listed(session, wanted, after=after, limit=PAGE_OF_USERS + 1)
        groups = session.scalars(select(AccountGroup.name).order_by(AccountGroup.name)).all()
    shown = found[:PAGE_OF_USERS]
    return render_template(
        "administration/users.html",
        people=shown,
        wanted=wanted,
        groups=groups,
        after=after,
        next_after=shown[-1].name if len(found) > len(shown) else None,
        form=form,
        message=message,
        meanings=MEANINGS,
    )


def _one_of(name: str, known: tuple[str, ...]) -> str:
    word = asked(name, 16)
    return word if word in known else ""


def _form_sent() -> UserForm:
    return UserForm(
        name=text("name", 100),
        actions=tuple(request.form.getlist("actions"))[:10],
        repositories=text("repositories", _LONGEST_LIST),
        is_service=request.form.get("is_service") == "yes",
    )


def _with_faults(form: UserForm, error: Problem) -> UserForm:
    """The form with the fault beside the field that it is about."""
    message = sentence(error)
    field = "repositories" if "repositor" in message else "actions" if "actions are" in message else "name"
    return UserForm(form.name, form.actions, form.repositories, form.is_service, ((field, message),))


@page
@proved()
def _create() -> ResponseReturnValue:
    _check()
    services, form = context.services(), _form_sent()
    try:
        patterns = checked_patterns(self_service.words(form.repositories))
        with services.db.write() as session:
            made = people.create(
                session,
                services.accounts,
                form.name,
                context.caller(),
                actions=form.actions,
                repositories=patterns,
                password=None,
                is_service=form.is_service,
                now=services.clock(),
            ).name
    except (Invalid, Conflict) as error:
        return _list(_with_faults(form, error)), status_of(error)
    return redirect_with("service-made" if form.is_service else "user-made", url_for("pages.user", user=made))


# --- one of them -----------------------------------------------------------------------------------------------------


@page
def _user(user: str) -> str:
    _check()
    return _one(user)


def _one(
    user: str, *, form: UserForm | None = None, link: account_care.SignInLink | None = None, message: str = ""
) -> str:
    services, who = context.services(), context.caller()
    now = services.clock()
    with services.db.read() as session:
        account = find_account(session, user)
        detail = directory.shown(session, user, now)
        sessions = self_service.sessions(session, services.accounts, account.id, "", now)
        tokens = self_service.tokens(session, account.id, now)
        known = {each.issuer: each.button for each in services.relying.providers.values()}
        connected = oidc_people.identities(session, account.id, known)
        groups = session.scalars(select(AccountGroup.name).order_by(AccountGroup.name)).all()
    person = detail.user
    rights = UserForm(person.name, person.actions, ", ".join(person.repositories or ()))
    return render_template(
        "administration/user.html",
        person=person,
        detail=detail,
        sessions=sessions,
        tokens=[token for token in tokens if token.state == "active"][:TOKENS_SHOWN],
        connected=connected,
        other_groups=[name for name in groups if name not in person.groups],
        may_group=who.may(Action.ADMIN, permission=MANAGE_GROUPS),
        is_self=who.name == user,
        form=form or rights,
        link=context.address_of_setup(link.secret) if link is not None else "",
        link_ends=link.expires_at if link is not None else None,
        message=message,
        meanings=MEANINGS,
        roles=ROLES.values(),
        role_form=RoleForm(),
    )


def _act(user: str, notice: str, act: Callable[[Session], object], target: str = "") -> ResponseReturnValue:
    """Do something to an account and show it again; why it was refused stands on the page."""
    _check()
    try:
        with context.services().db.write() as session:
            act(session)
    except (Conflict, Denied) as error:
        return _one(user, message=sentence(error)), status_of(error)
    except NotFound as error:
        if error.what == "user":
            raise
        return _one(user, message=sentence(error)), status_of(error)
    return redirect_with(notice, target or url_for("pages.user", user=user))


@page
@proved()
def _change(user: str) -> ResponseReturnValue:
    _check()
    services, form = context.services(), _form_sent()
    try:
        patterns = checked_patterns(self_service.words(form.repositories))
        with services.db.write() as session:
            people.change(
                session,
                user,
                context.caller(),
                actions=form.actions,
                repositories=patterns,
                everywhere=patterns is None,
                is_disabled=None,
                now=services.clock(),
            )
    except Invalid as error:
        return _one(user, form=_with_faults(form, error)), status_of(error)
    except Conflict as error:
        return _one(user, form=form, message=sentence(error)), status_of(error)
    return redirect_with("user-changed", url_for("pages.user", user=user))


@page
@proved()
def _disable(user: str) -> ResponseReturnValue:
    who, now = context.caller(), context.services().clock()
    return _act(user, "user-disabled", lambda session: account_care.disable(session, user, who, now))


@page
@proved()
def _enable(user: str) -> ResponseReturnValue:
    who, now = context.caller(), context.services().clock()
    return _act(user, "user-enabled", lambda session: account_care.enable(session, user, who, now))


@page
@proved()
def _delete(user: str) -> ResponseReturnValue:
    who, now = context.caller(), context.services().clock()
    target = url_for("pages.users")
    return _act(user, "user-deleted", lambda session: people.remove(session, user, who, now), target)


@page
@proved()
def _make_link(user: str) -> ResponseReturnValue:
    _check()
    charge(CostClass.MINT)
    services, who = context.services(), context.caller()
    try:
        with services.db.write() as session:
            made = account_care.sign_in_link(session, services.accounts, user, who, services.clock())
    except (Invalid, Conflict, Denied) as error:
        return _one(user, message=sentence(error)), status_of(error)
    return _one(user, link=made)


@page
def _sign_out(user: str) -> ResponseReturnValue:
    who, now = context.caller(), context.services().clock()
    return _act(user, "user-signed-out", lambda session: account_care.end_browsers(session, user, who, now))


@page
@proved()
def _reset_factor(user: str) -> ResponseReturnValue:
    who, now = context.caller(), context.services().clock()
    return _act(user, "user-factor-reset", lambda session: account_care.reset_second_factor(session, user, who, now))
