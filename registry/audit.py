"""The audit log's one door: an entry is written in the transaction of the change it tells of."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from registry import events
from registry.models.audit import AuditEntry


def record(session: Session, now: datetime, actor: str, action: str, obj: str, **details: Any) -> None:
    """Add an entry: ``actor`` did ``action`` (dotted word) to ``obj`` (a path); ``details`` hold no secret.

    Those that ``events.audited`` names become events as well.
    """
    session.add(AuditEntry(at=now, actor=actor, action=action, object=obj[:500], details=details))
    events.follow(session, now, actor, action, obj, details)
