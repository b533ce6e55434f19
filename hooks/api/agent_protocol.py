"""What agents call, at ``/api/v1/agent``. A session of their own opens it, and no user's token does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, cast

from flask import Blueprint, Response, g, request

from hooks.api.agent_shapes import (
    PROTOCOL,
    AgentIdentity,
    AgentSession,
    Begin,
    Challenge,
    ChallengeRequest,
    Completion,
    Enrolment,
    EventState,
    InstalledReport,
    Poll,
    PollResult,
    SessionRequest,
    SignedCommand,
    decoded,
    encoded,
)
from hooks.deployments import agents
from hooks.deployments.agents import Proof
from hooks.deployments.signed_commands import time_text
from hooks.models.deployment import DeploymentAgent
from hooks.services import HookServices
from registry import audit
from registry.api.routes import Route, register
from registry.errors import Invalid, Unauthenticated
from registry.http import context
from registry.http.auth import charge, machine, public
from registry.rates import CostClass
from registry.repos.admission import Credential
from registry.repos.signing import AGENT_COMMAND, key_id

_OCTETS = "application/octet-stream"
_PIECE_BYTES = 256 * 1024


class AgentProtocolViews:
    """The operations of agents."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self) -> tuple[Route, ...]:
        """The part of the table that agents use."""
        door, event = machine("agent", self._prove), "/agent/events/<id:event>"
        token = public("an enrolment token is proof by itself, once")
        asks = public("what is given is worth nothing without the agent's key")
        signed = public("a challenge that the agent's key has signed is proof by itself, once")
        return (
            Route("POST", "/agent/enrol", token, self.enrol_agent, Enrolment, answer=AgentIdentity, status=201),
            Route("POST", "/agent/challenge", asks, self.challenge_agent, ChallengeRequest, answer=Challenge),
            # The credential of the session before is what is sent.
            Route(
                "POST",
                "/agent/session",
                signed,
                self.open_agent_session,
                SessionRequest,
                answer=AgentSession,
                status=201,
                holds_secrets=True,
            ),
            Route("POST", "/agent/poll", door, self.poll_commands, Poll, answer=PollResult),
            Route("POST", f"{event}/begin", door, self.begin_event, Begin, answer=EventState),
            Route("GET", f"{event}/bundle", door, self.get_bundle, media_type=_OCTETS),
            # A log may show a token of this server, and must not stand in the way of the end: it is masked here.
            Route(
                "POST",
                f"{event}/complete",
                door,
                self.complete_event,
                Completion,
                answer=EventState,
                holds_secrets=True,
            ),
            Route("POST", "/agent/installed", door, self.tell_installed, InstalledReport, status=204),
        )

    def _prove(self, sent: Credential | None) -> str:
        if sent is None:
            raise Unauthenticated("send the agent's own session")
        digest = context.services().accounts.digest
        with self._services.db.read() as session:
            found = agents.authenticate(session, sent.secret, digest=digest, now=self._services.clock())
        g.agent, g.agent_is_going = found
        audit.proved_by("agent session")
        return f"agent:{_agent().id}"

    # --- identity

    def enrol_agent(self, body: Enrolment) -> AgentIdentity:
        """Enrol an agent with its token (sent as Bearer): its public key counts from now on, and no other."""
        charge(CostClass.MINT)
        if body.protocol != PROTOCOL:
            raise Invalid(
                f"this server speaks version {PROTOCOL} of the agents' protocol, and the agent {body.protocol}"
            )
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated("send the enrolment token as Bearer")
        facts = body.facts.as_json()
        audit.proved_by("enrolment token")
        key = context.services().signer.public_key(AGENT_COMMAND)
        services, digest = self._services, context.services().accounts.digest
        with services.db.write() as session:
            row = agents.enrol(session, token.strip(), body.public_key, facts, digest=digest, now=services.clock())
            return AgentIdentity(row.id, row.name, encoded(key), key_id(key))

    def challenge_agent(self, body: ChallengeRequest) -> Challenge:
        """Something fresh to sign with the agent's key."""
        charge(CostClass.MANAGE)
        digest = context.services().accounts.digest
        return Challenge(agents.challenge(body.agent_id, digest=digest, now=self._services.clock()))

    def open_agent_session(self, body: SessionRequest) -> AgentSession:
        """A session for a signed challenge, two hours long; the one before ends. The server's time is signed."""
        charge(CostClass.MANAGE)
        audit.proved_by("agent key")
        proof = Proof(body.challenge, body.boot_id, body.nonce, decoded(body.signature), body.previous_session)
        services, registry = self._services, context.services()
        with services.db.write() as session:
            now = services.clock()
            row, credential = agents.open_session(
                session, body.agent_id, proof, digest=registry.accounts.digest, now=now
            )
            agent_id = row.id
        signature = registry.signer.sign(AGENT_COMMAND, time_text(agent_id, body.nonce, now))
        life = int(agents.SESSION_LIFE.total_seconds())
        return AgentSession(credential, life, now, signature.base64)

    # --- work

    def poll_commands(self, body: Poll) -> PollResult:
        """Ask for what is to be done now, beside the events that are running; and which of those nobody waits for."""
        told = self._services.agents.poll(_agent(), body.running, body.free, is_going=g.agent_is_going)
        given = told.command
        command = None if given is None else SignedCommand(encoded(given.payload), encoded(given.signature))
        return PollResult(command, told.stopped, told.poll_after_seconds)

    def begin_event(self, event: int, body: Begin) -> EventState:
        """Say that an event begins on the machine; the answer says whether it is to go on. Saying it again is the same."""
        return EventState(*self._services.agents.begin(_agent(), event, is_noop=body.is_noop))

    def get_bundle(self, event: int) -> Response:
        """The bytes of the revision, as long as the event goes on."""
        opened = self._services.agents.open_bundle(_agent(), event)
        response = Response(_pieces(opened.body), content_type=_OCTETS)
        response.headers["Content-Length"] = str(opened.size_bytes)
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    def complete_event(self, event: int, body: Completion) -> EventState:
        """Say how an event has ended. Saying it again changes nothing."""
        return EventState(self._services.agents.complete(_agent(), event, body.result()), goes_on=False)

    def tell_installed(self, body: InstalledReport) -> None:
        """Say what is really installed, group by group."""
        self._services.agents.installed(_agent(), [each.found() for each in body.groups])


def blueprint(services: HookServices) -> Blueprint:
    """The protocol of agents, to be mounted at ``/api/v1``."""
    routes = Blueprint("agent_api", __name__)
    register(routes, AgentProtocolViews(services).routes())
    return routes


def _agent() -> DeploymentAgent:
    return cast("DeploymentAgent", g.agent)


def _pieces(body: BinaryIO) -> Iterator[bytes]:
    with body:
        while piece := body.read(_PIECE_BYTES):
            yield piece
