"""Keeps the reports of a running build, each step under its job's fence."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.orm import Session

from hooks.builds import report_store
from hooks.builds.logs import Sealer
from hooks.builds.reports.result import ReportResult
from hooks.builds.run import Abandoned
from hooks.jobs.context import OUTAGES, JobContext
from registry.clock import Clock

LOG = logging.getLogger(__name__)
T = TypeVar("T")

_PAUSE_SECONDS = 0.5


class ReportWriter:
    """Writes the reports of one build."""

    def __init__(self, job: JobContext, build_id: str, sealer: Sealer, clock: Clock) -> None:
        self._job = job
        self._build_id = build_id
        self._sealer = sealer
        self._clock = clock

    def write(self, result: ReportResult) -> str:
        """Keep a report; why it is not taken, else empty. A batch is one transaction. Raises LeaseLost, Abandoned."""
        now = self._clock()
        report_id, fault = self._step(lambda session: report_store.begin_report(session, self._build_id, result, now))
        if report_id is None or fault:
            return fault
        writer = report_store.EntryWriter(self._sealer, report_id)
        for batch in result.batches():
            rows = writer.rows(batch)
            self._step(lambda session, rows=rows: writer.write(session, rows))  # type: ignore[misc]
        self._step(lambda session: report_store.end_report(session, report_id, result))
        return ""

    def _step(self, unit: Callable[[Session], T]) -> T:
        """One transaction; while the database is away, again and again: each unit may be repeated."""
        while True:
            try:
                return self._job.step(unit)
            except OUTAGES as error:
                LOG.warning("a report of build %s has to wait: %s", self._build_id, error)
            if self._job.stop_reason() == "lost":
                raise Abandoned(self._build_id)
            time.sleep(_PAUSE_SECONDS)
