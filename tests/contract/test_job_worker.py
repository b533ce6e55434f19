"""The worker: one contract, both databases. Handlers wait on events, never on the clock, except to be told to stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, func, insert, select
from sqlalchemy.orm import Session

from hooks.errors import LeaseLost
from hooks.jobs.queue import enqueue, limit_queue, request_stop
from hooks.jobs.worker import EndedJob, JobContext, Retry
from hooks.models import Job, JobState, WorkerProcess
from registry.db import Database
from registry.errors import Unavailable
from tests.job_bench import BACKENDS, PATIENCE_SECONDS, Bench, check_sound, eventually, fresh_database, note, wipe


@pytest.fixture(scope="module", params=BACKENDS)
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with fresh_database(request.param, tmp_path_factory.mktemp("jobs")) as database:
        yield database


@pytest.fixture
def bench(database: Database) -> Iterator[Bench]:
    wipe(database)
    bench = Bench(database)
    try:
        yield bench
    finally:
        bench.close()
    check_sound(database)


def add(bench: Bench, **options: Any) -> int:
    with bench.database.write() as session:
        job_id = enqueue(session, options.pop("kind", "work"), options.pop("payload", {}), **options)
    assert job_id is not None
    return job_id


def stop(bench: Bench, job_id: int) -> None:
    with bench.database.write() as session:
        assert request_stop(session, job_id)


def write_note(text: str) -> Any:
    def unit(session: Session) -> None:
        session.execute(insert(note).values(text=text))

    return unit


def write_end(text: str) -> Any:
    return lambda job: job.finish(JobState.SUCCEEDED, write_note(text))


def note_the_end(session: Session, ended: EndedJob) -> None:
    session.execute(insert(note).values(text=f"{ended.kind} {ended.state} {ended.attempt}"))


class Gate:
    """A handler that says when it started, and returns when it is let."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.let_go = threading.Event()

    def __call__(self, _job: JobContext) -> None:
        self.started.set()
        assert self.let_go.wait(PATIENCE_SECONDS)


class UntilTold:
    """A handler that waits until it is told to stop, and keeps why."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.reasons: list[Any] = []

    def __call__(self, job: JobContext) -> None:
        assert job.stop_reason() is None
        self.started.set()
        assert job.wait(PATIENCE_SECONDS), "it was never told"
        assert job.should_stop()
        self.reasons.append(job.stop_reason())


class CutOff(Database):
    """A real database whose connection breaks at chosen commits: the writer cannot know whether it was recorded."""

    def __init__(self, url: str, *, commits: bool) -> None:
        super().__init__(url)
        self.commits = commits
        self.cuts_left = 0
        self.cuts: list[str] = []

    @contextmanager
    def write(self) -> Iterator[Session]:
        with super().write() as session:
            yield session
            cut = self.cuts_left > 0 and threading.current_thread().name == "cut"
            if cut:
                self.cuts_left -= 1
                if not self.commits:
                    raise Unavailable("cut off before the commit")
        if cut:
            raise Unavailable("cut off after the commit")


def test_a_handler_that_returns_has_succeeded(bench: Bench) -> None:
    seen: list[Any] = []
    job_id = add(bench, payload={"a": [1, "ü"]})
    bench.worker({"work": lambda job: seen.append((job.job_id, job.kind, job.payload, job.attempt, job.fence))})
    bench.await_state(job_id, JobState.SUCCEEDED)
    assert seen == [(job_id, "work", {"a": [1, "ü"]}, 1, 1)]


def test_finish_writes_the_end_the_domain_and_the_successor_together(bench: Bench) -> None:
    def chain(job: JobContext) -> None:
        def unit(session: Session) -> None:
            session.execute(insert(note).values(text=str(job.payload["n"])))
            if job.payload["n"] < 3:
                enqueue(session, "work", {"n": job.payload["n"] + 1})

        job.finish(JobState.FAILED if job.payload["n"] == 3 else JobState.SUCCEEDED, unit, error="it ran and failed")

    add(bench, payload={"n": 1})
    bench.worker({"work": chain})
    eventually(lambda: bench.notes() == ["1", "2", "3"])
    with bench.database.read() as session:
        assert session.scalars(select(Job.state).order_by(Job.id)).all() == ["succeeded", "succeeded", "failed"]


def test_a_second_finish_is_refused_and_writes_nothing(bench: Bench) -> None:
    refused: list[LeaseLost] = []

    def twice(job: JobContext) -> None:
        job.finish(JobState.SUCCEEDED, write_note("first"))
        with pytest.raises(LeaseLost) as caught:
            job.finish(JobState.FAILED, write_note("second"))
        refused.append(caught.value)

    job_id = add(bench)
    bench.worker({"work": twice})
    eventually(lambda: refused)
    assert (bench.notes(), bench.state(job_id)) == (["first"], JobState.SUCCEEDED)


def test_a_handler_cannot_end_its_job_as_lost_or_running(bench: Bench) -> None:
    caught: list[str] = []

    def wrong(job: JobContext) -> None:
        for state in (JobState.LOST, JobState.RUNNING, JobState.QUEUED):
            with pytest.raises(ValueError, match=state):
                job.finish(state)
            caught.append(state)

    bench.await_state(add_and_work(bench, wrong), JobState.SUCCEEDED)
    assert caught == ["lost", "running", "queued"]


def add_and_work(bench: Bench, handler: Any, **options: Any) -> int:
    job_id = add(bench)
    bench.worker({"work": handler}, **options)
    return job_id


def test_what_the_unit_of_finish_raises_leaves_nothing_and_is_retried(bench: Bench) -> None:
    def handler(job: JobContext) -> None:
        def unit(session: Session) -> None:
            session.execute(insert(note).values(text=f"attempt {job.attempt}"))
            if job.attempt == 1:
                raise RuntimeError("a bug")

        job.finish(JobState.SUCCEEDED, unit)

    job = bench.await_state(add_and_work(bench, handler), JobState.SUCCEEDED)
    assert (bench.notes(), job.attempts) == (["attempt 2"], 2)


def test_a_failing_handler_is_tried_again_and_then_failed_with_its_error(bench: Bench) -> None:
    def broken(_job: JobContext) -> None:
        raise ValueError("line one\nline two")

    job_id = add(bench, max_attempts=3)
    bench.worker({"work": broken}, settle={"work": note_the_end})
    job = bench.await_state(job_id, JobState.FAILED)
    assert (job.attempts, job.error) == (3, "ValueError: line one line two")
    assert bench.notes() == ["work failed 3"], "the domain hears of the end in the transaction that ends it"


def test_retry_waits_as_long_as_the_handler_says(bench: Bench) -> None:
    def busy(job: JobContext) -> None:
        if job.attempt == 1:
            raise Retry(3600, "the builder is busy")

    job_id = add_and_work(bench, busy)
    eventually(lambda: bench.job(job_id).error)
    job = bench.job(job_id)
    assert (job.state, job.error) == (JobState.QUEUED, "the builder is busy")
    assert job.run_after - job.enqueued_at > 3500
    bench.change(job_id, run_after=0.0)
    assert bench.await_state(job_id, JobState.SUCCEEDED).error is None


def test_a_settlement_that_fails_leaves_the_job_to_be_settled_again(bench: Bench) -> None:
    tries: list[JobState] = []

    def broken(_job: JobContext) -> None:
        raise ValueError

    def settle(session: Session, ended: EndedJob) -> None:
        tries.append(ended.state)
        note_the_end(session, ended)
        if len(tries) < 3:
            raise RuntimeError("a bug")

    job_id = add(bench, max_attempts=1)
    bench.worker({"work": broken}, settle={"work": settle}, lease_seconds=0.3)
    bench.await_state(job_id, JobState.LOST)
    assert tries == [JobState.FAILED, JobState.LOST, JobState.LOST]
    assert bench.notes() == ["work lost 1"]


def test_stop_of_a_running_job(bench: Bench) -> None:
    handler = UntilTold()
    job_id = add(bench)
    bench.worker({"work": handler}, settle={"work": note_the_end})
    handler.started.wait(PATIENCE_SECONDS)
    stop(bench, job_id)
    bench.await_state(job_id, JobState.STOPPED)
    assert handler.reasons == ["stop"]
    assert bench.notes() == ["work stopped 1"]


def test_a_handler_that_was_told_may_finish_otherwise(bench: Bench) -> None:
    handler = UntilTold()

    def tidy(job: JobContext) -> None:
        handler(job)
        job.finish(JobState.FAILED, write_note("by the handler"))

    job_id = add(bench)
    bench.worker({"work": tidy}, settle={"work": note_the_end})
    handler.started.wait(PATIENCE_SECONDS)
    stop(bench, job_id)
    bench.await_state(job_id, JobState.FAILED)
    assert bench.notes() == ["by the handler"]


@pytest.mark.parametrize("heartbeat_seconds", [0.05, 3600])
def test_timeout(bench: Bench, heartbeat_seconds: float) -> None:
    """The deadline is noticed by the heartbeat, and without one."""
    reasons: list[Any] = []

    def handler(job: JobContext) -> None:
        # On a busy machine the deadline may have passed before this begins.
        assert job.wait(PATIENCE_SECONDS), "it was never told"
        reasons.append(job.stop_reason())

    job_id = add(bench, timeout_seconds=0.2)
    bench.worker({"work": handler}, heartbeat_seconds=heartbeat_seconds, settle={"work": note_the_end})
    job = bench.await_state(job_id, JobState.TIMED_OUT)
    assert reasons == ["timeout"]
    assert job.error == "it took longer than 0.2 seconds"
    assert bench.notes() == ["work timed_out 1"]


@pytest.mark.parametrize("reason", ["stop", "timeout"])
def test_a_handler_that_never_returns_cannot_keep_its_job(bench: Bench, reason: str) -> None:
    gate = Gate()
    refused = threading.Event()

    def deaf(job: JobContext) -> None:
        gate(job)
        try:
            job.finish(JobState.SUCCEEDED, write_note("too late"))
        except LeaseLost:
            refused.set()
            raise

    job_id = add(bench, timeout_seconds=0.1 if reason == "timeout" else None)
    bench.worker({"work": deaf}, lease_seconds=0.5, return_seconds=0.2, settle={"work": note_the_end})
    gate.started.wait(PATIENCE_SECONDS)
    if reason == "stop":
        stop(bench, job_id)
    bench.await_state(job_id, JobState.STOPPED if reason == "stop" else JobState.TIMED_OUT)
    gate.let_go.set()
    assert refused.wait(PATIENCE_SECONDS)
    assert bench.notes() == [f"work {'stopped' if reason == 'stop' else 'timed_out'} 1"]


def test_a_worker_that_cannot_renew_for_a_whole_lease_tells_its_handlers(bench: Bench) -> None:
    handler = UntilTold()

    def once(job: JobContext) -> None:
        if job.attempt == 1:
            handler(job)

    job_id = add_and_work(bench, once, lease_seconds=0.3, heartbeat_seconds=3600)
    job = bench.await_state(job_id, JobState.SUCCEEDED)
    assert handler.reasons == ["lost"]
    assert job.attempts == 2


def test_a_zombie_is_refused_at_every_door(bench: Bench) -> None:
    gate = Gate()
    refused: list[str] = []

    def zombie(job: JobContext) -> None:
        job.step(write_note("while held"))
        gate(job)
        for door in (job.step, lambda unit: job.finish(JobState.SUCCEEDED, unit)):
            with pytest.raises(LeaseLost):
                door(write_note("zombie"))
            refused.append("refused")

    job_id = add(bench)
    bench.worker({"work": zombie}, lease_seconds=0.3, heartbeat_seconds=3600, reap_seconds=3600, slots=1)
    gate.started.wait(PATIENCE_SECONDS)
    bench.worker({"work": lambda job: job.finish(JobState.SUCCEEDED, write_note("heir"))})
    assert bench.await_state(job_id, JobState.SUCCEEDED).attempts == 2
    gate.let_go.set()
    eventually(lambda: len(refused) == 2)
    assert bench.notes() == ["while held", "heir"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_heartbeat_does_not_renew_a_job_whose_thread_died(bench: Bench) -> None:
    living = Gate()

    def handler(job: JobContext) -> None:
        if job.payload == {"dies": True} and job.attempt == 1:
            raise SystemExit  # ends the thread, and no rim sees it
        if job.payload == {}:
            living(job)

    lives, dies = add(bench), add(bench, payload={"dies": True})
    bench.worker({"work": handler}, lease_seconds=0.5)
    living.started.wait(PATIENCE_SECONDS)
    assert bench.await_state(dies, JobState.SUCCEEDED).attempts == 2
    assert (bench.state(lives), bench.job(lives).attempts) == (JobState.RUNNING, 1), "the control: this one is renewed"
    living.let_go.set()
    bench.await_state(lives, JobState.SUCCEEDED)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_thread_frees_its_slot(bench: Bench) -> None:
    def dies(_job: JobContext) -> None:
        raise SystemExit

    for _ in range(3):
        add(bench, kind="dies", max_attempts=1)
    last = add(bench)
    bench.worker({"work": lambda _: None, "dies": dies}, slots=1, lease_seconds=0.3)
    bench.await_state(last, JobState.SUCCEEDED)


def test_drain_lets_a_job_end_within_the_grace(bench: Bench) -> None:
    gate = Gate()
    job_id, waiting = add(bench), add(bench)
    worker = bench.worker({"work": gate}, slots=1)
    gate.started.wait(PATIENCE_SECONDS)
    worker.drain(PATIENCE_SECONDS)
    gate.let_go.set()
    assert worker.join(PATIENCE_SECONDS)
    assert (bench.state(job_id), bench.state(waiting)) == (JobState.SUCCEEDED, JobState.QUEUED)
    with bench.database.read() as session:
        assert session.scalar(select(func.count()).select_from(WorkerProcess)) == 0


def test_drain_puts_an_unfinished_job_back_at_once_and_uncounted(bench: Bench) -> None:
    handler = UntilTold()
    job_id = add(bench, max_attempts=1)
    worker = bench.worker({"work": handler})
    handler.started.wait(PATIENCE_SECONDS)
    worker.drain(0)
    assert worker.join(PATIENCE_SECONDS)
    assert handler.reasons == ["drain"]
    job = bench.job(job_id)
    assert (job.state, job.fence, job.attempts, job.released, job.owner) == (JobState.QUEUED, 2, 1, 1, None)
    bench.worker({"work": lambda _: None})
    assert bench.await_state(job_id, JobState.SUCCEEDED).attempts == 2


def test_drain_counts_a_handler_that_never_looked_as_done(bench: Bench) -> None:
    gate = Gate()
    job_id = add(bench)
    worker = bench.worker({"work": gate})
    gate.started.wait(PATIENCE_SECONDS)
    worker.drain(0)
    gate.let_go.set()
    bench.await_state(job_id, JobState.SUCCEEDED)


def test_drain_takes_the_job_from_a_handler_that_does_not_return(bench: Bench) -> None:
    gate = Gate()
    refused = threading.Event()

    def deaf(job: JobContext) -> None:
        gate(job)
        with pytest.raises(LeaseLost):
            job.finish(JobState.SUCCEEDED, write_note("too late"))
        refused.set()

    job_id = add(bench)
    worker = bench.worker({"work": deaf}, return_seconds=0.1)
    gate.started.wait(PATIENCE_SECONDS)
    worker.drain(0)
    assert worker.join(PATIENCE_SECONDS)
    job = bench.job(job_id)
    assert (job.state, job.released) == (JobState.QUEUED, 1)
    gate.let_go.set()
    assert refused.wait(PATIENCE_SECONDS)
    assert bench.notes() == []


def test_a_queue_limit_holds_over_workers(bench: Bench) -> None:
    lock, together, release = threading.Lock(), [0, 0], threading.Event()
    counts = {"limited": 0, "free": 0}
    peaks = {"limited": 0, "free": 0}

    def handler(job: JobContext) -> None:
        with lock:
            counts[job.kind] += 1
            peaks[job.kind] = max(peaks[job.kind], counts[job.kind])
        release.wait(PATIENCE_SECONDS)
        with lock:
            counts[job.kind] -= 1
            together[job.kind == "free"] += 1

    with bench.database.write() as session:
        limit_queue(session, "limited", 3)
    for _ in range(12):
        add(bench, kind="limited", queue="limited")
        add(bench, kind="free", queue="free")
    for number in range(3):
        bench.worker({"limited": handler, "free": handler}, slots=6, queues=["limited", "free"], name=f"w{number}")
    eventually(lambda: counts == {"limited": 3, "free": 12})
    release.set()
    eventually(lambda: together == [12, 12])
    assert peaks == {"limited": 3, "free": 12}, "the control: without a limit all run at once"


def test_an_end_that_was_recorded_unnoticed_is_not_recorded_twice(bench: Bench) -> None:
    """The connection breaks after the commit: trying again must find the end and be content with it."""
    database = CutOff(bench.database.url, commits=True)
    check_cut_off(bench, database, attempts=1)


def test_an_end_that_was_not_recorded_is_tried_again(bench: Bench) -> None:
    database = CutOff(bench.database.url, commits=False)
    check_cut_off(bench, database, attempts=1)


def check_cut_off(bench: Bench, database: CutOff, *, attempts: int) -> None:
    finished = threading.Event()

    def handler(job: JobContext) -> None:
        threading.current_thread().name = "cut"
        database.cuts_left = 1
        job.finish(JobState.SUCCEEDED, write_note(f"attempt {job.attempt}"))
        finished.set()

    job_id = add_and_work(bench, handler, database=database)
    job = bench.await_state(job_id, JobState.SUCCEEDED)
    assert finished.wait(PATIENCE_SECONDS), "finish raised although the end is recorded"
    assert database.cuts_left == 0
    assert (bench.notes(), job.attempts) == ([f"attempt {attempts}"], attempts)
    bench.close()
    database.close()


@pytest.mark.parametrize("commits", [True, False])
def test_a_claim_cut_off_at_its_commit_costs_no_attempt(bench: Bench, commits: bool) -> None:
    database = CutOff(bench.database.url, commits=commits)
    database.cuts_left = 1
    job_id = add(bench, max_attempts=1)
    bench.worker({"work": lambda _: None}, database=database, name="cut")
    job = bench.await_state(job_id, JobState.SUCCEEDED)
    assert database.cuts_left == 0
    assert (job.attempts, job.released) == ((2, 1) if commits else (1, 0))
    bench.close()
    database.close()


def test_an_end_that_can_never_be_recorded_does_not_hold_the_job_for_ever(bench: Bench) -> None:
    """The heartbeats go on, so the lease alone would never run out: the worker must give it up by itself."""

    def handler(job: JobContext) -> None:
        def unit(_session: Session) -> None:
            if job.attempt == 1:
                raise Unavailable("this transaction is refused every time")

        job.finish(JobState.SUCCEEDED, unit)

    job = bench.await_state(add_and_work(bench, handler, lease_seconds=0.4), JobState.SUCCEEDED)
    assert job.attempts == 2


def test_an_idle_worker_only_reads(bench: Bench) -> None:
    writes: list[str] = []
    reads: list[str] = []

    def on_begin(connection: Any) -> None:
        reading = connection.get_execution_options().get("entrepot_read", False)
        (reads if reading else writes).append(threading.current_thread().name)

    add(bench, run_after_seconds=3600)
    worker = bench.worker({"work": lambda _: None}, name="idle")

    def is_announced() -> bool:
        with bench.database.read() as session:
            return session.scalar(select(WorkerProcess.name)) == "idle"

    eventually(is_announced)
    first = add(bench)
    bench.await_state(first, JobState.SUCCEEDED)
    event.listen(bench.database.engine, "begin", on_begin)
    eventually(lambda: reads.count("idle") > 20)
    assert writes == []
    add(bench)
    eventually(lambda: "idle" in writes, "the control: a claim is seen")
    event.remove(bench.database.engine, "begin", on_begin)
    worker.drain(0)


def test_what_a_job_leads_to_is_found_at_once_by_another_worker_of_the_process(bench: Bench) -> None:
    """Each looks for jobs by itself at its start, and then after this test's patience only."""

    def lead_on(job: JobContext) -> None:
        job.finish(JobState.SUCCEEDED, lambda session: enqueue(session, "second", {}, queue="other") and None)

    slow = {"poll_seconds": PATIENCE_SECONDS * 2}
    second = bench.worker({"second": write_end("second")}, queues=("other",), **slow)
    add(bench)
    first = bench.worker({"work": lead_on}, on_ended=second.nudge, **slow)
    eventually(lambda: bench.notes() == ["second"])
    for worker in (first, second):
        worker.drain(0)
        worker.nudge()


def test_periodic_tasks_go_on_after_a_failure_and_never_overlap(bench: Bench) -> None:
    runs: list[int] = []
    inside = threading.Lock()

    def task() -> None:
        assert inside.acquire(blocking=False), "two at once"
        try:
            runs.append(1)
            if len(runs) == 1:
                raise RuntimeError("once")
            if len(runs) == 2:
                raise Unavailable("the database is away")
        finally:
            inside.release()

    rare: list[int] = []
    bench.worker({}, periodic=[(0.01, task), (3600.0, lambda: rare.append(1))])
    eventually(lambda: len(runs) >= 5)
    assert rare == [1]
