"""Agents that have nothing to do: asked and answered with one query, and seen without a write for each.

Hundreds of idle agents ask every few seconds. What they are told, and that they were there, must cost next to nothing,
and yet a revoked one is refused at its next request: so nothing of who they are is kept in memory.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import bindparam, exists, func, select, update
from sqlalchemy.orm import Session

from hooks.deployments.agents import SESSION_LIFE
from hooks.deployments.parts import Patience
from hooks.deployments.planning import TargetStatus
from hooks.models.deployment import DeploymentAgent, DeploymentTarget
from registry.db import Database, table_of
from registry.errors import Unavailable

LOG = logging.getLogger(__name__)

IDLE_SECONDS = 5.0
"""When an idle agent asks again, as long as there are not too many."""
WAITING_SECONDS = 2.0
"""When one asks again to which a deployment that goes on is still to come."""
LONGEST_SECONDS = 15.0
IDLE_POLLS_PER_SECOND, WAITING_POLLS_PER_SECOND = 40, 100
"""What all agents together may ask for in a second: with more of them each asks less often, up to ``LONGEST_SECONDS``."""
SEEN_GRAIN = timedelta(seconds=20)
WRITE_AFTER = timedelta(seconds=10)
"""So old a sighting is written down; both and the longest wait stay below ``Patience.silent`` together."""

_LATE = 2 / 3
"""Of ``Patience.silent``: more than a usual wait and its writing take, and a longest wait before the end of it."""

_USUAL_SILENT_SECONDS = Patience().silent
_AGENTS, _TARGETS = table_of(DeploymentAgent), table_of(DeploymentTarget)
_MINE = _TARGETS.c.agent_id == _AGENTS.c.id
# One statement for each request of an idle agent, made once. It finds a session that counts, or nothing.
_BY_SESSION = select(
    _AGENTS.c.id,
    _AGENTS.c.session_expires_at,
    _AGENTS.c.seen_at,
    exists().where(_MINE, _TARGETS.c.status == TargetStatus.IN_PROGRESS.value).label("is_going"),
    exists().where(_MINE, _TARGETS.c.status == TargetStatus.PENDING.value).label("is_waiting"),
).where(
    _AGENTS.c.session_digest == bindparam("digest"),
    _AGENTS.c.session_expires_at > bindparam("now"),
    _AGENTS.c.revoked_at.is_(None),
)
_IS_WAITING = select(
    exists().where(_TARGETS.c.agent_id == bindparam("agent"), _TARGETS.c.status == TargetStatus.PENDING.value)
)
_SEE = (
    update(_AGENTS)
    .where(
        _AGENTS.c.id == bindparam("agent"),
        # Written late it must not take a later one away.
        _AGENTS.c.seen_at.is_(None) | (_AGENTS.c.seen_at < bindparam("at")),
    )
    .values(seen_at=bindparam("at"))
)


class Presence:
    """Which agents are there, and how often they are to ask. One for each process; safe for many threads."""

    def __init__(self, db: Database, silent_seconds: float = _USUAL_SILENT_SECONDS) -> None:
        """Nothing is known yet: agents ask as often as few of them may.

        Where an agent is silent sooner than usual, it asks and is noted more often.
        """
        self._db = db
        self._silent = timedelta(seconds=silent_seconds)
        self._pace = min(1.0, silent_seconds / 60.0)
        self.longest_seconds = LONGEST_SECONDS * self._pace
        self._lock = threading.Lock()
        self._unwritten: dict[str, datetime] = {}
        self._oldest: datetime | None = None
        self._online = 0

    def poll(self, digest: str, now: datetime) -> tuple[str, float] | None:
        """The agent whose session has this digest, and in how many seconds it asks again: where there is nothing to do.

        None where there is, or where no such session counts; why, is for others to say.
        """
        found = self._db.first(_BY_SESSION, {"digest": digest, "now": now})
        if found is None or found.is_going:
            return None
        if found.is_waiting and (found.seen_at is None or now - found.seen_at > self._silent):
            return None  # a deployment may have waited for it to be heard of again
        self.note(found.id, found.seen_at, found.session_expires_at, now)
        return found.id, self.seconds(is_waiting=found.is_waiting)

    def seconds_of(self, agent_id: str) -> float:
        """In how many seconds an agent without work asks again."""
        found = self._db.first(_IS_WAITING, {"agent": agent_id})
        return self.seconds(is_waiting=found is not None and bool(found[0]))

    def seconds(self, *, is_waiting: bool) -> float:
        """In how many seconds an agent without work asks again; ``is_waiting`` for a deployment that goes on."""
        least, rate = (
            (WAITING_SECONDS, WAITING_POLLS_PER_SECOND) if is_waiting else (IDLE_SECONDS, IDLE_POLLS_PER_SECOND)
        )
        return round(min(max(least, self._online / rate), self.longest_seconds), 1)

    def note(self, agent_id: str, seen_at: datetime | None, expires_at: datetime | None, now: datetime) -> None:
        """An agent was there, of which the row says ``seen_at`` and when its session ends. Now and then this writes.

        The first sighting in a session is written at once: by it is told whether the session is in use, should another
        come with the same key. Raises Unavailable where that one cannot be written. One that comes late is written at once as
        well: together with others, whose process may end meanwhile, it would let the agent be taken for silent.
        """
        started_at = None if expires_at is None else expires_at - SESSION_LIFE
        is_first = seen_at is None or (started_at is not None and seen_at < started_at)
        if not is_first and seen_at is not None and now - seen_at < SEEN_GRAIN * self._pace:
            return
        is_late = seen_at is None or now - seen_at > self._silent * _LATE
        with self._lock:
            self._unwritten[agent_id] = now
            self._oldest = self._oldest or now
            if not (is_first or is_late) and now - self._oldest < WRITE_AFTER * self._pace:
                return
            waiting, self._unwritten, self._oldest = self._unwritten, {}, None
        try:
            self._online = self._written(waiting, now)
        except Unavailable as error:
            if is_first:
                raise
            LOG.warning("it is not written down which agents are there: %s", error)

    def _written(self, sightings: Mapping[str, datetime], now: datetime) -> int:
        """Write when agents were there; how many are."""
        with self._db.write() as session:
            # In one order, as all who lock several of these rows.
            session.execute(_SEE, [{"agent": agent, "at": at} for agent, at in sorted(sightings.items())])
            lately = (DeploymentAgent.seen_at > now - self._silent) & DeploymentAgent.revoked_at.is_(None)
            return session.scalar(select(func.count()).select_from(DeploymentAgent).where(lately)) or 0


def see(session: Session, agent_id: str, now: datetime) -> None:
    """Note that an agent was there, in the transaction of what it has told."""
    session.execute(_SEE, [{"agent": agent_id, "at": now}])
