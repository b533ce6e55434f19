"""Which image a project's builds ran in: a name that means another one later is noticed (security row H12).

The first build records the digest; saving the project forgets it, which is how somebody accepts a moved name.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import delete, exists, select
from sqlalchemy.orm import Session

from hooks.builds.executor import ExecutorError, RoomRequest
from hooks.jobs.context import OUTAGES, JobContext
from hooks.models.build import Build
from hooks.models.build_image import BuildImagePin
from registry import audit
from registry.clock import Clock

ACTOR = "build"


def room_of(job: JobContext, build: Build, project: str, clock: Clock) -> RoomRequest:
    """What the build's environment asks of its room, with the digest that was recorded and who records a new one."""
    environment = build.environment
    image = environment.get("image", "")
    return RoomRequest(
        image=image,
        pinned_digest=job.step(lambda session: pinned(session, build.project_id, image)),
        on_digest=_recorder(job, build.project_id, project, image, clock),
        compute_type=environment.get("computeType", ""),
        is_privileged=bool(environment.get("privilegedMode", False)),
    )


def pinned(session: Session, project_id: int, image: str) -> str:
    """The digest recorded for ``image``, "" when there is none."""
    where = (BuildImagePin.project_id == project_id, BuildImagePin.image == image)
    return session.scalar(select(BuildImagePin.digest).where(*where)) or ""


def record(session: Session, project_id: int, project: str, image: str, digest: str, now: datetime) -> None:
    """Record what ``image`` means now, with an audit entry when it is news."""
    pin = session.get(BuildImagePin, (project_id, image), with_for_update=True)
    if pin is not None and pin.digest == digest:
        return
    before = pin.digest if pin is not None else None
    session.merge(BuildImagePin(project_id=project_id, image=image, digest=digest, recorded_at=now))
    obj = f"build-project/{project}"
    audit.record(session, now, ACTOR, "build_project.image", obj, image=image, digest=digest, before=before)


def are_recorded(session: Session, project_id: int) -> bool:
    """Whether anything is recorded for a project."""
    return session.scalar(select(exists().where(BuildImagePin.project_id == project_id))) or False


def forget(session: Session, project_id: int) -> None:
    """Forget what was recorded for a project."""
    session.execute(delete(BuildImagePin).where(BuildImagePin.project_id == project_id))


def _recorder(job: JobContext, project_id: int, project: str, image: str, clock: Clock) -> Callable[[str], None]:
    def on_digest(digest: str) -> None:
        try:
            job.step(lambda session: record(session, project_id, project, image, digest, clock()))
        except OUTAGES as error:
            raise ExecutorError(f"the image's digest cannot be recorded now: {error}") from error

    return on_digest
