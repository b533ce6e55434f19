"""What it costs to start a build: ``true`` in a process sandbox, in a container, by ``podman run`` and by Buildbot.

``python -m bench.build_start`` starts a Podman of its own (as the tests do; root and Debian are needed), a server whose
pipeline builds what is published, and a Buildbot, and prints the median of ten, each kind in turn so that all of them meet
the same machine. Buildbot is installed as the other peers are (``bench.toolbox``); where it cannot be had it is left out.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from bench import toolbox
from bench.build_buildbot import buildbot
from bench.build_published import published
from hooks.builds.compute import ImageNames
from hooks.builds.executor import Executor, SourceBundle
from hooks.builds.executors.container import ContainerExecutor, ContainerSettings
from hooks.builds.executors.process import ProcessExecutor, ProcessSettings
from hooks.builds.phases import BuildStatus
from hooks.builds.plan import BuildPlan
from hooks.builds.run import run_build
from tests.build_bench import Log, never, work_directory
from tests.harness.podman import IMAGE, MISSING_ENGINE, podman_service

ROUNDS = 10
SPEC = "version: 0.2\nphases:\n  build:\n    commands: ['true']\n"


def timed(subject: Callable[[], object]) -> Callable[[], float]:
    """A subject that gives the seconds it took."""

    def run() -> float:
        started = time.monotonic()
        subject()
        return time.monotonic() - started

    return run


def build_in(executor: Executor) -> Callable[[], None]:
    """One whole build, from nothing to nothing."""

    def run() -> None:
        now = datetime.now(UTC)
        plan = BuildPlan("bench", SourceBundle(()), now, SPEC)
        outcome = run_build(plan, executor, Log(), never, lambda: now)
        assert outcome.status is BuildStatus.SUCCEEDED, outcome

    return run


def main() -> int:
    """Measure and print; 2 where there is no engine."""
    if MISSING_ENGINE:
        sys.stderr.write(MISSING_ENGINE + "\n")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all servers end with this program
    cache = Path(os.environ.get("ENTREPOT_BENCH_CACHE") or Path.home() / ".cache" / "entrepot-bench")
    with contextlib.ExitStack() as stack:
        podman = stack.enter_context(podman_service())
        boxes, place = stack.enter_context(work_directory()), stack.enter_context(work_directory())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        container = ContainerExecutor(ContainerSettings(podman.socket, boxes, images=ImageNames(usual=IMAGE)))
        command = ["podman", "run", "--rm", "--network", "none", IMAGE, "true"]
        subjects: dict[str, Callable[[], float]] = {
            "process": timed(build_in(ProcessExecutor(ProcessSettings(place)))),
            "container": timed(build_in(container)),
            "podman run": timed(lambda: subprocess.run(command, env=podman.environment, check=True, cwd=folder)),
            "publish to end": stack.enter_context(published(folder / "server", SPEC)),
        }
        try:
            subjects["Buildbot"] = stack.enter_context(buildbot(folder / "buildbot", cache, ["true"]))
        except toolbox.NotInstalled as error:
            sys.stderr.write(f"not measured: Buildbot, which could not be installed: {error}\n")
        taken = measure(subjects)
    for name, seconds in taken.items():
        sys.stdout.write(
            f"{name:15} median {statistics.median(seconds) * 1000:6.0f} ms  (min {min(seconds) * 1000:.0f}, "
            f"max {max(seconds) * 1000:.0f})\n"
        )
    sys.stdout.write(f"load {os.getloadavg()[0]:.1f} at the end\n")
    return 0


def measure(subjects: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """The seconds of each, in turn."""
    taken: dict[str, list[float]] = {name: [] for name in subjects}
    for turn in range(ROUNDS + 1):
        for name, subject in subjects.items():
            seconds = subject()
            if turn:  # the first of each warms caches
                taken[name].append(seconds)
    return taken


if __name__ == "__main__":
    sys.exit(main())
