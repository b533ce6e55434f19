"""From the sandbox's zip to what a reporter is told: bounds, faults, names, masks. Over an executor that runs nothing."""

import io
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import replace

import pytest

from hooks.builds import report_files, reporting
from hooks.builds.executor import StopReason
from hooks.builds.executors.dummy import DummyExecutor, Step
from hooks.builds.local import LocalReporter
from hooks.builds.phases import BuildStatus
from hooks.builds.report_files import CappedSink
from hooks.builds.reporting import cleaned
from hooks.builds.reports.model import CaseStatus, FileCoverage, Malformed, ReportStatus, ReportType
from hooks.builds.reports.result import Totals, said
from tests.build_bench import build, phase_states

GOOD = b'<testsuite name="s"><testcase classname="c" name="a" time="0.5"/></testsuite>'
BAD = b'<testsuite name="s"><testcase classname="c" name="b"><failure message="no"/></testcase></testsuite>'
SECRET = "correct-horse-battery"


def ran(files: Mapping[str, bytes], reports: str, *, command: str = "ok", top: str = "", **plan):
    executor = DummyExecutor({"ok": Step(b"ok\n", sets={"WHO": "me"}), "bad": Step(exit_code=1)}, files=files)
    spec = f"version: 0.2\n{top}phases: {{build: {{commands: [{command}]}}}}\nreports:\n  {reports}\n"
    return build(executor, spec, **plan)


def test_a_report_is_told_whole_and_its_failed_case_fails_no_build():
    outcome, log = ran({"a.xml": GOOD, "b.xml": BAD}, "unit: {files: [a.xml, b.xml]}")
    report, kept = log.reports["unit"]
    assert outcome.status is BuildStatus.SUCCEEDED
    assert (report.status, report.type, report.message) == (ReportStatus.FAILED, ReportType.TEST, "")
    assert (report.totals.total, report.totals.cases[CaseStatus.FAILED]) == (2, 1)
    assert report.totals.duration_ns == 500_000_000
    assert [(each.entry.name, each.raw_path) for each in kept] == [("a", "a.xml"), ("b", "b.xml")]
    assert "Found 2 file(s)" in log.text


def test_reports_are_taken_though_the_tests_failed_the_phase():
    outcome, log = ran({"b.xml": BAD}, "unit: {files: b.xml}", command="bad")
    assert outcome.status is BuildStatus.FAILED
    assert log.reports["unit"][0].totals.cases == {CaseStatus.FAILED: 1}


@pytest.mark.parametrize(
    ("top", "command", "status", "phase"),
    [
        ("", "ok", "SUCCEEDED", "SUCCEEDED"),
        ("strict: true\n", "ok", "FAILED", "FAILED"),
        ("strict: true\n", "bad", "FAILED", "SUCCEEDED"),
    ],
)
def test_no_file_is_a_failed_report_and_fails_the_build_only_when_it_is_strict(top, command, status, phase):
    outcome, log = ran({}, "unit: {files: x.xml}", command=command, top=top)
    assert (outcome.status, phase_states(outcome)["UPLOAD_ARTIFACTS"]) == (status, phase)
    report, kept = log.reports["unit"]
    assert (report.status, report.message, kept) == (ReportStatus.FAILED, "no matching report paths found", [])
    assert "Report unit: no matching report paths found" in log.text


def test_a_file_that_cannot_be_read_leaves_the_rest():
    _, log = ran(
        {"a.xml": GOOD, "b.xml": b"<testsuite><testcase name='x'/>", "c.xml": b"<html/>"}, "'a/b': {files: [a.xml]}"
    )
    assert log.reports == {}
    assert "is not a report group's name" in log.text
    _, log = ran({"a.xml": GOOD, "b.xml": GOOD[:-5], "c.xml": b"<html/>"}, "unit: {files: [a.xml, b.xml, c.xml]}")
    report, kept = log.reports["unit"]
    assert (report.status, len(kept)) == (ReportStatus.INCOMPLETE, 2)
    assert report.message.startswith("b.xml is not well-formed XML: ")
    assert report.message.endswith("(and 1 more)")
    assert "Warning: report unit: c.xml begins with <html> instead of <testsuite> or <testsuites>" in log.text
    assert "Traceback" not in log.text


def test_names_with_variables_and_arns_and_formats_in_any_case():
    coverage = b'<coverage><packages><package><classes><class filename="a.py"><lines><line number="1" hits="1"/></lines></class></classes></package></packages></coverage>'
    _, log = ran(
        {"c.xml": coverage, "c/d.xml": coverage}, "$WHO-cover: {files: [c.xml, c/d.xml], file-format: CoberturaXml}"
    )
    report, kept = log.reports["me-cover"]
    assert (report.type, report.is_whole_name, report.file_format) == (ReportType.CODE_COVERAGE, False, "COBERTURAXML")
    assert [each.entry for each in kept] == [FileCoverage("a.py", 1, 0)]  # of two reports about a file, one counts
    _, log = ran({"a.xml": GOOD}, "'arn:aws:codebuild:eu-west-1:1:report-group/shared': {files: a.xml}")
    assert log.reports["shared"][0].is_whole_name


def test_two_reports_for_one_group_are_not_mixed():
    _, log = ran({"a.xml": GOOD, "b.xml": BAD}, "me: {files: a.xml}\n  $WHO: {files: b.xml}")
    assert log.reports["me"][0].status is ReportStatus.SUCCEEDED
    assert "a report before this one is for the group me as well" in log.text


def test_discarded_paths_are_names_only_and_two_of_one_name_are_two():
    _, log = ran({"x/a.xml": GOOD, "y/a.xml": BAD}, "unit: {files: [x/a.xml, y/a.xml], discard-paths: yes}")
    assert [each.raw_path for each in log.reports["unit"][1]] == ["a.xml", "a.xml"]


def test_secrets_are_masked_and_texts_are_cut():
    text = f'<testsuite><testcase name="{"n" * 3000}{SECRET}" classname="{SECRET}"><failure message="x {SECRET} y">{"z" * 9000}</failure></testcase></testsuite>'
    _, log = ran({"a.xml": text.encode()}, "unit: {files: a.xml}", secrets=(SECRET,))
    (kept,) = log.reports["unit"][1]
    assert (kept.entry.suite, len(kept.entry.name), len(kept.entry.message)) == ("***", 1000, 5000)
    assert kept.entry.message.startswith("x *** y\nzzz")
    assert SECRET not in f"{kept}{log.text}"


def test_more_cases_than_are_kept(monkeypatch):
    monkeypatch.setattr(reporting, "MOST_KEPT", 3)
    monkeypatch.setattr(reporting, "MOST_KEPT_FAILURES", 1)
    monkeypatch.setattr(reporting, "BATCH", 2)
    many = (
        b"<testsuite>" + b'<testcase name="a"/>' * 5 + b'<testcase name="b"><error/></testcase>' * 2 + b"</testsuite>"
    )
    _, log = ran({"a.xml": many}, "unit: {files: a.xml}")
    report, kept = log.reports["unit"]
    assert (report.truncated, report.totals.total) == (True, 7)
    assert [each.entry.name for each in kept] == ["a", "a", "a", "b"]


def test_more_than_is_read(monkeypatch):
    monkeypatch.setattr(reporting, "MOST_READ", 3)
    _, log = ran({"a.xml": b"<testsuite>" + b"<testcase/>" * 9 + b"</testsuite>"}, "unit: {files: a.xml}")
    assert log.reports["unit"][0].status is ReportStatus.INCOMPLETE
    assert "there are more than 3 entries" in log.reports["unit"][0].message


def test_a_build_that_is_stopped_while_its_reports_are_read():
    asked = iter(range(1000))
    outcome, log = ran(
        {"a.xml": b"<testsuite>" + b"<testcase/>" * 50_000 + b"</testsuite>"},
        "unit: {files: a.xml}",
        interrupt=lambda: StopReason.STOPPED if next(asked) > 20 else None,
    )
    assert outcome.status is BuildStatus.STOPPED
    assert log.reports == {}


# --- the zip that the sandbox sends


def zipped(files: Mapping[str, bytes], **options) -> io.BytesIO:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return body


def files_of(body: io.BytesIO) -> tuple[dict[str, bytes], dict[str, str]]:
    faults: dict[str, str] = {}
    found = {name: file.read() for name, file in report_files.report_files(body, faults.__setitem__, lambda: None)}
    return found, faults


def test_files_come_by_name():
    assert files_of(zipped({"b": b"2", "a": b"1"})) == ({"a": b"1", "b": b"2"}, {})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"PK",
        b"x" * 500,
        b"PK\5\6" + bytes(17),
        zipped({"a": b"1"}).getvalue()[:-1],
        zipped({"a": b"1"}).getvalue() + b"more",
    ],
)
def test_what_is_no_zip_of_ours_is_malformed(body):
    with pytest.raises(Malformed):
        files_of(io.BytesIO(body))


def test_a_table_of_contents_that_fills_the_memory_is_not_read():
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 9, 9, 500 * 1024**2, 0, 0)
    with pytest.raises(Malformed, match="files match"):
        files_of(io.BytesIO(b"x" * 100 + end))


def test_a_bomb_and_a_broken_file_leave_the_others(monkeypatch):
    monkeypatch.setattr(report_files, "MOST_FILE_BYTES", 1024**2)
    body = zipped({"a": b"1", "bomb": bytes(3 * 1024**2), "broken": b"abcdefgh" * 10, "z": b"2"})
    text = bytearray(body.getvalue())
    with zipfile.ZipFile(body) as archive:
        at = archive.getinfo("broken").header_offset + 30 + len("broken")
    text[at : at + 4] = b"\xff\xff\xff\xff"
    found, faults = files_of(io.BytesIO(bytes(text)))
    assert set(found) == {"a", "z"}
    assert "larger than 1 MiB" in faults["bomb"]
    assert "did not arrive" in faults["broken"]


def test_other_packings_and_too_many_files(monkeypatch):
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a", b"1" * 100)
    assert "packed in a way" in files_of(body)[1]["a"]
    monkeypatch.setattr(report_files, "MOST_FILES", 1)
    assert files_of(zipped({"a": b"", "b": b"", "c": b""}))[1] == {
        "2 more files": "are not read: there are more than 1"
    }


def test_a_zip_over_its_limit_is_let_go_of():
    body = io.BytesIO()
    sink = CappedSink(body, 5)
    for piece in (b"abc", b"de", b"f", b"g"):
        sink.write(piece)
    assert (body.getvalue(), sink.is_over) == (b"abcde", True)


def test_texts_that_no_database_takes():
    assert cleaned("a\0b\ud800", 10) == "a\ufffdb?"
    assert cleaned("abcdef", 4) == "abc…"


def test_a_build_without_a_server_says_what_its_reports_say():
    _, log = ran({"a.xml": GOOD, "b.xml": BAD}, "unit: {files: [a.xml, b.xml]}")
    shown: list[bytes] = []
    reporter = LocalReporter(shown.append, None)
    report, kept = log.reports["unit"]
    assert reporter.report(replace(report, batches=lambda: iter([kept]))) == ""
    assert b"".join(shown) == b"Report unit: FAILED, 2 test cases, 1 succeeded, 1 failed\n  FAILED c b\n"
    assert said(Totals(lines_covered=3, lines_missed=1)) == "75.0 % of 4 lines covered"
