"""The agent: asks for commands, makes sure of them, and carries them out, each deployment group in a thread of its own."""

from __future__ import annotations

import base64
import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hooks.builds.remote.link import Away, NotAdmitted, Pause, Rejected
from hooks.deployments.agent import drift
from hooks.deployments.agent.identity import Identity, Memory
from hooks.deployments.agent.line import Line
from hooks.deployments.agent.native import Installers
from hooks.deployments.agent.settings import AgentSettings
from hooks.deployments.agent.work import Job, Worker
from hooks.deployments.signed_commands import Command, CommandRefused, Trust

LOG = logging.getLogger("entrepot.agent")
DRIFT_SECONDS = 600.0
_TICK_SECONDS = 0.2
_OCCUPIED_SECONDS = 1.0
_TAKEN_SECONDS = 0.25
"""When the agent asks for more after it has taken a command; it asks sooner where that has ended."""


class Agent:
    """One machine's agent. ``root`` is where its deployments lie."""

    def __init__(
        self,
        identity: Identity,
        line: Line,
        memory: Memory,
        settings: AgentSettings,
        root: Path,
        installers: Installers,
    ) -> None:
        self._identity = identity
        self._line = line
        self._memory = memory
        self._settings = settings
        self._root = root
        self._worker = Worker(line, settings, root, installers)
        self._lock = threading.Lock()
        self._jobs: dict[int, tuple[Job, threading.Thread]] = {}
        self._freed = threading.Event()
        self._looks_at = 0.0
        self._revoked: NotAdmitted | None = None

    def run(self, told: threading.Event, told_again: threading.Event) -> None:
        """Work until ``told``, and then until what is running has ended; ``told_again`` stops that. Raises NotAdmitted."""
        pause = Pause()
        while not (told.is_set() and not self._running()):
            self._freed.clear()
            if told.is_set():
                self._leave(stops=told_again.is_set())
            try:
                wait_seconds = self._ask(is_leaving=told.is_set())
                pause.reset()
            except CommandRefused as error:
                wait_seconds = pause.next_seconds()
                LOG.warning("a command is refused: %s", error)
            except (Away, Rejected) as error:
                wait_seconds = pause.next_seconds()
                LOG.warning("nothing can be asked; next try in %.1f s: %s", wait_seconds, error)
            self._wait(told, told_again, wait_seconds)
            if self._revoked is not None:
                raise self._revoked

    def _wait(self, told: threading.Event, told_again: threading.Event, seconds: float) -> None:
        end, was_told, was_told_again = time.monotonic() + seconds, told.is_set(), told_again.is_set()
        while (left := end - time.monotonic()) > 0 and not self._freed.is_set():
            if (told.is_set(), told_again.is_set()) != (was_told, was_told_again):
                return
            self._freed.wait(min(left, _TICK_SECONDS))

    def _running(self) -> dict[int, Job]:
        with self._lock:
            return {event_id: job for event_id, (job, _) in self._jobs.items()}

    def _leave(self, *, stops: bool) -> None:
        for job in self._running().values():
            job.is_leaving = True
            job.is_stopped = job.is_stopped or stops

    def _ask(self, *, is_leaving: bool) -> float:
        """Ask once; how long to wait before the next time. Raises Away, Rejected, NotAdmitted, CommandRefused."""
        running = self._running()
        free = 0 if is_leaving else self._settings.at_once - len(running)
        answer = self._line.ask("POST", "poll", body={"running": sorted(running), "free": free})
        try:
            stopped, seconds = [int(each) for each in answer["stoppedEvents"]], float(answer["pollAfterSeconds"])
            given = answer["command"]
        except (KeyError, TypeError, ValueError) as error:
            raise Rejected("the server's answer cannot be read") from error
        for event_id in stopped:
            if event_id in running and not running[event_id].is_stopped:
                LOG.info("event %d is not waited for any more", event_id)
                running[event_id].is_stopped = True
        if given is not None:
            return _TAKEN_SECONDS if self._take(given) else _OCCUPIED_SECONDS
        if not running and time.monotonic() >= self._looks_at and not is_leaving:
            self._look()
        return min(max(seconds, 0.1), 60.0)

    # --- commands

    def _take(self, given: Mapping[str, Any]) -> bool:
        """Make sure of a command, and begin with it if its group is free. Raises CommandRefused, Away."""
        try:
            payload, signature = (base64.b64decode(given[name], validate=True) for name in ("command", "signature"))
        except (KeyError, TypeError, ValueError) as error:
            raise CommandRefused("it cannot be read") from error
        identity = self._identity
        trust = Trust(identity.name, identity.agent_id, identity.trusted_key, self._memory.sequence)
        command = trust.accept(payload, signature, self._line.now())
        reason = ""
        try:
            self._memory.accept(command.sequence)
        except OSError as error:
            # A command whose number is not on the disk could come a second time: it is not carried out.
            reason = f"it could not be carried out on this machine: {error}"
        try:
            _ = command.sha256
        except CommandRefused as error:
            reason = str(error)
        if command.kind not in self._settings.revisions:
            reason = f"this machine's agent takes no revisions of the kind {command.kind!r}"
        return self._begin(command, reason)

    def _begin(self, command: Command, reason: str) -> bool:
        job = Job(command)
        thread = threading.Thread(target=self._work, args=(job, reason), name=f"event-{command.event_id}", daemon=True)
        with self._lock:
            groups = {running.command.group_id for running, _ in self._jobs.values()}
            if command.event_id in self._jobs or command.group_id in groups:
                return False  # it is offered again when the one that runs has ended
            self._jobs[command.event_id] = (job, thread)
        thread.start()
        return True

    def _work(self, job: Job, reason: str) -> None:
        try:
            if reason:
                LOG.error("%s of deployment %s: %s", job.command.event, job.command.deployment_id, reason)
                self._worker.refuse(job, reason)
            else:
                self._worker.carry_out(job)
        except NotAdmitted as error:
            self._revoked = error
        except Exception:
            # The event is offered again, and its time is limited by the server.
            LOG.exception("event %d broke this agent's thread", job.command.event_id)
        finally:
            with self._lock:
                self._jobs.pop(job.command.event_id, None)
            events = job.command.events
            if job.is_late or (events and job.command.event == events[-1]):
                self._looks_at = 0.0
            self._freed.set()

    # --- what is installed

    def _look(self) -> None:
        """Tell what is really there. Raises Away, Rejected, NotAdmitted."""
        found = [each.as_json() for each in drift.look(self._root)]
        self._line.ask("POST", "installed", body={"groups": found[:200]})
        self._looks_at = time.monotonic() + DRIFT_SECONDS
