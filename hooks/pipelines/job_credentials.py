"""Tokens of actions' jobs where they must not be: what ends one that is found."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from hooks.models.action_job import ActionJob
from hooks.models.pipeline import Execution, PipelineDefinitionVersion
from registry.leaks import Other

_KIND = "action-job"


class JobCredentials:
    """Implements ``registry.leaks.Keeper``. A token that is found opens nothing any more; its job goes on without.

    Who holds the job still says how it went, or its time runs out.
    """

    def live(self, session: Session, digests: Collection[str], now: datetime) -> Sequence[Other]:
        """Those that open something now."""
        rows = session.scalars(
            select(ActionJob).where(ActionJob.token_digest.in_(list(digests)), ActionJob.expires_at > now)
        )
        return [
            Other(
                row.token_digest or "", _KIND, f"job of {row.stage}/{row.action}", _owner(session, row), f"job/{row.id}"
            )
            for row in rows
        ]

    def end(self, session: Session, found: Other, _now: datetime, _by: str) -> None:
        """Forget it: nothing opens what has no digest."""
        session.execute(
            update(ActionJob)
            .where(ActionJob.token_digest == found.digest)
            .values(token_digest=None, sealed_token=None),
            execution_options={"synchronize_session": "fetch"},
        )


def _owner(session: Session, row: ActionJob) -> str:
    """Who is told of it: who wrote the definition that the job belongs to."""
    definition = select(Execution.definition_id).where(Execution.id == row.execution_id).scalar_subquery()
    author = select(PipelineDefinitionVersion.created_by).where(PipelineDefinitionVersion.id == definition)
    return session.scalar(author) or ""
