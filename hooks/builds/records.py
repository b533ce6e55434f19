"""The rows of builds: started, stopped and ended, always in the caller's transaction."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from hooks.builds.phases import BuildStatus, Phase
from hooks.builds.projects import check_variables, get_project
from hooks.builds.source import PackageSource
from hooks.jobs.queue import enqueue, job_state, request_stop
from hooks.models.build import Build, BuildProject
from hooks.models.job import JobState
from registry import events
from registry.errors import Conflict, NotFound

JOB_KIND = "build"
QUEUE = "builds"
MAX_ATTEMPTS = 3
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


def start_build(
    session: Session,
    *,
    project: str,
    source: PackageSource,
    initiator: str,
    now: datetime,
    variables: Mapping[str, Any] | None = None,
    subject: str | None = None,
) -> Build:
    """Start a build of the project called ``project``: its row and its job, in the caller's transaction.

    ``variables`` win over the project's. Above ``max_concurrent`` it waits in the queue. Raises NotFound and
    InvalidDocument.
    """
    check_variables(variables or {})
    found = get_project(session, project)
    number = _next_number(session, found)
    build_id = str(uuid.uuid4())
    build = Build(
        id=build_id,
        project_id=found.id,
        number=number,
        status=BuildStatus.IN_PROGRESS.value,
        phase=Phase.QUEUED.value,
        phases=[],
        source=source.as_json(),
        buildspec=found.buildspec,
        environment=found.environment,
        timeout_minutes=found.timeout_minutes,
        variables=dict(variables or {}),
        exported_variables={},
        initiator=initiator,
        subject=subject,
        job_id=_enqueue(session, found, build_id, number),
        submitted_at=now,
    )
    session.add(build)
    session.flush()
    _tell(session, build, _STARTED, now)
    return build


def _next_number(session: Session, project: BuildProject) -> int:
    # One statement: it locks the project's row, so that two starts at a time get two numbers.
    return session.execute(
        update(BuildProject)
        .where(BuildProject.id == project.id)
        .values(last_number=BuildProject.last_number + 1)
        .returning(BuildProject.last_number),
        execution_options={"synchronize_session": False},
    ).scalar_one()


def _enqueue(session: Session, project: BuildProject, build_id: str, number: int) -> int | None:
    # n keys, handed out in turn, let at most n of the project's builds run at a time.
    limit = project.max_concurrent
    return enqueue(
        session,
        JOB_KIND,
        {"build_id": build_id},
        queue=QUEUE,
        timeout_seconds=project.timeout_minutes * 60 + _EXTRA_SECONDS,
        max_attempts=MAX_ATTEMPTS,
        subject=f"build:{build_id}",
        serial_key=f"build-project:{project.id}:{number % limit}" if limit else None,
    )


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
    values: dict[str, Any] = {"status": status.value, "ended_at": now, "message": message}
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
    session.expire_all()  # what the caller reads next is what was written
    _tell(session, session.get_one(Build, build_id), _ENDED[status], now)
    on_finished(session, build_id)
    return True


def _tell(session: Session, build: Build, kind: str, now: datetime) -> None:
    where = {name: build.source[name] for name in events.COORDINATES if name in build.source}
    project = session.get_one(BuildProject, build.project_id).name
    events.note(
        session, kind, now, **where, build=build.id, project=project, number=build.number, initiator=build.initiator
    )


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
