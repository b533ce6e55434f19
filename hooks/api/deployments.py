"""Deployments under CodeDeploy's names: create, look at, stop, continue; and pause, resume, retry, roll back, skip."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from enum import Enum
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.api.deployment_shapes import (
    AnswerFailure,
    ContinueDeployment,
    DeploymentBatch,
    DeploymentDetails,
    DeploymentList,
    DeploymentPreview,
    DeploymentQuery,
    NewDeployment,
    RetryDeployment,
    SkipEvent,
    StopDeployment,
    TargetList,
    TargetQuery,
)
from hooks.deployments import engine, views, wanted
from hooks.deployments.applications import find_group
from hooks.deployments.documents.request import parse_request
from hooks.deployments.engine import Answer, WaitType
from hooks.deployments.revisions import label
from hooks.deployments.rights import may_see, visible_application, visible_deployment
from hooks.deployments.rows import BLUE, GREEN
from hooks.deployments.target_list import open_log
from hooks.deployments.views import DeploymentDetail, TargetView
from hooks.deployments.waiting import wait_reasons
from hooks.models.deployment import Deployment, DeploymentApplication
from hooks.services import HookServices
from registry.access import Identity
from registry.api import coordinates, shapes
from registry.api.routes import Route
from registry.errors import Invalid, NotFound
from registry.http import context
from registry.http.auth import signed_in_api

Word = TypeVar("Word", bound=Enum)


class DeploymentViews:
    """The operations on deployments. They belong to applications, and those to domains."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self) -> tuple[Route, ...]:
        """The part of the table."""
        one, door, answer = "/deployments/<deployment_id>", signed_in_api, DeploymentDetail
        target = f"{one}/targets/<id:target_id>"
        return (
            Route("GET", "/deployments", door, self.list_deployments, query=DeploymentQuery, answer=DeploymentList),
            Route("POST", "/deployments", door, self.create_deployment, body=NewDeployment, answer=answer, status=201),
            Route("POST", "/deployments/preview", door, self.preview_deployment, body=NewDeployment, answer=DeploymentPreview),
            Route("POST", "/deployments/batch", door, self.get_deployments, body=DeploymentBatch, answer=DeploymentDetails),
            Route("GET", one, door, self.show_deployment, answer=answer),
            Route("POST", f"{one}/stop", door, self.stop_deployment, body=StopDeployment, answer=answer,
                  body_is_optional=True),
            Route("POST", f"{one}/continue", door, self.continue_deployment, body=ContinueDeployment, answer=answer,
                  body_is_optional=True),
            Route("POST", f"{one}/pause", door, self.pause_deployment, answer=answer),
            Route("POST", f"{one}/resume", door, self.resume_deployment, answer=answer),
            Route("POST", f"{one}/retry", door, self.retry_deployment, body=RetryDeployment, answer=answer, status=201,
                  body_is_optional=True),
            Route("POST", f"{one}/rollback", door, self.roll_back_deployment, answer=answer),
            Route("GET", f"{one}/targets", door, self.list_deployment_targets, query=TargetQuery, answer=TargetList),
            Route("GET", target, door, self.show_deployment_target, answer=TargetView),
            Route("POST", f"{target}/skip", door, self.skip_lifecycle_event, body=SkipEvent, answer=answer),
            Route("POST", f"{target}/answer", door, self.answer_failed_target, body=AnswerFailure, answer=answer),
        )  # fmt: skip

    # --- looking

    def list_deployments(self, query: DeploymentQuery) -> DeploymentList:
        """Deployments of domains that the caller may read, the newest first (ListDeployments)."""
        statuses = tuple(query.status.split(",")) if query.status is not None else ()
        if not set(statuses) <= set(views.STATUSES):
            raise Invalid(f"status is of {', '.join(views.STATUSES)}")
        if query.group is not None and query.application is None:
            raise Invalid("a group is one of an application; say which")
        caller, group_id = context.caller(), None
        with self._services.db.read() as session:
            if query.application is not None:
                application = visible_application(session, query.application, caller)
                ids = [application.id]
                if query.group is not None:
                    group_id = find_group(session, application, query.group).id
            else:
                known = session.execute(select(DeploymentApplication.id, DeploymentApplication.domain)).all()
                domains = {domain: may_see(caller, domain) for domain in {row.domain for row in known}}
                ids = [row.id for row in known if domains[row.domain]]
            after = visible_deployment(session, query.after, caller)[0] if query.after is not None else None
            rows = views.page_of(
                session, application_ids=ids, group_id=group_id, statuses=statuses, after=after, limit=query.limit + 1
            )
            shown = tuple(views.summaries(session, rows[: query.limit]))
        return DeploymentList(shown, shown[-1].deployment_id if len(rows) > len(shown) else None)

    def show_deployment(self, deployment_id: str) -> DeploymentDetail:
        """A deployment (GetDeployment)."""
        with self._services.db.read() as session:
            return self._details(session, [visible_deployment(session, deployment_id, context.caller())[0]])[0]

    def get_deployments(self, body: DeploymentBatch) -> DeploymentDetails:
        """Several deployments (BatchGetDeployments); what the caller may not see, or is not there, is left out."""
        caller = context.caller()
        found: list[Deployment] = []
        with self._services.db.read() as session:
            for deployment_id in dict.fromkeys(body.deployment_ids):
                with suppress(NotFound):
                    found.append(visible_deployment(session, deployment_id, caller)[0])
            return DeploymentDetails(tuple(self._details(session, found)))

    def _details(self, session: Session, rows: Sequence[Deployment]) -> list[DeploymentDetail]:
        waits = wait_reasons(session, rows, self._services.deployments.patience, self._services.clock())
        return [views.detail(session, row, waits.get(row.id, ())) for row in rows]

    def list_deployment_targets(self, deployment_id: str, query: TargetQuery) -> TargetList:
        """The targets of a deployment with their lifecycle events (ListDeploymentTargets, BatchGetDeploymentTargets)."""
        statuses = tuple(query.status.split(",")) if query.status is not None else ()
        if not set(statuses) <= set(views.TARGET_STATUSES):
            raise Invalid(f"status is of {', '.join(views.TARGET_STATUSES)}")
        if query.label not in {None, BLUE, GREEN}:
            raise Invalid(f"label is {BLUE} or {GREEN}")
        with self._services.db.read() as session:
            visible_deployment(session, deployment_id, context.caller())
            found = views.targets(
                session,
                deployment_id,
                after=query.after,
                limit=query.limit + 1,
                statuses=statuses,
                label=query.label,
                open_log=partial(open_log, self._services.deployments),
            )
        shown = tuple(found[: query.limit])
        return TargetList(shown, query.after + len(shown) if len(found) > len(shown) else None)

    def show_deployment_target(self, deployment_id: str, target_id: int) -> TargetView:
        """One target of a deployment (GetDeploymentTarget)."""
        with self._services.db.read() as session:
            visible_deployment(session, deployment_id, context.caller())
            return views.target(session, deployment_id, target_id, partial(open_log, self._services.deployments))

    # --- making

    def create_deployment(self, body: NewDeployment) -> DeploymentDetail:
        """Deploy a revision to a group (CreateDeployment); what is deployed is pinned by its SHA-256.

        Needs `entrepot:CreateDeployment` on the application's domain, and to read what the revision brings. Another one of
        the group that goes on is waited for (Queued).
        """
        caller, services = context.caller(), self._services
        parsed = parse_request(json.dumps(_document(shapes.write(body))))
        with services.db.write() as session:
            row = wanted.create(session, services.deployments, caller, parsed, _canonical, services.clock())
            return self._details(session, [row])[0]

    def preview_deployment(self, body: NewDeployment) -> DeploymentPreview:
        """What a deployment would do: which targets it would go to in which order, and what they have now.

        Nothing is changed. Needs to see the application, and to read what the revision brings.
        """
        caller, services = context.caller(), self._services
        parsed = parse_request(json.dumps(_document(shapes.write(body))))
        with services.db.read() as session:
            found = wanted.look_up(session, services.deployments, caller, parsed, _canonical, services.clock())
            items = wanted.planned(session, services.deployments, found)
        return DeploymentPreview(found.revision, label(found.revision), found.config_name, found.config, tuple(items))

    # --- steering

    def stop_deployment(self, deployment_id: str, body: StopDeployment) -> DeploymentDetail:
        """Stop a deployment (StopDeployment): nothing more begins, and it is Stopped when what runs has ended.

        Needs `entrepot:CreateDeployment` on the application's domain.
        """
        rolls_back = body.auto_rollback_enabled
        return self._steer(
            deployment_id,
            lambda session, who, now: engine.stop(
                session, self._services.deployments, deployment_id, now, actor=who, rolls_back=rolls_back
            ),
        )

    def continue_deployment(self, deployment_id: str, body: ContinueDeployment) -> DeploymentDetail:
        """End a wait of a blue/green deployment (ContinueDeployment). Needs what stopping needs."""
        wait = _word(WaitType, body.deployment_wait_type, "deploymentWaitType")
        return self._steer(
            deployment_id,
            lambda session, who, now: engine.continue_deployment(
                session, self._services.deployments, deployment_id, wait, now, actor=who
            ),
        )

    def pause_deployment(self, deployment_id: str) -> DeploymentDetail:
        """Let nothing more of a deployment begin until it is resumed. Needs what stopping needs."""
        return self._steer(
            deployment_id,
            lambda session, who, now: engine.pause(session, self._services.deployments, deployment_id, now, actor=who),
        )

    def resume_deployment(self, deployment_id: str) -> DeploymentDetail:
        """Go on with a paused deployment. Needs what stopping needs."""
        return self._steer(
            deployment_id,
            lambda session, who, now: engine.resume(session, self._services.deployments, deployment_id, now, actor=who),
        )

    def retry_deployment(self, deployment_id: str, body: RetryDeployment) -> DeploymentDetail:
        """Deploy the same again to the targets alone that did not succeed: a new deployment, which is the answer.

        Needs what creating it needs.
        """

        def retry(session: Session, who: str, now: datetime) -> Deployment:
            parts, skips = self._services.deployments, tuple(body.skip_events)
            return engine.retry_failed(session, parts, deployment_id, now, actor=who, skips=skips)

        return self._steer(deployment_id, retry, brings=lambda row: row.revision)

    def roll_back_deployment(self, deployment_id: str) -> DeploymentDetail:
        """Bring back what was there before a deployment: by a new one, which is the answer.

        One that goes on is stopped first, and the answer is that one. Needs what creating it needs.
        """
        return self._steer(
            deployment_id,
            lambda session, who, now: engine.rollback(
                session, self._services.deployments, deployment_id, now, actor=who
            ),
            brings=lambda row: row.previous_revision,
        )

    def skip_lifecycle_event(self, deployment_id: str, target_id: int, body: SkipEvent) -> DeploymentDetail:
        """Pass over a script of the release that goes (a stuck ApplicationStop) on one target. Needs what stopping needs."""

        def skip(session: Session, who: str, now: datetime) -> Deployment:
            name = views.find_target(session, deployment_id, target_id).name
            event = body.lifecycle_event_name
            return engine.skip_event(session, self._services.deployments, deployment_id, name, event, now, actor=who)

        return self._steer(deployment_id, skip)

    def answer_failed_target(self, deployment_id: str, target_id: int, body: AnswerFailure) -> DeploymentDetail:
        """Say what becomes of a target that failed under guided failure. Needs what stopping needs."""
        answer = _word(Answer, body.answer, "answer")

        def say(session: Session, who: str, now: datetime) -> Deployment:
            name = views.find_target(session, deployment_id, target_id).name
            parts = self._services.deployments
            return engine.answer_failure(session, parts, deployment_id, name, answer, now, actor=who)

        return self._steer(deployment_id, say)

    def _steer(
        self,
        deployment_id: str,
        act: Callable[[Session, str, datetime], Deployment],
        *,
        brings: Callable[[Deployment], Mapping[str, Any] | None] = lambda _row: None,
    ) -> DeploymentDetail:
        caller, services = context.caller(), self._services

        def unit(session: Session) -> DeploymentDetail:
            done = wanted.steer(session, caller, deployment_id, act, services.clock(), brings=brings)
            return self._details(session, [done])[0]

        # A worker that ends a job has the job before the deployment: the one of the two that is turned away asks again.
        return services.db.retry(unit)


def _canonical(session: Session, caller: Identity, package: Mapping[str, Any], domain: str) -> dict[str, str]:
    return coordinates.find_readable(session, context.services().formats, caller, package, domain)


def _document(value: Any) -> Any:
    """A shape's JSON without what was left out."""
    if isinstance(value, Mapping):
        return {name: _document(entry) for name, entry in value.items() if entry is not None}
    return [_document(entry) for entry in value] if isinstance(value, list) else value


def _word(words: type[Word], text: str, what: str) -> Word:
    try:
        return words(text)
    except ValueError:
        raise Invalid(f"{what} is {' or '.join(str(word.value) for word in words)}") from None
