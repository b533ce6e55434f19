"""Carrying out one command: its event begun, done by the machine's journal, and told, however often the line breaks.

What was done is in the journal before it is told. An agent that was killed in between is offered the event once more,
finds its result, and tells it.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hooks.builds.remote.link import Away, NotAdmitted, Rejected, broken_off, patiently
from hooks.deployments.agent import checking, native
from hooks.deployments.agent.line import Line
from hooks.deployments.agent.settings import AgentSettings
from hooks.deployments.appspec_model import EVENT_SECONDS
from hooks.deployments.host import bundle
from hooks.deployments.host.deployment import Deployment, HostDeployment
from hooks.deployments.host.native import Sources
from hooks.deployments.host.scripts import ScriptSettings
from hooks.deployments.host.state import GroupState, StateError
from hooks.deployments.outcomes import ErrorCode, EventFailed, EventResult, EventStatus
from hooks.deployments.signed_commands import NATIVE, Command, CommandRefused

LOG = logging.getLogger("entrepot.agent")
_PIECE_BYTES = 256 * 1024
_LAST_WORD_SECONDS = 20.0
_MOST_MESSAGE = 4000
_ENDS = frozenset({EventStatus.SUCCEEDED.value, EventStatus.FAILED.value, EventStatus.SKIPPED.value})
T = TypeVar("T")


@dataclass(slots=True)
class Job:
    """A command that is being carried out. ``is_stopped``: nobody waits for it any more, or this agent ends at once.

    ``is_leaving``: the agent ends after it. ``is_late``: the server had another end for it when it was told of this one.
    """

    command: Command
    is_stopped: bool = False
    is_leaving: bool = False
    is_late: bool = False
    over_at: float = field(default_factory=lambda: time.monotonic() + EVENT_SECONDS)


class Worker:
    """Carries out commands on this machine. Safe for many threads, each with another deployment group."""

    def __init__(self, line: Line, settings: AgentSettings, root: Path, installers: native.Installers) -> None:
        """``root`` is where the deployments of this machine lie."""
        self._installers = installers
        self._line = line
        self._settings = settings
        self._root = root

    def carry_out(self, job: Job) -> None:
        """Do what a command wants and tell how it went. Raises nothing that is about the event; NotAdmitted."""
        command = job.command
        LOG.info("%s of deployment %s begins", command.event, command.deployment_id)
        try:
            result = self._done(job)
        except (OSError, StateError, CommandRefused) as error:
            # Where nothing can be written (a full disk) there is no journal to tell from later: it is told now.
            LOG.exception("%s of deployment %s cannot be carried out", command.event, command.deployment_id)
            message = f"it could not be carried out on this machine: {error}"
            result = EventResult(command.event, EventStatus.FAILED, ErrorCode.UNKNOWN_ERROR, message)
            if not self._begun(job, is_noop=False):
                return
        if result is not None:
            self._tell(job, result)

    def refuse(self, job: Job, reason: str) -> None:
        """Tell that this machine does not carry a command out."""
        if self._begun(job, is_noop=False):
            self._tell(job, EventResult(job.command.event, EventStatus.FAILED, ErrorCode.UNKNOWN_ERROR, reason))

    def _done(self, job: Job) -> EventResult | None:
        """How the event has ended; None where there is nothing to tell. Raises OSError, StateError, CommandRefused."""
        command = job.command
        state = GroupState(self._root, command.group_id)
        state.prepare()
        if command.checks:
            return self._checked(job, state)
        with state.locked():
            host = self._host(job, state)
            self._forget_others(state, command.deployment_id)
            host.begin()
            known = host.result(command.event, command.attempt)
            if not self._begun(job, is_noop=known is None and _is_noop(host, command.event)):
                if command.event == command.events[-1]:
                    host.end()
                return None
            result = known or host.carry_out(command.event, command.attempt)
            if result.status is EventStatus.FAILED or command.event == command.events[-1]:
                host.end()
        return result

    def _checked(self, job: Job, state: GroupState) -> EventResult | None:
        with state.locked():
            if not self._begun(job, is_noop=False):
                return None
            return checking.check(job.command, self._settings, state, self._line.now, lambda: job.is_stopped)

    @staticmethod
    def _forget_others(state: GroupState, deployment_id: str) -> None:
        for other in state.unfinished():
            if other != deployment_id:
                (state.ongoing / other).unlink(missing_ok=True)

    def _host(self, job: Job, state: GroupState) -> HostDeployment:
        command, settings = job.command, self._settings
        scripts = ScriptSettings(frozenset(settings.runas), is_stopped=lambda: job.is_stopped)
        return HostDeployment(
            Deployment(
                command.deployment_id,
                command.group_id,
                command.group,
                command.application,
                command.events,
                command.course,
                command.appspec_name,
                command.file_exists_behavior,
                command.link,
            ),
            state,
            lambda into: self._fetched(job, into),
            scripts,
            self._line.now,
            lambda text: LOG.debug("%s: %s", command.deployment_id, text),
            lambda spec: settings.refusal(spec, command.link),
        )

    # --- the bundle

    def _fetched(self, job: Job, into: Path) -> Path | bundle.Made:
        """The bundle in a file, as the signed command names it, or made here. Raises BundleError, OSError, EventFailed."""
        if job.command.kind == NATIVE:
            return native.made(
                job.command,
                self._settings,
                self._installers,
                into,
                Sources(
                    lambda name, path: self._files(job, path, name),
                    lambda: str(self._answered(job, "credential").get("token", "")),
                    lambda: job.is_stopped,
                ),
                self._line,
            )
        wanted = job.command.sha256
        if into.is_file() and _digest_of(into) == wanted:
            return into
        self._from_server(job, lambda: self._download(into, wanted, "events", str(job.command.event_id), "bundle"))
        return into

    def _files(self, job: Job, into: Path, name: str) -> None:
        wanted = str(job.command.revision["package"]["assets"][name])
        path = ("events", str(job.command.event_id), "files")
        self._from_server(job, lambda: self._download(into, wanted, *path, name=name))

    def _answered(self, job: Job, what: str) -> Mapping[str, Any]:
        return self._from_server(job, lambda: self._line.ask("POST", "events", str(job.command.event_id), what))

    def _from_server(self, job: Job, attempt: Callable[[], T]) -> T:
        try:
            return self._patiently(job, attempt)
        except (Away, Rejected, NotAdmitted) as error:
            raise bundle.BundleError(str(error)) from error

    def _download(self, into: Path, wanted: str, *path: str, **query: str) -> None:
        digest, taken = hashlib.sha256(), 0
        with self._line.fetch(*path, query=query or None) as response, into.open("wb") as file:
            into.chmod(0o600)
            pieces = response.iter_content(_PIECE_BYTES)
            while True:
                with broken_off():
                    piece = next(pieces, b"")
                if not piece:
                    break
                taken += len(piece)
                if taken > bundle.MAX_BYTES:
                    raise bundle.BundleError(f"it is larger than {bundle.MAX_BYTES} bytes")
                digest.update(piece)
                file.write(piece)
        if digest.hexdigest() != wanted:
            into.unlink()
            raise bundle.BundleError(
                f"it is not the one that the deployment names: its SHA-256 is {digest.hexdigest()}, and {wanted} is wanted"
            )

    # --- what is told

    def _begun(self, job: Job, *, is_noop: bool) -> bool:
        """Whether the server wants the event carried out now."""
        told = self._insist(job, "begin", {"isNoop": is_noop})
        return told is not None and told.get("goesOn") is True

    def _tell(self, job: Job, result: EventResult) -> None:
        if job.is_leaving:
            job.over_at = min(job.over_at, time.monotonic() + _LAST_WORD_SECONDS)
        told = {
            "lifecycleEventName": result.event,
            "status": result.status.value,
            "diagnostics": {
                "agentErrorCode": result.code.number,
                "scriptName": _text(result.script),
                "message": _text(result.message),
                "logTail": _text(result.log),
            },
            "durationInMilliseconds": int(result.seconds * 1000),
        }
        LOG.info("%s of deployment %s: %s", result.event, job.command.deployment_id, result.status.value)
        # What this is about has ended: that the script was stopped is told as well.
        answer = self._insist(job, "complete", told, always=True)
        # Pending: this was a turn of an event that goes on.
        ended = answer.get("status") if answer is not None else None
        job.is_late = ended in _ENDS and ended != result.status.value

    def _insist(
        self, job: Job, what: str, body: Mapping[str, Any], *, always: bool = False
    ) -> Mapping[str, Any] | None:
        """The server's answer; None where it takes nothing about the event, or was not reached in time."""
        path = ("events", str(job.command.event_id), what)
        try:
            return self._patiently(job, lambda: self._line.ask("POST", *path, body=body), always=always)
        except (Away, Rejected) as error:
            LOG.warning("%s of deployment %s: %s: %s", job.command.event, job.command.deployment_id, what, error)
            return None

    def _patiently(self, job: Job, attempt: Callable[[], T], *, always: bool = False) -> T:
        def gives_up() -> bool:
            is_late = time.monotonic() > job.over_at
            return is_late or (not always and (job.is_stopped or job.is_leaving))

        return patiently(attempt, gives_up)


def _is_noop(host: HostDeployment, event: str) -> bool:
    try:
        return host.is_noop(event)
    except EventFailed:
        return False  # why, is told when it is carried out


def _text(text: str) -> str:
    """Names of files are bytes, reports are text, and the server takes no NUL character."""
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")[:_MOST_MESSAGE]


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
