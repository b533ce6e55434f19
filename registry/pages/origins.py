"""The part of a package's page that says where its versions may come from, and lets those who may change it."""

from __future__ import annotations

from collections.abc import Container

from flask import Blueprint, request
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from registry.access import Action, check
from registry.errors import Invalid, NotFound
from registry.format import Format
from registry.http import context
from registry.http.auth import page
from registry.names import PackageKey
from registry.pages.appearance import redirect_with
from registry.pages.catalogue import package_url
from registry.pages.proof import proved
from registry.pages.sight import named
from registry.repos import explain, origin_controls, shelf
from registry.repos.admission import Admission
from registry.repos.topology import find_repository

# What can be chosen, and what it means; both allowed has a form of its own, which asks a second time.
CONTROLS = {
    "ALLOW-BLOCK": "ours: published here, never taken from upstreams",
    "BLOCK-ALLOW": "theirs: taken from upstreams, never published here",
    "BLOCK-BLOCK": "closed: no further versions at all",
}
_PERMISSION = "codeartifact:PutPackageOriginConfiguration"
_BOTH = "ALLOW-ALLOW"


def routes(pages: Blueprint) -> None:
    """Add the route of the form."""
    package = "/packages/<domain>/<repository>/<format_name>/<path:name>"
    pages.add_url_rule(f"{package}/origin", "set_origin", _set_origin, methods=["POST"])


def may_set(domain: str, repository: str, key: PackageKey) -> bool:
    """Whether who looks may change origin controls there."""
    who = context.identity()
    return who is not None and who.may(Action.ADMIN, f"{domain}/{repository}", key, permission=_PERMISSION)


def why(
    session: Session, domain: str, repository: str, key: PackageKey, known: Format, visible: Container[str]
) -> explain.Explanation:
    """Every decision about the package in the repository; ``visible`` are the repositories that who looks may read."""
    domain_row, row = find_repository(session, domain, repository)
    topology = context.services().resolver.current_topology(session, domain_row.id)
    return explain.explain(session, topology, row.id, key, sort_key=known.sort_key, may_read=visible.__contains__)


@page
@proved()
def _set_origin(domain: str, repository: str, format_name: str, name: str) -> ResponseReturnValue:
    services, who = context.services(), context.caller()
    check(who, Action.ADMIN, f"{domain}/{repository}", named(format_name, name), permission=_PERMISSION)
    known = services.formats.get(format_name)
    if known is None:
        raise NotFound("format", format_name)
    key, chosen = known.key(name), request.form.get("controls", "")
    if chosen not in CONTROLS and chosen != _BOTH:
        raise Invalid("choose one of the settings that the page offers")
    if chosen == _BOTH and request.form.get("sure") != "yes":
        raise Invalid("to allow both publishing and upstreams, say that you are sure")
    publish, upstream = chosen.split("-")

    def unit(session: Session) -> None:
        domain_row, row = find_repository(session, domain, repository)
        admission = Admission(who, domain_row.id, domain, row.id, repository, 0, 0)
        if shelf.find_package(session, row.id, *key) is None:
            raise NotFound("package", key.path)
        display_name = known.display_name(key)
        origin_controls.put(session, admission, key, publish, upstream, display_name=display_name, now=services.clock())

    shelf.settle(services.db, unit)
    return redirect_with("origin-set", package_url(domain, repository, key))
