"""Conditions of stages, one by one: CodePipeline's table of results, its polarities, and what each rule waits for."""

import json
import threading
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from hooks.deployments.parts import Patience
from hooks.deployments.told_alarms import tell
from hooks.models.job import Job
from hooks.models.pipeline import Pipeline
from hooks.models.pipeline_condition import ConditionExecution, RuleExecution
from hooks.notifications.envelope import compose
from hooks.notifications.payloads import render
from hooks.pipelines import conditions, freezes
from hooks.pipelines.approvals import Verdict
from hooks.pipelines.definition import RetryMode, Slot
from hooks.pipelines.engine import look_at_condition
from hooks.pipelines.freezes import NewFreeze, create_freeze, delete_freeze
from hooks.pipelines.overriding import override_condition
from hooks.pipelines.steering import stop_execution
from hooks.pipelines.sticky import thaw
from hooks.visibility.blocking import blockers
from hooks.visibility.board import board
from registry.access import Action, Identity, Scope
from registry.errors import Conflict, Invalid, NotFound
from registry.models import Event
from tests import postgres
from tests.fakes.pipeline_builds import Builds
from tests.fakes.pipeline_line import Line, fresh_world
from tests.fakes.pipelines import approval, build, promotion, stage


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("conditions")
    yield from fresh_world("sqlite", folder)


@pytest.fixture
def builds(world):
    made, real = Builds(), world.parts
    world.use(made.parts(real))
    yield made
    world.use(real)


def rule(name, provider, configuration="{}", *, owner="AWS", extra=""):
    return f"{{name: {name}, ruleTypeId: {{category: Rule, owner: {owner}, provider: {provider}, version: '1'}}, configuration: {configuration}{extra}}}"


def check(version, operator="EQ"):
    return rule("Check", "VariableCheck", f"{{Variable: '#{{src.Version}}', Value: '{version}', Operator: {operator}}}")


def guarded(key, result, *rules):
    return f"    {key}: {{conditions: [{{result: {result}, rules: [{', '.join(rules)}]}}]}}\n"


ASK = (approval("Ask"),)


def ships(*conditions, actions=ASK, after=True):
    """Test, then Ship with conditions, then After."""
    last = stage("After", approval("Ask")) if after else ""
    return stage("Test", approval("Ask")) + stage("Ship", *actions) + "".join(conditions) + last


def line(world, *conditions, mode="SUPERSEDED", **more):
    return Line(world, mode, ships(*conditions, **more))


def asked(world, execution, slot=None):
    """(slot, status) of all judgements of conditions, in their order."""
    with world.db.read() as session:
        rows = session.scalars(
            sa.select(ConditionExecution).where(ConditionExecution.execution_id == execution).order_by("id")
        ).all()
    return [(row.slot, row.status) for row in rows if slot in {None, row.slot}]


def rules(world, execution):
    with world.db.read() as session:
        found = session.execute(
            sa.select(RuleExecution.name, RuleExecution.status, RuleExecution.summary)
            .join(ConditionExecution)
            .where(ConditionExecution.execution_id == execution)
            .order_by(RuleExecution.id)
        ).all()
    return [tuple(row) for row in found]


def due(world):
    """How many seconds from now the jobs that look at conditions are due; run them, whatever the clock says."""
    with world.db.write() as session:
        session.execute(
            sa.update(Job).where(Job.kind == conditions.JOB_KIND, Job.state == "queued").values(run_after=0)
        )
    world.work(conditions.JOB_KIND)


# --- the table: before entry and on success fire when rules fail, on failure when they are met --------------------------


@pytest.mark.parametrize(
    ("version", "result", "ends"),
    [
        ("1.0", "FAIL", ("InProgress", "InProgress")),
        ("9.9", "FAIL", ("Failed", "Failed")),
        ("1.0", "SKIP", ("InProgress", "InProgress")),
        ("9.9", "SKIP", ("InProgress", "Skipped")),
    ],
)
def test_before_entry_fires_when_a_rule_fails(world, version, result, ends):
    way = line(world, guarded("beforeEntry", result, check(version)))
    first = way.start("1.0")
    way.answer(first)
    is_met = version == "1.0"
    assert (way.status(first), way.stages(first)["Ship"]) == ends
    assert way.stages(first)["After"] == ("InProgress" if ends[1] == "Skipped" else None)
    assert asked(world, first) == [("BEFORE_ENTRY", "Succeeded" if is_met else "Failed")]
    assert world.action(first, "Ship/Ask").status == ("Waiting" if is_met else None)
    assert rules(world, first)[0][2].startswith("#{src.Version} = '1.0'")


@pytest.mark.parametrize(
    ("version", "result", "ship"),
    [("1.0", "FAIL", "Succeeded"), ("9.9", "FAIL", "Failed"), ("1.0", "ROLLBACK", "Succeeded"), ("9.9", "ROLLBACK", "Failed")],
)  # fmt: skip
def test_on_success_fires_when_a_rule_fails(world, version, result, ship):
    way = line(world, guarded("onSuccess", result, check(version)))
    first = way.start("1.0")
    way.answer(first)
    assert asked(world, first) == []  # it is asked when the actions have succeeded
    way.answer(first, "Ship")
    assert way.stages(first) == {
        "Test": "Succeeded",
        "Ship": ship,
        "After": "InProgress" if ship == "Succeeded" else None,
    }


@pytest.mark.parametrize(
    ("version", "result", "ship"),
    [
        ("1.0", "SKIP", "Skipped"),
        ("9.9", "SKIP", "Failed"),
        ("1.0", "FAIL", "Failed"),
        ("1.0", "RETRY", "InProgress"),
        ("9.9", "RETRY", "Failed"),
    ],
)
def test_on_failure_fires_when_its_rules_are_met(world, version, result, ship):
    way = line(world, guarded("onFailure", result, check(version)))
    first = way.start("1.0")
    way.answer(first)
    way.answer(first, "Ship", Verdict.REJECTED)
    assert way.stages(first)["Ship"] == ship
    assert way.stages(first)["After"] == ("InProgress" if ship == "Skipped" else None)
    assert asked(world, first) == [("ON_FAILURE", "Succeeded" if version == "1.0" else "Failed")]


def test_what_cannot_be_judged_fails_the_stage_and_leads_to_nothing_else(world):
    """A rule about a variable that has no value says nothing: neither SKIP nor ROLLBACK nor RETRY follows."""
    of_skipped = rule("V", "VariableCheck", "{Variable: '#{unit.NOTES}', Value: x, Operator: EQ}")
    made = stage("Make", build("Unit", extra="      namespace: unit\n")) + guarded("beforeEntry", "SKIP", check("9.9"))
    stages = made + stage("Ship", approval("Ask")) + guarded("beforeEntry", "SKIP", of_skipped)
    way = Line(world, stages=stages)
    first = way.start("1.0")
    assert way.stages(first) == {"Make": "Skipped", "Ship": "Failed"}
    assert asked(world, first)[-1] == ("BEFORE_ENTRY", "Errored")
    assert "#{unit.NOTES} has no value" in rules(world, first)[-1][2]


def test_an_artifact_of_a_skipped_stage_is_not_the_package_instead(world, builds):
    made = stage("Make", build("Unit", extra="      outputArtifacts: [{name: Made}]\n"))
    used = stage("Use", build("Take", extra="      inputArtifacts: [{name: Made}]\n"))
    way = Line(world, stages=made + guarded("beforeEntry", "SKIP", check("9.9")) + used)
    first = way.start("1.0")
    assert way.stages(first) == {"Make": "Skipped", "Use": "Failed"}
    assert "artifact Made is not there" in world.action(first, "Use/Take").summary
    assert builds.requests == {}


# --- retry and rollback by rule --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["FAILED_ACTIONS", "ALL_ACTIONS"])
def test_a_stage_is_retried_by_itself_once(world, builds, mode):
    told = f"    onFailure: {{result: RETRY, retryConfiguration: {{retryMode: {mode}}}}}\n"
    way = line(world, told, actions=(build("Good"), build("Bad")), mode="QUEUED")
    first = way.start("1.0")
    way.answer(first)

    def end(name, ok):
        build_id = world.action(first, f"Ship/{name}").build_id
        way.write(lambda session: builds.end(session, world.parts, build_id, ok=ok))

    end("Good", ok=True)
    end("Bad", ok=False)
    good, bad = world.action(first, "Ship/Good"), world.action(first, "Ship/Bad")
    assert (good.attempt, good.status) == ((1, "Succeeded") if mode == "FAILED_ACTIONS" else (2, "InProgress"))
    assert (bad.attempt, bad.status) == (2, "InProgress")
    shown = way.state("Ship").retry_stage_metadata
    assert (shown.auto_stage_retry_attempt, shown.manual_stage_retry_attempt) == (1, 0)
    assert shown.latest_retry_trigger == "AutomatedStageRetry"
    if mode == "ALL_ACTIONS":
        end("Good", ok=True)
    end("Bad", ok=False)
    assert (way.status(first), way.stages(first)["Ship"]) == ("Failed", "Failed")
    way.retry(first, "Ship")
    end("Bad", ok=False)  # not by itself again: once for the execution's way through the stage
    assert way.stages(first)["Ship"] == "Failed"
    shown = way.state("Ship").retry_stage_metadata
    assert (shown.auto_stage_retry_attempt, shown.manual_stage_retry_attempt) == (1, 1)


def through(way, version, package="acme"):
    found = way.start(version, package)
    for where in ("Test", "Ship", "After"):
        way.answer(found, where)
    return found


@pytest.mark.parametrize("how", ["unconditional", "on failure", "on success"])
def test_a_failed_stage_goes_back_to_what_succeeded_there_last(world, how):
    told = {
        "unconditional": "    onFailure: {result: ROLLBACK}\n",
        "on failure": guarded("onFailure", "ROLLBACK", check("3.0")),
        "on success": guarded("onSuccess", "ROLLBACK", check("3.0", "NE")),
    }[how]
    way = line(world, told)
    through(way, "1.0")
    through(way, "1.0", "other")  # another package's: not gone back to
    second = through(way, "2.0")
    other = through(way, "2.0", "other")
    third = way.start("3.0")
    way.answer(third)
    waiting = way.start("1.0")
    way.answer(waiting)
    way.answer(third, "Ship", Verdict.APPROVED if how == "on success" else Verdict.REJECTED)
    back = world.executions(way.name)[0].id
    view = world.execution(back).summary
    assert (view.execution_type, view.rollback_target_id, view.trigger_kind) == ("ROLLBACK", second, "auto-rollback")
    assert (view.version, view.triggered_by) == ("2.0", "system")
    assert back > max(other, waiting)
    assert (way.status(third), way.stages(back)) == ("Failed", {"Ship": "InProgress"})
    assert way.before(waiting) == "Ship"  # the rollback comes in first
    with pytest.raises(Conflict, match=f"execution {back} entered stage Ship since"):
        way.retry(third, "Ship")
    # A rollback that fails is not rolled back itself, and holds nobody up afterwards.
    way.answer(back, "Ship", Verdict.REJECTED)
    assert way.status(back) == "Failed"
    assert way.stages(waiting)["Ship"] == "InProgress"
    assert world.executions(way.name)[0].id == back


def test_without_anything_to_go_back_to_the_stage_just_fails(world):
    told = "    onFailure: {result: ROLLBACK}\n"
    way = line(world, told)
    through(way, "1.0")
    way.define(ships(told, after=False))
    second = way.start("2.0")  # what succeeded did so under an older definition
    way.answer(second)
    way.answer(second, "Ship", Verdict.REJECTED)
    assert way.status(second) == "Failed"
    assert world.executions(way.name)[0].id == second
    assert world.audited("stage.no_rollback")[-1].details["stage"] == "Ship"


def test_what_is_stopped_is_neither_retried_nor_rolled_back(world):
    way = line(world, "    onFailure: {result: RETRY}\n", actions=(approval("Ask"), approval("More")))
    first = way.start("1.0")
    way.answer(first)
    way.answer(first, "Ship", Verdict.REJECTED)  # the other one of the stage still waits
    way.stop(first)
    assert (way.status(first), world.action(first, "Ship/Ask").attempt) == ("Failed", 1)


# --- waiting, overriding, breaking off ----------------------------------------------------------------------------------------


WINDOW = rule("Window", "DeploymentWindow", "{Cron: '* * 9-17 ? * MON-FRI', TimeZone: Europe/Berlin}")


def test_a_window_holds_the_stage_until_it_opens_and_costs_a_row_meanwhile(world):
    way = line(world, guarded("beforeEntry", "FAIL", WINDOW))
    first = way.start("1.0")
    way.answer(first)
    second = way.start("2.0")
    way.answer(second)
    assert asked(world, first) == [("BEFORE_ENTRY", "InProgress")]
    assert (way.stages(first)["Ship"], way.before(second)) == ("InProgress", "Ship")  # it is occupied
    assert "opens at 2026-01-01 08:00:00 UTC" in rules(world, first)[0][2]
    with world.db.read() as session:
        job = session.scalars(sa.select(Job).where(Job.kind == conditions.JOB_KIND, Job.state == "queued")).all()[-1]
    assert job.subject == f"execution:{first}"
    assert 8 * 3600 - 60 < job.run_after - job.enqueued_at <= 8 * 3600
    before = world.now
    due(world)  # too early: nothing happens, and it is looked at again
    assert asked(world, first) == [("BEFORE_ENTRY", "InProgress")]
    world.now = before + timedelta(hours=8, seconds=2)
    due(world)
    world.now = before
    assert asked(world, first) == [("BEFORE_ENTRY", "Succeeded")]
    assert world.action(first, "Ship/Ask").status == "Waiting"


def test_a_window_that_has_closed_while_another_rule_waited_is_waited_for_again(world, builds):
    """All rules have to be met at one time: a build that ends at night does not let a stage begin in the night."""
    smoke = rule("Smoke", "CodeBuild", "{ProjectName: tests}")
    way = line(world, guarded("beforeEntry", "FAIL", WINDOW, smoke))
    before = world.now
    world.now = before + timedelta(hours=10)
    first = way.start("1.0")
    way.answer(first)
    assert [status for _, status, _ in rules(world, first)] == ["Succeeded", "InProgress"]
    world.later(hours=7)
    way.write(lambda session: builds.end(session, world.parts, next(iter(builds.requests))))
    assert [status for _, status, _ in rules(world, first)] == ["InProgress", "Succeeded"]
    assert (asked(world, first), way.stages(first)["Ship"]) == ([("BEFORE_ENTRY", "InProgress")], "InProgress")
    world.now = before + timedelta(days=1, hours=8)
    due(world)
    world.now = before
    assert asked(world, first) == [("BEFORE_ENTRY", "Succeeded")]


def test_a_rule_that_is_not_met_in_time_has_failed(world):
    late = WINDOW.replace("configuration:", "timeoutInMinutes: 30, configuration:")
    way = line(world, guarded("beforeEntry", "SKIP", late))
    first = way.start("1.0")
    way.answer(first)
    before = world.now
    world.later(minutes=31)
    due(world)
    world.now = before
    assert way.stages(first) == {"Test": "Succeeded", "Ship": "Skipped", "After": "InProgress"}
    assert rules(world, first)[0][1:2] == ("Failed",)


def test_a_waiting_condition_can_be_overridden_with_a_reason(world):
    way = line(world, guarded("beforeEntry", "FAIL", WINDOW))
    first = way.start("1.0")
    way.answer(first)
    with pytest.raises(Invalid, match="reason"):
        way.override(first, Slot.BEFORE_ENTRY, reason="")
    with pytest.raises(Conflict, match="ON_FAILURE"):
        way.override(first, Slot.ON_FAILURE)
    with pytest.raises(Conflict, match="nothing to override"):
        way.override(first, Slot.ON_SUCCESS)
    with pytest.raises(NotFound):
        way.override(first, Slot.BEFORE_ENTRY, "Nowhere")
    way.override(first, Slot.BEFORE_ENTRY)
    assert asked(world, first) == [("BEFORE_ENTRY", "Overridden")]
    assert world.action(first, "Ship/Ask").status == "Waiting"
    entry = world.audited("condition.override")[-1]
    assert (entry.actor, entry.details["reason"], entry.details["stage"]) == ("op", "it is urgent", "Ship")
    with pytest.raises(Conflict, match="is Overridden"):
        way.override(first, Slot.BEFORE_ENTRY)
    due(world)  # the job that is still there finds nothing to do
    assert asked(world, first) == [("BEFORE_ENTRY", "Overridden")]
    # Retrying what failed keeps what somebody let in; starting the stage anew asks again.
    way.answer(first, "Ship", Verdict.REJECTED)
    way.retry(first, "Ship")
    assert asked(world, first) == [("BEFORE_ENTRY", "Overridden")]
    way.answer(first, "Ship", Verdict.REJECTED)
    way.retry(first, "Ship", RetryMode.ALL_ACTIONS)
    assert asked(world, first) == [("BEFORE_ENTRY", "Overridden"), ("BEFORE_ENTRY", "InProgress")]


def test_a_stage_that_its_condition_has_failed_goes_on_when_that_is_overridden(world):
    way = line(world, guarded("beforeEntry", "FAIL", check("9.9")), guarded("onSuccess", "FAIL", check("9.9")))
    first = way.start("1.0")
    way.answer(first)
    assert way.status(first) == "Failed"
    way.override(first, Slot.BEFORE_ENTRY)
    assert (way.status(first), world.action(first, "Ship/Ask").status) == ("InProgress", "Waiting")
    way.answer(first, "Ship")
    assert way.stages(first)["Ship"] == "Failed"
    way.override(first, Slot.ON_SUCCESS)
    assert way.stages(first) == {"Test": "Succeeded", "Ship": "Succeeded", "After": "InProgress"}
    # Once another one has entered the stage it is too late.
    way.answer(first, "After")
    second = way.start("2.0")
    way.answer(second)
    third = way.start("3.0")
    way.answer(third)
    with pytest.raises(Conflict, match=f"execution {third} entered stage Ship since"):
        way.override(second, Slot.BEFORE_ENTRY)


@pytest.mark.parametrize(("abandon", "status"), [(False, "Cancelled"), (True, "Abandoned")])
def test_stopping_breaks_a_condition_off_and_frees_the_stage(world, abandon, status):
    way = line(world, guarded("beforeEntry", "SKIP", WINDOW))
    first = way.start("1.0")
    way.answer(first)
    second = way.start("2.0")
    way.answer(second)
    way.stop(first, abandon=abandon)
    assert asked(world, first) == [("BEFORE_ENTRY", status)]
    assert (way.status(first), way.stages(first)["Ship"]) == ("Stopped", "Stopped")
    assert way.stages(second)["Ship"] == "InProgress"
    way.stop(second)
    way.retry(second, "Ship")
    assert asked(world, second) == [("BEFORE_ENTRY", "Cancelled"), ("BEFORE_ENTRY", "InProgress")]


def test_a_rollback_passes_no_condition_before_entry_and_leads_to_no_other(world):
    way = line(world, guarded("beforeEntry", "FAIL", check("1.0")), guarded("onSuccess", "ROLLBACK", check("1.0")))
    first = through(way, "1.0")
    way.define(ships(guarded("beforeEntry", "FAIL", check("9.9")), guarded("onSuccess", "ROLLBACK", check("9.9"))))
    way.define(ships(guarded("beforeEntry", "FAIL", check("1.0")), guarded("onSuccess", "ROLLBACK", check("1.0"))))
    again = through(way, "1.0")
    back = way.roll_back(again)
    assert asked(world, back) == []
    way.answer(back, "Ship")
    assert asked(world, back) == [("ON_SUCCESS", "Succeeded")]
    assert (way.status(back), first < again) == ("Succeeded", True)


def test_conditions_of_parallel_executions_wait_each_for_itself(world):
    way = line(world, guarded("beforeEntry", "FAIL", WINDOW), mode="PARALLEL")
    first, second = way.start("1.0"), way.start("2.0")
    way.answer(first)
    way.answer(second)
    assert [asked(world, each) for each in (first, second)] == [[("BEFORE_ENTRY", "InProgress")]] * 2
    way.override(second, Slot.BEFORE_ENTRY)
    assert world.action(second, "Ship/Ask").status == "Waiting"


# --- the other rules --------------------------------------------------------------------------------------------------------


def tell_alarm(way, name, state):
    way.write(lambda session: tell(session, "default", name, state, reason="", actor="monitor", now=way.world.now))


@pytest.mark.parametrize("provider", ["AWS/CloudWatchAlarm", "Entrepot/Alarm"])
def test_an_alarm_is_waited_for_as_long_as_the_rule_says(world, provider):
    owner, provider = provider.split("/")
    name = f"errors-{owner}"
    calm = rule("Calm", provider, f"{{AlarmName: {name}, WaitTime: '20'}}", owner=owner)
    way = line(world, guarded("beforeEntry", "FAIL", calm), mode="PARALLEL")
    before = world.now
    tell_alarm(way, name, "ALARM")
    first = way.start("1.0")
    way.answer(first)
    assert asked(world, first) == [("BEFORE_ENTRY", "InProgress")]
    tell_alarm(way, name, "OK")
    world.later(seconds=31)
    due(world)
    assert asked(world, first) == [("BEFORE_ENTRY", "Succeeded")]
    tell_alarm(way, name, "ALARM")
    second = way.start("2.0")
    way.answer(second)
    world.later(minutes=20)
    due(world)
    world.now = before
    assert (asked(world, second), way.status(second)) == ([("BEFORE_ENTRY", "Failed")], "Failed")


def test_an_alarm_that_nobody_knows_opens_no_gate(world):
    way = line(world, guarded("beforeEntry", "SKIP", rule("Calm", "CloudWatchAlarm", "{AlarmName: erors}")))
    first = way.start("1.0")
    way.answer(first)
    assert (asked(world, first), way.status(first)) == ([("BEFORE_ENTRY", "Errored")], "Failed")
    assert "there is no alarm erors" in rules(world, first)[0][2]


def test_a_version_soaks_since_the_stage_before_or_in_a_repository(world):
    soak = rule("Soak", "Soak", "{Hours: '1', Minutes: '30'}", owner="Entrepot")
    there = rule("There", "Soak", "{Minutes: '5', Repository: staging}", owner="Entrepot")
    before = world.now
    way = line(world, guarded("beforeEntry", "FAIL", soak), mode="PARALLEL")
    first = way.start("1.0")
    world.later(hours=5)
    way.answer(first)  # it is not since the start
    world.later(minutes=89)
    due(world)
    assert asked(world, first) == [("BEFORE_ENTRY", "InProgress")]
    world.later(minutes=1)
    due(world)
    assert asked(world, first) == [("BEFORE_ENTRY", "Succeeded")]
    way = line(world, guarded("beforeEntry", "FAIL", there), mode="PARALLEL")
    missing = way.start("1.0")
    way.answer(missing)
    assert (asked(world, missing), rules(world, missing)[0][2]) == (
        [("BEFORE_ENTRY", "Failed")],
        "acme 1.0 is not in default/staging",
    )
    world.publish("acme", "1.0", "acme-1.0.bin", b"acme 1.0", repository="staging")
    second = way.start("1.0")
    way.answer(second)
    assert asked(world, second) == [("BEFORE_ENTRY", "InProgress")]
    world.later(minutes=5)
    due(world)
    world.now = before
    assert asked(world, second) == [("BEFORE_ENTRY", "Succeeded")]


@pytest.mark.parametrize("ok", [True, False])
def test_builds_are_rules(world, builds, ok):
    smoke = rule("Smoke", "CodeBuild", "{ProjectName: tests}")
    run = rule("Run", "Commands").replace("configuration: {}", "commands: [./check.sh]")
    way = line(world, guarded("onSuccess", "FAIL", smoke, run, check("1.0")))
    first = way.start("1.0")
    way.answer(first)
    way.answer(first, "Ship")
    assert asked(world, first) == [("ON_SUCCESS", "InProgress")]
    (one, two) = builds.requests
    assert (builds.requests[one].project, builds.requests[two].project) == ("tests", "")
    way.write(lambda session: builds.end(session, world.parts, one, ok=ok))
    if ok:
        assert asked(world, first) == [("ON_SUCCESS", "InProgress")]
        way.write(lambda session: builds.end(session, world.parts, two))
    assert way.stages(first)["Ship"] == ("Succeeded" if ok else "Failed")
    told = {name: status for name, status, _ in rules(world, first)}
    assert told == {
        "Smoke": "Succeeded" if ok else "Failed",
        "Run": "Succeeded" if ok else "Cancelled",
        "Check": "Succeeded",
    }
    way.write(lambda session: builds.end(session, world.parts, two))  # too late: harmless
    assert asked(world, first)[-1][1] == ("Succeeded" if ok else "Failed")


def test_a_hard_pattern_does_not_keep_the_engine(world):
    """``(a+)+$`` against a long text keeps a backtracking matcher for years; this one answers in its time."""
    hard = rule("V", "VariableCheck", "{Variable: '#{variables.Text}', Value: '(a+)+$', Operator: MATCHES}")
    way = Line(world, stages=ships(guarded("beforeEntry", "SKIP", hard)), head="variables: [{name: Text}]\n")
    first = way.start("1.0", variables={"Text": "a" * 900 + "!"})
    way.answer(first)
    assert way.stages(first)["Ship"] == "Skipped"


# --- a process that dies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["enter", "look", "build", "fail", "override"])
def test_dying_between_any_two_statements_loses_nothing_and_does_nothing_twice(world, builds, step):
    """Each step dies before its 1st, 5th, 9th … statement; nothing is written then, and once more it comes to its end."""
    smoke = rule("Smoke", "CodeBuild", "{ProjectName: tests}")
    stage_rules = {"enter": (WINDOW, smoke), "look": (WINDOW,), "build": (smoke,), "fail": (), "override": (WINDOW,)}[
        step
    ]
    told = [guarded("beforeEntry", "FAIL", *stage_rules)] if stage_rules else ["    onFailure: {result: ROLLBACK}\n"]
    way = line(world, *told)
    before = world.now
    if step == "fail":
        through(way, "2.0")
    first = way.start("1.0")
    if step != "enter":
        way.answer(first)
    build_id = next(iter(builds.requests), "")
    if step == "look":
        world.later(hours=8)
        with world.db.read() as session:
            (waiting,) = session.scalars(
                sa.select(ConditionExecution.id).filter_by(execution_id=first, is_current=True)
            )
    do = {
        "enter": lambda: way.answer(first),
        "look": lambda: way.write(lambda session: look_at_condition(session, world.parts, waiting, world.now)),
        "build": lambda: way.write(lambda session: builds.end(session, world.parts, build_id)),
        "fail": lambda: way.answer(first, "Ship", Verdict.REJECTED),
        "override": lambda: way.override(first, Slot.BEFORE_ENTRY),
    }[step]

    def seen():
        told = [each.id for each in world.executions(way.name)]
        with world.db.read() as session:
            jobs = session.scalars(sa.select(sa.func.count(Job.id))).one()
        return told, world.execution(first), jobs

    untouched, died = seen(), 0
    while world.dies(died * 4, do):
        assert seen() == untouched
        died += 1
    assert died >= 4
    world.now = before
    ends = {
        "enter": [("BEFORE_ENTRY", "InProgress")],
        "fail": [],
        "override": [("BEFORE_ENTRY", "Overridden")],
    }.get(step, [("BEFORE_ENTRY", "Succeeded")])
    assert asked(world, first) == ends
    assert len(world.executions(way.name)) == {"fail": 3}.get(step, 1)


@pytest.fixture(params=[pytest.param("sqlite", marks=pytest.mark.long), "postgresql"])
def both(request, tmp_path: Path):
    if request.param == "postgresql" and postgres.find_binaries() is None:
        pytest.skip("there is no PostgreSQL on this machine")
    yield from fresh_world(request.param, tmp_path)


@pytest.mark.parametrize("mode", ["QUEUED", "PARALLEL"])
def test_what_happens_to_a_condition_at_once_happens_to_it_once(both, mode):
    """A build's end, an override, a look, a stop of another, a freeze and its end: whoever comes second finds it done."""
    made, rounds = Builds(), 4
    both.use(made.parts(both.parts))
    smoke = rule("Smoke", "CodeBuild", "{ProjectName: tests}")
    way = line(both, guarded("beforeEntry", "SKIP", smoke), mode=mode)
    for number in range(rounds):
        made.requests.clear()
        first, second = way.start("1.0"), way.start("2.0")
        way.answer(first)
        way.answer(second)
        (condition,) = open_conditions(both, first)
        build_id = next(iter(made.requests))
        with both.db.read() as session:
            pipeline_id = session.scalar(sa.select(Pipeline.id).filter_by(name=way.name))
        name = f"at-once-{number}"

        def freeze(session, name=name):
            ends = both.now + timedelta(days=1)
            create_freeze(session, NewFreeze(name, "x", way.name, ["After"], ends_at=ends), actor="op", now=both.now)
            delete_freeze(session, name, actor="op", now=both.now)

        failures = at_once(
            both,
            freeze,
            lambda session, build_id=build_id: made.end(session, both.parts, build_id),
            lambda session, first=first: override_condition(
                session, both.parts, first, "Ship", Slot.BEFORE_ENTRY, actor="op", reason="x", now=both.now
            ),
            lambda session, condition=condition: look_at_condition(session, both.parts, condition, both.now),
            lambda session, second=second: stop_execution(
                session, both.parts, second, actor="op", reason="", abandon=True, now=both.now
            ),
            lambda session, pipeline_id=pipeline_id: thaw(session, both.parts, pipeline_id, both.now),
        )
        assert failures == []
        assert len(asked(both, first)) == 1
        assert asked(both, first)[0][1] in {"Succeeded", "Overridden"}
        action = both.action(first, "Ship/Ask")
        assert (action.status, action.attempt) == ("Waiting", 1)
        assert way.status(second) == "Stopped"
        way.answer(first, "Ship")
        both.work(freezes.JOB_KIND)
        way.answer(first, "After")
        assert way.status(first) == "Succeeded"


def at_once(world, *units):
    """Run all at one time, each in a transaction; what was raised but the refusals of those who came second."""
    failures, together = [], threading.Barrier(len(units))

    def run(unit):
        together.wait()
        try:
            world.db.retry(unit)
        except Conflict:
            pass
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(unit,)) for unit in units]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


def open_conditions(world, execution):
    with world.db.read() as session:
        return session.scalars(
            sa.select(ConditionExecution.id).where(
                ConditionExecution.execution_id == execution, ConditionExecution.status == "InProgress"
            )
        ).all()


# --- what is told of it ----------------------------------------------------------------------------------------------


def keeping(world, execution):
    """(kind, stage, text) of what keeps an execution, and the same on the board, before ``prod``."""
    admin = Identity("admin", 1, (Scope(frozenset({Action.ADMIN})),), "session")
    view = world.execution(execution)
    with world.db.read() as session:
        found = blockers(session, [view], admin, Patience(), world.now)[execution]
        (row,) = board(session, admin, Patience(), world.now, pipeline=view.summary.pipeline).rows
    (cell,) = [each for each in row.cells if each.place == "prod"]
    assert cell.blocking == found
    return [(each.kind, each.stage, each.text) for each in found]


def test_what_keeps_an_execution_is_told_whichever_gate_it_is(world):
    ships_on = (promotion("Promote", "prod"),)
    waiting = rule("Slow", "Soak", "{Minutes: '30'}", owner="Entrepot")
    way = line(world, guarded("beforeEntry", "FAIL", waiting), actions=ships_on, after=False)
    way.freeze(f"told-{way.name}", pipeline=way.name, stages=["Ship"], ends_at=world.now + timedelta(minutes=5))
    first = way.start()
    way.answer(first)
    until = world.now + timedelta(minutes=5)
    frozen = f"Ship is frozen until {until:%Y-%m-%d %H:%M} UTC by told-{way.name} (holidays)"
    assert keeping(world, first) == [("freeze", "Ship", frozen)]
    way.close()
    assert keeping(world, first) == [("transition", "Ship", "op closed the way into Ship: freeze")]
    way.open()
    way.unfreeze(f"told-{way.name}")
    with world.db.write() as session:
        session.execute(sa.update(Job).where(Job.kind == freezes.JOB_KIND, Job.state == "queued").values(run_after=0))
    world.work(freezes.JOB_KIND)
    ((kind, stage_name, text),) = keeping(world, first)
    assert (kind, stage_name) == ("condition", "Ship")
    assert text.startswith("the condition before Ship is entered: ")
    # One that a condition has failed says so, on the board and in its event.
    way = line(world, guarded("beforeEntry", "FAIL", check("9.9")), actions=ships_on, after=False)
    first = way.start()
    way.answer(first)
    ((kind, stage_name, text),) = keeping(world, first)
    assert (kind, stage_name) == ("failed", "Ship")
    assert "#{src.Version} = '1.0'" in text
    with world.db.read() as session:
        ended = sa.select(Event).where(Event.kind == "execution.failed").order_by(Event.id.desc()).limit(1)
        reason = session.scalars(ended).one().payload["reason"]
    assert reason.startswith("condition BEFORE_ENTRY of Ship: Check: #{src.Version} = '1.0'"), reason
    # What a condition has skipped goes on, and is kept by nothing of it.
    way = line(world, guarded("beforeEntry", "SKIP", check("9.9")), actions=ships_on)
    first = way.start()
    way.answer(first)
    view = world.execution(first)
    with world.db.read() as session:
        admin = Identity("admin", 1, (Scope(frozenset({Action.ADMIN})),), "session")
        (only,) = blockers(session, [view], admin, Patience(), world.now)[first]
    assert (only.kind, only.stage) == ("approval", "After")
    # A hold.
    way = line(world, actions=ships_on, after=False)
    first, second = way.start("1.0"), way.start("2.0")
    way.answer(first)
    way.world.work()
    way.answer(second)
    way.world.work()
    back = way.roll_back(first)
    way.world.work()
    again = way.start("3.0")
    way.answer(again)
    held = f"op rolled Ship back (#{back}), and until somebody releases it nothing of acme enters"
    assert keeping(world, again) == [("hold", "Ship", held)]


def test_who_started_an_execution_is_told_in_codepipelines_words(world):
    way = line(world, guarded("onSuccess", "ROLLBACK", check("1.0")), after=False)
    first = way.start("1.0")
    for where in ("Test", "Ship"):
        way.answer(first, where)
    second = way.start("2.0")
    for where in ("Test", "Ship"):
        way.answer(second, where)
    back = max(each.id for each in world.executions(way.name))
    way.answer(back, "Ship")
    by_hand = way.roll_back(first)
    told = {}
    with world.db.read() as session:
        for row in session.scalars(sa.select(Event).where(Event.kind == "execution.started")):
            body = compose(
                event_id="1", kind=row.kind, source="https://here.example", subject="x", occurred_at=row.occurred_at,
                data=row.payload,
            )  # fmt: skip
            sent = json.loads(render("EventBridge", body, "https://here.example")[1])
            told[row.payload["execution"]] = sent["detail"]["execution-trigger"]["trigger-type"]
    assert (told[first], told[back], told[by_hand]) == (
        "StartPipelineExecution",
        "AutomatedRollback",
        "ManualRollback",
    )
    others = {
        "event": "CloudWatchEvent",
        "object": "CloudWatchEvent",
        "schedule": "CloudWatchEvent",
        "push": "WebhookV2",
    }
    for kind, word in {**others, "webhook": "Webhook", "invoke": "StartPipelineExecution"}.items():
        body = compose(
            event_id="1", kind="execution.started", source="https://here.example", subject="x", occurred_at=world.now,
            data={"trigger": kind, "execution": 1},
        )  # fmt: skip
        sent = json.loads(render("EventBridge", body, "https://here.example")[1])
        assert sent["detail"]["execution-trigger"]["trigger-type"] == word, kind
