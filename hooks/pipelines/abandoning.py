"""Who may abandon an execution's running actions: deployments among them are stopped, as if by hand."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from hooks.deployments.rights import check_deploy
from hooks.models.deployment import Deployment, DeploymentApplication
from hooks.models.pipeline import ActionExecution
from hooks.pipelines.actions.deploy import CODEDEPLOY
from hooks.pipelines.actions.deploy_service import SERVICE
from hooks.pipelines.invoked import started_by
from hooks.pipelines.run import lock, look
from registry.access import Identity

_DEPLOYING = {(kind.provider.category, kind.provider.name) for kind in (CODEDEPLOY, SERVICE)}


def check_abandon(session: Session, caller: Identity, execution_id: int) -> None:
    """Lock the execution. Raises NotFound, and Denied for who may not steer what its running actions deploy."""
    for row in lock(session, execution_id).running():
        # Only looked at: no transaction locks two pipelines. What begins there meanwhile is stopped all the same.
        others = _started(session, [row])
        while others:
            inner = look(session, others.pop()).running()
            others += _started(session, inner)
            _check(session, caller, inner)
        _check(session, caller, [row])


def _started(session: Session, rows: Iterable[ActionExecution]) -> list[int]:
    return [each for row in rows if (each := started_by(session, row)) is not None]


def _check(session: Session, caller: Identity, rows: Iterable[ActionExecution]) -> None:
    for row in rows:
        if (row.category, row.provider) not in _DEPLOYING:
            continue
        domain = session.scalar(_domain(row))
        if domain is not None:
            check_deploy(caller, domain)


def _domain(row: ActionExecution) -> Select[str]:
    """Of the application that the action's deployment is of, or will be."""
    if row.deployment_id is None:
        name = row.resolved_configuration.get("ApplicationName", "")
        return select(DeploymentApplication.domain).where(DeploymentApplication.name == name)
    return (
        select(DeploymentApplication.domain)
        .join(Deployment, Deployment.application_id == DeploymentApplication.id)
        .where(Deployment.id == row.deployment_id)
    )
