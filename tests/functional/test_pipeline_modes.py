"""Executions that meet in stages: CodePipeline's rules of the modes, of transitions and of rollbacks, one by one."""

import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from hooks.builds.phases import BuildStatus
from hooks.models.pipeline_stage import InboundExecution, StageSlot
from hooks.pipelines.approvals import Verdict
from registry.errors import Conflict, Invalid, NotFound
from registry.models import Event
from tests import postgres
from tests.fakes.pipeline_builds import Builds
from tests.fakes.pipeline_line import TWO_STAGES, Line, fresh_world
from tests.fakes.pipelines import approval, build, promotion, stage


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    yield from fresh_world("sqlite", tmp_path_factory.mktemp("modes"))


@pytest.fixture(params=[pytest.param("sqlite", marks=pytest.mark.long), "postgresql"])
def both(request, tmp_path: Path):
    if request.param == "postgresql" and postgres.find_binaries() is None:
        pytest.skip("there is no PostgreSQL on this machine")
    yield from fresh_world(request.param, tmp_path)


# --- the rules, in the order of CodePipeline's documents -------------------------------------------------------------


def test_rule_1_a_stage_has_one_execution_at_a_time_also_while_an_approval_waits(world):
    line = Line(world)
    first, second = line.start("1.0"), line.start("2.0")
    assert line.stages(first) == {"Test": "InProgress", "Ship": None}
    assert line.stages(second) == {"Test": None, "Ship": None}
    assert (line.status(second), line.before(second)) == ("InProgress", "Test")
    line.answer(first)
    assert line.stages(first) == {"Test": "Succeeded", "Ship": "InProgress"}
    assert line.stages(second) == {"Test": "InProgress", "Ship": None}
    assert line.before(second) is None


def test_rule_2_executions_wait_before_the_stage_and_of_a_package_one(world):
    line = Line(world)
    first, second, third = (line.start(version) for version in ("1.0", "2.0", "3.0"))
    assert [line.before(each) for each in (first, second, third)] == [None, None, "Test"]
    assert [line.status(each) for each in (first, second, third)] == ["InProgress", "Superseded", "InProgress"]


def test_rule_3_the_newer_replaces_what_waits_and_never_what_is_inside(world):
    line = Line(world)
    first, second, third = (line.start(version) for version in ("1.0", "2.0", "3.0"))
    assert line.stages(first)["Test"] == "InProgress"
    replaced = world.execution(second)
    assert replaced.summary.ended_at == world.now
    assert "Waiting" not in {action.status for place in replaced.stages for action in place.actions}
    assert [entry.object for entry in world.audited("execution.superseded")][-1].endswith(f"/{second}")
    with world.db.read() as session:
        told = session.scalars(sa.select(Event.payload).where(Event.kind == "execution.superseded")).all()
    assert told[-1]["execution"] == second
    line.answer(first)
    assert line.stages(third)["Test"] == "InProgress"
    with pytest.raises(Conflict, match="nothing to retry"):
        line.retry(second)


def test_rule_3_an_older_one_never_overtakes_a_newer_one(world):
    """The newer one has a definition with fewer stages, and is through when the older one arrives."""
    line = Line(world)
    older = line.start("1.0")
    line.define(stage("Ship", approval("Ask")))
    newer = line.start("2.0")
    line.answer(newer, "Ship")
    assert line.status(newer) == "Succeeded"
    line.answer(older)
    assert (line.status(older), line.stages(older)) == ("Superseded", {"Test": "Succeeded", "Ship": None})


@pytest.mark.parametrize("ending", ["failure", "stop"])
def test_rule_4_failure_and_stop_unlock_the_stage_and_who_enters_bars_the_retry(world, ending):
    line = Line(world)
    first, second = line.start("1.0"), line.start("2.0")
    if ending == "failure":
        line.answer(first, verdict=Verdict.REJECTED)
    else:
        line.stop(first)
    assert line.status(first) == ("Failed" if ending == "failure" else "Stopped")
    assert line.stages(second)["Test"] == "InProgress"
    with pytest.raises(Conflict, match=f"execution {second} entered stage Test since"):
        line.retry(first)
    line.answer(second)
    with pytest.raises(Conflict, match="entered stage Test since"):
        line.retry(first)


def test_rule_4_without_another_execution_the_retry_locks_the_stage_again(world):
    line = Line(world)
    first = line.start("1.0")
    line.answer(first, verdict=Verdict.REJECTED)
    line.retry(first)
    second = line.start("2.0")
    assert (line.stages(first)["Test"], line.before(second)) == ("InProgress", "Test")
    line.answer(first)
    assert line.stages(second)["Test"] == "InProgress"


def test_rule_5_before_a_closed_stage_waits_the_newest_and_enters_when_it_opens(world):
    line = Line(world)
    line.close("Ship", reason="freeze until Monday")
    started = []
    for version in ("1.0", "2.0", "3.0"):
        started.append(line.start(version))
        line.answer(started[-1])
    assert [line.status(each) for each in started] == ["Superseded", "Superseded", "InProgress"]
    shown = line.state("Ship")
    assert shown.inbound_execution.pipeline_execution_id == started[-1]
    way = shown.inbound_transition_state
    assert (way.enabled, way.disabled_reason, way.last_changed_by) == (False, "freeze until Monday", "op")
    line.open()
    assert line.stages(started[-1])["Ship"] == "InProgress"
    assert line.state("Ship").inbound_transition_state.enabled
    assert [entry.details.get("reason") for entry in world.audited("transition.disable")][-1] == "freeze until Monday"
    assert world.audited("transition.enable")[-1].object == f"pipeline/{line.name}"


def test_rule_5_what_is_inside_goes_on_and_a_failed_one_can_be_retried_inside(world):
    line = Line(world)
    first = line.start("1.0")
    line.close("Test")
    second = line.start("2.0")
    line.answer(first, verdict=Verdict.REJECTED)
    assert line.before(second) == "Test"
    line.retry(first)
    line.answer(first)
    assert line.stages(first)["Ship"] == "InProgress"
    assert line.before(second) == "Test"


def test_rule_6_what_was_stopped_while_it_waited_cannot_be_retried(world):
    line = Line(world)
    line.start("1.0")
    second = line.start("2.0")
    line.stop(second)
    assert (line.status(second), line.before(second)) == ("Stopped", None)
    with pytest.raises(Conflict, match="nothing to retry"):
        line.retry(second)
    third = line.start("3.0")
    assert line.before(third) == "Test"  # and it holds no place


def test_rule_7_each_execution_has_its_own_source_and_keeps_it(world):
    line = Line(world, "QUEUED")
    first, second = line.start("1.0"), line.start("2.0")
    versions = [world.action(each, "Source/Package").output_variables["Version"] for each in (first, second)]
    assert versions == ["1.0", "2.0"]
    assert line.before(second) == "Test"
    world.publish("acme", "2.0", f"acme-2.0-{line.name}.bin")
    line.answer(first)
    line.answer(second)
    view = world.execution(second)
    assert f"acme-2.0-{line.name}.bin" not in view.assets
    assert view.assets != world.execution(first).assets


# --- modes -----------------------------------------------------------------------------------------------------------


def test_queued_executions_wait_in_order_and_none_is_superseded(world):
    line = Line(world, "QUEUED")
    started = [line.start(version) for version in ("1.0", "2.0", "3.0", "1.0")]
    assert [line.before(each) for each in started] == [None, "Test", "Test", "Test"]
    shown = line.state("Test").inbound_executions
    assert [each.pipeline_execution_id for each in shown] == started[:0:-1]
    for position, each in enumerate(started):
        assert [line.stages(other)["Test"] for other in started[position:]].count("InProgress") == 1
        line.answer(each)
        line.answer(each, "Ship")
    assert {line.status(each) for each in started} == {"Succeeded"}


def test_parallel_executions_never_meet(world):
    line = Line(world, "PARALLEL")
    first, second = line.start("1.0"), line.start("2.0")
    assert line.stages(first) == line.stages(second) == {"Test": "InProgress", "Ship": None}
    line.answer(second)
    line.answer(second, "Ship")
    line.answer(first, verdict=Verdict.REJECTED)
    line.retry(first)  # a newer one went through, which bars nothing
    with pytest.raises(Conflict, match="cannot be closed"):
        line.close()
    with pytest.raises(Conflict, match="PARALLEL"):
        line.roll_back(second)
    with world.db.read() as session:
        assert session.scalars(sa.select(StageSlot.stage).where(StageSlot.occupant_id.in_([first, second]))).all() == []


def test_one_package_takes_turns_with_another_and_does_not_oust_it(world):
    line = Line(world)
    first = line.start("1.0", "acme")
    other, second = line.start("1.0", "other"), line.start("2.0", "acme")
    third = line.start("2.0", "other")
    assert [line.status(each) for each in (other, second, third)] == ["Superseded", "InProgress", "InProgress"]
    line.answer(first, verdict=Verdict.REJECTED)
    assert line.stages(second)["Test"] == "InProgress"
    line.answer(second, verdict=Verdict.REJECTED)
    assert line.stages(third)["Test"] == "InProgress"
    with pytest.raises(Conflict, match=f"execution {third} is in stage Test"):
        line.retry(second)
    line.answer(third)
    line.retry(second)  # another package went through, which bars nothing
    assert line.stages(second)["Test"] == "InProgress"


def test_executions_keep_the_mode_that_they_started_in(world):
    line = Line(world, "QUEUED")
    first, second = line.start("1.0"), line.start("2.0")
    line.define(TWO_STAGES, mode="PARALLEL")
    third = line.start("3.0")
    assert line.stages(third)["Test"] == "InProgress"
    assert line.before(second) == "Test"
    line.define(TWO_STAGES + stage("More", approval("Ask")), mode="SUPERSEDED")
    fourth, fifth = line.start("1.0"), line.start("2.0")
    assert [line.status(each) for each in (second, fourth, fifth)] == ["InProgress", "Superseded", "InProgress"]
    line.answer(first)
    assert line.stages(second)["Test"] == "InProgress"
    assert line.before(fifth) == "Test"


def test_a_change_of_mode_leaves_nobody_before_a_free_stage(world):
    line = Line(world)
    inside, overtaken = line.start("1.0"), line.start("2.0")
    line.define(TWO_STAGES, mode="QUEUED")
    newest = line.start("3.0")
    line.answer(inside)
    assert line.status(overtaken) == "Superseded"
    line.answer(newest)
    assert line.status(newest) == "InProgress"


def test_a_stage_that_ends_as_it_starts_lets_all_through_in_one_transaction(world):
    line = Line(world, "QUEUED", stage("Gate", approval("Ask")) + stage("Bad", build("Unknown", project="nowhere")))
    started = [line.start(version) for version in ("1.0", "2.0", "3.0")]
    for each in started:
        line.answer(each, "Gate")
        assert (line.status(each), line.stages(each)["Bad"]) == ("Failed", "Failed")


def test_a_stage_of_an_older_definition_can_still_be_opened(world):
    line = Line(world)
    line.close("Ship")
    first = line.start("1.0")
    line.answer(first)
    line.define(stage("Test", approval("Ask")))
    shown = line.state("Ship")
    assert shown.inbound_execution.pipeline_execution_id == first
    line.open("Ship")
    line.answer(first, "Ship")
    assert line.status(first) == "Succeeded"


def test_closing_is_checked(world):
    line = Line(world)
    for where, reason, error in (
        ("Source", "x", Conflict),
        ("Nowhere", "x", NotFound),
        ("Ship", "", Invalid),
        ("Ship", "x" * 301, Invalid),
    ):
        with pytest.raises(error):
            line.close(where, reason)
    with pytest.raises(NotFound):
        line.open("Nowhere")
    before = len(world.audited("transition.disable") + world.audited("transition.enable"))
    line.open("Ship")  # it is open
    assert len(world.audited("transition.disable") + world.audited("transition.enable")) == before


# --- rollback --------------------------------------------------------------------------------------------------------

BUILT = stage(
    "Make", build("Unit", extra="      namespace: unit\n      outputArtifacts: [{name: Made}]\n")
) + stage(
    "Ship",
    approval("Ask", configuration='{CustomData: "#{unit.NOTES} #{variables.Ring} #{src.Version}"}'),
    build("Use", run_order=2, extra="      inputArtifacts: [{name: Made}]\n"),
) + stage("After", approval("Ask"))  # fmt: skip


@pytest.fixture
def builds(world):
    made, real = Builds(), world.parts
    world.use(made.parts(real))
    yield made
    world.use(real)


def test_a_rollback_runs_the_stage_alone_with_what_was_there_then(world, builds):
    line = Line(world, stages=BUILT, head="variables: [{name: Ring, defaultValue: blue}]\n")

    def ends(execution, path, **variables):
        build_id = world.action(execution, path).build_id
        line.write(lambda session: builds.end(session, world.parts, build_id, variables=variables))
        return build_id

    first = line.start("1.0", variables={"Ring": "green"})
    made = ends(first, "Make/Unit", NOTES="old")
    line.answer(first, "Ship")
    ends(first, "Ship/Use")
    line.answer(first, "After")
    second = line.start("2.0")
    ends(second, "Make/Unit", NOTES="new")
    line.answer(second, "Ship", Verdict.REJECTED)

    back = line.roll_back(first)
    view = world.execution(back)
    assert [place.name for place in view.stages] == ["Ship"]
    assert (view.summary.execution_type, view.summary.rollback_target_id) == ("ROLLBACK", first)
    assert (view.summary.version, view.assets) == ("1.0", world.execution(first).assets)
    assert world.action(back, "Ship/Ask").summary == "old green 1.0"
    assert line.state("Ship").latest_execution.type == "ROLLBACK"
    line.answer(back, "Ship")
    used = builds.requests[ends(back, "Ship/Use")]
    assert [build_id for _, build_id, _ in used.inputs] == [made]
    assert used.source.version == "1.0"
    assert (line.status(back), line.stages(back)) == ("Succeeded", {"Ship": "Succeeded"})
    assert world.audited("execution.start")[-1].details["target"] == first
    with pytest.raises(Conflict, match="entered stage Ship since"):
        line.retry(second, "Ship")


def test_a_rollback_goes_into_a_closed_stage_and_what_waits_goes_on_waiting(world):
    line = Line(world)
    first = line.start("1.0")
    line.answer(first)
    line.answer(first, "Ship")
    line.close("Ship")
    second = line.start("2.0")
    line.answer(second)
    back = line.roll_back(first)
    assert (line.stages(back)["Ship"], line.before(second)) == ("InProgress", "Ship")
    line.answer(back, "Ship")
    assert (line.status(back), line.before(second)) == ("Succeeded", "Ship")
    line.open("Ship")
    assert (
        line.before(second) == "Ship"
    )  # what was rolled back away from, and all that comes, until somebody releases it
    assert line.release() == 1
    assert line.stages(second)["Ship"] == "InProgress"  # it is not overtaken: a rollback brings nothing newer


def test_what_cannot_be_rolled_back_is_refused(world):
    line = Line(world)
    first = line.start("1.0")
    line.answer(first)
    with pytest.raises(Conflict, match="has not succeeded in stage Ship"):
        line.roll_back(first)
    line.answer(first, "Ship")
    second = line.start("2.0")
    line.answer(second)
    with pytest.raises(Conflict, match=f"execution {second} is in stage Ship"):
        line.roll_back(first)
    line.answer(second, "Ship")
    with pytest.raises(Conflict, match="source stage"):
        line.roll_back(first, "Source")
    for missing in ((first, "Nowhere"), (10**6, "Ship")):
        with pytest.raises(NotFound):
            line.roll_back(*missing)
    back = line.roll_back(first, request_token="once")
    assert line.roll_back(first, request_token="once") == back
    line.answer(back, "Ship")
    with pytest.raises(Conflict, match="is a rollback itself"):
        line.roll_back(back)
    line.define(TWO_STAGES + stage("More", approval("Ask")))
    with pytest.raises(Conflict, match="outdated"):
        line.roll_back(first)


# --- many at once: row locks are PostgreSQL's, SQLite's writers take turns ---------------------------------------------------------------------------------


def test_executions_that_arrive_and_leave_at_once_keep_the_rules(both):
    line = Line(both, stages=stage("Test", approval("Ask")) + stage("Ship", promotion("P", "staging")))
    started, together = [line.start("1.0")], threading.Barrier(6)

    def arrive():
        together.wait()
        started.append(line.start("2.0"))

    def leave():
        together.wait()
        line.answer(started[0])

    def freeze():
        together.wait()
        line.close("Ship")
        line.open("Ship")

    threads = [threading.Thread(target=work) for work in (arrive, arrive, arrive, arrive, leave, freeze)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(started) == 5
    both.work("promote")
    with both.db.read() as session:
        inside = session.scalars(sa.select(StageSlot.occupant_id).where(StageSlot.occupant_id.is_not(None))).all()
        waiting = session.scalars(sa.select(InboundExecution.execution_id)).all()
    statuses = {each: line.status(each) for each in started}
    assert statuses[started[0]] == "Succeeded"
    # One is inside; at most one waits; whoever is neither has been superseded.
    assert len(inside) == 1
    assert len(waiting) <= 1
    going = {each for each, status in statuses.items() if status == "InProgress"}
    assert going == {*inside, *waiting}
    assert {status for each, status in statuses.items() if each not in going} <= {"Succeeded", "Superseded"}
    assert max(started) in going


@pytest.mark.long
def test_builds_of_two_executions_that_end_at_once_do_not_deadlock(both):
    line = Line(both, "QUEUED", stage("A", build("U")) + stage("B", build("U")))
    first, second = line.start("1.0"), line.start("2.0")

    def ends(execution, path):
        line.write(both.end_build(both.action(execution, path).build_id, BuildStatus.SUCCEEDED))

    ends(first, "A/U")
    together = threading.Barrier(2)
    failures = []

    def end(execution, path):
        together.wait()
        try:
            ends(execution, path)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=end, args=each) for each in ((first, "B/U"), (second, "A/U"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert line.status(first) == "Succeeded"
    assert line.stages(second) == {"A": "Succeeded", "B": "InProgress"}
