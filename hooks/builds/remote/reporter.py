"""Tells the server of a build that runs here: its log by offset, its phases, its reports, and how it ended."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from hooks.builds.executor import ExecutorError, StopReason
from hooks.builds.keeping import Keeper
from hooks.builds.log_size import MAX_LOG_BYTES
from hooks.builds.phases import PhaseRecord
from hooks.builds.plan import BuildOutcome
from hooks.builds.remote.keeper import RemoteKeeper
from hooks.builds.remote.lease import HeldLease
from hooks.builds.remote.link import BODY_SECONDS, Away, Rejected
from hooks.builds.report_lines import lines_of
from hooks.builds.reports.result import ReportResult
from registry.clock import Clock
from registry.token_finder import Mask

LOG = logging.getLogger(__name__)

_FLUSH_SECONDS = 0.5
_FLUSH_BYTES = 64 * 1024
_PIECE_BYTES = 512 * 1024
_MOST_TOKENS = 100
_LOOK_SECONDS = 2.0
_MAX_WAITING_BYTES = 4 * 1024 * 1024


class RemoteReporter:
    """Implements ``hooks.builds.journal.BuildReporter``. All in the build's thread."""

    def __init__(self, lease: HeldLease, spool_dir: Path, clock: Clock) -> None:
        self._lease = lease
        self._spool_dir = spool_dir
        self._clock = clock
        self._mask = Mask()
        self._waiting = bytearray()
        self._end = 0
        self._flushed_at = self._look_at = time.monotonic()
        self._batch_document: str | None = None
        self.keeper: Keeper = RemoteKeeper(lease, spool_dir)

    def log(self, data: bytes) -> None:
        """Keep for the next piece: at once when there is much, else within half a second."""
        if self._end >= MAX_LOG_BYTES:
            return  # nothing more is kept there
        self._waiting += self._mask.feed(data)
        while len(self._waiting) >= _FLUSH_BYTES:
            self.flush()
            if len(self._waiting) < _MAX_WAITING_BYTES:
                return
            # The server is away: the build waits with it, rather than the log growing in memory.
            self._lease.insist(self._send)

    def say(self, text: str) -> None:
        """Log an agent's line outside of the run."""
        self.log(f"[Container] {self._clock():%Y/%m/%d %H:%M:%S} {text}\n".encode(errors="replace"))

    def interrupt(self) -> StopReason | None:
        """Asked several times a second: the beat at which a quiet build's last lines become visible."""
        if self._waiting and time.monotonic() - self._flushed_at >= _FLUSH_SECONDS:
            self.flush()
        return self._lease.interrupt()

    def flush(self) -> None:
        """Send what waits. While the server is away it goes on waiting. Raises Abandoned."""
        self._flushed_at = time.monotonic()
        try:
            self._send()
            self._tell_of_tokens()
        except Away as error:
            LOG.warning("lease %s: the log has to wait: %s", self._lease.id, error)

    def _send(self) -> None:
        while self._waiting:
            piece = bytes(self._waiting[:_PIECE_BYTES])
            try:
                told = self._lease.ask("PUT", "log", body=piece, query={"offset": self._end}).json()
            except Rejected as error:
                raise ExecutorError(f"the server does not take the log: {error}") from error
            # What it had got of this before, without our hearing of it, is not sent again.
            taken = min(max(told["end"] - self._end, 0), len(self._waiting))
            if not taken:
                raise ExecutorError("the server takes nothing of the log")
            del self._waiting[:taken]
            self._end += taken

    def found(self, tokens: Collection[str]) -> None:
        """Tell of these with those of the log."""
        self._mask.found |= set(tokens)

    def _tell_of_tokens(self) -> None:
        while self._mask.found:
            some = sorted(self._mask.found)[:_MOST_TOKENS]
            try:
                self._lease.ask("POST", "facts", json={"leakedTokens": some})
            except Rejected as error:
                raise ExecutorError(f"the server does not take it: {error}") from error
            self._mask.found -= set(some)

    def phases(self, records: Sequence[PhaseRecord]) -> None:
        """Tell the phases so far; while the server is away the next phase brings them along."""
        self.flush()
        try:
            self._lease.ask("PUT", "phases", json={"phases": [record.as_json() for record in records]})
        except Away as error:
            LOG.warning("lease %s: a phase cannot be told now: %s", self._lease.id, error)
        except Rejected as error:
            raise ExecutorError(f"the server does not take the phases: {error}") from error

    def resolved(self, identifier: str, commit: str) -> None:
        """Tell which commit a source is: a retry builds the same."""
        self.say(f"Source {identifier or 'version'} is commit {commit}")
        self._tell({"sourceIdentifier": identifier, "resolvedSourceVersion": commit})

    def image(self, digest: str) -> None:
        """Tell what the image's name means now."""
        self._tell({"imageDigest": digest})

    def stands(self) -> None:
        """As ``hooks.builds.debugging.DebugSession``, which this is, too."""
        self.flush()
        self._tell({"paused": True})
        self._look_at = time.monotonic() + _LOOK_SECONDS

    def goes_on(self) -> bool:
        """As ``DebugSession``; while the server is away nobody can have said so."""
        if time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + _LOOK_SECONDS
        try:
            return not self._lease.ask("POST", "heartbeat").json()["paused"]
        except (Away, Rejected, ValueError) as error:
            LOG.warning("lease %s: whether the build goes on cannot be told now: %s", self._lease.id, error)
            return False

    def moved(self) -> None:
        """As ``DebugSession``."""
        self._tell({"paused": False})

    def _tell(self, facts: dict[str, Any]) -> None:
        try:
            self._lease.insist(lambda: self._lease.ask("POST", "facts", json=facts))
        except Rejected as error:
            raise ExecutorError(f"the server does not take it: {error}") from error

    def report(self, report: ReportResult) -> str:
        """Hand a report on; why it is not taken, else empty."""
        self.flush()
        with tempfile.TemporaryFile(dir=self._spool_dir) as file:
            for piece in lines_of(report):
                file.write(piece)

            def attempt() -> str:
                file.seek(0)
                told = self._lease.ask("PUT", "reports", body=file, read_seconds=BODY_SECONDS).json()
                return str(told["fault"])

            try:
                return self._lease.insist(attempt)
            except Rejected as error:
                return f"the server does not take it: {error}"

    def batch(self, document: str) -> Sequence[str]:
        """Tell the buildspec that the first build of a batch has read; what is wrong with it."""
        try:
            asked = self._lease.insist(lambda: self._lease.ask("POST", "batch", json={"document": document}))
        except Rejected as error:
            return [str(error)]
        faults: list[str] = asked.json()["faults"]
        if not faults:
            self._batch_document = document
        return faults

    def finish(self, outcome: BuildOutcome) -> None:
        """Tell how the build ended, after all of its log. Raises Abandoned, ExecutorError."""
        self._waiting += self._mask.flush()
        self._lease.insist(self._send)
        self._lease.insist(self._tell_of_tokens)
        ending: dict[str, Any] = {
            "status": outcome.status.value,
            "phases": [record.as_json() for record in outcome.phases],
            "exportedVariables": dict(outcome.exported),
            "logBytes": self._end,
        }
        if self._batch_document is not None:
            ending["batchDocument"] = self._batch_document
        try:
            self._lease.insist(lambda: self._lease.ask("POST", "finish", json=ending))
        except Rejected as error:
            raise ExecutorError(f"the server does not take the end: {error}") from error
