"""Environments as a board: which version of what is where, since when and by what, what comes next, and what keeps it.

A row is a package on its way through one pipeline, a column a repository or a deployment group. A page of it costs the same
few queries, however many executions there have been.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from hooks.deployments.board import Fleet, fleets
from hooks.deployments.ending import TO_ORIGINALS
from hooks.deployments.parts import Patience
from hooks.deployments.revisions import PACKAGE, label
from hooks.deployments.rights import may_see as may_see_domain
from hooks.models.deployment import Deployment, DeploymentApplication, DeploymentGroup
from hooks.models.pipeline import Execution, Pipeline, PipelineDefinitionVersion
from hooks.pipelines import store
from hooks.pipelines.definition import PipelineDefinition, from_model
from hooks.pipelines.gates import may_look_into, may_see
from hooks.visibility.blocking import blockers
from hooks.visibility.lanes import GROUP, REPOSITORY, Column, Stop, heading_for, merged, place_of, stops_of
from hooks.visibility.life_shapes import Blocker
from hooks.visibility.whereabouts import execution_of
from registry.access import Identity
from registry.models import Domain, Package, PackageVersion, Repository
from registry.names import PackageKey, PackageName

ROWS_SHOWN = 30
MOST_OPEN = 300
"""So many executions that go on are looked at, the newest, for a page of the board."""
_Key = tuple[str, str, str, str]  # domain, format, namespace, name


@dataclass(frozen=True, slots=True)
class BoardCell:
    """What of a package is in an environment. ``place`` is the repository, or ``application/group``.

    ``version`` None: nothing of it; ``other`` names what a group has instead. ``execution_id`` and ``deployment_id`` brought
    it, ``by`` whom or what. ``next_version`` is what comes next, where that is another one; ``next_execution_id`` brings it,
    and ``blocking`` says what keeps that. Of a group's ``targets`` some may be ``unhealthy`` or ``drifted``;
    ``failed_version`` is what ``failed_deployment_id`` failed to bring, if that was tried last.
    """

    column: int
    place: str
    version: str | None
    other: str
    since: datetime | None
    by: str
    execution_id: int | None
    deployment_id: str | None
    next_version: str | None = None
    next_execution_id: int | None = None
    blocking: tuple[Blocker, ...] = ()
    targets: int = 0
    unhealthy: int = 0
    drifted: int = 0
    failed_version: str | None = None
    failed_deployment_id: str | None = None


@dataclass(frozen=True, slots=True)
class BoardRow:
    """A package on its way through a pipeline. A column without a cell is none of it, or not for the caller's eyes."""

    pipeline: str
    domain: str
    format: str
    namespace: str
    name: str
    last_execution_id: int
    cells: tuple[BoardCell, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """Environments in the order of the pipelines' stages, and rows, those that moved last first.

    ``next`` goes into ``before`` for the following rows, null at the end.
    """

    columns: tuple[Column, ...]
    rows: tuple[BoardRow, ...]
    next: int | None


@dataclass(frozen=True, slots=True, eq=False)  # a definition holds what cannot be hashed
class _Lane:
    pipeline: str
    pipeline_id: int
    definition: PipelineDefinition
    key: _Key
    last: int


@dataclass(frozen=True, slots=True)
class _Group:
    row: DeploymentGroup
    good: Deployment | None
    last: Deployment | None
    fleet: Fleet


@dataclass(frozen=True, slots=True)
class _There:
    """What is there, by place: of repositories (name, package), of groups (application, group)."""

    versions: Mapping[tuple[str, _Key], PackageVersion]
    groups: Mapping[tuple[str, str], _Group]
    deployments: Sequence[Deployment] = field(default_factory=tuple)


def board(
    session: Session,
    caller: Identity,
    patience: Patience,
    now: datetime,
    *,
    pipeline: str = "",
    search: str = "",
    before: int | None = None,
    limit: int = ROWS_SHOWN,
) -> Board:
    """A page of the board, of one pipeline or all, of packages with ``search`` in their name."""
    lanes, following = _lanes(session, pipeline, search, before, limit)
    executions = _executions(session, lanes)
    seen = [lane for lane in lanes if lane.last in executions and may_look_into(caller, executions[lane.last].summary)]
    ways = {lane: stops_of(lane.definition, executions[lane.last].summary.repository) for lane in seen}
    columns = merged([stop.column for stop in way] for way in ways.values())
    there = _there(session, caller, ways)
    moving = [each for each in executions.values() if may_see(caller, each)]
    keeping = blockers(session, moving, caller, patience, now, deployments=there.deployments)
    rows = [
        _row(caller, lane, ways[lane], columns, there, [each for each in moving if _is_of(each, lane)], keeping)
        for lane in seen
    ]
    return Board(columns, tuple(rows), following)


def _is_of(execution: store.ExecutionView, lane: _Lane) -> bool:
    summary = execution.summary
    key = (summary.domain, summary.format, summary.namespace, summary.name)
    return (summary.pipeline, key) == (lane.pipeline, lane.key)


# --- reading ---------------------------------------------------------------------------------------------------------


def _lanes(
    session: Session, pipeline: str, search: str, before: int | None, limit: int
) -> tuple[list[_Lane], int | None]:
    columns = (Execution.pipeline_id, Execution.domain, Execution.format, Execution.namespace, Execution.name)
    last = func.max(Execution.id)
    grouped = select(*columns, last.label("last")).group_by(*columns)
    if search:
        grouped = grouped.where(Execution.name.contains(search, autoescape=True))
    if pipeline:
        grouped = grouped.where(
            Execution.pipeline_id.in_(select(Pipeline.id).where(Pipeline.name == pipeline).scalar_subquery())
        )
    if before is not None:
        grouped = grouped.having(last < before)
    newest = grouped.order_by(last.desc()).limit(limit + 1).subquery()
    rows = session.execute(
        select(newest, Pipeline.name.label("pipeline"), PipelineDefinitionVersion.model)
        .join(Pipeline, Pipeline.id == newest.c.pipeline_id)
        .join(
            PipelineDefinitionVersion,
            (PipelineDefinitionVersion.pipeline_id == Pipeline.id)
            & (PipelineDefinitionVersion.version == Pipeline.current_version),
        )
        .order_by(newest.c.last.desc())
    ).all()
    definitions = {row.pipeline_id: from_model(row.model) for row in rows}
    lanes = [
        _Lane(
            row.pipeline,
            row.pipeline_id,
            definitions[row.pipeline_id],
            (row.domain, row.format, row.namespace, row.name),
            row.last,
        )
        for row in rows[:limit]
    ]
    return lanes, lanes[-1].last if len(rows) > limit else None


def _executions(session: Session, lanes: Sequence[_Lane]) -> dict[int, store.ExecutionView]:
    """The newest of each lane, and those that go on."""
    if not lanes:
        return {}
    packages = [(lane.pipeline_id, *lane.key) for lane in lanes]
    columns = (Execution.pipeline_id, Execution.domain, Execution.format, Execution.namespace, Execution.name)
    going = (
        select(Execution.id)
        .where(
            Execution.pipeline_id.in_({lane.pipeline_id for lane in lanes}),
            Execution.ended_at.is_(None),
            tuple_(*columns).in_(packages),
        )
        .order_by(Execution.id.desc())
        .limit(MOST_OPEN)
    )
    return store.find_executions(session, Execution.id.in_([lane.last for lane in lanes]) | Execution.id.in_(going))


def _there(session: Session, caller: Identity, ways: Mapping[_Lane, Sequence[Stop]]) -> _There:
    repositories = {
        (lane.key[0], stop.column.name, *lane.key[1:])
        for lane, way in ways.items()
        for stop in way
        if stop.column.kind == REPOSITORY and _may_read(caller, lane.key, stop.column.name)
    }
    places = {
        (stop.application, stop.column.name) for way in ways.values() for stop in way if stop.column.kind == GROUP
    }
    versions = _versions(session, repositories)
    groups, deployments = _groups(session, caller, places)
    return _There(versions, groups, deployments)


def _may_read(caller: Identity, key: _Key, repository: str) -> bool:
    domain, format_name, namespace, name = key
    return caller.may_look_into(f"{domain}/{repository}", PackageKey(format_name, namespace, PackageName(name)))


def _versions(session: Session, wanted: Collection[tuple[str, ...]]) -> dict[tuple[str, _Key], PackageVersion]:
    """The version that came to each of these repositories last, by (repository, package)."""
    if not wanted:
        return {}
    columns = (Domain.name, Repository.name, Package.format, Package.namespace, Package.name)
    newest = func.row_number().over(
        partition_by=PackageVersion.package_id, order_by=(PackageVersion.published_at.desc(), PackageVersion.id.desc())
    )
    numbered = (
        select(
            PackageVersion.id, *(column.label(f"c{at}") for at, column in enumerate(columns)), newest.label("number")
        )
        .join(Package, Package.id == PackageVersion.package_id)
        .join(Repository, Repository.id == Package.repository_id)
        .join(Domain, Domain.id == Repository.domain_id)
        .where(tuple_(*columns).in_(list(wanted)), PackageVersion.status == "Published")
        .subquery()
    )
    rows = session.execute(
        select(PackageVersion, numbered)
        .join(numbered, numbered.c.id == PackageVersion.id)
        .where(numbered.c.number == 1)
    )
    return {(row.c1, (row.c0, row.c2, row.c3, row.c4)): row.PackageVersion for row in rows}


def _groups(
    session: Session, caller: Identity, wanted: Collection[tuple[str, str]]
) -> tuple[dict[tuple[str, str], _Group], list[Deployment]]:
    """These groups, where the caller may see them; and all deployments that say what is in them."""
    if not wanted:
        return {}, []
    rows = session.execute(
        select(DeploymentApplication.name, DeploymentApplication.domain, DeploymentGroup)
        .join(DeploymentGroup, DeploymentGroup.application_id == DeploymentApplication.id)
        .where(
            tuple_(DeploymentApplication.name, DeploymentGroup.name).in_(list(wanted)),
            DeploymentApplication.deleted_at.is_(None),
            DeploymentGroup.deleted_at.is_(None),
        )
    ).all()
    found = {(name, group.name): group for name, domain, group in rows if may_see_domain(caller, domain)}
    deployments = _deployments(session, list(found.values()))
    known = {row.id: row for row in deployments}
    counted = fleets(session, [group.id for group in found.values()])
    return {
        at: _Group(
            group,
            known.get(group.last_successful_id or ""),
            known.get(group.last_attempted_id or ""),
            counted.get(group.id, Fleet()),
        )
        for at, group in found.items()
    }, deployments


def _deployments(session: Session, groups: Sequence[DeploymentGroup]) -> list[Deployment]:
    kept = {each for group in groups for each in (group.last_successful_id, group.last_attempted_id) if each}
    is_open = Deployment.group_id.in_([group.id for group in groups]) & Deployment.completed_at.is_(None)
    return list(session.scalars(select(Deployment).where(Deployment.id.in_(kept) | is_open))) if groups else []


# --- drawing ---------------------------------------------------------------------------------------------------------


def _row(
    caller: Identity,
    lane: _Lane,
    way: Sequence[Stop],
    columns: Sequence[Column],
    there: _There,
    executions: Sequence[store.ExecutionView],
    keeping: Mapping[int, tuple[Blocker, ...]],
) -> BoardRow:
    coming = _coming(lane, way, executions, keeping)
    cells: list[BoardCell] = []
    before: str | None = None
    for stop in way:
        facts = _facts(caller, lane, stop, there)
        if facts is None:
            continue
        on_the_way, why = coming.get(stop, (None, ()))
        version = facts["version"]
        following = on_the_way.summary.version if on_the_way is not None else before
        if on_the_way is None and (following is None or following == version or stop is way[0]):
            following = None
        cells.append(
            BoardCell(
                columns.index(stop.column),
                **facts,
                next_version=following,
                next_execution_id=on_the_way.summary.id if on_the_way is not None else None,
                blocking=why,
            )
        )
        before = version or before
    domain, format_name, namespace, name = lane.key
    return BoardRow(lane.pipeline, domain, format_name, namespace, name, lane.last, tuple(cells))


def _coming(
    lane: _Lane,
    way: Sequence[Stop],
    executions: Sequence[store.ExecutionView],
    keeping: Mapping[int, tuple[Blocker, ...]],
) -> dict[Stop, tuple[store.ExecutionView, tuple[Blocker, ...]]]:
    """Environment → the newest execution that is on its way there, and what keeps it."""
    found: dict[Stop, tuple[store.ExecutionView, tuple[Blocker, ...]]] = {}
    for execution in sorted(executions, key=lambda each: each.summary.id):
        why = keeping.get(execution.summary.id, ())
        if not why:
            continue
        stop = heading_for(way, min(place_of(lane.definition, each.stage, each.action) for each in why))
        if stop is not None:
            found[stop] = (execution, why)
    return found


def _facts(caller: Identity, lane: _Lane, stop: Stop, there: _There) -> dict[str, Any] | None:
    if stop.column.kind == REPOSITORY:
        if not _may_read(caller, lane.key, stop.column.name):
            return None
        row = there.versions.get((stop.column.name, lane.key))
        return {
            "place": stop.column.name,
            "version": row.version if row is not None else None,
            "other": "",
            "since": row.published_at if row is not None else None,
            "by": row.published_by if row is not None else "",
            "execution_id": execution_of(row.published_by) if row is not None else None,
            "deployment_id": None,
        }
    group = there.groups.get((stop.application, stop.column.name))
    return _group_facts(lane.key, f"{stop.application}/{stop.column.name}", group) if group is not None else None


def _group_facts(key: _Key, place: str, group: _Group) -> dict[str, Any]:
    good, last = group.good, group.last
    version = _version_of(good, key) if good is not None else None
    has_failed = last is not None and last.completed_at is not None and last.status != "Succeeded"
    return {
        "place": place,
        "version": version,
        "other": label(good.revision) if good is not None and version is None else "",
        "since": good.completed_at if good is not None else None,
        "by": good.initiator if good is not None else "",
        "execution_id": execution_of(good.subject) if good is not None else None,
        "deployment_id": good.id if good is not None else None,
        "targets": group.fleet.targets,
        "unhealthy": group.fleet.unhealthy,
        "drifted": group.fleet.drifted,
        "failed_version": _version_of(last, key) if last is not None and has_failed else None,
        "failed_deployment_id": last.id if last is not None and has_failed else None,
    }


def _version_of(row: Deployment, key: _Key) -> str | None:
    """The version of the package that a deployment has brought; None where it brought something else."""
    if row.revision["revisionType"] != PACKAGE or row.details.get(TO_ORIGINALS):
        return None
    package = row.revision["package"]
    same = (package["domain"], package["format"], package["namespace"], package["name"]) == key
    return str(package["version"]) if same else None
