"""The worker process: it is given its handlers and its rounds here, and works until it is told to end."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from config import deploying, executors, migrate, notifying, sqlite, wiring
from config.settings import Settings
from hooks.builds import output_care, report_store
from hooks.builds import records as build_records
from hooks.builds.executor import Executor
from hooks.builds.executors.process import ProcessExecutor
from hooks.builds.runners import JobsFor
from hooks.deployments import targets as deployment_targets
from hooks.jobs.claims import Only
from hooks.jobs.worker import Worker
from hooks.notifications import fanout
from hooks.pipelines.actions import git as source_actions
from hooks.pipelines.actions import publish
from hooks.pipelines.archive_care import expire_archives
from hooks.pipelines.parts import Parts
from hooks.triggers import dispatch, scheduling
from registry.db import Database
from registry.repos import care, evict
from registry.services import Services

log = logging.getLogger("entrepot.worker")

DISPATCH_SECONDS = 0.2
SWEEP_SECONDS = 3600.0
IDLE_SECONDS = 5.0
LOST_SECONDS = 5.0
CHECKPOINT_SECONDS = 15.0
PUBLISHING_SLOTS = 2
POLL_SECONDS = 15.0
SCHEDULE_SECONDS = 5.0
SOURCE_SLOTS = 2
"""So many sources of pipelines are fetched at a time; builds do not wait for them, nor they for builds."""
Rounds = Sequence[tuple[float, Callable[[], None]]]


class Crew:
    """The workers of this process, one for each queue. One whose job has ended lets all others look at once."""

    def __init__(self, settings: Settings, db: Database) -> None:
        self._settings = settings
        self._db = db
        self.workers: list[Worker] = []

    def nudge(self) -> None:
        """Let all of them look for jobs now."""
        for each in self.workers:
            each.nudge()

    def hire(
        self,
        jobs: wiring.JobTable,
        queue: str,
        slots: int,
        periodic: Rounds = (),
        only: Only = None,
    ) -> None:
        """Add a worker of ``queue``, which does ``periodic`` as well; of the jobs it takes ``only`` those."""
        lease_seconds = self._settings.worker.lease_seconds
        self.workers.append(
            Worker(
                self._db,
                jobs.handlers,
                settle=jobs.settle,
                slots=slots,
                queues=(queue,),
                poll_seconds=self._settings.worker.poll_seconds,
                lease_seconds=lease_seconds,
                heartbeat_seconds=lease_seconds / 6,
                name=f"{socket.gethostname()} {queue}",
                periodic=periodic,
                on_ended=self.nudge,
                only=only,
            )
        )


def run(settings: Settings, *, is_alone: bool = True) -> int:
    """Work until SIGTERM or SIGINT; returns the exit status. One that is not alone has ``serve`` to say what it found.

    Raises Unavailable or SQLAlchemy's DBAPIError when the database cannot be used, StorageError when the keys cannot.
    """
    services = wiring.services(settings)
    migrate.require_current(services.db)
    if is_alone:
        sqlite.warn(settings)
    if settings.routers:
        from config import routers  # only where there are any

        routers.prepare(routers.routers(settings.routers))
    checkpoints = wiring.checkpointer(settings, services.db, services.signer)
    hook_services = wiring.hook_services(services, settings)
    parts = hook_services.actions
    crew, consumers = Crew(settings, services.db), notifying.consumers(settings, services)
    rounds = (
        (DISPATCH_SECONDS, lambda: _dispatch(services, consumers, crew.nudge)),
        (IDLE_SECONDS, lambda: _finish_idle(services)),
        (min(CHECKPOINT_SECONDS, settings.audit.checkpoint_minutes * 60), checkpoints.round),
        (SCHEDULE_SECONDS, lambda: _run_schedules(services, parts, crew.nudge)),
        (SWEEP_SECONDS, lambda: _sweep(services, settings)),
    )
    services.stores.warm()
    general, keys = wiring.general_jobs(parts), wiring.key_jobs(services)
    combining = wiring.combining_jobs(settings, services, parts)
    jobs = wiring.JobTable(
        {**general.handlers, **keys.handlers, **combining.handlers},
        {**general.settle, **keys.settle, **combining.settle},
    )
    crew.hire(jobs, "default", settings.worker.slots, rounds)
    # Receivers and the mail server may be slow: they have slots of their own, which nothing else waits for.
    notices, due = wiring.notification_jobs(settings, services), notifying.rounds(settings, services)
    crew.hire(notices, fanout.QUEUE, settings.webhooks.slots, due)
    # Registries elsewhere may be slow, and files large.
    crew.hire(wiring.publishing_jobs(parts), publish.QUEUE, PUBLISHING_SLOTS)
    # Routers, container hosts and what is checked may be slow: they have slots of their own as well.
    deployments = wiring.deployment_jobs(hook_services.deployments)
    crew.hire(deployments, deployment_targets.QUEUE, settings.deployments.slots)
    available = _that_can_build(executors.executors(settings))
    builds = wiring.build_jobs(settings, services, parts, available)
    if ProcessExecutor.name in available:
        fetches, polling = wiring.source_jobs(settings, services, parts)
        crew.hire(fetches, source_actions.QUEUE, SOURCE_SLOTS, ((POLL_SECONDS, polling.round),))
    # Also where none runs here: somebody has to notice that a runner elsewhere fell silent.
    slots, only = settings.builds.slots if available else 0, JobsFor(tuple(available))
    crew.hire(builds, build_records.QUEUE, slots, ((LOST_SECONDS, hook_services.runners.work.close_lost),), only=only)
    _work(crew.workers, settings.worker.drain_seconds)
    services.db.close()
    return 0


def _sweep(services: Services, settings: Settings) -> None:
    """Let go of what has had its time, then of the bodies that nothing refers to any more."""
    evict.forget_dead_pages(services.db, services.clock())
    if settings.storage.cache_limit_bytes:
        evict.evict(services.db, settings.storage.cache_limit_bytes, services.clock(), dry_run=False)
    deploying.forget_old(services, settings)
    output_care.expire(services.db, wiring.retention(settings), services.clock())
    expire_archives(services.db, settings.builds.artifact_keep_days, services.clock())
    before = services.clock() - timedelta(hours=settings.storage.sweep_grace_hours)
    care.sweep(services.db, services.stores, older_than=before, dry_run=False)
    _forget_reports(services, settings.builds.report_days)


def _work(workers: Sequence[Worker], drain_seconds: float) -> None:
    """Let them work until somebody ends this process."""
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    for each in workers:
        each.start()
    told.wait()
    for each in workers:
        each.drain(drain_seconds)
    for each in workers:
        each.join(drain_seconds + 15)


def _that_can_build(table: Mapping[str, Executor]) -> Mapping[str, Executor]:
    """Attack a sandbox of our own first: an executor whose sandbox holds nothing back gets no builds."""
    available = {}
    for name, executor in table.items():
        found = executor.available()
        if found.ok:
            log.info("builds run here (%s): %s", name, found.reason)
            available[name] = executor
        else:
            log.error("no builds run here (%s): %s", name, found.reason)
    return available


def _forget_reports(services: Services, days: int) -> None:
    if days:
        old = services.clock() - timedelta(days=days)
        while services.db.retry(lambda session: report_store.forget_old(session, old)):
            log.info("reports of builds from before %s are being removed", old)


def _finish_idle(services: Services) -> None:
    services.idle.finish()


def _run_schedules(services: Services, parts: Parts, nudge: Callable[[], None]) -> None:
    if scheduling.run_due(services.db, parts):
        nudge()


def _dispatch(services: Services, consumers: Sequence[dispatch.Consumer], nudge: Callable[[], None]) -> None:
    if dispatch.dispatch(services.db, services.clock(), consumers):
        nudge()
