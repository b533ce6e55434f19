"""Actions that others carry out, under kill -9 before any statement, and with many at once: done once, or as if never asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, event, insert, select, update
from sqlalchemy.orm import Session

from hooks import care
from hooks.jobs import claims
from hooks.jobs.context import JobContext
from hooks.jobs.lease import Lease
from hooks.models import ActionExecution, ActionJob, CustomActionType, Execution
from hooks.notifications.audience import Audience
from hooks.pipelines import action_jobs, custom_types, invoke_jobs, job_results
from hooks.pipelines.action_jobs import Asking, JobStatus
from hooks.pipelines.custom_types import ArtifactDetails, CustomType
from hooks.pipelines.steering import stop_execution
from hooks.triggers.invoke import invoker
from registry.access import EVERYTHING, Action, Identity, Scope
from registry.accounts import Accounts, SignInRules
from registry.errors import Problem
from registry.rulebook import Rulebooks
from tests import postgres
from tests.fakes.deployments import PlainSealer
from tests.fakes.pipelines import World, new_world, pipeline, source, stage

NONE = ArtifactDetails(0, 0)
WORKER = Identity("worker", 7, (EVERYTHING,), "internal")
CUSTOM = "    - name: Do\n      actionTypeId: {category: Test, owner: Custom, provider: Doer, version: '1'}\n"
CALL = (
    "    - name: Call\n      configuration: {PipelineName: inner}\n"
    "      actionTypeId: {category: Invoke, owner: AWS, provider: CodePipeline}\n"
)
MOST_STATEMENTS = 120


class Others:
    """A world of pipelines whose actions others carry out."""

    def __init__(self, world: World) -> None:
        self.world, self.number = world, 0
        world.use(
            replace(
                world.parts, sealer=PlainSealer(), invoker=invoker(lambda: world.parts, Audience(Rulebooks()).by_name)
            )
        )
        with world.db.write() as session:
            Accounts(b"p" * 32, SignInRules()).create(session, "admin", actions=("admin",), now=world.now)
            doer = CustomType("Test", "Doer", "1", NONE, NONE)
            self.type_id = custom_types.create(session, doer, (), actor="admin", now=world.now).id

    def write(self, unit: Callable[[Session], Any]) -> Any:
        with self.world.db.write() as session:
            return unit(session)

    def poll(self, session: Session, worker: Identity = WORKER, most: int = 10) -> list[action_jobs.Dispatched]:
        custom, sealer = session.get_one(CustomActionType, self.type_id), self.world.parts.sealer
        now = self.world.now
        return action_jobs.poll(session, sealer, worker, custom, Asking(most), digest=str.swapcase, now=now)

    def acknowledge(self, job_id: str, nonce: str) -> Callable[[Session], Any]:
        return lambda session: action_jobs.acknowledge(
            session, action_jobs.find(session, job_id), nonce, WORKER, self.world.now
        )

    def succeed(self, job_id: str, told: job_results.Success = job_results.Success()) -> Callable[[Session], Any]:  # noqa: B008
        return lambda session: job_results.succeed(
            session, self.world.parts, job_id, told, actor="worker", now=self.world.now
        )

    def start(self) -> int:
        self.number += 1
        return self.world.publish_and_start("acme", f"1.{self.number}")

    def taken(self) -> str:
        """A job in progress."""
        (given,) = self.write(self.poll)
        self.write(self.acknowledge(given.job.id, given.job.nonce))
        return given.job.id

    def stop(self, number: int, *, abandon: bool = True) -> None:
        self.write(
            lambda session: stop_execution(
                session, self.world.parts, number, actor="op", reason="", abandon=abandon, now=self.world.now
            )
        )

    def stop_all(self) -> None:
        """Nothing that was left running gets in the way of what follows."""
        with self.world.db.read() as session:
            left = session.scalars(select(Execution.id).where(Execution.status.in_(("InProgress", "Stopping")))).all()
        for each in left:
            self.stop(each)

    def job(self, job_id: str) -> ActionJob:
        with self.world.db.read() as session:
            return session.get_one(ActionJob, job_id)

    def status(self, execution: int) -> str:
        return str(self.world.execution(execution).summary.status)

    def killed(self, unit: Callable[[Session], Any], check: Callable[[], None]) -> Any:
        """Die before each statement of ``unit`` in turn; ``check`` holds after each, and in the end it is done."""
        done: list[Any] = []
        for statements in range(MOST_STATEMENTS):
            if not self.world.dies(statements, lambda: done.append(self.write(unit))):
                return done[-1]
            check()
        raise AssertionError("it never came to its end")


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def others(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Others]:
    if request.param == "postgresql" and postgres.find_binaries() is None:
        pytest.skip("there is no PostgreSQL on this machine")
    with new_world(request.param, tmp_path_factory.mktemp("others")) as world:
        made = Others(world)
        yield made
        assert care.check(world.db) == []


def test_a_job_goes_its_way_whenever_the_server_is_killed(others: Others) -> None:
    others.world.apply(pipeline(stage("Do", CUSTOM), name="does", first=source()))
    execution = others.start()

    def is_nowhere() -> None:
        with others.world.db.read() as session:
            (status,) = session.scalars(select(ActionJob.status).where(ActionJob.execution_id == execution))
        assert status == JobStatus.QUEUED

    (given,) = others.killed(others.poll, is_nowhere)
    job = given.job.id
    others.killed(others.acknowledge(job, given.job.nonce), lambda: None)
    assert others.job(job).status == JobStatus.IN_PROGRESS

    def goes_on() -> None:
        assert others.job(job).status == JobStatus.IN_PROGRESS
        assert others.status(execution) == "InProgress"

    others.killed(others.succeed(job, job_results.Success(continuation_token="more")), goes_on)
    assert others.taken() == job
    others.killed(others.succeed(job), goes_on)
    assert (others.job(job).status, others.status(execution)) == (JobStatus.SUCCEEDED, "Succeeded")
    with pytest.raises(Problem):
        others.write(others.succeed(job))


def test_another_pipeline_is_started_once_whenever_the_worker_is_killed(others: Others) -> None:
    world = others.world
    world.apply(pipeline(stage("Call", CALL), name="does", first=source()))
    # A publish starts both; the executions of the inner one that nobody invoked are given up at the end.
    world.apply(pipeline(stage("Do", CUSTOM), name="inner", first=source()))

    def work(statements: int) -> int:
        """Do all work, and die twice on the way; how often that came about."""
        deaths = 0
        while world.dies(statements if deaths < 2 else None, world.work):
            deaths += 1
            world.reap()
        return deaths

    statements, deaths = 0, 1
    while deaths:
        others.start()
        outer = world.executions("does")[0].id
        deaths = work(statements)
        called = select(ActionExecution.id).where(ActionExecution.execution_id == outer, ActionExecution.name == "Call")
        with world.db.read() as session:
            (inner,) = session.scalars(select(Execution.id).where(Execution.invoked_by_action_id.in_(called)))
        others.stop(inner)
        work(statements)
        assert (others.status(inner), others.status(outer)) == ("Stopped", "Failed")
        statements += 3
    assert statements > 30, "it died in many places"
    others.stop_all()


def test_what_was_started_is_stopped_with_what_started_it_whenever_the_worker_is_killed(others: Others) -> None:
    world = others.world
    world.apply(pipeline(stage("Call", CALL), name="does", first=source()))
    world.apply(pipeline(stage("Do", CUSTOM), name="inner", first=source()))
    in_between = {False: 0, True: 0}
    for statements in range(15, 100, 7):
        for abandon in (False, True):
            others.start()
            outer = world.executions("does")[0].id
            died = world.dies(statements, world.work)
            called = select(ActionExecution).where(
                ActionExecution.execution_id == outer, ActionExecution.name == "Call"
            )
            with world.db.read() as session:
                row = session.scalars(called).one()
                inner = session.scalar(select(Execution.id).where(Execution.invoked_by_action_id == row.id))
            in_between[abandon] += died and inner is not None and row.invoked_execution_id is None
            others.stop(outer, abandon=abandon)
            world.reap()
            world.work()
            with world.db.read() as session:
                row = session.scalars(called).one()
                inner = session.scalar(select(Execution.id).where(Execution.invoked_by_action_id == row.id))
            if inner is not None:
                assert others.status(inner) == ("Stopped" if abandon else "Stopping"), statements
                assert others.status(outer) == ("Stopped" if abandon else "Stopping"), statements
                assert "before another was started" not in row.summary
                if not abandon:
                    others.stop(inner)
                    world.work()
            assert others.status(outer) in {"Stopped", "Failed"}, statements
    assert min(in_between.values()) > 0, in_between
    others.stop_all()


def test_an_execution_that_was_stopped_before_the_start_could_be_seen_hands_the_stop_on(others: Others) -> None:
    """A stop between the start and the note of it, by a worker that lives on, also when what was asked of the start has changed."""
    world = others.world
    world.apply(pipeline(stage("Call", CALL), name="does", first=source()))
    world.apply(pipeline(stage("Do", CUSTOM), name="inner", first=source()))
    others.start()
    outer = world.executions("does")[0].id
    with world.db.write() as session:
        (job,) = claims.claim(
            session, owner="w", queues=["default"], kinds=["invoke_pipeline"], free=1, lease_seconds=600
        )
    hands = invoke_jobs.handlers(world.parts)["invoke_pipeline"]

    class Stopped(JobContext):
        def finish(self, *given: Any, **more: Any) -> None:
            others.stop(outer, abandon=False)
            super().finish(*given, **more)

    hands(Stopped(world.db, job, Lease(job, lease_seconds=600)))
    world.work()
    call = world.action(outer, "Call/Call")
    assert call.invoked_execution_id is not None
    assert (others.status(call.invoked_execution_id), others.status(outer)) == ("Stopping", "Stopping")
    others.stop(call.invoked_execution_id)
    world.work()
    assert others.status(outer) == "Failed"
    others.stop_all()


def test_jobs_that_a_worker_may_not_read_hide_no_others_and_one_is_looked_up_alone(others: Others) -> None:
    world = others.world
    world.apply(pipeline(stage("Do", CUSTOM), name="does", first=source()))
    world.apply(pipeline(stage("Do", CUSTOM), name="inner", first=source(name="nobody")))
    hidden, seen = others.start(), others.start()
    with world.db.write() as session:
        session.get_one(Execution, hidden).repository = "prod"
        first = session.scalars(select(ActionJob).where(ActionJob.execution_id == hidden)).one()
        columns = {each.key: getattr(first, each.key) for each in ActionJob.__table__.columns}
        session.execute(insert(ActionJob), [{**columns, "id": f"copy-{number}"} for number in range(600)])
        for number in range(600):
            at = world.now - timedelta(minutes=number)
            session.execute(update(ActionJob).where(ActionJob.id == f"copy-{number}").values(created_at=at))
    limited = Identity("worker", 7, (Scope(frozenset({Action.READ}), ("default/dev",)),), "internal")
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(world.db.engine, "before_cursor_execute", note)
    try:
        (given,) = others.write(lambda session: others.poll(session, limited, most=1))
        assert given.job.execution_id == seen
        statements.clear()
        (given,) = others.write(lambda session: others.poll(session, most=1))
        assert given.job.execution_id == hidden
        read = [each for each in statements if "FROM action_job JOIN execution" in each]
        assert len(read) == 1
        assert "execution.assets" not in read[0]
    finally:
        event.remove(world.db.engine, "before_cursor_execute", note)
        others.write(lambda session: session.execute(delete(ActionJob).where(ActionJob.id.startswith("copy-"))))
    others.stop_all()


def test_of_many_at_once_one_gets_a_job_and_one_result_counts(others: Others) -> None:
    world = others.world
    world.apply(pipeline(stage("Do", CUSTOM), name="does", first=source()))
    for _ in range(3):
        others.start()
    given: list[str] = []
    ends: list[str] = []

    def work() -> None:
        for each in others.world.db.retry(others.poll):
            given.append(each.job.id)
            others.world.db.retry(others.acknowledge(each.job.id, each.job.nonce))

    together(*[work] * 4)
    open_jobs = [job for job in given if others.job(job).ended_at is None]
    assert len(given) == len(set(given)) == len(open_jobs) >= 3

    def result(job: str) -> None:
        try:
            others.world.db.retry(others.succeed(job))
            ends.append(job)
        except Problem:
            return

    def give_up(job: str) -> None:
        number = others.job(job).execution_id
        try:
            others.world.db.retry(
                lambda session: stop_execution(
                    session, world.parts, number, actor="op", reason="", abandon=True, now=world.now
                )
            )
        except Problem:
            return

    for job in open_jobs:
        together(lambda job=job: result(job), lambda job=job: result(job), lambda job=job: give_up(job))
        assert ends.count(job) <= 1
        row = others.job(job)
        expected = ("Succeeded", "Succeeded") if job in ends else ("Failed", "Stopped")
        assert (row.status, others.status(row.execution_id)) == expected


def together(*acts: Callable[[], None]) -> None:
    """All at once; what one of them raises is raised here."""
    barrier, wrong = threading.Barrier(len(acts)), []

    def run(act: Callable[[], None]) -> None:
        barrier.wait()
        try:
            act()
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if wrong:
        raise wrong[0]
