"""Agents of deployments, for administrators: which there are, made, tagged, revoked and forgotten."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.deployments import agents
from hooks.deployments.agent_work import installations
from hooks.deployments.agents import NewToken, Place
from hooks.models.deployment import (
    DeploymentAgent,
    DeploymentApplication,
    DeploymentGroup,
    DeploymentInstallation,
)
from hooks.services import HookServices
from registry.access import Action
from registry.api.routes import Route
from registry.api.shapes import Length
from registry.http import context
from registry.http.auth import requires
from registry.repos.signing import AGENT_COMMAND, key_id

Domains = Annotated[tuple[Annotated[str, Length(1, 50)], ...], Length(0, 50)]
Zone = Annotated[str, Length(0, 64)]
Address = Annotated[str, Length(0, 255)]


@dataclass(frozen=True, slots=True)
class AgentTag:
    """A tag, by which deployment groups find machines."""

    key: Annotated[str, Length(1, 128)]
    value: Annotated[str, Length(0, 256)] = ""


Tags = Annotated[tuple[AgentTag, ...], Length(0, agents.MOST_TAGS)]


@dataclass(frozen=True, slots=True)
class NewAgent:
    """An agent to make. ``domains`` are whose applications may come to the machine; without any all may.

    ``address`` (IP:PORT, an IPv6 address in brackets) is where the application answers there.
    """

    name: Annotated[str, Length(1, 100)]
    tags: Tags = ()
    domains: Domains = ()
    zone: Zone = ""
    address: Address = ""


@dataclass(frozen=True, slots=True)
class AgentChange:
    """What is to change: ``tags`` are set, those with the keys ``untag`` go; what is null stays as it is."""

    tags: Tags = ()
    untag: Annotated[tuple[Annotated[str, Length(1, 128)], ...], Length(0, agents.MOST_TAGS)] = ()
    domains: Domains | None = None
    zone: Zone | None = None
    address: Address | None = None


@dataclass(frozen=True, slots=True)
class AgentInstallation:
    """What is installed of a deployment group, as far as the server knows; ``changed`` and ``missing`` files the agent saw."""

    deployment_group_id: str
    application_name: str
    deployment_group_name: str
    deployment_id: str
    is_healthy: bool
    changed: int | None
    missing: int | None
    found_deployment_id: str | None
    found_at: datetime | None


@dataclass(frozen=True, slots=True)
class AgentDetail:
    """An agent. ``state`` is PENDING (not enrolled), ONLINE, OFFLINE or REVOKED; ``alarm`` says why to look at it.

    ``host``, ``version``, ``os`` and ``user`` are what it said of itself when it enrolled.
    """

    name: str
    state: str
    tags: tuple[AgentTag, ...]
    domains: tuple[str, ...]
    zone: str
    address: str
    host: str
    version: str
    os: str
    user: str
    alarm: str
    installations: tuple[AgentInstallation, ...]
    created_by: str
    created_at: datetime
    enrolled_at: datetime | None
    seen_at: datetime | None
    alarmed_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class AgentList:
    """All agents by name."""

    items: tuple[AgentDetail, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class EnrolmentToken:
    """What ``entrepot agent enrol`` takes: once, until ``expiresAt``; it is never told again.

    ``serverKeyId`` is the fingerprint of the key that commands are signed with.
    """

    name: str
    enrolment_token: str
    expires_at: datetime
    server_key_id: str


class AgentViews:
    """The operations on agents."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self) -> tuple[Route, ...]:
        """The part of the management interface's table: for administrators."""
        door, one = requires(Action.ADMIN, permission=agents.MANAGE), "/agents/<agent>"
        token = f"{one}/enrolment-token"
        return (
            Route("GET", "/agents", door, self.list_agents, answer=AgentList),
            Route("POST", "/agents", door, self.add_agent, body=NewAgent, answer=EnrolmentToken, status=201),
            Route("GET", one, door, self.get_agent, answer=AgentDetail),
            Route("PATCH", one, door, self.change_agent, body=AgentChange, answer=AgentDetail),
            Route("POST", token, door, self.renew_agent_enrolment, answer=EnrolmentToken, status=201),
            Route("DELETE", f"{one}/alarm", door, self.clear_agent_alarm, answer=AgentDetail),
            Route("POST", f"{one}/revoke", door, self.revoke_agent, answer=AgentDetail),
            Route("DELETE", one, door, self.delete_agent, status=204),
        )

    def list_agents(self) -> AgentList:
        """All agents, with what is installed by them."""
        with self._services.db.read() as session:
            rows = session.scalars(select(DeploymentAgent).order_by(DeploymentAgent.name)).all()
            return AgentList(tuple(self._details(session, rows)), None)

    def add_agent(self, body: NewAgent) -> EnrolmentToken:
        """Make an agent; answers with the token it enrols with, once and within 15 minutes."""
        services, key = self._services, _server_key_id()
        place = Place(_pairs(body.tags), body.domains, body.zone, body.address)
        with services.db.write() as session:
            digest, by = context.services().accounts.digest, context.caller().name
            row, given = agents.add(session, body.name, place, digest=digest, created_by=by, now=services.clock())
            return _token(row.name, given, key)

    def get_agent(self, agent: str) -> AgentDetail:
        """An agent, with what is installed by it."""
        with self._services.db.read() as session:
            return self._details(session, [agents.find(session, agent)])[0]

    def change_agent(self, agent: str, body: AgentChange) -> AgentDetail:
        """Set and take away tags; change whose applications may come, the zone and the address."""
        services = self._services
        with services.db.write() as session:
            row = agents.change(
                session,
                agent,
                tags=_pairs(body.tags),
                untagged=body.untag,
                domains=body.domains,
                zone=body.zone,
                address=body.address,
                by=context.caller().name,
                now=services.clock(),
            )
            session.flush()
            return self._details(session, [row])[0]

    def renew_agent_enrolment(self, agent: str) -> EnrolmentToken:
        """Another enrolment token, for an agent that lost its key: enrolling with it ends the old key."""
        services, key = self._services, _server_key_id()
        with services.db.write() as session:
            digest, by = context.services().accounts.digest, context.caller().name
            given = agents.renew_enrolment(session, agent, digest=digest, by=by, now=services.clock())
            return _token(agent, given, key)

    def clear_agent_alarm(self, agent: str) -> AgentDetail:
        """Note that somebody has looked at the agent's alarm."""
        services = self._services
        with services.db.write() as session:
            row = agents.clear_alarm(session, agent, by=context.caller().name, now=services.clock())
            return self._details(session, [row])[0]

    def revoke_agent(self, agent: str) -> AgentDetail:
        """Take nothing from an agent any more, from its next request on; what it had begun has failed."""
        services = self._services
        with services.db.write() as session:
            now = services.clock()
            services.agents.let_go(session, agents.find(session, agent).id, agent, now)
            row = agents.revoke(session, agent, by=context.caller().name, now=now)
            session.flush()
            return self._details(session, [row])[0]

    def delete_agent(self, agent: str) -> None:
        """Revoke an agent and forget it."""
        services = self._services
        with services.db.write() as session:
            now = services.clock()
            services.agents.let_go(session, agents.find(session, agent).id, agent, now)
            agents.delete(session, agent, by=context.caller().name, now=now)

    def _details(self, session: Session, rows: Sequence[DeploymentAgent]) -> list[AgentDetail]:
        found = installations(session, [row.name for row in rows])
        named = _names(session, {each.group_id for listed in found.values() for each in listed})
        now, silent = self._services.clock(), self._services.deployments.patience.silent
        return [_detail(row, found.get(row.name, ()), named, agents.state_of(row, now, silent)) for row in rows]


def _server_key_id() -> str:
    """The fingerprint of the key for commands. Outside of any transaction: the first use makes the key."""
    return key_id(context.services().signer.public_key(AGENT_COMMAND))


def _names(session: Session, group_ids: Collection[str]) -> Mapping[str, tuple[str, str]]:
    """The names of groups and their applications, also of those that are deleted."""
    rows = session.execute(
        select(DeploymentGroup.id, DeploymentApplication.name, DeploymentGroup.name)
        .join(DeploymentApplication, DeploymentApplication.id == DeploymentGroup.application_id)
        .where(DeploymentGroup.id.in_(group_ids))
    )
    return {group_id: (application, group) for group_id, application, group in rows}


def _detail(
    row: DeploymentAgent,
    found: Sequence[DeploymentInstallation],
    named: Mapping[str, tuple[str, str]],
    state: str,
) -> AgentDetail:
    facts = row.facts
    return AgentDetail(
        row.name,
        state,
        tuple(AgentTag(*tag) for tag in agents.tags_of(row)),
        tuple(row.domains),
        row.zone,
        row.address,
        facts.get("host", ""),
        facts.get("version", ""),
        facts.get("os", ""),
        facts.get("user", ""),
        row.alarm,
        tuple(_installation(each, named.get(each.group_id, ("", each.group_id))) for each in found),
        row.created_by,
        row.created_at,
        row.enrolled_at,
        row.seen_at,
        row.alarmed_at,
        row.revoked_at,
    )


def _installation(row: DeploymentInstallation, name: tuple[str, str]) -> AgentInstallation:
    found = row.found or {}
    return AgentInstallation(
        row.group_id,
        *name,
        row.deployment_id,
        row.is_healthy,
        found.get("changedCount"),
        found.get("missingCount"),
        found.get("deploymentId"),
        row.found_at,
    )


def _pairs(tags: Sequence[AgentTag]) -> tuple[tuple[str, str], ...]:
    return tuple((tag.key, tag.value) for tag in tags)


def _token(name: str, given: NewToken, key: str) -> EnrolmentToken:
    return EnrolmentToken(name, given.secret, given.expires_at, key)
