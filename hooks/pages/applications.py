"""One application of deployments, and one of its groups: what is there, what was deployed, what it is made of."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import Blueprint, render_template, request
from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.deployments import board, views
from hooks.deployments.applications import find_group, list_groups
from hooks.deployments.configs import chosen_config
from hooks.deployments.installed import InstalledTarget, installations, installed_targets, platform_of
from hooks.deployments.rights import may_deploy, may_manage, visible_application, visible_deployment
from hooks.deployments.views import DeploymentSummary
from hooks.models.deployment import (
    Deployment,
    DeploymentAlarm,
    DeploymentApplication,
    DeploymentGroup,
    DeploymentInstallation,
)
from hooks.pages.deployment_words import facts_of_group
from hooks.services import HookServices
from registry.errors import Conflict, Invalid, NotFound
from registry.http import context
from registry.http.auth import page

GROUPS_SHOWN = 50
DEPLOYMENTS_SHOWN = 20
REVISIONS_LOOKED_AT = 50
REVISIONS_SHOWN = 8
TARGETS_SHOWN = 50
_MOST = 10_000
_LONGEST_NAME = 100
_DRIFTED = ("changed", "other")


@dataclass(frozen=True, slots=True)
class History:
    """Deployments, the newest first. ``before`` is where the page begins, ``following`` where the next one does."""

    deployments: Sequence[DeploymentSummary]
    before: str
    following: str | None


@dataclass(frozen=True, slots=True)
class AlarmState:
    """An alarm of a group as it stands; ``at`` None where nobody has told or asked yet."""

    name: str
    type: str
    state: str
    reason: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class FoundFiles:
    """What an agent has seen on a target: of which deployment, and which files were changed or are missing."""

    deployment_id: str
    changed: tuple[str, ...]


class ApplicationPages:
    """The pages of applications and groups."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self, pages: Blueprint) -> None:
        """Add the routes."""
        one = "/applications/<application>"
        pages.add_url_rule(one, "application", page(self.show))
        pages.add_url_rule(f"{one}/groups/<deployment_group>", "deployment_group", page(self.show_group))

    def show(self, application: str) -> str:
        """An application with its groups, revisions and deployments."""
        who, after = context.caller(), request.args.get("after", "")[:_LONGEST_NAME]
        with self._services.db.read() as session:
            row = visible_application(session, application, who)
            everyone = list_groups(session, row)
            groups = [each for each in everyone if each.name > after]
            shown = groups[:GROUPS_SHOWN]
            latest = views.page_of(session, application_ids=[row.id], limit=REVISIONS_LOOKED_AT)
            shelf = _Shelf(session, row, board.rows_of(session, shown), latest)
            states = shelf.states(shown, board.fleets(session, [each.id for each in shown]))
            revisions = board.recent_revisions(latest, {each.id: each.name for each in everyone})
            return render_template(
                "deployments/application.html",
                application=row,
                groups=[states[each.id] for each in shown],
                after=after,
                following=shown[-1].name if len(groups) > len(shown) else None,
                revisions=revisions[:REVISIONS_SHOWN],
                history=shelf.history(),
                may_deploy=may_deploy(who, row.domain),
                may_manage=may_manage(who, row.domain),
            )

    def show_group(self, application: str, deployment_group: str) -> str:
        """A group: how it deploys, what each target has, its alarms and its deployments."""
        who, after = context.caller(), min(_MOST, max(0, request.args.get("after", 0, type=int)))
        with self._services.db.read() as session:
            row = visible_application(session, application, who)
            group = find_group(session, row, deployment_group)
            latest = views.page_of(session, application_ids=[row.id], group_id=group.id, limit=DEPLOYMENTS_SHOWN + 1)
            shelf = _Shelf(session, row, board.rows_of(session, [group]), latest, group)
            known = installations(session, group)
            targets, lacking = self._targets(session, row, group, known)
            shown = targets[after : after + TARGETS_SHOWN]
            return render_template(
                "deployments/group.html",
                application=row,
                group=group,
                state=shelf.states([group], {})[group.id],
                facts=_facts(session, row, group),
                targets=shown,
                counts=_counts(targets),
                found={each.name: _seen(known[each.name].found) for each in shown if each.drift in _DRIFTED},
                lacking=lacking,
                after=after,
                following=after + TARGETS_SHOWN if len(targets) > after + TARGETS_SHOWN else None,
                alarms=_alarms(session, row, group),
                history=shelf.history(),
                document=json.dumps(group.document, indent=2, ensure_ascii=False),
                may_deploy=may_deploy(who, row.domain),
            )

    def _targets(
        self,
        session: Session,
        application: DeploymentApplication,
        group: DeploymentGroup,
        known: Mapping[str, DeploymentInstallation],
    ) -> tuple[list[InstalledTarget], str]:
        """The targets, the worst first, and why they cannot be known."""
        try:
            platform = platform_of(self._services.deployments, application)
        except Conflict as error:
            return [], str(error)
        return sorted(installed_targets(session, application, group, platform, known), key=_rank), ""


class _Shelf:
    """The deployments that a page shows: what says how its groups are, and a page of history, counted together."""

    def __init__(
        self,
        session: Session,
        application: DeploymentApplication,
        kept: Sequence[Deployment],
        latest: Sequence[Deployment],
        group: DeploymentGroup | None = None,
    ) -> None:
        """``kept`` are the ``board.rows_of`` the groups, ``latest`` the newest deployments. Raises NotFound."""
        self._application = application
        self.before = request.args.get("before", "")
        past = self._past(session, group) if self.before else latest
        self._past_ids = [row.id for row in past[:DEPLOYMENTS_SHOWN]]
        self._goes_on = len(past) > DEPLOYMENTS_SHOWN
        rows = {row.id: row for row in (*kept, *past[:DEPLOYMENTS_SHOWN])}
        self._told = {each.deployment_id: each for each in views.summaries(session, list(rows.values()))}

    def _past(self, session: Session, group: DeploymentGroup | None) -> Sequence[Deployment]:
        after, owner = visible_deployment(session, self.before, context.caller())
        if owner.id != self._application.id:
            raise NotFound("deployment", self.before)
        return views.page_of(
            session,
            application_ids=[owner.id],
            group_id=group.id if group is not None else None,
            after=after,
            limit=DEPLOYMENTS_SHOWN + 1,
        )

    def states(
        self, groups: Sequence[DeploymentGroup], fleets: Mapping[str, board.Fleet]
    ) -> dict[str, board.GroupState]:
        """How these groups of the application are."""
        platforms = {self._application.id: self._application.compute_platform}
        return board.group_states(groups, platforms, list(self._told.values()), fleets)

    def history(self) -> History:
        """Deployments from the address's ``before`` on."""
        shown = [self._told[each] for each in self._past_ids]
        return History(shown, self.before, self._past_ids[-1] if self._goes_on else None)


def _facts(session: Session, application: DeploymentApplication, group: DeploymentGroup) -> list[tuple[str, str]]:
    try:
        name, config = chosen_config(session, None, group.document, application.compute_platform)
    except (NotFound, Invalid):
        # One that a group names is not deleted; should it be gone all the same, the rest is still worth reading.
        name = str(group.document.get("deploymentConfigName", ""))
        config = {"computePlatform": application.compute_platform}
    return facts_of_group(group.document, name, config)


def _rank(target: InstalledTarget) -> tuple[bool, bool, bool, bool, str]:
    return (
        target.is_healthy is not False,
        target.drift not in _DRIFTED,
        target.is_current,
        not target.is_member,
        target.name,
    )


def _counts(targets: Collection[InstalledTarget]) -> dict[str, int]:
    return {
        "all": len(targets),
        "current": sum(each.is_current for each in targets),
        "unhealthy": sum(each.is_healthy is False for each in targets),
        "drifted": sum(each.drift in _DRIFTED for each in targets),
        "empty": sum(each.version is None for each in targets),
    }


def _seen(found: Mapping[str, Any] | None) -> FoundFiles:
    found = found or {}
    paths = [*(found.get("changed") or ()), *(found.get("missing") or ())]
    return FoundFiles(str(found.get("deploymentId") or ""), tuple(str(path) for path in paths[:10]))


def _alarms(session: Session, application: DeploymentApplication, group: DeploymentGroup) -> list[AlarmState]:
    """The group's alarms: as they were told, or as the last deployment has found them."""
    document = group.document.get("alarmConfiguration") or {}
    alarms = document.get("alarms") or () if document.get("enabled") else ()
    names = [str(each["name"]) for each in alarms]
    if not names:
        return []
    told = {
        row.name: row
        for row in session.scalars(
            select(DeploymentAlarm).where(DeploymentAlarm.domain == application.domain, DeploymentAlarm.name.in_(names))
        )
    }
    last = session.get(Deployment, group.last_attempted_id) if group.last_attempted_id is not None else None
    asked = last.details.get("alarms", {}) if last is not None else {}
    found = []
    for each in alarms:
        name, kind = str(each["name"]), str(each.get("type", "WEBHOOK"))
        row = told.get(name) if kind == "WEBHOOK" else None
        if row is not None:
            found.append(AlarmState(name, kind, row.state, row.reason, row.updated_at))
        elif kind != "WEBHOOK" and name in asked and last is not None:
            found.append(AlarmState(name, kind, asked[name]["state"], asked[name]["failure"], last.completed_at))
        else:
            found.append(AlarmState(name, kind, "INSUFFICIENT_DATA", "", None))
    return found
