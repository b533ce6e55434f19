"""Random pipelines, random events and random deaths: the engine's rows always say what a plain model says."""

import itertools
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hooks.builds.phases import BuildStatus
from hooks.models.build import Build
from hooks.pipelines.approvals import Verdict, decide
from hooks.pipelines.definition import RetryMode
from hooks.pipelines.engine import advance
from hooks.pipelines.steering import retry_stage, stop_execution
from hooks.triggers.start import start_manual
from registry.errors import Conflict, NotFound
from tests import postgres
from tests.fakes.pipelines import approval, build, new_world, pipeline, promotion, stage

NUMBERS = itertools.count(1)
FINAL = {"Stopped", "Succeeded", "Failed"}

STAGES = st.lists(
    st.lists(st.tuples(st.sampled_from(["build", "approval", "promote", "refused"]), st.integers(1, 3)), min_size=1, max_size=4),
    min_size=1,
    max_size=3,
)  # fmt: skip


@dataclass
class Oracle:
    """What should happen, without rows: every ``do_…`` says whether the engine must accept the event."""

    plan: list[list[tuple[str, int]]]
    status: str = "InProgress"
    stages: list[str | None] = field(default_factory=list)
    actions: dict[tuple[int, int], str] = field(default_factory=dict)
    promotions: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self):
        self.stages = [None] * len(self.plan)
        self.settle()

    def of(self, i):
        return {j: self.actions.get((i, j)) for j in range(len(self.plan[i]))}

    def is_running(self, i=None):
        return any(s in {"InProgress", "Waiting"} for (k, _), s in self.actions.items() if i in {None, k})

    def settle(self):
        while self.status not in FINAL:
            left = [i for i, status in enumerate(self.stages) if status != "Succeeded"]
            if not left:
                self.status = "Succeeded"
                return
            i = left[0]
            if self.stages[i] is None:
                if self.status == "Stopping":
                    self.status = "Stopped"
                    return
                self.stages[i] = "InProgress"
            now = self.of(i)
            unfinished = [j for j, status in now.items() if status != "Succeeded"]
            is_bad = bool({"Failed", "Abandoned"} & set(now.values()))
            if not unfinished:
                self.stages[i] = "Succeeded"
            elif is_bad or self.status == "Stopping":
                if not self.is_running(i):
                    self.stages[i] = self.status = "Failed" if "Failed" in now.values() else "Stopped"
                return
            else:
                first = min(self.plan[i][j][1] for j in unfinished)
                fresh = [j for j in unfinished if self.plan[i][j][1] == first and now[j] is None]
                for j in fresh:
                    kind = self.plan[i][j][0]
                    self.actions[i, j] = "Waiting" if kind == "approval" else "InProgress"
                    if kind in {"promote", "refused"}:
                        self.promotions.append((i, j))
                if not fresh:
                    return

    def do_finish(self, at, ok, expected):
        if self.actions.get(at) != expected:
            return False
        self.actions[at] = "Succeeded" if ok else "Failed"
        self.settle()
        return True

    def do_work(self):
        while self.promotions:
            i, j = self.promotions.pop(0)
            self.do_finish((i, j), self.plan[i][j][0] == "promote", "InProgress")

    def do_stop(self, abandon):
        if self.status in FINAL or (self.status == "Stopping" and not abandon):
            return False
        self.status = "Stopping"
        self.stages = ["Stopping" if status == "InProgress" else status for status in self.stages]
        for at, status in self.actions.items():
            if status == "Waiting" or (abandon and status == "InProgress"):
                self.actions[at] = "Abandoned"
                if at in self.promotions:
                    self.promotions.remove(at)
        self.settle()
        return True

    def do_retry(self, i, mode):
        bad = [j for j, status in self.of(i).items() if status in {"Failed", "Abandoned"}]
        if not (bad or self.stages[i] == "Stopped") or self.status == "Stopping":
            return False
        if mode is RetryMode.ALL_ACTIONS and self.is_running(i):
            return False
        for j in bad if mode is RetryMode.FAILED_ACTIONS else list(self.of(i)):
            self.actions.pop((i, j), None)
        self.stages[i] = self.status = "InProgress"
        self.settle()
        return True


def document(name, plan):
    written = []
    for i, actions in enumerate(plan):
        rows = []
        for j, (kind, order) in enumerate(actions):
            make = {
                "build": lambda n, o: build(n, run_order=o),
                "approval": lambda n, o: approval(n, run_order=o),
                "promote": lambda n, o: promotion(n, "staging", run_order=o),
                "refused": lambda n, o: promotion(n, "nowhere", run_order=o),
            }[kind]
            rows.append(make(f"a{j}", order))
        written.append(stage(f"s{i}", *rows))
    return pipeline("".join(written), name=name)


class Campaign:
    """One execution, driven event by event beside its oracle."""

    def __init__(self, world, plan):
        self.world, self.plan = world, plan
        name = f"p{next(NUMBERS)}"
        world.apply(document(name, plan))
        with world.db.write() as session:
            at = world.at("acme", "1.0")
            self.id = start_manual(session, world.parts, name, at, actor="op", now=world.now).execution_id
        self.oracle = Oracle(plan)
        self.compare()

    def compare(self):
        oracle = self.oracle
        status, stages, actions = self.world.statuses(self.id)
        assert status == oracle.status
        assert [stages[f"s{i}"] for i in range(len(self.plan))] == oracle.stages
        wanted = {f"s{i}/a{j}": oracle.actions.get((i, j)) for i, row in enumerate(self.plan) for j in range(len(row))}
        actions.pop("Source/Package")
        assert actions == wanted

    def write(self, unit, kill_at, is_accepted):
        """Run ``unit`` in a transaction that dies somewhere, see that nothing happened, and run it again."""

        def whole():
            with self.world.db.write() as session:
                unit(session)

        before = self.world.execution(self.id)
        try:
            if self.world.dies(kill_at, whole):
                assert self.world.execution(self.id) == before
                whole()
            assert is_accepted
        except (Conflict, NotFound):
            assert not is_accepted
            assert self.world.execution(self.id) == before

    def builds(self):
        """All builds of all attempts, ended or not, with the action each belongs to if it is the current one."""
        found = {}
        for i, row in enumerate(self.plan):
            for j, (kind, _) in enumerate(row):
                if kind == "build":
                    build_id = self.world.action(self.id, f"s{i}/a{j}").build_id
                    found[build_id] = (i, j)
        with self.world.db.read() as session:
            subject = f"execution:{self.id}"
            ids = session.scalars(
                sa.select(Build.id).where(Build.subject == subject).order_by(Build.submitted_at, Build.number)
            ).all()
        return [(build_id, found.get(build_id)) for build_id in ids]

    def step(self, draw):
        world, oracle = self.world, self.oracle
        kill_at = draw(st.none() | st.integers(0, 45))
        event = draw(st.sampled_from(["build", "build", "approve", "approve", "work", "retry", "stop", "advance"]))
        if event == "build" and (builds := self.builds()):
            build_id, at = draw(st.sampled_from(builds))
            status = draw(st.sampled_from([BuildStatus.SUCCEEDED, BuildStatus.SUCCEEDED, BuildStatus.FAILED]))
            if at is not None:
                oracle.do_finish(at, status is BuildStatus.SUCCEEDED, "InProgress")
            self.write(world.end_build(build_id, status), kill_at, is_accepted=True)
        elif event == "approve":
            i = draw(st.integers(0, len(self.plan) - 1))
            j = draw(st.integers(0, len(self.plan[i]) - 1))
            verdict = draw(st.sampled_from([Verdict.APPROVED, Verdict.APPROVED, Verdict.REJECTED]))
            is_accepted = oracle.do_finish((i, j), verdict is Verdict.APPROVED, "Waiting")

            def answer(session):
                decide(
                    session, world.parts, self.id, f"s{i}", f"a{j}", verdict=verdict, comment="", actor="carol",
                    now=world.now,
                )  # fmt: skip

            self.write(answer, kill_at, is_accepted)
        elif event == "work":
            oracle.do_work()
            if world.dies(kill_at, lambda: world.work("promote")):
                world.reap()
                world.work("promote")
        elif event == "retry":
            i = draw(st.integers(0, len(self.plan) - 1))
            mode = draw(st.sampled_from(RetryMode))
            is_accepted = oracle.do_retry(i, mode)
            self.write(
                lambda session: retry_stage(session, world.parts, self.id, f"s{i}", mode, actor="op", now=world.now),
                kill_at,
                is_accepted,
            )
        elif event == "stop" and draw(st.integers(0, 3)) == 0:
            abandon = draw(st.booleans())
            is_accepted = oracle.do_stop(abandon)
            self.write(
                lambda session: stop_execution(
                    session, world.parts, self.id, actor="op", reason="", abandon=abandon, now=world.now
                ),
                kill_at,
                is_accepted,
            )
        else:
            self.write(lambda session: advance(session, world.parts, self.id, world.now), kill_at, is_accepted=True)
        self.compare()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)], scope="module")
def world(request, tmp_path_factory):
    if request.param == "postgresql" and postgres.find_binaries() is None:
        pytest.skip("there is no PostgreSQL on this machine")
    folder: Path = tmp_path_factory.mktemp("oracle")
    with new_world(request.param, folder) as made:
        made.publish("acme", "1.0", "acme-1.0.bin")
        yield made


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(plan=STAGES, data=st.data())
def test_the_engine_equals_the_oracle(world, plan, data):
    campaign = Campaign(world, plan)
    for _ in range(data.draw(st.integers(1, 14))):
        campaign.step(data.draw)


def test_the_campaign_reaches_every_end(world):
    """The control: a driver that always says yes brings a whole pipeline to its end, and one no ends it as failed."""
    plan = [[("build", 1), ("approval", 2)], [("promote", 1)]]
    for ok, expected in ((True, "Succeeded"), (False, "Failed")):
        campaign = Campaign(world, plan)
        for build_id, at in campaign.builds():
            status = BuildStatus.SUCCEEDED if ok else BuildStatus.FAILED
            campaign.oracle.do_finish(at, ok, "InProgress")
            campaign.write(world.end_build(build_id, status), None, is_accepted=True)
        if ok:
            campaign.oracle.do_finish((0, 1), ok, "Waiting")
            with world.db.write() as session:
                decide(
                    session, world.parts, campaign.id, "s0", "a1", verdict=Verdict.APPROVED, comment="", actor="c",
                    now=world.now,
                )  # fmt: skip
            campaign.oracle.do_work()
            world.work("promote")
        campaign.compare()
        assert campaign.oracle.status == expected
