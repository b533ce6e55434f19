"""The pages of reports: a group over time, one report with its cases or files, one test case over time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from flask import Blueprint, render_template, request
from sqlalchemy.orm import Session

from hooks.builds import report_reading as reading
from hooks.builds.report_reading import Found, ReadCase
from hooks.builds.reports.model import FAILURES, CaseStatus, ReportStatus, ReportType, percentage
from hooks.pages.chart import draw
from hooks.services import HookServices
from registry.http import context
from registry.http.auth import page
from registry.pages.appearance import duration

GROUPS_SHOWN = 100
REPORTS_SHOWN = 50
CASES_SHOWN = 100
FAILURES_ON_BUILD = 5
_FIELDS: Mapping[str, tuple[tuple[str, str], ...]] = MappingProxyType(
    {
        ReportType.TEST.value: (("PASS_RATE", "Passed"), ("DURATION", "Duration"), ("TOTAL", "Test cases")),
        ReportType.CODE_COVERAGE.value: (
            ("LINE_COVERAGE", "Lines"),
            ("BRANCH_COVERAGE", "Branches"),
            ("LINES_MISSED", "Lines missed"),
        ),
    }
)
_BAD = frozenset({ReportStatus.FAILED.value, ReportStatus.INCOMPLETE.value})
_PERCENT = frozenset({"PASS_RATE", "LINE_COVERAGE", "BRANCH_COVERAGE"})
_TABS: Mapping[str, tuple[str, tuple[CaseStatus, ...]]] = MappingProxyType(
    {
        "": ("All", ()),
        "failed": ("Failed", tuple(sorted(FAILURES))),
        "skipped": ("Skipped", (CaseStatus.SKIPPED, CaseStatus.UNKNOWN)),
        "succeeded": ("Passed", (CaseStatus.SUCCEEDED,)),
    }
)


@dataclass(frozen=True, slots=True)
class ReportPanel:
    """A report on its build's page, with its first failed cases."""

    found: Found
    failures: tuple[ReadCase, ...]
    more_failures: int


class ReportPages:
    """The pages of reports."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self, pages: Blueprint) -> None:
        """Add the routes."""
        group = "/report-groups/<name>"
        pages.add_url_rule("/report-groups", "report_groups", page(self.groups))
        pages.add_url_rule(group, "report_group", page(self.group))
        pages.add_url_rule(f"{group}/test-cases/<case_key>", "test_case", page(self.test_case))
        pages.add_url_rule("/reports/<report_id>", "report", page(self.report))
        for function in (percentage, reading.pass_rate):
            pages.add_app_template_global(function)

    def groups(self) -> str:
        """All groups with a report that the reader may see."""
        after = request.args.get("after")
        with self._services.db.read() as session:
            found, place = reading.list_groups(session, self._readable(), project=None, limit=GROUPS_SHOWN, after=after)
            return render_template("builds/report_groups.html", groups=found, next_place=place, after=after)

    def group(self, name: str) -> str:
        """A group: how it went, what is flaky, its reports."""
        readable = self._readable()
        with self._services.db.read() as session:
            newest = reading.get_group(session, name, readable)
            after = request.args.get("after")
            reports, place = reading.reports_of_group(
                session, newest.group.id, readable, limit=REPORTS_SHOWN, after=after
            )
            flaky = {} if newest.is_coverage else reading.flaky_cases(session, newest.group.id, readable)
            return render_template(
                "builds/report_group.html",
                group=newest.group,
                newest=newest,
                reports=reports,
                next_place=place,
                after=after,
                flaky=tuple(flaky.values()),
                **_trend(newest, reports),
            )

    def report(self, report_id: str) -> str:
        """One report with its test cases, the failed ones first, or with its files."""
        after = request.args.get("after", 0, type=int)
        tab = request.args.get("show", "")
        tab = tab if tab in _TABS else ""
        with self._services.db.read() as session:
            found = reading.get_report(session, report_id, self._readable())
            facts: dict[str, Any] = {"found": found, "after": after, "tab": tab}
            if found.is_coverage:
                facts["files"], facts["next_place"] = reading.list_coverage(
                    session, report_id, limit=CASES_SHOWN, after=after or None
                )
            else:
                facts["cases"], facts["next_place"] = self._cases(session, report_id, tab, after)
                facts["flaky"] = reading.flaky_cases(session, found.group.id, self._readable())
                facts["tabs"] = [(key, text, _count(found, statuses)) for key, (text, statuses) in _TABS.items()]
            return render_template("builds/report.html", **facts)

    def test_case(self, name: str, case_key: str) -> str:
        """One test case in the newest reports of its group."""
        readable = self._readable()
        with self._services.db.read() as session:
            group = reading.get_group(session, name, readable).group
            past = reading.history(session, self._services.stores.server_keyring(), group.id, case_key, readable)
            values = [
                (case.row.duration_ns / 1e9, f"Build {found.build.number}: {duration(case.row.duration_ns / 1e9)}")
                for found, case in reversed(past)
            ]
            return render_template(
                "builds/test_case.html",
                group=group,
                case=past[0][1].row,
                past=past,
                is_flaky=reading.is_flaky_history(past),
                chart=draw(values),
            )

    def _cases(self, session: Session, report_id: str, tab: str, after: int) -> tuple[tuple[ReadCase, ...], int | None]:
        cases, place = reading.list_cases(
            session,
            self._services.stores.server_keyring(),
            report_id,
            limit=CASES_SHOWN,
            after=max(0, after),
            statuses=_TABS[tab][1],
            failed_first=True,
        )
        return tuple(cases), place

    @staticmethod
    def _readable() -> reading.Readable:
        return reading.may_read(context.caller())


def panels(session: Session, services: HookServices, build_id: str) -> tuple[ReportPanel, ...]:
    """What a build's page shows of its reports. Whoever asks has seen to it that the build may be read."""
    shown = []
    for found in reading.reports_of_build(session, build_id):
        failures: tuple[ReadCase, ...] = ()
        if found.report.failed or found.report.error:
            cases, _ = reading.list_cases(
                session,
                services.stores.server_keyring(),
                found.report.id,
                limit=FAILURES_ON_BUILD,
                statuses=_TABS["failed"][1],
            )
            failures = tuple(cases)
        shown.append(ReportPanel(found, failures, found.report.failed + found.report.error - len(failures)))
    # What failed comes first; among themselves they keep the order of their names.
    return tuple(sorted(shown, key=lambda panel: panel.found.report.status not in _BAD))


def _trend(newest: Found, reports: Any) -> dict[str, Any]:
    fields = _FIELDS[newest.group.type]
    field = request.args.get("field", "").upper()
    field = field if field in dict(fields) else fields[0][0]
    points = reading.trend(reports, field)
    said = [(value, f"Build {found.build.number}: {_said(field, value)}") for found, value in points]
    top = 100.0 if field in _PERCENT else None
    chart = draw(said, top=top)
    return {
        "fields": fields,
        "field": field,
        "field_text": dict(fields)[field],
        "points": [(found, _said(field, value)) for found, value in reversed(points)],
        "chart": chart,
        "top": _said(field, chart.top),
    }


def _said(field: str, value: float) -> str:
    if field == "DURATION":
        return duration(value)
    return f"{value:g} %" if field in _PERCENT else f"{value:,.0f}"


def _count(found: Found, statuses: tuple[CaseStatus, ...]) -> int:
    if not statuses:
        return found.report.total
    return sum(getattr(found.report, status.value.lower()) for status in statuses)
