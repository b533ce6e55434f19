"""Reports of builds: kept as rows under the job's fence, sealed, forgotten in time, read as far as builds may be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text

from hooks import care
from hooks.builds import report_reading as reading
from hooks.builds import report_store
from hooks.builds.executor import Executor
from hooks.builds.executors.dummy import DummyExecutor, Step
from hooks.builds.executors.process import ProcessExecutor, ProcessSettings
from hooks.builds.handler import BuildHandler
from hooks.builds.projects import create_or_update_project
from hooks.builds.records import JOB_KIND, QUEUE, get_build, start_build
from hooks.builds.report_writer import ReportWriter
from hooks.builds.reports.model import CaseStatus
from hooks.builds.source import PackageSource, SourceAsset
from hooks.jobs import claims
from hooks.jobs.attempt import Attempt
from hooks.models.build import Build
from hooks.models.report import Report, ReportGroup, TestCase
from registry.db import Base, Database
from registry.errors import Invalid, NotFound
from tests.build_bench import MISSING_SANDBOX, NOW, KeySealer, work_directory
from tests.build_jobs import Parts
from tests.job_bench import BACKENDS, fresh_url, note

JUNIT = """<testsuite name="s" tests="3"><testcase classname="c" name="good" time="0.25"/>
<testcase classname="c" name="bad" time="0.5"><failure message="hush-hush was wrong">at line 3</failure></testcase>
<testcase classname="c" name="later"><skipped/></testcase></testsuite>"""
COVERAGE = """<coverage><packages><package><classes><class filename="a.py"><lines><line number="1" hits="1"/>
<line number="2" hits="0" branch="true" condition-coverage="50% (1/2)"/></lines></class></classes></package></packages></coverage>"""
SPEC = """version: 0.2
phases: {build: {commands: [ok]}}
reports:
  unit: {files: junit.xml}
  cover: {files: cover.xml, file-format: COBERTURAXML}
"""
SEALER = KeySealer()


def everything(_build: Build) -> bool:
    return True


@pytest.fixture(params=BACKENDS[:1])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with fresh_url(request.param, tmp_path) as url:
        database = Database(url)
        Base.metadata.create_all(database.engine)
        note.metadata.create_all(database.engine)
        yield database
        database.close()


@pytest.fixture
def run(database: Database) -> Callable[..., str]:
    """Run a build to its end, in this thread; its id."""

    def run(
        files: Mapping[str, str], spec: str = SPEC, *, project: str = "p", version: str = "1.0", **more: Any
    ) -> str:
        executor: Executor = more.get("executor") or DummyExecutor(
            {"ok": Step()}, {name: body.encode() for name, body in files.items()}, name="process"
        )
        source = PackageSource(
            "default", more.get("repository", "dev"), "any", "thing", version, (SourceAsset("thing-1.0.tar.gz", "0" * 64),)
        )  # fmt: skip
        with database.write() as session:
            create_or_update_project(session, name=project, buildspec=spec, now=NOW, environment={"network": "none"})
            build_id = start_build(session, project=project, source=source, initiator="joe", now=NOW).id
        with database.write() as session:
            (job,) = claims.claim(session, owner="w", queues=[QUEUE], kinds=[JOB_KIND], free=1, lease_seconds=600)
        handler = BuildHandler(database, {executor.name: executor}, Parts().services())
        Attempt(
            database, job, handler=handler, settle=handler.settle, lease_seconds=600, first_retry_seconds=600
        ).run()  # fmt: skip
        with database.read() as session:
            assert get_build(session, build_id).ended_at is not None
        return build_id

    return run


def reports(database: Database, build_id: str) -> dict[str, reading.Found]:
    with database.read() as session:
        return {found.group.name: found for found in reading.reports_of_build(session, build_id)}


def junit(**results: str) -> str:
    parts = {"bad": "<failure/>", "good": "", "skipped": "<skipped/>"}
    cases = "".join(f'<testcase classname="c" name="{name}">{parts[how]}</testcase>' for name, how in results.items())
    return f"<testsuite>{cases}</testsuite>"


def group_id(database: Database, name: str) -> int:
    with database.read() as session:
        return session.scalars(select(ReportGroup.id).where(ReportGroup.name == name)).one()


# --- how they are kept


@pytest.mark.parametrize("database", BACKENDS, indirect=True)
def test_reports_of_a_build_are_kept(database: Database, run) -> None:
    build_id = run({"junit.xml": JUNIT, "cover.xml": COVERAGE})
    found = reports(database, build_id)
    unit, cover = found["p-unit"].report, found["p-cover"].report
    assert (unit.status, unit.total, unit.succeeded, unit.failed, unit.skipped) == ("FAILED", 3, 1, 1, 1)
    assert (unit.duration_ns, unit.truncated, unit.file_format) == (750_000_000, False, "JUNITXML")
    assert (cover.status, cover.lines_covered, cover.lines_missed) == ("SUCCEEDED", 1, 1)
    assert (cover.branches_covered, cover.branches_missed) == (1, 1)
    assert {name: each.group.type for name, each in found.items()} == {"p-unit": "TEST", "p-cover": "CODE_COVERAGE"}
    with database.read() as session:
        cases, place = reading.list_cases(session, SEALER, unit.id, limit=2)
        assert [case.row.name for case in cases] == ["good", "bad"]
        assert cases[1].message == "hush-hush was wrong\nat line 3"
        assert [case.row.name for case in reading.list_cases(session, SEALER, unit.id, limit=2, after=place)[0]] == [
            "later"
        ]
        failed, _ = reading.list_cases(
            session, SEALER, unit.id, limit=9, statuses=[CaseStatus.FAILED, CaseStatus.ERROR]
        )
        assert [case.row.name for case in failed] == ["bad"]
        first, place = reading.list_cases(session, SEALER, unit.id, limit=2, failed_first=True)
        rest, end = reading.list_cases(session, SEALER, unit.id, limit=2, failed_first=True, after=place)
        assert [case.row.name for case in (*first, *rest)] == ["bad", "good", "later"]
        assert end is None
        (file,), end = reading.list_coverage(session, cover.id, limit=5)
        assert (file.path, file.lines_missed, end) == ("a.py", 1, None)
        assert b"hush-hush" not in b"".join(filter(None, session.scalars(select(TestCase.sealed_message))))


def test_a_group_keeps_its_type_and_its_project(database: Database, run) -> None:
    run({"junit.xml": JUNIT, "cover.xml": COVERAGE})
    swapped = SPEC.replace("  unit: {files: junit.xml}", "  unit: {files: cover.xml, file-format: COBERTURAXML}")
    found = reports(database, run({"cover.xml": COVERAGE}, swapped))
    assert found["p-unit"].report.status == "FAILED"
    assert "the report group p-unit is of type TEST and takes no COBERTURAXML" in found["p-unit"].report.message
    assert found["p-cover"].report.status == "SUCCEEDED"
    foreign = SPEC.replace("unit:", "'arn:aws:codebuild:x:1:report-group/p-unit':")
    build_id = run({"junit.xml": JUNIT, "cover.xml": COVERAGE}, foreign, project="other")
    assert set(reports(database, build_id)) == {"other-cover"}
    own = run({"junit.xml": JUNIT, "cover.xml": COVERAGE}, foreign)
    assert set(reports(database, own)) == {"p-unit", "p-cover"}


def test_many_cases_go_in_by_batches_and_every_step_may_be_repeated(database: Database, run, monkeypatch) -> None:
    steps = 0
    whole = ReportWriter._step

    def twice(self: ReportWriter, unit: Callable[[Any], Any]) -> Any:
        nonlocal steps
        steps += 1
        whole(self, unit)
        return whole(self, unit)

    monkeypatch.setattr(ReportWriter, "_step", twice)
    body = "<testsuite>" + '<testcase classname="c" name="same"/>' * 1200 + "</testsuite>"
    found = reports(database, run({"junit.xml": body, "cover.xml": COVERAGE}))["p-unit"]
    assert steps == (2 + 3) + (2 + 1)
    with database.read() as session:
        rows = session.execute(
            select(func.count(), func.count(TestCase.case_key.distinct())).where(TestCase.report_id == found.report.id)
        ).one()
    assert tuple(rows) == (1200, 1200)  # of one name, and yet told apart


def test_an_attempt_that_broke_off_leaves_no_report_behind(database: Database, run) -> None:
    build_id = run({"junit.xml": JUNIT, "cover.xml": COVERAGE})
    with database.write() as session:
        report_store.drop_reports(session, build_id)
        left = [session.scalar(select(func.count()).select_from(model)) for model in (Report, TestCase)]
    assert left == [0, 0]


def test_a_report_that_was_begun_only_ends_incomplete(database: Database, run) -> None:
    build_id = run({"junit.xml": JUNIT, "cover.xml": COVERAGE})
    with database.write() as session:
        session.execute(text("UPDATE report SET status = 'GENERATING' WHERE total > 0"))
    assert [what for _, what in care.check(database) if "is being made" in what]
    with database.write() as session:
        report_store.close_reports(session, build_id)
    assert {name: found.report.status for name, found in reports(database, build_id).items()} == {
        "p-unit": "INCOMPLETE",
        "p-cover": "SUCCEEDED",
    }
    assert [what for _, what in care.check(database) if "is being made" in what] == []


def test_old_reports_are_forgotten(database: Database, run) -> None:
    old, young = run({"junit.xml": JUNIT}), run({"junit.xml": JUNIT})
    with database.write() as session:
        for found in reading.reports_of_build(session, old):
            found.report.created_at = NOW - timedelta(days=400)
    with database.write() as session:
        assert report_store.forget_old(session, NOW - timedelta(days=30)) == 2
        assert report_store.forget_old(session, NOW - timedelta(days=30)) == 0
    assert (len(reports(database, old)), len(reports(database, young))) == (0, 2)


# --- over time


@pytest.mark.parametrize("database", BACKENDS, indirect=True)
def test_trend_history_and_flaky_cases(database: Database, run) -> None:
    spec = SPEC.partition("  cover")[0]
    results = [
        ("1", {"steady": "good", "flaky": "good", "mended": "bad", "restless": "good"}),
        ("1", {"steady": "good", "flaky": "bad", "mended": "bad", "restless": "good"}),
        ("2", {"steady": "good", "flaky": "good", "mended": "good", "restless": "bad"}),
        ("3", {"steady": "skipped", "flaky": "good", "mended": "good", "restless": "good"}),
        ("4", {"steady": "good", "flaky": "good", "mended": "good", "restless": "bad"}),
    ]
    for number, (version, result) in enumerate(results):
        build_id = run({"junit.xml": junit(**result)}, spec, version=version)
        with database.write() as session:
            for found in reading.reports_of_build(session, build_id):
                found.report.created_at = NOW + timedelta(minutes=number)
    group = group_id(database, "p-unit")
    with database.read() as session:
        newest, place = reading.reports_of_group(session, group, everything, limit=3)
        assert [found.build.number for found in newest] == [5, 4, 3]
        rest, end = reading.reports_of_group(session, group, everything, limit=3, after=place)
        assert ([found.build.number for found in rest], end) == ([2, 1], None)
        values = reading.trend([*newest, *rest], "PASS_RATE")
        assert [(found.build.number, value) for found, value in values] == [
            (1, 75.0),
            (2, 50.0),
            (3, 75.0),
            (4, 100.0),
            (5, 75.0),
        ]
        assert [value for _, value in reading.trend(newest, "TOTAL")] == [4, 4, 4]
        for wrong, words in (("LINE_COVERAGE", "CODE_COVERAGE"), ("NONSENSE", "no trend field")):
            with pytest.raises(Invalid, match=words):
                reading.trend(newest, wrong)
        flaky = reading.flaky_cases(session, group, everything)
        assert sorted(case.name for case in flaky.values()) == ["flaky", "restless"]
        (key,) = [key for key, case in flaky.items() if case.name == "flaky"]
        past = reading.history(session, SEALER, group, key, everything)
        assert [case.row.status for _, case in past] == ["SUCCEEDED", "SUCCEEDED", "SUCCEEDED", "FAILED", "SUCCEEDED"]
        assert reading.is_flaky_history(past)
        with pytest.raises(NotFound):
            reading.history(session, SEALER, group, "0" * 32, everything)


def test_what_may_not_be_read_is_not_there(database: Database, run) -> None:
    spec = SPEC.partition("  cover")[0]
    run({"junit.xml": JUNIT}, spec, repository="dev")
    hidden = reports(database, run({"junit.xml": junit(bad="bad")}, spec, repository="secret"))["p-unit"]
    run({"junit.xml": JUNIT}, spec, project="closed", repository="secret")
    group = group_id(database, "p-unit")

    def readable(build: Build) -> bool:
        return bool(build.source["repository"] == "dev")

    with database.read() as session:
        shown, _ = reading.reports_of_group(session, group, readable, limit=9)
        assert [found.build.source["repository"] for found in shown] == ["dev"]
        groups, _ = reading.list_groups(session, readable, project=None, limit=9, after=None)
        assert [found.group.name for found in groups] == ["p-unit"]
        everyone, place = reading.list_groups(session, everything, project=None, limit=1, after=None)
        assert ([found.group.name for found in everyone], place) == (["closed-unit"], "closed-unit")
        assert reading.list_groups(session, everything, project="p", limit=9, after=place)[0][0].group.name == "p-unit"
        for what in (
            lambda: reading.get_report(session, hidden.report.id, readable),
            lambda: reading.get_group(session, "closed-unit", readable),
            lambda: reading.get_group(session, "absent", readable),
        ):
            with pytest.raises(NotFound):
                what()


# --- the whole way


@pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX)
def test_from_a_real_sandbox_to_the_rows(database: Database, run) -> None:
    spec = """version: 0.2
env: {variables: {WHERE: results}}
phases:
  build:
    commands:
      - mkdir -p results/sub /tmp/out
      - printf '<testsuite name="s"><testcase name="deep"/></testsuite>' >results/sub/a.xml
      - printf '<testsuite name="s"><testcase name="top"/></testsuite>' >results/b.xml; cp results/b.xml /tmp/out/c.xml
      - ln -s /etc/passwd results/link.xml; ln -s ../../.. results/up; mkfifo results/pipe.xml
      - cd /tmp; exit 1
reports:
  $WHERE: {base-directory: $CODEBUILD_SRC_DIR/results, files: '**/*.xml'}
  outside: {base-directory: /tmp/out, files: '*', file-format: junitxml}
  none: {base-directory: nowhere, files: '**/*'}
"""
    with work_directory() as place:
        build_id = run({}, spec, executor=ProcessExecutor(ProcessSettings(place)))
    found = reports(database, build_id)
    assert {name: (each.report.status, each.report.total, each.report.message) for name, each in found.items()} == {
        "p-none": ("FAILED", 0, "the base directory nowhere is not there"),
        "p-outside": ("SUCCEEDED", 1, ""),
        "p-results": ("SUCCEEDED", 2, ""),
    }
    with database.read() as session:
        cases, _ = reading.list_cases(session, SEALER, found["p-results"].report.id, limit=9)
    assert [(case.row.name, case.row.raw_path) for case in cases] == [("top", "b.xml"), ("deep", "sub/a.xml")]
