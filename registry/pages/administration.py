"""The administration: one place from which who may steer the server, a domain or a repository finds the pages for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flask import Blueprint, g, render_template, request, url_for
from flask.blueprints import BlueprintSetupState

from registry.access import Action, Identity
from registry.errors import Denied, Problem
from registry.http import context
from registry.http.auth import page
from registry.pages.appearance import Link, viewer
from registry.pages.links import safe_next
from registry.pages.panels import AdministrationEntry, extensions

MANAGE_USERS, MANAGE_GROUPS = "entrepot:ManageUsers", "entrepot:ManageGroups"
READ_AUDIT = "entrepot:ReadAuditLog"


def _somewhere(who: Identity) -> bool:
    return who.could(Action.ADMIN)


def _on_server(permission: str) -> Callable[[Identity], bool]:
    return lambda who: who.may(Action.ADMIN, permission=permission)


ENTRIES = (
    AdministrationEntry(
        "Users",
        "person",
        "pages.users",
        ("/access/users",),
        "Who has an account: make, disable, sign out, and see what gives somebody a right.",
        _on_server(MANAGE_USERS),
    ),
    AdministrationEntry(
        "Groups",
        "person",
        "pages.groups",
        ("/access/groups",),
        "Accounts that roles and policies name together.",
        _on_server(MANAGE_GROUPS),
    ),
    AdministrationEntry(
        "Roles and policies",
        "approval",
        "pages.access",
        ("/access/policy", "/access/roles", "/access/domains"),
        "Who may do what where: roles for most, policies for the rest, and why a request is let in.",
        _somewhere,
    ),
    AdministrationEntry(
        "Quotas and limits",
        "repository",
        "pages.quotas",
        ("/quotas",),
        "How much may be published in a domain or a repository, and how often may be asked.",
        _somewhere,
    ),
    AdministrationEntry(
        "Audit log",
        "log",
        "pages.audit",
        ("/audit",),
        "Who did what, from where, and whether the log still is what was written.",
        _on_server(READ_AUDIT),
    ),
)


def routes(pages: Blueprint) -> None:
    """Add the route, and the links to what templates know."""
    pages.add_url_rule("/administration", "administration", _administration)
    pages.record_once(_set_up)


def _set_up(state: BlueprintSetupState) -> None:
    state.app.jinja_env.globals.update(administration_links=administration_links)


def entries(who: Identity) -> list[AdministrationEntry]:
    """The pages that this person may use, those of other packages before the audit log."""
    added = [entry for extension in extensions() for entry in extension.administration]
    return [entry for entry in (*ENTRIES[:-1], *added, ENTRIES[-1]) if entry.may(who)]


def administration_links() -> list[Link]:
    """What stands above each page of the administration; empty for who may use none."""
    if "administration_links" not in g:
        who = viewer()
        found = entries(who) if who is not None else []
        g.administration_links = [
            Link(entry.label, entry.icon, url_for(entry.endpoint), _is_current(entry), 0) for entry in found
        ]
    links: list[Link] = g.administration_links
    return links


def _is_current(entry: AdministrationEntry) -> bool:
    here = request.path
    return here == url_for(entry.endpoint) or any(here == at or here.startswith(at + "/") for at in entry.prefixes)


@page
def _administration() -> str:
    who = context.caller()
    found = entries(who)
    if not found:
        raise Denied(f"{who.name} may not administer anything")
    return render_template("administration/index.html", entries=found)


@dataclass(frozen=True, slots=True)
class RoleForm:
    """What stands in the form that grants a role; ``wrong`` has a sentence for each field at fault."""

    role: str = "reader"
    principal: str = ""
    where: str = ""
    wrong: tuple[tuple[str, str], ...] = ()

    def fault(self, name: str) -> str:
        """What is wrong with a field; empty for nothing."""
        return dict(self.wrong).get(name, "")


def back_to(default: str) -> str:
    """Where a form that stands on several pages goes on: the page of ours that it names, or ``default``."""
    target = request.form.get("next", "")
    return safe_next(target) if target else default


def sentence(error: Problem) -> str:
    """The error's message with a capital at its beginning, for beside a field."""
    text = str(error)
    return text[:1].upper() + text[1:]


def text(name: str, limit: int = 500) -> str:
    """A field of the form without blanks around it."""
    return request.form.get(name, "").strip()[:limit]


def asked(name: str, limit: int = 100) -> str:
    """A parameter of the address without blanks around it."""
    return request.args.get(name, "").strip()[:limit]
