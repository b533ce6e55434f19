"""The shapes of reports in the management interface; CodeBuild's names where it has them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from registry.api.shapes import Between, Length


@dataclass(frozen=True, slots=True)
class TestSummary:
    """A report's test cases in numbers; `passRate` is in percent of those that succeeded or failed."""

    __test__ = False

    total: int
    status_counts: dict[str, int]
    duration_in_nano_seconds: int
    pass_rate: float | None


@dataclass(frozen=True, slots=True)
class CodeCoverageSummary:
    """A report's coverage in numbers; percentages are null where there is nothing to cover."""

    line_coverage_percentage: float | None
    lines_covered: int
    lines_missed: int
    branch_coverage_percentage: float | None
    branches_covered: int
    branches_missed: int


@dataclass(frozen=True, slots=True)
class ReportDetail:
    """A report. Of `testSummary` and `codeCoverageSummary` one is null, by its type.

    `truncated` says that fewer test cases or files are kept than were counted.
    """

    id: str
    arn: str
    type: str
    report_group: str
    project: str
    build_id: str
    build_number: int
    file_format: str
    status: str
    message: str
    truncated: bool
    created: datetime
    test_summary: TestSummary | None
    code_coverage_summary: CodeCoverageSummary | None


@dataclass(frozen=True, slots=True)
class ReportGroupDetail:
    """A report group; `type` is `TEST` or `CODE_COVERAGE` for good. `newest` is the newest report the caller may read."""

    name: str
    type: str
    created: datetime
    newest: ReportDetail


@dataclass(frozen=True, slots=True)
class ReportGroupList:
    """Groups with a report that the caller may read, by name; `next` goes into `after`, null at the end."""

    items: tuple[ReportGroupDetail, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class ReportList:
    """Reports, newest first; `next` goes into `after`, null at the end."""

    items: tuple[ReportDetail, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class TestCaseDetail:
    """A test case. `id` is the same in every report of the group; `testRawDataPath` is the file it was read from."""

    __test__ = False

    id: str
    prefix: str
    test_suite_name: str
    name: str
    status: str
    duration_in_nano_seconds: int
    message: str
    test_raw_data_path: str


@dataclass(frozen=True, slots=True)
class TestCaseList:
    """Test cases in the order of the report; `next` goes into `after`, null at the end."""

    __test__ = False

    items: tuple[TestCaseDetail, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class CodeCoverage(CodeCoverageSummary):
    """What of a source file was run."""

    file_path: str


@dataclass(frozen=True, slots=True)
class CodeCoverageList:
    """Files by path; `next` goes into `after`, null at the end."""

    items: tuple[CodeCoverage, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class TrendPoint:
    """A report's value."""

    report_id: str
    build_id: str
    build_number: int
    created: datetime
    data: float


@dataclass(frozen=True, slots=True)
class Trend:
    """How a field went, oldest first; `unit` is `percent`, `seconds` or `count`. The figures are null without a report."""

    field: str
    unit: str
    average: float | None
    min: float | None
    max: float | None
    raw_data: tuple[TrendPoint, ...]


@dataclass(frozen=True, slots=True)
class PastResult:
    """A test case in one report."""

    report_id: str
    build_id: str
    build_number: int
    created: datetime
    status: str
    duration_in_nano_seconds: int
    message: str


@dataclass(frozen=True, slots=True)
class TestCaseHistory:
    """A test case over the newest reports of its group, newest first.

    `flaky`: among the newest 20 it both succeeded and failed for the same source, or its result changed three times.
    """

    __test__ = False

    id: str
    prefix: str
    test_suite_name: str
    name: str
    flaky: bool
    items: tuple[PastResult, ...]


@dataclass(frozen=True, slots=True)
class FlakyTestCase:
    """A flaky test case."""

    id: str
    prefix: str
    test_suite_name: str
    name: str


@dataclass(frozen=True, slots=True)
class FlakyList:
    """The flaky test cases among the newest 20 reports of a group."""

    items: tuple[FlakyTestCase, ...]


@dataclass(frozen=True, slots=True)
class GroupQuery:
    """Of which project, and where to go on in the list."""

    project: Annotated[str, Length(1, 100)] | None = None
    after: Annotated[str, Length(1, 255)] | None = None
    limit: Annotated[int, Between(1, 100)] = 50


@dataclass(frozen=True, slots=True)
class ReportQuery:
    """Where to go on in the list."""

    after: Annotated[str, Length(1, 36)] | None = None
    limit: Annotated[int, Between(1, 100)] = 50


@dataclass(frozen=True, slots=True)
class TestCaseQuery:
    """`status` is one or more of SUCCEEDED, FAILED, ERROR, SKIPPED, UNKNOWN, with commas between them."""

    __test__ = False

    status: Annotated[str, Length(1, 60)] | None = None
    after: Annotated[int, Between(0, 10**9)] | None = None
    limit: Annotated[int, Between(1, 500)] = 100


@dataclass(frozen=True, slots=True)
class CoverageQuery:
    """Where to go on in the list."""

    after: Annotated[int, Between(0, 10**9)] | None = None
    limit: Annotated[int, Between(1, 500)] = 100


@dataclass(frozen=True, slots=True)
class TrendQuery:
    """Which field, and over how many of the newest reports."""

    field: Annotated[str, Length(1, 40)]
    limit: Annotated[int, Between(1, 100)] = 50
