"""The rows of builds: started, stopped and ended, always in the caller's transaction."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from hooks.builds import batch_engine, tally
from hooks.builds.phases import BuildStatus, Phase
from hooks.builds.projects import check_variables, get_project, sources_of
from hooks.builds.publishing import publish_path
from hooks.builds.source import PackageSource
from hooks.jobs.queue import PATIENT_ATTEMPTS, enqueue, forget, job_state, request_stop
from hooks.models.build import Build, BuildProject
from hooks.models.build_batch import BuildBatch, BuildBatchGroup
from hooks.models.job import JobState
from registry import events
from registry.errors import Conflict, NotFound

LOG = logging.getLogger(__name__)

JOB_KIND = "build"
WAITING_KIND = "build_waiting"
"""The job that looks at a build when its queued time-out has passed."""
QUEUE = "builds"
TOKEN_LIFE = timedelta(minutes=5)
MAX_ATTEMPTS = 3
_LONGEST_WHY = 500
# The queue's time-out is a second line behind the build's own, for a handler that hangs.
_EXTRA_SECONDS = 120

_STARTED = events.declare("build.started", "A build was started; it may have to wait for its turn.")
_ENDED: Mapping[BuildStatus, str] = {
    status: events.declare(f"build.{status.lower().replace('_', '-')}", f"A build ended: {status}.")
    for status in BuildStatus
    if status is not BuildStatus.IN_PROGRESS
}

OnFinished = Callable[[Session, str], None]
"""Told the id of a build in the transaction that writes its final status."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a start says beyond source and variables; None leaves it to the project (CodeBuild's StartBuild overrides).

    ``debug_session``: it stands at breakpoints. ``priority``: higher goes first. ``webhook`` are the CODEBUILD_WEBHOOK_*
    variables. The same ``request_token`` within five minutes is the same start.
    """

    buildspec: str | None = None
    timeout_minutes: int | None = None
    queued_timeout_minutes: int | None = None
    auto_retry_limit: int | None = None
    priority: int = 0
    webhook: Mapping[str, str] = field(default_factory=dict)
    request_token: str | None = None
    debug_session: bool = False


AS_THE_PROJECT_SAYS = Options()


def start_build(
    session: Session,
    *,
    project: str,
    source: PackageSource,
    initiator: str,
    now: datetime,
    variables: Mapping[str, Any] | None = None,
    subject: str | None = None,
    options: Options = AS_THE_PROJECT_SAYS,
    publishes: bool = False,
) -> Build:
    """Start a build of the project called ``project``: its row and its job, in the caller's transaction.

    ``variables`` win over the project's. Above ``max_concurrent`` it waits in the queue, or is a Conflict where the
    project says so. ``publishes``: whoever starts it may publish where the project's builds do, which has been checked
    with the project as it is now; without, it publishes nothing. Raises NotFound and InvalidDocument.
    """
    check_variables(variables or {})
    found = get_project(session, project)
    lock_project(session, found)
    if options.request_token is not None:
        earlier = _same_start(session, found, options.request_token, now)
        if earlier is not None:
            return earlier
    known = {each.identifier for each in source.inputs}
    others = tuple(each for each in sources_of(found)[1:] if each.identifier not in known)
    build = Build(
        source=replace(source, inputs=(*source.inputs, *others)).as_json(),
        buildspec=found.buildspec if options.buildspec is None else options.buildspec,
        environment=found.environment,
        timeout_minutes=options.timeout_minutes or found.timeout_minutes,
        queued_timeout_minutes=options.queued_timeout_minutes or found.queued_timeout_minutes,
        auto_retry_limit=found.auto_retry_limit if options.auto_retry_limit is None else options.auto_retry_limit,
        priority=options.priority,
        request_token=options.request_token,
        debug_session=options.debug_session,
        webhook=dict(options.webhook),
        variables=dict(variables or {}),
        initiator=initiator,
        subject=subject,
        publish_to=publish_path(found.document) if publishes else None,
    )
    return _submit(session, found, build, now)


def retry_build(session: Session, build_id: str, *, initiator: str, now: datetime, by_itself: bool = False) -> Build:
    """Build once more what an ended build was made from, with all it was given: the same commits, files and texts.

    It answers no pipeline: that one retries its stage. It publishes where the project says now, as whoever asks for it has
    to be let; one that comes ``by_itself`` publishes where the build before was let.

    Raises NotFound, and Conflict while the build goes on, and for a build of a batch: a batch is retried as such.
    """
    old = get_build(session, build_id)
    if old.batch_id is not None:
        raise Conflict(f"build {build_id} belongs to build batch {old.batch_id}; retry that, all of it or what failed")
    if old.status == BuildStatus.IN_PROGRESS:
        raise Conflict(f"build {build_id} has not ended; it can be retried when it has")
    project = session.get_one(BuildProject, old.project_id)
    if project.deleted_at is not None:
        raise Conflict(f"build project {project.name} was deleted; its builds cannot be retried")
    lock_project(session, project)
    copied = (*_COPIED, "priority", "webhook")
    build = Build(
        source=_pinned(old.source, old.resolved_versions).as_json(),
        **{name: getattr(old, name) for name in copied},
        retry_of=old.id,
        auto_retry_number=old.auto_retry_number + 1 if by_itself else 0,
        initiator=initiator,
        publish_to=old.publish_to if by_itself else publish_path(project.document),
    )
    return _submit(session, project, build, now)


_COPIED = (
    "buildspec",
    "environment",
    "timeout_minutes",
    "queued_timeout_minutes",
    "auto_retry_limit",
    "variables",
)


def _pinned(stored: Mapping[str, Any], found: Mapping[str, str]) -> PackageSource:
    """The source of a build with every version that was found by then."""
    source = PackageSource.from_json(stored)
    inputs = tuple(replace(each, version=found.get(each.identifier, each.version)) for each in source.inputs)
    return replace(source, inputs=inputs)


def submit_of_batch(session: Session, batch: BuildBatch, group: BuildBatchGroup, now: datetime) -> str:
    """Start the build of a batch's group and return its id. Above the project's limit it waits, whatever the project says."""
    build = Build(
        source=_pinned(batch.source, batch.resolved_versions).as_json(),
        buildspec=batch.buildspec if group.buildspec is None else group.buildspec,
        environment=group.environment,
        timeout_minutes=batch.build_timeout_minutes,
        queued_timeout_minutes=batch.queued_timeout_minutes,
        auto_retry_limit=0,
        priority=batch.priority,
        webhook=batch.webhook,
        variables=batch.variables,
        initiator=batch.initiator,
        subject=batch.subject,
        publish_to=batch.publish_to,
        batch_id=batch.id,
        batch_group=group.identifier,
        debug_session=group.debug_session,
    )
    return _submit(session, session.get_one(BuildProject, batch.project_id), build, now).id


def moves(on_finished: OnFinished) -> batch_engine.Moves:
    """What batches are moved with. ``on_finished`` is told of them as of builds."""
    return batch_engine.Moves(submit_of_batch, on_finished)


def _submit(session: Session, project: BuildProject, build: Build, now: datetime) -> Build:
    if project.on_limit == "reject" and project.max_concurrent is not None and build.batch_id is None:
        running = (Build.project_id == project.id) & (Build.status == BuildStatus.IN_PROGRESS.value)
        count = session.scalar(select(func.count()).select_from(Build).where(running)) or 0
        if count >= project.max_concurrent:
            raise Conflict(
                f"build project {project.name} takes {project.max_concurrent} at a time, and so many go on; start it"
                " again when one has ended"
            )
    build.id = str(uuid.uuid4())
    build.project_id = project.id
    build.number = _next_number(session, project)
    build.status, build.phase, build.phases = BuildStatus.IN_PROGRESS.value, Phase.QUEUED.value, []
    build.exported_variables = {}
    build.submitted_at = now
    build.job_id = _enqueue(session, project, build)
    session.add(build)
    session.flush()
    _look_again(session, build, 0)
    _tell(session, build, _STARTED, now)
    return build


def _look_again(session: Session, build: Build, waited: int | None) -> None:
    """Have ``expire_waiting`` look at it when its queued time-out has passed once more."""
    enqueue(
        session,
        WAITING_KIND,
        {"build_id": build.id, "waited": waited},
        run_after_seconds=build.queued_timeout_minutes * 60,
        max_attempts=PATIENT_ATTEMPTS,
        subject=subject_of(build.id),
    )


def subject_of(build_id: str) -> str:
    """What the jobs of a build are about."""
    return f"build:{build_id}"


def lock_project(session: Session, project: BuildProject) -> None:
    """Make starts of one project wait for each other: its limit and its tokens are looked at before the row is there.

    Not against rows that come to refer to it: the first build of a project that ends makes one (``hooks.builds.tally``),
    and has locks by then that who starts another one may ask for.
    """
    session.execute(select(BuildProject.id).where(BuildProject.id == project.id).with_for_update(key_share=True))


def _same_start(session: Session, project: BuildProject, token: str, now: datetime) -> Build | None:
    asked = (Build.project_id == project.id) & (Build.request_token == token)
    return session.scalar(select(Build).where(asked, Build.submitted_at > now - TOKEN_LIFE).limit(1))


def _next_number(session: Session, project: BuildProject) -> int:
    # One statement: it locks the project's row, so that two starts at a time get two numbers.
    return session.execute(
        update(BuildProject)
        .where(BuildProject.id == project.id)
        .values(last_number=BuildProject.last_number + 1)
        .returning(BuildProject.last_number),
        execution_options={"synchronize_session": False},
    ).scalar_one()


def _enqueue(session: Session, project: BuildProject, build: Build) -> int | None:
    limit = project.max_concurrent
    return enqueue(
        session,
        JOB_KIND,
        {"build_id": build.id},
        queue=QUEUE,
        priority=build.priority,
        timeout_seconds=build.timeout_minutes * 60 + _EXTRA_SECONDS,
        max_attempts=MAX_ATTEMPTS,
        subject=subject_of(build.id),
        serial_key=f"build-project:{project.id}:{build.number % limit}" if limit else None,
    )


def expire_waiting(
    session: Session, build_id: str, *, now: datetime, on_finished: OnFinished, waited: int | None = 0
) -> bool:
    """End a build that waited for its turn all the time: TIMED_OUT (CodeBuild's queued time-out); False for others.

    ``waited``: how many attempts it had behind it when it was seen waiting before; None when it was seen running. One that
    runs, or waits again since, is looked at once more: its runner may die, and nobody else be there to take it.
    """
    build = session.get(Build, build_id)
    if build is None or build.status != BuildStatus.IN_PROGRESS or build.job_id is None:
        return False
    waits = job_state(session, build.job_id) is JobState.QUEUED
    if not waits or build.attempt != waited:
        _look_again(session, build, build.attempt if waits else None)
        return False
    if not request_stop(session, build.job_id):
        return False
    text = f"it waited for its turn longer than {build.queued_timeout_minutes} min"
    return finish_build(session, build_id, BuildStatus.TIMED_OUT, now=now, on_finished=on_finished, message=text)


def request_stop_build(session: Session, build_id: str, *, now: datetime, on_finished: OnFinished) -> None:
    """Ask for a build to be stopped; one that still waits is STOPPED at once. Raises NotFound, Conflict if it ended."""
    build = get_build(session, build_id)
    if build.status != BuildStatus.IN_PROGRESS or build.job_id is None or not request_stop(session, build.job_id):
        raise Conflict(f"build {build_id} has ended and cannot be stopped")
    if job_state(session, build.job_id) is JobState.STOPPED:
        finish_build(
            session,
            build_id,
            BuildStatus.STOPPED,
            now=now,
            on_finished=on_finished,
            message="stopped before it began",
        )


def finish_build(
    session: Session,
    build_id: str,
    status: BuildStatus,
    *,
    now: datetime,
    on_finished: OnFinished,
    phases: Sequence[Mapping[str, Any]] | None = None,
    exported_variables: Mapping[str, str] | None = None,
    message: str = "",
) -> bool:
    """Write the one final status of a build and tell ``on_finished``; False, and no effect, when it had one."""
    values: dict[str, Any] = {"status": status.value, "ended_at": now, "message": message, "paused_at": None}
    if phases is not None:
        values |= {"phases": [dict(phase) for phase in phases], "phase": phases[-1]["phaseType"]}
    if exported_variables is not None:
        values["exported_variables"] = dict(exported_variables)
    ended = session.scalar(
        update(Build)
        .where(Build.id == build_id, Build.status == BuildStatus.IN_PROGRESS.value)
        .values(**values)
        .returning(Build.id),
        execution_options={"synchronize_session": False},
    )
    if ended is None:
        return False
    forget(session, WAITING_KIND, subject_of(build_id))
    session.expire_all()  # what the caller reads next is what was written
    build = session.get_one(Build, build_id)
    tally.count(session, build)
    _tell(session, build, _ENDED[status], now)
    on_finished(session, build_id)
    batch_engine.on_build_ended(session, build, now, moves(on_finished))
    _retry_by_itself(session, build_id, status, now)
    return True


def _retry_by_itself(session: Session, build_id: str, status: BuildStatus, now: datetime) -> None:
    """CodeBuild's autoRetryLimit. A pipeline's builds are left to the pipeline, which waits for this one's end."""
    build = session.get_one(Build, build_id)
    if status not in {BuildStatus.FAILED, BuildStatus.FAULT} or build.auto_retry_number >= build.auto_retry_limit:
        return
    project = session.get_one(BuildProject, build.project_id)
    if build.subject is not None or project.deleted_at is not None:
        return
    try:
        with session.begin_nested():
            retry_build(session, build_id, initiator=build.initiator, now=now, by_itself=True)
    except Conflict as error:
        # The project takes no more at a time; the end of this build must not fail for that.
        LOG.warning("build %s is not retried by itself: %s", build_id, error)


def _tell(session: Session, build: Build, kind: str, now: datetime) -> None:
    known = events.COORDINATES if build.source.get("format") else ("domain", "repository")
    where = {name: build.source[name] for name in known if name in build.source}
    if build.batch_id is not None and not batch_engine.tells_of_builds(session, build.batch_id):
        return
    project = session.get_one(BuildProject, build.project_id).name
    about = {
        "project": project,
        "number": build.number,
        "initiator": build.initiator,
        "message": build.message[:_LONGEST_WHY],
    }
    events.note(session, kind, now, **where, build=build.id, **about)


def get_build(session: Session, build_id: str) -> Build:
    """The build. Raises NotFound."""
    build = session.get(Build, build_id)
    if build is None:
        raise NotFound("build", build_id)
    return build


def list_builds(session: Session, *, project: str | None = None, limit: int = 50) -> Sequence[tuple[Build, str]]:
    """The newest builds first, each with its project's name. Raises NotFound for an unknown project."""
    statement = select(Build, BuildProject.name).join(BuildProject, Build.project_id == BuildProject.id)
    if project is not None:
        statement = statement.where(Build.project_id == get_project(session, project).id)
    rows = session.execute(statement.order_by(Build.submitted_at.desc(), Build.number.desc()).limit(limit))
    return [(build, name) for build, name in rows]
