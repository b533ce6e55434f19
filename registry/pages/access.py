"""Who may do what: domains, granted roles, groups and accounts on one page, the policy of a place on another."""

from __future__ import annotations

import re
from collections.abc import Callable

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select
from sqlalchemy.orm import Session

from registry import audit, explaining, granting, groups, policies
from registry.access import Action, Identity, check, check_at
from registry.accounts import find_account
from registry.errors import Conflict, Denied, Invalid, NotFound, Problem
from registry.http import context
from registry.http.auth import page
from registry.http.problems import status_of
from registry.models import Account, AccountGroup, Domain, Repository
from registry.names import domain_name
from registry.pages.appearance import redirect_with
from registry.pages.proof import proved
from registry.policy.actions import CATALOGUE
from registry.policy.places import Place
from registry.policy.roles import ROLES
from registry.repos import removal, topology

MANAGE_ROLES, MANAGE_GROUPS = "entrepot:ManageRoles", "entrepot:ManageGroups"
_SAMPLE = """\
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "ReleaseManagersCopy",
      "Effect": "Allow",
      "Principal": "group/NAME",
      "Action": "codeartifact:CopyPackageVersions",
      "Resource": "*"
    }
  ]
}"""


def routes(pages: Blueprint) -> None:
    """Add the routes."""
    pages.add_url_rule("/access", "access", _access)
    for rule, name, view in (
        ("/access/domains", "create_domain", _create_domain),
        ("/access/domains/<domain>/delete", "delete_domain", _delete_domain),
        ("/access/roles", "grant_role", _grant_role),
        ("/access/roles/<int:grant_id>/revoke", "revoke_role", _revoke_role),
        ("/access/groups", "create_group", _create_group),
        ("/access/groups/<group>/delete", "delete_group", _delete_group),
        ("/access/groups/<group>/members", "add_member", _add_member),
        ("/access/groups/<group>/members/<user>/remove", "remove_member", _remove_member),
    ):
        pages.add_url_rule(rule, name, view, methods=["POST"])
    for rest, kind in (("<domain>", "domain"), ("<domain>/<repository>", "repository")):
        pages.add_url_rule(f"/access/policy/{rest}", f"{kind}_policy", _policy)
        pages.add_url_rule(f"/access/policy/{rest}", f"put_{kind}_policy", _put_policy, methods=["POST"])


# --- the page of domains, roles, groups and accounts -----------------------------------------------------------------


@page
def _access() -> ResponseReturnValue:
    return _access_page()


def _access_page(message: str = "") -> str:
    who = context.caller()
    if not who.could(Action.ADMIN):
        raise Denied(f"{who.name} may not manage who may do what")
    with context.services().db.read() as session:
        names = session.execute(
            select(Domain.name, Repository.name).outerjoin(Repository).order_by(Domain.id, Repository.id)
        )
        places: dict[str, list[str]] = {}
        for domain, repository in names:
            places.setdefault(domain, []).extend(filter(None, [repository]))
        places = {
            domain: [name for name in inside if _sees_policy(who, domain, name)]
            for domain, inside in places.items()
            if _manages(who, Place(domain)) or any(_sees_policy(who, domain, name) for name in inside)
        }
        grants = [grant for grant in granting.listed(session) if _manages(who, granting.place_of(grant.where))]
        rules_all = who.may(Action.ADMIN, permission=MANAGE_GROUPS)
        known_groups = _groups(session) if rules_all else []
        accounts = session.scalars(select(Account).order_by(Account.name)).all() if rules_all else []
    return render_template(
        "access.html",
        domains=places,
        manages=lambda domain: _manages(who, Place(domain)),
        grants=grants,
        roles=ROLES.values(),
        rules_all=rules_all,
        may_create=who.may(Action.ADMIN, permission="codeartifact:CreateDomain"),
        groups=known_groups,
        accounts=accounts,
        message=message,
    )


def _groups(session: Session) -> list[tuple[str, str, dict[str, list[str]]]]:
    rows = session.execute(select(AccountGroup.name, AccountGroup.description).order_by(AccountGroup.name)).all()
    return [(name, description, groups.members(session, name)) for name, description in rows]


def _manages(who: Identity, place: Place) -> bool:
    return who.decide(Action.ADMIN, place, MANAGE_ROLES).allowed


def _sees_policy(who: Identity, domain: str, repository: str) -> bool:
    return who.may(Action.ADMIN, f"{domain}/{repository}", permission="codeartifact:GetRepositoryPermissionsPolicy")


def _changed(notice: str, change: Callable[[Session], None]) -> ResponseReturnValue:
    """Make a change in one transaction and go back; what is wrong with the input stands on the page."""
    try:
        with context.services().db.write() as session:
            change(session)
    except (Invalid, Conflict, NotFound) as error:
        return _access_page(_sentence(error)), status_of(error)
    return redirect_with(notice, url_for("pages.access"))


def _sentence(error: Problem) -> str:
    text = str(error)
    return text[:1].upper() + text[1:]


def _text(name: str) -> str:
    return request.form.get(name, "").strip()[:500]


@page
def _create_domain() -> ResponseReturnValue:
    services, who = context.services(), context.caller()
    check(who, Action.ADMIN, permission="codeartifact:CreateDomain")

    def change(session: Session) -> None:
        made = topology.create_domain(session, domain_name(_text("name")), services.clock())
        services.stores.new_key(session, made.id, services.clock())
        audit.record(session, services.clock(), who.name, "domain.create", made.name)

    return _changed("domain-made", change)


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

    def change(session: Session) -> None:
        where = _text("where")
        check_at(who, Action.ADMIN, granting.place_of(where), MANAGE_ROLES)
        granting.grant(session, _text("role"), _text("principal"), where, actor=who.name, now=services.clock())

    return _changed("role-granted", change)


@page
@proved()
def _revoke_role(grant_id: int) -> ResponseReturnValue:
    services, who = context.services(), context.caller()

    def change(session: Session) -> None:
        granting.find_managed(session, grant_id, who)
        granting.revoke(session, grant_id, actor=who.name, now=services.clock())

    return _changed("role-revoked", change)


def _group_changed(notice: str, change: Callable[[Session, str], object]) -> ResponseReturnValue:
    who = context.caller()
    check(who, Action.ADMIN, permission=MANAGE_GROUPS)
    return _changed(notice, lambda session: (change(session, who.name), None)[1])


@page
def _create_group() -> ResponseReturnValue:
    now = context.services().clock()
    return _group_changed(
        "group-changed",
        lambda session, actor: groups.create(session, _text("name"), _text("description"), actor, now),
    )


@page
@proved()
def _delete_group(group: str) -> ResponseReturnValue:
    now = context.services().clock()
    return _group_changed("group-changed", lambda session, actor: groups.delete_group(session, group, actor, now))


@page
@proved()
def _add_member(group: str) -> ResponseReturnValue:
    now = context.services().clock()
    return _group_changed(
        "group-changed",
        lambda session, actor: groups.add_member(session, group, find_account(session, _text("user")), actor, now),
    )


@page
@proved()
def _remove_member(group: str, user: str) -> ResponseReturnValue:
    now = context.services().clock()
    return _group_changed(
        "group-changed",
        lambda session, actor: groups.remove_member(session, group, find_account(session, user), actor, now),
    )


# --- the policy of a domain or a repository --------------------------------------------------------------------------


def _check_policy(verb: str, domain: str, repository: str | None) -> None:
    kind = "Repository" if repository else "Domain"
    check_at(
        context.caller(), Action.ADMIN, Place(domain, repository or ""), f"codeartifact:{verb}{kind}PermissionsPolicy"
    )


@page
def _policy(domain: str, repository: str | None = None) -> ResponseReturnValue:
    _check_policy("Get", domain, repository)
    return _policy_page(domain, repository)


def _policy_page(domain: str, repository: str | None, *, text: str | None = None, message: str = "") -> str:
    services = context.services()
    with services.db.read() as session:
        kept = policies.find(session, domain, repository)
    asked = {name: request.args.get(name, "").strip()[:500] for name in ("who", "what", "address")}
    answer, wrong = None, ""
    if asked["who"]:
        try:
            with services.db.read() as session:
                answer = explaining.explain(
                    session,
                    services.accounts,
                    asked["who"],
                    explaining.permission_of(asked["what"]),
                    Place(domain, repository or ""),
                    address=asked["address"],
                    now=services.clock(),
                )
        except (Invalid, NotFound) as error:
            wrong = _sentence(error)
    return render_template(
        "policy.html",
        domain=domain,
        repository=repository,
        kept=kept,
        text=text if text is not None else kept.document if kept else _SAMPLE,
        faults=re.split(r"; (?=statement |unknown |Sid )", message) if message else [],
        actions=sorted(CATALOGUE),
        asked=asked,
        answer=answer,
        wrong=wrong,
        here=url_for(f"pages.{'repository' if repository else 'domain'}_policy", domain=domain, repository=repository),
    )


@page
@proved()
def _put_policy(domain: str, repository: str | None = None) -> ResponseReturnValue:
    services, who = context.services(), context.caller()
    is_delete = request.form.get("act") == "delete"
    _check_policy("Delete" if is_delete else "Put", domain, repository)
    text, expected = request.form.get("document", ""), request.form.get("revision") or None
    now = services.clock()
    try:
        with services.db.write() as session:
            if is_delete:
                policies.take_away(session, domain, repository, expected=expected, actor=who.name, now=now)
            else:
                policies.put(session, domain, repository, text, expected=expected, actor=who.name, now=now)
    except (Invalid, Conflict) as error:
        return _policy_page(domain, repository, text=text, message=_sentence(error)), status_of(error)
    kind = "repository" if repository else "domain"
    return redirect_with(
        "policy-deleted" if is_delete else "policy-set",
        url_for(f"pages.{kind}_policy", domain=domain, repository=repository),
    )
