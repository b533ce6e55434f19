"""Many executions while servers and workers are killed, leases are lost, and everybody clicks twice: one end for each.

Two workers carry jobs out: the server's own, which is killed with it, and ``entrepot worker``, which is killed by itself or
frozen for longer than its lease, so that it comes back with what nobody may take from it. Approvals are answered by
several at once, each of them twice. What must hold: every version has one execution with one end, every approval one answer
that was accepted, every stage one end for each attempt, and what went to ``prod`` are the bytes that came to ``dev``.

``make campaign`` runs it with 1,000 executions; ``ENTREPOT_EXECUTIONS`` says another number, ``ENTREPOT_SEED`` replays a
run's moments. The short form, of kills of a server alone, is ``test_kill_campaign.py``.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from sqlalchemy import select

from hooks.models.pipeline import Execution, StageExecution
from registry.db import Database
from registry.models import AuditEntry, Event
from tests.faults.test_kill_campaign import (
    SEED,
    SETTLE_SECONDS,
    Load,
    apply_pipeline,
    check_executions,
    check_publishes,
    settle,
)
from tests.harness.server import Server
from tests.harness.workers import Worker

EXECUTIONS = int(os.environ.get("ENTREPOT_EXECUTIONS", "1000"))
LEASE_SECONDS = 4.0


class Crowd(Load):
    """Publishes like ``Load``, and answers each approval by several people at once, each with two clicks."""

    def __init__(self, server: Server, token: str) -> None:
        super().__init__(server, token)
        self.accepted: Counter[int] = Counter()
        self.clicks = ThreadPoolExecutor(4)

    def approve(self, execution_id: int) -> None:
        for answer in [self.clicks.submit(self._click, execution_id) for _ in range(4)]:
            answer.result()

    def _click(self, execution_id: int) -> None:
        url = f"{self.server.url}/api/v1/executions/{execution_id}/approval"
        wanted = {"stage": "Approve", "action": "Ask", "verdict": "Approved", "comment": ""}
        with contextlib.suppress(requests.RequestException):
            answer = requests.post(url, json=wanted, headers=self.headers, timeout=60)
            if answer.status_code < 300:
                with self.lock:
                    self.accepted[execution_id] += 1

    def work_while(self, hurt: threading.Event) -> list[threading.Thread]:
        """Publish and approve in threads of their own until ``hurt`` is set."""
        self.stopping = hurt
        threads = [threading.Thread(target=self.publish_forever, daemon=True) for _ in range(2)]
        threads.append(threading.Thread(target=self.approve_forever, daemon=True))
        for thread in threads:
            thread.start()
        return threads


def faults_of(server: Server, accepted: Counter[int]) -> list[str]:
    """What is not as it has to be, by the rows."""
    db = Database(f"sqlite:///{server.data}/entrepot.db")
    found = [f"execution {each}: {count} answers were accepted" for each, count in accepted.items() if count > 1]
    try:
        with db.read() as session:
            answers = Counter(
                session.scalars(select(AuditEntry.object).where(AuditEntry.action == "approval.approved"))
            )
            told = Counter(
                (event.payload["execution"], event.kind)
                for event in session.scalars(select(Event).where(Event.kind.in_(["execution.succeeded"])))
            )
            stages = Counter((row.execution_id, row.name) for row in session.scalars(select(StageExecution)))
            for row in session.scalars(select(Execution)):
                if answers[f"pipeline/release/execution/{row.id}"] != 1:
                    found.append(f"execution {row.id}: {answers}")
                if told[row.id, "execution.succeeded"] != 1 or row.status != "Succeeded":
                    found.append(
                        f"execution {row.id}: {row.status}, {told[row.id, 'execution.succeeded']} ends were told"
                    )
    finally:
        db.close()
    return found + [f"{place}: {count} rows" for place, count in stages.items() if count > 1]


@pytest.mark.campaign
@pytest.mark.long
def test_each_execution_has_one_end(tmp_path: Path) -> None:
    environment = {"ENTREPOT_WORKER_LEASE_SECONDS": str(LEASE_SECONDS)}
    server = Server(tmp_path / "data", environment=environment)
    other, moments, faults = Worker(server), random.Random(SEED), Counter[str]()
    server.start()
    other.start()
    crowd = Crowd(server, server.token("admin"))
    apply_pipeline(crowd)
    try:
        while len(crowd.acknowledged) < EXECUTIONS:
            over = threading.Event()
            threads = crowd.work_while(over)
            fault = moments.choice(["kill server", "kill worker", "freeze worker"])
            time.sleep(moments.uniform(0.5, 4))
            faults[fault] += 1
            if fault == "kill server":
                server.kill()
            elif fault == "kill worker":
                other.kill()
            else:
                other.freeze(LEASE_SECONDS + 1)
            over.set()
            for thread in threads:
                thread.join(SETTLE_SECONDS)
            if fault == "kill server":
                server.start()
            elif fault == "kill worker":
                other.start()
        settle(crowd)
        check_executions(crowd, check_publishes(crowd))
        assert faults_of(server, crowd.accepted) == []
        # The checker objects to what it is there for.
        twice = crowd.accepted + Counter({next(iter(crowd.accepted)): 1})
        assert faults_of(server, twice) != []
        other.stop()
        server.stop()
        assert server.fsck() == ""
        print(
            f"{len(crowd.acknowledged)} executions, {dict(faults)}, {sum(crowd.accepted.values())} answers, seed {SEED}"
        )
    finally:
        other.kill()
        server.kill()
