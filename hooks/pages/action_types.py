"""Actions that others carry out: the types, who serves them, what waits; and the webhooks that actions can name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from flask import Blueprint, render_template
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hooks.models.action_job import ActionJob
from hooks.pipelines import action_webhooks, custom_types
from hooks.pipelines.action_jobs import JobStatus
from hooks.services import HookServices
from registry.access import Action, Identity, check
from registry.http import context
from registry.http.auth import page
from registry.pages.panels import AdministrationEntry

APPLY = "entrepot:ApplyPipelines"


def _may(who: Identity) -> bool:
    return who.may(Action.ADMIN, permission=APPLY)


ENTRY = AdministrationEntry(
    "Action types",
    "pipeline",
    "hook_pages.action_types",
    ("/action-types",),
    "Actions of pipelines that workers and webhooks carry out: who serves them, and what waits for them.",
    _may,
)


@dataclass(frozen=True, slots=True)
class Load:
    """The jobs of a type that have not ended: those that wait, the oldest of them, and those in progress."""

    waiting: int = 0
    oldest: datetime | None = None
    running: int = 0


class ActionTypePages:
    """The page. What it shows is made and changed by commands."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self, pages: Blueprint) -> None:
        """Add the route."""
        pages.add_url_rule("/action-types", "action_types", page(self.show))

    def show(self) -> str:
        """Types with their jobs, and webhooks. For those who may apply pipelines."""
        check(context.caller(), Action.ADMIN, permission=APPLY)
        with self._services.db.read() as session:
            loads = _loads(session)
            types = [
                (custom_types.type_of(row, custom_types.workers_of(session, row)), loads.get(row.id, Load()))
                for row in custom_types.list_types(session)
            ]
            webhooks = action_webhooks.list_webhooks(session)
        return render_template("action_types.html", types=types, webhooks=webhooks)


def _loads(session: Session) -> dict[int, Load]:
    counted = session.execute(
        select(ActionJob.action_type_id, ActionJob.status, func.count(), func.min(ActionJob.available_at))
        .where(ActionJob.ended_at.is_(None))
        .group_by(ActionJob.action_type_id, ActionJob.status)
    )
    found: dict[int, Load] = {}
    for type_id, status, count, oldest in counted:
        if type_id is None:
            continue  # the jobs of webhooks
        was = found.get(type_id, Load())
        if status == JobStatus.IN_PROGRESS:
            found[type_id] = Load(was.waiting, was.oldest, count)
        else:
            since = min(oldest, was.oldest) if was.oldest is not None else oldest
            found[type_id] = Load(was.waiting + count, since, was.running)
    return found
