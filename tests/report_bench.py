"""Reports of builds for tests: handed in as a worker does it, without a build that runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from hooks.builds import report_store
from hooks.builds.logs import Sealer
from hooks.builds.reports.model import FAILURES, Case, CaseStatus, Entry, FileCoverage, ReportStatus, ReportType
from hooks.builds.reports.result import KeptEntry, ReportResult, Totals
from registry.db import Database


def result(name: str, entries: Sequence[Entry], message: str = "", status: ReportStatus | None = None) -> ReportResult:
    cases = [entry for entry in entries if isinstance(entry, Case)]
    files = [entry for entry in entries if isinstance(entry, FileCoverage)]
    has_failed = any(case.status in FAILURES for case in cases)
    totals = Totals(
        Counter(case.status for case in cases),
        sum(case.duration_ns for case in cases),
        *(sum(getattr(file, figure) for file in files) for figure in report_store.FIGURES),
    )
    kept = [KeptEntry(entry, "build/results.xml") for entry in entries]
    return ReportResult(
        name,
        is_whole_name=False,
        type=ReportType.CODE_COVERAGE if files else ReportType.TEST,
        file_format="COBERTURAXML" if files else "JUNITXML",
        status=status or (ReportStatus.FAILED if has_failed else ReportStatus.SUCCEEDED),
        message=message,
        truncated=False,
        totals=totals,
        batches=lambda: (kept[start : start + 500] for start in range(0, len(kept), 500)),
    )


def hand_in(database: Database, sealer: Sealer, build_id: str, report: ReportResult, now: datetime) -> str:
    """Keep a report; its id."""
    with database.write() as session:
        report_id, fault = report_store.begin_report(session, build_id, report, now)
        assert report_id is not None
        assert not fault
        writer = report_store.EntryWriter(sealer, report_id)
        for batch in report.batches():
            writer.write(session, writer.rows(batch))
        report_store.end_report(session, report_id, report)
    return report_id


def case(name: str, status: str = "SUCCEEDED", message: str = "", *, suite: str = "tests.test_calc") -> Case:
    return Case("pytest", suite, name, CaseStatus(status), 12_000_000, message)
