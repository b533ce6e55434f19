"""Reading reports, as far as the reader may see the builds they come from. In the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, case, func, select, tuple_
from sqlalchemy.orm import Session

from hooks.builds.flakiness import WINDOW, is_flaky
from hooks.builds.logs import Sealer
from hooks.builds.project_rights import may_see_build
from hooks.builds.report_store import message_context
from hooks.builds.reports.model import FAILURES, CaseStatus, ReportType, percentage
from hooks.builds.source import PackageSource
from hooks.models.build import Build, BuildProject
from hooks.models.report import FileCoverageRow, Report, ReportGroup, TestCase
from registry.access import Identity
from registry.errors import Invalid, NotFound

LOOKED_AT = 500
"""So many reports of a group are looked at for those that the reader may see."""
HISTORY = 50
_MOST_FLAKY = 200
_FAILED = tuple(sorted(status.value for status in FAILURES))

Readable = Callable[[Build], bool]


@dataclass(frozen=True, slots=True)
class Found:
    """A report with what it belongs to."""

    report: Report
    group: ReportGroup
    build: Build
    project: str

    @property
    def arn(self) -> str:
        """Its name in the manner of CodeBuild's."""
        return f"arn:entrepot:codebuild:::report/{self.group.name}:{self.report.id}"

    @property
    def is_coverage(self) -> bool:
        """Whether it is about covered lines rather than test cases."""
        return self.group.type == ReportType.CODE_COVERAGE.value


@dataclass(frozen=True, slots=True)
class ReadCase:
    """A test case with its message opened."""

    row: TestCase
    message: str


def may_read(caller: Identity) -> Readable:
    """A report may be read by whoever may read the build it comes from."""
    return lambda build: may_see_build(caller, PackageSource.from_json(build.source))


# --- groups and reports


def _found() -> Select[Report, ReportGroup, Build, str]:
    return (
        select(Report, ReportGroup, Build, BuildProject.name)
        .join(ReportGroup, ReportGroup.id == Report.group_id)
        .join(Build, Build.id == Report.build_id)
        .join(BuildProject, BuildProject.id == Build.project_id)
    )


def get_report(session: Session, report_id: str, readable: Readable) -> Found:
    """One report. Raises NotFound."""
    row = session.execute(_found().where(Report.id == report_id)).first()
    if row is None or not readable(row[2]):
        raise NotFound("report", report_id)
    return Found(*row)


def reports_of_build(session: Session, build_id: str) -> Sequence[Found]:
    """A build's reports, by the names of their groups."""
    return [
        Found(*row) for row in session.execute(_found().where(Report.build_id == build_id).order_by(ReportGroup.name))
    ]


def reports_of_group(
    session: Session, group_id: int, readable: Readable, *, limit: int, after: str | None = None
) -> tuple[Sequence[Found], str | None]:
    """The newest reports, and the id to go on ``after``, None at the end. Raises Invalid for an ``after`` that is gone."""
    statement = _found().where(Report.group_id == group_id).order_by(Report.created_at.desc(), Report.id.desc())
    if after is not None:
        last = session.get(Report, after)
        if last is None:
            raise Invalid("the report to go on after is not there any more; start again without it")
        statement = statement.where(tuple_(Report.created_at, Report.id) < (last.created_at, last.id))
    found: list[Found] = []
    looked_at = 0
    place: str | None = None
    rows = session.execute(statement.limit(LOOKED_AT).execution_options(yield_per=50))
    for row in rows:
        if len(found) == limit:
            rows.close()
            return found, found[-1].report.id
        looked_at += 1
        place = row[0].id
        if readable(row[2]):
            found.append(Found(*row))
    return found, place if looked_at == LOOKED_AT else None


def get_group(session: Session, name: str, readable: Readable) -> Found:
    """A group's newest report that may be read, with the group in it. Raises NotFound where there is none."""
    group = session.scalar(select(ReportGroup).where(ReportGroup.name == name))
    newest = reports_of_group(session, group.id, readable, limit=1)[0] if group is not None else ()
    if not newest:
        raise NotFound("report group", name)
    return newest[0]


def list_groups(
    session: Session, readable: Readable, *, project: str | None, limit: int, after: str | None
) -> tuple[Sequence[Found], str | None]:
    """The groups by name, each as its newest report; the name to go on after, None at the end."""
    statement = select(ReportGroup).order_by(ReportGroup.name).limit(LOOKED_AT)
    if project is not None:
        statement = statement.join(BuildProject).where(BuildProject.name == project)
    if after is not None:
        statement = statement.where(ReportGroup.name > after)
    found: list[Found] = []
    groups = session.scalars(statement).all()
    for group in groups:
        if len(found) == limit:
            return found, found[-1].group.name
        found += reports_of_group(session, group.id, readable, limit=1)[0]
    return found, groups[-1].name if len(groups) == LOOKED_AT else None


# --- what is in a report


def list_cases(
    session: Session,
    sealer: Sealer,
    report_id: str,
    *,
    limit: int,
    after: int | None = None,
    statuses: Collection[CaseStatus] = (),
    failed_first: bool = False,
) -> tuple[Sequence[ReadCase], int | None]:
    """Test cases in the order of the report, and the place to go on ``after``, None at the end.

    With ``failed_first`` the failed ones come before all others, and ``after`` counts cases.
    """
    statement = select(TestCase).where(TestCase.report_id == report_id).limit(limit + 1)
    if statuses:
        statement = statement.where(TestCase.status.in_([status.value for status in statuses]))
    if failed_first:
        order: ColumnElement[int] = case((TestCase.status.in_(_FAILED), 0), else_=1)
        statement = statement.order_by(order, TestCase.ordinal).offset(after or 0)
    else:
        statement = statement.order_by(TestCase.ordinal).where(TestCase.ordinal > (-1 if after is None else after))
    rows = session.scalars(statement).all()
    shown = [_opened(row, sealer) for row in rows[:limit]]
    if len(rows) <= limit:
        return shown, None
    return shown, (after or 0) + limit if failed_first else shown[-1].row.ordinal


def _opened(row: TestCase, sealer: Sealer) -> ReadCase:
    if row.sealed_message is None:
        return ReadCase(row, "")
    return ReadCase(row, sealer.unseal(row.sealed_message, message_context(row.report_id, row.ordinal)).decode())


def list_coverage(
    session: Session, report_id: str, *, limit: int, after: int | None = None
) -> tuple[Sequence[FileCoverageRow], int | None]:
    """Covered files by path, and the place to go on ``after``, None at the end."""
    rows = session.scalars(
        select(FileCoverageRow)
        .where(FileCoverageRow.report_id == report_id, FileCoverageRow.ordinal > (-1 if after is None else after))
        .order_by(FileCoverageRow.ordinal)
        .limit(limit + 1)
    ).all()
    return rows[:limit], rows[limit - 1].ordinal if len(rows) > limit else None


# --- over time


def pass_rate(report: Report) -> float | None:
    """The share of those test cases that had a result which succeeded, in percent; None when none had one."""
    return percentage(report.succeeded, report.failed + report.error)


TREND_FIELDS: Mapping[str, tuple[ReportType, Callable[[Report], float | None]]] = {
    "PASS_RATE": (ReportType.TEST, pass_rate),
    "DURATION": (ReportType.TEST, lambda report: round(report.duration_ns / 1e9, 3)),
    "TOTAL": (ReportType.TEST, lambda report: report.total),
    "LINE_COVERAGE": (ReportType.CODE_COVERAGE, lambda report: percentage(report.lines_covered, report.lines_missed)),
    "LINES_COVERED": (ReportType.CODE_COVERAGE, lambda report: report.lines_covered),
    "LINES_MISSED": (ReportType.CODE_COVERAGE, lambda report: report.lines_missed),
    "BRANCH_COVERAGE": (
        ReportType.CODE_COVERAGE,
        lambda report: percentage(report.branches_covered, report.branches_missed),
    ),
    "BRANCHES_COVERED": (ReportType.CODE_COVERAGE, lambda report: report.branches_covered),
    "BRANCHES_MISSED": (ReportType.CODE_COVERAGE, lambda report: report.branches_missed),
}
"""CodeBuild's words for what can be followed: in a group of which type, and its value (percent, seconds or a number)."""


def trend(reports: Sequence[Found], field: str) -> Sequence[tuple[Found, float]]:
    """The values of reports of one group, oldest first; reports without one are left out. Raises Invalid."""
    if field not in TREND_FIELDS:
        raise Invalid(f"{field[:40]!r} is no trend field; there are {', '.join(TREND_FIELDS)}")
    type_, value_of = TREND_FIELDS[field]
    if reports and reports[0].group.type != type_.value:
        raise Invalid(
            f"{field} is a field of groups of type {type_.value}; this one is of type {reports[0].group.type}"
        )
    values = [(found, value_of(found.report)) for found in reversed(reports) if found.report.status != "GENERATING"]
    return [(found, value) for found, value in values if value is not None]


def history(
    session: Session, sealer: Sealer, group_id: int, case_key: str, readable: Readable
) -> Sequence[tuple[Found, ReadCase]]:
    """A test case in the group's newest reports, newest first. Raises NotFound."""
    reports, _ = reports_of_group(session, group_id, readable, limit=HISTORY)
    known = {found.report.id: found for found in reports}
    rows = session.scalars(select(TestCase).where(TestCase.case_key == case_key, TestCase.report_id.in_(known)))
    by_report = {row.report_id: row for row in rows}
    if not by_report:
        raise NotFound("test case", case_key)
    return [(found, _opened(by_report[found.report.id], sealer)) for found in reports if found.report.id in by_report]


def is_flaky_history(cases: Sequence[tuple[Found, ReadCase]]) -> bool:
    """Whether a case with this ``history`` is flaky by its newest reports."""
    return is_flaky((found.report.source_key, read.row.status) for found, read in cases[:WINDOW])


def flaky_cases(session: Session, group_id: int, readable: Readable) -> Mapping[str, TestCase]:
    """The flaky cases of a group by their keys, each as in the newest report that has it."""
    reports, _ = reports_of_group(session, group_id, readable, limit=WINDOW)
    sources = {found.report.id: found.report.source_key for found in reports}
    place = {report_id: number for number, report_id in enumerate(sources)}
    have_failed = (
        select(TestCase.case_key)
        .where(TestCase.report_id.in_(sources), TestCase.status.in_(_FAILED))
        .group_by(TestCase.case_key)
    )
    both = (
        select(TestCase.case_key)
        .where(
            TestCase.report_id.in_(sources),
            TestCase.status == CaseStatus.SUCCEEDED.value,
            TestCase.case_key.in_(have_failed),
        )
        .group_by(TestCase.case_key)
        .order_by(func.min(TestCase.ordinal), TestCase.case_key)
        .limit(_MOST_FLAKY)
    )
    keys = session.scalars(both).all()
    rows = session.scalars(select(TestCase).where(TestCase.report_id.in_(sources), TestCase.case_key.in_(keys)))
    by_key: dict[str, list[TestCase]] = {key: [] for key in keys}
    for row in sorted(rows, key=lambda row: place[row.report_id]):
        by_key[row.case_key].append(row)
    return {
        key: found[0]
        for key, found in by_key.items()
        if is_flaky((sources[row.report_id], row.status) for row in found)
    }
