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
    """``actions`` are (kind, run order): ``approval`` waits for a person, ``source`` and ``bad`` end as they start."""

    actions: list[tuple[str, int]]


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

    def of(self, stage: int, count: int) -> list[str | None]:
        return [self.actions.get((stage, i)) for i in range(count)]


class Simulator:
    """The rules: one inside a stage; those before it in order, or only the newest of a package; closed ones hold."""

    def __init__(self, mode: str, stages: list[Stage]) -> None:
        self.mode, self.stages = mode, stages
        self.runs: dict[int, Run] = {}
        self.closed: set[int] = set()
        self.inside: dict[int, int] = {}
        self.entries: dict[int, list[int]] = {i: [] for i in range(len(stages))}

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
        self._settle()

    def retry(self, number: int, stage: int, all_actions: bool) -> None:
        run = self.runs[number]
        states = {at: status for at, status in run.actions.items() if at[0] == stage}
        bad = [at for at, status in states.items() if status in {"Failed", "Abandoned"}]
        if not bad and run.stages.get(stage) != "Stopped":
            raise Refused
        if run.status == "Stopping" or (all_actions and RUNNING & set(states.values())):
            raise Refused
        if self.mode != "PARALLEL" and run.stages[stage] not in {"InProgress", "Stopping"}:
            entries = self.entries[stage]
            later = entries[entries.index(number) + 1 :]
            if any(self.runs[other].package == run.package for other in later) or stage in self.inside:
                raise Refused
            self.inside[stage] = number
        for at in states if all_actions else bad:
            del run.actions[at]
        run.stages[stage] = run.status = "InProgress"
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
        new = Run(len(self.runs) + 1, run.package, only=stage)
        self.runs[new.number] = new
        self._enter(new, stage)
        self._settle()
        return new.number

    # --- what follows

    def _settle(self) -> None:
        while any(self._step(run) for run in self.runs.values()) or self._admit():
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
        stage = next((i for i in route if run.stages.get(i) != "Succeeded"), None)
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
        defined = self.stages[stage].actions
        states = run.of(stage, len(defined))
        if RUNNING & set(states) and (run.status == "Stopping" or {"Failed", "Abandoned"} & set(states)):
            return False
        if "Failed" in states:
            return self._leave(run, stage, "Failed")
        if "Abandoned" in states:
            return self._leave(run, stage, "Stopped")
        left = [i for i, status in enumerate(states) if status != "Succeeded"]
        if not left:
            return self._leave(run, stage, "Succeeded")
        if run.status == "Stopping":
            return self._leave(run, stage, "Stopped")
        order = min(defined[i][1] for i in left)
        fresh = [i for i in left if defined[i][1] == order and states[i] is None]
        for i in fresh:
            run.actions[stage, i] = {"approval": "Waiting", "source": "Succeeded", "bad": "Failed"}.get(
                defined[i][0], "InProgress"
            )
        return bool(fresh)

    def _leave(self, run: Run, stage: int, status: str) -> bool:
        run.stages[stage] = status
        self.inside.pop(stage, None)
        if status != "Succeeded":
            run.status = status
        return True

    def _come_to(self, run: Run, stage: int) -> None:
        if self.mode == "PARALLEL":
            self._enter(run, stage)
            return
        run.waits_before = stage
        if self.mode == "SUPERSEDED":
            for other in self.runs.values():
                if other.waits_before == stage and other.package == run.package and other.number < run.number:
                    other.status, other.waits_before = "Superseded", None

    def _admit(self) -> bool:
        """Let one of those that wait go in, if one may."""
        for stage in range(len(self.stages)):
            waiting = [run for run in self.runs.values() if run.waits_before == stage]
            if waiting and stage not in self.inside and stage not in self.closed:
                self._enter(min(waiting, key=lambda run: run.number), stage)
                return True
        return False

    def _enter(self, run: Run, stage: int) -> None:
        run.waits_before = None
        run.stages[stage] = "InProgress"
        self.entries[stage].append(run.number)
        if self.mode != "PARALLEL":
            self.inside[stage] = run.number
