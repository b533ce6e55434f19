"""What it costs to start a build: ``true`` in a process sandbox, in a container, and in a bare ``podman run``.

``python -m bench.build_start`` starts a Podman of its own (as the tests do; root and Debian are needed) and prints the
median of ten, each kind in turn so that all of them meet the same machine.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime

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
    with podman_service() as podman, work_directory() as boxes, work_directory() as place:
        container = ContainerExecutor(ContainerSettings(podman.socket, boxes, images=ImageNames(usual=IMAGE)))
        command = ["podman", "run", "--rm", "--network", "none", IMAGE, "true"]
        subjects: dict[str, Callable[[], object]] = {
            "process": build_in(ProcessExecutor(ProcessSettings(place))),
            "container": build_in(container),
            "podman run": lambda: subprocess.run(
                command, env=podman.environment, check=True, cwd=tempfile.gettempdir()
            ),
        }
        taken: dict[str, list[float]] = {name: [] for name in subjects}
        for turn in range(ROUNDS + 1):
            for name, subject in subjects.items():
                started = time.monotonic()
                subject()
                if turn:  # the first of each warms caches
                    taken[name].append(time.monotonic() - started)
    for name, seconds in taken.items():
        sys.stdout.write(
            f"{name:12} median {statistics.median(seconds) * 1000:6.0f} ms  (min {min(seconds) * 1000:.0f}, "
            f"max {max(seconds) * 1000:.0f})\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
