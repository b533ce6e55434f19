"""The life of a package version: its source, builds, reports, approvals, places, deployments, and what keeps it now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.builds.project_rights import may_see_build
from hooks.builds.source import PackageSource, digest_of
from hooks.deployments.parts import Patience
from hooks.models.build import Build, BuildProject
from hooks.models.report import Report, ReportGroup
from hooks.pipelines import store
from hooks.pipelines.gates import may_see
from hooks.pipelines.state import ActionStatus
from hooks.visibility.blocking import blockers
from hooks.visibility.life_shapes import (
    LifeAnswer,
    LifeApproval,
    LifeBuild,
    LifeExecution,
    LifePlace,
    LifeReport,
    LifeSource,
    PackageLife,
)
from hooks.visibility.timeline import timeline
from hooks.visibility.whereabouts import deployments_of, execution_of
from registry.access import Identity
from registry.errors import NotFound
from registry.models import Asset, AuditEntry, BuiltAsset, Domain, Package, PackageVersion, Repository
from registry.names import PackageKey

MOST_EXECUTIONS = 50
_PUBLISHING = ("asset.publish", "version.promote")
_APPROVAL = "Approval"
_PERCENT = 100.0

Sees = Callable[[str], bool]
"""Whether a repository of the domain, by its name, may be looked into."""


@dataclass(frozen=True, slots=True)
class _Held:
    """A version's rows in a repository, with its files and who built them."""

    repository: str
    package: Package
    version: PackageVersion
    files: dict[str, str]
    built: list[BuiltAsset]


def find_spelling(session: Session, domain: str, key: PackageKey, spelling: str, sort_key: Callable[[str], Any]) -> str:
    """The canonical form of a version that some repository of the domain holds; else the spelling as it is."""
    rows = session.execute(
        _versions(domain, key).with_only_columns(PackageVersion.version, PackageVersion.display_version).distinct()
    ).all()
    for matches in (
        {kept for kept, _ in rows if kept == spelling},
        {kept for kept, shown in rows if shown == spelling},
        {kept for kept, _ in rows if sort_key(kept) == sort_key(spelling)},
    ):
        if len(matches) == 1:
            return str(matches.pop())
    return spelling


def life_of(
    session: Session,
    caller: Identity,
    patience: Patience,
    *,
    domain: str,
    key: PackageKey,
    version: str,
    now: datetime,
    sees: Sees | None = None,
) -> PackageLife:
    """All that the caller may see of a version (canonical names). Raises NotFound where that is nothing.

    ``sees`` says which of the domain's repositories may be looked into, where more counts than the caller's rights (pages
    show what anybody may read). It costs about fifteen queries, however long the life was.
    """
    looks = sees or (lambda repository: caller.may_look_into(f"{domain}/{repository}", key))
    held = _held(session, looks, domain, key, version)
    package = (domain, key.format, key.namespace, str(key.name))
    found = store.list_executions(session, package=package, version=version, limit=MOST_EXECUTIONS + 1)
    views = store.get_executions(session, [each.id for each in found[:MOST_EXECUTIONS]])
    executions = [view for _, view in sorted(views.items()) if may_see(caller, view)]
    named = {"domain": domain, "format": key.format, "namespace": key.namespace, "name": key.name, "version": version}
    deployments, more = deployments_of(session, caller, named)
    if not (held or executions or deployments):
        raise NotFound("version", f"{key.path} {version}")
    pipelines = {each.summary.id: each.summary.pipeline for each in executions}
    via = _vias(session, held, domain, key)
    places = tuple(_place(each, via, pipelines) for each in held)
    source = _source(held, via)
    builds, reports = _builds(session, caller, held, executions)
    approvals = tuple(each for execution in executions for each in approvals_of(execution))
    keeping = blockers(session, _newest(executions), caller, patience, now)
    told = tuple(_execution(each.summary) for each in executions)
    return PackageLife(
        domain=domain,
        format=key.format,
        namespace=key.namespace,
        name=str(key.name),
        version=version,
        source=source,
        places=places,
        builds=builds,
        reports=reports,
        executions=told,
        approvals=approvals,
        deployments=tuple(deployments),
        blocking=tuple(each for listed in keeping.values() for each in listed),
        timeline=timeline(source, places, builds, reports, told, approvals, deployments),
        is_cut=len(found) > MOST_EXECUTIONS or more,
    )


def _newest(executions: Sequence[store.ExecutionView]) -> list[store.ExecutionView]:
    """The newest execution of each pipeline and repository: an older one keeps nothing any more, unless it goes on."""
    last = {(each.summary.pipeline, each.summary.repository): each for each in executions}
    return [each for each in executions if each in last.values() or each.summary.ended_at is None]


# --- where it is -----------------------------------------------------------------------------------------------------


def _versions(domain: str, key: PackageKey) -> Any:
    return (
        select(Repository.name, Package, PackageVersion)
        .join(Package, Package.repository_id == Repository.id)
        .join(PackageVersion, PackageVersion.package_id == Package.id)
        .join(Domain, Domain.id == Repository.domain_id)
        .where(
            Domain.name == domain,
            Package.format == key.format,
            Package.namespace == key.namespace,
            Package.name == key.name,
        )
    )


def _held(session: Session, sees: Sees, domain: str, key: PackageKey, version: str) -> list[_Held]:
    """The repositories that hold the version and that may be looked into, in the order in which it came there."""
    rows = session.execute(_versions(domain, key).where(PackageVersion.version == version))
    seen = [_Held(name, package, row, {}, []) for name, package, row in rows if sees(name)]
    of_version = {each.version.id: each for each in seen}
    files = session.execute(
        select(Asset.version_id, Asset.filename, Asset.sha256, BuiltAsset)
        .outerjoin(BuiltAsset, BuiltAsset.asset_id == Asset.id)
        .where(Asset.version_id.in_(of_version))
    )
    for version_id, filename, sha256, built in files if of_version else ():
        of_version[version_id].files[filename] = sha256
        if built is not None:
            of_version[version_id].built.append(built)
    return sorted(seen, key=lambda each: (each.version.published_at, each.repository))


def _vias(session: Session, held: Iterable[_Held], domain: str, key: PackageKey) -> Mapping[tuple[str, datetime], str]:
    """(repository, moment) → how whoever published then proved who they are. Found by the moment, which is indexed."""
    moments = {each.version.published_at for each in held}
    if not moments:
        return {}
    rows = session.execute(
        select(AuditEntry.at, AuditEntry.object, AuditEntry.via).where(
            AuditEntry.at.in_(moments), AuditEntry.action.in_(_PUBLISHING)
        )
    ).all()
    found = {}
    for each in held:
        place = f"{domain}/{each.repository}/{key.format}/{key.path}/{each.version.version}"
        for at, about, via in rows:
            if at == each.version.published_at and (about == place or about.startswith(f"{place}/")):
                found[each.repository, at] = via or ""
    return found


def _place(held: _Held, via: Mapping[tuple[str, datetime], str], pipelines: Mapping[int, str]) -> LifePlace:
    row = held.version
    execution_id = execution_of(row.published_by)
    return LifePlace(
        held.repository,
        row.status,
        held.package.status,
        digest_of(held.files),
        len(held.files),
        row.promoted_from,
        row.published_at,
        row.published_by,
        via.get((held.repository, row.published_at), ""),
        execution_id if execution_id in pipelines else None,
        pipelines.get(execution_id or 0),
    )


def _source(held: Sequence[_Held], via: Mapping[tuple[str, datetime], str]) -> LifeSource | None:
    """Where it came from first: what promotions have brought says nothing of that, but who built it goes along."""
    first = next((each for each in held if each.version.promoted_from is None), None)
    built = min(
        (each for place in held for each in place.built),
        key=lambda each: (each.is_copy, each.published_at),
        default=None,
    )
    if built is not None:
        home = first.repository if first is not None else ""
        how = built.source
        return LifeSource(
            "build", built.initiator, "", built.published_at, home, built.build_id, built.project, built.number,
            how.get("uri", ""), how.get("version", ""), how.get("digest", ""),
        )  # fmt: skip
    if first is None:
        return None
    row = first.version
    kind = "person" if row.origin == "published" else "upstream"
    known = via.get((first.repository, row.published_at), "")
    return LifeSource(kind, row.published_by, known, row.published_at, first.repository)


# --- builds and executions -------------------------------------------------------------------------------------------


def _builds(
    session: Session, caller: Identity, held: Iterable[_Held], executions: Iterable[store.ExecutionView]
) -> tuple[tuple[LifeBuild, ...], tuple[LifeReport, ...]]:
    published = {each.build_id: each for place in held for each in place.built}
    ran = {
        attempt.build_id: execution.summary.id
        for execution in executions
        for stage in execution.stages
        for action in stage.actions
        for attempt in (*action.attempts, action)
        if attempt.build_id is not None
    }
    rows = session.execute(
        select(Build, BuildProject.name)
        .join(BuildProject, BuildProject.id == Build.project_id)
        .where(Build.id.in_({*published, *ran}))
    ) if published or ran else ()  # fmt: skip
    seen = {row.id: (row, name) for row, name in rows if may_see_build(caller, PackageSource.from_json(row.source))}
    found = [_seen_build(row, name, published.get(row.id), ran.get(row.id)) for row, name in seen.values()]
    found += [
        LifeBuild(each.build_id, each.project, each.number, None, True, None, each.initiator,
                  each.source.get("version", ""), each.published_at)
        for each in published.values()
        if each.build_id not in seen
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda each: each.at)), _reports(session, list(seen))


def _seen_build(row: Build, project: str, published: BuiltAsset | None, execution_id: int | None) -> LifeBuild:
    commit = row.resolved_versions.get("", "") or (published.source.get("version", "") if published else "")
    return LifeBuild(
        row.id, project, row.number, row.status, published is not None, execution_id, row.initiator, commit,
        row.ended_at or row.submitted_at,
    )  # fmt: skip


def _reports(session: Session, builds: Sequence[str]) -> tuple[LifeReport, ...]:
    if not builds:
        return ()
    rows = session.execute(
        select(Report, ReportGroup.name, ReportGroup.type)
        .join(ReportGroup, ReportGroup.id == Report.group_id)
        .where(Report.build_id.in_(builds))
        .order_by(Report.created_at, Report.id)
    )
    return tuple(
        LifeReport(row.id, row.build_id, group, kind, row.status, row.total, row.succeeded, row.failed + row.error,
                   _coverage(row), row.created_at)
        for row, group, kind in rows
    )  # fmt: skip


def _coverage(row: Report) -> float | None:
    lines = row.lines_covered + row.lines_missed
    return round(_PERCENT * row.lines_covered / lines, 1) if lines else None


def _execution(summary: store.ExecutionSummary) -> LifeExecution:
    return LifeExecution(
        summary.id, summary.pipeline, summary.status, summary.execution_type, summary.repository, summary.digest,
        summary.triggered_by, summary.started_at, summary.ended_at,
    )  # fmt: skip


def approvals_of(execution: store.ExecutionView) -> list[LifeApproval]:
    """The approvals that an execution has asked for, each attempt, in the order of asking."""
    summary = execution.summary
    found = [
        LifeApproval(
            summary.id, summary.pipeline, stage.name, action.name, attempt.attempt, verdict_of(attempt),
            attempt.decided_by, attempt.comment or "", summary.digest, attempt.started_at, attempt.ended_at,
            attempt.required_approvals or 1,
            tuple(LifeAnswer(said.account, said.verdict, said.comment, said.answered_at) for said in attempt.results),
        )
        for stage in execution.stages
        for action in stage.actions
        for attempt in (*action.attempts, action)
        if action.category == _APPROVAL and attempt.started_at is not None
    ]  # fmt: skip
    return sorted(found, key=lambda each: each.asked_at)


def verdict_of(attempt: store.ActionExecutionView) -> str:
    """How an approval stands: Waiting, Approved, Rejected, Expired or Abandoned."""
    match attempt.status:
        case ActionStatus.SUCCEEDED:
            return "Approved"
        case ActionStatus.FAILED:
            return "Rejected" if attempt.decided_by else "Expired"
        case ActionStatus.ABANDONED:
            return "Abandoned"
        case _:
            return "Waiting"
