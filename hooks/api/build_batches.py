"""Batch builds under CodeBuild's names: Start-, Stop-, Retry-, List- and BatchGetBuildBatches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.api.build_batch_shapes import (
    BatchAutoRetry,
    BatchDetail,
    BatchesFound,
    BatchIds,
    BatchList,
    BatchQuery,
    BatchSummary,
    BuildGroup,
    BuildSummaryOfGroup,
    NewBatch,
    RetryBatch,
    SummaryArtifact,
)
from hooks.api.build_project_shapes import NewBuild
from hooks.api.build_projects import asked_for
from hooks.api.builds import MOST_LOOKED_AT
from hooks.builds.batch_engine import groups_of
from hooks.builds.batches import (
    RetryType,
    builds_of,
    get_batch,
    list_batches,
    retry_batch,
    start_project_batch,
    stop_batch,
)
from hooks.builds.keeping import PRIMARY
from hooks.builds.phases import BuildStatus
from hooks.builds.project_rights import START, check_publishes, check_start, may_see_build, visible_project
from hooks.builds.source import PackageSource
from hooks.models import BuildArtifact
from hooks.models.build import Build, BuildProject
from hooks.models.build_batch import BuildBatch, BuildBatchGroup
from hooks.pipelines.engine import on_build_finished
from hooks.services import HookServices
from registry import audit
from registry.access import Action, Identity, check
from registry.api.routes import Route
from registry.errors import Invalid, NotFound
from registry.http import context
from registry.http.auth import signed_in_api

_PAGE = 200
_MOST_IDS = 100


class BatchViews:
    """The operations on batch builds. A batch belongs to a repository, as its builds do."""

    def __init__(self, services: HookServices) -> None:
        self._services = services
        self._on_finished = partial(_finished, services)

    def routes(self) -> tuple[Route, ...]:
        """The part of the table."""
        one, door, answer = "/build-batches/<batch_id>", signed_in_api, BatchDetail
        return (
            Route("GET", "/build-batches", door, self.list_build_batches, query=BatchQuery, answer=BatchList),
            Route(
                "GET",
                "/build-batches/batch-get",
                door,
                self.batch_get_build_batches,
                query=BatchIds,
                answer=BatchesFound,
            ),
            Route("GET", one, door, self.show_build_batch, answer=answer),
            Route("POST", f"{one}/stop", door, self.stop_build_batch, answer=answer),
            Route("POST", f"{one}/retry", door, self.retry_build_batch, body=RetryBatch, answer=answer),
            Route(
                "POST",
                "/build-projects/<project>/batches",
                door,
                self.start_build_batch,
                body=NewBatch,
                answer=answer,
                status=201,
                body_is_optional=True,
            ),
        )

    def list_build_batches(self, query: BatchQuery) -> BatchList:
        """Batches of what the caller may read (ListBuildBatches; with `project` ListBuildBatchesForProject).

        `status` is a status of a batch, `sortOrder` ASCENDING or DESCENDING (the newest first).
        """
        if query.sort_order not in {"ASCENDING", "DESCENDING"}:
            raise Invalid("sortOrder is ASCENDING or DESCENDING")
        if query.status is not None and query.status not in list(BuildStatus):
            raise Invalid(f"status is one of {', '.join(BuildStatus)}")
        caller = context.caller()
        found: list[BatchSummary] = []
        place, looked_at, is_end = query.after, 0, False
        with self._services.db.read() as session:
            if query.project is not None:
                visible_project(session, query.project, caller)
            while len(found) <= query.limit and looked_at < MOST_LOOKED_AT and not is_end:
                page = list_batches(
                    session,
                    project=query.project,
                    status=query.status,
                    after=place,
                    is_ascending=query.sort_order == "ASCENDING",
                    limit=_PAGE,
                )
                found += [BatchSummary(**_facts(batch, name)) for batch, name in page if _may_see(caller, batch)]
                looked_at += len(page)
                is_end = len(page) < _PAGE
                place = page[-1][0].id if page else place
        shown = tuple(found[: query.limit])
        if len(found) > len(shown):
            place, is_end = shown[-1].id, False
        return BatchList(shown, None if is_end else place)

    def batch_get_build_batches(self, query: BatchIds) -> BatchesFound:
        """Several batches at once (BatchGetBuildBatches): `ids` with commas between them, at most 100."""
        ids = list(dict.fromkeys(query.ids.split(",")))
        if len(ids) > _MOST_IDS:
            raise Invalid(f"ids: at most {_MOST_IDS}")
        caller, found = context.caller(), []
        with self._services.db.read() as session:
            for batch_id in ids:
                batch = session.get(BuildBatch, batch_id)
                if batch is not None and _may_see(caller, batch):
                    found.append(_detail(session, batch))
        known = {each.id for each in found}
        return BatchesFound(tuple(found), tuple(batch_id for batch_id in ids if batch_id not in known))

    def show_build_batch(self, batch_id: str) -> BatchDetail:
        """A batch with its phases and build groups."""
        with self._services.db.read() as session:
            return _detail(session, readable_batch(session, batch_id, context.caller()))

    def start_build_batch(self, project: str, body: NewBatch) -> BatchDetail:
        """Start a batch build of the project (StartBuildBatch).

        Its first build reads the document; what stands in `batch` there starts when that has ended. Needs what starting
        a build needs.
        """
        caller, services = context.caller(), self._services
        with services.db.write() as session:
            found = visible_project(session, project, caller)
            asked = asked_for(session, caller, _as_build(body))
            if asked.package is None:
                check_start(caller, found)
            else:
                check_publishes(caller, found)
            now = services.clock()
            batch = start_project_batch(
                session,
                project,
                asked,
                config=_config(body),
                initiator=caller.name,
                now=now,
                on_finished=self._on_finished,
            )
            audit.record(session, now, caller.name, "build_batch.start", f"build-batch/{batch.id}", project=project)
            session.flush()
            return _detail(session, batch)

    def stop_build_batch(self, batch_id: str) -> BatchDetail:
        """Stop a batch (StopBuildBatch): nothing more starts, and what runs is told to stop.

        It is STOPPED when all that has ended; until then `endingAs` says so. Needs `publish` where it belongs.
        """
        caller, services = context.caller(), self._services
        with services.db.write() as session:
            check(caller, Action.PUBLISH, _path(readable_batch(session, batch_id, caller)))
            now = services.clock()
            batch = stop_batch(session, batch_id, now=now, on_finished=self._on_finished)
            audit.record(session, now, caller.name, "build_batch.stop", f"build-batch/{batch_id}")
            session.flush()
            return _detail(session, batch)

    def retry_build_batch(self, batch_id: str, body: RetryBatch) -> BatchDetail:
        """Go on with a batch that has not succeeded (RetryBuildBatch), of the same source versions.

        `retryType` is RETRY_ALL_BUILDS or RETRY_FAILED_BUILDS: what has not succeeded, and what depends on it. Needs
        `read` and `publish` where it belongs.
        """
        caller, services = context.caller(), self._services
        if body.retry_type not in list(RetryType):
            raise Invalid(f"retryType is {' or '.join(RetryType)}")
        with services.db.write() as session:
            found = readable_batch(session, batch_id, caller)
            check(caller, Action.PUBLISH, _path(found), permission=START)
            check_publishes(caller, session.get_one(BuildProject, found.project_id))
            now, kind = services.clock(), RetryType(body.retry_type)
            batch = retry_batch(session, batch_id, kind, now=now, on_finished=self._on_finished)
            audit.record(session, now, caller.name, "build_batch.retry", f"build-batch/{batch_id}", type=kind.value)
            session.flush()
            return _detail(session, batch)


def _finished(services: HookServices, session: Session, build_id: str) -> None:
    on_build_finished(session, services.actions, build_id)


def readable_batch(session: Session, batch_id: str, caller: Identity) -> BuildBatch:
    """A batch, for a caller who may read what it builds. Raises NotFound."""
    batch = get_batch(session, batch_id)
    if not _may_see(caller, batch):
        raise NotFound("build batch", batch_id)
    return batch


def _may_see(caller: Identity, batch: BuildBatch) -> bool:
    return may_see_build(caller, PackageSource.from_json(batch.source))


def _path(batch: BuildBatch) -> str:
    return f"{batch.source['domain']}/{batch.source['repository']}"


def _as_build(body: NewBatch) -> NewBuild:
    return NewBuild(
        source_version=body.source_version,
        secondary_sources_version_override=body.secondary_sources_version_override,
        environment_variables_override=body.environment_variables_override,
        buildspec_override=body.buildspec_override,
        git_clone_depth_override=body.git_clone_depth_override,
        timeout_in_minutes_override=body.build_timeout_in_minutes_override,
        queued_timeout_in_minutes_override=body.queued_timeout_in_minutes_override,
        auto_retry_limit_override=body.auto_retry_limit_override,
        debug_session_enabled=body.debug_session_enabled,
        idempotency_token=body.idempotency_token,
        priority=body.priority,
        source_upload=body.source_upload,
        package=body.package,
    )


def _config(body: NewBatch) -> Mapping[str, Any]:
    """The start's ``buildBatchConfigOverride`` as it stands in documents, without what it leaves to the project."""
    given = body.build_batch_config_override
    if given is None:
        return {}
    restrictions: dict[str, Any] = {}
    if given.restrictions is not None:
        restrictions = {
            "maximumBuildsAllowed": given.restrictions.maximum_builds_allowed,
            "computeTypesAllowed": given.restrictions.compute_types_allowed
            and list(given.restrictions.compute_types_allowed),
        }
    config = {
        "combineArtifacts": given.combine_artifacts,
        "timeoutInMins": given.timeout_in_mins,
        "batchReportMode": given.batch_report_mode,
        "restrictions": {name: value for name, value in restrictions.items() if value is not None} or None,
    }
    return {name: value for name, value in config.items() if value is not None}


def _facts(batch: BuildBatch, project: str) -> dict[str, Any]:
    place = {key: batch.source[key] for key in ("domain", "repository", "format", "namespace", "name", "version")}
    return {
        "id": batch.id,
        "arn": f"arn:entrepot:codebuild:::build-batch/{project}:{batch.id}",
        "project_name": project,
        "build_batch_number": batch.number,
        "build_batch_status": batch.status,
        "current_phase": batch.phase,
        **place,
        "initiator": batch.initiator,
        "message": batch.message,
        "start_time": batch.submitted_at,
        "end_time": batch.ended_at,
        "complete": batch.status != BuildStatus.IN_PROGRESS,
    }


def _detail(session: Session, batch: BuildBatch) -> BatchDetail:
    project = session.get_one(BuildProject, batch.project_id).name
    source = PackageSource.from_json(batch.source)
    builds = builds_of(session, batch.id)
    artifacts = _artifacts(session, batch.id)
    resolved = batch.resolved_versions.get("", "" if source.primary is not None else source.version)
    return BatchDetail(
        **_facts(batch, project),
        phases=tuple(batch.phases),
        build_groups=tuple(
            _group(group, project, builds.get(group.identifier, ()), artifacts)
            for group in groups_of(session, batch.id)
        ),
        build_batch_config=batch.config,
        resolved_source_version=resolved,
        build_timeout_in_minutes=batch.build_timeout_minutes,
        queued_timeout_in_minutes=batch.queued_timeout_minutes,
        ending_as=batch.ending,
        attempt=batch.attempt,
        auto_retry_config=BatchAutoRetry(batch.auto_retry_limit, batch.auto_retry_number),
        debug_session_enabled=batch.debug_session,
        subject=batch.subject,
    )


def _group(
    group: BuildBatchGroup, project: str, builds: Sequence[Build], artifacts: Mapping[str, Sequence[str]]
) -> BuildGroup:
    summaries = {build.id: _summary(build, project, artifacts.get(build.id, ())) for build in builds}
    current = summaries.pop(group.build_id or "", None)
    return BuildGroup(
        group.identifier,
        tuple(group.depends_on),
        group.ignore_failure,
        group.status,
        dict(group.chosen),
        current,
        tuple(summaries.values()),
    )


def _summary(build: Build, project: str, artifacts: Sequence[str]) -> BuildSummaryOfGroup:
    kept = [
        SummaryArtifact("STORE", identifier, f"/api/v1/builds/{build.id}/artifacts/{identifier}")
        for identifier in artifacts
    ]
    return BuildSummaryOfGroup(
        build.id,
        f"arn:entrepot:codebuild:::build/{project}:{build.id}",
        build.number,
        build.submitted_at,
        build.status,
        next((each for each in kept if each.identifier == PRIMARY), None),
        tuple(each for each in kept if each.identifier != PRIMARY),
    )


def _artifacts(session: Session, batch_id: str) -> Mapping[str, Sequence[str]]:
    found: dict[str, list[str]] = {}
    rows = session.execute(
        select(BuildArtifact.build_id, BuildArtifact.identifier)
        .join(Build, Build.id == BuildArtifact.build_id)
        .where(Build.batch_id == batch_id)
        .order_by(BuildArtifact.identifier)
    )
    for build_id, identifier in rows:
        found.setdefault(build_id, []).append(identifier)
    return found
