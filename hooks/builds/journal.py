"""What a build tells: its log, in CodeBuild's words, and the records of its phases. Secrets are masked here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from hooks.builds import known_shapes
from hooks.builds.keeping import Keeper
from hooks.builds.masking import Masker
from hooks.builds.phases import BuildStatus, Fault, Phase, PhaseRecord
from hooks.builds.reports.result import ReportResult
from registry import token_finder
from registry.clock import Clock

MAX_MESSAGE_CHARACTERS = 1000


class BuildReporter(Protocol):
    """Where a running build is told about. Each method may raise what ends the attempt (a lost lease, no database)."""

    def log(self, data: bytes) -> None:
        """Add to the build's log."""
        ...

    def phases(self, records: Sequence[PhaseRecord]) -> None:
        """All phases entered so far, in order; replaces what was told before."""
        ...

    @property
    def keeper(self) -> Keeper:
        """What keeps the build's artifacts and caches."""
        ...

    def found(self, tokens: Collection[str]) -> None:
        """Be told of tokens of this server that stood in what is shown elsewhere than in the log."""
        ...

    def report(self, report: ReportResult) -> str:
        """Take a report while the call lasts; why it cannot be taken (its group is of another type), else empty."""
        ...


class Journal:
    """Tells a reporter about one pass through the phases."""

    def __init__(self, reporter: BuildReporter, clock: Clock, secrets: Iterable[str]) -> None:
        """``secrets`` are masked in the log and in every message."""
        self._reporter = reporter
        self._clock = clock
        self._masker = Masker(secrets)
        self._shapes = known_shapes.ShapeMask()
        self._at_line_start = True
        self._records: list[PhaseRecord] = []

    def hide(self, secrets: Iterable[str]) -> None:
        """Mask these as well, from here on."""
        self._masker.add(secrets)

    @property
    def masker(self) -> Masker:
        """What knows the build's secrets: for names, messages and files that leave it by other ways than the log.

        Only ``mask`` and ``mask_bytes`` are for others; the stream is the log's.
        """
        return self._masker

    @property
    def records(self) -> tuple[PhaseRecord, ...]:
        """The phases entered so far."""
        return tuple(self._records)

    def say(self, text: str) -> None:
        """Log an agent's line, on a line of its own."""
        start = "" if self._at_line_start else "\n"
        moment = self._clock().strftime("%Y/%m/%d %H:%M:%S")
        self.log(f"{start}[Container] {moment} {text}\n".encode(errors="replace"))

    def log(self, data: bytes) -> None:
        """Log a command's output."""
        if data:
            self._at_line_start = data.endswith(b"\n")
            shown = self._shapes.feed(self._masker.feed(data))
            if shown:
                self._reporter.log(shown)

    def flush(self) -> None:
        """Let go of what the masking holds back; at the end."""
        rest = self._shapes.feed(self._masker.flush()) + self._shapes.flush()
        if rest:
            self._reporter.log(rest)

    def mask(self, text: str) -> str:
        """``text`` without the secrets, credentials of known shapes, and tokens of this server, which are told of."""
        shown = self._masker.mask(text)
        tokens = set(token_finder.find(shown.encode(errors="replace")))
        if tokens:
            self._reporter.found(tokens)
        return token_finder.mask(known_shapes.mask(shown))

    def begin(self, submitted_at: datetime) -> None:
        """Record the two phases that are over when a worker starts."""
        started_at = max(submitted_at, self._clock())
        self._records = [
            PhaseRecord(Phase.SUBMITTED, submitted_at, BuildStatus.SUCCEEDED, submitted_at),
            PhaseRecord(Phase.QUEUED, submitted_at, BuildStatus.SUCCEEDED, started_at),
        ]

    def enter(self, phase: Phase) -> None:
        """Record that a phase begins."""
        self._records.append(PhaseRecord(phase, self._clock()))
        self._reporter.phases(self.records)

    def leave(self, status: BuildStatus, fault: Fault | None = None) -> None:
        """Record how the phase entered last has ended."""
        faults = () if fault is None else (Fault(fault.status_code, self._brief(fault.message)),)
        record = replace(self._records[-1], status=status, ended_at=self._clock(), faults=faults)
        self._records[-1] = record
        self._reporter.phases(self.records)
        self.say(f"Phase complete: {record.phase.value} State: {status.value}")
        code, message = (faults[0].status_code, faults[0].message) if faults else ("", "")
        self.say(f"Phase context status code: {code} Message: {message}")

    def _brief(self, message: str) -> str:
        text = self.mask(" ".join(message.split()))
        return text if len(text) <= MAX_MESSAGE_CHARACTERS else text[: MAX_MESSAGE_CHARACTERS - 1] + "…"
