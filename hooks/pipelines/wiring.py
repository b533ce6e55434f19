"""The real parts of the engine: ``hooks.builds`` and ``registry.repos.promote``, in the shapes that it asks for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hooks.builds import image_pins
from hooks.builds.batch_tasks import BatchSettings
from hooks.builds.batches import builds_of, start_batch
from hooks.builds.exported import bounded
from hooks.builds.handing_over import artifact_source, keeper_of_artifacts, missing_outputs
from hooks.builds.phases import BuildStatus
from hooks.builds.project import QUEUED_TIMEOUT_MINUTES, SourceSettings, SourceType
from hooks.builds.projects import (
    DEFAULT_TIMEOUT_MINUTES,
    DEFAULT_TYPES,
    Settings,
    create_or_update_project,
    environment_type,
    get_project,
)
from hooks.builds.publishing import ACTION_SETTING, publish_path
from hooks.builds.records import Options, get_build, start_build
from hooks.builds.revision_archives import find_revision, revision_source
from hooks.builds.source import PackageSource, SourceAsset
from hooks.builds.starting import Asked
from hooks.builds.stopping import stop_soon
from hooks.models.build import BuildProject
from hooks.models.build_batch import BuildBatch
from hooks.pipelines.definition import BuildProjectDeclaration
from hooks.pipelines.parts import BuildOutcome, BuildRequest, Deployer, Parts, Publish
from hooks.pipelines.run import SYSTEM
from registry import audit
from registry.clock import Clock
from registry.errors import Conflict, Invalid, NotFound
from registry.names import PackageKey
from registry.repos.advisories import AdvisoryView
from registry.repos.promote import promote
from registry.repos.states import FROZEN_AFTER

COMMANDS_PROJECT = "pipeline-commands"
"""The project whose environment commands of Compute actions run in."""


def real_parts(
    clock: Clock,
    *,
    executor_types: Collection[str] = DEFAULT_TYPES,
    release_frozen_after: timedelta = FROZEN_AFTER,
    deployer: Deployer | None = None,
    publisher: Publish | None = None,
    advisories: Callable[[Session, PackageKey, str], Sequence[AdvisoryView]] | None = None,
    may_approve: Callable[[Session, str, Sequence[str]], bool] | None = None,
    attested: Callable[[str, PackageKey, str], Mapping[str, tuple[str, ...]]] | None = None,
) -> Parts:
    """The parts of a running server. ``executor_types`` are the environment types that its workers can build."""

    def start(session: Session, request: BuildRequest, now: datetime) -> str:
        return _start_build(session, request, now, executor_types)

    def apply_build_project(session: Session, declaration: BuildProjectDeclaration, now: datetime) -> str:
        return _apply_build_project(session, declaration, now, executor_types)

    return Parts(
        start_build=start,
        build_outcome=_build_outcome,
        stop_build=_stop_build,
        apply_build_project=apply_build_project,
        promote=partial(promote, release_frozen_after=release_frozen_after),
        clock=clock,
        deployer=deployer,
        publisher=publisher,
        advisories=advisories,
        may_approve=may_approve,
        attested=attested,
    )


def _start_build(session: Session, request: BuildRequest, now: datetime, types: Collection[str]) -> str:
    source, webhook = _source_of(session, request)
    publishes = _may_publish(session, request)
    if request.is_batch:
        return _start_batch(session, request, source, now, publishes=publishes, webhook=webhook)
    options = Options(buildspec=request.buildspec, timeout_minutes=request.timeout_minutes, webhook=webhook)
    build = start_build(
        session,
        project=_project_of(session, request, now, types),
        source=source,
        initiator=request.initiator,
        variables=request.variables,
        subject=request.subject,
        now=now,
        publishes=publishes,
        options=options,
    )
    return build.id


def _source_of(session: Session, request: BuildRequest) -> tuple[PackageSource, dict[str, str]]:
    """What a build is made from, and what it is told of a push, by which its trust is judged as for any other build."""
    pinned = request.source
    if not pinned.is_package:
        return _revision_source(session, request)
    source = PackageSource(
        domain=pinned.domain,
        repository=pinned.repository,
        format=pinned.format,
        namespace=pinned.namespace,
        name=pinned.name,
        version=pinned.version,
        assets=tuple(SourceAsset(filename, sha256) for filename, sha256 in sorted(pinned.assets.items())),
        inputs=tuple(_input(session, *each) for each in request.inputs),
        outputs=request.outputs,
    )
    return source, {}


def _revision_source(session: Session, request: BuildRequest) -> tuple[PackageSource, dict[str, str]]:
    pinned = request.source
    row, _ = find_revision(session, request.revision)
    inputs = tuple(_input(session, *each) for each in request.inputs)
    source = PackageSource(
        pinned.domain, pinned.repository, "", row.location, row.revision, (), inputs=inputs, outputs=request.outputs
    )
    # With another input as the primary one, too: whoever pushed has a say in what an earlier build has made of it.
    return source, {"CODEBUILD_WEBHOOK_TRIGGER": row.trigger} if row.trigger else {}


def _project_of(session: Session, request: BuildRequest, now: datetime, types: Collection[str]) -> str:
    """The project of a build; for commands without one that of the server's own, made when it is first needed."""
    if request.project:
        return request.project
    try:
        found = get_project(session, COMMANDS_PROJECT)
    except NotFound:
        try:
            with session.begin_nested():
                found = create_or_update_project(session, name=COMMANDS_PROJECT, now=now, types=types)
        except IntegrityError:  # somebody else was quicker
            found = get_project(session, COMMANDS_PROJECT)
        else:
            audit.record(session, now, SYSTEM, "build_project.create", f"build-project/{COMMANDS_PROJECT}")
    if found.repository is not None:
        # Its environment would be somebody's who may change projects of that repository, and no more.
        raise Conflict(
            f"build project {COMMANDS_PROJECT} belongs to a repository; commands run in one of the server alone"
        )
    return COMMANDS_PROJECT


def _may_publish(session: Session, request: BuildRequest) -> bool:
    """Whether the build publishes: where its project does, and its action says the same. Raises NotFound, Conflict."""
    if request.publish_repository is None:
        return False
    wanted = f"{request.source.domain}/{request.publish_repository}"
    held = publish_path(get_project(session, request.project).document)
    if held != wanted:
        raise Conflict(
            f"configuration {ACTION_SETTING}: {wanted} is not where build project {request.project} publishes"
            f" ({held or 'nowhere'})"
        )
    return True


def _start_batch(
    session: Session,
    request: BuildRequest,
    source: PackageSource,
    now: datetime,
    *,
    publishes: bool,
    webhook: Mapping[str, str],
) -> str:
    combines = request.combines_artifacts
    if request.outputs and not _combines(session, request):
        raise Invalid(
            "a batch build hands on its combined artifacts alone: set CombineArtifacts to true, or combineArtifacts in"
            " the project's buildBatchConfig"
        )
    batch = start_batch(
        session,
        request.project,
        source,
        Asked(variables=request.variables, options=Options(webhook=webhook)),
        config={} if combines is None else {"combineArtifacts": combines},
        initiator=request.initiator,
        subject=request.subject,
        now=now,
        on_finished=_nobody,
        publishes=publishes,
    )
    return batch.id


def _combines(session: Session, request: BuildRequest) -> bool:
    if request.combines_artifacts is not None:
        return request.combines_artifacts
    config = get_project(session, request.project).document.get("buildBatchConfig") or {}
    return BatchSettings.of(config).combine_artifacts


def _nobody(_session: Session, _build_id: str) -> None:
    """Nobody needs to be told."""


def _build_outcome(session: Session, build_id: str) -> BuildOutcome | None:
    batch = session.get(BuildBatch, build_id)
    if batch is not None:
        return _batch_outcome(session, batch)
    build = get_build(session, build_id)
    if build.status == BuildStatus.IN_PROGRESS:
        return None
    summary = f"build {build.number}: {build.status}" + (f", {build.message}" if build.message else "")
    if build.status != BuildStatus.SUCCEEDED:
        return BuildOutcome(succeeded=False, summary=summary, variables=build.exported_variables)
    missing = missing_outputs(session, build_id, PackageSource.from_json(build.source).outputs)
    if missing:
        summary += f", but it left no artifact {' and no '.join(missing)}"
    return BuildOutcome(not missing, summary, build.exported_variables)


def _input(session: Session, name: str, build_id: str | None, identifier: str) -> SourceSettings:
    if build_id is None and identifier:
        return revision_source(session, identifier, name)[0]
    if build_id is None:
        return SourceSettings(SourceType.PACKAGE, identifier=name)
    return artifact_source(session, keeper_of_artifacts(session, build_id), identifier, name)


def _stop_build(session: Session, build_id: str, _now: datetime) -> None:
    stop_soon(session, build_id)


def _batch_outcome(session: Session, batch: BuildBatch) -> BuildOutcome | None:
    """Exported variables are called ``IDENTIFIER_NAME``: two builds of a batch may export the same name."""
    if batch.status == BuildStatus.IN_PROGRESS:
        return None
    summary = f"build batch {batch.number}: {batch.status}" + (f", {batch.message}" if batch.message else "")
    told: list[str] = []
    joined = {
        f"{identifier}_{name}": value
        for identifier, builds in builds_of(session, batch.id).items()
        for name, value in builds[0].exported_variables.items()
    }
    variables = bounded(joined, told.append)
    summary += "".join(f"; {each}" for each in told)
    if batch.status != BuildStatus.SUCCEEDED:
        return BuildOutcome(succeeded=False, summary=summary, variables=variables)
    outputs = PackageSource.from_json(batch.source).outputs
    missing = missing_outputs(session, keeper_of_artifacts(session, batch.id), outputs)
    if missing:
        summary += f", but its builds left no artifact {' and no '.join(missing)}"
    return BuildOutcome(not missing, summary, variables)


def _apply_build_project(
    session: Session, declaration: BuildProjectDeclaration, now: datetime, types: Collection[str]
) -> str:
    living = select(BuildProject).where(BuildProject.name == declaration.name, BuildProject.deleted_at.is_(None))
    before = session.scalar(living)
    told = _told(before) if before is not None else None
    accepts_images = before is not None and image_pins.are_recorded(session, before.id)
    environment: dict[str, object] = {**declaration.environment, "variables": dict(declaration.variables)}
    if declaration.network is not None:
        environment["network"] = declaration.network
    kind = environment_type(declaration.environment_type, types)
    if kind is not None:
        environment["type"] = kind
    after = create_or_update_project(
        session,
        name=declaration.name,
        buildspec=declaration.buildspec,
        environment=environment,
        timeout_minutes=declaration.timeout_minutes or DEFAULT_TIMEOUT_MINUTES,
        max_concurrent=declaration.max_concurrent,
        types=types,
        settings=_settings(declaration),
        now=now,
    )
    if told is None:
        return "created"
    return "unchanged" if told == _told(after) and not accepts_images else "updated"


def _settings(declaration: BuildProjectDeclaration) -> Settings:
    return Settings(
        repository=declaration.repository,
        sources=declaration.sources,
        document=declaration.document,
        queued_timeout_minutes=declaration.queued_timeout_minutes or QUEUED_TIMEOUT_MINUTES,
        auto_retry_limit=declaration.auto_retry_limit or 0,
        on_limit=declaration.on_limit or "queue",
    )


def _told(project: BuildProject) -> tuple[object, ...]:
    """Everything that a declaration says."""
    return (
        project.buildspec,
        dict(project.environment),
        project.timeout_minutes,
        project.max_concurrent,
        project.on_limit,
        project.queued_timeout_minutes,
        project.auto_retry_limit,
        project.domain,
        project.repository,
        dict(project.document),
    )
