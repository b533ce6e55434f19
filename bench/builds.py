"""What people notice of builds: many at a time, on a machine that also serves packages.

``python -m bench.builds [BUILDS [SLOTS]]`` starts a server, lets twenty builds run at once, each of some seconds of
processor time and 4,000 lines of log, and prints how long requests took meanwhile, beside the same without builds.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.build_bench import MISSING_SANDBOX
from tests.build_crowd import Builder, Bystander, Watch, building_server, run_crowd, watching

LINES, ROUNDS = 4000, 30_000
QUIET_SECONDS = 10.0


def show(title: str, watches: list[Watch]) -> None:
    for watch in watches:
        statuses = ", ".join(f"{count} times {status}" for status, count in sorted(watch.statuses.items()))
        sys.stdout.write(
            f"{title:12} {watch.name:18} p50 {watch.percentile(0.5):5.0f} ms  p99 {watch.percentile(0.99):5.0f} ms"
            f"  most {watch.percentile(1.0):5.0f} ms  ({statuses})\n"
        )


def main() -> int:
    """Measure and print; 1 when a build failed or lost a line, 2 where there is no sandbox."""
    if MISSING_SANDBOX:
        sys.stderr.write(MISSING_SANDBOX + "\n")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server ends with this program
    builds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    slots = int(sys.argv[2]) if len(sys.argv) > 2 else builds
    with tempfile.TemporaryDirectory() as folder, building_server(Path(folder), slots=slots) as server:
        token = server.token("admin")
        bystander = Bystander(server, token)
        quiet = bystander.watches()
        with watching(quiet):
            time.sleep(QUIET_SECONDS)
        load = os.getloadavg()[0]
        crowd = run_crowd(Builder(server, token), bystander.watches(), builds=builds, lines=LINES, rounds=ROUNDS)
    show("no builds", quiet)
    show(f"{builds} builds", crowd.watches)
    sys.stdout.write(
        f"{builds} builds, {slots} at a time, {LINES} lines each: {crowd.seconds:.1f} s; load before {load:.1f}\n"
    )
    for fault in crowd.faults:
        sys.stderr.write(fault + "\n")
    return 1 if crowd.faults else 0


if __name__ == "__main__":
    sys.exit(main())
