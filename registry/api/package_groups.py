"""Package groups of a domain: CodeArtifact's operations with their names and documents, below ``/domains/{domain}``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.access import Action, check
from registry.api.coordinates import known_format, package_key
from registry.api.routes import Door, Route
from registry.api.shapes import Between, Length
from registry.errors import Invalid, NotFound
from registry.http import context
from registry.http.auth import requires, signed_in_api
from registry.models import Domain, Repository
from registry.repos import package_groups, shelf, topology
from registry.repos.group_patterns import LONGEST_PATTERN, GroupTree
from registry.repos.package_groups import AssociatedPackage, OriginChange, PackageGroupDescription

PatternText = Annotated[str, Length(2, LONGEST_PATTERN)]
Text = Annotated[str, Length(0, 1000)]
Token = Annotated[str, Length(1, 2000)]
Page = Annotated[int, Between(1, 1000)]


@dataclass(frozen=True, slots=True)
class NewPackageGroup:
    """CreatePackageGroup: ``package_group`` is the pattern, which is also the group's name."""

    package_group: PatternText
    contact_info: Text = ""
    description: Text = ""


@dataclass(frozen=True, slots=True)
class PackageGroupChange:
    """UpdatePackageGroup: what is null or not there stays."""

    package_group: PatternText
    contact_info: Text | None = None
    description: Text | None = None


@dataclass(frozen=True, slots=True)
class PackageGroupQuery:
    """Which group, by its pattern."""

    package_group: PatternText


@dataclass(frozen=True, slots=True)
class PackageGroupListQuery:
    """Groups whose patterns begin with ``prefix``."""

    prefix: Annotated[str, Length(0, LONGEST_PATTERN)] = ""
    max_results: Page = 100
    next_token: Token | None = None


@dataclass(frozen=True, slots=True)
class SubPackageGroupQuery:
    """The direct children of a group."""

    package_group: PatternText
    max_results: Page = 100
    next_token: Token | None = None


@dataclass(frozen=True, slots=True)
class PackageGroupAnswer:
    """One package group."""

    package_group: PackageGroupDescription


@dataclass(frozen=True, slots=True)
class PackageGroupList:
    """Package groups, each behind its parents; ``next_token`` asks for the following ones, null at the end."""

    package_groups: tuple[PackageGroupDescription, ...]
    next_token: str | None


@dataclass(frozen=True, slots=True)
class PackageGroupAllowedRepository:
    """A repository on one of a group's lists."""

    repository_name: Annotated[str, Length(1, 100)]
    origin_restriction_type: Annotated[str, Length(1, 32)]


Entries = Annotated[tuple[PackageGroupAllowedRepository, ...], Length(0, 1000)]


@dataclass(frozen=True, slots=True)
class OriginConfigurationChange:
    """Restriction (PUBLISH, INTERNAL_UPSTREAM, EXTERNAL_UPSTREAM) → mode, and what to change of the lists."""

    restrictions: Annotated[dict[str, str], Length(0, 3)] = field(default_factory=dict)
    add_allowed_repositories: Entries = ()
    remove_allowed_repositories: Entries = ()


@dataclass(frozen=True, slots=True)
class OriginConfigurationAnswer:
    """The group as it is now; restriction → ADDED or REMOVED → repositories that were."""

    package_group: PackageGroupDescription
    allowed_repository_updates: dict[str, dict[str, tuple[str, ...]]]


@dataclass(frozen=True, slots=True)
class AllowedRepositoriesQuery:
    """Which list of which group."""

    package_group: PatternText
    origin_restriction_type: Annotated[str, Length(1, 32)]
    max_results: Page = 100
    next_token: Token | None = None


@dataclass(frozen=True, slots=True)
class AllowedRepositoryList:
    """Names of repositories; ``next_token`` asks for the following ones, null at the end."""

    allowed_repositories: tuple[str, ...]
    next_token: str | None


@dataclass(frozen=True, slots=True)
class AssociatedGroupQuery:
    """Which package; it need not be in any repository."""

    format: Annotated[str, Length(1, 32)]
    package: Annotated[str, Length(1, 255)]
    namespace: Annotated[str, Length(0, 255)] = ""


@dataclass(frozen=True, slots=True)
class AssociatedGroup:
    """The group that counts for a package; STRONG, or WEAK for a variation of its pattern, which is blocked."""

    package_group: PackageGroupDescription
    association_type: str


@dataclass(frozen=True, slots=True)
class AssociatedPackagesQuery:
    """The packages of a group; with ``preview`` ("true") also of one that does not exist."""

    package_group: PatternText
    preview: Annotated[str, Length(4, 5)] = "false"
    max_results: Page = 100
    next_token: Token | None = None


@dataclass(frozen=True, slots=True)
class AssociatedPackageList:
    """Packages by format, namespace and name; ``next_token`` asks for the following ones, null at the end."""

    packages: tuple[AssociatedPackage, ...]
    next_token: str | None


def create_package_group(domain: str, body: NewPackageGroup) -> PackageGroupAnswer:
    """Add a package group. It inherits every restriction until they are changed."""
    services, caller = context.services(), context.caller()

    def unit(session: Session) -> PackageGroupAnswer:
        found = package_groups.find_domain(session, domain)
        package_groups.create(
            session,
            found,
            body.package_group,
            services.formats,
            description=body.description,
            contact_info=body.contact_info,
            actor=caller.name,
            now=services.clock(),
        )
        return _described(session, found, body.package_group)

    return shelf.settle(services.db, unit)


def update_package_group(domain: str, body: PackageGroupChange) -> PackageGroupAnswer:
    """Change a package group's description and contact."""
    services, caller = context.services(), context.caller()

    def unit(session: Session) -> PackageGroupAnswer:
        found = package_groups.find_domain(session, domain)
        package_groups.update(
            session,
            found,
            body.package_group,
            description=body.description,
            contact_info=body.contact_info,
            actor=caller.name,
            now=services.clock(),
        )
        return _described(session, found, body.package_group)

    return shelf.settle(services.db, unit)


def delete_package_group(domain: str, query: PackageGroupQuery) -> PackageGroupAnswer:
    """Take a package group out; its packages and its subgroups belong to its parent from now on."""
    services, caller = context.services(), context.caller()

    def unit(session: Session) -> PackageGroupAnswer:
        found = package_groups.find_domain(session, domain)
        gone = _described(session, found, query.package_group)
        package_groups.remove(session, found, query.package_group, actor=caller.name, now=services.clock())
        return gone

    return shelf.settle(services.db, unit)


def update_package_group_origin_configuration(
    domain: str, query: PackageGroupQuery, body: OriginConfigurationChange
) -> OriginConfigurationAnswer:
    """Change what a package group says of publishing, internal upstreams and the outside."""
    services, caller = context.services(), context.caller()
    change = OriginChange(
        body.restrictions,
        [(entry.origin_restriction_type, entry.repository_name) for entry in body.add_allowed_repositories],
        [(entry.origin_restriction_type, entry.repository_name) for entry in body.remove_allowed_repositories],
    )

    def unit(session: Session) -> OriginConfigurationAnswer:
        found = package_groups.find_domain(session, domain)
        updates = package_groups.configure(
            session, found, query.package_group, change, actor=caller.name, now=services.clock()
        )
        return OriginConfigurationAnswer(_described(session, found, query.package_group).package_group, updates)

    return shelf.settle(services.db, unit)


def describe_package_group(domain: str, query: PackageGroupQuery) -> PackageGroupAnswer:
    """A package group with its restrictions, what they inherit, and its parent."""
    with context.services().db.read() as session:
        return _described(session, _readable_domain(session, domain), query.package_group)


def list_package_groups(domain: str, query: PackageGroupListQuery) -> PackageGroupList:
    """The package groups of a domain."""
    with context.services().db.read() as session:
        found = _readable_domain(session, domain)
        tree = topology.load_groups(session, found.id)
        patterns = [group.pattern.text for group in tree.groups() if group.pattern.text.startswith(query.prefix)]
        return _page(tree, found, patterns, query.max_results, query.next_token)


def list_sub_package_groups(domain: str, query: SubPackageGroupQuery) -> PackageGroupList:
    """The direct children of a package group."""
    with context.services().db.read() as session:
        found = _readable_domain(session, domain)
        tree = topology.load_groups(session, found.id)
        if tree.group(query.package_group) is None:
            raise NotFound("package group", query.package_group)
        patterns = [group.pattern.text for group in tree.children(query.package_group)]
        return _page(tree, found, patterns, query.max_results, query.next_token)


def list_allowed_repositories_for_group(domain: str, query: AllowedRepositoriesQuery) -> AllowedRepositoryList:
    """The repositories on one of a package group's lists."""
    with context.services().db.read() as session:
        tree = topology.load_groups(session, _readable_domain(session, domain).id)
        names = package_groups.allowed_repositories(session, tree, query.package_group, query.origin_restriction_type)
    left = [name for name in names if query.next_token is None or name > query.next_token]
    shown = tuple(left[: query.max_results])
    return AllowedRepositoryList(shown, shown[-1] if len(left) > len(shown) else None)


def get_associated_package_group(domain: str, query: AssociatedGroupQuery) -> AssociatedGroup:
    """The package group that counts for a package, whether it is in any repository or not."""
    services = context.services()
    key = package_key(known_format(services.formats, query.format), query.namespace, query.package)
    with services.db.read() as session:
        found = _readable_domain(session, domain)
        tree = topology.load_groups(session, found.id)
    ruling = tree.ruling(key)
    described = package_groups.describe(tree, found, ruling.pattern)
    return AssociatedGroup(described, "STRONG" if ruling.is_strong else "WEAK")


def list_associated_packages(domain: str, query: AssociatedPackagesQuery) -> AssociatedPackageList:
    """The packages that belong to a package group, of those repositories that the caller may read."""
    services, caller = context.services(), context.caller()
    if query.preview not in {"true", "false"}:
        raise Invalid("preview is true or false")
    after = tuple(query.next_token.split("/", 2)) if query.next_token is not None else None
    if after is not None and len(after) != 3:
        raise Invalid("the place to go on after is not one this list gave; start again without it")
    with services.db.read() as session:
        found = _readable_domain(session, domain)
        tree = topology.load_groups(session, found.id)
        if query.preview == "true":
            tree = package_groups.preview(tree, query.package_group, services.formats)
        elif tree.group(query.package_group) is None:
            raise NotFound("package group", query.package_group)
        rows = session.execute(select(Repository.id, Repository.name).where(Repository.domain_id == found.id))
        ids = [each for each, name in rows if caller.may(Action.READ, f"{domain}/{name}")]
        packages = package_groups.associated(
            session,
            tree,
            query.package_group,
            ids,
            after=(after[0], after[1], after[2]) if after is not None else None,
            limit=query.max_results + 1,
        )
    shown = tuple(packages[: query.max_results])
    last = shown[-1] if len(packages) > len(shown) else None
    return AssociatedPackageList(shown, f"{last.format}/{last.namespace}/{last.package}" if last is not None else None)


def _page(tree: GroupTree, domain: Domain, patterns: list[str], limit: int, token: str | None) -> PackageGroupList:
    begin = patterns.index(token) + 1 if token in patterns else 0
    shown = patterns[begin : begin + limit]
    described = tuple(package_groups.describe(tree, domain, pattern) for pattern in shown)
    return PackageGroupList(described, shown[-1] if begin + limit < len(patterns) else None)


def _described(session: Session, domain: Domain, pattern: str) -> PackageGroupAnswer:
    return PackageGroupAnswer(package_groups.describe(topology.load_groups(session, domain.id), domain, pattern))


def _readable_domain(session: Session, name: str) -> Domain:
    """The domain, if the caller may read any repository of it: names that are guarded are nobody else's business."""
    caller = context.caller()
    names = session.scalars(select(Repository.name).join(Domain).where(Domain.name == name)).all()
    if not any(caller.may(Action.READ, f"{name}/{repository}") for repository in names):
        check(caller, Action.ADMIN)
    return package_groups.find_domain(session, name)


_DOMAIN = "/domains/<domain>"
_GROUP = f"{_DOMAIN}/package-group"


def _may(name: str) -> Door:
    return requires(Action.ADMIN, domain=True, permission=f"codeartifact:{name}")


ROUTES = (
    Route(
        "POST",
        _GROUP,
        _may("CreatePackageGroup"),
        create_package_group,
        body=NewPackageGroup,
        answer=PackageGroupAnswer,
        status=201,
    ),
    Route("GET", _GROUP, signed_in_api, describe_package_group, query=PackageGroupQuery, answer=PackageGroupAnswer),
    Route(
        "PUT",
        _GROUP,
        _may("UpdatePackageGroup"),
        update_package_group,
        body=PackageGroupChange,
        answer=PackageGroupAnswer,
    ),
    Route(
        "DELETE",
        _GROUP,
        _may("DeletePackageGroup"),
        delete_package_group,
        query=PackageGroupQuery,
        answer=PackageGroupAnswer,
    ),
    Route(
        "PUT",
        f"{_GROUP}-origin-configuration",
        _may("UpdatePackageGroupOriginConfiguration"),
        update_package_group_origin_configuration,
        body=OriginConfigurationChange,
        query=PackageGroupQuery,
        answer=OriginConfigurationAnswer,
    ),
    Route(
        "GET",
        f"{_GROUP}-allowed-repositories",
        signed_in_api,
        list_allowed_repositories_for_group,
        query=AllowedRepositoriesQuery,
        answer=AllowedRepositoryList,
    ),
    Route(
        "GET", f"{_GROUP}s", signed_in_api, list_package_groups, query=PackageGroupListQuery, answer=PackageGroupList
    ),
    Route(
        "GET",
        f"{_GROUP}s/sub-groups",
        signed_in_api,
        list_sub_package_groups,
        query=SubPackageGroupQuery,
        answer=PackageGroupList,
    ),
    Route(
        "GET",
        f"{_DOMAIN}/get-associated-package-group",
        signed_in_api,
        get_associated_package_group,
        query=AssociatedGroupQuery,
        answer=AssociatedGroup,
    ),
    Route(
        "GET",
        f"{_DOMAIN}/list-associated-packages",
        signed_in_api,
        list_associated_packages,
        query=AssociatedPackagesQuery,
        answer=AssociatedPackageList,
    ),
)
