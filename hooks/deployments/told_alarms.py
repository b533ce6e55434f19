"""Alarms whose state is told from outside (``type`` WEBHOOK), by domain and name. In the caller's transaction.

A deployment that such an alarm watches over looks at its state every few seconds (``hooks.deployments.watching``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hooks.deployments.health.alarms import AlarmState
from hooks.models.deployment import DeploymentAlarm
from registry import audit
from registry.errors import Conflict, Invalid, NotFound

MOST_ALARMS = 1000
_MOST_NAME = 255


def tell(
    session: Session, domain: str, name: str, state: str, *, reason: str, actor: str, now: datetime
) -> DeploymentAlarm:
    """Set the state of an alarm, which is made with the first one.

    Said again it counts as news for ``staleAfterSeconds`` and is no change. Raises Invalid, and Conflict for one alarm too
    many, or one that somebody else made at the same moment.
    """
    if state not in set(AlarmState):
        raise Invalid(f"a state is one of {', '.join(AlarmState)}")
    if not 0 < len(name) <= _MOST_NAME or not name.isprintable():
        raise Invalid(f"an alarm's name has 1 to {_MOST_NAME} characters, all printable")
    mine = DeploymentAlarm.domain == domain
    row = session.scalar(select(DeploymentAlarm).where(mine, DeploymentAlarm.name == name).with_for_update())
    is_change = row is None or (row.state, row.reason) != (state, reason)
    if row is None:
        if (session.scalar(select(func.count()).where(mine)) or 0) >= MOST_ALARMS:
            raise Conflict(f"domain {domain} has {MOST_ALARMS} alarms already")
        row = DeploymentAlarm(domain=domain, name=name, created_by=actor, created_at=now)
        session.add(row)
    row.state, row.reason, row.updated_at = state, reason, now
    try:
        session.flush()
    except IntegrityError as error:
        raise Conflict(f"alarm {name} was made meanwhile; tell its state again") from error
    if is_change:
        audit.record(session, now, actor, "deployment_alarm.set", f"{domain}/alarm/{name}", state=state, reason=reason)
    return row


def forget(session: Session, domain: str, name: str, *, actor: str, now: datetime) -> None:
    """Let go of an alarm: there is no data of it any more. Raises NotFound."""
    mine = (DeploymentAlarm.domain == domain, DeploymentAlarm.name == name)
    row = session.scalar(select(DeploymentAlarm).where(*mine).with_for_update())
    if row is None:
        raise NotFound("alarm", name[:_MOST_NAME])
    session.delete(row)
    audit.record(session, now, actor, "deployment_alarm.delete", f"{domain}/alarm/{name}", state=row.state)


def list_alarms(session: Session, domain: str) -> Sequence[DeploymentAlarm]:
    """The alarms of a domain by name."""
    rows = session.scalars(select(DeploymentAlarm).where(DeploymentAlarm.domain == domain))
    return sorted(rows, key=lambda row: row.name)
