"""Projects, builds and logs as rows: checks, numbers, one final status, offsets, sealing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from hooks.builds import logs
from hooks.builds.logs import MARKER, LogStore
from hooks.builds.phases import BuildStatus
from hooks.builds.projects import create_or_update_project, get_project, list_projects
from hooks.builds.records import finish_build, get_build, list_builds, request_stop_build, start_build
from hooks.builds.source import PackageSource, SourceAsset, choose_archive
from hooks.jobs.queue import job_state
from hooks.models import Job, JobState
from hooks.models.build import Build, BuildLogChunk
from registry.db import Base, Database
from registry.errors import Conflict, Invalid, InvalidDocument, NotFound
from tests.build_bench import NOW, KeySealer

SOURCE = PackageSource("default", "dev", "any", "thing", "1.0", (SourceAsset("thing-1.0.tar.gz", "0" * 64),))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'b.db'}")
    Base.metadata.create_all(database.engine)
    yield database
    database.close()


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with database.write() as session:
        yield session


def project(session: Session, **options):
    return create_or_update_project(session, **{"name": "p", "now": NOW} | options)


def start(session: Session, **options) -> Build:
    return start_build(session, **{"project": "p", "source": SOURCE, "initiator": "joe", "now": NOW} | options)


class Finished:
    def __init__(self) -> None:
        self.ids: list[str] = []

    def __call__(self, _session: Session, build_id: str) -> None:
        self.ids.append(build_id)


def test_a_project_is_saved_with_its_defaults_and_replaced_whole(session: Session):
    saved = project(session)
    assert saved.environment == {"type": "process", "network": "registry", "variables": {}}
    assert (saved.timeout_minutes, saved.max_concurrent, saved.buildspec) == (60, None, None)
    later = NOW + timedelta(days=1)
    again = project(session, now=later, timeout_minutes=5, environment={"network": "none"})
    assert (again.id, again.created_at, again.updated_at) == (saved.id, NOW, later)
    assert get_project(session, "p").environment["network"] == "none"
    assert [row.name for row in list_projects(session)] == ["p"]
    with pytest.raises(NotFound):
        get_project(session, "q")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"environment": {"type": "magic"}}, "environment.type 'magic'"),
        ({"environment": {"network": "all"}}, "environment.network 'all': none or registry"),
        ({"environment": {"shape": "x"}}, "environment.shape is unknown"),
        ({"environment": {"variables": ["A"]}}, "environment.variables has to be a mapping"),
        ({"environment": {"variables": {"A B": "x"}}}, "'A B' is not a variable name"),
        ({"environment": {"variables": {"CODEBUILD_X": "x"}}}, "CODEBUILD_X is reserved"),
        ({"environment": {"variables": {"A": 1}}}, "A has to be a text"),
        ({"environment": {"variables": {"A": "x\0"}}}, "A has to be a text"),
        ({"timeout_minutes": 0}, "timeout_minutes: 1 to 2160"),
        ({"max_concurrent": 0}, "max_concurrent"),
        ({"buildspec": "version: 0.2\nbatch: {a: b}"}, "buildspec: line 2: batch"),
    ],
)
def test_a_wrong_project_is_refused_with_every_fault(session: Session, options: dict, words: str):
    with pytest.raises(InvalidDocument) as caught:
        project(session, **{"timeout_minutes": 9999} | options)
    assert any(words in fault for fault in caught.value.faults)
    assert list_projects(session) == []


def test_a_project_has_an_entitys_name(session: Session):
    with pytest.raises(Invalid):
        project(session, name="no spaces")


def test_a_build_takes_a_number_a_job_and_a_copy_of_its_project(session: Session):
    project(session, buildspec="version: 0.2")
    one, two = start(session, subject="execution:7"), start(session, variables={"A": "1"})
    project(session, buildspec=None, timeout_minutes=1)
    assert (one.number, two.number) == (1, 2)
    assert (one.buildspec, one.timeout_minutes, one.status) == ("version: 0.2", 60, "IN_PROGRESS")
    assert two.variables == {"A": "1"}
    job = session.get_one(Job, one.job_id)
    assert (job.kind, job.queue, job.payload) == ("build", "builds", {"build_id": one.id})
    assert (job.max_attempts, job.subject, job.serial_key) == (3, f"build:{one.id}", None)
    assert PackageSource.from_json(one.source) == SOURCE
    assert [(build.number, name) for build, name in list_builds(session, project="p")] == [(2, "p"), (1, "p")]


def test_at_most_so_many_at_a_time_by_as_many_keys(session: Session):
    project(session, max_concurrent=2)
    keys = [session.get_one(Job, start(session).job_id).serial_key for _ in range(4)]
    assert len(set(keys)) == 2
    assert None not in keys


@pytest.mark.parametrize("variables", [{"CODEBUILD_BUILD_ID": "x"}, {"ENTREPOT_ASSETS_DIR": "x"}, {"": "x"}])
def test_variables_of_a_start_are_checked(session: Session, variables: dict[str, str]):
    project(session)
    with pytest.raises(InvalidDocument):
        start(session, variables=variables)


def test_a_rollback_takes_build_and_job_along(database: Database):
    with database.write() as session:
        project(session)
    with contextlib.suppress(ZeroDivisionError), database.write() as session:
        start(session)
        raise ZeroDivisionError
    with database.read() as session:
        assert session.scalars(select(Build.id)).all() == []
        assert session.scalars(select(Job.id)).all() == []


def test_a_waiting_build_is_stopped_at_once_and_once(session: Session):
    project(session)
    build, finished = start(session), Finished()
    request_stop_build(session, build.id, now=NOW, on_finished=finished)
    assert get_build(session, build.id).status == BuildStatus.STOPPED
    assert job_state(session, build.job_id or 0) is JobState.STOPPED
    assert finished.ids == [build.id]
    with pytest.raises(Conflict):
        request_stop_build(session, build.id, now=NOW, on_finished=finished)
    assert finished.ids == [build.id]
    with pytest.raises(NotFound):
        request_stop_build(session, "nobody", now=NOW, on_finished=finished)


def test_a_running_build_is_only_asked(session: Session):
    project(session)
    build, finished = start(session), Finished()
    session.execute(update(Job).values(state=JobState.RUNNING))
    request_stop_build(session, build.id, now=NOW, on_finished=finished)
    assert (get_build(session, build.id).status, finished.ids) == ("IN_PROGRESS", [])
    assert session.get_one(Job, build.job_id).stop_requested


def test_there_is_one_final_status(session: Session):
    project(session)
    build, finished = start(session), Finished()
    assert finish_build(session, build.id, BuildStatus.FAILED, now=NOW, on_finished=finished, message="why")
    assert not finish_build(session, build.id, BuildStatus.SUCCEEDED, now=NOW, on_finished=finished)
    assert (get_build(session, build.id).status, get_build(session, build.id).message) == ("FAILED", "why")
    assert finished.ids == [build.id]


def test_the_log_is_read_by_offset_and_ends_with_the_build(session: Session):
    project(session)
    build, store = start(session), LogStore(KeySealer())
    end = store.append(session, build.id, 0, b"one\n")
    end = store.append(session, build.id, end, b"two\n")
    assert end == 8
    assert store.read(session, build.id, 0, 100) == (b"one\ntwo\n", 8, False)
    assert store.read(session, build.id, 2, 3) == (b"e\nt", 5, False)
    assert store.read(session, build.id, 5, 100) == (b"wo\n", 8, False)
    assert store.read(session, build.id, 8, 100) == (b"", 8, False)
    assert store.read(session, build.id, 99, 100) == (b"", 8, False)
    assert store.read(session, build.id, -5, 2) == (b"on", 2, False)
    finish_build(session, build.id, BuildStatus.SUCCEEDED, now=NOW, on_finished=Finished())
    assert store.read(session, build.id, 0, 100)[2] is True
    assert store.read(session, build.id, 0, 3)[2] is False
    with pytest.raises(NotFound):
        store.read(session, "nobody", 0, 1)


def test_what_was_added_is_not_added_again(session: Session):
    project(session)
    build, store = start(session), LogStore(KeySealer())
    store.append(session, build.id, 0, b"one")
    assert store.append(session, build.id, 0, b"one") == 3
    assert store.append(session, build.id, 0, b"one and two") == 11
    assert store.read(session, build.id, 0, 100)[0] == b"one and two"
    with pytest.raises(Conflict):
        store.append(session, build.id, 12, b"gap")
    assert store.append_now(session, build.id, b"!") == 12


def test_chunks_are_sealed_under_their_place(session: Session):
    project(session)
    build, store = start(session), LogStore(KeySealer())
    store.append(session, build.id, 0, b"a secret of the build")
    store.append(session, build.id, 21, b"another secret of it")
    one, two = session.scalars(select(BuildLogChunk).order_by(BuildLogChunk.offset)).all()
    assert b"secret" not in one.data + two.data
    one.data, two.data = two.data, one.data
    session.flush()
    with pytest.raises(ValueError, match="another context"):
        store.read(session, build.id, 0, 100)


def test_the_log_has_an_end(session: Session, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logs, "MAX_LOG_BYTES", 1000)
    monkeypatch.setattr(logs, "_MAX_CHUNK_BYTES", 300)
    project(session)
    build, store = start(session), LogStore(KeySealer())
    end = store.append(session, build.id, 0, b"x" * 900)
    end = store.append(session, build.id, end, b"y" * 900)
    assert store.append(session, build.id, end, b"z" * 900) == end
    assert store.append_now(session, build.id, b"the end") == end
    data, _, _ = store.read(session, build.id, 0, 10_000)
    assert data == b"x" * 900 + b"y" * 100 + MARKER
    assert store.read(session, build.id, 850, 100)[0] == b"x" * 50 + b"y" * 50


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["a.whl", "a.tar.gz"], "a.tar.gz"),
        (["a.whl", "a.ZIP"], "a.ZIP"),
        (["a.tgz"], "a.tgz"),
        (["a.whl", "a.whl.asc"], "a.whl"),
        (["a.pom", "a.txt"], None),
        ([], None),
    ],
)
def test_the_archive_that_is_unpacked(names: list[str], chosen: str | None):
    assert choose_archive(names) == chosen
