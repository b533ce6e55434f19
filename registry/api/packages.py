"""Packages and versions of a repository: look, promote, yank, delete, close."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from sqlalchemy.orm import Session

from registry.access import DESCRIBE, Action, check
from registry.api import codeartifact, coordinates
from registry.api.coordinates import Coordinate, known_format, package_key, sort_keys
from registry.api.routes import Route
from registry.api.shapes import Between, Length
from registry.http import context
from registry.http.auth import charge, requires, signed_in_api
from registry.names import PackageKey, PackageName
from registry.rates import CostClass
from registry.repos import browse, promote, publish, shelf, withdraw
from registry.repos.topology import find_repository


@dataclass(frozen=True, slots=True)
class PackageList:
    """Packages by format and name; ``next`` goes into ``after`` for the following ones, null at the end.

    ``packages`` and ``nextToken`` say the same in CodeArtifact's words.
    """

    items: tuple[browse.PackageSummary, ...]
    next: str | None
    packages: tuple[codeartifact.PackageEntry, ...]
    next_token: str | None


@dataclass(frozen=True, slots=True)
class PackageQuery:
    """Which packages: of one format, with ``search`` in their name, behind ``after`` or CodeArtifact's ``nextToken``."""

    format: Annotated[str, Length(1, 32)] | None = None
    search: Annotated[str, Length(0, 100)] = ""
    after: Annotated[str, Length(1, 600)] | None = None
    limit: Annotated[int, Between(1, browse.LARGEST_PAGE - 1)] = 50
    next_token: Annotated[str, Length(1, 600)] | None = None


@dataclass(frozen=True, slots=True)
class NamespaceQuery:
    """The package's namespace, in formats that have one."""

    namespace: Annotated[str, Length(0, 255)] = ""


@dataclass(frozen=True, slots=True)
class Promotion:
    """Where to promote a version. ``assets`` (file name → SHA-256) says exactly which bytes; null for all files."""

    target: Annotated[str, Length(1, 100)]
    assets: Annotated[dict[str, str], Length(1, 1000)] | None = None


@dataclass(frozen=True, slots=True)
class Promoted:
    """What is in the target now: ``assets`` are file names and their SHA-256."""

    domain: str
    source: str
    target: str
    format: str
    namespace: str
    name: str
    version: str
    assets: dict[str, str]


@dataclass(frozen=True, slots=True)
class Yank:
    """Why a version is withdrawn; shown by clients."""

    reason: Annotated[str, Length(0, 500)] = ""


@dataclass(frozen=True, slots=True)
class Status:
    """What state a package is in (active, archived, deprecated, quarantined), and why; clients show both."""

    status: Annotated[str, Length(1, 16)]
    reason: Annotated[str, Length(0, 500)] = ""


def list_packages(query: PackageQuery) -> PackageList:
    """The packages a repository holds itself; what it would find upstream is not listed.

    Those that the caller may not look into (`DescribePackage`) are left out: an entry says more than the name.
    """
    if query.search:
        charge(CostClass.SEARCH)
    services = context.services()
    with services.db.read() as session:
        # One more than asked for tells whether there is more.
        found = browse.packages(
            session,
            context.admission().repository_id,
            format_name=query.format,
            search=query.search,
            after=query.after or query.next_token,
            limit=query.limit + 1,
            sort_keys=sort_keys(services.formats),
        )
    admission, page = context.admission(), found[: query.limit]
    shown = [each for each in page if admission.describes(each.key)]
    following = page[-1].cursor if len(found) > len(page) else None
    return PackageList(tuple(shown), following, tuple(map(codeartifact.package, shown)), following)


def show_package(format_name: str, name: str, query: NamespaceQuery) -> browse.PackageDetail:
    """A package with its versions, newest first."""
    services = context.services()
    found = known_format(services.formats, format_name)
    with services.db.read() as session:
        return browse.package(
            session,
            context.admission().repository_id,
            *package_key(found, query.namespace, name),
            sort_key=found.sort_key,
        )


def show_version(format_name: str, name: str, version: str, query: NamespaceQuery) -> browse.VersionDetail:
    """A version with its metadata and files, and the repositories of the domain that hold it too.

    Of those only the ones the caller may read are named.
    """
    services, repository_id = context.services(), context.admission().repository_id
    with services.db.read() as session:
        at = coordinates.find(session, services.formats, repository_id, format_name, query.namespace, name, version)
        shown = _shown(session, at)
    if not shown.metadata and services.files.readings.read(repository_id, at.key, at.version):
        with services.db.read() as session:
            return _shown(session, at)
    return shown


def _shown(session: Session, at: Coordinate) -> browse.VersionDetail:
    admission = context.admission()
    detail = browse.version(session, admission.repository_id, *at, keyring=context.services().stores.keyring)
    caller = context.identity()
    readable = tuple(
        holder
        for holder in detail.held_by
        if holder == admission.repository
        or (caller is not None and caller.may(Action.READ, f"{admission.domain}/{holder}", at.key))
    )
    # Builds and their runners are told to people who are known.
    return replace(detail, held_by=readable, built_by=detail.built_by if caller is not None else ())


def promote_version(
    *, domain: str, repository: str, format_name: str, name: str, version: str, body: Promotion, query: NamespaceQuery
) -> Promoted:
    """Copy a version to another repository of the domain: the same bytes, and nothing if they are there already.

    Needs `read` on this repository and `promote` on the target.
    """
    services, caller = context.services(), context.caller()
    key = package_key(known_format(services.formats, format_name), query.namespace, name)
    check(caller, Action.READ, f"{domain}/{repository}", key)
    check(caller, Action.PROMOTE, f"{domain}/{body.target}", key)

    def unit(session: Session) -> Promoted:
        _, source = find_repository(session, domain, repository)
        at = coordinates.find(session, services.formats, source.id, format_name, query.namespace, name, version)
        assets = body.assets or promote.version_assets(session, source.id, *at)
        promote.promote(
            session,
            domain=domain,
            format=at.format,
            namespace=at.namespace,
            name=at.name,
            version=at.version,
            assets=assets,
            source=repository,
            target=body.target,
            actor=caller.name,
            now=services.clock(),
            release_frozen_after=services.release_frozen_after,
        )
        return Promoted(domain, repository, body.target, *at, assets)

    return shelf.settle(services.db, unit)


def finish_version(format_name: str, name: str, version: str, query: NamespaceQuery) -> browse.VersionDetail:
    """Publish an Unfinished version: for clients that send a version's files and never say that these are all."""
    services, admission = context.services(), context.admission()
    with services.db.read() as session:
        at = coordinates.find(
            session, services.formats, admission.repository_id, format_name, query.namespace, name, version
        )
    key = PackageKey(at.format, at.namespace, PackageName(at.name))
    services.publisher.finish(admission, key, at.version)
    with services.db.read() as session:
        return _shown(session, at)


def yank_version(format_name: str, name: str, version: str, body: Yank, query: NamespaceQuery) -> browse.VersionDetail:
    """Withdraw a version: clients take it only where it is pinned. Its files stay."""
    return _set_yanked(format_name, name, version, query, body.reason)


def unyank_version(format_name: str, name: str, version: str, query: NamespaceQuery) -> browse.VersionDetail:
    """Put a yanked version back."""
    return _set_yanked(format_name, name, version, query, None)


def _set_yanked(
    format_name: str, name: str, version: str, query: NamespaceQuery, reason: str | None
) -> browse.VersionDetail:
    services = context.services()
    admission = context.admission()
    with services.db.write() as session:
        at = coordinates.find(
            session, services.formats, admission.repository_id, format_name, query.namespace, name, version
        )
        publish.yank(session, admission, *at, reason, services.clock())
        session.flush()
        return _shown(session, at)


def delete_version(format_name: str, name: str, version: str, query: NamespaceQuery) -> None:
    """Take a version with its files out of the repository, for good. Other repositories keep what was promoted to them.

    The names of its files are used up: they come back with the same bytes only.
    """
    services, admission = context.services(), context.admission()

    def unit(session: Session) -> None:
        at = coordinates.find(
            session, services.formats, admission.repository_id, format_name, query.namespace, name, version
        )
        withdraw.delete_version(session, admission, at.key, at.version, services.clock())

    shelf.settle(services.db, unit)


def set_status(format_name: str, name: str, body: Status, query: NamespaceQuery) -> browse.PackageDetail:
    """Say what state a package is in: active, archived (no uploads), deprecated, quarantined (no file is served).

    It counts for this repository and for those that find the package through it.
    """
    services, admission = context.services(), context.admission()
    found = known_format(services.formats, format_name)
    key = package_key(found, query.namespace, name)

    def unit(session: Session) -> browse.PackageDetail:
        withdraw.set_status(session, admission, key, body.status, body.reason, services.clock())
        session.flush()
        return browse.package(session, admission.repository_id, *key, sort_key=found.sort_key)

    return shelf.settle(services.db, unit)


_PACKAGES = "/domains/<domain>/repositories/<repository>/packages"
_PACKAGE = f"{_PACKAGES}/<format_name>/<name>"
_VERSION = f"{_PACKAGE}/versions/<version>"
_describe = requires(Action.READ, repository=True, permission=DESCRIBE)
_describe_version = requires(Action.READ, repository=True, permission="codeartifact:DescribePackageVersion")
_list = requires(Action.READ, repository=True, any_package=True, permission="codeartifact:ListPackages")
_publish = requires(Action.PUBLISH, repository=True)
_set_status = requires(Action.PUBLISH, repository=True, permission="codeartifact:UpdatePackageVersionsStatus")
_delete = requires(Action.PUBLISH, repository=True, permission="codeartifact:DeletePackageVersions")
ROUTES = (
    Route("GET", _PACKAGES, _list, list_packages, query=PackageQuery, answer=PackageList),
    Route("GET", _PACKAGE, _describe, show_package, query=NamespaceQuery, answer=browse.PackageDetail),
    Route("GET", _VERSION, _describe_version, show_version, query=NamespaceQuery, answer=browse.VersionDetail),
    Route(
        "POST",
        f"{_VERSION}/promote",
        signed_in_api,
        promote_version,
        body=Promotion,
        query=NamespaceQuery,
        answer=Promoted,
    ),
    Route(
        "POST",
        f"{_VERSION}/yank",
        _set_status,
        yank_version,
        body=Yank,
        query=NamespaceQuery,
        answer=browse.VersionDetail,
    ),
    Route("POST", f"{_VERSION}/finish", _publish, finish_version, query=NamespaceQuery, answer=browse.VersionDetail),
    Route("POST", f"{_VERSION}/unyank", _set_status, unyank_version, query=NamespaceQuery, answer=browse.VersionDetail),
    Route(
        "PUT",
        f"{_PACKAGE}/status",
        _set_status,
        set_status,
        body=Status,
        query=NamespaceQuery,
        answer=browse.PackageDetail,
    ),
    Route("DELETE", _VERSION, _delete, delete_version, query=NamespaceQuery, status=204),
)
