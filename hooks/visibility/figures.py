"""Lead time, deployment frequency, change failure rate and time to restore, counted from the rows of deployments."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session, aliased, load_only

from hooks.deployments.applications import find_application
from hooks.deployments.ending import TO_ORIGINALS
from hooks.deployments.planning import DeploymentStatus
from hooks.deployments.rights import may_see
from hooks.deployments.rows import ROLLBACK
from hooks.models.build import Build
from hooks.models.deployment import Deployment, DeploymentApplication, DeploymentGroup, version_key
from hooks.models.pipeline import Execution, Pipeline
from hooks.visibility.measures import Change, Measured, measure
from hooks.visibility.whereabouts import execution_of
from registry.access import Identity
from registry.errors import Invalid, NotFound
from registry.models import Asset, BuiltAsset, Domain, Package, PackageVersion, Repository

WINDOWS = (7, 30, 90)
KINDS = ("application", "group", "pipeline")
MOST_DEPLOYMENTS = 5000
_AT_ONCE = 400
_NAMES = ("domain", "format", "namespace", "name", "version")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Figure(Measured):
    """The figures of an application, a group (``application/group``) or a pipeline, by ``name``."""

    name: str


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of the last ``days`` days, by name. ``kind`` says what they are of: application, group or pipeline.

    ``is_cut``: more deployments ended in that time than are looked at, of which these are the newest 5000.
    """

    kind: str
    days: int
    since: datetime
    until: datetime
    items: tuple[Figure, ...]
    is_cut: bool


_READ = (
    Deployment.id,
    Deployment.group_id,
    Deployment.status,
    Deployment.creator,
    Deployment.completed_at,
    Deployment.created_at,
    Deployment.subject,
    Deployment.version_key,
    Deployment.rolled_back_by,
    Deployment.details,
)
"""What is read of a deployment: its documents are large, and not asked."""


@dataclass(frozen=True, slots=True)
class _Ended:
    """A deployment that has ended; ``undone_at`` is when the one that undid it began."""

    row: Deployment
    application: str
    group: str
    undone_at: datetime | None

    @property
    def id(self) -> str:
        """Its id."""
        return self.row.id

    @property
    def ended_at(self) -> datetime:
        """When it ended."""
        return self.row.completed_at or self.row.created_at

    @property
    def key(self) -> str | None:
        """Of the package version that it brought; a rollback without an earlier release has brought none."""
        return None if self.row.details.get(TO_ORIGINALS) else self.row.version_key

    @property
    def has_succeeded(self) -> bool:
        """Whether it did."""
        return self.row.status == DeploymentStatus.SUCCEEDED


def figures(
    session: Session,
    caller: Identity,
    now: datetime,
    *,
    kind: str = "application",
    days: int = 30,
    application: str = "",
    pipeline: str = "",
) -> Figures:
    """The figures of applications that the caller may see, all or one; of one pipeline or whatever deployed.

    Raises Invalid for another window or kind, NotFound for an application that is not there, or not for these eyes.
    """
    if days not in WINDOWS or kind not in KINDS:
        raise Invalid(f"days is one of {', '.join(map(str, WINDOWS))}, by one of {', '.join(KINDS)}")
    since = now - timedelta(days=days)
    rows, is_cut = _ended(session, _applications(session, caller, application), since)
    pipelines, rolled = _executions(session, rows)
    rows = [row for row in rows if not pipeline or pipelines.get(row.id) == pipeline]
    leads = _leads(session, rows, since)
    undone = _undone_by_stages(rows, rolled)
    grouped: dict[str, list[Change]] = {}
    for row in rows:
        name = _name(row, kind, pipelines)
        if name:
            grouped.setdefault(name, []).append(_change(row, rolled, undone.get(row.id), leads.get(row.id)))
    items = tuple(
        Figure(**_values(measure(changes, since, days)), name=name) for name, changes in sorted(grouped.items())
    )
    return Figures(kind, days, since, now, items, is_cut)


def _values(measured: Measured) -> dict[str, Any]:
    return {name: getattr(measured, name) for name in Measured.__dataclass_fields__}


def _name(row: _Ended, kind: str, pipelines: Mapping[str, str]) -> str:
    if kind == "pipeline":
        return pipelines.get(row.id, "")
    return row.application if kind == "application" else f"{row.application}/{row.group}"


def _change(each: _Ended, rolled: Collection[str], undone_at: datetime | None, lead_seconds: float | None) -> Change:
    is_rollback = each.row.creator == ROLLBACK or each.id in rolled
    was_undone = each.row.rolled_back_by is not None or undone_at is not None
    return Change(
        each.row.group_id,
        each.ended_at,
        each.has_succeeded,
        each.row.status == DeploymentStatus.FAILED or (was_undone and not is_rollback),
        is_rollback,
        each.undone_at if each.undone_at is not None else undone_at,
        lead_seconds,
    )


def _undone_by_stages(rows: Iterable[_Ended], rolled: Collection[str]) -> dict[str, datetime]:
    """Deployment → when the rollback of a pipeline's stage began that took away what it had brought."""
    good: dict[str, _Ended] = {}
    found: dict[str, datetime] = {}
    for each in sorted(rows, key=lambda each: each.ended_at):
        if each.id in rolled and each.row.group_id in good:
            found[good.pop(each.row.group_id).id] = each.row.created_at
        elif each.has_succeeded and each.row.creator != ROLLBACK:
            good[each.row.group_id] = each
    return found


# --- reading ---------------------------------------------------------------------------------------------------------


def _applications(session: Session, caller: Identity, name: str) -> list[int]:
    if name:
        found = find_application(session, name)
        if not may_see(caller, found.domain):
            raise NotFound("application", name)
        return [found.id]
    rows = session.execute(select(DeploymentApplication.id, DeploymentApplication.domain)).all()
    sees = {domain: may_see(caller, domain) for domain in {row.domain for row in rows}}
    return [row.id for row in rows if sees[row.domain]]


def _ended(session: Session, applications: Collection[int], since: datetime) -> tuple[list[_Ended], bool]:
    """The deployments of these applications that ended since then, the newest ``MOST_DEPLOYMENTS``."""
    if not applications:
        return [], False
    undoing = aliased(Deployment)
    rows = session.execute(
        select(
            Deployment,
            DeploymentApplication.name.label("application"),
            DeploymentGroup.name.label("group"),
            undoing.created_at.label("undone_at"),
        )
        .join(DeploymentGroup, DeploymentGroup.id == Deployment.group_id)
        .join(DeploymentApplication, DeploymentApplication.id == Deployment.application_id)
        .outerjoin(undoing, undoing.id == Deployment.rolled_back_by)
        .options(load_only(*_READ))
        .where(Deployment.application_id.in_(applications), Deployment.completed_at >= since)
        .order_by(Deployment.completed_at.desc(), Deployment.id)
        .limit(MOST_DEPLOYMENTS + 1)
    ).all()
    found = [_Ended(row.Deployment, row.application, row.group, row.undone_at) for row in rows[:MOST_DEPLOYMENTS]]
    return found, len(rows) > MOST_DEPLOYMENTS


def _executions(session: Session, rows: Iterable[_Ended]) -> tuple[dict[str, str], set[str]]:
    """Deployment → the pipeline that made it; and those that a rollback of a pipeline's stage made."""
    numbers = {row.id: number for row in rows if (number := execution_of(row.row.subject)) is not None}
    found: dict[int, tuple[str, str]] = {}
    for some in _some(sorted(set(numbers.values()))):
        for number, kind, name in session.execute(
            select(Execution.id, Execution.execution_type, Pipeline.name)
            .join(Pipeline, Pipeline.id == Execution.pipeline_id)
            .where(Execution.id.in_(some))
        ):
            found[number] = (name, kind)
    pipelines = {each: found[number][0] for each, number in numbers.items() if number in found}
    rolled = {each for each, number in numbers.items() if number in found and found[number][1] == "ROLLBACK"}
    return pipelines, rolled


def _some(values: Sequence[Value]) -> Iterator[Sequence[Value]]:
    for at in range(0, len(values), _AT_ONCE):
        yield values[at : at + _AT_ONCE]


def _leads(session: Session, rows: Iterable[_Ended], since: datetime) -> dict[str, float]:
    """Deployment → seconds from where its version came from until it was there; of each version and group the first."""
    first: dict[tuple[str, str], _Ended] = {}
    for row in sorted(rows, key=lambda each: each.ended_at):
        if row.has_succeeded and row.key is not None:
            first.setdefault((row.row.group_id, row.key), row)
    keys = sorted({key for _, key in first})
    began: dict[str, datetime] = {}
    known: set[tuple[str, str]] = set()
    for some in _some(keys):
        began |= _beginnings(session, some)
        known |= {
            (group_id, key or "")
            for group_id, key in session.execute(
                select(Deployment.group_id, Deployment.version_key)
                .where(
                    Deployment.version_key.in_(some),
                    Deployment.completed_at < since,
                    Deployment.status == DeploymentStatus.SUCCEEDED.value,
                )
                .distinct()
            )
        }
    return {
        row.id: max(0.0, (row.ended_at - began[key]).total_seconds())
        for (group_id, key), row in first.items()
        if key in began and (group_id, key) not in known
    }


def _beginnings(session: Session, keys: Sequence[str]) -> dict[str, datetime]:
    """Version → when the build that published it was asked for, else when its first file came to this server."""
    one = select(func.min(Deployment.id)).where(Deployment.version_key.in_(keys)).group_by(Deployment.version_key)
    packages = [
        revision["package"] for revision in session.scalars(select(Deployment.revision).where(Deployment.id.in_(one)))
    ]
    columns = (Domain.name, Package.format, Package.namespace, Package.name, PackageVersion.version)
    rows = session.execute(
        select(*columns, func.min(Asset.published_at), func.min(Build.submitted_at))
        .join(Repository, Repository.domain_id == Domain.id)
        .join(Package, Package.repository_id == Repository.id)
        .join(PackageVersion, PackageVersion.package_id == Package.id)
        .join(Asset, Asset.version_id == PackageVersion.id)
        .outerjoin(BuiltAsset, BuiltAsset.asset_id == Asset.id)
        .outerjoin(Build, Build.id == BuiltAsset.build_id)
        .where(tuple_(*columns).in_([tuple(str(package[each]) for each in _NAMES) for package in packages]))
        .group_by(*columns)
    )
    return {
        version_key(dict(zip(_NAMES, names, strict=True))): _first_of(submitted_at, published_at)
        for *names, published_at, submitted_at in rows
    }


def _first_of(submitted_at: datetime | None, published_at: datetime) -> datetime:
    return published_at if submitted_at is None else submitted_at
