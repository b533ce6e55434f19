"""What keeps executions before stages and outlives them: freeze windows, and holds after a manual rollback."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from hooks.models.job import Job
from hooks.pipelines import conditions, freezes
from hooks.pipelines.approvals import Verdict
from hooks.pipelines.definition import RetryMode, Slot
from hooks.pipelines.freezes import list_freezes
from hooks.pipelines.pipeline_state import why_inbound
from registry.errors import Conflict, Denied, Invalid, NotFound
from tests.fakes.pipeline_line import TWO_STAGES, Line, fresh_world
from tests.fakes.pipelines import approval, stage

MODES = ("SUPERSEDED", "QUEUED", "PARALLEL")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("freezes")
    yield from fresh_world("sqlite", folder)


@pytest.fixture
def world(shared):
    before = shared.now
    yield shared
    shared.now = before
    with shared.db.write() as session:
        for row in list_freezes(session, shared.now):
            freezes.delete_freeze(session, row.name, actor="op", now=shared.now)


def waits(line, execution):
    with line.world.db.read() as session:
        return why_inbound(session, line.world.execution(execution), line.world.now)


def thaw_at(world):
    """When the jobs that look at frozen stages are due, from now; run them whatever the clock says."""
    with world.db.write() as session:
        mine = (Job.kind == freezes.JOB_KIND, Job.state == "queued")
        found = sorted(run - at for run, at in session.execute(sa.select(Job.run_after, Job.enqueued_at).where(*mine)))
        session.execute(sa.update(Job).where(*mine).values(run_after=0))
    world.work(freezes.JOB_KIND)
    return found


def look_at_conditions(world):
    with world.db.write() as session:
        session.execute(
            sa.update(Job).where(Job.kind == conditions.JOB_KIND, Job.state == "queued").values(run_after=0)
        )
    world.work(conditions.JOB_KIND)


# --- freeze windows -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_executions_wait_out_a_freeze_and_go_on_by_themselves(world, mode):
    line = Line(world, mode)
    line.freeze(f"once-{mode}", pipeline=line.name, stages=["Ship"], ends_at=world.now + timedelta(minutes=40))
    first = line.start("1.0")
    assert line.stages(first)["Test"] == "InProgress"  # other stages go on
    line.answer(first)
    assert line.before(first) == "Ship"
    assert waits(line, first) == f"Waits before Ship: frozen until 2026-01-01 00:40 UTC by once-{mode} (holidays)."
    held = line.state("Ship").freeze
    assert (held.name, held.reason, held.created_by) == (f"once-{mode}", "holidays", "op")
    assert 2300 < thaw_at(world)[-1] <= 2400
    assert line.before(first) == "Ship"  # too early
    world.later(minutes=40)
    thaw_at(world)
    assert line.stages(first)["Ship"] == "InProgress"
    assert line.state("Ship").freeze is None


@pytest.mark.parametrize("mode", MODES)
def test_an_administrator_lets_one_through_with_a_reason(world, mode):
    line = Line(world, mode)
    line.freeze(f"pass-{mode}", ends_at=world.now + timedelta(days=9))
    first, other = line.start("1.0"), line.start("1.0", "other")
    assert (line.before(first), line.before(other)) == ("Test", "Test")  # all stages but the first, of all pipelines
    with pytest.raises(Invalid, match="reason"):
        line.let_through(other, "")
    line.let_through(other)
    assert (line.before(first), line.stages(other)["Test"]) == ("Test", "InProgress")
    entry = world.audited("freeze.pass")[-1]
    assert (entry.actor, entry.details["reason"], entry.details["freeze"]) == ("op", "security fix", f"pass-{mode}")
    with pytest.raises(Conflict, match="no freeze keeps"):
        line.let_through(other)
    line.answer(other)
    assert line.before(other) == "Ship"  # it was let through one freeze, not through all that comes


def test_deleting_a_freeze_lets_all_of_it_go_on(world):
    line, parallel = Line(world), Line(world, "PARALLEL")
    line.freeze("all", ends_at=world.now + timedelta(days=9))
    first, second = line.start("1.0"), parallel.start("1.0")
    line.unfreeze("all")
    thaw_at(world)
    assert [line.stages(first)["Test"], parallel.stages(second)["Test"]] == ["InProgress", "InProgress"]
    assert [world.audited(f"freeze.{word}")[-1].object for word in ("create", "delete")] == ["freeze/all"] * 2


def test_a_freeze_comes_again_by_the_clock_of_its_place(world):
    """Fridays at six in the evening for 62 hours; in Berlin the clock was set forward on the 29th of March 2026."""
    line = Line(world)
    line.freeze("weekends", cron="0 0 18 ? * FRI", minutes=62 * 60, timezone="Europe/Berlin")

    def seen(moment):
        with world.db.read() as session:
            (row,) = list_freezes(session, moment)
        return row.until, row.next_at

    friday = datetime(2026, 3, 27, 17, 0, tzinfo=UTC)
    assert seen(friday - timedelta(seconds=1))[0] is None
    assert seen(friday - timedelta(seconds=1))[1] == friday
    monday = datetime(2026, 3, 30, 7, 0, tzinfo=UTC)
    assert seen(friday) == (monday, datetime(2026, 4, 3, 16, 0, tzinfo=UTC))
    assert seen(monday)[0] is None
    world.now = friday + timedelta(hours=1)
    first = line.start("1.0")
    assert line.before(first) == "Test"
    assert all(wait <= 3600 for wait in thaw_at(world))  # it is looked at every hour, whatever happens to the freeze
    assert line.before(first) == "Test"
    world.now = monday
    thaw_at(world)
    assert line.stages(first)["Test"] == "InProgress"


def test_a_change_of_mode_in_a_freeze_leaves_nobody_behind(world):
    line = Line(world, "PARALLEL")
    line.freeze("mode", pipeline=line.name, ends_at=world.now + timedelta(days=9))
    started = [line.start("1.0"), line.start("2.0")]
    line.define(TWO_STAGES, mode="QUEUED")
    started += [line.start("3.0"), line.start("1.0")]
    assert [line.before(each) for each in started] == ["Test"] * 4
    line.unfreeze("mode")
    thaw_at(world)
    assert [line.stages(each)["Test"] for each in started] == ["InProgress", "InProgress", "InProgress", None]
    line.answer(started[2])
    assert line.stages(started[3])["Test"] == "InProgress"


def test_a_freeze_keeps_supersedes_and_leaves_what_is_inside(world):
    line = Line(world)
    first = line.start("1.0")
    line.freeze("inside", pipeline=line.name, ends_at=world.now + timedelta(days=9))
    second, third = line.start("2.0"), line.start("3.0")
    line.answer(first, verdict=Verdict.REJECTED)
    line.retry(first)  # as with a closed transition
    assert (line.status(second), line.before(third), line.stages(first)["Test"]) == ("Superseded", "Test", "InProgress")
    line.answer(first)
    assert (line.before(first), line.before(third)) == ("Ship", "Test")
    line.stop(third)
    assert line.status(third) == "Stopped"


GATE = """    beforeEntry: {conditions: [{result: FAIL, rules: [{name: Soak, configuration: {Minutes: "10"},
      ruleTypeId: {category: Rule, owner: Entrepot, provider: Soak}}]}]}
"""


@pytest.mark.parametrize("ending", ["end", "delete", "pass"])
def test_what_is_on_its_way_in_when_a_freeze_begins_waits_as_well(world, ending):
    """It is in the stage, which its condition keeps from beginning; met in the freeze, it must not begin there."""
    line = Line(world, stages=stage("Test", approval("Ask")) + stage("Ship", approval("Ask")) + GATE)
    first = line.start("1.0")
    line.answer(first)
    line.freeze(f"late-{ending}", pipeline=line.name, ends_at=world.now + timedelta(minutes=40))
    world.later(minutes=10)
    look_at_conditions(world)
    assert world.action(first, "Ship/Ask").status is None
    (condition,) = world.execution(first).stages[2].conditions
    assert condition.status == "InProgress"
    assert condition.summary == f"frozen until 2026-01-01 00:40 UTC by late-{ending} (holidays)"
    with pytest.raises(Conflict, match="is frozen by"):
        line.override(first, Slot.BEFORE_ENTRY)
    if ending == "pass":
        line.let_through(first)
        assert world.audited("freeze.pass")[-1].details["stage"] == "Ship"
    elif ending == "delete":
        line.unfreeze(f"late-{ending}")
        thaw_at(world)
    else:
        world.later(minutes=30)
        look_at_conditions(world)
    assert world.action(first, "Ship/Ask").status == "Waiting"
    # A retry is inside: as with a closed transition.
    line.freeze("again", pipeline=line.name, ends_at=world.now + timedelta(days=1))
    line.answer(first, "Ship", Verdict.REJECTED)
    line.retry(first, "Ship", RetryMode.ALL_ACTIONS)
    assert world.action(first, "Ship/Ask").status == "Waiting"


@pytest.mark.parametrize("ending", ["end", "pass"])
def test_stopping_and_trying_again_leads_past_no_freeze(world, ending):
    """Both take the right to publish alone; what has begun nothing is still outside, at whatever attempt."""
    line = Line(world, stages=stage("Test", approval("Ask")) + stage("Ship", approval("Ask")) + GATE)
    first = line.start("1.0")
    line.answer(first)
    line.freeze(f"retry-{ending}", pipeline=line.name, ends_at=world.now + timedelta(minutes=40))
    world.later(minutes=10)
    look_at_conditions(world)
    line.stop(first)
    line.retry(first, "Ship")
    look_at_conditions(world)
    assert (line.stages(first)["Ship"], world.action(first, "Ship/Ask").status) == ("InProgress", None)
    with pytest.raises(Conflict, match="is frozen by"):
        line.override(first, Slot.BEFORE_ENTRY)
    if ending == "pass":
        line.let_through(first)
    else:
        world.later(minutes=30)
        look_at_conditions(world)
    assert world.action(first, "Ship/Ask").status == "Waiting"


def test_who_was_let_through_a_freeze_is_not_kept_by_it_on_the_way_in(world):
    line = Line(world, stages=stage("Ship", approval("Ask")) + GATE)
    line.freeze("way", pipeline=line.name, ends_at=world.now + timedelta(days=9))
    first = line.start("1.0")
    line.let_through(first)
    world.later(minutes=10)
    look_at_conditions(world)
    assert world.action(first, "Ship/Ask").status == "Waiting"


@pytest.mark.parametrize(
    ("more", "error", "told"),
    [
        ({}, Invalid, "has an end"),
        ({"ends_at": timedelta(hours=-1)}, Invalid, "in the future"),
        ({"ends_at": timedelta(hours=1), "starts_at": timedelta(hours=2)}, Invalid, "after it has begun"),
        ({"ends_at": timedelta(hours=1), "minutes": 5}, Invalid, "minutes"),
        ({"cron": "0 0 18 ? * FRI"}, Invalid, "lasts 1 to"),
        ({"cron": "* * 18 ? * FRI", "minutes": 5}, Invalid, "one second and one minute"),
        ({"cron": "0 0 18 1 * FRI", "minutes": 5}, Invalid, "exclude each other"),
        ({"cron": "0 0 18 ? * FRI", "minutes": 5, "timezone": "Nowhere/City"}, Invalid, "no time zone"),
        ({"ends_at": timedelta(hours=1), "pipeline": "nowhere"}, NotFound, "nowhere"),
        ({"ends_at": timedelta(hours=1), "stages": ["Nowhere"]}, NotFound, "Nowhere"),
        ({"ends_at": timedelta(hours=1), "stages": ["Source"]}, Conflict, "first stage"),
        ({"ends_at": timedelta(hours=1), "stages": []}, Invalid, "leave them out"),
    ],
)
def test_freezes_are_checked(world, more, error, told):
    line = Line(world)
    moments = {key: world.now + value if isinstance(value, timedelta) else value for key, value in more.items()}
    with pytest.raises(error, match=told):
        line.freeze("bad", **{"pipeline": line.name, **moments})
    with world.db.read() as session:
        assert list_freezes(session, world.now) == []


# --- holds --------------------------------------------------------------------------------------------------------------


def through(line, version, package="acme"):
    found = line.start(version, package)
    for where in ("Test", "Ship"):
        line.answer(found, where)
    return found


@pytest.mark.parametrize("mode", ["SUPERSEDED", "QUEUED"])
def test_what_somebody_went_back_from_does_not_come_again_by_itself(world, mode):
    line = Line(world, mode)
    first = through(line, "1.0")
    second = through(line, "2.0")
    back = line.roll_back(first)
    line.answer(back, "Ship")
    again, newer = line.start("2.0"), line.start("3.0", "other")
    for each in (again, newer):
        line.answer(each)
    assert (line.before(again), line.stages(newer)["Ship"]) == ("Ship", "InProgress")  # another package is none of it
    assert waits(line, again) == (
        f"Held before Ship: op rolled Ship back (#{back}), and until somebody releases it nothing of acme enters."
    )
    (held,) = line.state("Ship").holds
    assert (held.package, held.rollback_execution_id, held.from_execution_id) == ("acme", back, second)
    assert (held.held_by, held.held_at) == ("op", world.now)
    line.answer(newer, "Ship")
    third = line.start("3.0")
    line.answer(third)
    assert line.before(third) == "Ship"  # a newer one neither: nobody knows whether it is any better

    def may_not(_):
        raise Denied("no")

    with pytest.raises(Denied):
        line.release(may=may_not)
    with pytest.raises(Conflict, match="nothing is held"):
        line.release("Test")
    with pytest.raises(NotFound):
        line.release("Nowhere")
    line.release()
    entry = world.audited("hold.release")[-1]
    assert (entry.actor, entry.details["packages"], entry.details["reason"]) == ("op", ["default/dev/acme"], "fixed")
    entered = third if mode == "SUPERSEDED" else again
    assert line.stages(entered)["Ship"] == "InProgress"
    assert line.state("Ship").holds == ()


def test_a_hold_outlives_a_rollback_that_failed_and_is_the_last_rollbacks(world):
    line = Line(world)
    first, second = through(line, "1.0"), through(line, "2.0")
    back = line.roll_back(first)
    line.answer(back, "Ship", Verdict.REJECTED)
    line.retry(back, "Ship")  # the rollback itself is not held
    line.answer(back, "Ship", Verdict.REJECTED)
    again = line.roll_back(second)
    line.answer(again, "Ship")
    (held,) = line.state("Ship").holds
    assert (held.rollback_execution_id, held.from_execution_id) == (again, back)


def test_a_closed_stage_and_a_freeze_hold_after_the_release_too(world):
    line = Line(world)
    first = through(line, "1.0")
    line.answer(line.roll_back(first), "Ship")
    line.close()
    second = line.start("2.0")
    line.answer(second)
    line.release()
    assert line.before(second) == "Ship"
    line.freeze("too", pipeline=line.name, ends_at=world.now + timedelta(days=9))
    line.open()
    assert line.before(second) == "Ship"
    line.let_through(second)
    assert line.stages(second)["Ship"] == "InProgress"
