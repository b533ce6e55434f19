"""A worker process that carries deployments out, to be killed: ``python -m tests.fakes.deployment_worker DATABASE_URL``."""

from __future__ import annotations

import random
import sys
import time
from datetime import UTC, datetime

from hooks.deployments import jobs
from hooks.deployments.parts import Parts
from hooks.deployments.platform import Later
from hooks.deployments.platforms.dummy import DummyPlatform, failed
from hooks.deployments.targets import QUEUE
from hooks.jobs.worker import Worker
from registry.db import Database
from tests.fakes.deployments import PlainSealer


class Unsteady(DummyPlatform):
    """Takes its time, does some things in two steps, and fails on targets whose names say so."""

    def carry_out(self, about, target, event, is_stopped):
        time.sleep(random.uniform(0, 0.02))
        if target.name.startswith("bad") and event == "Install":
            return failed(event)
        if event == "Install" and "begun" not in target.details:
            return Later(0.01, {"begun": True})
        return super().carry_out(about, target, event, is_stopped)


def worker(database: Database, name: str, lease_seconds: float = 2.0) -> Worker:
    """A worker of deployments' queue."""
    parts = Parts({"Server": Unsteady()}, lambda: datetime.now(UTC), PlainSealer())
    return Worker(
        database,
        jobs.handlers(parts),
        slots=3,
        queues=(QUEUE,),
        poll_seconds=0.05,
        lease_seconds=lease_seconds,
        heartbeat_seconds=lease_seconds / 6,
        reap_seconds=0.2,
        first_retry_seconds=0.01,
        name=name,
    )


if __name__ == "__main__":
    made = worker(Database(sys.argv[1]), "to be killed")
    made.start()
    print("running", flush=True)
    time.sleep(3600)
