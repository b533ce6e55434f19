"""Rows that two transactions want in two orders: on PostgreSQL, where they would wait for each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from hooks.builds.records import lock_project
from hooks.models.build import BuildProject, BuildTally
from hooks.models.job import Job, JobState
from hooks.models.pipeline import ActionExecution, StageExecution
from hooks.pipelines.approvals import Verdict, decide, expire
from hooks.pipelines.steering import stop_execution
from tests import postgres
from tests.fakes.pipelines import approval, build, promotion, stage
from tests.functional.test_pipeline_modes import Line, fresh_world

SHIP = (
    "    - name: Ship\n"
    "      configuration: {ApplicationName: shop, DeploymentGroupName: blue}\n"
    "      actionTypeId: {category: Deploy, owner: AWS, provider: CodeDeploy, version: '1'}\n"
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    if postgres.find_binaries() is None:
        pytest.skip("there is no PostgreSQL on this machine")
    yield from fresh_world("postgresql", tmp_path_factory.mktemp("locks"))


@contextmanager
def held(world, job_id: int) -> Iterator[None]:
    """Somebody ends a job: has its row, and goes on to what it is about."""
    with world.db.write() as session:
        session.execute(sa.select(Job.id).where(Job.id == job_id).with_for_update())
        yield


@contextmanager
def impatient(world) -> Iterator[Session]:
    """A transaction that waits for no lock: one that it would wait for is an error."""
    with world.db.write() as session:
        session.execute(sa.text("SET LOCAL lock_timeout = '1s'"))
        yield session


def row_of(world, execution: int, path: str) -> ActionExecution:
    name = path.rpartition("/")[2]
    with world.db.read() as session:
        rows = session.scalars(
            sa.select(ActionExecution)
            .join(StageExecution, StageExecution.id == ActionExecution.stage_execution_id)
            .where(
                StageExecution.execution_id == execution,
                StageExecution.name == path.partition("/")[0],
                ActionExecution.name == name,
            )
        )
        return rows.one()


def job_of(world, execution: int, path: str) -> int:
    return row_of(world, execution, path).job_id


def state(world, job_id: int) -> JobState:
    with world.db.read() as session:
        return session.get_one(Job, job_id).state


def test_an_answer_does_not_wait_for_the_expiry_that_waits_for_it(world):
    line = Line(world, "PARALLEL", stage("Test", approval("Ask")) + stage("More", approval("Ask")))
    execution = line.start("1.0")
    job = job_of(world, execution, "Test/Ask")
    answered = {"verdict": Verdict.APPROVED, "actor": "ann", "comment": "", "now": world.now}
    with held(world, job), impatient(world) as session:
        decide(session, world.parts, execution, "Test", "Ask", **answered)
    with world.db.write() as session:  # the one that was passed over finds nothing to do
        expire(session, world.parts, row_of(world, execution, "Test/Ask").id, world.now)
    assert line.stages(execution) == {"Test": "Succeeded", "More": "InProgress"}
    second = job_of(world, execution, "More/Ask")
    with impatient(world) as session:
        decide(session, world.parts, execution, "More", "Ask", **answered)
    assert state(world, second) is JobState.STOPPED


@pytest.mark.parametrize(("path", "stages"), [
    ("Ship/P", stage("Ship", promotion("P", "staging"))),
    ("Test/Ask", stage("Test", approval("Ask"))),
    ("Prod/Ship", stage("Prod", SHIP)),
])  # fmt: skip
def test_giving_an_action_up_does_not_wait_for_its_job(world, path, stages):
    line = Line(world, "PARALLEL", stages)
    execution = line.start("2.0")
    with held(world, job_of(world, execution, path)), impatient(world) as session:
        stop_execution(session, world.parts, execution, abandon=True, reason="wrong", actor="ann", now=world.now)
    assert line.status(execution) == "Stopped"


def test_the_first_build_that_ends_does_not_wait_for_the_next_one_that_starts(world):
    line = Line(world, "PARALLEL", stage("A", build("U")))
    execution = line.start("3.0")
    ending = world.end_build(world.action(execution, "A/U").build_id)
    with world.db.write() as starting:
        project = starting.scalars(sa.select(BuildProject)).one()
        lock_project(starting, project)
        with impatient(world) as session:
            assert session.scalars(sa.select(BuildTally)).all() == []
            ending(session)
    assert line.status(execution) == "Succeeded"
