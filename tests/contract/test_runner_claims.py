"""What a runner is given and may write, on both databases: the claim with its limits, the lease, the end."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import delete, event, insert, select, update

from hooks.builds import runners
from hooks.builds.attempts import BuildAttempts
from hooks.builds.phases import BuildStatus
from hooks.builds.projects import create_or_update_project
from hooks.builds.records import get_build, start_build
from hooks.builds.runner_claims import RunnerClaims
from hooks.builds.runner_work import Claim, Ending, RunnerWork
from hooks.builds.runners import Introduction, Limits
from hooks.builds.source import PackageSource
from hooks.errors import LeaseLost
from hooks.jobs import remote
from hooks.jobs.claims import EndedJob
from hooks.models.job import Job, JobState
from hooks.models.runner import BuildLease, BuildRunner
from registry.db import Base, Database
from tests.build_jobs import Parts
from tests.job_bench import BACKENDS, fresh_url, note

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = "version: 0.2\nphases:\n  build:\n    commands: ['true']\n"
SAID = Introduction("host", "1", ("process",), 4)
PHASES = [{"phaseType": "BUILD", "startTime": NOW.isoformat(), "contexts": []}]


@pytest.fixture(params=BACKENDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with fresh_url(request.param, tmp_path) as url:
        database = Database(url)
        Base.metadata.create_all(database.engine)
        note.metadata.create_all(database.engine)
        yield database
        database.close()


def digest(secret: str) -> str:
    return f"digest of {secret}"[:64]


def runner(database: Database, name: str, limits: Limits) -> BuildRunner:
    with database.write() as session:
        _, given = runners.add(session, name, limits, digest=digest, created_by="ada", now=NOW)
        row, _ = runners.register(session, given.secret, SAID, digest=digest, now=NOW)
        session.expunge(row)
        return row


def test_a_runner_claims_what_it_may_have_writes_while_it_holds_it_and_ends_it_once(database: Database) -> None:
    services = Parts().services()
    attempts = BuildAttempts(services)
    claims = RunnerClaims(database, services, attempts, digest=digest, lease_seconds=60.0)
    work = RunnerWork(database, services, attempts, digest=digest, lease_seconds=60.0)
    with database.write() as session:
        ids = {}
        for name in ("one", "two"):
            create_or_update_project(session, name=name, buildspec=SPEC, now=NOW)
            source = PackageSource("default", "dev", "", "", "", ())
            ids[name] = start_build(session, project=name, source=source, initiator="joe", now=NOW).id
    only_two = runner(database, "only-two", Limits(projects=("two",), domains=("default",)))
    nowhere = runner(database, "nowhere", Limits(domains=("other",)))

    assert claims.claim(nowhere, SAID, ()) is None
    assert claims.claim(only_two, Introduction("host", "1", ("container",), 4), ()) is None
    given = claims.claim(only_two, SAID, ())
    assert given is not None
    assert (given.plan.build_id, given.attempt) == (ids["two"], 1)
    assert claims.claim(only_two, SAID, (given.lease_id,)) is None

    claim = Claim(only_two, given.lease_id, given.token)
    assert work.renew(claim) is None
    assert work.log(claim, 0, b"begin\n") == 6
    assert work.log(claim, 0, b"begin\nend\n") == 10
    work.finish(claim, Ending(BuildStatus.SUCCEEDED, PHASES, {}, 10))
    work.finish(claim, Ending(BuildStatus.SUCCEEDED, PHASES, {}, 10))
    with pytest.raises(LeaseLost):
        work.log(claim, 10, b"late\n")
    with database.read() as session:
        build = get_build(session, ids["two"])
        assert build.status == "SUCCEEDED"
        shown, _, is_all = attempts.logs.read(session, build.id, 0, 1000)
    assert (shown.splitlines()[-2:], is_all) == ([b"begin", b"end"], True)


def test_a_runner_without_work_costs_one_read_and_still_takes_over_what_others_leave(database: Database) -> None:
    services = Parts().services()
    attempts = BuildAttempts(services)
    claims = RunnerClaims(database, services, attempts, digest=digest, lease_seconds=60.0)
    idle, other = runner(database, "idle", Limits()), runner(database, "other", Limits())
    idle.seen_at = services.clock()  # it has asked a moment ago
    sent: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *told: sent.append(told[2].split()[0]))
    assert [claims.claim(idle, SAID, ()) for _ in range(3)] == [None] * 3
    assert {word for word in sent if word != "BEGIN"} == {"SELECT"}
    assert sent.count("BEGIN") == (
        3 if database.is_sqlite else 0
    )  # one transaction each; PostgreSQL's driver begins them
    # What another has let run out is taken over by who asks next.
    source = PackageSource("default", "dev", "", "", "", ())
    with database.write() as session:
        create_or_update_project(session, name="one", buildspec=SPEC, now=NOW)
        start_build(session, project="one", source=source, initiator="joe", now=NOW)
    first = claims.claim(other, SAID, ())
    assert first is not None
    assert claims.claim(idle, SAID, ()) is None
    with database.write() as session:
        session.execute(update(Job).where(Job.kind == "build").values(lease_until=1.0))
    second = claims.claim(idle, SAID, ())
    assert second is not None
    assert (first.attempt, second.attempt) == (1, 2)
    # Who holds it and has forgotten: it is not idle, and the build does not wait for it.
    claims.claim(idle, Introduction("host", "1", (), 4), ())
    with database.read() as session:
        assert session.scalars(select(Job.owner).where(Job.kind == "build", Job.state == JobState.RUNNING)).all() == []


def test_many_runners_ask_less_often_each(database: Database) -> None:
    services = Parts().services()
    claims = RunnerClaims(database, services, BuildAttempts(services), digest=digest, lease_seconds=60.0)
    mine, now = runner(database, "mine", Limits()), services.clock()
    seen = {"projects": [], "domains": [], "environments": [], "created_by": "ada", "created_at": now, "seen_at": now}
    for fleet, seconds in ((5, 1.0), (30, 3.0), (90, 5.0)):
        with database.write() as session:
            others = [{"id": f"{fleet}-{number}", "name": f"{fleet}-{number}", **seen} for number in range(fleet - 1)]
            session.execute(delete(BuildRunner).where(BuildRunner.id != mine.id))
            session.execute(insert(BuildRunner), others)
        assert claims.claim(mine, SAID, ()) is None
        assert claims.poll_seconds == seconds


def test_a_job_that_cannot_be_settled_keeps_no_runner_from_its_builds(database: Database) -> None:
    services = Parts().services()
    attempts = BuildAttempts(services)
    claims = RunnerClaims(database, services, attempts, digest=digest, lease_seconds=60.0)
    source = PackageSource("default", "dev", "", "", "", ())
    with database.write() as session:
        create_or_update_project(session, name="one", buildspec=SPEC, now=NOW)
        ids = [start_build(session, project="one", source=source, initiator="joe", now=NOW).id for _ in range(2)]
    mine = runner(database, "mine", Limits())
    first = claims.claim(mine, SAID, ())
    assert first is not None
    second = claims.claim(mine, SAID, (first.lease_id,))
    assert second is not None
    with database.write() as session:
        session.execute(update(Job).where(Job.kind == "build").values(lease_until=1.0, stop_requested=True))
    settled: list[str] = []

    def settle(_session: object, ended: EndedJob) -> None:
        if ended.payload["build_id"] == ids[0]:
            raise RuntimeError("this one cannot be")
        settled.append(ended.payload["build_id"])

    remote.reap(database, {"build"}, settle)
    assert settled == [ids[1]]
    with database.read() as session:
        states = session.scalars(select(Job.state).where(Job.kind == "build").order_by(Job.id)).all()
    assert states == [JobState.RUNNING, JobState.STOPPED]  # the first one is tried again
    settled.clear()
    remote.reap(database, {"build"}, lambda _session, ended: settled.append(ended.payload["build_id"]))
    assert settled == [ids[0]]


def test_what_a_lost_lease_was_given_is_closed_once(database: Database) -> None:
    ended: list[int] = []
    services = Parts().services(end_token=lambda _session, token_id: ended.append(token_id))
    attempts = BuildAttempts(services)
    claims = RunnerClaims(database, services, attempts, digest=digest, lease_seconds=60.0)
    with database.write() as session:
        create_or_update_project(session, name="one", buildspec=SPEC, now=NOW)
        start_build(
            session, project="one", source=PackageSource("default", "dev", "", "", "", ()), initiator="joe", now=NOW
        )
    given = claims.claim(runner(database, "mine", Limits()), SAID, ())
    assert given is not None
    with database.write() as session:
        session.get_one(BuildLease, given.lease_id).token_id = 7
    attempts.close_lost(database)
    assert ended == []
    with database.write() as session:
        session.execute(update(Job).where(Job.kind == "build").values(lease_until=1.0))
    remote.reap(database, {"build"}, attempts.settle)
    for _ in range(2):
        attempts.close_lost(database)
        assert ended == [7]
