"""What a version holds and what it needs, in CodeArtifact's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import request

from registry.access import Action
from registry.api import coordinates
from registry.api.coordinates import known_format, package_key
from registry.api.packages import NamespaceQuery
from registry.api.routes import Door, Route
from registry.errors import NotFound
from registry.format import Dependency
from registry.http import context
from registry.http.auth import requires
from registry.repos import browse
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
        f"{_VERSION}/provenance",
        _may("DescribePackageVersion"),
        show_provenance,
        query=NamespaceQuery,
        answer=VersionProvenance,
    ),
)
