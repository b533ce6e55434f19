"""A batch whose worker is killed in the middle: its builds go on, each once."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select, update

from hooks import care
from hooks.builds.batch_engine import groups_of
from hooks.builds.batches import get_batch, start_batch
from hooks.builds.executors.process import ProcessExecutor, ProcessSettings
from hooks.builds.projects import create_or_update_project
from hooks.builds.source import PackageSource, SourceAsset
from hooks.builds.starting import Asked
from hooks.models import Build
from registry.db import Base, Database
from tests.build_bench import MISSING_SANDBOX, NOW, eventually, work_directory
from tests.build_jobs import Parts, make_worker
from tests.functional.test_build_jobs import log
from tests.job_bench import note

pytestmark = [pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX), pytest.mark.long]
SPEC = """version: 0.2
phases:
  build:
    commands: ['cat hello.txt; SECONDS_LEFT']
batch: {build-graph: [{identifier: a}, {identifier: b}, {identifier: c, depend-on: [a, b]}]}
"""


def test_a_killed_worker_loses_and_doubles_no_build_of_a_batch(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'b.db'}")
    Base.metadata.create_all(database.engine)
    note.metadata.create_all(database.engine)
    source = PackageSource("default", "dev", "any", "thing", "1.0", (SourceAsset("thing-1.0.tar.gz", "0" * 64),))
    ended: list[str] = []
    with database.write() as session:
        create_or_update_project(session, name="p", now=NOW, buildspec=SPEC.replace("SECONDS_LEFT", "sleep 600"))
        batch_id = start_batch(
            session, "p", source, Asked(), config={}, initiator="joe", now=NOW,
            on_finished=lambda _session, _ended: None,
        ).id  # fmt: skip
    with work_directory() as place:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.build_worker", database.url, str(place)],
            cwd=Path(__file__).resolve().parents[2],
            stdout=subprocess.PIPE,
        )
        try:
            eventually(lambda: [id_ for id_ in ids(database, "a", "b") if "hello" in log(database, id_)], "none begins")
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
        with database.write() as session:
            session.execute(update(Build).values(buildspec=SPEC.replace("SECONDS_LEFT", "true")))
            get_batch(session, batch_id).buildspec = SPEC.replace("SECONDS_LEFT", "true")
        services = Parts().services(on_finished=lambda _session, id_: ended.append(id_))
        worker = make_worker(
            database, ProcessExecutor(ProcessSettings(place, registry_address=("127.0.0.1", 9))), services
        )
        worker.start()
        try:
            eventually(lambda: status(database, batch_id) != "IN_PROGRESS", "the batch never ended")
        finally:
            worker.drain(0)
            assert worker.join(40)
    assert status(database, batch_id) == "SUCCEEDED"
    with database.read() as session:
        groups = groups_of(session, batch_id)
        assert [group.status for group in groups] == ["SUCCEEDED"] * 4
        assert {group.build_id for group in groups} == set(session.scalars(select(Build.id)))
    assert ended.count(batch_id) == 1
    assert care.check(database) == []
    database.close()


def ids(database: Database, *identifiers: str) -> list[str]:
    with database.read() as session:
        return list(session.scalars(select(Build.id).where(Build.batch_group.in_(identifiers))))


def status(database: Database, batch_id: str) -> str:
    with database.read() as session:
        return get_batch(session, batch_id).status
