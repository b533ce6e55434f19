"""Changing several versions of a package at once: first what clients will see of it, then the act."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from registry.access import DESCRIBE, Action, check
from registry.errors import Invalid, NotFound
from registry.format import Format
from registry.http import context
from registry.http.auth import page
from registry.names import PackageKey
from registry.pages import sight
from registry.pages.appearance import redirect_with
from registry.pages.catalogue import package_url, readable
from registry.pages.proof import proved
from registry.repos import browse, copy_versions, lifecycle, states
from registry.repos.admission import Admission
from registry.repos.batches import MOST_VERSIONS, BatchResult, SuccessfulVersion, Unit, each_version
from registry.repos.browse import VersionSummary
from registry.repos.copy_versions import Copying
from registry.repos.lifecycle import Expected
from registry.repos.topology import find_repository

COPY_TO = "copy:"

_SEEN = {
    states.PUBLISHED: "Tools list them again and take them as any other version.",
    states.UNLISTED: "No tool chooses them any more. Who pins one of them, or has it in a lock file, still gets it.",
    states.ARCHIVED: (
        "Nobody gets their files: builds that pin one of them fail and are told that it is archived. They can be brought back."
    ),
    states.DISPOSED: (
        "Their files are given up for good: builds that pin one of them fail, and nothing brings them back. The versions "
        "stay on the list."
    ),
    states.DELETED: (
        "They are gone from this repository for good: builds that pin one of them fail. Other content cannot take their place."
    ),
}
_VERBS = {
    states.PUBLISHED: "Publish again",
    states.UNLISTED: "Unlist",
    states.ARCHIVED: "Archive",
    states.DISPOSED: "Dispose of",
    states.DELETED: "Delete",
}
DANGEROUS = (states.ARCHIVED, states.DISPOSED, states.DELETED)


@dataclass(frozen=True, slots=True)
class Choice:
    """Something that can be done with versions: ``value`` is what the form sends."""

    value: str
    label: str
    is_dangerous: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a version: what it is now, or why it is as it was."""

    version: str
    status: str
    problem: str


@dataclass(frozen=True, slots=True)
class _Asked:
    """Which versions of which package, and what is to become of them."""

    domain: str
    repository: str
    known: Format
    key: PackageKey
    to: str
    versions: tuple[str, ...]


def routes(pages: Blueprint) -> None:
    """Add the routes. They lie apart from the packages' own addresses, whose names may be any path."""
    rule = "/versions/<domain>/<repository>/<format_name>/<path:name>"
    pages.add_url_rule(rule, "change_versions", _confirm)
    pages.add_url_rule(rule, "do_change_versions", _change, methods=["POST"])


def choices(session: Session, domain: str, repository: str, key: PackageKey) -> tuple[Choice, ...]:
    """What who looks may do with versions of this package in this repository."""
    who = context.identity()
    if who is None:
        return ()
    found = [
        Choice(status, _VERBS[status], status in DANGEROUS)
        for status in _VERBS
        if sight.may(domain, repository, key, _permission(status))
    ]
    targets = [other.name for other in readable(session) if other.domain == domain and other.name != repository]
    found += [
        Choice(f"{COPY_TO}{name}", f"Copy to {name}")
        for name in targets
        if who.may(Action.PROMOTE, f"{domain}/{name}", key)
    ]
    return tuple(found)


def _permission(to: str) -> str:
    """CodeArtifact's name for what makes a version this."""
    return {states.DISPOSED: sight.DISPOSE, states.DELETED: sight.DELETE}.get(to, sight.SET_STATUS)


@page
def _confirm(domain: str, repository: str, format_name: str, name: str) -> ResponseReturnValue:
    asked = _asked(domain, repository, format_name, name, request.args.getlist("version"), request.args.get("to", ""))
    return _render(asked, ())


@page
@proved()
def _change(domain: str, repository: str, format_name: str, name: str) -> ResponseReturnValue:
    form = request.form
    asked = _asked(domain, repository, format_name, name, form.getlist("version"), form.get("to", ""))
    revisions = dict(zip(form.getlist("version"), form.getlist("revision"), strict=False))
    wanted = {version: revisions.get(version) for version in asked.versions}
    result = each_version(context.services().db, wanted, _unit(asked))
    if result.failed_versions:
        return _render(asked, _outcomes(result))
    with context.services().db.read() as session:
        _, row = find_repository(session, domain, repository)
        try:
            browse.package(session, row.id, *asked.key, sort_key=asked.known.sort_key)
        except NotFound:  # its last version is gone
            place = url_for("pages.repository", domain=domain, repository=repository)
            return redirect_with("versions-changed", place)
    return redirect_with("versions-changed", package_url(domain, repository, asked.key) + "#versions")


def _asked(domain: str, repository: str, format_name: str, name: str, versions: Sequence[str], to: str) -> _Asked:
    """What the request asks for, if its caller may do that. Raises Denied, NotFound, Invalid."""
    who, key = context.caller(), sight.named(format_name, name)
    check(who, Action.READ, f"{domain}/{repository}", key, permission=DESCRIBE)
    if to.startswith(COPY_TO):
        check(who, Action.PROMOTE, f"{domain}/{to.removeprefix(COPY_TO)}", key)
        with context.services().db.read() as session:
            find_repository(session, domain, to.removeprefix(COPY_TO))
    else:
        sight.check_may(domain, repository, key, _permission(to))
        if to not in _VERBS:
            raise Invalid("choose what is to become of the versions")
    known = context.services().formats.get(format_name)
    if known is None:
        raise NotFound("format", format_name)
    chosen = tuple(dict.fromkeys(versions))
    if not 1 <= len(chosen) <= MOST_VERSIONS:
        raise Invalid(f"choose from 1 to {MOST_VERSIONS} versions")
    return _Asked(domain, repository, known, known.key(name), to, chosen)


def _unit(asked: _Asked) -> Unit:
    services, who = context.services(), context.caller()
    now, sort_key = services.clock(), asked.known.sort_key
    if asked.to.startswith(COPY_TO):
        target = asked.to.removeprefix(COPY_TO)
        copying = Copying(
            asked.domain, asked.repository, target, who.name, now, frozen_after=services.release_frozen_after
        )
        return lambda session, version, revision: copy_versions.copy_version(
            session, copying, asked.key, version, revision, sort_key
        )

    def change(session: Session, version: str, revision: str | None) -> SuccessfulVersion:
        domain_row, row = find_repository(session, asked.domain, asked.repository)
        admission = Admission(who, domain_row.id, asked.domain, row.id, asked.repository, 0, 0)
        found = browse.canonical_version(session, row.id, *asked.key, version, sort_key=sort_key)
        return _act(asked.to, session, admission, asked.key, found, Expected(None, revision))

    return change


def _act(
    to: str, session: Session, admission: Admission, key: PackageKey, version: str, expected: Expected
) -> SuccessfulVersion:
    now = context.services().clock()
    if to == states.DISPOSED:
        return lifecycle.dispose(session, admission, key, version, expected, now)
    if to == states.DELETED:
        return lifecycle.delete(session, admission, key, version, expected, now)
    return lifecycle.change_status(session, admission, key, version, to, expected, now)


def _render(asked: _Asked, outcomes: Sequence[Outcome]) -> str:
    with context.services().db.read() as session:
        _, row = find_repository(session, asked.domain, asked.repository)
        package = browse.package(session, row.id, *asked.key, sort_key=asked.known.sort_key)
    failed = {outcome.version for outcome in outcomes if outcome.problem}
    left = _summaries(package.versions, asked.versions)
    if outcomes:
        left = [entry for entry in left if entry.version in failed]
    elif len(left) != len(asked.versions):
        raise NotFound("version", f"{package.display_name} {', '.join(asked.versions)[:200]}")
    is_copy = asked.to.startswith(COPY_TO)
    target = asked.to.removeprefix(COPY_TO)
    seen = f"{target} serves them too, with the same bytes and in the same state." if is_copy else _SEEN[asked.to]
    return render_template(
        "versions_change.html",
        domain=asked.domain,
        repository=asked.repository,
        package=package,
        path=asked.key.path,
        versions=left,
        outcomes=outcomes,
        to=asked.to,
        verb=f"Copy to {target}" if is_copy else _VERBS[asked.to],
        seen=seen,
        is_dangerous=asked.to in DANGEROUS,
    )


def _summaries(versions: Sequence[VersionSummary], wanted: Sequence[str]) -> list[VersionSummary]:
    return [entry for entry in versions if entry.version in wanted]


def _outcomes(result: BatchResult) -> list[Outcome]:
    done = [Outcome(version, now.status, "") for version, now in result.successful_versions.items()]
    return done + [Outcome(version, "", why.error_message) for version, why in result.failed_versions.items()]
