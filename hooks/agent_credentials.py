"""Credentials of deployment agents, and of alarms, where they must not be: what ends one that is found.

An agent proves itself by its private key, which is no text of ours; what it is known by in between is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from hooks.models.deployment import DeploymentAgent, DeploymentAlarm
from registry.leaks import Other

_ENROLMENT, _SESSION, _ALARM = "agent-enrolment", "agent-session", "alarm"


class AgentCredentials:
    """Implements ``registry.leaks.Keeper``: one-use tokens to enrol with, sessions, and what alarms are told with.

    What is found ends alone. An agent whose session has ended proves itself anew; whoever has the others asks for new ones.
    """

    def live(self, session: Session, digests: Collection[str], now: datetime) -> Sequence[Other]:
        """Those that open something now."""
        wanted, found = list(digests), []
        mine = DeploymentAgent.enrolment_digest.in_(wanted) | DeploymentAgent.session_digest.in_(wanted)
        for row in session.scalars(select(DeploymentAgent).where(mine, DeploymentAgent.revoked_at.is_(None))):
            for digest, until, kind in (
                (row.enrolment_digest, row.enrolment_expires_at, _ENROLMENT),
                (row.session_digest, row.session_expires_at, _SESSION),
            ):
                if digest in digests and until is not None and until > now:
                    name = f"{kind.partition('-')[2]} of agent {row.name}"
                    found.append(Other(digest or "", kind, name, row.created_by, f"agent/{row.name}"))
        for alarm in session.scalars(select(DeploymentAlarm).where(DeploymentAlarm.token_digest.in_(wanted))):
            path = f"domain/{alarm.domain}/alarm/{alarm.name}"
            found.append(Other(alarm.token_digest or "", _ALARM, f"alarm {alarm.name}", alarm.created_by, path))
        return found

    def end(self, session: Session, found: Other, _now: datetime, _by: str) -> None:
        """Forget its digest: nothing opens what has none."""
        column = {
            _ENROLMENT: DeploymentAgent.enrolment_digest,
            _SESSION: DeploymentAgent.session_digest,
            _ALARM: DeploymentAlarm.token_digest,
        }[found.kind]
        session.execute(
            update(column.class_).where(column == found.digest).values({column.key: None}),
            execution_options={"synchronize_session": "fetch"},
        )
