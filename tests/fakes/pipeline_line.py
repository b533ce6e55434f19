"""A pipeline of its own in a world that others use as well, and what people do to its executions."""

import itertools

from hooks.pipelines.approvals import Verdict, decide
from hooks.pipelines.definition import RetryMode
from hooks.pipelines.freezes import NewFreeze, create_freeze, delete_freeze
from hooks.pipelines.overriding import override_condition
from hooks.pipelines.pipeline_state import get_pipeline_state
from hooks.pipelines.rollback import rollback_stage
from hooks.pipelines.steering import retry_stage, stop_execution
from hooks.pipelines.sticky import let_through, release_stage
from hooks.pipelines.transitions import disable_transition, enable_transition
from hooks.triggers.start import start_manual
from tests.fakes.pipelines import approval, new_world, pipeline, source, stage

NUMBERS = itertools.count(1)
TWO_STAGES = stage("Test", approval("Ask")) + stage("Ship", approval("Ask"))


def fresh_world(kind, folder):
    with new_world(kind, folder) as made:
        for name in ("acme", "other"):
            for version in ("1.0", "2.0", "3.0"):
                made.publish(name, version, f"{name}-{version}.bin", f"{name} {version}".encode())
        yield made


class Line:
    """A pipeline of its own, and what is done to its executions."""

    def __init__(self, world, mode="SUPERSEDED", stages=TWO_STAGES, head=""):
        self.world, self.name, self.mode = world, f"line-{next(NUMBERS)}", mode
        self.define(stages, head)

    def define(self, stages, head="", mode=None):
        text = f"executionMode: {mode or self.mode}\n{head}" + pipeline(stages, name=self.name, first=source("dev"))
        self.world.apply(text)

    def write(self, unit):
        with self.world.db.write() as session:
            return unit(session)

    def start(self, version="1.0", package="acme", **more):
        at = self.world.at(package, version)
        return self.write(
            lambda session: (
                start_manual(
                    session, self.world.parts, self.name, at, actor="op", now=self.world.now, **more
                ).execution_id
            )
        )

    def answer(self, execution, where="Test", verdict=Verdict.APPROVED):
        self.write(
            lambda session: decide(
                session, self.world.parts, execution, where, "Ask", verdict=verdict, comment="", actor="carol",
                now=self.world.now,
            )
        )  # fmt: skip

    def stop(self, execution, *, abandon=False):
        self.write(
            lambda session: stop_execution(
                session, self.world.parts, execution, actor="op", reason="", abandon=abandon, now=self.world.now
            )
        )

    def retry(self, execution, where="Test", mode=RetryMode.FAILED_ACTIONS):
        self.write(
            lambda session: retry_stage(
                session, self.world.parts, execution, where, mode, actor="op", now=self.world.now
            )
        )

    def close(self, where="Ship", reason="freeze"):
        self.write(
            lambda session: disable_transition(session, self.name, where, reason=reason, actor="op", now=self.world.now)
        )

    def open(self, where="Ship"):
        self.write(
            lambda session: enable_transition(
                session, self.world.parts, self.name, where, actor="op", now=self.world.now
            )
        )

    def roll_back(self, execution, where="Ship", **more):
        return self.write(
            lambda session: (
                rollback_stage(
                    session, self.world.parts, execution, where, actor="op", now=self.world.now, **more
                ).execution_id
            )
        )

    def stages(self, execution):
        return {name: status for name, status in self.world.statuses(execution)[1].items() if name != "Source"}

    def status(self, execution):
        return self.world.statuses(execution)[0]

    def before(self, execution):
        return self.world.execution(execution).inbound_stage

    def state(self, where):
        with self.world.db.read() as session:
            return get_pipeline_state(session, self.name, lambda _: True, self.world.now).stage(where)

    def override(self, execution, slot, where="Ship", reason="it is urgent"):
        self.write(
            lambda session: override_condition(
                session, self.world.parts, execution, where, slot, actor="op", reason=reason, now=self.world.now
            )
        )

    def freeze(self, name, **more):
        wanted = NewFreeze(name, "holidays", **more)
        self.write(lambda session: create_freeze(session, wanted, actor="op", now=self.world.now))

    def unfreeze(self, name):
        self.write(lambda session: delete_freeze(session, name, actor="op", now=self.world.now))

    def let_through(self, execution, reason="security fix"):
        self.write(
            lambda session: let_through(
                session, self.world.parts, execution, actor="op", reason=reason, now=self.world.now
            )
        )

    def release(self, where="Ship", may=lambda _: None):
        return self.write(
            lambda session: release_stage(
                session, self.world.parts, self.name, where, actor="op", reason="fixed", now=self.world.now, may=may
            )
        )
