"""Batch builds as rows: they move in the transaction that ends a build, and end once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.builds.batch_combine import Combiner
from hooks.builds.batch_engine import COMBINE_KIND, TIMEOUT_KIND, WIND_DOWN_KIND, groups_of
from hooks.builds.batch_parts import part_of, write_found
from hooks.builds.batch_plan import DOWNLOAD_SOURCE
from hooks.builds.batches import (
    RetryType,
    builds_of,
    list_batches,
    retry_batch,
    start_batch,
    stop_batch,
    stop_one,
    time_out,
)
from hooks.builds.phases import BuildStatus
from hooks.builds.projects import Settings, create_or_update_project
from hooks.builds.records import Options, finish_build, get_build, retry_build
from hooks.builds.source import PackageSource, SourceAsset
from hooks.builds.spec import parse_buildspec
from hooks.builds.starting import Asked
from hooks.builds.stored_outputs import OutputLimits, StoredOutputs
from hooks.jobs.claims import EndedJob
from hooks.models import BuildBatch, Job, JobState
from registry.errors import Conflict, InvalidDocument
from registry.models import Event
from tests.build_bench import NOW
from tests.unit.builds.test_records import Finished, database, session

__all__ = ["database", "session"]
SOURCE = PackageSource("default", "dev", "any", "thing", "1.0", (SourceAsset("thing-1.0.tar.gz", "0" * 64),))
GRAPH = """version: 0.2
phases: {}
batch:
  fast-fail: {fast_fail}
  build-graph:
  - {identifier: a, debug-session: yes}
  - {identifier: b, ignore-failure: true}
  - {identifier: c, depend-on: [a, b]}
  - {identifier: d, depend-on: [c], buildspec: other.yml, env: {variables: {X: mine}}}
"""


class Stage:
    """One batch, moved by hand as workers move it."""

    def __init__(self, session: Session, options: Options | None = None, **document: Any) -> None:
        self.session = session
        self.finished = Finished()
        config = document.pop("config", {})
        create_or_update_project(
            session, name="p", now=NOW, environment={"variables": {"X": "project", "Y": "project"}}, **document
        )
        self.batch = start_batch(
            session, "p", SOURCE, Asked(variables={"Y": "start"}, options=options or Options()), config=config, initiator="joe", now=NOW,
            on_finished=self.finished,
        )  # fmt: skip

    def found(self, fast_fail: str = "false") -> None:
        """The first build reads the document, and ends."""
        build = get_build(self.session, self.ids[DOWNLOAD_SOURCE])
        part = part_of(self.session, build, ("process",))
        assert part.reading is not None
        assert part.reading.take(parse_buildspec(GRAPH.replace("{fast_fail}", fast_fail))) == []
        write_found(self.session, build, part, BuildStatus.SUCCEEDED)
        self.end(DOWNLOAD_SOURCE)

    def end(self, identifier: str, status: BuildStatus = BuildStatus.SUCCEEDED) -> None:
        assert finish_build(self.session, self.ids[identifier], status, now=NOW, on_finished=self.finished)

    @property
    def ids(self) -> Mapping[str, str]:
        return {group.identifier: group.build_id or "" for group in groups_of(self.session, self.batch.id)}

    @property
    def states(self) -> str:
        groups = groups_of(self.session, self.batch.id)
        return " ".join(f"{group.identifier}:{group.status}" for group in groups[1:])

    @property
    def phases(self) -> list[tuple[str, str | None]]:
        return [(phase["phaseType"], phase.get("phaseStatus")) for phase in self.batch.phases]

    def jobs(self, kind: str) -> list[JobState]:
        return list(self.session.scalars(select(Job.state).where(Job.kind == kind).order_by(Job.id)))


def test_a_graph_moves_as_its_builds_end(session: Session) -> None:
    stage = Stage(session)
    assert (stage.batch.number, stage.phases[-1]) == (1, ("DOWNLOAD_BATCHSPEC", None))
    stage.found()
    assert stage.states == "a:IN_PROGRESS b:IN_PROGRESS c:PENDING d:PENDING"
    stage.end("b", BuildStatus.FAILED)
    assert stage.states == "a:IN_PROGRESS b:FAILED c:PENDING d:PENDING"
    stage.end("a")
    stage.end("c")
    assert stage.states == "a:SUCCEEDED b:FAILED c:SUCCEEDED d:IN_PROGRESS"
    last = get_build(session, stage.ids["d"])
    assert get_build(session, stage.ids["a"]).debug_session
    assert not last.debug_session
    assert (last.buildspec, last.variables, last.batch_group) == ("other.yml", {"Y": "start"}, "d")
    assert last.environment["variables"] == {"X": "mine", "Y": "project"}
    stage.end("d")
    assert (stage.batch.status, stage.batch.ended_at) == ("SUCCEEDED", NOW)
    assert stage.phases == [
        ("SUBMITTED", "SUCCEEDED"),
        ("DOWNLOAD_BATCHSPEC", "SUCCEEDED"),
        ("IN_PROGRESS", "SUCCEEDED"),
        ("SUCCEEDED", None),
    ]
    assert stage.finished.ids.count(stage.batch.id) == 1
    assert stage.jobs(TIMEOUT_KIND) == [JobState.STOPPED]


def test_a_start_may_ask_for_debug_sessions_of_all_its_builds(session: Session) -> None:
    stage = Stage(session, Options(debug_session=True))
    stage.found()
    assert [get_build(session, stage.ids[name]).debug_session for name in ("a", "b")] == [True, True]
    assert not get_build(session, stage.ids[DOWNLOAD_SOURCE]).debug_session  # it runs no command


def test_a_failure_skips_what_depends_on_it_and_a_retry_does_what_failed_anew(session: Session) -> None:
    stage = Stage(session)
    stage.found()
    stage.end("a", BuildStatus.FAILED)
    stage.end("b")
    assert stage.states == "a:FAILED b:SUCCEEDED c:SKIPPED d:SKIPPED"
    assert (stage.batch.status, stage.batch.message) == ("FAILED", "a: FAILED")
    assert stage.phases[-1] == ("FAILED", None)
    before = stage.ids
    with pytest.raises(Conflict, match="belongs to build batch"):
        retry_build(session, before["a"], initiator="joe", now=NOW)
    retry_batch(session, stage.batch.id, RetryType.FAILED, now=NOW, on_finished=stage.finished)
    assert stage.states == "a:IN_PROGRESS b:SUCCEEDED c:PENDING d:PENDING"
    assert stage.phases == [("SUBMITTED", "SUCCEEDED"), ("IN_PROGRESS", None)]
    assert stage.ids["b"] == before["b"]
    for name in "acd":
        stage.end(name)
    assert (stage.batch.status, stage.batch.attempt, stage.batch.message) == ("SUCCEEDED", 2, "")
    assert [build.id for build in builds_of(session, stage.batch.id)["a"]] == [stage.ids["a"], before["a"]]
    with pytest.raises(Conflict, match="has succeeded"):
        retry_batch(session, stage.batch.id, RetryType.ALL, now=NOW, on_finished=stage.finished)


def test_a_retry_of_all_keeps_the_source_that_was_found(session: Session) -> None:
    stage = Stage(session)
    get_build(session, stage.ids[DOWNLOAD_SOURCE]).resolved_versions = {"": "c" * 40}
    stage.found()
    assert stage.batch.resolved_versions == {"": "c" * 40}
    stage.end("a", BuildStatus.TIMED_OUT)
    stage.end("b")
    first = stage.ids
    retry_batch(session, stage.batch.id, RetryType.ALL, now=NOW, on_finished=stage.finished)
    assert stage.states == "a:IN_PROGRESS b:IN_PROGRESS c:PENDING d:PENDING"
    assert stage.ids[DOWNLOAD_SOURCE] == first[DOWNLOAD_SOURCE]


def test_a_document_that_cannot_be_used_fails_the_batch_and_is_read_again(session: Session) -> None:
    stage = Stage(session)
    finish_build(
        session, stage.ids[DOWNLOAD_SOURCE], BuildStatus.FAILED, now=NOW, on_finished=stage.finished, message="line 3"
    )
    assert (stage.batch.status, stage.batch.message) == ("FAILED", "line 3")
    assert stage.phases[1] == ("DOWNLOAD_BATCHSPEC", "FAILED")
    retry_batch(session, stage.batch.id, RetryType.FAILED, now=NOW, on_finished=stage.finished)
    stage.found()
    assert stage.states.startswith("a:IN_PROGRESS")


def test_fast_fail_and_stops_wind_down_what_runs(session: Session) -> None:
    stage = Stage(session)
    stage.found("true")
    stage.end("a", BuildStatus.FAILED)
    assert (stage.states, stage.batch.status) == ("a:FAILED b:IN_PROGRESS c:SKIPPED d:SKIPPED", "IN_PROGRESS")
    assert stage.jobs(WIND_DOWN_KIND) == [JobState.QUEUED]
    assert stop_one(session, stage.ids["b"], now=NOW, on_finished=stage.finished)
    assert (stage.states, stage.batch.status) == ("a:FAILED b:STOPPED c:SKIPPED d:SKIPPED", "FAILED")
    assert stage.batch.message == "a: FAILED"
    assert not stop_one(session, stage.ids["b"], now=NOW, on_finished=stage.finished)


def test_a_stopped_batch_starts_nothing_more_and_ends_when_all_has_ended(session: Session) -> None:
    stage = Stage(session)
    stage.found()
    stage.end("a")
    stop_batch(session, stage.batch.id, now=NOW, on_finished=stage.finished)
    stop_batch(session, stage.batch.id, now=NOW, on_finished=stage.finished)
    assert (stage.batch.status, stage.jobs(WIND_DOWN_KIND)) == ("IN_PROGRESS", [JobState.QUEUED])
    stage.end("b", BuildStatus.STOPPED)
    assert (stage.batch.status, stage.phases[-1]) == ("STOPPED", ("STOPPED", None))
    assert "c:SKIPPED" in stage.states
    with pytest.raises(Conflict, match="has ended"):
        stop_batch(session, stage.batch.id, now=NOW, on_finished=stage.finished)
    assert stage.finished.ids.count(stage.batch.id) == 1


def test_a_batch_times_out_unless_it_was_begun_anew(session: Session) -> None:
    stage = Stage(session, config={"timeoutInMins": 5})
    stage.found()
    time_out(session, stage.batch.id, 2, now=NOW, on_finished=stage.finished)
    assert stage.batch.ending is None
    time_out(session, stage.batch.id, 1, now=NOW, on_finished=stage.finished)
    for name in "ab":
        assert stop_one(session, stage.ids[name], now=NOW, on_finished=stage.finished)
    assert stage.batch.status == "TIMED_OUT"


def test_artifacts_are_combined_before_the_batch_has_succeeded(session: Session) -> None:
    stage = Stage(session, settings=Settings(document={"buildBatchConfig": {"combineArtifacts": True}}))
    stage.found()
    for name in "abcd":
        stage.end(name)
    assert (stage.batch.status, stage.phases[-1]) == ("IN_PROGRESS", ("COMBINE_ARTIFACTS", None))
    assert stage.jobs(COMBINE_KIND) == [JobState.QUEUED]
    stop_batch(session, stage.batch.id, now=NOW, on_finished=stage.finished)
    assert (stage.batch.status, stage.jobs(COMBINE_KIND)) == ("STOPPED", [JobState.STOPPED])


def test_what_combined_before_a_stop_does_not_end_the_retry(session: Session) -> None:
    stage = Stage(session, settings=Settings(document={"buildBatchConfig": {"combineArtifacts": True}}))
    stage.found()
    for name in "abcd":
        stage.end(name)
    late = stage.batch.job_id
    stop_batch(session, stage.batch.id, now=NOW, on_finished=stage.finished)
    retry_batch(session, stage.batch.id, RetryType.FAILED, now=NOW, on_finished=stage.finished)
    assert stage.phases[-1] == ("COMBINE_ARTIFACTS", None)
    nothing: Any = None
    combiner = Combiner(StoredOutputs(nothing, nothing, lambda: NOW, OutputLimits(), nothing), stage.finished)

    def settle(job_id: int | None) -> str:
        about = {"batch_id": stage.batch.id}
        combiner.settle(session, EndedJob(job_id or 0, COMBINE_KIND, about, None, 1, JobState.LOST, "it was lost"))
        return stage.batch.status

    assert settle(late) == "IN_PROGRESS"
    assert settle(stage.batch.job_id) == "FAULT"


@pytest.mark.parametrize(("mode", "told"), [("REPORT_AGGREGATED_BATCH", 0), ("REPORT_INDIVIDUAL_BUILDS", 2)])
def test_the_report_mode_says_whether_builds_are_told_of(session: Session, mode: str, told: int) -> None:
    stage = Stage(session, config={"batchReportMode": mode})
    finish_build(session, stage.ids[DOWNLOAD_SOURCE], BuildStatus.FAILED, now=NOW, on_finished=stage.finished)
    kinds = list(session.scalars(select(Event.kind).order_by(Event.id)))
    assert [kind for kind in kinds if kind.startswith("build-batch.")] == ["build-batch.started", "build-batch.failed"]
    assert len([kind for kind in kinds if kind.startswith("build.")]) == told


def test_starts_are_checked_counted_and_the_same_for_one_token(session: Session) -> None:
    stage = Stage(session)

    def start(token: str | None = None, now: Any = NOW, **config: Any) -> BuildBatch:
        asked = Asked(options=Options(request_token=token))
        return start_batch(
            session, "p", SOURCE, asked, config=config, initiator="joe", now=now, on_finished=stage.finished
        )

    with pytest.raises(InvalidDocument):
        start(timeoutInMins=1)
    later = NOW + timedelta(minutes=1)
    assert start("t", later).id == start("t", later + timedelta(minutes=4)).id
    assert start("t", later + timedelta(minutes=6)).number == 3
    rows = list_batches(session, project="p")
    assert [batch.number for batch, _ in rows] == [3, 2, 1]
    assert [batch.number for batch, _ in list_batches(session, is_ascending=True, after=stage.batch.id)] == [2, 3]
    assert list_batches(session, status="SUCCEEDED") == []


def test_a_limit_that_rejects_starts_lets_the_builds_of_a_batch_wait(session: Session) -> None:
    stage = Stage(session, max_concurrent=1, settings=Settings(on_limit="reject"))
    stage.found()
    assert stage.states == "a:IN_PROGRESS b:IN_PROGRESS c:PENDING d:PENDING"


def test_what_fails_is_retried_by_itself_as_often_as_the_project_says(session: Session) -> None:
    stage = Stage(session, settings=Settings(auto_retry_limit=2))
    stage.found()
    stage.end("a", BuildStatus.FAILED)
    stage.end("b")
    assert stage.batch.status == BuildStatus.IN_PROGRESS
    assert stage.states == "a:IN_PROGRESS b:SUCCEEDED c:PENDING d:PENDING"
    assert (stage.batch.attempt, stage.batch.auto_retry_number, stage.phases[-1]) == (2, 1, ("IN_PROGRESS", None))
    assert stage.jobs(TIMEOUT_KIND) == [JobState.STOPPED, JobState.QUEUED]  # it is of this attempt alone
    told = [row.kind for row in session.scalars(select(Event).order_by(Event.id)) if row.kind.startswith("build-batch")]
    assert told == ["build-batch.started", "build-batch.failed", "build-batch.started"]
    stage.end("a", BuildStatus.FAULT)
    assert stage.batch.auto_retry_number == 2
    stage.end("a", BuildStatus.FAILED)
    assert (stage.batch.status, stage.batch.auto_retry_number) == (BuildStatus.FAILED, 2)
    retry_batch(session, stage.batch.id, RetryType.FAILED, now=NOW, on_finished=stage.finished)
    assert stage.batch.auto_retry_number == 0  # somebody has asked
    stop_batch(session, stage.batch.id, now=NOW, on_finished=stage.finished)
    stage.end("a", BuildStatus.STOPPED)
    assert stage.batch.status == BuildStatus.STOPPED


def test_a_pipelines_batch_is_left_to_the_pipeline(session: Session) -> None:
    stage = Stage(session, settings=Settings(auto_retry_limit=2))
    stage.batch.subject = "execution:1"
    stage.found()
    stage.end("b")
    stage.end("a", BuildStatus.FAILED)
    assert stage.batch.status == BuildStatus.FAILED
