"""The states of a domain's alarms that are told from outside: those of type ``WEBHOOK``, which is meant without one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.deployments import told_alarms
from hooks.deployments.rights import check_deploy, may_see
from hooks.models.deployment import DeploymentAlarm
from hooks.services import HookServices
from registry.api.routes import Route
from registry.api.shapes import Length
from registry.errors import NotFound
from registry.http import context
from registry.http.auth import signed_in_api
from registry.models import Domain


@dataclass(frozen=True, slots=True)
class DeploymentAlarmChange:
    """An alarm's state from now on: ``OK``, ``ALARM`` or ``INSUFFICIENT_DATA``."""

    state: Annotated[str, Length(1, 20)]
    reason: Annotated[str, Length(0, 1000)] = ""


@dataclass(frozen=True, slots=True)
class DeploymentAlarmDetail:
    """An alarm as it was told last."""

    name: str
    state: str
    reason: str
    created_by: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class DeploymentAlarmList:
    """All alarms of a domain by name."""

    items: tuple[DeploymentAlarmDetail, ...]
    next: str | None


class DeploymentAlarmViews:
    """The operations on alarms that are told from outside."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self) -> tuple[Route, ...]:
        """The part of the table."""
        many = "/domains/<domain>/deployment-alarms"
        return (
            Route("GET", many, signed_in_api, self.list_deployment_alarms, answer=DeploymentAlarmList),
            Route("PUT", f"{many}/<alarm>", signed_in_api, self.put_deployment_alarm, body=DeploymentAlarmChange,
                  answer=DeploymentAlarmDetail),
            Route("DELETE", f"{many}/<alarm>", signed_in_api, self.delete_deployment_alarm, status=204),
        )  # fmt: skip

    def list_deployment_alarms(self, domain: str) -> DeploymentAlarmList:
        """The alarms of a domain whose states were told. Needs to read the domain."""
        with self._services.db.read() as session:
            _check_visible(session, domain)
            return DeploymentAlarmList(tuple(_detail(row) for row in told_alarms.list_alarms(session, domain)), None)

    def put_deployment_alarm(self, domain: str, alarm: str, body: DeploymentAlarmChange) -> DeploymentAlarmDetail:
        """Tell the state of an alarm (CloudWatch's SetAlarmState). ``ALARM`` stops the deployments that it watches over.

        Needs `entrepot:CreateDeployment` on the domain.
        """
        caller, services = context.caller(), self._services
        with services.db.write() as session:
            _check_visible(session, domain)
            check_deploy(caller, domain)
            row = told_alarms.tell(
                session, domain, alarm, body.state, reason=body.reason, actor=caller.name, now=services.clock()
            )
            return _detail(row)

    def delete_deployment_alarm(self, domain: str, alarm: str) -> None:
        """Forget an alarm (CloudWatch's DeleteAlarms): groups that name it have no data of it then.

        Needs `entrepot:CreateDeployment` on the domain.
        """
        caller, services = context.caller(), self._services
        with services.db.write() as session:
            _check_visible(session, domain)
            check_deploy(caller, domain)
            told_alarms.forget(session, domain, alarm, actor=caller.name, now=services.clock())


def _check_visible(session: Session, domain: str) -> None:
    is_there = session.scalar(select(Domain.id).where(Domain.name == domain)) is not None
    if not is_there or not may_see(context.caller(), domain):
        raise NotFound("domain", domain)


def _detail(row: DeploymentAlarm) -> DeploymentAlarmDetail:
    return DeploymentAlarmDetail(row.name, row.state, row.reason, row.created_by, row.created_at, row.updated_at)
