"""A build's report as lines of JSON, on its way from a runner: written there, and read here from bytes nobody trusts. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

from hooks.builds.reports.formats import FORMATS
from hooks.builds.reports.model import Case, CaseStatus, FileCoverage, ReportStatus, ReportType
from hooks.builds.reports.result import KeptEntry, ReportResult, Totals
from registry.errors import Invalid

MOST_ENTRIES = 21_000
"""What ``hooks.builds.reporting`` keeps of a report at the most."""
MOST_BYTES = 512 * 1024 * 1024
_BATCH = 500
_LONGEST_LINE = 256 * 1024
_LONGEST_NAME = 1000
_LONGEST_MESSAGE = 5000
_MOST = 2**31 - 1
_MOST_NS = 2**62
_GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}\Z")
_FIGURES = ("lines_covered", "lines_missed", "branches_covered", "branches_missed")

Hide = Callable[[str], str]
"""Takes secrets out of a text."""


def lines_of(report: ReportResult) -> Iterator[bytes]:
    """The report in pieces, each of whole lines: what it says as a whole, then what is kept."""
    totals = report.totals
    head = {
        "group": report.group,
        "isWholeName": report.is_whole_name,
        "type": report.type.value,
        "fileFormat": report.file_format,
        "status": report.status.value,
        "message": report.message,
        "truncated": report.truncated,
        "cases": {status.value: count for status, count in totals.cases.items()},
        "figures": [totals.duration_ns, *(getattr(totals, name) for name in _FIGURES)],
    }
    yield _line(head)
    for batch in report.batches():
        yield b"".join(_line(_entry(kept)) for kept in batch)


def _line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _entry(kept: KeptEntry) -> list[Any]:
    entry = kept.entry
    if isinstance(entry, FileCoverage):
        return [kept.raw_path, entry.path, *(getattr(entry, name) for name in _FIGURES)]
    return [
        kept.raw_path,
        entry.prefix,
        entry.suite,
        entry.name,
        entry.status.value,
        entry.duration_ns,
        entry.message,
    ]


def read_lines(body: IO[bytes], hide: Hide) -> ReportResult:
    """Read a report's head; its ``batches`` read on, once. Raises Invalid at once, or from ``batches``."""
    lines = _lines(body)
    head = next(lines, None)
    if not isinstance(head, dict):
        raise Invalid("the report has no first line that says what it is")
    try:
        type_, status = ReportType(head["type"]), ReportStatus(head["status"])
        cases = {CaseStatus(word): _number(count) for word, count in head["cases"].items()}
        duration, *figures = head["figures"]
        duration_ns = _number(duration, _MOST_NS)
        covered, missed, branches_covered, branches_missed = (_number(each) for each in figures)
        group, format_ = head["group"], head["fileFormat"]
        message = _text(hide, head.get("message", ""), _LONGEST_NAME)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise Invalid("the report's first line is none") from error
    if not isinstance(group, str) or not _GROUP.match(group) or format_ not in FORMATS:
        raise Invalid("the report's group or format is none")
    if FORMATS[format_].type is not type_ or status is ReportStatus.GENERATING:
        raise Invalid("the report's type or status is none")
    return ReportResult(
        group,
        head.get("isWholeName") is True,
        type_,
        format_,
        status,
        message,
        head.get("truncated") is True,
        Totals(cases, duration_ns, covered, missed, branches_covered, branches_missed),
        lambda: _batches(lines, type_, hide),
    )


def _lines(body: IO[bytes]) -> Iterator[Any]:
    buffer = bytearray()
    while piece := body.read(_LONGEST_LINE):
        buffer += piece
        while (end := buffer.find(b"\n")) >= 0:
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                raise Invalid("a line of the report is no JSON") from error
        if len(buffer) > _LONGEST_LINE:
            raise Invalid(f"a line of the report is longer than {_LONGEST_LINE} bytes")
    if buffer:
        raise Invalid("the report ends within a line")


def _batches(lines: Iterator[Any], type_: ReportType, hide: Hide) -> Iterator[Sequence[KeptEntry]]:
    batch: list[KeptEntry] = []
    read = _read_case if type_ is ReportType.TEST else _read_coverage
    for count, line in enumerate(lines):
        if count >= MOST_ENTRIES:
            raise Invalid(f"a report has at most {MOST_ENTRIES} entries")
        try:
            batch.append(read(line, hide))
        except (ValueError, TypeError) as error:
            raise Invalid("a line of the report is no entry") from error
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _read_case(line: Any, hide: Hide) -> KeptEntry:
    raw_path, prefix, suite, name, status, duration_ns, message = line
    prefix, suite, name = (_text(hide, each, _LONGEST_NAME) for each in (prefix, suite, name))
    message = _text(hide, message, _LONGEST_MESSAGE)
    case = Case(prefix, suite, name, CaseStatus(status), _number(duration_ns, _MOST_NS), message)
    return KeptEntry(case, _text(hide, raw_path, _LONGEST_NAME))


def _read_coverage(line: Any, hide: Hide) -> KeptEntry:
    raw_path, path, *figures = line
    covered, missed, branches_covered, branches_missed = (_number(each) for each in figures)
    entry = FileCoverage(_text(hide, path, _LONGEST_NAME), covered, missed, branches_covered, branches_missed)
    return KeptEntry(entry, _text(hide, raw_path, _LONGEST_NAME))


def _number(value: Any, most: int = _MOST) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(value)
    return value


def _text(hide: Hide, value: Any, most: int) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    clean = hide(value.encode(errors="replace").decode()).replace("\0", "\ufffd") if value else ""
    return clean[:most]
