"""The answer of a deployment's hook: CodeDeploy's PutLifecycleEventHookExecutionStatus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sqlalchemy.orm import Session

from hooks.deployments import hook_answers
from hooks.deployments.rights import check_deploy, visible_deployment
from hooks.services import HookServices
from registry.api.routes import Route
from registry.api.shapes import Length
from registry.http import context
from registry.http.auth import signed_in_api


@dataclass(frozen=True, slots=True)
class HookStatus:
    """How a hook has ended: ``Succeeded`` or ``Failed``. The execution's id is the one that the webhook was told."""

    lifecycle_event_hook_execution_id: Annotated[str, Length(1, 100)]
    status: Annotated[str, Length(1, 20)]


@dataclass(frozen=True, slots=True)
class HookExecution:
    """An execution of a hook that has its answer."""

    deployment_id: str
    lifecycle_event_hook_execution_id: str
    lifecycle_event_name: str
    status: str


class DeploymentHookViews:
    """The operation on executions of hooks."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self) -> tuple[Route, ...]:
        """The part of the table."""
        path = "/deployments/<deployment_id>/hook-status"
        return (Route("PUT", path, signed_in_api, self.put_hook_status, body=HookStatus, answer=HookExecution),)

    def put_hook_status(self, deployment_id: str, body: HookStatus) -> HookExecution:
        """Say how a hook has ended (PutLifecycleEventHookExecutionStatus), once; another answer is refused.

        Needs `entrepot:CreateDeployment` on the application's domain, and the id of the execution.
        """
        caller, services = context.caller(), self._services

        def unit(session: Session) -> hook_answers.Answered:
            _, application = visible_deployment(session, deployment_id, caller)
            check_deploy(caller, application.domain)
            return hook_answers.answer(
                session,
                services.deployments,
                deployment_id,
                body.lifecycle_event_hook_execution_id,
                body.status,
                services.clock(),
                actor=caller.name,
            )

        # A worker that looks at the event has its job before the deployment: the one that is turned away asks again.
        done = services.db.retry(unit)
        return HookExecution(deployment_id, done.execution_id, done.event, done.status)
