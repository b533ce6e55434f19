"""What reports say, whatever their format. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import IO

SECOND_NS = 1_000_000_000


class Malformed(ValueError):
    """A report file that cannot be read, or not wholly; the message goes on behind the file's name."""


class ReportType(StrEnum):
    """What a report group is about; CodeBuild's words."""

    TEST = "TEST"
    CODE_COVERAGE = "CODE_COVERAGE"


class CaseStatus(StrEnum):
    """How a test case ended; CodeBuild's words. ERROR: it broke rather than found a fault."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    ERROR = "ERROR"
    SKIPPED = "SKIPPED"
    UNKNOWN = "UNKNOWN"


class ReportStatus(StrEnum):
    """How a report is; CodeBuild's words. FAILED: a case failed, or nothing could be read; INCOMPLETE: not all was read."""

    GENERATING = "GENERATING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    INCOMPLETE = "INCOMPLETE"


FAILURES = frozenset({CaseStatus.FAILED, CaseStatus.ERROR})


@dataclass(frozen=True, slots=True)
class Case:
    """A test case. ``prefix`` is what the tool puts around suites (a run, an assembly), where it is not the suite."""

    prefix: str
    suite: str
    name: str
    status: CaseStatus
    duration_ns: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class FileCoverage:
    """What of a source file was run. Without any branch in the report both branch figures are 0."""

    path: str
    lines_covered: int
    lines_missed: int
    branches_covered: int = 0
    branches_missed: int = 0


Entry = Case | FileCoverage
Reader = Callable[[IO[bytes]], Iterator[Entry]]
"""Reads one file (seekable, at its beginning); may give some entries before it raises Malformed."""


def percentage(covered: int, missed: int) -> float | None:
    """How much of the whole is covered, in percent with two decimals; None when there is nothing to cover."""
    return round(100 * covered / (covered + missed), 2) if covered + missed else None
