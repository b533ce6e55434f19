"""Versions by the hundred, in CodeArtifact's words: their states, and copies of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from sqlalchemy.orm import Session

from registry.access import Action, Identity, check
from registry.api import coordinates
from registry.api.coordinates import Coordinate, known_format, package_key
from registry.api.packages import NamespaceQuery
from registry.api.routes import Door, Route
from registry.api.shapes import Between, Length
from registry.errors import Invalid
from registry.http import context
from registry.http.auth import requires, signed_in_api
from registry.repos import copy_versions, freezing, lifecycle, listing, shelf, states
from registry.repos.admission import Admission
from registry.repos.batches import MOST_VERSIONS, BatchResult, SuccessfulVersion, each_version
from registry.repos.copy_versions import Copying
from registry.repos.from_upstream import Fetching
from registry.repos.lifecycle import Expected
from registry.repos.topology import find_repository

Versions = Annotated[tuple[Annotated[str, Length(1, 255)], ...], Length(1, MOST_VERSIONS)]
Revisions = Annotated[dict[str, str], Length(1, MOST_VERSIONS)]
Word = Annotated[str, Length(1, 20)]


@dataclass(frozen=True, slots=True)
class StatusUpdate:
    """Which versions are to be Published, Unlisted or Archived, and what they have to be now.

    ``version_revisions`` says at which revision a version has to be, of those that it names.
    """

    versions: Versions
    target_status: Word
    expected_status: Word | None = None
    version_revisions: Revisions | None = None


@dataclass(frozen=True, slots=True)
class Disposal:
    """Which versions go, and what they have to be now."""

    versions: Versions
    expected_status: Word | None = None
    version_revisions: Revisions | None = None


@dataclass(frozen=True, slots=True)
class CopyRequest:
    """What goes where: ``versions``, or ``version_revisions`` (version → the revision it has to be at), never both."""

    destination_repository: Annotated[str, Length(1, 100)]
    versions: Versions | None = None
    version_revisions: Revisions | None = None
    allow_overwrite: bool = False
    include_from_upstream: bool = False


@dataclass(frozen=True, slots=True)
class VersionsQuery:
    """Which versions of a package, in which order; ``next_token`` goes on behind the page that gave it."""

    namespace: Annotated[str, Length(0, 255)] = ""
    status: Word | None = None
    origin_type: Word | None = None
    sort_by: Word | None = None
    next_token: Annotated[str, Length(1, 255)] | None = None
    max_results: Annotated[int, Between(1, 1000)] = 100


@dataclass(frozen=True, slots=True)
class DeletedPackage:
    """A package that was taken out, with the versions that it had."""

    format: str
    namespace: str
    package: str
    versions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reopening:
    """For how many hours a version takes files again, and why: both are in the audit log."""

    hours: Annotated[int, Between(1, 168)] = 24
    reason: Annotated[str, Length(0, 500)] = ""


@dataclass(frozen=True, slots=True)
class Reopened:
    """Until when the version takes files."""

    open_until: datetime


def list_versions(format_name: str, name: str, query: VersionsQuery) -> listing.VersionPage:
    """List a package's versions in this repository, of whatever state: newest first, or by `sortBy` PUBLISHED_TIME."""
    services, admission = context.services(), context.admission()
    known = known_format(services.formats, format_name)
    wanted = listing.Wanted(query.status, query.origin_type, query.sort_by, query.next_token, query.max_results)
    with services.db.read() as session:
        _, row = find_repository(session, admission.domain, admission.repository)
        return listing.versions(session, row, package_key(known, query.namespace, name), wanted, known.sort_key)


def update_versions_status(format_name: str, name: str, body: StatusUpdate, query: NamespaceQuery) -> BatchResult:
    """Set versions to Published, Unlisted (in no list, served where it is pinned) or Archived (not served either).

    Each is changed by itself, if it has the `expectedStatus` and revision; the answer says what became of which.
    """
    lifecycle.check_word(body.target_status, states.SETTABLE)
    expected = _expected(body.expected_status)

    def change(session: Session, at: Coordinate, revision: str | None) -> SuccessfulVersion:
        now = context.services().clock()
        wanted = Expected(expected, revision)
        return lifecycle.change_status(
            session, context.admission(), at.key, at.version, body.target_status, wanted, now
        )

    return _each(format_name, name, query, _with_revisions(body.versions, body.version_revisions), change)


def dispose_versions(format_name: str, name: str, body: Disposal, query: NamespaceQuery) -> BatchResult:
    """Give up the files of versions for good. The versions stay on the list, Disposed, and never come back."""
    expected = _expected(body.expected_status)

    def change(session: Session, at: Coordinate, revision: str | None) -> SuccessfulVersion:
        now = context.services().clock()
        return lifecycle.dispose(session, context.admission(), at.key, at.version, Expected(expected, revision), now)

    return _each(format_name, name, query, _with_revisions(body.versions, body.version_revisions), change)


def delete_versions(format_name: str, name: str, body: Disposal, query: NamespaceQuery) -> BatchResult:
    """Take versions out. The names of their files are used up: they come back with the same bytes only."""
    expected = _expected(body.expected_status)

    def change(session: Session, at: Coordinate, revision: str | None) -> SuccessfulVersion:
        now = context.services().clock()
        return lifecycle.delete(session, context.admission(), at.key, at.version, Expected(expected, revision), now)

    return _each(format_name, name, query, _with_revisions(body.versions, body.version_revisions), change)


def delete_package(format_name: str, name: str, query: NamespaceQuery) -> DeletedPackage:
    """Take a package with all its versions out of the repository. The name stays this repository's."""
    services, admission = context.services(), context.admission()
    key = package_key(known_format(services.formats, format_name), query.namespace, name)
    gone = shelf.settle(
        services.db, lambda session: lifecycle.delete_package(session, admission, key, services.clock())
    )
    return DeletedPackage(*key, tuple(gone))


def copy_package_versions(
    domain: str, repository: str, format_name: str, name: str, body: CopyRequest, query: NamespaceQuery
) -> BatchResult:
    """Copy versions to another repository of the domain: rows only, the bytes are shared. They keep their states.

    Needs `read` on this repository and `promote` on the destination. With `includeFromUpstream` versions are taken from
    where this repository finds them, external connections included: their files are fetched, and kept here.

    A version that is the same there already is success; one that is otherwise is ALREADY_EXISTS unless `allowOverwrite`,
    and even then no file's content changes.
    """
    services, caller = context.services(), context.caller()
    known = known_format(services.formats, format_name)
    key = package_key(known, query.namespace, name)
    check(caller, Action.READ, f"{domain}/{repository}", key)
    check(caller, Action.PROMOTE, f"{domain}/{body.destination_repository}", key)
    if (body.versions is None) == (body.version_revisions is None):
        raise Invalid("name the versions either in 'versions' or in 'versionRevisions'")
    copying = Copying(
        domain,
        repository,
        body.destination_repository,
        caller.name,
        services.clock(),
        body.allow_overwrite,
        body.include_from_upstream,
        services.release_frozen_after,
    )
    source = _check_places(copying, caller)
    wanted = _with_revisions(body.versions or tuple(body.version_revisions or ()), body.version_revisions)
    refused = {}
    if body.include_from_upstream:
        refused = Fetching(services.resolver, services.files, services.formats).keep(source, key, wanted)

    def unit(session: Session, version: str, revision: str | None) -> SuccessfulVersion:
        if version in refused:
            raise refused[version]
        return copy_versions.copy_version(session, copying, key, version, revision, known.sort_key)

    return each_version(services.db, wanted, unit)


def reopen_version(format_name: str, name: str, version: str, body: Reopening, query: NamespaceQuery) -> Reopened:
    """Let files be added to a version that is older than `release_frozen_after_days`, for some hours."""
    services, admission = context.services(), context.admission()

    def unit(session: Session) -> datetime:
        at = coordinates.find(
            session, services.formats, admission.repository_id, format_name, query.namespace, name, version
        )
        return freezing.reopen(session, admission, at.key, at.version, body.hours, body.reason, services.clock())

    return Reopened(shelf.settle(services.db, unit))


def _check_places(copying: Copying, caller: Identity) -> Admission:
    """The source, as its caller is let into it. Raises NotFound or Invalid for places between which nothing is copied."""
    if copying.source == copying.target:
        raise Invalid("a version is copied to another repository, not to its own")
    with context.services().db.read() as session:
        domain, source = find_repository(session, copying.domain, copying.source)
        find_repository(session, copying.domain, copying.target)
        return Admission(caller, domain.id, domain.name, source.id, source.name, domain.topology_revision, 0)


def _expected(status: str | None) -> str | None:
    return lifecycle.check_word(status) if status is not None else None


def _with_revisions(versions: tuple[str, ...], revisions: Mapping[str, str] | None) -> dict[str, str | None]:
    said = revisions or {}
    if unknown := sorted(said.keys() - set(versions)):
        raise Invalid(f"'versionRevisions' names {unknown[0][:100]!a}, which is not among the versions")
    return {version: said.get(version) for version in versions}


def _each(
    format_name: str,
    name: str,
    query: NamespaceQuery,
    wanted: Mapping[str, str | None],
    change: Callable[[Session, Coordinate, str | None], SuccessfulVersion],
) -> BatchResult:
    services, admission = context.services(), context.admission()
    package_key(known_format(services.formats, format_name), query.namespace, name)  # a name that is none is told once

    def unit(session: Session, version: str, revision: str | None) -> SuccessfulVersion:
        at = coordinates.find(
            session, services.formats, admission.repository_id, format_name, query.namespace, name, version
        )
        return change(session, at, revision)

    return each_version(services.db, wanted, unit)


_PACKAGE = "/domains/<domain>/repositories/<repository>/packages/<format_name>/<name>"
_VERSIONS = f"{_PACKAGE}/versions"
_VERSION = f"{_VERSIONS}/<version>"
_list = requires(Action.READ, repository=True, permission="codeartifact:ListPackageVersions")
_admin = requires(Action.ADMIN, repository=True, permission="entrepot:ReopenRelease")


def _may(name: str) -> Door:
    return requires(Action.PUBLISH, repository=True, permission=f"codeartifact:{name}")


ROUTES = (
    Route("GET", _VERSIONS, _list, list_versions, query=VersionsQuery, answer=listing.VersionPage),
    Route(
        "POST",
        f"{_VERSIONS}/copy",
        signed_in_api,
        copy_package_versions,
        body=CopyRequest,
        query=NamespaceQuery,
        answer=BatchResult,
    ),
    Route(
        "POST",
        f"{_VERSIONS}/update_status",
        _may("UpdatePackageVersionsStatus"),
        update_versions_status,
        body=StatusUpdate,
        query=NamespaceQuery,
        answer=BatchResult,
    ),
    Route(
        "POST",
        f"{_VERSIONS}/dispose",
        _may("DisposePackageVersions"),
        dispose_versions,
        body=Disposal,
        query=NamespaceQuery,
        answer=BatchResult,
    ),
    Route(
        "POST",
        f"{_VERSIONS}/delete",
        _may("DeletePackageVersions"),
        delete_versions,
        body=Disposal,
        query=NamespaceQuery,
        answer=BatchResult,
    ),
    Route("DELETE", _PACKAGE, _may("DeletePackage"), delete_package, query=NamespaceQuery, answer=DeletedPackage),
    Route(
        "POST",
        f"{_VERSION}/reopen",
        _admin,
        reopen_version,
        body=Reopening,
        query=NamespaceQuery,
        answer=Reopened,
    ),
)
