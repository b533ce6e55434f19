"""The count of ended builds, kept where builds end: what counts them all must not have to look at them all."""

from __future__ import annotations

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from hooks.models.build import Build, BuildTally


def count(session: Session, build: Build) -> None:
    """Count a build that has just ended, in the transaction that ends it.

    One transaction ends one build: two that count in two orders would wait for each other.
    """
    queue_seconds = duration_seconds = 0.0
    if build.started_at is not None and build.ended_at is not None:
        queue_seconds = (build.started_at - build.submitted_at).total_seconds()
        duration_seconds = (build.ended_at - build.started_at).total_seconds()
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    statement = insert(BuildTally).values(
        project_id=build.project_id,
        status=build.status,
        builds=1,
        begun=0 if build.started_at is None else 1,
        # The clocks of two machines may differ by a little; a sum never gets smaller.
        queue_seconds=max(0.0, queue_seconds),
        duration_seconds=max(0.0, duration_seconds),
    )
    added = {
        name: getattr(BuildTally, name) + getattr(statement.excluded, name)
        for name in ("builds", "begun", "queue_seconds", "duration_seconds")
    }
    session.execute(statement.on_conflict_do_update(index_elements=["project_id", "status"], set_=added))
