"""Roles by place, and domains: who may do what where, in plain words. Policies have pages of their own."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select
from sqlalchemy.orm import Session

from registry import audit, granting
from registry.access import Action, Identity, check, check_at
from registry.errors import Conflict, Denied, Invalid, NotFound
from registry.http import context
from registry.http.auth import page
from registry.http.problems import status_of
from registry.models import Domain, Repository
from registry.names import domain_name
from registry.pages.administration import RoleForm, asked, back_to, sentence, text
from registry.pages.appearance import redirect_with
from registry.pages.proof import proved
from registry.policy.places import Place
from registry.policy.roles import ROLES
from registry.repos import removal, topology

MANAGE_ROLES = "entrepot:ManageRoles"
GRANTS_SHOWN = 100


def routes(pages: Blueprint) -> None:
    """Add the routes."""
    pages.add_url_rule("/access", "access", _access)
    for rule, name, view in (
        ("/access/domains", "create_domain", _create_domain),
        ("/access/domains/<domain>/delete", "delete_domain", _delete_domain),
        ("/access/roles", "grant_role", _grant_role),
        ("/access/roles/<int:grant_id>/revoke", "revoke_role", _revoke_role),
    ):
        pages.add_url_rule(rule, name, view, methods=["POST"])


@page
def _access() -> ResponseReturnValue:
    return _access_page(RoleForm(principal=asked("principal"), where=asked("where", 200)))


def _access_page(form: RoleForm, message: str = "", *, domain_form: tuple[str, str] = ("", "")) -> str:
    who = context.caller()
    if not who.could(Action.ADMIN):
        raise Denied(f"{who.name} may not manage who may do what")
    searched, after = asked("q", 200), asked("after", 18)
    with context.services().db.read() as session:
        places = _places(session, who)
        grants = [grant for grant in granting.listed(session) if _manages(who, granting.place_of(grant.where))]
    fitting = [each for each in grants if searched in f"{each.principal} {each.role} {each.where}"]
    behind = [each for each in fitting if each.id > (int(after) if after.isascii() and after.isdigit() else 0)]
    shown = behind[:GRANTS_SHOWN]
    return render_template(
        "administration/access.html",
        domains=places,
        manages=lambda domain: _manages(who, Place(domain)),
        grants=shown,
        grant_count=len(grants),
        searched=searched,
        after=after,
        next_after=shown[-1].id if len(behind) > len(shown) else None,
        roles=ROLES.values(),
        form=form,
        domain_form=domain_form,
        may_create=who.may(Action.ADMIN, permission="codeartifact:CreateDomain"),
        message=message,
    )


def _places(session: Session, who: Identity) -> dict[str, list[str]]:
    """The domains that somebody may steer, with those of their repositories whose policies they may see."""
    names = session.execute(
        select(Domain.name, Repository.name).outerjoin(Repository).order_by(Domain.id, Repository.id)
    )
    every: dict[str, list[str]] = {}
    for domain, repository in names:
        every.setdefault(domain, []).extend(filter(None, [repository]))
    seen = {domain: [name for name in inside if _sees_policy(who, domain, name)] for domain, inside in every.items()}
    return {domain: inside for domain, inside in seen.items() if inside or _manages(who, Place(domain))}


def _manages(who: Identity, place: Place) -> bool:
    return who.decide(Action.ADMIN, place, MANAGE_ROLES).allowed


def _sees_policy(who: Identity, domain: str, repository: str) -> bool:
    return who.may(Action.ADMIN, f"{domain}/{repository}", permission="codeartifact:GetRepositoryPermissionsPolicy")


def _changed(notice: str, change: Callable[[Session], None], target: str = "") -> ResponseReturnValue:
    """Make a change in one transaction and go on; what is wrong stands on the page."""
    try:
        with context.services().db.write() as session:
            change(session)
    except (Invalid, Conflict, NotFound) as error:
        return _access_page(RoleForm(), sentence(error)), status_of(error)
    return redirect_with(notice, target or url_for("pages.access"))


@page
def _create_domain() -> ResponseReturnValue:
    services, who = context.services(), context.caller()
    check(who, Action.ADMIN, permission="codeartifact:CreateDomain")
    name = text("name")
    try:
        with services.db.write() as session:
            made = topology.create_domain(session, domain_name(name), services.clock())
            services.stores.new_key(session, made.id, services.clock())
            audit.record(session, services.clock(), who.name, "domain.create", made.name)
    except (Invalid, Conflict) as error:
        return _access_page(RoleForm(), domain_form=(name, sentence(error))), status_of(error)
    return redirect_with("domain-made", url_for("pages.access"))


@page
@proved()
def _delete_domain(domain: str) -> ResponseReturnValue:
    services, who = context.services(), context.caller()
    check(who, Action.ADMIN, domain=domain, permission="codeartifact:DeleteDomain")
    is_forced = request.form.get("force") == "yes"
    return _changed(
        "domain-deleted",
        lambda session: removal.delete_domain(
            session, domain, is_forced=is_forced, actor=who.name, now=services.clock()
        ),
    )


@page
@proved()
def _grant_role() -> ResponseReturnValue:
    services, who = context.services(), context.caller()
    form = RoleForm(text("role"), text("principal"), text("where"))
    try:
        check_at(who, Action.ADMIN, granting.place_of(form.where), MANAGE_ROLES)
        with services.db.write() as session:
            granting.grant(session, form.role, form.principal, form.where, actor=who.name, now=services.clock())
    except (Invalid, NotFound) as error:
        wrong = ((_field_at_fault(error), sentence(error)),)
        return _access_page(RoleForm(form.role, form.principal, form.where, wrong)), status_of(error)
    return redirect_with("role-granted", back_to(url_for("pages.access")))


def _field_at_fault(error: Invalid | NotFound) -> str:
    if isinstance(error, NotFound):
        return "principal" if error.what in {"user", "group"} else "where"
    if "is nobody" in error.rule:
        return "principal"
    return "role" if "no role" in error.rule else "where"


@page
@proved()
def _revoke_role(grant_id: int) -> ResponseReturnValue:
    services, who = context.services(), context.caller()

    def change(session: Session) -> None:
        granting.find_managed(session, grant_id, who)
        granting.revoke(session, grant_id, actor=who.name, now=services.clock())

    return _changed("role-revoked", change, back_to(url_for("pages.access")))
