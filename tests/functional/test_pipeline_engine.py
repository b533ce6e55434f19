"""Executions from publish to promotion, on both databases: real rows, real queue, real promotion (I3, I4)."""

import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from hooks.builds.phases import BuildStatus
from hooks.jobs.queue import enqueue
from hooks.models.build import Build
from hooks.models.build_batch import BuildBatch
from hooks.models.job import Job, JobState
from hooks.models.pipeline import Execution
from hooks.pipelines.approvals import Verdict, decide
from hooks.pipelines.definition import RetryMode
from hooks.pipelines.engine import advance
from hooks.pipelines.state import ActionStatus
from hooks.pipelines.steering import retry_stage, stop_execution
from hooks.pipelines.store import get_pipeline, list_executions, list_pipelines, list_waiting_approvals
from hooks.triggers.start import start_manual
from registry.errors import Conflict, Denied, Invalid, InvalidDocument, NotFound
from registry.models import Asset, Event
from tests import postgres
from tests.fakes.pipelines import approval, build, new_world, pipeline, promotion, source, stage


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request, tmp_path: Path):
    if request.param == "postgresql" and postgres.find_binaries() is None:
        pytest.skip("there is no PostgreSQL on this machine")
    with new_world(request.param, tmp_path) as made:
        yield made


RELEASE = pipeline(
    stage(
        "Test",
        build(
            "Unit",
            extra="      namespace: unit\n",
            more=""", EnvironmentVariables: '[{"name":"V","value":"#{src.Name}@#{src.Version}"}]'""",
        ),
        approval("Ask", run_order=2, configuration='{CustomData: "#{unit.NOTES}", NotByPublisher: "true"}'),
    )
    + stage("Ship", promotion("Promote", "staging"))
)


def answer(world, execution_id, path="Test/Ask", verdict=Verdict.APPROVED, actor="carol", **more):
    place, action = path.split("/")
    with world.db.write() as session:
        decide(
            session, world.parts, execution_id, place, action, verdict=verdict, comment="ok", actor=actor,
            now=world.now, **more,
        )  # fmt: skip


def stop(world, execution_id, *, abandon=False):
    with world.db.write() as session:
        stop_execution(session, world.parts, execution_id, actor="op", reason="because", abandon=abandon, now=world.now)


def retry(world, execution_id, name, mode=RetryMode.FAILED_ACTIONS):
    with world.db.write() as session:
        retry_stage(session, world.parts, execution_id, name, mode, actor="op", now=world.now)


def end_build(world, execution_id, path="Test/Unit", status=BuildStatus.SUCCEEDED, **variables):
    build_id = world.action(execution_id, path).build_id
    with world.db.write() as session:
        world.end_build(build_id, status, variables=variables)(session)
    return build_id


def test_from_publish_to_promotion(world):
    world.apply(RELEASE)
    started = world.publish_and_start()
    assert world.statuses(started) == (
        "InProgress",
        {"Source": "Succeeded", "Test": "InProgress", "Ship": None},
        {"Source/Package": "Succeeded", "Test/Unit": "InProgress", "Test/Ask": None, "Ship/Promote": None},
    )
    built = world.build(world.action(started, "Test/Unit").build_id)
    assert built.variables == {"V": "acme@1.0"}
    assert built.initiator == "codepipeline/release"
    assert built.subject == f"execution:{started}"
    assert {asset["filename"]: asset["sha256"] for asset in built.source["assets"]} == world.files("dev", "acme", "1.0")

    end_build(world, started, NOTES="first")
    ask = world.action(started, "Test/Ask")
    assert (ask.status, ask.summary, ask.expires_at) == ("Waiting", "first", world.now + timedelta(days=7))
    with world.db.read() as session:
        (waiting,) = list_waiting_approvals(session)
    assert (waiting.execution.id, waiting.stage, waiting.action.token) == (started, "Test", ask.token)

    answer(world, started, token=ask.token)
    assert world.statuses(started)[1] == {"Source": "Succeeded", "Test": "Succeeded", "Ship": "InProgress"}
    world.work()
    view = world.execution(started)
    assert view.summary.status == "Succeeded"
    assert view.summary.ended_at == world.now
    assert world.files("staging", "acme", "1.0") == world.files("dev", "acme", "1.0") == dict(view.assets)
    decided = world.action(started, "Test/Ask")
    assert (decided.decided_by, decided.comment) == ("carol", "ok")
    variables = world.action(started, "Source/Package").output_variables
    assert variables == {
        "Domain": "default",
        "Repository": "dev",
        "Format": "fmt",
        "Name": "acme",
        "Version": "1.0",
        "Digest": f"sha256:{view.summary.digest}",
        "Purl": "pkg:fmt/acme@1.0",
    }
    for action in ("execution.start", "approval.request", "approval.approved", "execution.succeeded"):
        assert [entry.object for entry in world.audited(action)] == [f"pipeline/release/execution/{started}"]
    # the approval's expiry is no longer queued
    with world.db.read() as session:
        assert session.scalars(sa.select(Job.state).where(Job.kind == "expire_approval")).all() == [JobState.STOPPED]


def test_a_failed_build_fails_the_stage_and_retry_keeps_what_succeeded(world):
    world.apply(pipeline(stage("Test", build("A"), build("B"), build("C", run_order=2))))
    started = world.publish_and_start()
    first = end_build(world, started, "Test/A", BuildStatus.FAULT)
    assert world.statuses(started)[0] == "InProgress"  # the sibling finishes
    end_build(world, started, "Test/B")
    status, stages, actions = world.statuses(started)
    assert (status, stages["Test"], actions["Test/C"]) == ("Failed", "Failed", None)
    assert "FAULT" in world.action(started, "Test/A").summary
    retry(world, started, "Test")
    assert world.statuses(started)[2] == {
        "Source/Package": "Succeeded",
        "Test/A": "InProgress",
        "Test/B": "Succeeded",
        "Test/C": None,
    }
    again = world.action(started, "Test/A")
    assert (again.attempt, [old.build_id for old in again.attempts]) == (2, [first])
    with world.db.write() as session:
        world.end_build(first)(session)  # a late report of the first attempt
    assert world.statuses(started)[2]["Test/A"] == "InProgress"
    end_build(world, started, "Test/A")
    end_build(world, started, "Test/C")
    assert world.statuses(started)[0] == "Succeeded"
    with pytest.raises(Conflict, match="nothing to retry"):
        retry(world, started, "Test")


def test_retry_while_a_sibling_runs_and_of_all_actions(world):
    world.apply(pipeline(stage("Test", build("A"), build("B"))))
    started = world.publish_and_start()
    end_build(world, started, "Test/A", BuildStatus.FAILED)
    with pytest.raises(Conflict, match="still run"):
        retry(world, started, "Test", RetryMode.ALL_ACTIONS)
    retry(world, started, "Test")
    with pytest.raises(Conflict, match="nothing to retry"):
        retry(world, started, "Test")  # a retry is under way
    end_build(world, started, "Test/A", BuildStatus.FAILED)
    end_build(world, started, "Test/B")
    retry(world, started, "Test", RetryMode.ALL_ACTIONS)
    assert {world.action(started, f"Test/{name}").attempt for name in "AB"} == {3, 2}
    with pytest.raises(NotFound):
        retry(world, started, "Nowhere")


def test_retry_runs_on_the_pinned_definition(world):
    world.apply(pipeline(stage("Test", build("A"))))
    started = world.publish_and_start()
    end_build(world, started, "Test/A", BuildStatus.FAILED)
    world.apply(pipeline(stage("Other", build("Z"))))
    retry(world, started, "Test")
    end_build(world, started, "Test/A")
    assert world.statuses(started)[1] == {"Source": "Succeeded", "Test": "Succeeded"}
    assert world.execution(started).summary.definition_version == 1


def test_stop_lets_running_actions_end(world):
    world.apply(pipeline(stage("Test", build("A"), approval("Ask"), build("B", run_order=2))))
    started = world.publish_and_start()
    stop(world, started)
    status, stages, actions = world.statuses(started)
    assert (status, stages["Test"]) == ("Stopping", "Stopping")
    assert (actions["Test/A"], actions["Test/Ask"]) == ("InProgress", "Abandoned")
    with pytest.raises(Conflict, match="stopping already"):
        stop(world, started)
    with pytest.raises(Conflict, match="being stopped"):
        retry(world, started, "Test")
    with pytest.raises(Conflict, match="is over"):
        answer(world, started, "Test/Ask")
    end_build(world, started, "Test/A")
    assert world.statuses(started)[0] == "Stopped"
    with pytest.raises(Conflict, match="ended already"):
        stop(world, started)
    retry(world, started, "Test")
    assert world.statuses(started)[2]["Test/Ask"] == "Waiting"
    assert [entry.details["abandon"] for entry in world.audited("execution.stop")] == [False]


def test_abandon_stops_the_build_and_nothing_is_promoted(world):
    world.apply(pipeline(stage("Ship", build("A"), promotion("P", "staging"))))
    started = world.publish_and_start()
    stop(world, started)
    stop(world, started, abandon=True)
    status, stages, actions = world.statuses(started)
    assert (status, stages["Ship"], actions["Ship/A"], actions["Ship/P"]) == (
        "Stopped",
        "Stopped",
        "Abandoned",
        "Abandoned",
    )
    world.work()
    assert world.build(world.action(started, "Ship/A").build_id).status == "STOPPED"
    assert world.files("staging", "acme", "1.0") == {}


@pytest.mark.parametrize("more", ["", ", BatchEnabled: 'true'"])
def test_giving_up_an_action_waits_for_no_lock_that_the_end_of_its_build_holds(world, more):
    """Whoever ends the build waits for the execution in turn, so that the two would wait for each other."""
    if world.db.engine.dialect.name == "sqlite":
        pytest.skip("its writers take turns")
    world.apply(pipeline(stage("Ship", build("A", more=more))))
    started = world.publish_and_start()
    build_id = world.action(started, "Ship/A").build_id
    with world.db.write() as ending:
        for model in (Build, BuildBatch):
            ending.execute(sa.select(model.id).where(model.id == build_id).with_for_update())
        ending.execute(sa.select(Job.id).where(Job.kind == "build").with_for_update())
        with world.db.write() as session:
            session.execute(sa.text("SET LOCAL lock_timeout = '1s'"))
            stop_execution(
                session, world.parts, started, actor="op", reason="because", abandon=True, now=world.now
            )  # fmt: skip
    assert world.statuses(started)[0] == "Stopped"
    world.work()
    with world.db.read() as session:
        batch = session.get(BuildBatch, build_id)
        assert (batch.ending if batch else session.get_one(Build, build_id).status) == "STOPPED"


def test_an_abandoned_promotion_that_a_worker_holds_already_does_nothing(world):
    world.apply(pipeline(stage("Ship", promotion("P", "staging"))))
    started = world.publish_and_start()
    with world.db.write() as session:
        session.execute(sa.update(Job).where(Job.kind == "promote").values(dedupe=None))
        payload = session.scalar(sa.select(Job.payload).where(Job.kind == "promote"))
        enqueue(session, "promote", payload)  # stands for the one that was claimed before the stop
    stop(world, started, abandon=True)
    assert world.work("promote") == 1
    assert world.files("staging", "acme", "1.0") == {}
    assert world.statuses(started)[0] == "Stopped"


def test_i3_what_was_pinned_is_promoted_or_nothing(world):
    world.apply(pipeline(stage("Gate", approval("Ask")) + stage("Ship", promotion("P", "staging"))))
    swapped = world.publish_and_start(version="1.0")
    fine = world.publish_and_start(version="2.0")
    with world.db.write() as session:
        session.execute(sa.update(Asset).where(Asset.filename == "acme-1.0.bin").values(sha256="0" * 64))
    for execution_id in (swapped, fine):
        answer(world, execution_id, "Gate/Ask")
    world.work()
    assert world.statuses(swapped)[0] == "Failed"
    assert "was to be promoted" in world.action(swapped, "Ship/P").summary
    assert world.files("staging", "acme", "1.0") == {}
    assert world.statuses(fine)[0] == "Succeeded"  # the control
    assert world.files("staging", "acme", "2.0") == dict(world.execution(fine).assets)


def test_a_file_that_came_later_is_not_promoted_along(world):
    world.apply(pipeline(stage("Gate", approval("Ask")) + stage("Ship", promotion("P", "staging"))))
    started = world.publish_and_start()
    world.publish("acme", "1.0", "acme-1.0-extra.bin", b"more", by="mallory")
    answer(world, started, "Gate/Ask")
    world.work("promote")
    assert list(world.files("staging", "acme", "1.0")) == ["acme-1.0.bin"]
    assert len(world.files("dev", "acme", "1.0")) == 2


def test_i4_the_publisher_may_not_approve(world):
    world.apply(RELEASE)
    started = world.publish_and_start(by="alice")
    end_build(world, started, NOTES="")
    with pytest.raises(Denied, match="alice published"):
        answer(world, started, actor="alice")
    assert world.statuses(started)[2]["Test/Ask"] == "Waiting"
    answer(world, started, actor="carol")


def test_i4_the_publisher_may_reject_and_approve_without_the_rule(world):
    world.apply(RELEASE)
    started = world.publish_and_start(by="alice")
    end_build(world, started, NOTES="")
    answer(world, started, actor="alice", verdict=Verdict.REJECTED)
    assert world.statuses(started)[0] == "Failed"
    world.apply(pipeline(stage("Gate", approval("Ask")), name="lax"))
    with world.db.write() as session:
        lax = start_manual(session, world.parts, "lax", world.at("acme", "1.0"), actor="alice", now=world.now)
    answer(world, lax.execution_id, "Gate/Ask", actor="alice")  # the control
    assert world.statuses(lax.execution_id)[0] == "Succeeded"


def test_i4_promotion_does_not_wash_the_author_out(world):
    strict = approval("Ask", configuration='{NotByPublisher: "true"}')
    world.apply(pipeline(stage("Ship", promotion("P", "staging"))))
    world.apply(pipeline(stage("Gate", strict), name="onwards", first=source("staging")))
    world.publish_and_start(by="alice")
    world.work("promote")
    world.dispatch()
    world.work("start_execution")
    (onwards,) = world.executions("onwards")
    assert onwards.triggered_by.startswith("execution:")
    assert "alice" in world.execution(onwards.id).publishers
    with pytest.raises(Denied):
        answer(world, onwards.id, "Gate/Ask", actor="alice")
    answer(world, onwards.id, "Gate/Ask", actor="bob")


def test_i4_approve_then_edit(world):
    """A new definition, or a new attempt, is never approved by an answer that was given to the old one."""
    world.apply(pipeline(stage("Gate", approval("Ask")) + stage("Ship", promotion("P", "staging"))))
    started = world.publish_and_start()
    seen = world.action(started, "Gate/Ask").token
    world.apply(pipeline(stage("Gate", approval("Ask")) + stage("Ship", promotion("P", "prod"))))
    answer(world, started, "Gate/Ask", token=seen, verdict=Verdict.REJECTED)
    retry(world, started, "Gate")
    with pytest.raises(Conflict, match="asked for anew"):
        answer(world, started, "Gate/Ask", token=seen)
    with world.db.write() as session:
        session.execute(sa.update(Execution).values(assets={"other.bin": "0" * 64}))
    with pytest.raises(Conflict, match="not bound"):
        answer(world, started, "Gate/Ask")
    with world.db.write() as session:
        session.execute(sa.update(Execution).values(assets=world.files("dev", "acme", "1.0")))
    answer(world, started, "Gate/Ask", token=world.action(started, "Gate/Ask").token)
    world.work("promote")
    assert world.files("staging", "acme", "1.0")
    assert world.files("prod", "acme", "1.0") == {}


def test_an_answer_is_checked(world):
    world.apply(pipeline(stage("Gate", approval("Ask"), build("B"))))
    started = world.publish_and_start()
    with pytest.raises(Invalid, match="at most 512"), world.db.write() as session:
        decide(
            session, world.parts, started, "Gate", "Ask", verdict=Verdict.APPROVED, comment="x" * 513, actor="c",
            now=world.now,
        )  # fmt: skip
    for path in ("Gate/B", "Gate/Nothing", "Else/Ask"):
        with pytest.raises(NotFound):
            answer(world, started, path)
    with pytest.raises(Conflict, match="asked for anew"):
        answer(world, started, "Gate/Ask", token="0" * 32)
    world.later(days=7)
    with pytest.raises(Conflict, match="time to answer"):
        answer(world, started, "Gate/Ask")


def test_an_unanswered_approval_expires(world):
    world.apply(pipeline(stage("Gate", approval("Ask", extra="      timeoutInMinutes: 5\n"))))
    started = world.publish_and_start()
    with world.db.write() as session:
        job = session.scalars(sa.select(Job).where(Job.kind == "expire_approval")).one()
        assert 290 < job.run_after - job.enqueued_at <= 301
        job.run_after = 0
    world.later(minutes=5)
    world.work("expire_approval")
    assert world.action(started, "Gate/Ask").summary == "nobody answered in time"
    assert world.statuses(started)[0] == "Failed"
    assert len(world.audited("approval.expire")) == 1
    retry(world, started, "Gate")
    assert world.statuses(started)[2]["Gate/Ask"] == "Waiting"


def test_twenty_answers_at_once_and_one_counts(world):
    world.apply(pipeline(stage("Gate", approval("Ask")) + stage("Ship", promotion("P", "staging"))))
    started = world.publish_and_start()
    outcomes = []
    together = threading.Barrier(20)

    def click(number):
        together.wait()
        try:
            answer(world, started, "Gate/Ask", list(Verdict)[number % 2], actor=f"user{number}")
            outcomes.append(number)
        except Conflict:
            outcomes.append(None)

    threads = [threading.Thread(target=click, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 20
    (winner,) = [number for number in outcomes if number is not None]
    decided = world.action(started, "Gate/Ask")
    assert decided.decided_by == f"user{winner}"
    expected = ActionStatus.SUCCEEDED if winner % 2 == 0 else ActionStatus.FAILED
    assert decided.status == expected
    assert len(world.audited("approval.approved") + world.audited("approval.rejected")) == 1
    with world.db.read() as session:
        promotions = session.scalars(sa.select(Job).where(Job.kind == "promote")).all()
    assert len(promotions) == (1 if winner % 2 == 0 else 0)


def test_two_builds_that_end_at_once_do_not_miss_each_other(world):
    world.apply(pipeline(stage("Test", build("A"), build("B"))))
    started = world.publish_and_start()
    other = threading.Thread(target=end_build, args=(world, started, "Test/B"))
    with world.db.write() as session:
        world.end_build(world.action(started, "Test/A").build_id)(session)
        session.flush()
        other.start()
        other.join(0.5)  # it waits for the lock; without one it would come to its end here and see A still running
    other.join()
    assert world.statuses(started)[0] == "Succeeded"


def test_two_dispatchers_and_two_workers_start_one_execution(world):
    world.apply(pipeline(stage("Gate", approval("Ask"))))
    for number in range(30):
        world.publish("acme", f"1.{number}", f"acme-1.{number}.bin")
    handled = []
    together = threading.Barrier(4)

    def run():
        together.wait()
        handled.append(world.dispatch())
        world.work("start_execution")

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    world.work("start_execution")
    with world.db.read() as session:  # the executions that started tell of themselves, too
        done = session.scalars(sa.select(Event.kind).where(Event.handled_at.is_not(None))).all()
    assert done.count("asset.published") == 30
    assert sum(handled) == len(done)
    assert sorted(row.version for row in world.executions()) == sorted(f"1.{number}" for number in range(30))


def test_the_same_trigger_from_many_threads_starts_once(world):
    world.apply(pipeline(stage("Gate", approval("Ask"))))
    world.publish("acme", "1.0", "acme-1.0.bin")
    together = threading.Barrier(8)
    started = []

    def run():
        together.wait()
        with world.db.write() as session:
            at = world.at("acme", "1.0")
            started.append(
                start_manual(session, world.parts, "release", at, actor="bob", now=world.now, request_token="t")
            )

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [item.is_new for item in started].count(True) == 1
    assert len({item.execution_id for item in started}) == len(world.executions()) == 1


def test_files_that_arrive_together_are_one_execution(world):
    world.apply(pipeline(stage("Gate", approval("Ask"))))
    for name in ("a.bin", "b.bin", "c.bin"):
        world.publish("acme", "1.0", name)
        world.dispatch()
    world.work("start_execution")
    (only,) = world.executions()
    assert sorted(world.execution(only.id).assets) == ["a.bin", "b.bin", "c.bin"]
    world.publish("acme", "1.0", "d.bin")
    world.dispatch()
    world.work("start_execution")
    assert [len(world.execution(row.id).assets) for row in world.executions()] == [4, 3]


def waiting_seconds(world):
    with world.db.read() as session:
        jobs = session.scalars(sa.select(Job).where(Job.kind == "start_execution", Job.state == "queued")).all()
        return [job.run_after - job.enqueued_at for job in jobs]


def test_a_further_file_puts_the_start_off_but_not_for_ever(world):
    world.apply(pipeline(stage("Gate", approval("Ask"))).replace('SettleSeconds: "0"', 'SettleSeconds: "100"'))
    world.publish("acme", "1.0", "a.bin")
    world.dispatch()
    assert waiting_seconds(world) == pytest.approx([100], abs=1)

    def arrives(name, after_seconds):
        with world.db.write() as session:  # the job has been waiting for so long already
            session.execute(
                sa.update(Job)
                .where(Job.kind == "start_execution")
                .values(enqueued_at=Job.enqueued_at - after_seconds, run_after=Job.run_after - after_seconds)
            )
        world.publish("acme", "1.0", name)
        world.dispatch()
        return waiting_seconds(world)

    assert arrives("b.bin", 60) == pytest.approx([160], abs=5)
    assert arrives("c.bin", 880) == pytest.approx([1000], abs=5)
    assert arrives("d.bin", 50) == pytest.approx([1000], abs=5)  # 10 x SettleSeconds is the end of it


def test_a_file_that_arrives_while_the_start_runs_is_not_lost(world):
    world.apply(pipeline(stage("Gate", approval("Ask"))))
    world.publish("acme", "1.0", "a.bin")
    world.dispatch()
    with world.db.write() as session:  # a worker has it, and has read the version's files
        session.execute(
            sa.update(Job).where(Job.kind == "start_execution").values(state=JobState.RUNNING, attempts=1, fence=1)
        )
    world.publish("acme", "1.0", "b.bin")
    world.dispatch()
    assert world.work("start_execution") == 1
    (only,) = world.executions()
    assert sorted(world.execution(only.id).assets) == ["a.bin", "b.bin"]


def test_only_matching_versions_start_and_each_event_is_handled_once(world):
    world.add_repository("dev2")
    world.apply(pipeline(stage("Gate", approval("Ask")), first=source("dev", "acme-*")))
    world.dispatch()
    world.publish("acme-x", "1.0", "x.bin")
    world.publish("evil-acme-x", "1.0", "e.bin")
    world.publish("acme-x", "1.0", "x.bin", repository="dev2")
    assert world.dispatch() == 3
    assert world.dispatch() == 0
    world.work("start_execution")
    assert [(row.repository, row.name) for row in world.executions()] == [("dev", "acme-x")]


def test_an_event_nobody_can_read_holds_nothing_up(world):
    world.apply(pipeline(stage("Gate", approval("Ask"))))
    world.dispatch()
    with world.db.write() as session:
        session.add(Event(kind="from.the.future", payload={}, occurred_at=world.now))
        session.add(Event(kind="asset.published", payload={"shape": 1}, occurred_at=world.now))
    world.publish("acme", "1.0", "a.bin")
    assert world.dispatch() == 3
    world.work("start_execution")
    assert len(world.executions()) == 1
    assert len(world.audited("event.unreadable")) == 2


def test_h9_a_chain_of_promotions_ends(world):
    for name in ("ring0", "ring1"):
        world.add_repository(name)
    around = {"dev": "ring0", "ring0": "ring1", "ring1": "staging", "staging": "prod", "prod": "dev2"}
    world.add_repository("dev2")
    for here, there in around.items():
        world.apply(pipeline(stage("Ship", promotion("P", there)), name=f"from-{here}", first=source(here)))
    world.publish_and_start()
    for _ in range(10):
        world.work()
        world.dispatch()
    depths = {row.repository: world.execution(row.id).depth for row in world.executions()}
    assert depths == {"dev": 0, "ring0": 1, "ring1": 2, "staging": 3}
    (refused,) = world.audited("execution.refuse")
    assert refused.object == "pipeline/from-prod"
    assert "looks like a loop" in refused.details["reason"]
    with world.db.write() as session:  # by hand it goes on: a person decided it
        at = world.at("acme", "1.0", "prod")
        start_manual(session, world.parts, "from-prod", at, actor="op", now=world.now)
    world.work("promote")
    assert world.files("dev2", "acme", "1.0")


def test_h9_a_pipeline_that_promotes_into_its_own_source_ends(world):
    world.apply(pipeline(stage("Ship", promotion("A", "staging"), promotion("B", "dev")), first=source("*")))
    world.publish_and_start()
    for _ in range(10):
        world.work()
        world.dispatch()
    assert [row.repository for row in world.executions()] == ["staging", "dev"]


def test_a_manual_start_is_checked(world):
    world.apply(pipeline(stage("Gate", approval("Ask")), first=source("dev", "acme")))
    world.publish("acme", "1.0", "a.bin")
    world.publish("other", "1.0", "o.bin")

    def start(name="acme", version="1.0", pipeline_name="release", **more):
        with world.db.write() as session:
            at = world.at(name, version)
            return start_manual(session, world.parts, pipeline_name, at, actor="bob", now=world.now, **more)

    first, second = start(), start()
    assert first.is_new
    assert second.is_new  # by hand the same files may run again
    for wrong, error in (
        ({"name": "other"}, Invalid),
        ({"version": "9"}, NotFound),
        ({"pipeline_name": "x"}, NotFound),
    ):
        with pytest.raises(error):
            start(**wrong)
    with pytest.raises(Invalid, match="declares no variable"):
        start(variables={"X": "1"})


def test_pipeline_variables_are_given_at_the_start(world):
    text = "variables: [{name: Target}, {name: Ring, defaultValue: blue}]\n"
    text += pipeline(
        stage(
            "Ship",
            promotion("P", "#{variables.Target}"),
            approval("Ask", configuration='{CustomData: "#{variables.Ring} #{codepipeline.PipelineExecutionId}"}'),
        )
    )
    world.apply(text)
    world.publish("acme", "1.0", "a.bin")
    world.dispatch()
    world.work()
    assert world.executions() == []
    assert "has no default" in world.audited("execution.refuse")[0].details["reason"]
    with world.db.write() as session:
        at, given = world.at("acme", "1.0"), {"Target": "staging"}
        started = start_manual(session, world.parts, "release", at, actor="b", now=world.now, variables=given)
    world.work("promote")
    assert world.files("staging", "acme", "1.0")
    assert world.action(started.execution_id, "Ship/Ask").summary == f"blue {started.execution_id}"


def test_what_cannot_start_fails_as_an_action(world):
    world.apply(
        pipeline(
            stage(
                "Test",
                build("Unknown", project="nowhere"),
                build("Reserved", more=""", EnvironmentVariables: '[{"name":"CODEBUILD_X","value":"1"}]'"""),
                build("Fine", extra="      namespace: fine\n"),
                build("Unresolved", run_order=2, project="#{fine.PROJECT}"),
            )
        )
    )
    started = world.publish_and_start()
    assert "'nowhere' was not found" in world.action(started, "Test/Unknown").summary
    assert "reserved" in world.action(started, "Test/Reserved").summary
    end_build(world, started, "Test/Fine")
    assert world.statuses(started)[0] == "Failed"
    world.apply(
        pipeline(
            stage(
                "Test",
                build("Fine", extra="      namespace: fine\n"),
                build("U", run_order=2, project="#{fine.PROJECT}"),
            )
        )
    )
    later = world.publish_and_start(version="2.0")
    end_build(world, later, "Test/Fine")
    assert world.action(later, "Test/U").summary == "variable #{fine.PROJECT} has no value"
    assert world.statuses(later)[0] == "Failed"


@pytest.mark.parametrize("target", ["nowhere", "dev"])
def test_a_refused_promotion_is_a_failed_action(world, target):
    world.apply(pipeline(stage("Ship", promotion("P", target))))
    started = world.publish_and_start()
    world.work()
    assert world.statuses(started)[0] == "Failed"
    assert world.action(started, "Ship/P").summary.startswith(f"not promoted from dev to {target}: ")


def test_a_promotion_that_could_not_be_run_is_settled(world):
    world.apply(pipeline(stage("Ship", promotion("P", "staging"))))
    started = world.publish_and_start()
    with world.db.write() as session:
        session.execute(sa.update(Job).where(Job.kind == "promote").values(max_attempts=1))

    def refuse(*_args, **_values):
        raise RuntimeError("the disk is on fire")

    whole = world.parts
    world.use(replace(whole, promote=refuse))
    world.work("promote")
    assert world.statuses(started)[0] == "Failed"
    assert "could not be run: RuntimeError: the disk is on fire" in world.action(started, "Ship/P").summary
    world.use(whole)
    retry(world, started, "Ship")
    world.work("promote")
    assert world.statuses(started)[0] == "Succeeded"


def test_advance_is_harmless_at_any_time(world):
    world.apply(RELEASE)
    started = world.publish_and_start()
    before = world.execution(started)
    for _ in range(3):
        with world.db.write() as session:
            advance(session, world.parts, started, world.now)
    assert world.execution(started) == before
    with pytest.raises(NotFound), world.db.write() as session:
        advance(session, world.parts, 999, world.now)


def test_documents_are_kept_and_applied_once(world):
    project = 'buildProject: {name: extra, buildspec: "version: 0.2\\nphases: {build: {commands: [make]}}"}\n'
    text = f"{project}---\n{RELEASE}"
    assert [(item.kind, item.name, item.change, item.version) for item in world.apply(text)] == [
        ("build project", "extra", "created", None),
        ("pipeline", "release", "created", 1),
    ]
    assert {item.change for item in world.apply(text)} == {"unchanged"}
    assert [item.change for item in world.apply(text.replace("make", "make all") + "# more\n")] == [
        "updated",
        "updated",
    ]
    with world.db.read() as session:
        old, new = get_pipeline(session, "release", 1), get_pipeline(session, "release")
        assert (old.document.strip(), new.version, new.document.strip()) == (RELEASE.strip(), 2, f"{RELEASE}# more")
        assert [(item.name, item.version, item.last_execution) for item in list_pipelines(session)] == [
            ("release", 2, None)
        ]
        with pytest.raises(NotFound):
            get_pipeline(session, "release", 3)
    assert [entry.action for entry in world.audited("pipeline.create") + world.audited("pipeline.update")] == [
        "pipeline.create",
        "pipeline.update",
    ]
    with pytest.raises(InvalidDocument):
        world.apply(f"{pipeline(stage('A', approval('B')), name='fresh')}---\nname: broken\n")
    with world.db.read() as session:
        assert [item.name for item in list_pipelines(session)] == ["release"]


def test_lists_go_page_by_page(world):
    world.apply(pipeline(stage("Gate", approval("Ask"))))
    ids = [world.publish_and_start(version=f"1.{number}") for number in range(5)]
    with world.db.read() as session:
        first = list_executions(session, limit=2)
        second = list_executions(session, limit=10, before_id=first[-1].id)
        assert [row.id for row in first + second] == ids[::-1]
        package = ("default", "fmt", "", "acme")
        assert [row.id for row in list_executions(session, package=package, version="1.3")] == [ids[3]]
        assert list_executions(session, status="Failed") == []
        (only,) = list_pipelines(session)
        assert only.last_execution.id == ids[-1]
