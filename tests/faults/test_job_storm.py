"""The job queue under kill -9, database crashes and many publishers: nothing lost, nothing twice."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select

from hooks.jobs.queue import enqueue
from hooks.jobs.worker import JobContext
from hooks.models import Job, JobState
from registry.db import Database
from registry.errors import Unavailable
from tests import postgres
from tests.fakes.job_storm_worker import MANY_ATTEMPTS, link_text, publish, work
from tests.job_bench import (
    BACKENDS,
    PATIENCE_SECONDS,
    Bench,
    check_sound,
    create_tables,
    eventually,
    fresh_database,
    note,
)

SEED = 20_240_611
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.fakes.job_storm_worker"])


@pytest.fixture(params=BACKENDS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with fresh_database(request.param, tmp_path) as database:
        bench = Bench(database)
        try:
            yield bench
        finally:
            bench.close()


class Herd:
    """Worker processes, each with a name that never comes back."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.processes: list[ForkServerProcess] = []
        self._born = 0

    def add(self, count: int = 1) -> None:
        for _ in range(count):
            self._born += 1
            self.processes.append(spawn(work, self.url, f"worker-{self._born}"))

    def kill(self, index: int) -> None:
        victim = self.processes.pop(index)
        victim.kill()
        victim.join()

    def await_death(self) -> None:
        """Wait until the only process has killed itself."""
        (process,) = self.processes
        assert exit_code(process) == -signal.SIGKILL
        self.processes.clear()


@contextmanager
def herd_on(url: str, count: int) -> Iterator[Herd]:
    herd = Herd(url)
    try:
        herd.add(count)
        yield herd
    finally:
        for process in herd.processes:
            process.kill()
            process.join()


def spawn(target: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    """Start a process of its own, forked from one that has imported everything and holds no connection."""
    process = FORKS.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def exit_code(process: ForkServerProcess) -> int | None:
    process.join(PATIENCE_SECONDS)
    return process.exitcode


def start_chains(bench: Bench, chains: int, length: int) -> None:
    with bench.database.write() as session:
        for number in range(chains):
            payload = {"chain": number, "link": 1, "length": length}
            enqueue(session, "chain", payload, max_attempts=MANY_ATTEMPTS)


def count_notes(bench: Bench) -> int:
    with bench.database.read() as session:
        return session.scalar(select(func.count()).select_from(note)) or 0


def check_chains(bench: Bench, chains: int, length: int) -> None:
    """Every link wrote its end exactly once, and every job has succeeded."""
    wanted = Counter(link_text(chain, link) for chain in range(chains) for link in range(1, length + 1))
    assert Counter(bench.notes()) == wanted
    with bench.database.read() as session:
        states = session.execute(select(Job.state, func.count()).group_by(Job.state)).all()
    assert [tuple(row) for row in states] == [(JobState.SUCCEEDED, chains * length)]


def add(bench: Bench, kind: str, **options: Any) -> int:
    with bench.database.write() as session:
        job_id = enqueue(session, kind, {}, **options)
    assert job_id is not None
    return job_id


@pytest.mark.long  # tests/faults/test_kill_campaign.py has its like in make test, over whole servers
@pytest.mark.slow
def test_kill_storm(bench: Bench) -> None:
    chains, length, kills = 60, 5, 5
    dice = random.Random(SEED)
    start_chains(bench, chains, length)
    with herd_on(bench.database.url, 3) as herd:
        for number in range(kills):
            # By progress, not by time: all kills fall into the work, however fast the machine is.
            threshold = (number + 1) * chains * length // (kills + 1)
            eventually(lambda threshold=threshold: count_notes(bench) >= threshold)
            herd.kill(dice.randrange(3))
            herd.add()
        eventually(lambda: count_notes(bench) >= chains * length)
        check_chains(bench, chains, length)
    check_sound(bench.database)


def test_death_inside_the_ending_transaction_leaves_nothing_of_it(bench: Bench) -> None:
    job_id = add(bench, "die_before_commit")
    with herd_on(bench.database.url, 1) as herd:
        herd.await_death()
        assert (bench.notes(), bench.state(job_id)) == ([], JobState.RUNNING)
        herd.add()
        job = bench.await_state(job_id, JobState.SUCCEEDED)
        assert job.attempts == 2
        eventually(lambda: count_notes(bench) == 2)
        assert bench.notes() == ["end", link_text(1, 1)]


def test_the_control_a_row_outside_the_ending_transaction_is_written_twice(bench: Bench) -> None:
    job_id = add(bench, "die_torn")
    with herd_on(bench.database.url, 1) as herd:
        herd.await_death()
        herd.add()
        bench.await_state(job_id, JobState.SUCCEEDED)
        assert bench.notes() == ["end", "end"]


def test_sigterm_gives_the_jobs_back_and_ends_cleanly(bench: Bench) -> None:
    job_id = add(bench, "until_told", max_attempts=1)
    with herd_on(bench.database.url, 1) as herd:
        eventually(lambda: bench.notes() == ["started"])
        (process,) = herd.processes
        process.terminate()
        assert exit_code(process) == 0
    job = bench.job(job_id)
    assert (job.state, job.released, job.fence) == (JobState.QUEUED, 1, 2)


def test_publishing_with_forced_rollbacks_loses_and_invents_nothing(bench: Bench, tmp_path: Path) -> None:
    outputs = [tmp_path / "tokens-0", tmp_path / "tokens-1"]
    with herd_on(bench.database.url, 1):
        publishers = [spawn(publish, bench.database.url, output.name, 4, 12, output) for output in outputs]
        assert [exit_code(process) for process in publishers] == [0, 0]
        acknowledged = [token for output in outputs for token in json.loads(output.read_text())]
        assert len(acknowledged) == 2 * 4 * 8, "two of three are kept"
        wanted = Counter(f"{what} {token}" for token in acknowledged for what in ("published", "handled"))
        eventually(lambda: count_notes(bench) >= len(acknowledged) * 2)
        assert Counter(bench.notes()) == wanted
    with bench.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == len(acknowledged)


@pytest.fixture(scope="module")
def mortal_server() -> Iterator[postgres.PostgresServer]:
    """A PostgreSQL of its own, to be crashed."""
    if postgres.find_binaries() is None:
        pytest.skip("there is no PostgreSQL on this machine")
    with postgres.PostgresServer() as server:
        yield server


@pytest.fixture
def crashing(mortal_server: postgres.PostgresServer) -> Iterator[tuple[postgres.PostgresServer, Bench]]:
    with mortal_server.fresh_database() as url:
        database = Database(url)
        create_tables(database)
        bench = Bench(database)
        try:
            yield mortal_server, bench
        finally:
            bench.close()
            database.close()


@pytest.mark.slow
def test_all_jobs_end_over_three_crashes_of_postgresql(crashing: tuple[postgres.PostgresServer, Bench]) -> None:
    server, bench = crashing
    chains, length, crashes = 16, 5, 3
    start_chains(bench, chains, length)
    with herd_on(bench.database.url, 3):
        for number in range(crashes):
            threshold = (number + 1) * chains * length // (crashes + 1)
            eventually(lambda threshold=threshold: count_notes(bench) >= threshold)
            server.restart_immediate()
        eventually(lambda: count_notes(bench) >= chains * length)
        check_chains(bench, chains, length)
    check_sound(bench.database)


def test_an_end_outlives_a_database_that_is_away(crashing: tuple[postgres.PostgresServer, Bench]) -> None:
    """The measured bug: an end that raised was never recorded, while the heartbeat kept the job for ever."""
    server, bench = crashing
    has_started, is_away, was_refused = threading.Event(), threading.Event(), threading.Event()
    attempts: list[int] = []

    def handler(job: JobContext) -> None:
        attempts.append(job.attempt)
        has_started.set()
        assert is_away.wait(PATIENCE_SECONDS)
        with pytest.raises(Unavailable), bench.database.write() as session:  # the control: one try is not enough here
            session.execute(insert(note).values(text="a single try"))
        was_refused.set()
        job.finish(JobState.SUCCEEDED, lambda session: session.execute(insert(note).values(text="end")) and None)

    job_id = add(bench, "work")
    bench.worker({"work": handler})
    assert has_started.wait(PATIENCE_SECONDS)
    server.stop_immediate()
    is_away.set()
    assert was_refused.wait(PATIENCE_SECONDS)
    server.start()
    bench.await_state(job_id, JobState.SUCCEEDED)
    assert (bench.notes(), attempts) == (["end"], [1])


def test_handlers_hear_that_the_lease_is_lost_while_the_database_is_away(
    crashing: tuple[postgres.PostgresServer, Bench],
) -> None:
    server, bench = crashing
    has_started = threading.Event()
    reasons: list[Any] = []

    def handler(job: JobContext) -> None:
        if job.attempt == 1:
            has_started.set()
            job.wait(PATIENCE_SECONDS)
            reasons.append(job.stop_reason())

    job_id = add(bench, "work")
    bench.worker({"work": handler}, lease_seconds=1.0)
    assert has_started.wait(PATIENCE_SECONDS)
    server.stop_immediate()
    eventually(lambda: reasons)
    server.start()
    assert bench.await_state(job_id, JobState.SUCCEEDED).attempts == 2
    assert reasons == ["lost"]
