"""A build's reports: taken out of its sandbox, read on this side from bytes that nobody trusts, and told to the reporter.

A report whose files are missing or cannot be read is FAILED and says why; it ends no build by itself. Nothing is held
in memory whole: files and what was read of them lie in temporary files.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import IO

from hooks.builds.executor import ExecutorError, Interrupt, Outcome, Sandbox, Selection
from hooks.builds.journal import Journal
from hooks.builds.report_files import MIB, MOST_ZIP_BYTES, CappedSink, report_files
from hooks.builds.reports.formats import FORMATS
from hooks.builds.reports.model import FAILURES, Case, CaseStatus, Entry, FileCoverage, Malformed, ReportStatus
from hooks.builds.reports.result import KeptEntry, ReportResult, Totals
from hooks.builds.spec import ReportSpec

MOST_KEPT = 20_000
MOST_KEPT_FAILURES = 1_000
"""So many failed cases are kept behind the first ``MOST_KEPT`` cases."""
MOST_READ = 1_000_000
LONGEST_NAME = 1000
LONGEST_MESSAGE = 5000
BATCH = 500
_MOST_FAULTS = 20
_PAUSE_ENTRIES = 256
_GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}\Z")
_ARN = re.compile(r"arn:[^:]*:[^:]*:[^:]*:[^:]*:report-group/(.+)\Z")


def collect_reports(
    specs: Sequence[ReportSpec],
    room: Sandbox,
    journal: Journal,
    *,
    tell: Callable[[ReportResult], str],
    interrupt: Interrupt,
    check: Callable[[Outcome], None],
    pause: Callable[[], None],
) -> list[str]:
    """Take all reports; one line for each that is not as it should be (whose cases failed is not among them).

    ``tell`` hands a report on and returns why it could not be taken, empty when it was; ``check`` raises for an outcome
    that ends the build, ``pause`` when there is a reason to stop. Raises Refused, ExecutorError.
    """
    if not specs:
        return []
    faults = []
    groups: set[tuple[str, bool]] = set()
    try:
        variables = room.environment()
    except ExecutorError as error:
        return [f"the reports cannot be read: {error}"]
    for spec in specs:
        fault = _Collection(spec, room, journal, variables, pause, groups).run(tell, interrupt, check)
        if fault:
            journal.say(f"Report {spec.name}: {fault}")
            faults.append(f"report {spec.name}: {fault}")
    return faults


class _Collection:
    """The way of one report."""

    def __init__(
        self,
        spec: ReportSpec,
        room: Sandbox,
        journal: Journal,
        variables: Mapping[str, str],
        pause: Callable[[], None],
        groups: set[tuple[str, bool]],
    ) -> None:
        """``groups`` are those of the reports before this one, which may be meant by variables."""
        self._groups = groups
        self._spec = spec
        self._room = room
        self._journal = journal
        self._variables = variables
        self._pause = pause
        self._faults: list[str] = []

    def run(self, tell: Callable[[ReportResult], str], interrupt: Interrupt, check: Callable[[Outcome], None]) -> str:
        """Collect, read and tell; what is wrong with it, or nothing."""
        group, is_whole_name = self._group()
        if not _GROUP.match(group):
            return (
                f"{group[:150]!r} is not a report group's name: letters, digits, - and _, "
                "at most 128 of them, the first a letter or a digit"
            )
        if (group, is_whole_name) in self._groups:
            return f"a report before this one is for the group {group} as well; it is not read"
        self._groups.add((group, is_whole_name))
        name = (self._spec.file_format or "JUNITXML").upper()
        format_ = FORMATS.get(name)
        if format_ is None:
            return f"the file format {name[:40]!r} is not known; there are {', '.join(FORMATS)}"
        with tempfile.TemporaryFile() as body, tempfile.TemporaryFile() as kept:
            self._take(body, interrupt, check)
            tally = _Tally(kept, self._journal.mask)
            if not self._faults:
                self._read(body, format_.read, tally)
            told = ReportResult(
                group,
                is_whole_name,
                format_.type,
                name,
                self._status(tally),
                self._message(),
                tally.truncated,
                tally.totals(),
                tally.batches,
            )
            return tell(told) or told.message

    def _group(self) -> tuple[str, bool]:
        name = re.sub(
            r"\$(?:(\w+)|\{(\w+)\})", lambda match: self._variables.get(match[1] or match[2], ""), self._spec.name
        )
        arn = _ARN.match(name)
        return (arn[1], True) if arn else (name, False)

    def _take(self, body: IO[bytes], interrupt: Interrupt, check: Callable[[Outcome], None]) -> None:
        """Have the sandbox pack the files into ``body``."""
        spec, say = self._spec, self._journal.say
        say(f"Preparing to copy report files of {spec.name}")
        say(f"Expanding base directory path: {spec.base_directory or '.'}")
        say("Assembling file list")
        for pattern in spec.files:
            say(f"Expanding {pattern}")
        sink = CappedSink(body, MOST_ZIP_BYTES)
        # Never with discarded paths: two files of one name are two reports all the same.
        outcome, files = self._room.collect(Selection(spec.files, spec.base_directory), sink.write, interrupt)
        check(outcome)
        if not outcome.succeeded:
            detail = outcome.detail or "the files cannot be collected"
            self._faults.append(detail.replace("no matching artifact paths", "no matching report paths"))
        elif sink.is_over:
            self._faults.append(f"the report files are larger than {MOST_ZIP_BYTES // MIB} MiB, packed")
        else:
            say(f"Found {files} file(s)")

    def _read(self, body: IO[bytes], read: Callable[[IO[bytes]], Iterator[Entry]], tally: _Tally) -> None:
        try:
            for path, file in report_files(body, self._note, self._pause):
                shown = PurePosixPath(path).name if self._spec.discard_paths else path
                try:
                    for entry in read(file):
                        tally.add(entry, shown)
                        if tally.read % _PAUSE_ENTRIES == 0:
                            self._pause()
                        if tally.read >= MOST_READ:
                            self._note(path, f"and what follows is not read: there are more than {MOST_READ} entries")
                            return
                except Malformed as error:
                    self._note(path, str(error))
                self._pause()
        except Malformed as error:
            self._faults.append(str(error))

    def _note(self, path: str, fault: str) -> None:
        line = f"{cleaned(path, 200)} {fault}"
        self._faults.append(line)
        if len(self._faults) <= _MOST_FAULTS:
            self._journal.say(f"Warning: report {self._spec.name}: {line}")

    def _status(self, tally: _Tally) -> ReportStatus:
        if self._faults:
            return ReportStatus.INCOMPLETE if tally.read else ReportStatus.FAILED
        totals = tally.totals()
        return ReportStatus.FAILED if any(totals.cases.get(word) for word in FAILURES) else ReportStatus.SUCCEEDED

    def _message(self) -> str:
        if not self._faults:
            return ""
        more = f" (and {len(self._faults) - 1} more)" if len(self._faults) > 1 else ""
        return self._journal.mask(cleaned(self._faults[0], LONGEST_NAME)) + more


class _Tally:
    """Counts what is read and keeps it, up to the bounds, in a file; files that are covered, which are few, by path."""

    def __init__(self, kept: IO[bytes], mask: Callable[[str], str]) -> None:
        self._file = kept
        self._mask = mask
        self._cases: Counter[CaseStatus] = Counter()
        self._duration_ns = 0
        self._kept = self._kept_failures = 0
        self._files: dict[str, tuple[FileCoverage, str]] = {}
        self.read = 0
        self.truncated = False

    def add(self, entry: Entry, raw_path: str) -> None:
        """Count an entry and keep it if there is room."""
        self.read += 1
        if isinstance(entry, FileCoverage):
            self._add_file(entry, raw_path)
            return
        self._cases[entry.status] += 1
        self._duration_ns += entry.duration_ns
        if self._kept >= MOST_KEPT:
            self.truncated = True
            if entry.status not in FAILURES or self._kept_failures >= MOST_KEPT_FAILURES:
                return
            self._kept_failures += 1
        self._kept += 1
        texts = (self._text(text, LONGEST_NAME) for text in (entry.prefix, entry.suite, entry.name, raw_path))
        message = self._text(entry.message, LONGEST_MESSAGE)
        self._file.write(json.dumps([*texts, entry.status.value, entry.duration_ns, message]).encode() + b"\n")

    def _add_file(self, entry: FileCoverage, raw_path: str) -> None:
        path = self._text(entry.path, LONGEST_NAME)
        known = self._files.get(path)
        if known is None and len(self._files) >= MOST_KEPT:
            self.truncated = True
        elif known is None or known[0].lines_covered < entry.lines_covered:
            # Two parts of a test run may cover the same file; what both ran together is not in their reports.
            self._files[path] = replace(entry, path=path), self._text(raw_path, LONGEST_NAME)

    def totals(self) -> Totals:
        """The numbers so far."""
        files = [entry for entry, _ in self._files.values()]
        return Totals(
            dict(self._cases),
            self._duration_ns,
            sum(entry.lines_covered for entry in files),
            sum(entry.lines_missed for entry in files),
            sum(entry.branches_covered for entry in files),
            sum(entry.branches_missed for entry in files),
        )

    def batches(self) -> Iterator[Sequence[KeptEntry]]:
        """What is kept, in pieces, from the beginning."""
        batch: list[KeptEntry] = []
        for kept in self._entries():
            batch.append(kept)
            if len(batch) == BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    def _entries(self) -> Iterable[KeptEntry]:
        for _, (entry, raw_path) in sorted(self._files.items()):
            yield KeptEntry(entry, raw_path)
        self._file.flush()
        self._file.seek(0)
        for line in self._file:
            prefix, suite, name, raw_path, status, duration_ns, message = json.loads(line)
            yield KeptEntry(Case(prefix, suite, name, CaseStatus(status), duration_ns, message), raw_path)

    def _text(self, text: str, most: int) -> str:
        # A little more than what is kept, so that a secret at the border is still whole when it is masked.
        return cleaned(self._mask(cleaned(text, most + 4096)), most) if text else ""


def cleaned(text: str, most: int) -> str:
    """At most so many characters that every database takes: no NUL, no half of a surrogate pair."""
    whole = text[: most + 1].encode(errors="replace").decode().replace("\0", "\ufffd")
    return whole if len(whole) <= most else whole[: most - 1] + "…"
