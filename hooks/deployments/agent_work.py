"""What agents ask and tell: the next lifecycle event, that it begins, its bundle, how it ended, and what is installed.

An agent's machine counts as hostile: it is given the events of its own targets, and what it says changes those alone.
What is decided about a deployment is the engine's business.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.deployments import engine, presence
from hooks.deployments.appspec_model import FileExistsBehavior
from hooks.deployments.documents.settings import GroupSettings
from hooks.deployments.health.checks import as_json, commands_of
from hooks.deployments.lifecycle import CHECK_COMMANDS, DOWNLOAD_BUNDLE, INSTALL
from hooks.deployments.outcomes import ErrorCode, EventResult, EventStatus
from hooks.deployments.parts import Parts
from hooks.deployments.phases import MONITOR_HEALTH, course_of
from hooks.deployments.planning import DeploymentStatus
from hooks.deployments.platform import Actor
from hooks.deployments.reconciling import Found, put_right, told_late
from hooks.deployments.repository_tokens import token_name
from hooks.deployments.revisions import OpenedRevision, is_native, open_revision
from hooks.deployments.rows import ROLLBACK
from hooks.deployments.signed_commands import Command, sign_command
from hooks.deployments.silence import is_silent, waiting_for
from hooks.models.deployment import (
    Deployment,
    DeploymentAgent,
    DeploymentApplication,
    DeploymentEvent,
    DeploymentGroup,
    DeploymentInstallation,
    DeploymentTarget,
)
from registry import audit
from registry.clock import Clock
from registry.db import Database
from registry.errors import Conflict, Invalid, NotFound
from registry.stores import DomainStores
from registry.token_finder import Mask, mask

COMMAND_LIFE = timedelta(minutes=5)
BUSY_POLL_SECONDS = 1.0
MOST_TAIL_BYTES = 2048
_MESSAGE_CHARACTERS = 4000
_CHECKING = frozenset({CHECK_COMMANDS, MONITOR_HEALTH})

IssueToken = Callable[[Session, str, str, datetime], str]
Offer = tuple[Deployment, DeploymentTarget, DeploymentEvent]


@dataclass(frozen=True, slots=True)
class Signed:
    """A command's bytes, and their signature."""

    payload: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class PollAnswer:
    """``stopped``: events that the agent runs and that nobody waits for any more."""

    command: Signed | None
    stopped: tuple[int, ...]
    poll_after_seconds: float


class AgentWork:
    """Answers agents. Safe for many threads."""

    def __init__(
        self,
        db: Database,
        stores: DomainStores,
        parts: Parts,
        *,
        sign: Callable[[bytes], bytes],
        on_tokens: Callable[[Collection[str], str], object],
        issue_token: IssueToken,
    ) -> None:
        """``sign`` is by the server's key for commands. ``on_tokens`` ends tokens that a log shows, and is told where.

        ``issue_token`` makes one of this name that reads this repository (``domain/repository``).
        """
        self._db = db
        self._stores = stores
        self.parts = parts
        self._sign = sign
        self._on_tokens = on_tokens
        self._issue_token = issue_token
        self._clock: Clock = parts.clock
        self.presence = presence.Presence(db, parts.patience.silent)

    def poll(self, agent: DeploymentAgent, running: Sequence[int], free: int, *, is_going: bool) -> PollAnswer:
        """What an agent is to do now, beside the events that it is ``running``; ``free``: more of them. Mostly a read.

        ``is_going``: whether a deployment is under way there, as far as was seen when the agent proved who it is.
        """
        now, wanted, command, patience = self._clock(), None, None, self.parts.patience
        stopped: tuple[int, ...] = ()
        if is_silent(agent.seen_at, patience, now):
            is_going = self._heard_again(agent, now) or is_going
        if running or is_going:
            with self._db.read() as session:
                stopped, busy = self._looked_at(session, agent, running)
                wanted = _chosen(session, agent.id, busy) if is_going and free else None
        if wanted is not None:
            command = self._offered(agent, wanted, now)
        else:
            self.presence.note(agent.id, agent.seen_at, agent.session_expires_at, now)
        seconds = BUSY_POLL_SECONDS if is_going or running else self.presence.seconds_of(agent.id)
        return PollAnswer(command, stopped, min(seconds, self.presence.longest_seconds))

    def _heard_again(self, agent: DeploymentAgent, now: datetime) -> bool:
        """Let deployments go on that may have waited for a silent agent; whether there are any."""
        with self._db.write() as session:
            presence.see(session, agent.id, now)
            waiting = waiting_for(session, agent.id)
        for deployment_id in waiting:
            self._db.retry(partial(engine.advance, parts=self.parts, deployment_id=deployment_id, now=now))
        return bool(waiting)

    @staticmethod
    def _looked_at(
        session: Session, agent: DeploymentAgent, running: Sequence[int]
    ) -> tuple[tuple[int, ...], frozenset[int]]:
        """Which of the events that run are in vain, and the targets that they are of."""
        if not running:
            return (), frozenset()
        mine = (
            select(DeploymentEvent.id, DeploymentEvent.ended_at, DeploymentTarget.id, Deployment)
            .join(DeploymentTarget, DeploymentTarget.id == DeploymentEvent.target_id)
            .join(Deployment, Deployment.id == DeploymentTarget.deployment_id)
            .where(DeploymentEvent.id.in_(running), DeploymentTarget.agent_id == agent.id)
        )
        found = session.execute(mine).all()
        wanted = {event for event, ended_at, _, deployment in found if ended_at is None and not is_stopped(deployment)}
        return tuple(each for each in running if each not in wanted), frozenset(target for _, _, target, _ in found)

    def _offered(self, agent: DeploymentAgent, event_id: int, now: datetime) -> Signed | None:
        with self._db.write() as session:
            deployment, target, event = self._locked(session, agent, event_id)
            row = session.get(DeploymentAgent, agent.id, with_for_update=True, populate_existing=True)
            if (
                row is None
                or row.revoked_at is not None
                or event.ended_at is not None
                or not engine.goes_on(deployment)
            ):
                return None
            row.sequence += 1
            row.seen_at = now
            event.sequence = row.sequence
            event.offered_at = event.offered_at or now
            command = _command(session, row, deployment, target, event, now)
        return Signed(*sign_command(command, self._sign))

    def begin(self, agent: DeploymentAgent, event_id: int, *, is_noop: bool) -> tuple[str, bool]:
        """The agent begins: the event's status, and whether it is to go on. Raises NotFound, Conflict."""
        now = self._clock()
        with self._db.write() as session:
            deployment, _, event = self._locked(session, agent, event_id)
            if event.sequence is None:
                raise Conflict("this event was not offered yet")
            goes_on = engine.event_begun(session, event, now)
            if goes_on and is_noop and event.name not in {DOWNLOAD_BUNDLE, INSTALL, *_CHECKING}:
                # Closed here, without a further trip.
                self._end(session, agent, deployment, event, EventResult(event.name, EventStatus.SUCCEEDED), now)
                goes_on = False
            return event.status, goes_on

    def open_bundle(self, agent: DeploymentAgent, event_id: int, filename: str | None = None) -> OpenedRevision:
        """The bytes of the revision, while the event goes on; of a package without a bundle those of one of its files.

        Raises NotFound, Conflict, Unavailable.
        """
        with self._db.read() as session:
            deployment = self._going(session, agent, event_id)
            revision, application_id = dict(deployment.revision), deployment.application_id
        return open_revision(self._db, self._stores, revision, application_id, filename=filename)

    def credential(self, agent: DeploymentAgent, event_id: int) -> str:
        """A token that reads the repository of a package without a bundle until the event ends, and half an hour at most.

        Raises NotFound, Conflict.
        """
        now = self._clock()
        with self._db.write() as session:
            deployment = self._going(session, agent, event_id)
            if not is_native(deployment.revision):
                raise Conflict("this revision is a bundle, and needs nothing else")
            package = deployment.revision["package"]
            place = f"{package['domain']}/{package['repository']}"
            about = {"deployment": deployment.id, "repository": place}
            audit.record(session, now, f"agent/{agent.name}", "agent.credential", f"agent/{agent.name}", **about)
            return self._issue_token(session, token_name(deployment.id, agent.name), place, now)

    def _going(self, session: Session, agent: DeploymentAgent, event_id: int) -> Deployment:
        deployment, _, event = self._of(session, agent, event_id)
        if event.started_at is None or event.ended_at is not None or is_stopped(deployment):
            raise Conflict("this event does not go on")
        return deployment

    def complete(self, agent: DeploymentAgent, event_id: int, result: EventResult) -> str:
        """The event has ended on the machine: its status. Said again it changes nothing. Raises NotFound, Conflict."""
        now, found = self._clock(), Mask()
        for text in (result.log, result.message):
            found.feed(text.encode(errors="replace") + b"\n")

        def unit(session: Session) -> tuple[str, str]:
            deployment, target, event = self._locked(session, agent, event_id)
            if event.ended_at is not None:
                told_late(session, agent, deployment, target, event, result=result, now=now)
            else:
                if event.started_at is None:
                    raise Conflict("this event has not begun")
                if result.event != event.name:
                    raise Invalid(f"event {event_id} is {event.name}, not {result.event}")
                self._end(session, agent, deployment, event, _bounded(result), now)
            return event.status, f"the log of deployment {deployment.id}"

        # As where people steer: a job's end and this may meet.
        status, place = self._db.retry(unit)
        if found.found:
            self._on_tokens(found.found, place)
        return status

    def _end(
        self,
        session: Session,
        agent: DeploymentAgent,
        deployment: Deployment,
        event: DeploymentEvent,
        result: EventResult,
        now: datetime,
    ) -> None:
        # A turn of what is watched on and on is no end of an event.
        if event.name != MONITOR_HEALTH or result.status is not EventStatus.SUCCEEDED:
            about = {"deployment": deployment.id, "event": event.name, "status": result.status.value}
            audit.record(session, now, f"agent/{agent.name}", "agent.event", f"agent/{agent.name}", **about)
        engine.event_ended(session, self.parts, event, result, now)

    def installed(self, agent: DeploymentAgent, found: Sequence[Found]) -> None:
        """Keep what is really there. Groups that the server has put nothing of on this machine are passed over."""
        now = self._clock()
        with self._db.write() as session:
            for each in found:
                row = session.get(DeploymentInstallation, (each.group_id, agent.name))
                if row is not None:
                    row.found, row.found_at = each.as_json(), now
                    put_right(session, agent, row, each, now)
            presence.see(session, agent.id, now)

    def let_go(self, session: Session, agent_id: str, name: str, now: datetime) -> int:
        """An agent was revoked: what it had begun has failed. In the caller's transaction; how many there were."""
        mine = (
            select(DeploymentEvent.id)
            .join(DeploymentTarget, DeploymentTarget.id == DeploymentEvent.target_id)
            .where(
                DeploymentTarget.agent_id == agent_id,
                DeploymentTarget.status == "InProgress",
                DeploymentEvent.status == EventStatus.IN_PROGRESS.value,
            )
            # Several deployments are locked here: in one order by all who do.
            .order_by(DeploymentTarget.deployment_id, DeploymentEvent.id)
        )
        begun = session.scalars(mine).all()
        for event_id in begun:
            event = session.get_one(DeploymentEvent, event_id)
            message = f"agent {name} was revoked while it carried this out"
            result = EventResult(event.name, EventStatus.FAILED, ErrorCode.UNKNOWN_ERROR, message)
            engine.event_ended(session, self.parts, event, result, now)
        return len(begun)

    # --- whose an event is

    def _locked(self, session: Session, agent: DeploymentAgent, event_id: int) -> Offer:
        """An event of this agent, with the deployment locked before it, as everywhere. Raises NotFound, Denied."""
        deployment, target, event = self._of(session, agent, event_id)
        deployment = session.get_one(Deployment, deployment.id, with_for_update=True, populate_existing=True)
        event = session.get_one(DeploymentEvent, event.id, populate_existing=True)
        return deployment, target, event

    @staticmethod
    def _of(session: Session, agent: DeploymentAgent, event_id: int) -> Offer:
        found = session.execute(
            select(Deployment, DeploymentTarget, DeploymentEvent)
            .join(DeploymentTarget, DeploymentTarget.deployment_id == Deployment.id)
            .join(DeploymentEvent, DeploymentEvent.target_id == DeploymentTarget.id)
            .where(
                DeploymentEvent.id == event_id,
                DeploymentEvent.actor == Actor.AGENT.value,
                is_of(agent),
            )
        ).one_or_none()
        if found is None:
            raise NotFound("lifecycle event of this agent", str(event_id))
        return found[0], found[1], found[2]


def installations(session: Session, names: Sequence[str]) -> dict[str, list[DeploymentInstallation]]:
    """What is installed on each of these machines."""
    statement = select(DeploymentInstallation).where(DeploymentInstallation.target.in_(names))
    found: dict[str, list[DeploymentInstallation]] = {}
    for row in session.scalars(statement.order_by(DeploymentInstallation.group_id)):
        found.setdefault(row.target, []).append(row)
    return found


def is_of(agent: DeploymentAgent) -> Any:
    """SQL for the targets that are this agent's."""
    return DeploymentTarget.agent_id == agent.id


def is_stopped(deployment: Deployment) -> bool:
    """Whether nobody waits for what is under way; where a deployment has failed elsewhere it comes to its end."""
    ending = deployment.details.get("ending") or {}
    return deployment.completed_at is not None or ending.get("status") == DeploymentStatus.STOPPED.value


def _chosen(session: Session, agent_id: str, busy: Collection[int]) -> int | None:
    """The event to offer, of a target that the agent is not at; what has not begun goes before what has.

    Of that, what was offered before goes last: an agent may refuse it each time, and others are not to wait for that.
    """
    found = [each for each in engine.commands_for_agent(session, agent_id) if each[1].id not in busy]
    fresh = [event for _, _, event in found if event.status == EventStatus.PENDING.value]
    fresh.sort(key=lambda event: event.sequence or 0)
    return next((event.id for event in (*fresh, *(event for _, _, event in found))), None)


def _command(
    session: Session,
    agent: DeploymentAgent,
    deployment: Deployment,
    target: DeploymentTarget,
    event: DeploymentEvent,
    now: datetime,
) -> Command:
    plans = select(DeploymentEvent.name, DeploymentEvent.actor).where(DeploymentEvent.target_id == target.id)
    found = session.execute(plans.order_by(DeploymentEvent.position)).all()
    is_balanced = any(name == "BlockTraffic" for name, _ in found)
    settings = GroupSettings.of(deployment.group_document, deployment.options)
    is_rollback = deployment.creator == ROLLBACK
    behavior = deployment.options.get("fileExistsBehavior", FileExistsBehavior.DISALLOW.value)
    native = _native_document(deployment)
    return Command(
        agent=agent.name,
        agent_id=agent.id,
        sequence=agent.sequence,
        expires_at=now + COMMAND_LIFE,
        deployment_id=deployment.id,
        application=session.get_one(DeploymentApplication, deployment.application_id).name,
        group_id=deployment.group_id,
        group=session.get_one(DeploymentGroup, deployment.group_id).name,
        creator=deployment.creator,
        event_id=event.id,
        event=event.name,
        attempt=(event.offered_at or now).isoformat(timespec="milliseconds"),
        events=tuple(name for name, actor in found if actor == Actor.AGENT.value and name not in _CHECKING),
        course=course_of(target.fleet, is_balanced=is_balanced, is_rollback=is_rollback),
        revision=deployment.revision,
        file_exists_behavior=FileExistsBehavior(behavior),
        appspec_name=settings.appspec_filename,
        link=str(native.get("link", "")) if native else settings.link,
        is_rollback=is_rollback,
        native=native,
        checks=tuple(map(as_json, commands_of(deployment.group_document))) if event.name in _CHECKING else (),
    )


def _native_document(deployment: Deployment) -> dict[str, Any]:
    return dict(deployment.group_document.get("nativePackage", {})) if is_native(deployment.revision) else {}


def _bounded(result: EventResult) -> EventResult:
    """What an agent says, as it may be shown: without tokens of this server, and not longer than any agent's."""
    tail = mask(result.log).encode()[-MOST_TAIL_BYTES:].decode(errors="ignore")
    return replace(result, log=tail, message=mask(result.message)[:_MESSAGE_CHARACTERS], script=mask(result.script))
