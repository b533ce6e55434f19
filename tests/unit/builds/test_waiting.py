"""What becomes of builds that wait: limits, priorities, time-outs of the queue, repetitions."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.builds.phases import BuildStatus
from hooks.builds.projects import Settings, create_or_update_project, delete_project
from hooks.builds.records import (
    Options,
    expire_waiting,
    finish_build,
    get_build,
    retry_build,
    start_build,
)
from hooks.builds.source import PackageSource, SourceAsset
from hooks.jobs.queue import job_state
from hooks.models.build import Build
from hooks.models.job import Job, JobState
from registry.errors import Conflict, NotFound
from tests.build_bench import NOW
from tests.unit.builds.test_records import database, session

__all__ = ["database", "session"]
SOURCE = PackageSource("default", "dev", "any", "thing", "1.0", (SourceAsset("thing-1.0.tar.gz", "0" * 64),))
SPEC = "version: 0.2\nphases: {}"
told: list[str] = []


def project(session: Session, *, settings: Settings | None = None, **options: object) -> None:
    create_or_update_project(session, name="p", buildspec=SPEC, now=NOW, settings=settings or Settings(), **options)


def start(session: Session, *, now: datetime = NOW, subject: str | None = None, **options: object) -> Build:
    return start_build(
        session, project="p", source=SOURCE, initiator="joe", now=now, subject=subject, options=Options(**options)
    )


def finish(session: Session, build: Build, status: BuildStatus = BuildStatus.FAILED) -> None:
    assert finish_build(session, build.id, status, now=NOW, on_finished=lambda _session, ended: told.append(ended))


def builds(session: Session) -> list[Build]:
    return list(session.scalars(select(Build).order_by(Build.number)))


def test_a_project_that_rejects_takes_no_more_than_its_limit(session: Session) -> None:
    project(session, max_concurrent=1, settings=Settings(on_limit="reject"))
    first = start(session)
    with pytest.raises(Conflict, match="1 at a time"):
        start(session)
    finish(session, first)
    assert start(session).number == 2


def test_a_project_that_queues_lets_one_run_at_a_time(session: Session) -> None:
    project(session, max_concurrent=1)
    keys = {session.get_one(Job, start(session).job_id).serial_key for _ in range(3)}
    assert len(keys) == 1


def test_the_more_urgent_build_has_the_more_urgent_job(session: Session) -> None:
    project(session)
    assert session.get_one(Job, start(session, priority=5).job_id).priority == 5


def test_a_build_that_waited_too_long_is_timed_out(session: Session) -> None:
    project(session, settings=Settings(queued_timeout_minutes=5))
    build = start(session)
    job = session.scalars(select(Job).where(Job.kind == "build_waiting")).one()
    assert job.payload == {"build_id": build.id, "waited": 0}
    told.clear()
    assert expire_waiting(session, build.id, now=NOW, on_finished=lambda _session, ended: told.append(ended))
    assert (get_build(session, build.id).status, told) == ("TIMED_OUT", [build.id])
    assert job_state(session, build.job_id or 0) is JobState.STOPPED
    assert not expire_waiting(session, build.id, now=NOW, on_finished=lambda *_: None)


def test_a_build_that_has_begun_is_not_ended_by_the_queues_time_out(session: Session) -> None:
    project(session)
    build = start(session)
    begin(session, build)
    assert not expire_waiting(session, build.id, now=NOW, on_finished=lambda *_: None)
    assert get_build(session, build.id).status == "IN_PROGRESS"


def begin(session: Session, build: Build) -> None:
    """Somebody takes it."""
    build.started_at, build.attempt = NOW, build.attempt + 1
    session.get_one(Job, build.job_id).state = JobState.RUNNING
    session.flush()


def test_a_build_whose_runner_died_waits_no_longer_than_its_queued_time_out_twice(session: Session) -> None:
    project(session)
    build = start(session)

    def look() -> bool:
        """As the job does that was left last."""
        payload = session.scalars(select(Job.payload).where(Job.kind == "build_waiting").order_by(Job.id)).all()[-1]
        assert payload["build_id"] == build.id
        return expire_waiting(session, build.id, now=NOW, on_finished=lambda *_: None, waited=payload["waited"])

    job = session.get_one(Job, build.job_id)
    begin(session, build)
    assert not look()
    assert not look()
    job.state = JobState.QUEUED  # its lease ran out, and nobody takes it
    session.flush()
    assert not look()
    begin(session, build)  # somebody does
    job.state = JobState.QUEUED  # and dies as well
    session.flush()
    assert not look()
    assert look()
    assert (get_build(session, build.id).status, job_state(session, job.id)) == ("TIMED_OUT", JobState.STOPPED)
    assert not look()


@pytest.mark.parametrize(
    ("status", "repeats"),
    [(BuildStatus.FAILED, 2), (BuildStatus.FAULT, 2), (BuildStatus.STOPPED, 0), (BuildStatus.TIMED_OUT, 0)],
)
def test_what_failed_is_repeated_as_often_as_it_is_allowed(session: Session, status: BuildStatus, repeats: int) -> None:
    project(session, settings=Settings(auto_retry_limit=2))
    start(session)
    while running := [build for build in builds(session) if build.status == "IN_PROGRESS"]:
        finish(session, running[0], status)
    assert [build.auto_retry_number for build in builds(session)] == list(range(repeats + 1))


def test_a_pipelines_build_is_left_to_the_pipeline(session: Session) -> None:
    project(session, settings=Settings(auto_retry_limit=2))
    finish(session, start(session, subject="execution:1"))
    assert len(builds(session)) == 1


def test_a_retry_has_what_the_build_had_whatever_the_project_says_now(session: Session) -> None:
    project(session, environment={"variables": {"A": "then"}})
    build = start(session, timeout_minutes=7)
    with pytest.raises(Conflict, match="has not ended"):
        retry_build(session, build.id, initiator="ann", now=NOW)
    finish(session, build, BuildStatus.SUCCEEDED)
    project(session, environment={"variables": {"A": "now"}})
    again = retry_build(session, build.id, initiator="ann", now=NOW)
    assert (again.environment["variables"], again.timeout_minutes, again.source) == ({"A": "then"}, 7, build.source)
    assert (again.retry_of, again.initiator, again.subject) == (build.id, "ann", None)
    finish(session, again)
    delete_project(session, "p", NOW)
    with pytest.raises(Conflict, match="was deleted"):
        retry_build(session, build.id, initiator="ann", now=NOW)
    with pytest.raises(NotFound):
        start(session)


def test_a_token_names_a_start_for_five_minutes(session: Session) -> None:
    project(session)
    first = start(session, request_token="t")
    assert start(session, request_token="t", now=NOW + timedelta(minutes=4)).id == first.id
    assert start(session, request_token="t", now=NOW + timedelta(minutes=6)).id != first.id
