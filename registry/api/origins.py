"""A package's origin controls in a repository, and what they and everything else decide about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sqlalchemy.orm import Session

from registry.access import Action
from registry.api.coordinates import known_format, package_key
from registry.api.packages import NamespaceQuery
from registry.api.routes import Route
from registry.api.shapes import Length
from registry.http import context
from registry.http.auth import requires
from registry.repos import explain, origin_controls, shelf

Word = Annotated[str, Length(1, 16)]


@dataclass(frozen=True, slots=True)
class PackageOriginRestrictions:
    """Whether versions may be published here, and whether they may come from upstreams: ALLOW or BLOCK."""

    publish: Word
    upstream: Word


@dataclass(frozen=True, slots=True)
class PackageOrigin:
    """PutPackageOriginConfiguration: both restrictions, always together."""

    restrictions: PackageOriginRestrictions


@dataclass(frozen=True, slots=True)
class PackageOriginConfiguration:
    """A package's own restrictions; what its package group says comes on top."""

    restrictions: PackageOriginRestrictions


@dataclass(frozen=True, slots=True)
class OriginConfiguration:
    """The origin configuration of a package in a repository."""

    origin_configuration: PackageOriginConfiguration


@dataclass(frozen=True, slots=True)
class ExplainQuery:
    """The package's namespace, in formats that have one, and one version, if only that is asked about."""

    namespace: Annotated[str, Length(0, 255)] = ""
    version: Annotated[str, Length(1, 255)] | None = None


def put_package_origin_configuration(
    format_name: str, name: str, body: PackageOrigin, query: NamespaceQuery
) -> OriginConfiguration:
    """Say how further versions of a package may get into the repository; also before its first version.

    Allowing both puts versions of ours and of the outside beside each other: whoever can publish the name outside can
    then be installed here.
    """
    services, admission = context.services(), context.admission()
    known = known_format(services.formats, format_name)
    key = package_key(known, query.namespace, name)

    def unit(session: Session) -> None:
        wanted = body.restrictions
        origin_controls.put(
            session,
            admission,
            key,
            wanted.publish,
            wanted.upstream,
            display_name=known.display_name(key),
            now=services.clock(),
        )

    shelf.settle(services.db, unit)
    return OriginConfiguration(PackageOriginConfiguration(body.restrictions))


def get_package_origin_configuration(format_name: str, name: str, query: NamespaceQuery) -> OriginConfiguration:
    """A package's origin controls in the repository."""
    services = context.services()
    key = package_key(known_format(services.formats, format_name), query.namespace, name)
    with services.db.read() as session:
        found = origin_controls.get(session, context.admission().repository_id, key)
    return OriginConfiguration(PackageOriginConfiguration(PackageOriginRestrictions(*found)))


def explain_package(format_name: str, name: str, query: ExplainQuery) -> explain.Explanation:
    """What would be served of a package from where, and why not from elsewhere. No upstream is asked."""
    services, admission = context.services(), context.admission()
    known = known_format(services.formats, format_name)
    key = package_key(known, query.namespace, name)
    topology, who = services.resolver.topology(admission), context.identity()

    def may_read(repository: str) -> bool:
        return repository == admission.repository or (
            who is not None and who.may(Action.READ, f"{admission.domain}/{repository}", key)
        )

    with services.db.read() as session:
        return explain.explain(
            session,
            topology,
            admission.repository_id,
            key,
            sort_key=known.sort_key,
            may_read=may_read,
            version=query.version,
        )


_PACKAGE = "/domains/<domain>/repositories/<repository>/packages/<format_name>/<name>"
ROUTES = (
    Route(
        "PUT",
        f"{_PACKAGE}/origin-configuration",
        requires(Action.ADMIN, repository=True, permission="codeartifact:PutPackageOriginConfiguration"),
        put_package_origin_configuration,
        body=PackageOrigin,
        query=NamespaceQuery,
        answer=OriginConfiguration,
    ),
    Route(
        "GET",
        f"{_PACKAGE}/origin-configuration",
        requires(Action.READ, repository=True),
        get_package_origin_configuration,
        query=NamespaceQuery,
        answer=OriginConfiguration,
    ),
    Route(
        "GET",
        f"{_PACKAGE}/explain",
        requires(Action.READ, repository=True),
        explain_package,
        query=ExplainQuery,
        answer=explain.Explanation,
    ),
)
