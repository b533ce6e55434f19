"""The rows of reports: made while a build hands its reports in, and removed when they are old. In the caller's transaction."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from hooks.builds.logs import Sealer
from hooks.builds.reports.model import Case, CaseStatus, FileCoverage, ReportStatus
from hooks.builds.reports.result import KeptEntry, ReportResult
from hooks.models.build import Build, BuildProject
from hooks.models.report import FileCoverageRow, Report, ReportGroup, TestCase
from registry.db import table_of
from registry.repos.sealed_fields import SealedField

_REMOVED_AT_ONCE = 10


def begin_report(session: Session, build_id: str, result: ReportResult, now: datetime) -> tuple[str | None, str]:
    """Make the report's row, GENERATING, and its group where there is none: (id, why nothing may be added to it).

    What an earlier attempt of the build left in the group is replaced. A group of another type gets a FAILED report
    that says so; in a group of another project none is made.
    """
    build = session.get_one(Build, build_id)
    project = session.get_one(BuildProject, build.project_id)
    name = result.group if result.is_whole_name else f"{project.name}-{result.group}"
    group = session.scalar(select(ReportGroup).where(ReportGroup.name == name))
    if group is None:
        group = ReportGroup(name=name, type=result.type.value, project_id=project.id, created_at=now)
        session.add(group)
        session.flush()
    elif group.project_id != project.id:
        return None, f"the report group {name} belongs to another build project"
    fault = ""
    if group.type != result.type.value:
        fault = (
            f"the report group {name} is of type {group.type} and takes no {result.file_format}, which is "
            f"{result.type.value}; a group keeps its type, so give the report another name"
        )
    session.execute(delete(Report).where(Report.build_id == build_id, Report.group_id == group.id))
    report = Report(
        id=str(uuid.uuid4()),
        group_id=group.id,
        build_id=build_id,
        source_key=source_key(build),
        file_format=result.file_format,
        status=(ReportStatus.FAILED if fault else ReportStatus.GENERATING).value,
        message=fault,
        created_at=now,
    )
    session.add(report)
    session.flush()
    return report.id, fault


def source_key(build: Build) -> str:
    """The same for builds of the same files: of the same pinned assets, or of the same commits."""
    told = [build.source, build.resolved_versions]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


class EntryWriter:
    """Adds the entries of one report, batch after batch. A batch may be written again: it replaces itself."""

    def __init__(self, sealer: Sealer, report_id: str) -> None:
        self._sealer = sealer
        self._report_id = report_id
        self._place = 0
        self._seen: Counter[str] = Counter()

    def rows(self, batch: Sequence[KeptEntry]) -> list[dict[str, object]]:
        """The rows of the next batch. Call once for each."""
        return [self._row(kept) for kept in batch]

    def write(self, session: Session, rows: Sequence[dict[str, object]]) -> None:
        """Insert one batch of rows."""
        model = TestCase if "case_key" in rows[0] else FileCoverageRow
        first, last = rows[0]["ordinal"], rows[-1]["ordinal"]
        session.execute(
            delete(model).where(model.report_id == self._report_id, model.ordinal.between(first, last)),
            execution_options={"synchronize_session": False},
        )
        session.execute(insert(model), list(rows))

    def _row(self, kept: KeptEntry) -> dict[str, object]:
        place, entry = self._place, kept.entry
        self._place += 1
        if isinstance(entry, FileCoverage):
            figures = {name: getattr(entry, name) for name in FIGURES}
            return {"report_id": self._report_id, "ordinal": place, "path": entry.path, **figures}
        message = entry.message.encode()
        return {
            "report_id": self._report_id,
            "ordinal": place,
            "case_key": self._key(entry),
            "prefix": entry.prefix,
            "suite": entry.suite,
            "name": entry.name,
            "status": entry.status.value,
            "duration_ns": entry.duration_ns,
            "sealed_message": self._sealer.seal(message, message_context(self._report_id, place)) if message else None,
            "raw_path": kept.raw_path,
        }

    def _key(self, case: Case) -> str:
        name = f"{case.prefix}\0{case.suite}\0{case.name}"
        self._seen[name] += 1
        # Cases of one name (rows of a scenario) are told apart by their order.
        return hashlib.sha256(f"{name}\0{self._seen[name]}".encode()).hexdigest()[:32]


FIGURES = ("lines_covered", "lines_missed", "branches_covered", "branches_missed")


def end_report(session: Session, report_id: str, result: ReportResult) -> None:
    """Write what the report says as a whole."""
    totals = result.totals
    session.execute(
        update(Report)
        .where(Report.id == report_id)
        .values(
            status=result.status.value,
            message=result.message,
            truncated=result.truncated,
            total=totals.total,
            duration_ns=totals.duration_ns,
            **{status.value.lower(): totals.cases.get(status, 0) for status in CaseStatus},
            **{name: getattr(totals, name) for name in FIGURES},
        ),
        execution_options={"synchronize_session": False},
    )


def drop_reports(session: Session, build_id: str) -> None:
    """Remove what a broken-off attempt of the build has left."""
    session.execute(delete(Report).where(Report.build_id == build_id))


def close_reports(session: Session, build_id: str) -> None:
    """End the reports that the build did not come to the end of."""
    session.execute(
        update(Report)
        .where(Report.build_id == build_id, Report.status == ReportStatus.GENERATING.value)
        .values(status=ReportStatus.INCOMPLETE.value, message="the build ended before the report was read"),
        execution_options={"synchronize_session": False},
    )


def forget_old(session: Session, before: datetime) -> int:
    """Remove some of the reports from before a moment, oldest first; how many. None is left when it says 0."""
    old = session.scalars(
        select(Report.id).where(Report.created_at < before).order_by(Report.created_at).limit(_REMOVED_AT_ONCE)
    ).all()
    session.execute(delete(Report).where(Report.id.in_(old)))
    return len(old)


def message_context(report_id: str, ordinal: int) -> str:
    """What the box of a test case's message is bound to."""
    return f"test-case:{report_id}:{ordinal}"


def sealed_messages() -> SealedField:
    """Where the messages lie, for whoever rotates the server's keys."""
    table = table_of(TestCase)
    rows = select(table.c.report_id, table.c.ordinal, table.c.sealed_message)
    return SealedField(
        "messages of test cases",
        table,
        "sealed_message",
        rows,
        lambda row: message_context(row.report_id, row.ordinal),
    )
