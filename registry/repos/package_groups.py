"""Package groups of a domain: made, changed and described in CodeArtifact's words. Each change is the topology's.

All functions work in the caller's transaction and write its audit entry.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select, tuple_
from sqlalchemy.orm import Session

from registry import audit
from registry.errors import Conflict, Invalid, NotFound
from registry.format import Format
from registry.models import Domain, Package, PackageGroup, PackageGroupRepository, Repository
from registry.names import PackageKey, PackageName
from registry.repos import topology
from registry.repos.group_patterns import ROOT, Group, GroupTree, Mode, Pattern, Restriction, parse

MOST_GROUPS = 2000
_BATCH = 500
_COLUMNS = {
    Restriction.PUBLISH: "publish",
    Restriction.INTERNAL_UPSTREAM: "internal_upstream",
    Restriction.EXTERNAL_UPSTREAM: "external_upstream",
}


@dataclass(frozen=True, slots=True)
class PackageGroupReference:
    """A package group, by its pattern."""

    pattern: str


@dataclass(frozen=True, slots=True)
class PackageGroupOriginRestriction:
    """What a group says of one way in, and what counts: ``inherited_from`` names whose word it is, if not its own."""

    mode: str
    effective_mode: str
    inherited_from: PackageGroupReference | None
    repositories_count: int


@dataclass(frozen=True, slots=True)
class PackageGroupOriginConfiguration:
    """The restrictions by PUBLISH, INTERNAL_UPSTREAM and EXTERNAL_UPSTREAM."""

    restrictions: dict[str, PackageGroupOriginRestriction]


@dataclass(frozen=True, slots=True)
class PackageGroupDescription:
    """A package group, with its direct parent (null for the root)."""

    pattern: str
    domain_name: str
    created_time: datetime
    contact_info: str
    description: str
    origin_configuration: PackageGroupOriginConfiguration
    parent: PackageGroupReference | None


@dataclass(frozen=True, slots=True)
class AssociatedPackage:
    """A package that belongs to a group; ``association_type`` is STRONG, or WEAK for a variation of the pattern."""

    format: str
    namespace: str
    package: str
    association_type: str


@dataclass(frozen=True, slots=True)
class OriginChange:
    """What to change of a group: modes by restriction, and (restriction, repository) pairs of its lists."""

    restrictions: Mapping[str, str]
    add: Sequence[tuple[str, str]] = ()
    remove: Sequence[tuple[str, str]] = ()


def find_domain(session: Session, name: str) -> Domain:
    """A domain by its name. Raises NotFound."""
    found = session.scalar(select(Domain).where(Domain.name == name))
    if found is None:
        raise NotFound("domain", name)
    return found


def describe(tree: GroupTree, domain: Domain, pattern: str) -> PackageGroupDescription:
    """A group as it is. Raises NotFound."""
    group = tree.group(pattern)
    if group is None:
        raise NotFound("package group", pattern)
    effective, parent = tree.effective(pattern), tree.parent(pattern)
    restrictions = {}
    for restriction in Restriction:
        counts = effective[restriction]
        restrictions[str(restriction)] = PackageGroupOriginRestriction(
            str(group.modes.get(restriction, Mode.INHERIT)),
            str(counts.mode),
            PackageGroupReference(counts.pattern) if counts.pattern != pattern else None,
            len(group.repositories.get(restriction, ())),
        )
    return PackageGroupDescription(
        pattern,
        domain.name,
        group.created_at or domain.created_at,
        group.contact_info,
        group.description,
        PackageGroupOriginConfiguration(restrictions),
        PackageGroupReference(parent) if parent is not None else None,
    )


def create(
    session: Session,
    domain: Domain,
    written: str,
    formats: Mapping[str, Format],
    *,
    description: str = "",
    contact_info: str = "",
    actor: str,
    now: datetime,
) -> None:
    """Add a group, which inherits everything at first. Raises Invalid, or Conflict for one that is there."""
    pattern = parse(written)
    _check_names(pattern, formats)
    tree = topology.load_groups(session, domain.id)
    if tree.group(pattern.text) is not None:
        raise Conflict(f"package group {pattern.text} exists already")
    if len(tree.groups()) >= MOST_GROUPS:
        raise Conflict(f"a domain has at most {MOST_GROUPS} package groups")
    session.add(_row(domain, pattern.text, Mode.INHERIT, description, contact_info, now))
    session.flush()
    topology.bump(session, domain.id)
    audit.record(session, now, actor, "package-group.create", _place(domain, pattern.text), description=description)


def update(
    session: Session,
    domain: Domain,
    pattern: str,
    *,
    description: str | None,
    contact_info: str | None,
    actor: str,
    now: datetime,
) -> None:
    """Change a group's description and contact; None leaves one as it is. Raises NotFound."""
    row = _changeable(session, domain, pattern, now)
    changed = {"description": description, "contact_info": contact_info}
    changed = {name: value for name, value in changed.items() if value is not None and getattr(row, name) != value}
    if not changed:
        return
    for name, value in changed.items():
        setattr(row, name, value)
    session.flush()
    topology.bump(session, domain.id)
    audit.record(session, now, actor, "package-group.update", _place(domain, pattern), **changed)


def remove(session: Session, domain: Domain, pattern: str, *, actor: str, now: datetime) -> None:
    """Take a group out: what belonged to it belongs to its parent. Raises NotFound, or Invalid for the root."""
    if pattern == ROOT:
        raise Invalid("the package group /* is always there")
    row = _find(session, domain, pattern)
    if row is None:
        raise NotFound("package group", pattern)
    session.execute(delete(PackageGroupRepository).where(PackageGroupRepository.group_id == row.id))
    session.delete(row)
    session.flush()
    topology.bump(session, domain.id)
    audit.record(session, now, actor, "package-group.delete", _place(domain, pattern))


def configure(
    session: Session, domain: Domain, pattern: str, change: OriginChange, *, actor: str, now: datetime
) -> dict[str, dict[str, tuple[str, ...]]]:
    """Change a group's restrictions and lists; gives restriction → ADDED or REMOVED → repositories.

    Raises NotFound for a group or repository, Invalid for what is no restriction or mode.
    """
    row = _changeable(session, domain, pattern, now)
    for written, mode in change.restrictions.items():
        setattr(row, _COLUMNS[_restriction(written)], _mode(pattern, mode))
    updates: dict[str, dict[str, tuple[str, ...]]] = {}
    for word, entries in (("ADDED", change.add), ("REMOVED", change.remove)):
        for written, name in entries:
            restriction = _restriction(written)
            if _list(session, domain, row, restriction, name, is_added=word == "ADDED"):
                of = updates.setdefault(str(restriction), {})
                of[word] = (*of.get(word, ()), name)
    session.flush()
    topology.bump(session, domain.id)
    audit.record(
        session,
        now,
        actor,
        "package-group.origin-configuration",
        _place(domain, pattern),
        restrictions={column: getattr(row, column) for column in _COLUMNS.values()},
        repositories={
            restriction: {word: list(names) for word, names in of.items()} for restriction, of in updates.items()
        },
    )
    return updates


def allowed_repositories(session: Session, tree: GroupTree, pattern: str, restriction: str) -> list[str]:
    """The names on one of a group's lists, sorted. Raises NotFound or Invalid."""
    group = tree.group(pattern)
    if group is None:
        raise NotFound("package group", pattern)
    ids = group.repositories.get(_restriction(restriction), frozenset())
    return sorted(session.scalars(select(Repository.name).where(Repository.id.in_(ids))))


def associated(
    session: Session,
    tree: GroupTree,
    pattern: str,
    repository_ids: Collection[int],
    *,
    after: tuple[str, str, str] | None = None,
    limit: int = 100,
) -> list[AssociatedPackage]:
    """The packages of these repositories that belong to a group of the tree, by format, namespace and name."""
    place = (Package.format, Package.namespace, Package.name)
    statement = select(*place).where(Package.repository_id.in_(repository_ids)).distinct().order_by(*place)
    wanted = parse(pattern)
    if wanted.format:
        statement = statement.where(Package.format == wanted.format)
    found: list[AssociatedPackage] = []
    while len(found) < limit:
        page = statement if after is None else statement.where(tuple_(*place) > after)
        rows = session.execute(page.limit(_BATCH)).all()
        for format_name, namespace, name in rows:
            ruling = tree.ruling(PackageKey(format_name, namespace, PackageName(name)))
            if ruling.pattern == pattern and len(found) < limit:
                kind = "STRONG" if ruling.is_strong else "WEAK"
                found.append(AssociatedPackage(format_name, namespace, name, kind))
        if len(rows) < _BATCH:
            break
        after = (rows[-1][0], rows[-1][1], rows[-1][2])
    return found


def preview(tree: GroupTree, written: str, formats: Mapping[str, Format]) -> GroupTree:
    """The tree as it would be with a group of that pattern. Raises Invalid."""
    pattern = parse(written)
    _check_names(pattern, formats)
    return tree if tree.group(pattern.text) is not None else tree.with_group(Group(pattern, {}))


def _check_names(pattern: Pattern, formats: Mapping[str, Format]) -> None:
    """A pattern that no package can match protects nothing: say so at once, and how the format writes the name."""
    if not pattern.format:
        return
    known = formats.get(pattern.format)
    if known is None:
        raise Invalid(f"there is no format {pattern.format[:40]!a}; known are: {', '.join(sorted(formats))}")
    begins = pattern.text.count("/") == 2 and pattern.literal  # a beginning of namespaces: not whole, perhaps
    if pattern.namespace or begins:
        _check_namespace(pattern, known, f"{begins}a" if begins else pattern.namespace)
    if not pattern.text.endswith("$"):
        return
    written = f"{pattern.namespace}/{pattern.literal}" if pattern.namespace else pattern.literal
    key = known.key(written)
    if (key.namespace, key.name) != (pattern.namespace, pattern.literal):
        raise Invalid(f"{pattern.text!a}: this package is kept as /{key.format}/{key.namespace}/{key.name}$")


def _check_namespace(pattern: Pattern, known: Format, namespace: str) -> None:
    try:
        has_some = bool(known.key(f"{namespace}/a").namespace)
    except Invalid:
        has_some = False
    if not has_some:
        raise Invalid(
            f"{pattern.text!a} matches no package: no namespace of {known.name} packages is or begins like that; where a "
            f"format has none, nothing stands between the slashes, as in /{known.name}//name~"
        )


def _restriction(written: str) -> Restriction:
    try:
        return Restriction(written)
    except ValueError:
        raise Invalid(f"a restriction is one of {', '.join(Restriction)}, not {written[:40]!a}") from None


def _mode(pattern: str, written: str) -> str:
    try:
        mode = Mode(written)
    except ValueError:
        raise Invalid(f"a mode is one of {', '.join(Mode)}, not {written[:40]!a}") from None
    if mode is Mode.INHERIT and pattern == ROOT:
        raise Invalid("the package group /* has nobody to inherit from")
    return str(mode)


def _list(
    session: Session, domain: Domain, row: PackageGroup, restriction: Restriction, name: str, *, is_added: bool
) -> bool:
    """Put a repository on a list or take it off; False when it was so already."""
    repository_id = session.scalar(
        select(Repository.id).where(Repository.domain_id == domain.id, Repository.name == name)
    )
    if repository_id is None:
        raise NotFound("repository", f"{domain.name}/{name}")
    entry = session.get(PackageGroupRepository, (row.id, str(restriction), repository_id))
    if (entry is not None) == is_added:
        return False
    if entry is not None:
        session.delete(entry)
    else:
        session.add(PackageGroupRepository(group_id=row.id, restriction=str(restriction), repository_id=repository_id))
    session.flush()
    return True


def _find(session: Session, domain: Domain, pattern: str) -> PackageGroup | None:
    return session.scalar(
        select(PackageGroup).where(PackageGroup.domain_id == domain.id, PackageGroup.pattern == pattern)
    )


def _changeable(session: Session, domain: Domain, pattern: str, now: datetime) -> PackageGroup:
    """A group's row; the root's is made when it is first changed. Raises NotFound."""
    row = _find(session, domain, pattern)
    if row is None:
        if pattern != ROOT:
            raise NotFound("package group", pattern)
        row = _row(domain, ROOT, Mode.ALLOW, "", "", now)
        session.add(row)
        session.flush()
    return row


def _row(domain: Domain, pattern: str, mode: Mode, description: str, contact_info: str, now: datetime) -> PackageGroup:
    return PackageGroup(
        domain_id=domain.id,
        pattern=pattern,
        publish=str(mode),
        internal_upstream=str(mode),
        external_upstream=str(mode),
        description=description,
        contact_info=contact_info,
        created_at=now,
    )


def _place(domain: Domain, pattern: str) -> str:
    return f"{domain.name}/package-groups{pattern}"
