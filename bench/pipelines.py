"""What pipelines cost: from a publish to the first action that starts, and a thousand approvals that wait.

``python bench/pipelines.py [--approvals N] [--seconds N] [--publishes N]`` starts ``entrepot serve`` as it is installed (two
gunicorn processes, one worker) with one pipeline: its source, and an approval. It measures the server while nothing waits,
publishes one version after the other and reads off when the approval began, publishes the rest until so many wait, and
measures the server again. Processor time and threads are those of all of the server's processes, from ``/proc``.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.load import Unusable  # noqa: E402
from bench.processes import loopback_session  # noqa: E402
from bench.targets import Entrepot, entrepot  # noqa: E402
from tests.harness import packages  # noqa: E402
from tests.harness.publishing import form  # noqa: E402

PATIENCE_SECONDS = 900.0
PIPELINE = """
pipeline:
  name: waits
  stages:
    - name: Source
      actions:
        - name: Package
          actionTypeId: {category: Source, owner: Entrepot, provider: Package, version: "1"}
          configuration: {Repository: dev, Format: pypi, Name: "bench-*", SettleSeconds: "0"}
    - name: Approve
      actions:
        - name: Ask
          actionTypeId: {category: Approval, owner: AWS, provider: Manual, version: "1"}
"""


class Bench:
    """A server under measurement, and an administrator of it."""

    def __init__(self, place: Entrepot) -> None:
        self._place = place
        self._http = loopback_session()
        self._http.headers["Authorization"] = f"Bearer {place.administrator}"

    def call(self, method: str, path: str, **sent: Any) -> dict[str, Any]:
        """One request of the administrator. Raises Unusable."""
        answer = self._http.request(method, f"{self._place.url}/api/v1{path}", timeout=60, **sent)
        if answer.status_code >= 300:
            raise Unusable(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return dict(answer.json()) if answer.content else {}

    def publish(self, number: int) -> float:
        """Publish a version; when its upload began. Raises Unusable."""
        name = f"bench-{number}"
        filename, body = packages.wheel(name, "1.0", files={"bench.txt": str(number).encode()})
        began = time.time()
        answer = self._http.post(
            f"{self._place.url}/pypi/default/dev/",
            data=form(name, "1.0", body),
            files={"content": (filename, body)},
            timeout=60,
        )
        if answer.status_code != 200:
            raise Unusable(f"{name}: {answer.status_code} {answer.text[:300]}")
        return began

    def asked_at(self, number: int) -> float:
        """When the approval of a version began to wait, by the server's clock, which is this machine's."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            newest = self.call("GET", "/pipelines/waits/executions", params={"limit": 1})["items"]
            if newest and newest[0]["name"] == f"bench-{number}":
                told = self.call("GET", f"/executions/{newest[0]['id']}")
                (ask,) = [each for stage in told["stages"] for each in stage["actions"] if each["name"] == "Ask"]
                if ask["startedAt"]:
                    return datetime.fromisoformat(ask["startedAt"]).timestamp()
            time.sleep(0.05)
        raise Unusable(f"nothing came of bench-{number}")

    def waiting(self) -> int:
        """How many executions wait for their approval."""
        count, after = 0, None
        while True:
            sent = {"limit": 100, **({"after": after} if after else {})}
            page = self.call("GET", "/pipelines/waits/executions", params=sent)
            count += sum(each["status"] == "InProgress" for each in page["items"])
            after = page["next"]
            if after is None:
                return count

    def idle(self, seconds: float, title: str) -> None:
        """Print what the server uses while nobody asks it for anything."""
        server = self._place.server
        before, began = server.usage(), time.monotonic()
        time.sleep(seconds)
        used, passed = server.usage().cpu_seconds - before.cpu_seconds, time.monotonic() - began
        threads = sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in server.pids())
        say(
            f"{title:32} {used:5.2f} s CPU in {passed:.0f} s = {100 * used / passed:4.1f} % of a core, {threads} threads"
        )


def say(line: str) -> None:
    """A line of the result."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def measure(bench: Bench, approvals: int, publishes: int, seconds: float) -> None:
    """Measure and print everything. Raises Unusable."""
    bench.call("PUT", "/pipelines", json={"document": PIPELINE})
    time.sleep(5)
    bench.idle(seconds, "nothing waits")
    took = []
    for number in range(publishes):
        began = bench.publish(number)
        took.append(bench.asked_at(number) - began)
    ordered = sorted(took)
    say(
        f"{'publish to first action':32} {1e3 * statistics.median(took):5.0f} ms at the median,"
        f" {1e3 * ordered[int(0.95 * (len(ordered) - 1))]:.0f} ms p95, of {publishes}"
    )
    began = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(bench.publish, range(publishes, approvals)):
            pass
    deadline = time.monotonic() + PATIENCE_SECONDS
    while bench.waiting() < approvals:
        if time.monotonic() > deadline:
            raise Unusable(f"{bench.waiting()} of {approvals} wait")
        time.sleep(1)
    say(f"{approvals - publishes} published and waiting {'':11} {time.monotonic() - began:5.0f} s")
    time.sleep(5)
    bench.idle(seconds, f"{approvals} approvals wait")


def main() -> int:
    """Measure and print; 1 where something was refused or did not come."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--approvals", type=int, default=1000)
    parser.add_argument("--publishes", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server ends with this program
    say(f"load before: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder, entrepot(Path(folder)) as place:
        try:
            measure(Bench(place), options.approvals, options.publishes, options.seconds)
        except Unusable as error:
            sys.stderr.write(f"{error}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
