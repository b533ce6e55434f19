"""kill -9 of the whole server, at random moments of publish, build, approval and promotion, again and again.

What must hold afterwards: every acknowledged upload is there, digest-equal; every upload of unknown outcome is wholly
there or wholly absent; every published version has exactly one execution with exactly one outcome; promoted files are
the bytes that were uploaded; fsck finds nothing.

The short form runs in ``make test``; ``make campaign`` runs the long one. ``ENTREPOT_SEED`` replays a run's moments.
"""

import contextlib
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from sqlalchemy import text

from registry.db import Database
from tests.harness import packages
from tests.harness.publishing import publish
from tests.harness.server import Server

LONG = os.environ.get("ENTREPOT_CAMPAIGN") == "long"
KILLS = int(os.environ.get("ENTREPOT_KILLS", "200" if LONG else "3"))
SEED = int(os.environ.get("ENTREPOT_SEED", str(random.randrange(10**6))))
SETTLE_SECONDS = 240

PIPELINE = """
buildProject:
  name: quick
  environment: {network: none}
  buildspec: |
    version: 0.2
    phases:
      build:
        commands:
          - test -f "$ENTREPOT_ASSETS_DIR"/*.whl
          - sleep 0.3
---
pipeline:
  name: release
  stages:
    - name: Source
      actions:
        - name: Package
          actionTypeId: {category: Source, owner: Entrepot, provider: Package, version: "1"}
          configuration: {Repository: dev, Format: pypi, Name: "k-*", SettleSeconds: "0"}
    - name: Build
      actions:
        - name: Check
          actionTypeId: {category: Build, owner: AWS, provider: CodeBuild, version: "1"}
          configuration: {ProjectName: quick}
    - name: Approve
      actions:
        - name: Ask
          actionTypeId: {category: Approval, owner: AWS, provider: Manual, version: "1"}
    - name: Promote
      actions:
        - name: ToProd
          actionTypeId: {category: Deploy, owner: Entrepot, provider: Promote, version: "1"}
          configuration: {TargetRepository: prod}
"""


class Load:
    """Publishes small wheels and answers approvals for as long as it is told to, remembering what was acknowledged."""

    def __init__(self, server: Server, token: str) -> None:
        self.server = server
        self.token = token
        self.headers = {"Authorization": f"Bearer {token}"}
        self.numbers: Iterator[int] = iter(range(10**6))
        self.lock = threading.Lock()
        self.acknowledged: dict[str, tuple[str, str]] = {}
        self.unknown: dict[str, tuple[str, str]] = {}
        self.refused: list[str] = []
        self.stopping = threading.Event()

    def publish_forever(self) -> None:
        while not self.stopping.is_set():
            with self.lock:
                number = next(self.numbers)
            name = f"k-{number}"
            filename, body = packages.wheel(name, "1.0", files={f"k_{number}/data.bin": os.urandom(3000)})
            known = (filename, packages.sha256(body))
            try:
                answer = publish(self.server, self.token, name, wheel=(filename, body))
            except requests.RequestException:
                self.unknown[name] = known
            else:
                if answer.status_code == 200:
                    self.acknowledged[name] = known
                elif answer.status_code >= 500:
                    self.unknown[name] = known
                else:
                    self.refused.append(f"{name}: {answer.status_code} {answer.text}")
            self.stopping.wait(0.4)

    def approve_forever(self) -> None:
        while not self.stopping.is_set():
            with contextlib.suppress(requests.RequestException):
                for execution in self.executions(status="InProgress", is_any_enough=True):
                    self.approve(execution["id"])
            self.stopping.wait(0.2)

    def approve(self, execution_id: int) -> None:
        requests.post(
            f"{self.server.url}/api/v1/executions/{execution_id}/approval",
            json={"stage": "Approve", "action": "Ask", "verdict": "Approved", "comment": ""},
            headers=self.headers,
            timeout=60,
        )

    def executions(self, status: str | None = None, *, is_any_enough: bool = False) -> list[dict[str, object]]:
        """All executions, or those of one status; with ``is_any_enough`` the newest of them will do."""
        found: list[dict[str, object]] = []
        following = None
        while True:
            answer = requests.get(
                f"{self.server.url}/api/v1/pipelines/release/executions",
                params={"limit": 100, **({"after": following} if following else {})},
                headers=self.headers,
                timeout=30,
            )
            answer.raise_for_status()
            page = answer.json()
            found += [item for item in page["items"] if status is None or item["status"] == status]
            following = page["next"]
            if following is None or (is_any_enough and found):
                return found

    def run(self, seconds: float, *, acknowledged: int) -> None:
        """Work for this long, and until at least so many uploads are acknowledged in all, then kill the server."""
        self.stopping.clear()
        threads = [threading.Thread(target=self.publish_forever, daemon=True) for _ in range(2)]
        threads.append(threading.Thread(target=self.approve_forever, daemon=True))
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        patience = time.monotonic() + SETTLE_SECONDS
        while len(self.acknowledged) < acknowledged and time.monotonic() < patience:
            time.sleep(0.01)
        self.server.kill()
        self.stopping.set()
        for thread in threads:
            thread.join(30)


def settle(load: Load) -> None:
    """Let everything that was begun come to its end, however long a busy machine takes as long as it goes on."""
    seen, since = -1, time.monotonic()
    while time.monotonic() < since + SETTLE_SECONDS:
        running = load.executions(status="InProgress")
        for execution in running:
            load.approve(int(str(execution["id"])))
        if not running and not queued(load.server):
            return
        done = counted(load.server, "select count(*) from job where ended_at is not null")
        if done != seen:
            seen, since = done, time.monotonic()
        time.sleep(0.5)
    raise AssertionError(f"still running: {load.executions(status='InProgress')[:3]}\n{load.server.log_text()[-3000:]}")


def queued(server: Server) -> int:
    """How much is still to be done: jobs and events."""
    # Expiry of an approval waits for days; it is not work.
    jobs = "select count(*) from job where state in ('queued', 'running') and kind != 'expire_approval'"
    return counted(server, jobs, "select count(*) from event where handled_at is null")


def counted(server: Server, *queries: str) -> int:
    """The sum of what these queries count."""
    db = Database(server.environment.get("ENTREPOT_DATABASE_URL", f"sqlite:///{server.data}/entrepot.db"))
    try:
        with db.read() as session:
            return sum(session.execute(text(query)).scalar_one() for query in queries)
    finally:
        db.close()


def digest_in(server: Server, repository: str, name: str, filename: str, headers: dict[str, str]) -> str | None:
    answer = requests.get(
        f"{server.url}/pypi/default/{repository}/files/{name}/{filename}", headers=headers, timeout=30
    )
    if answer.status_code == 404:
        return None
    answer.raise_for_status()
    return packages.sha256(answer.content)


def outcomes(load: Load) -> dict[str, list[str]]:
    """Package → the statuses of its executions."""
    found: dict[str, list[str]] = {}
    for execution in load.executions():
        found.setdefault(str(execution["name"]), []).append(str(execution["status"]))
    return found


def retry_builds(load: Load) -> None:
    """Try the failed stages again, as a person would after such a night; only lost builds may have failed."""
    for execution in load.executions(status=None):
        if execution["status"] != "Failed":
            continue
        url = f"{load.server.url}/api/v1/executions/{execution['id']}"
        detail = requests.get(url, headers=load.headers, timeout=10).json()
        (failed,) = [a for stage in detail["stages"] for a in stage["actions"] if a["status"] == "Failed"]
        assert failed["name"] == "Check", failed
        assert "FAULT" in failed["summary"], failed
        answer = requests.post(
            f"{url}/retry", json={"stage": "Build", "mode": "FAILED_ACTIONS"}, headers=load.headers, timeout=10
        )
        assert answer.status_code < 300, answer.text


@pytest.mark.campaign
@pytest.mark.slow
def test_nothing_is_lost_or_done_twice_under_kill_9(tmp_path: Path):
    print(f"ENTREPOT_SEED={SEED} ENTREPOT_KILLS={KILLS}")
    campaign(Server(tmp_path / "data", environment={"ENTREPOT_WORKER_LEASE_SECONDS": "4"}), KILLS)


def campaign(server: Server, kills: int) -> None:
    """Load a server that was not started yet, kill it ``kills`` times, and check everything that is promised."""
    moments = random.Random(SEED)
    server.start()
    load = Load(server, server.token("admin"))
    apply_pipeline(load)
    for number in range(1, kills + 1):
        # Most kills come at moments that fall as they may; every third waits for the uploads that a slow machine owes.
        load.run(moments.uniform(0.1, 2.5), acknowledged=0 if number % 3 and number < kills else number)
        server.start()
    settle(load)
    present = check_publishes(load)
    assert len(load.acknowledged) >= kills
    broken_off = check_executions(load, present)
    server.stop()
    assert server.fsck() == ""
    print(
        f"{kills} kills, {len(load.acknowledged)} acknowledged, {len(load.unknown)} of unknown outcome, "
        f"{len(present) - len(load.acknowledged)} of those there, {broken_off} builds broken off three times"
    )


def apply_pipeline(load: Load) -> None:
    answer = requests.put(
        f"{load.server.url}/api/v1/pipelines", json={"document": PIPELINE}, headers=load.headers, timeout=10
    )
    assert answer.status_code < 300, answer.text


def check_publishes(load: Load) -> dict[str, tuple[str, str]]:
    """What is there, by package, after checking that it is what it must be."""
    assert load.refused == []
    present = dict(load.acknowledged)
    for name, (filename, sha256) in load.acknowledged.items():
        assert digest_in(load.server, "dev", name, filename, load.headers) == sha256, name
    for name, (filename, sha256) in load.unknown.items():
        found = digest_in(load.server, "dev", name, filename, load.headers)
        assert found in {None, sha256}, name
        if found is not None:
            present[name] = (filename, sha256)
    return present


def check_executions(load: Load, present: dict[str, tuple[str, str]]) -> int:
    """One execution with one outcome for each version; returns how many builds had to be tried again by hand."""
    by_name = outcomes(load)
    assert {name: statuses for name, statuses in by_name.items() if len(statuses) != 1} == {}
    assert set(by_name) == set(present)
    assert {status for statuses in by_name.values() for status in statuses} <= {"Succeeded", "Failed"}
    broken_off = [name for name, statuses in by_name.items() if statuses == ["Failed"]]
    for name in broken_off:
        # The one outcome of a build whose worker was killed at each of its three attempts; nothing of it went out.
        assert digest_in(load.server, "prod", name, present[name][0], load.headers) is None, name
    retry_builds(load)
    settle(load)
    assert outcomes(load) == {name: ["Succeeded"] for name in present}
    for name, (filename, sha256) in present.items():
        assert digest_in(load.server, "prod", name, filename, load.headers) == sha256, name
    return len(broken_off)
