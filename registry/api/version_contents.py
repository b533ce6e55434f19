"""What a version holds and what it needs, in CodeArtifact's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import punctuation
from typing import Annotated, Any
from urllib.parse import quote

from flask import Response, request

from registry.access import Action
from registry.api import coordinates
from registry.api.advisories import VersionAdvisories, list_version_advisories
from registry.api.coordinates import known_format, package_key
from registry.api.packages import NamespaceQuery
from registry.api.routes import Door, Route
from registry.api.shapes import Length
from registry.errors import NotFound
from registry.format import Dependency
from registry.http import context
from registry.http.auth import requires
from registry.http.delivery import OCTETS, send_offered
from registry.repos import browse, shelf
from registry.repos.statement import statement

HASH_NAMES: Mapping[str, str] = {"md5": "MD5", "sha1": "SHA-1", "sha256": "SHA-256", "sha512": "SHA-512"}


@dataclass(frozen=True, slots=True)
class VersionAsset:
    """A file; ``hashes`` are hex by MD5, SHA-1, SHA-256 and SHA-512, as far as they are known."""

    name: str
    size: int
    hashes: dict[str, str]


@dataclass(frozen=True, slots=True)
class VersionAssets:
    """The files of a version at a revision."""

    format: str
    namespace: str
    package: str
    version: str
    version_revision: str
    assets: tuple[VersionAsset, ...]


@dataclass(frozen=True, slots=True)
class VersionReadme:
    """The long text of a version, as its author wrote it."""

    format: str
    namespace: str
    package: str
    version: str
    version_revision: str
    readme: str


@dataclass(frozen=True, slots=True)
class VersionDependencies:
    """What a version's archive says that it needs."""

    format: str
    namespace: str
    package: str
    version: str
    version_revision: str
    dependencies: tuple[Dependency, ...]


@dataclass(frozen=True, slots=True)
class VersionProvenance:
    """How builds made a version's files: one in-toto statement with SLSA provenance for each build. They are not signed."""

    format: str
    namespace: str
    package: str
    version: str
    version_revision: str
    statements: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class AssetQuery:
    """Which file of the version, and of which revision of it (of any if not said)."""

    asset: Annotated[str, Length(1, 1000)]
    namespace: Annotated[str, Length(0, 255)] = ""
    revision: Annotated[str, Length(0, 100)] = ""


def get_asset(format_name: str, name: str, version: str, query: AssetQuery) -> Response:
    """A file of a version that the repository holds, whole or one range of it; its ETag is made of its SHA-256.

    Not found where the version has no such file, or another revision than the one that is asked for.
    """
    services, admission = context.services(), context.admission()
    known = known_format(services.formats, format_name)
    key = package_key(known, query.namespace, name)
    with services.db.read() as session:
        at = coordinates.find(
            session, services.formats, admission.repository_id, format_name, query.namespace, name, version
        )
        shown = browse.version(session, admission.repository_id, *at, keyring=services.stores.keyring)
    if query.revision and query.revision != shown.revision:
        raise NotFound("revision", f"{query.revision} of {shown.display_name} {shown.display_version}")
    if all(asset.filename != query.asset for asset in shown.assets):
        raise NotFound("file", f"{query.asset} of {shown.display_name} {shown.display_version}")
    offered = services.resolver.find_file(admission, key, query.asset)
    who = context.identity()
    if offered.status == shelf.UNFINISHED and (who is None or not who.may(Action.PUBLISH, admission.path, key)):
        raise NotFound("file", query.asset)  # others get a version when it is whole
    response = send_offered(services, key, offered)
    named = {"AssetName": query.asset, "PackageVersion": shown.version, "PackageVersionRevision": shown.revision}
    for header, value in named.items():
        response.headers[f"X-{header}"] = quote(value, safe=punctuation)  # header fields are ASCII, names need not be
    return response


def list_assets(format_name: str, name: str, version: str, query: NamespaceQuery) -> VersionAssets:
    """List the files of a version; a Disposed one has none."""
    shown = _detail(format_name, name, version, query)
    assets = tuple(
        VersionAsset(
            asset.filename,
            asset.size_bytes,
            {
                HASH_NAMES[known]: digest
                for known, digest in {**asset.hashes, "sha256": asset.sha256}.items()
                if known in HASH_NAMES
            },
        )
        for asset in shown.assets
    )
    return VersionAssets(*_place(shown), assets)


def show_readme(format_name: str, name: str, version: str, query: NamespaceQuery) -> VersionReadme:
    """The description of a version. Not found where it has none."""
    shown = _detail(format_name, name, version, query)
    if not shown.description:
        raise NotFound("description", f"{shown.display_name} {shown.display_version}")
    return VersionReadme(*_place(shown), shown.description)


def list_dependencies(format_name: str, name: str, version: str, query: NamespaceQuery) -> VersionDependencies:
    """List what a version says that it needs, as far as its archive was read."""
    shown = _detail(format_name, name, version, query)
    known = known_format(context.services().formats, format_name)
    written = shown.metadata.get("requires_dist")
    entries = [entry for entry in written if isinstance(entry, str)] if isinstance(written, list) else []
    found = (known.dependency(entry) for entry in entries)
    return VersionDependencies(*_place(shown), tuple(each for each in found if each is not None))


def show_provenance(format_name: str, name: str, version: str, query: NamespaceQuery) -> VersionProvenance:
    """Say which builds published the files of a version, as in-toto statements. Not found where no build did.

    It is for who is signed in: it names projects, sources and runners.
    """
    shown = _detail(format_name, name, version, query)
    made = shown.built_by if context.identity() is not None else ()
    if not made:
        raise NotFound("provenance", f"{shown.display_name} {shown.display_version}")
    digests = {asset.filename: asset.sha256 for asset in shown.assets}
    base_url = context.services().public_url or request.host_url
    return VersionProvenance(*_place(shown), tuple(statement(each, digests, base_url) for each in made))


def _detail(format_name: str, name: str, version: str, query: NamespaceQuery) -> browse.VersionDetail:
    services, repository_id = context.services(), context.admission().repository_id

    def look() -> browse.VersionDetail:
        with services.db.read() as session:
            at = coordinates.find(session, services.formats, repository_id, format_name, query.namespace, name, version)
            return browse.version(session, repository_id, *at, keyring=services.stores.keyring)

    shown = look()
    key = package_key(known_format(services.formats, format_name), query.namespace, name)
    if not shown.metadata and services.files.readings.read(repository_id, key, shown.version):
        shown = look()
    return shown


def _place(shown: browse.VersionDetail) -> tuple[str, str, str, str, str]:
    return shown.format, shown.namespace, shown.name, shown.version, shown.revision


_VERSION = "/domains/<domain>/repositories/<repository>/packages/<format_name>/<name>/versions/<version>"


def _may(name: str) -> Door:
    return requires(Action.READ, repository=True, permission=f"codeartifact:{name}")


ROUTES = (
    Route(
        "GET",
        f"{_VERSION}/asset",
        _may("GetPackageVersionAsset"),
        get_asset,
        query=AssetQuery,
        media_type=OCTETS,
    ),
    Route(
        "GET",
        f"{_VERSION}/assets",
        _may("ListPackageVersionAssets"),
        list_assets,
        query=NamespaceQuery,
        answer=VersionAssets,
    ),
    Route(
        "GET",
        f"{_VERSION}/readme",
        _may("GetPackageVersionReadme"),
        show_readme,
        query=NamespaceQuery,
        answer=VersionReadme,
    ),
    Route(
        "GET",
        f"{_VERSION}/dependencies",
        _may("ListPackageVersionDependencies"),
        list_dependencies,
        query=NamespaceQuery,
        answer=VersionDependencies,
    ),
    Route(
        "GET",
        f"{_VERSION}/advisories",
        _may("DescribePackageVersion"),
        list_version_advisories,
        query=NamespaceQuery,
        answer=VersionAdvisories,
    ),
    Route(
        "GET",
        f"{_VERSION}/provenance",
        _may("DescribePackageVersion"),
        show_provenance,
        query=NamespaceQuery,
        answer=VersionProvenance,
    ),
)
