"""What those with the right to do on a package's page: yank a version or put it back, delete it, close the package."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from registry.errors import Invalid, NotFound
from registry.http import context
from registry.http.auth import page
from registry.names import PackageKey
from registry.pages import sight
from registry.pages.appearance import redirect_with
from registry.pages.catalogue import package_url
from registry.pages.proof import proved
from registry.repos import browse, publish, shelf, withdraw
from registry.repos.admission import Admission
from registry.repos.topology import find_repository

LONGEST_REASON = 500
STATUSES = {
    shelf.ACTIVE: "active",
    shelf.ARCHIVED: "archived (no uploads)",
    shelf.DEPRECATED: "deprecated (a warning)",
    shelf.QUARANTINED: "quarantined (serves nothing)",
}

Change = Callable[[Session, Admission, PackageKey, str], None]


def routes(pages: Blueprint) -> None:
    """Add the routes. They hang below the addresses of the pages that have their forms."""
    package = "/packages/<domain>/<repository>/<format_name>/<path:name>"
    pages.add_url_rule(f"{package}/status", "set_status", _set_status, methods=["POST"])
    for word, view in (("yank", _yank), ("unyank", _unyank), ("delete", _delete)):
        pages.add_url_rule(f"{package}/-/<version>/{word}", f"{word}_version", view, methods=["POST"])


@page
def _yank(domain: str, repository: str, format_name: str, name: str, version: str) -> ResponseReturnValue:
    reason, now = _reason(), context.services().clock()

    def change(session: Session, admission: Admission, key: PackageKey, found: str) -> None:
        publish.yank(session, admission, *key, found, reason, now)

    return _changed("version-yanked", domain, repository, format_name, name, version, change)


@page
def _unyank(domain: str, repository: str, format_name: str, name: str, version: str) -> ResponseReturnValue:
    now = context.services().clock()

    def change(session: Session, admission: Admission, key: PackageKey, found: str) -> None:
        publish.yank(session, admission, *key, found, None, now)

    return _changed("version-unyanked", domain, repository, format_name, name, version, change)


@page
@proved()
def _delete(domain: str, repository: str, format_name: str, name: str, version: str) -> ResponseReturnValue:
    now = context.services().clock()

    def change(session: Session, admission: Admission, key: PackageKey, found: str) -> None:
        withdraw.delete_version(session, admission, key, found, now)

    return _changed("version-deleted", domain, repository, format_name, name, version, change, sight.DELETE)


@page
def _set_status(domain: str, repository: str, format_name: str, name: str) -> ResponseReturnValue:
    status, reason, now = request.form.get("status", ""), _reason(), context.services().clock()

    def change(session: Session, admission: Admission, key: PackageKey, _: str) -> None:
        withdraw.set_status(session, admission, key, status, reason, now)

    return _changed("status-set", domain, repository, format_name, name, None, change)


def _reason() -> str:
    reason = request.form.get("reason", "").strip()
    if len(reason) > LONGEST_REASON:
        raise Invalid(f"the reason is longer than {LONGEST_REASON} characters")
    return reason


def _changed(
    notice: str,
    domain: str,
    repository: str,
    format_name: str,
    name: str,
    version: str | None,
    change: Change,
    permission: str = sight.SET_STATUS,
) -> ResponseReturnValue:
    """Make the change in one transaction, as the caller, and go back to what is left to look at."""
    services, who = context.services(), context.caller()
    sight.check_may(domain, repository, sight.named(format_name, name), permission)
    known = services.formats.get(format_name)
    if known is None:
        raise NotFound("format", format_name)
    key = known.key(name)

    def unit(session: Session) -> str:
        domain_row, row = find_repository(session, domain, repository)
        admission = Admission(who, domain_row.id, domain, row.id, repository, 0, 0)
        found = ""
        if version is not None:
            found = browse.canonical_version(session, row.id, *key, version, sort_key=known.sort_key)
        change(session, admission, key, found)
        session.flush()
        return _place(session, admission, key, found)

    return redirect_with(notice, shelf.settle(services.db, unit))


def _place(session: Session, admission: Admission, key: PackageKey, version: str) -> str:
    """The page of the version, if it is there still; else the package's, else the repository's."""
    domain, repository = admission.domain, admission.repository
    left = withdraw.versions(session, admission.repository_id, key)
    if not left:
        return url_for("pages.repository", domain=domain, repository=repository)
    is_there = any(row.version == version for row in left)
    return package_url(domain, repository, key, version if is_there else None)
