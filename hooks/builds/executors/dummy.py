"""An executor that runs nothing and obeys a script: finds faults in whoever drives it.

It insists on the life cycle of ``hooks.builds.executor``: a second start for a build whose sandbox still stands, an
item before the source, anything after ``destroy`` are refused.
"""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hooks.builds.executor import (
    Availability,
    Ended,
    ExecutorError,
    Interrupt,
    Item,
    Outcome,
    Sandbox,
    SandboxRequest,
    Selection,
    SourceBundle,
    StopReason,
)

_POLL_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Step:
    """What an item does: print, set variables, take time, end with a status; or hang, or take its sandbox along."""

    output: bytes = b""
    exit_code: int = 0
    seconds: float = 0.0
    sets: Mapping[str, str] = field(default_factory=dict)
    hangs: bool = False
    vanishes: bool = False


@dataclass(slots=True)
class DummyExecutor:
    """Implements ``hooks.builds.executor.Executor``. ``steps`` by item script; an unknown script ends with 127.

    ``files`` are the source directory's. ``refusals`` prepares fail before one works. ``items`` is what was run.
    When it ``pretends``, unknown scripts end well, and what nothing matches is an empty zip.
    """

    steps: Mapping[str, Step] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    refusals: int = 0
    items: list[Item] = field(default_factory=list)
    requests: list[SandboxRequest] = field(default_factory=list)
    standing: set[str] = field(default_factory=set)
    name: str = "dummy"
    pretends: bool = False

    def available(self) -> Availability:
        """It is always there."""
        return Availability(ok=True, reason="it runs nothing")

    def prepare(self, request: SandboxRequest) -> Sandbox:
        """A sandbox, unless one stands for that build or refusals are left. Raises ExecutorError."""
        if request.build_id in self.standing:
            raise ExecutorError(f"build {request.build_id} was started a second time")
        if self.refusals:
            self.refusals -= 1
            raise ExecutorError("the script says no")
        self.standing.add(request.build_id)
        self.requests.append(request)
        return _DummySandbox(self, request)


class _DummySandbox:
    source_dir = "/codebuild/src"
    has_users = True

    def __init__(self, executor: DummyExecutor, request: SandboxRequest) -> None:
        self._executor = executor
        self._request = request
        self._state = "prepared"
        self._environment: dict[str, str] = {}

    @property
    def variables(self) -> Mapping[str, str]:
        return {"HOME": "/codebuild/home", "PATH": "/usr/bin:/bin", "CODEBUILD_SRC_DIR": self.source_dir}

    def fetch(self, source: SourceBundle, sink: Callable[[bytes], None], interrupt: Interrupt) -> Outcome:
        self._insist("prepared")
        self._state = "fetched"
        for file in source.files:
            with file.open() as body:
                sink(b"fetched " + file.name.encode() + b" " + str(len(body.read())).encode() + b"\n")
        return self._outcome(time.monotonic(), interrupt())

    def define(self, variables: Mapping[str, str]) -> None:
        self._insist("fetched")
        self._environment = dict(variables)

    def run(self, item: Item, sink: Callable[[bytes], None], interrupt: Interrupt) -> Outcome:
        self._insist("fetched")
        self._executor.items.append(item)
        started = time.monotonic()
        unknown = Step() if self._executor.pretends else Step(b"not found\n", 127)
        step = self._executor.steps.get(item.script, unknown)
        if step.output:
            sink(step.output)
        self._environment |= step.sets
        reason = interrupt()
        while reason is None and (step.hangs or time.monotonic() - started < step.seconds):
            time.sleep(_POLL_SECONDS)
            reason = interrupt()
        if reason is not None:
            self._state = "interrupted"
        elif step.vanishes:
            self._state = "vanished"
            return Outcome(Ended.VANISHED, None, time.monotonic() - started, detail="the script says so")
        return self._outcome(started, reason, step.exit_code)

    def read_file(self, path: str, limit_bytes: int) -> bytes | None:
        self._insist("fetched")
        content = self._executor.files.get(path)
        return None if content is None else content[: limit_bytes + 1]

    def environment(self) -> Mapping[str, str]:
        self._insist("fetched")
        return dict(self._environment)

    def collect(
        self, selection: Selection, write: Callable[[bytes], object], interrupt: Interrupt
    ) -> tuple[Outcome, int]:
        self._insist("fetched")
        names = [name for name in sorted(self._executor.files) if name in selection.files]
        if not names and not self._executor.pretends:
            return Outcome(Ended.EXITED, 1, 0.0, detail="no matching artifact paths found"), 0
        body = io.BytesIO()
        with zipfile.ZipFile(body, "w") as archive:
            for name in names:
                archive.writestr(name, self._executor.files[name])
        write(body.getvalue())
        return self._outcome(time.monotonic(), interrupt()), len(names)

    def destroy(self) -> None:
        self._state = "destroyed"
        self._executor.standing.discard(self._request.build_id)

    def _insist(self, state: str) -> None:
        if self._state != state:
            raise ExecutorError(f"the sandbox is {self._state}, not {state}")

    def _outcome(self, started: float, reason: StopReason | None, code: int = 0) -> Outcome:
        seconds = time.monotonic() - started
        if reason is not None:
            return Outcome(Ended.INTERRUPTED, None, seconds, reason)
        return Outcome(Ended.EXITED, code, seconds)
