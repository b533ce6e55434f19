"""Test and coverage reports of builds: groups, reports, what is in them, and how it went over time."""

from __future__ import annotations

from typing import Any

from hooks.api.report_shapes import (
    CodeCoverage,
    CodeCoverageList,
    CodeCoverageSummary,
    CoverageQuery,
    FlakyList,
    FlakyTestCase,
    GroupQuery,
    PastResult,
    ReportDetail,
    ReportGroupDetail,
    ReportGroupList,
    ReportList,
    ReportQuery,
    TestCaseDetail,
    TestCaseHistory,
    TestCaseList,
    TestCaseQuery,
    TestSummary,
    Trend,
    TrendPoint,
    TrendQuery,
)
from hooks.builds import report_reading as reading
from hooks.builds.records import get_build
from hooks.builds.report_reading import Found, Readable, ReadCase
from hooks.builds.reports.model import CaseStatus, percentage
from hooks.models.report import FileCoverageRow, Report
from hooks.services import HookServices
from registry.api.routes import Route
from registry.errors import Invalid, NotFound
from registry.http import context
from registry.http.auth import signed_in_api


class ReportViews:
    """The operations on reports. All of them only read."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self) -> tuple[Route, ...]:
        """The part of the table. Reports belong to builds, those to repositories: each operation looks at the object's."""
        one, group, door = "/reports/<report_id>", "/report-groups/<name>", signed_in_api
        return (
            Route("GET", "/report-groups", door, self.list_report_groups, query=GroupQuery, answer=ReportGroupList),
            Route("GET", group, door, self.show_report_group, answer=ReportGroupDetail),
            Route("GET", f"{group}/reports", door, self.list_reports, query=ReportQuery, answer=ReportList),
            Route("GET", f"{group}/trend", door, self.show_trend, query=TrendQuery, answer=Trend),
            Route("GET", f"{group}/flaky", door, self.list_flaky, answer=FlakyList),
            Route("GET", f"{group}/test-cases/<case_key>", door, self.show_history, answer=TestCaseHistory),
            Route("GET", one, door, self.show_report, answer=ReportDetail),
            Route("GET", f"{one}/test-cases", door, self.list_test_cases, query=TestCaseQuery, answer=TestCaseList),
            Route("GET", f"{one}/coverage", door, self.list_coverage, query=CoverageQuery, answer=CodeCoverageList),
            Route("GET", "/builds/<build_id>/reports", door, self.list_build_reports, answer=ReportList),
        )

    def list_report_groups(self, query: GroupQuery) -> ReportGroupList:
        """The report groups in which there is a report that the caller may read."""
        with self._services.db.read() as session:
            found, place = reading.list_groups(
                session, _readable(), project=query.project, limit=query.limit, after=query.after
            )
            return ReportGroupList(tuple(map(_group, found)), place)

    def show_report_group(self, name: str) -> ReportGroupDetail:
        """A report group."""
        with self._services.db.read() as session:
            return _group(reading.get_group(session, name, _readable()))

    def list_reports(self, name: str, query: ReportQuery) -> ReportList:
        """The newest reports of a group."""
        with self._services.db.read() as session:
            readable = _readable()
            group = reading.get_group(session, name, readable).group
            found, place = reading.reports_of_group(session, group.id, readable, limit=query.limit, after=query.after)
            return ReportList(tuple(map(_detail, found)), place)

    def show_trend(self, name: str, query: TrendQuery) -> Trend:
        """How a field went over the newest reports of a group.

        Fields of tests: PASS_RATE (percent of the cases that succeeded or failed), DURATION (seconds), TOTAL; of coverage:
        LINE_COVERAGE and BRANCH_COVERAGE (percent), LINES_COVERED, LINES_MISSED, BRANCHES_COVERED, BRANCHES_MISSED.
        """
        field = query.field.upper()
        with self._services.db.read() as session:
            readable = _readable()
            group = reading.get_group(session, name, readable).group
            reports, _ = reading.reports_of_group(session, group.id, readable, limit=query.limit)
            points = reading.trend(reports, field)
            values = [value for _, value in points]
            return Trend(
                field,
                _unit(field),
                round(sum(values) / len(values), 2) if values else None,
                min(values, default=None),
                max(values, default=None),
                tuple(TrendPoint(**_place(found), data=value) for found, value in points),
            )

    def list_flaky(self, name: str) -> FlakyList:
        """The flaky test cases of a group: both succeeded and failed for the same source, or changed three times."""
        with self._services.db.read() as session:
            readable = _readable()
            group = reading.get_group(session, name, readable).group
            cases = reading.flaky_cases(session, group.id, readable).values()
            return FlakyList(tuple(FlakyTestCase(case.case_key, case.prefix, case.suite, case.name) for case in cases))

    def show_history(self, name: str, case_key: str) -> TestCaseHistory:
        """How a test case did in the newest reports of its group."""
        with self._services.db.read() as session:
            readable = _readable()
            group = reading.get_group(session, name, readable).group
            past = reading.history(session, self._sealer(), group.id, case_key, readable)
            row = past[0][1].row
            items = tuple(
                PastResult(
                    **_place(found), status=case.row.status, duration_in_nano_seconds=case.row.duration_ns,
                    message=case.message,
                )
                for found, case in past
            )  # fmt: skip
            return TestCaseHistory(case_key, row.prefix, row.suite, row.name, reading.is_flaky_history(past), items)

    def show_report(self, report_id: str) -> ReportDetail:
        """A report."""
        with self._services.db.read() as session:
            return _detail(reading.get_report(session, report_id, _readable()))

    def list_test_cases(self, report_id: str, query: TestCaseQuery) -> TestCaseList:
        """The test cases of a report, maybe only those of some statuses."""
        statuses = [_status(word) for word in query.status.split(",")] if query.status else ()
        with self._services.db.read() as session:
            reading.get_report(session, report_id, _readable())
            cases, place = reading.list_cases(
                session, self._sealer(), report_id, limit=query.limit, after=query.after, statuses=statuses
            )
            return TestCaseList(tuple(map(_case, cases)), None if place is None else str(place))

    def list_coverage(self, report_id: str, query: CoverageQuery) -> CodeCoverageList:
        """The files of a coverage report."""
        with self._services.db.read() as session:
            reading.get_report(session, report_id, _readable())
            rows, place = reading.list_coverage(session, report_id, limit=query.limit, after=query.after)
            files = tuple(CodeCoverage(**_figures(row), file_path=row.path) for row in rows)
            return CodeCoverageList(files, None if place is None else str(place))

    def list_build_reports(self, build_id: str) -> ReportList:
        """All reports of a build, by the names of their groups."""
        with self._services.db.read() as session:
            if not _readable()(get_build(session, build_id)):
                raise NotFound("build", build_id)
            return ReportList(tuple(map(_detail, reading.reports_of_build(session, build_id))), None)

    def _sealer(self) -> Any:
        return self._services.stores.server_keyring()


def _readable() -> Readable:
    return reading.may_read(context.caller())


def _status(word: str) -> CaseStatus:
    try:
        return CaseStatus(word.strip().upper())
    except ValueError:
        raise Invalid(f"{word[:20]!r} is no status; there are {', '.join(CaseStatus)}") from None


def _group(newest: Found) -> ReportGroupDetail:
    group = newest.group
    return ReportGroupDetail(group.name, group.type, group.created_at, _detail(newest))


def _detail(found: Found) -> ReportDetail:
    report = found.report
    return ReportDetail(
        id=report.id,
        arn=found.arn,
        type=found.group.type,
        report_group=found.group.name,
        project=found.project,
        build_id=report.build_id,
        build_number=found.build.number,
        file_format=report.file_format,
        status=report.status,
        message=report.message,
        truncated=report.truncated,
        created=report.created_at,
        test_summary=None if found.is_coverage else _test_summary(report),
        code_coverage_summary=CodeCoverageSummary(**_figures(report)) if found.is_coverage else None,
    )


def _test_summary(report: Report) -> TestSummary:
    counts = {status.value: int(getattr(report, status.value.lower())) for status in CaseStatus}
    return TestSummary(report.total, counts, report.duration_ns, reading.pass_rate(report))


def _figures(row: Report | FileCoverageRow) -> dict[str, Any]:
    return {
        "line_coverage_percentage": percentage(row.lines_covered, row.lines_missed),
        "lines_covered": row.lines_covered,
        "lines_missed": row.lines_missed,
        "branch_coverage_percentage": percentage(row.branches_covered, row.branches_missed),
        "branches_covered": row.branches_covered,
        "branches_missed": row.branches_missed,
    }


def _case(case: ReadCase) -> TestCaseDetail:
    row = case.row
    return TestCaseDetail(
        row.case_key, row.prefix, row.suite, row.name, row.status, row.duration_ns, case.message, row.raw_path
    )


def _place(found: Found) -> dict[str, Any]:
    report = found.report
    return {
        "report_id": report.id,
        "build_id": report.build_id,
        "build_number": found.build.number,
        "created": report.created_at,
    }


def _unit(field: str) -> str:
    if field in {"PASS_RATE", "LINE_COVERAGE", "BRANCH_COVERAGE"}:
        return "percent"
    return "seconds" if field == "DURATION" else "count"
