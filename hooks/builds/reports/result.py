"""A build's report on its way from where it was read to where it is kept. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hooks.builds.reports.model import CaseStatus, Entry, ReportStatus, ReportType, percentage


@dataclass(frozen=True, slots=True)
class Totals:
    """What a report says in numbers; for everything that was read."""

    cases: Mapping[CaseStatus, int] = field(default_factory=dict)
    duration_ns: int = 0
    lines_covered: int = 0
    lines_missed: int = 0
    branches_covered: int = 0
    branches_missed: int = 0

    @property
    def total(self) -> int:
        """How many test cases."""
        return sum(self.cases.values())


@dataclass(frozen=True, slots=True)
class KeptEntry:
    """A test case or a covered file, cut to size and masked; ``raw_path`` is the report file it stood in."""

    entry: Entry
    raw_path: str


@dataclass(frozen=True, slots=True)
class ReportResult:
    """A build's report, as its reporter is told of it. ``group`` is the name in the buildspec.

    With ``is_whole_name`` (the key was an ARN) the project's name does not go before it. ``batches`` gives what is kept,
    from the beginning each time it is called.
    """

    group: str
    is_whole_name: bool
    type: ReportType
    file_format: str
    status: ReportStatus
    message: str
    truncated: bool
    totals: Totals
    batches: Callable[[], Iterator[Sequence[KeptEntry]]]


def said(totals: Totals) -> str:
    """The numbers in one line, for people."""
    lines = percentage(totals.lines_covered, totals.lines_missed)
    if lines is not None:
        return f"{lines} % of {totals.lines_covered + totals.lines_missed} lines covered"
    counts = (f"{count} {status.value.lower()}" for status, count in totals.cases.items() if count)
    return ", ".join([f"{totals.total} test cases", *counts])
