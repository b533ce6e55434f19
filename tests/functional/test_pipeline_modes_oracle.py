"""Random pipelines in all modes, many executions at once, random events: the rows always say what the simulator says."""

import itertools
import random
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from hooks.models.pipeline import ActionExecution, Execution, Pipeline, PipelineDefinitionVersion, StageExecution
from hooks.models.pipeline_condition import ConditionExecution, RuleExecution
from hooks.models.pipeline_stage import InboundExecution, StageSlot
from hooks.pipelines import slots
from hooks.pipelines.approvals import Verdict, decide
from hooks.pipelines.definition import (
    RESULTS,
    ActionDefinition,
    ActionType,
    ConditionDefinition,
    ExecutionMode,
    PipelineDefinition,
    Result,
    RetryMode,
    RuleDefinition,
    Slot,
    StageDefinition,
    to_model,
)
from hooks.pipelines.freezes import NewFreeze, create_freeze, delete_freeze
from hooks.pipelines.overriding import override_condition
from hooks.pipelines.rollback import rollback_stage
from hooks.pipelines.steering import retry_stage, stop_execution
from hooks.pipelines.sticky import let_through, release_stage, thaw
from hooks.pipelines.transitions import disable_transition, enable_transition
from hooks.triggers.start import start_manual
from registry.errors import Conflict
from tests import postgres
from tests.fakes.pipeline_builds import Builds
from tests.fakes.pipeline_simulator import FINAL, Refused, Simulator, Stage
from tests.fakes.pipelines import new_world

HISTORIES, MANY_HISTORIES = 30, 10_000
CHUNK = 500
NUMBERS = itertools.count(1)
MODES = ("SUPERSEDED", "QUEUED", "PARALLEL")
KINDS = ("build", "build", "approval", "bad")
PACKAGES = ("acme", "other")


def named(i):
    return f"s{i}" if i else "Source"


def draw_conditions(dice, mode):
    """Half of all stages have some. Executions in parallel have nothing to roll back."""
    found = {}
    for slot, results in RESULTS.items():
        if dice.random() < 0.3:
            fitting = [result for result in results if mode != "PARALLEL" or result is not Result.ROLLBACK]
            result, rule = dice.choice(fitting), dice.choice(("met", "unmet", "odd", "build", "build"))
            if slot is Slot.ON_FAILURE and result in {Result.RETRY, Result.ROLLBACK} and dice.random() < 0.4:
                rule = None
            found[slot.value] = (rule, result.value, dice.choice(list(RetryMode)).value)
    return found


def condition_of(rule, result, mode):
    check = ActionType("Rule", "AWS", "VariableCheck")
    number = "#{codepipeline.PipelineExecutionId}"
    rules = {
        None: (),
        "met": (RuleDefinition("r", check, {"Variable": number, "Value": "x", "Operator": "NE"}),),
        "unmet": (RuleDefinition("r", check, {"Variable": number, "Value": "x", "Operator": "EQ"}),),
        "odd": (RuleDefinition("r", check, {"Variable": "#{no.body}", "Value": "x", "Operator": "EQ"}),),
        "build": (RuleDefinition("r", ActionType("Rule", "AWS", "CodeBuild"), {"ProjectName": "tests"}),),
    }[rule]
    return ConditionDefinition(Result(result), rules, RetryMode(mode))


class History:
    """One pipeline and its executions, beside the simulator."""

    def __init__(self, world, builds, dice):
        self.world, self.builds, self.dice = world, builds, dice
        mode = dice.choice(MODES)
        plan = [
            Stage(
                [(dice.choice(KINDS), dice.randint(1, 2)) for _ in range(dice.randint(1, 3))],
                draw_conditions(dice, mode),
            )
            for _ in range(dice.randint(1, 3))
        ]
        self.name = f"p{next(NUMBERS)}"
        # Every execution goes through its source stage, in one step.
        self.simulator = Simulator(mode, [Stage([("source", 1)]), *plan])
        self.ids = {}
        self.insert(mode, plan)
        self.told = [f"{mode} {plan}"]

    def insert(self, mode, plan):
        """The pipeline as rows; reading a document is what costs most of a short history."""
        source = ActionDefinition(
            "Package", ActionType("Source", "Entrepot", "Package"),
            configuration={"Repository": "dev", "Format": "fmt", "Name": "*"},
        )  # fmt: skip
        stages = [
            StageDefinition(
                named(i),
                tuple(self.action(j, *action) for j, action in enumerate(each.actions)),
                {Slot(slot): condition_of(*told) for slot, told in each.conditions.items()},
            )
            for i, each in enumerate(plan, 1)
        ]
        definition = PipelineDefinition(
            self.name, (StageDefinition("Source", (source,)), *stages), execution_mode=ExecutionMode(mode)
        )
        now = self.world.now
        with self.world.db.write() as session:
            row = Pipeline(name=self.name, current_version=1, created_at=now, updated_at=now)
            session.add(row)
            session.flush()
            model = to_model(definition)
            session.add(
                PipelineDefinitionVersion(
                    pipeline_id=row.id, version=1, document="", model=model, created_at=now, created_by="op"
                )
            )

    @staticmethod
    def action(j, kind, order):
        if kind == "approval":
            return ActionDefinition(f"a{j}", ActionType("Approval", "AWS", "Manual"), order)
        project = {"ProjectName": "bad" if kind == "bad" else "tests"}
        return ActionDefinition(f"a{j}", ActionType("Build", "AWS", "CodeBuild"), order, project)

    def run(self, events):
        for _ in range(events):
            event, unit, simulated = self.draw()
            self.told.append(event)
            self.both(unit, simulated)
            self.compare()

    def both(self, unit, simulated):
        try:
            new = simulated()
        except Refused:
            with pytest.raises(Conflict), self.world.db.write() as session:
                unit(session)
            return
        del new
        with self.world.db.write() as session:
            unit(session)
        # Some begin by themselves: both number them in the order in which they began.
        with self.world.db.read() as session:
            mine = sa.select(Execution.id).join(Pipeline).where(Pipeline.name == self.name).order_by(Execution.id)
            self.ids = dict(enumerate(session.scalars(mine), 1))

    def draw(self):
        dice, world, simulator = self.dice, self.world, self.simulator
        running = [
            (run.number, at, status)
            for run in simulator.runs.values()
            for at, status in run.actions.items()
            if status in {"InProgress", "Waiting"}
        ]
        word = dice.choices(
            ("arrive", "end", "stop", "retry", "close", "open", "rollback", "gate"),
            (5, 12 if running else 0, 2, 4, 2, 2, 3, 8),
        )[0]
        if word == "arrive" or not simulator.runs:
            package = dice.choice(PACKAGES)
            return (
                f"arrive {package}",
                lambda session: start_manual(
                    session, world.parts, self.name, world.at(package, "1.0"), actor="op", now=world.now
                ),
                lambda: simulator.arrive(package),
            )
        if word == "end":
            return self.draw_end(*dice.choice(running))
        number, place = dice.choice(list(simulator.runs)), dice.randrange(len(simulator.stages))
        if word == "gate":
            return self.draw_gate(number, place)
        if word == "stop":
            abandon = dice.random() < 0.5
            return (
                f"stop {number} {abandon}",
                lambda session: stop_execution(
                    session, world.parts, self.ids[number], actor="op", reason="", abandon=abandon, now=world.now
                ),
                lambda: simulator.stop(number, abandon),
            )
        if word == "retry":
            # Mostly what can be retried at all: most executions have failed nowhere.
            failed = [
                (n, s) for n, run in simulator.runs.items() for s, x in run.stages.items() if x in FINAL - {"Succeeded"}
            ]
            number, place = dice.choice(failed) if failed and dice.random() < 0.8 else (number, place)
            mode = dice.choice(list(RetryMode))
            return (
                f"retry {number} s{place} {mode}",
                lambda session: retry_stage(
                    session, world.parts, self.ids[number], named(place), mode, actor="op", now=world.now
                ),
                lambda: simulator.retry(number, place, mode is RetryMode.ALL_ACTIONS),
            )
        if word == "rollback":
            # Mostly what succeeded somewhere, and can be gone back to.
            done = [
                (n, s) for n, run in simulator.runs.items() for s, x in run.stages.items() if s and x == "Succeeded"
            ]
            number, place = dice.choice(done) if done and dice.random() < 0.8 else (number, place)
            return (
                f"rollback {number} s{place}",
                lambda session: rollback_stage(
                    session, world.parts, self.ids[number], named(place), actor="op", now=world.now
                ),
                lambda: simulator.roll_back(number, place),
            )
        if word == "close":
            return (
                f"close s{place}",
                lambda session: disable_transition(
                    session, self.name, named(place), reason="freeze", actor="op", now=world.now
                ),
                lambda: simulator.close(place),
            )
        return (
            f"open s{place}",
            lambda session: enable_transition(session, world.parts, self.name, named(place), actor="op", now=world.now),
            lambda: simulator.open(place),
        )

    def draw_gate(self, number, place):
        """Conditions, freeze windows and holds."""
        dice, world, simulator = self.dice, self.world, self.simulator
        judged = [
            (n, *at, status)
            for n, run in simulator.runs.items()
            for at, status in run.conditions.items()
            if status in {"InProgress", "Failed", "Errored"}
        ]
        waiting = [
            (n, s, slot)
            for n, s, slot, status in judged
            if status == "InProgress" and (slot != "BEFORE_ENTRY" or s not in simulator.runs[n].met)
        ]
        words, weights = (
            ("judge", "override", "freeze", "thaw", "pass", "release"),
            (6 if waiting else 0, 3, 2, 2, 2, 2),
        )
        word = dice.choices(words, weights)[0]
        if word == "judge":
            return self.draw_judgement(*dice.choice(waiting))
        if word == "override":
            slot = dice.choice(list(Slot)).value
            if judged and dice.random() < 0.8:
                number, place, slot, _ = dice.choice(judged)
            return (
                f"override {number} s{place} {slot}",
                lambda session: override_condition(
                    session,
                    world.parts,
                    self.ids[number],
                    named(place),
                    Slot(slot),
                    actor="op",
                    reason="x",
                    now=world.now,
                ),
                lambda: simulator.override(number, place, slot),
            )
        frozen = sorted(simulator.frozen)
        if word in {"freeze", "thaw"}:
            place = dice.choice(frozen) if word == "thaw" and frozen else dice.randrange(1, len(simulator.stages))
            is_frozen = place in simulator.frozen
            name = f"{self.name}-s{place}"

            def change(session):
                if is_frozen:
                    delete_freeze(session, name, actor="op", now=world.now)
                    thaw(
                        session,
                        world.parts,
                        session.scalar(sa.select(Pipeline.id).filter_by(name=self.name)),
                        world.now,
                    )
                else:
                    ends = world.now + timedelta(days=9)
                    wanted = NewFreeze(name, "x", pipeline=self.name, stages=[named(place)], ends_at=ends)
                    create_freeze(session, wanted, actor="op", now=world.now)

            return (
                f"{'thaw' if is_frozen else 'freeze'} s{place}",
                change,
                lambda: simulator.thaw(place) if is_frozen else simulator.freeze(place),
            )
        if word == "pass":
            kept = [
                n
                for n, run in simulator.runs.items()
                if run.waits_before in simulator.frozen or simulator.entering(run) is not None
            ]
            number = dice.choice(kept) if kept else number
            return (
                f"pass {number}",
                lambda session: let_through(
                    session, world.parts, self.ids[number], actor="op", reason="x", now=world.now
                ),
                lambda: simulator.let_through(number),
            )
        place = dice.choice(sorted(simulator.held))[0] if simulator.held else place
        return (
            f"release s{place}",
            lambda session: release_stage(
                session, world.parts, self.name, named(place), actor="op", reason="", now=world.now, may=lambda _: None
            ),
            lambda: simulator.release(place),
        )

    def draw_judgement(self, number, place, slot):
        ok = self.dice.random() < 0.6

        def unit(session):
            build_id = session.scalar(
                sa.select(RuleExecution.build_id)
                .join(ConditionExecution)
                .join(StageExecution, StageExecution.id == ConditionExecution.stage_execution_id)
                .where(
                    ConditionExecution.execution_id == self.ids[number],
                    ConditionExecution.is_current,
                    ConditionExecution.slot == slot,
                    StageExecution.name == named(place),
                )
            )
            self.builds.end(session, self.world.parts, build_id, ok=ok)

        return (
            f"judge {number} s{place} {slot} {ok}",
            unit,
            lambda: self.simulator.judge(number, place, slot, ok),
        )

    def draw_end(self, number, at, status):
        ok = self.dice.random() < 0.75
        place, action = at
        path = (self.ids[number], named(place), f"a{action}")

        def unit(session):
            if status == "Waiting":
                verdict = Verdict.APPROVED if ok else Verdict.REJECTED
                decide(session, self.world.parts, *path, verdict=verdict, comment="", actor="c", now=self.world.now)
                return
            build_id = session.scalar(
                sa.select(ActionExecution.build_id)
                .join(StageExecution, StageExecution.id == ActionExecution.stage_execution_id)
                .where(
                    ActionExecution.execution_id == path[0],
                    StageExecution.name == path[1],
                    ActionExecution.name == path[2],
                    ActionExecution.is_current,
                )
            )
            self.builds.end(session, self.world.parts, build_id, ok=ok)

        return (
            f"end {number} s{place}/a{action} {ok}",
            unit,
            lambda: self.simulator.finish(number, place, action, ok, expected=status),
        )

    def compare(self):
        simulator = self.simulator
        ids = list(self.ids.values())
        with self.world.db.read() as session:
            runs = dict(session.execute(sa.select(Execution.id, Execution.status).where(Execution.id.in_(ids))).all())
            stages = {
                (row.execution_id, row.name): row.status
                for row in session.execute(
                    sa.select(StageExecution.execution_id, StageExecution.name, StageExecution.status).where(
                        StageExecution.execution_id.in_(ids)
                    )
                )
            }
            actions = {
                (row.execution_id, row.stage, row.name): row.status
                for row in session.execute(
                    sa.select(
                        ActionExecution.execution_id,
                        StageExecution.name.label("stage"),
                        ActionExecution.name,
                        ActionExecution.status,
                    )
                    .join(StageExecution, StageExecution.id == ActionExecution.stage_execution_id)
                    .where(ActionExecution.execution_id.in_(ids), ActionExecution.is_current)
                )
            }
            waiting = dict(
                session.execute(
                    sa.select(InboundExecution.execution_id, InboundExecution.stage).where(
                        InboundExecution.execution_id.in_(ids)
                    )
                ).all()
            )
            inside = dict(
                session.execute(
                    sa.select(StageSlot.stage, StageSlot.occupant_id).where(StageSlot.occupant_id.in_(ids))
                ).all()
            )
            conditions = {
                (row.execution_id, row.name, row.slot): row.status
                for row in session.execute(
                    sa.select(
                        ConditionExecution.execution_id,
                        StageExecution.name,
                        ConditionExecution.slot,
                        ConditionExecution.status,
                    )
                    .join(StageExecution, StageExecution.id == ConditionExecution.stage_execution_id)
                    .where(ConditionExecution.execution_id.in_(ids), ConditionExecution.is_current)
                )
            }
        of = self.ids
        assert len(of) == len(simulator.runs), self.told
        assert conditions == {
            (of[n], named(i), slot): status
            for n, run in simulator.runs.items()
            for (i, slot), status in run.conditions.items()
        }, self.told
        assert runs == {of[n]: run.status for n, run in simulator.runs.items()}, self.told
        assert waiting == {
            of[n]: named(run.waits_before) for n, run in simulator.runs.items() if run.waits_before is not None
        }, self.told
        assert inside == {named(i): of[n] for i, n in simulator.inside.items()}, self.told
        assert stages == {
            (of[n], named(i)): status for n, run in simulator.runs.items() for i, status in run.stages.items()
        }, self.told
        assert actions == {
            (of[n], named(i), f"a{j}" if i else "Package"): status
            for n, run in simulator.runs.items()
            for (i, j), status in run.actions.items()
        }, self.told


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)], scope="module")
def world(request, tmp_path_factory):
    if request.param == "postgresql" and postgres.find_binaries() is None:
        pytest.skip("there is no PostgreSQL on this machine")
    folder: Path = tmp_path_factory.mktemp("modes")
    with new_world(request.param, folder) as made:
        for package in PACKAGES:
            made.publish(package, "1.0", f"{package}-1.0.bin")
        yield made


def play(world, seeds, events=14):
    """Play a history for each seed; returns the statuses that executions had at the ends."""
    builds, reached = Builds(), set()
    world.use(builds.parts(world.parts))
    for seed in seeds:
        history = History(world, builds, random.Random(seed))
        history.run(events)
        reached |= {run.status for run in history.simulator.runs.values()}
    return reached


def test_the_engine_equals_the_simulator(world):
    assert play(world, range(HISTORIES)) >= FINAL | {"InProgress", "Stopping"}


@pytest.mark.long
@pytest.mark.parametrize("first", range(HISTORIES, HISTORIES + MANY_HISTORIES, CHUNK))
def test_the_engine_equals_the_simulator_ten_thousand_times(world, first):
    assert play(world, range(first, first + (CHUNK if world.db.is_sqlite else CHUNK // 20))) >= FINAL


@pytest.mark.parametrize(
    ("rule", "broken"),
    [
        pytest.param("superseded_by", lambda *_: (), marks=pytest.mark.long),
        pytest.param("entered_later", lambda *_: None, marks=pytest.mark.long),
        ("next_inbound", lambda *_: None),
        ("leave", lambda *_: False),
        ("freezes.frozen", lambda *_: None),
        pytest.param("holds.holds_of", lambda *_: (), marks=pytest.mark.long),
    ],
)
def test_the_simulator_notices_a_rule_that_is_broken(world, monkeypatch, rule, broken):
    """The control: with one rule of the stages switched off, some history soon shows it."""
    monkeypatch.setattr(f"{slots.__name__}.{rule}", broken)
    with pytest.raises((AssertionError, Conflict, pytest.fail.Exception)):
        play(world, range(20 * HISTORIES))  # up to the first that does
