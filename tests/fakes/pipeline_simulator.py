"""What a pipeline's executions do, without rows and without the engine: the oracle that the engine is held against.

Pure. A simulator is one pipeline; its executions are numbered from 1 in the order of their starts. Written from
CodePipeline's words ("How executions work", "Set or change the pipeline execution mode"), not from the engine's code.
"""

from __future__ import annotations

from dataclasses import dataclass, field

FINAL = {"Stopped", "Succeeded", "Failed", "Superseded"}
RUNNING = {"InProgress", "Waiting"}


class Refused(Exception):
    """The event is one that must be refused, and changes nothing."""


@dataclass
class Stage:
    """``actions`` are (kind, run order): ``approval`` waits for a person, ``source`` and ``bad`` end as they start.

    ``conditions`` are slot -> (rule, result, retry mode): a ``met`` rule is met at once, an ``unmet`` one fails at once, an
    ``odd`` one cannot be judged, a ``build`` one waits for its end, and None is the result that holds by itself.
    """

    actions: list[tuple[str, int]]
    conditions: dict[str, tuple[str | None, str, str]] = field(default_factory=dict)


@dataclass
class Run:
    number: int
    package: str
    only: int | None = None
    """The one stage of a rollback."""
    status: str = "InProgress"
    stages: dict[int, str] = field(default_factory=dict)
    actions: dict[tuple[int, int], str] = field(default_factory=dict)
    waits_before: int | None = None
    has_passed: bool = False
    conditions: dict[tuple[int, str], str] = field(default_factory=dict)
    retried: set[int] = field(default_factory=set)
    begun: set[int] = field(default_factory=set)
    """Stages of which an action has ever begun: it is inside already, and no freeze concerns it there."""
    passed: set[int] = field(default_factory=set)
    met: set[int] = field(default_factory=set)
    """Stages whose rules before entry are met, into which a freeze does not let it."""

    def of(self, stage: int, count: int) -> list[str | None]:
        return [self.actions.get((stage, i)) for i in range(count)]


class Simulator:
    """The rules: one inside a stage; those before it in order, or only the newest of a package; closed ones hold."""

    def __init__(self, mode: str, stages: list[Stage]) -> None:
        self.mode, self.stages = mode, stages
        self.runs: dict[int, Run] = {}
        self.closed: set[int] = set()
        self.frozen: set[int] = set()
        self.held: set[tuple[int, str]] = set()
        self.inside: dict[int, int] = {}
        self.entries: dict[int, list[int]] = {i: [] for i in range(len(stages))}
        self.succeeded: dict[int, list[int]] = {i: [] for i in range(len(stages))}

    # --- what people and the world do

    def arrive(self, package: str) -> int:
        run = Run(len(self.runs) + 1, package)
        self.runs[run.number] = run
        self._settle()
        return run.number

    def finish(self, number: int, stage: int, action: int, ok: bool, *, expected: str) -> None:
        run = self.runs[number]
        if run.actions.get((stage, action)) != expected:
            raise Refused
        run.actions[stage, action] = "Succeeded" if ok else "Failed"
        self._settle()

    def judge(self, number: int, stage: int, slot: str, ok: bool) -> None:
        """The build of a rule ends."""
        run = self.runs[number]
        assert run.conditions[stage, slot] == "InProgress"
        if ok and slot == "BEFORE_ENTRY" and self._is_frozen_out(run, stage):
            run.met.add(stage)
        else:
            run.conditions[stage, slot] = "Succeeded" if ok else "Failed"
        self._settle()

    def _is_frozen_out(self, run: Run, stage: int) -> bool:
        """Whether it is on its way in, and a freeze has begun meanwhile."""
        return stage in self.frozen and stage not in run.begun | run.passed

    def entering(self, run: Run) -> int | None:
        """The stage into which it is on its way and a freeze does not let it."""
        found = [
            stage
            for (stage, slot), status in run.conditions.items()
            if (slot, status) == ("BEFORE_ENTRY", "InProgress")
        ]
        return found[0] if found and self._is_frozen_out(run, found[0]) else None

    def override(self, number: int, stage: int, slot: str) -> None:
        run = self.runs[number]
        status = run.conditions.get((stage, slot))
        if slot == "ON_FAILURE" or status not in {"InProgress", "Failed", "Errored"} or run.status == "Stopping":
            raise Refused
        if run.stages[stage] not in {"InProgress", "Failed"}:
            raise Refused
        if slot == "BEFORE_ENTRY" and self._is_frozen_out(run, stage):
            raise Refused
        if run.stages[stage] == "Failed":
            if self.mode != "PARALLEL":
                self._go_back_in(run, stage)
            run.stages[stage] = run.status = "InProgress"
        run.conditions[stage, slot] = "Overridden"
        self._settle()

    def stop(self, number: int, abandon: bool) -> None:
        run = self.runs[number]
        if run.status in FINAL or (run.status == "Stopping" and not abandon):
            raise Refused
        run.status = "Stopping"
        for stage, status in run.stages.items():
            if status == "InProgress":
                run.stages[stage] = "Stopping"
        for at, status in run.actions.items():
            if status == "Waiting" or (abandon and status == "InProgress"):
                run.actions[at] = "Abandoned"
        self._break_off(run, "Abandoned" if abandon else "Cancelled")
        self._settle()

    def retry(self, number: int, stage: int, all_actions: bool) -> None:
        run = self.runs[number]
        states = {at: status for at, status in run.actions.items() if at[0] == stage}
        bad = [at for at, status in states.items() if status in {"Failed", "Abandoned"}]
        if run.stages.get(stage) == "Skipped" or (not bad and run.stages.get(stage) not in {"Stopped", "Failed"}):
            raise Refused
        if run.status == "Stopping" or (all_actions and RUNNING & set(states.values())):
            raise Refused
        if self.mode != "PARALLEL" and run.stages[stage] not in {"InProgress", "Stopping"}:
            self._go_back_in(run, stage)
        run.status = "InProgress"
        self._again(run, stage, all_actions)
        self._settle()

    def _go_back_in(self, run: Run, stage: int) -> None:
        entries = self.entries[stage]
        later = entries[entries.index(run.number) + 1 :]
        if any(self.runs[other].package == run.package for other in later) or stage in self.inside:
            raise Refused
        self.inside[stage] = run.number

    def _again(self, run: Run, stage: int, all_actions: bool) -> None:
        run.met.discard(stage)
        for at in [at for at, status in run.actions.items() if at[0] == stage]:
            if all_actions or run.actions[at] in {"Failed", "Abandoned"}:
                del run.actions[at]
        for at in [at for at in run.conditions if at[0] == stage]:
            lets_in = at[1] == "BEFORE_ENTRY" and run.conditions[at] in {"Succeeded", "Overridden"}
            if all_actions or not lets_in:
                del run.conditions[at]
        run.stages[stage] = "InProgress"

    def _break_off(self, run: Run, status: str) -> None:
        for at, now in run.conditions.items():
            if now == "InProgress":
                run.conditions[at] = status

    def freeze(self, stage: int) -> None:
        self.frozen.add(stage)

    def thaw(self, stage: int) -> None:
        self.frozen.discard(stage)
        self._settle()

    def let_through(self, number: int) -> None:
        run = self.runs[number]
        stage = self.entering(run)
        if stage is not None:
            run.passed.add(stage)
        elif run.waits_before is None or run.waits_before not in self.frozen or run.has_passed:
            raise Refused
        else:
            run.has_passed = True
        self._settle()

    def release(self, stage: int) -> None:
        held = {each for each in self.held if each[0] == stage}
        if not held:
            raise Refused
        self.held -= held
        self._settle()

    def close(self, stage: int) -> None:
        if stage == 0 or self.mode == "PARALLEL":
            raise Refused
        self.closed.add(stage)

    def open(self, stage: int) -> None:
        self.closed.discard(stage)
        self._settle()

    def roll_back(self, number: int, stage: int) -> int:
        run = self.runs[number]
        if self.mode == "PARALLEL" or stage == 0 or run.only is not None or stage in self.inside:
            raise Refused
        if run.stages.get(stage) != "Succeeded":
            raise Refused
        self.held.add((stage, run.package))
        new = self._rollback(run.package, stage)
        self._settle()
        return new

    def _rollback(self, package: str, stage: int) -> int:
        new = Run(len(self.runs) + 1, package, only=stage)
        self.runs[new.number] = new
        self._enter(new, stage)
        return new.number

    # --- what follows

    def _settle(self) -> None:
        while any(self._step(run) for run in list(self.runs.values())) or self._admit():
            pass

    def _step(self, run: Run) -> bool:
        """One step of an execution that is inside a stage, or that has to go somewhere."""
        if run.status in FINAL:
            return False
        if run.waits_before is not None:
            if run.status == "Stopping":
                run.status, run.waits_before = "Stopped", None
                return True
            return False
        route = [run.only] if run.only is not None else range(len(self.stages))
        stage = next((i for i in route if run.stages.get(i) not in {"Succeeded", "Skipped"}), None)
        if stage is None:
            run.status = "Succeeded"
        elif stage in run.stages:
            return self._step_in(run, stage)
        elif run.status == "Stopping":
            run.status = "Stopped"
        else:
            self._come_to(run, stage)
        return True

    def _step_in(self, run: Run, stage: int) -> bool:
        guard = self._guard(run, stage, "BEFORE_ENTRY")
        if guard is not None:
            return guard
        defined = self.stages[stage].actions
        states = run.of(stage, len(defined))
        if RUNNING & set(states) and (run.status == "Stopping" or {"Failed", "Abandoned"} & set(states)):
            return False
        if "Failed" in states:
            return self._failed(run, stage)
        if "Abandoned" in states:
            return self._leave(run, stage, "Stopped")
        left = [i for i, status in enumerate(states) if status != "Succeeded"]
        if not left:
            guard = self._guard(run, stage, "ON_SUCCESS")
            return self._leave(run, stage, "Succeeded") if guard is None else guard
        if run.status == "Stopping":
            return self._leave(run, stage, "Stopped")
        order = min(defined[i][1] for i in left)
        fresh = [i for i in left if defined[i][1] == order and states[i] is None]
        for i in fresh:
            run.actions[stage, i] = {"approval": "Waiting", "source": "Succeeded", "bad": "Failed"}.get(
                defined[i][0], "InProgress"
            )
        if fresh:
            run.begun.add(stage)
        return bool(fresh)

    def _guard(self, run: Run, stage: int, slot: str) -> bool | None:
        """A condition that fires when its rules fail; None: nothing keeps the execution."""
        rule, result, _ = self.stages[stage].conditions.get(slot, ("met", "", ""))
        if slot not in self.stages[stage].conditions or (run.only is not None and slot == "BEFORE_ENTRY"):
            return None
        status = run.conditions.get((stage, slot))
        if status in {"Succeeded", "Overridden"}:
            return None
        if status == "InProgress":
            if stage not in run.met or slot != "BEFORE_ENTRY" or self._is_frozen_out(run, stage):
                return False
            run.conditions[stage, slot] = "Succeeded"
            return True
        if status is None:
            if run.status == "Stopping":
                return self._leave(run, stage, "Stopped")
            return self._ask(run, stage, slot, rule)
        if status in {"Cancelled", "Abandoned"}:
            return self._leave(run, stage, "Stopped")
        if status == "Failed" and result == "SKIP":
            return self._leave(run, stage, "Skipped")
        return self._leave(run, stage, "Failed", rolls_back=status == "Failed" and result == "ROLLBACK")

    def _failed(self, run: Run, stage: int) -> bool:
        """Actions have failed: the one condition that fires when its rules are met."""
        slot = "ON_FAILURE"
        if slot not in self.stages[stage].conditions or run.status == "Stopping":
            return self._leave(run, stage, "Failed")
        rule, result, mode = self.stages[stage].conditions[slot]
        if result == "RETRY" and stage in run.retried:
            return self._leave(run, stage, "Failed")
        status = run.conditions.get((stage, slot)) if rule is not None else "Succeeded"
        if status is None:
            return self._ask(run, stage, slot, rule)
        if status == "InProgress":
            return False
        if status != "Succeeded":
            return self._leave(run, stage, "Failed")
        if result == "RETRY":
            run.retried.add(stage)
            self._again(run, stage, mode == "ALL_ACTIONS")
            return True
        return self._leave(run, stage, "Skipped" if result == "SKIP" else "Failed", rolls_back=result == "ROLLBACK")

    def _ask(self, run: Run, stage: int, slot: str, rule: str | None) -> bool:
        at_once = {"met": "Succeeded", "unmet": "Failed", "odd": "Errored"}
        run.conditions[stage, slot] = at_once.get(rule or "", "InProgress")
        return True

    def _leave(self, run: Run, stage: int, status: str, *, rolls_back: bool = False) -> bool:
        run.stages[stage] = status
        self.inside.pop(stage, None)
        if status not in {"Succeeded", "Skipped"}:
            run.status = status
        if rolls_back and run.only is None:
            # To what succeeded there last, of the same package; it comes in before anybody who waits.
            for number in reversed(self.succeeded[stage]):
                if self.runs[number].package == run.package and number != run.number:
                    self._rollback(run.package, stage)
                    break
        if status == "Succeeded" and run.only is None:
            self.succeeded[stage].append(run.number)
        return True

    def _come_to(self, run: Run, stage: int) -> None:
        run.waits_before = stage
        if self.mode == "PARALLEL":
            if self._may_enter(run, stage):
                self._enter(run, stage)
            return
        if self.mode == "SUPERSEDED":
            for other in self.runs.values():
                if other.waits_before == stage and other.package == run.package and other.number < run.number:
                    other.status, other.waits_before = "Superseded", None

    def _admit(self) -> bool:
        """Let one of those that wait go in, if one may."""
        for stage in range(len(self.stages)):
            waiting = [run for run in self.runs.values() if run.waits_before == stage and self._may_enter(run, stage)]
            if waiting and stage not in self.inside and stage not in self.closed:
                self._enter(min(waiting, key=lambda run: run.number), stage)
                return True
        return False

    def _may_enter(self, run: Run, stage: int) -> bool:
        """Whether neither a freeze, which somebody may have let it through, nor a hold keeps it out."""
        is_frozen = stage in self.frozen and stage != 0 and not run.has_passed
        return not is_frozen and (stage, run.package) not in self.held

    def _enter(self, run: Run, stage: int) -> None:
        if run.has_passed:
            run.passed.add(stage)
        run.waits_before, run.has_passed = None, False
        run.stages[stage] = "InProgress"
        self.entries[stage].append(run.number)
        if self.mode != "PARALLEL":
            self.inside[stage] = run.number
