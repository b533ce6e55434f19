"""Standing builds as rows: written by who runs one, ended by who resumes it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from hooks.builds.phases import BuildStatus
from hooks.jobs.context import OUTAGES
from hooks.models.build import Build
from registry.clock import Clock
from registry.db import Database
from registry.errors import Conflict

LOG = logging.getLogger(__name__)
_LOOK_SECONDS = 0.5


class StoredSession:
    """Implements ``DebugSession`` by the build's row. ``step`` runs a unit while the build's job is held."""

    def __init__(
        self, db: Database, step: Callable[[Callable[[Session], Any]], Any], build_id: str, clock: Clock
    ) -> None:
        self._db = db
        self._step = step
        self._build_id = build_id
        self._clock = clock
        self._is_written = False
        self._look_at = 0.0

    def stands(self) -> None:
        """As ``DebugSession``. While the database is away it is written later."""
        self._is_written = self._write(self._clock())
        self._look_at = time.monotonic() + _LOOK_SECONDS

    def goes_on(self) -> bool:
        """As ``DebugSession``."""
        if time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + _LOOK_SECONDS
        if not self._is_written:
            self._is_written = self._write(self._clock())
            return False
        try:
            with self._db.read() as session:
                return session.scalar(select(Build.paused_at).where(Build.id == self._build_id)) is None
        except OUTAGES as error:
            LOG.warning("whether build %s goes on cannot be told now: %s", self._build_id, error)
            return False

    def moved(self) -> None:
        """As ``DebugSession``."""
        self._write(None)

    def _write(self, paused_at: datetime | None) -> bool:
        change = update(Build).where(Build.id == self._build_id).values(paused_at=paused_at)
        try:
            self._step(lambda session: session.execute(change, execution_options={"synchronize_session": False}))
        except OUTAGES as error:
            LOG.warning("that build %s stands cannot be written now: %s", self._build_id, error)
            return False
        return True


def resume(session: Session, build: Build) -> None:
    """Let a standing build go on. Raises Conflict for one that does not stand."""
    mine = (Build.id == build.id) & (Build.status == BuildStatus.IN_PROGRESS.value) & Build.paused_at.is_not(None)
    moved = session.scalar(
        update(Build).where(mine).values(paused_at=None).returning(Build.id),
        execution_options={"synchronize_session": False},
    )
    if moved is None:
        raise Conflict(f"build {build.id} stands at no breakpoint")
    session.expire(build)
