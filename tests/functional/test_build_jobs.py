"""Builds through the queue: rows, logs and the one final status, also when workers are killed in the middle."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from hooks.builds import handler, logs
from hooks.builds.executor import Executor
from hooks.builds.executors.dummy import DummyExecutor, Step
from hooks.builds.executors.process import ProcessExecutor, ProcessSettings
from hooks.builds.logs import LogStore
from hooks.builds.projects import create_or_update_project
from hooks.builds.records import get_build, request_stop_build, start_build
from hooks.builds.source import PackageSource, SourceAsset
from hooks.jobs.queue import job_state
from hooks.jobs.worker import Worker
from hooks.models import JobState
from hooks.models.build import Build
from registry.db import Base, Database
from registry.token_shape import new_token
from tests.build_bench import MISSING_SANDBOX, NOW, KeySealer, eventually, host_processes, work_directory
from tests.build_jobs import TOKEN, Parts, make_worker, on_finished
from tests.job_bench import BACKENDS, fresh_url, note

ROOT = Path(__file__).resolve().parents[2]
SPEC = "version: 0.2\nphases:\n  build:\n    commands: ['{}']\n"
DUMMY = DummyExecutor(
    {"ok": Step(b"fine\n"), "bad": Step(exit_code=3), "hang": Step(b"begun\n", hangs=True)}, name="process"
)


@pytest.fixture(params=BACKENDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with fresh_url(request.param, tmp_path) as url:
        database = Database(url)
        Base.metadata.create_all(database.engine)
        note.metadata.create_all(database.engine)
        yield database
        database.close()


@pytest.fixture
def parts() -> Parts:
    return Parts()


@pytest.fixture
def run_worker(database: Database, parts: Parts) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def run(executor: Executor = DUMMY, services: dict[str, Any] | None = None, **options: Any) -> Worker:
        worker = make_worker(database, executor, parts.services(**services or {}), **options)
        worker.start()
        workers.append(worker)
        return worker

    yield run
    for worker in workers:
        worker.drain(0)
    for worker in workers:
        assert worker.join(40)


def start(
    database: Database, command: str = "ok", *, files: tuple[str, ...] = ("thing-1.0.tar.gz",), **project: Any
) -> str:
    source = PackageSource(
        "default", "dev", "any", "thing", "1.0", tuple(SourceAsset(name, "0" * 64) for name in files)
    )
    with database.write() as session:
        create_or_update_project(session, **{"name": "p", "buildspec": SPEC.format(command), "now": NOW} | project)
        return start_build(session, project="p", source=source, initiator="joe", now=NOW).id


def row(database: Database, build_id: str) -> Build:
    with database.read() as session:
        return get_build(session, build_id)


def ended(database: Database, build_id: str) -> Build:
    return eventually(lambda: (found := row(database, build_id)).ended_at and found, "the build never ended")


def log(database: Database, build_id: str) -> str:
    with database.read() as session:
        return LogStore(KeySealer()).read(session, build_id, 0, 10**8)[0].decode()


def told(database: Database) -> list[str]:
    with database.read() as session:
        return [text.split()[0] for text in session.scalars(select(note.c.text).order_by(note.c.id))]


def job_of(database: Database, build_id: str) -> JobState | None:
    with database.read() as session:
        return job_state(session, get_build(session, build_id).job_id or 0)


@pytest.mark.parametrize(("command", "status", "job"), [("ok", "SUCCEEDED", "succeeded"), ("bad", "FAILED", "failed")])
def test_a_build_runs_to_its_end(database: Database, parts: Parts, run_worker, command: str, status: str, job: str):
    build_id = start(database, command)
    run_worker()
    build = ended(database, build_id)
    assert (build.status, build.phase, build.attempt) == (status, "COMPLETED", 1)
    assert [phase["phaseType"] for phase in build.phases][-1] == "COMPLETED"
    assert told(database) == [status]
    assert job_of(database, build_id) == job
    assert parts.revoked == 1
    assert log(database, build_id).endswith(f"Build complete: {status}\n")
    assert ("exit status 3" in build.message) is (status == "FAILED")


def test_what_a_build_is_given(database: Database, run_worker):
    executor = DummyExecutor({"ok": Step()}, name="process")
    build_id = start(
        database,
        environment={"variables": {"A": "project"}},
        buildspec="version: 0.2\nenv:\n  variables: {A: spec, INDEX2: x}\n"
        "  exported-variables: [A, INDEX, CODEBUILD_BUILD_ID, CODEBUILD_BUILD_NUMBER, CI, ENTREPOT_PACKAGE_NAME,\n"
        "    CODEBUILD_BUILD_ARN, CODEBUILD_PROJECT_ARN, CODEBUILD_BUILD_URL]\nphases: {}",
    )
    run_worker(executor, {"public_url": "https://packages.example/"})
    assert ended(database, build_id).exported_variables == {
        "A": "project",
        "INDEX": "http://127.0.0.1:7979/index/",
        "CODEBUILD_BUILD_ID": f"p:{build_id}",
        "CODEBUILD_BUILD_NUMBER": "1",
        "CI": "true",
        "ENTREPOT_PACKAGE_NAME": "thing",
        "CODEBUILD_BUILD_ARN": f"arn:entrepot:codebuild:::build/p:{build_id}",
        "CODEBUILD_BUILD_URL": f"https://packages.example/builds/{build_id}",
        "CODEBUILD_PROJECT_ARN": "arn:entrepot:codebuild:::project/p",
    }
    (request,) = executor.requests
    assert (request.network, request.credentials.token) == ("registry", TOKEN)


def test_tokens_of_this_server_in_a_log_are_masked_and_told_of(database: Database, run_worker):
    """A token that the build was not given: out of a file, or another one's. Also in the message of a fault."""
    tokens, told_of = [new_token() for _ in range(3)], []
    odd = tokens[0][:-1] + ("0" if tokens[0][-1] != "0" else "1")  # no token, and shown as it is
    output = f"{tokens[0]} {odd} {base64.b64encode(tokens[1].encode()).decode()}\nthe end ent_".encode()
    executor = DummyExecutor({"leak": Step(output), "last": Step(tokens[2].encode(), exit_code=1)}, name="process")
    spec = "version: 0.2\nphases:\n  build:\n    commands: [leak, last]\n"
    build_id = start(database, buildspec=spec)
    run_worker(executor, {"on_tokens": lambda found, told: told_of.append((set(found), told))})
    assert ended(database, build_id).status == "FAILED"
    shown = log(database, build_id)
    assert f"*** {odd} " in shown
    assert "the end ent_" in shown
    assert not [token for token in tokens if token in shown]
    assert set().union(*(found for found, _ in told_of)) == set(tokens)
    assert {told for _, told in told_of} == {build_id}


def test_without_the_mask_a_token_would_be_shown(database: Database, run_worker, monkeypatch):
    """The negative control."""

    class Blind:
        found: frozenset[str] = frozenset()

        def feed(self, data: bytes) -> bytes:
            return data

        def flush(self) -> bytes:
            return b""

    monkeypatch.setattr(handler, "Mask", Blind)
    token = new_token()
    build_id = start(database, "leak")
    run_worker(DummyExecutor({"leak": Step(token.encode())}, name="process"))
    ended(database, build_id)
    assert token in log(database, build_id)


def test_without_network_there_is_no_token(database: Database, parts: Parts, run_worker):
    executor = DummyExecutor({"ok": Step()}, name="process")
    build_id = start(database, environment={"network": "none"})
    run_worker(executor)
    assert ended(database, build_id).status == "SUCCEEDED"
    assert executor.requests[0].credentials is None
    assert parts.revoked == 0


def test_the_log_is_there_while_the_build_runs(database: Database, run_worker):
    build_id = start(database, "hang")
    run_worker()
    eventually(lambda: "begun" in log(database, build_id), "nothing was to be seen of a running build")
    assert row(database, build_id).status == "IN_PROGRESS"
    assert row(database, build_id).phase == "BUILD"
    with database.write() as session:
        request_stop_build(session, build_id, now=NOW, on_finished=on_finished)
    build = ended(database, build_id)
    assert (build.status, build.phases[-1]["phaseStatus"]) == ("STOPPED", "STOPPED")
    assert told(database) == ["STOPPED"]
    eventually(lambda: job_of(database, build_id) is JobState.STOPPED)


def test_a_flood_of_output_ends_in_a_marker_and_the_build_goes_on(database: Database, run_worker, monkeypatch):
    for module in (logs, handler):
        monkeypatch.setattr(module, "MAX_LOG_BYTES", 300_000)
    executor = DummyExecutor({"ok": Step(b"x" * 2_000_000)}, name="process")
    build_id = start(database)
    run_worker(executor)
    build = ended(database, build_id)
    assert (build.status, build.log_bytes) == ("SUCCEEDED", 300_000 + len(logs.MARKER))
    assert log(database, build_id).endswith("the rest is not kept\n")


def test_a_source_that_was_deleted_fails_the_build(database: Database, run_worker):
    build_id = start(database, files=("deleted.zip",))
    run_worker()
    build = ended(database, build_id)
    assert (build.status, build.message) == ("FAILED", "deleted.zip was deleted")


def test_what_cannot_be_run_is_tried_again_and_then_a_fault(database: Database, parts: Parts, run_worker):
    build_id = start(database, files=("unreachable",))
    run_worker()
    build = ended(database, build_id)
    assert (build.status, build.attempt) == ("FAULT", 3)
    assert told(database) == ["FAULT"]
    text = log(database, build_id)
    assert text.count("The build could not be run: the blob store is away") == 3
    assert "the blob store is away" in build.message
    assert parts.revoked == 3


def test_an_executor_that_refuses_once_costs_an_attempt(database: Database, run_worker):
    executor = DummyExecutor({"ok": Step()}, refusals=1, name="process")
    build_id = start(database)
    run_worker(executor)
    build = ended(database, build_id)
    assert (build.status, build.attempt) == ("SUCCEEDED", 2)
    assert "Attempt 1 broke off; the build starts anew" in log(database, build_id)


def test_another_type_of_executor_is_not_pretended(database: Database, run_worker):
    build_id = start(database)
    run_worker(DummyExecutor(name="other"))
    build = ended(database, build_id)
    assert (build.status, "no executor of type process" in build.message) == ("FAULT", True)


def test_a_worker_that_drains_gives_its_build_to_another(database: Database, run_worker):
    build_id = start(database, "hang")
    first = run_worker()
    eventually(lambda: "begun" in log(database, build_id))
    first.drain(0)
    assert first.join(40)
    assert row(database, build_id).status == "IN_PROGRESS"
    run_worker(DummyExecutor({"hang": Step(b"quick now\n")}, name="process"))
    build = ended(database, build_id)
    assert (build.status, build.attempt) == ("SUCCEEDED", 2)
    assert told(database) == ["SUCCEEDED"]


def test_a_build_that_was_settled_is_not_run(database: Database, run_worker):
    build_id = start(database, "never")
    with database.write() as session:
        session.execute(update(Build).values(status="FAULT", ended_at=NOW))
    executor = DummyExecutor(name="process")
    run_worker(executor)
    eventually(lambda: job_of(database, build_id) is JobState.SUCCEEDED)
    assert (executor.requests, told(database)) == ([], [])


def test_no_more_than_so_many_run_at_a_time(database: Database, run_worker):
    lock, running, peak = threading.Lock(), [0], [0]
    executor = DummyExecutor({"ok": Step(seconds=0.2)}, name="process")
    inner = executor.prepare

    class Counting:
        name = "process"
        available = executor.available

        def prepare(self, request):
            with lock:
                running[0] += 1
                peak[0] = max(peak[0], running[0])
            sandbox = inner(request)
            destroy = sandbox.destroy
            gone = []

            def counted():
                if not gone:
                    gone.append(1)
                    with lock:
                        running[0] -= 1
                destroy()

            sandbox.destroy = counted
            return sandbox

    ids = [start(database, max_concurrent=2) for _ in range(4)]
    run_worker(Counting(), slots=4)
    assert {ended(database, build_id).status for build_id in ids} == {"SUCCEEDED"}
    assert peak[0] == 2


@pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX)
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_killed_worker_leaves_nothing_and_its_build_starts_anew(database: Database, run_worker):
    marker = f"7{os.getpid()}{os.urandom(3).hex()}"
    command = f"cat hello.txt; sleep 1000; : {marker}"
    with work_directory() as place:
        build_id = start(database, command)
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.build_worker", database.url, str(place)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        try:
            eventually(lambda: "hello from the source" in log(database, build_id), "the first worker does not build")
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
        eventually(lambda: not host_processes(str(place)), "something of the build outlived its worker")
        with database.write() as session:
            session.execute(update(Build).values(buildspec=SPEC.format("ls; test ! -e left-behind")))
        executor = ProcessExecutor(ProcessSettings(place, registry_address=("127.0.0.1", 9)))
        assert executor.available().ok
        run_worker(executor)
        build = ended(database, build_id)
        assert (build.status, build.attempt) == ("SUCCEEDED", 2), log(database, build_id)
        assert told(database) == ["SUCCEEDED"]
        text = log(database, build_id)
        assert text.count("hello from the source") == 1
        assert text.index("hello from the source") < text.index("Attempt 1 broke off; the build starts anew")
        eventually(lambda: not executor.sweep() and not list(place.glob("build-*")))
