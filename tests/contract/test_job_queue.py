"""The queue's front and its claims: one contract, both databases."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import ColumnElement, func, insert, select

from hooks.jobs import claims, retry
from hooks.jobs.claims import Claimed
from hooks.jobs.queue import enqueue, faults, job_state, limit_queue, postpone, request_stop
from hooks.models import Job, JobState
from registry.db import Database
from tests.job_bench import BACKENDS, Bench, check_sound, fresh_database, note, wipe

KINDS = {"work"}


@pytest.fixture(scope="module", params=BACKENDS)
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with fresh_database(request.param, tmp_path_factory.mktemp("jobs")) as database:
        yield database


@pytest.fixture
def bench(database: Database) -> Iterator[Bench]:
    wipe(database)
    bench = Bench(database)
    yield bench
    check_sound(database)


def add(bench: Bench, **options: Any) -> int:
    with bench.database.write() as session:
        job_id = enqueue(session, "work", {"n": 1}, **options)
    assert job_id is not None
    return job_id


def take(bench: Bench, free: int = 10, queues: tuple[str, ...] = ("default",), owner: str = "me") -> list[Claimed]:
    with bench.database.write() as session:
        return claims.claim(session, owner=owner, queues=queues, kinds=KINDS, free=free, lease_seconds=60)


def finish(bench: Bench, job: Claimed) -> None:
    with bench.database.write() as session:
        assert claims.end(session, (job.job_id, job.fence), JobState.SUCCEEDED, None)


def at_once(count: int, unit: Callable[[int], list[Claimed]]) -> list[Claimed]:
    """Run ``unit`` in ``count`` threads that start together; all their results."""
    gate = threading.Barrier(count)

    def run(number: int) -> list[Claimed]:
        gate.wait()
        return unit(number)

    with ThreadPoolExecutor(count) as pool:
        return [job for jobs in pool.map(run, range(count)) for job in jobs]


def test_a_job_is_as_it_was_put_in(bench: Bench) -> None:
    job_id = add(bench, subject="build:7", timeout_seconds=3.5, max_attempts=2, priority=4, serial_key="k")
    job = bench.job(job_id)
    assert (job.state, job.payload, job.subject, job.queue) == (JobState.QUEUED, {"n": 1}, "build:7", "default")
    assert (job.timeout_seconds, job.max_attempts, job.priority, job.serial_key) == (3.5, 2, 4, "k")
    (claimed,) = take(bench)
    assert (claimed.attempt, claimed.fence, claimed.timeout_seconds) == (1, 1, 3.5)
    held = bench.job(job_id)
    assert held.lease_until is not None
    assert held.started_at is not None
    assert held.deadline is not None
    # Each column reads PostgreSQL's clock for itself, and a loaded machine puts a tenth of a millisecond between them.
    assert held.lease_until - held.started_at == pytest.approx(60, abs=1)
    assert held.deadline - held.started_at == pytest.approx(3.5, abs=1)


def test_dedupe_holds_while_queued_or_running_and_leaves_the_transaction_usable(bench: Bench) -> None:
    add(bench, dedupe="d")
    with bench.database.write() as session:
        session.execute(insert(note).values(text="before"))
        assert enqueue(session, "work", {}, dedupe="d") is None
        assert enqueue(session, "work", {}, dedupe="d", queue="other") is not None
        session.execute(insert(note).values(text="after"))
    assert bench.notes() == ["before", "after"]
    (running,) = take(bench)
    with bench.database.write() as session:
        assert enqueue(session, "work", {}, dedupe="d") is None
    finish(bench, running)
    add(bench, dedupe="d")


def test_dedupe_lets_exactly_one_of_many_in(bench: Bench) -> None:
    def race(_number: int) -> list[Any]:
        with bench.database.write() as session:
            return [enqueue(session, "work", {}, dedupe="d")]

    found = at_once(8, race)
    assert sum(job_id is not None for job_id in found) == 1


def test_rollback_takes_the_job_with_it(bench: Bench) -> None:
    def publish_and_fail() -> None:
        with bench.database.write() as session:
            session.execute(insert(note).values(text="gone"))
            assert enqueue(session, "work", {}, dedupe="d") is not None
            raise RuntimeError

    with pytest.raises(RuntimeError):
        publish_and_fail()
    assert bench.notes() == []
    assert take(bench) == []
    add(bench, dedupe="d")


def test_priority_first_then_age(bench: Bench) -> None:
    low, high, middle, second = (add(bench, priority=priority) for priority in (-1, 9, 0, 0))
    assert [job.job_id for job in take(bench, free=3)] == [high, middle, second]
    assert [job.job_id for job in take(bench)] == [low]


def test_priority_holds_over_queues(bench: Bench) -> None:
    first = add(bench, priority=5, queue="b")
    add(bench, priority=1, queue="a")
    assert [job.job_id for job in take(bench, free=1, queues=("a", "b"))] == [first]


def test_run_after(bench: Bench) -> None:
    job_id = add(bench, run_after_seconds=3600)
    assert take(bench) == []
    with bench.database.read() as session:
        assert not claims.anything_due(session, ["default"], KINDS)
    bench.change(job_id, run_after=0.0)
    with bench.database.read() as session:
        assert claims.anything_due(session, ["default"], KINDS)
    assert len(take(bench)) == 1


def test_other_queues_and_kinds_are_left_alone(bench: Bench) -> None:
    add(bench, queue="other")
    with bench.database.write() as session:
        enqueue(session, "of a newer version", {})
    assert take(bench) == []
    with bench.database.read() as session:
        assert not claims.anything_due(session, ["default"], KINDS)


def test_postpone_moves_only_later_and_only_what_is_queued(bench: Bench) -> None:
    job_id = add(bench, dedupe="d", run_after_seconds=100)
    was = bench.job(job_id).run_after
    with bench.database.write() as session:
        assert postpone(session, "default", "d", 10)
    assert bench.job(job_id).run_after == was
    with bench.database.write() as session:
        assert postpone(session, "default", "d", 200)
        assert not postpone(session, "other", "d", 200)
    assert bench.job(job_id).run_after >= was + 99
    bench.change(job_id, run_after=0.0)
    take(bench)
    with bench.database.write() as session:
        assert not postpone(session, "default", "d", 200)


def test_a_limit_is_exact_when_many_claim_at_once(bench: Bench) -> None:
    with bench.database.write() as session:
        limit_queue(session, "limited", 3)
    for _ in range(12):
        add(bench, queue="limited")
        add(bench, queue="free")
    limited = at_once(6, lambda number: take(bench, free=4, queues=("limited",), owner=f"w{number}"))
    assert len(limited) == 3
    with bench.database.read() as session:
        assert not claims.anything_due(session, ["limited"], KINDS), "a full queue must look idle"
    # The control: without a limit the same race takes all there are.
    assert len(at_once(6, lambda number: take(bench, free=4, queues=("free",), owner=f"w{number}"))) == 12
    finish(bench, limited[0])
    assert len(take(bench, queues=("limited",))) == 1


def test_a_limit_of_nought_pauses_and_none_lifts(bench: Bench) -> None:
    add(bench)
    with bench.database.write() as session:
        limit_queue(session, "default", 0)
    assert take(bench) == []
    with bench.database.write() as session:
        limit_queue(session, "default", None)
    assert len(take(bench)) == 1


def test_no_job_is_taken_twice(bench: Bench) -> None:
    ids = {add(bench) for _ in range(20)}
    taken = at_once(6, lambda number: take(bench, free=5, owner=f"w{number}") + take(bench, free=5, owner=f"w{number}"))
    rest = take(bench, free=20)
    assert sorted(job.job_id for job in taken + rest) == sorted(ids)


def test_of_a_serial_key_one_runs_at_a_time(bench: Bench) -> None:
    for number in range(12):
        add(bench, serial_key=f"key{number % 2}", queue=f"q{number % 3}")
    free = add(bench, queue="q0")
    queues = ("q0", "q1", "q2")
    taken = at_once(6, lambda number: take(bench, queues=queues, owner=f"w{number}"))
    keys = [bench.job(job.job_id).serial_key for job in taken]
    assert sorted(keys, key=str) == [None, "key0", "key1"]
    assert free in {job.job_id for job in taken}
    with bench.database.read() as session:
        assert not claims.anything_due(session, queues, KINDS), "blocked jobs must look idle"
    finish(bench, next(job for job in taken if bench.job(job.job_id).serial_key == "key0"))
    (following,) = take(bench, queues=queues)
    assert bench.job(following.job_id).serial_key == "key0"


def test_serial_jobs_run_in_order_and_let_others_pass_while_they_wait(bench: Bench) -> None:
    first, second, third = (add(bench, serial_key="k") for _ in range(3))
    (job,) = take(bench)
    assert job.job_id == first
    with bench.database.write() as session:
        claims.give_back(session, (first, job.fence), after_seconds=3600, error="again", counts=True)
    (job,) = take(bench)
    assert job.job_id == second
    finish(bench, job)
    assert [job.job_id for job in take(bench)] == [third]


def of_mine(job: type[Job]) -> ColumnElement[bool]:
    return job.subject == "mine"


def test_a_job_that_only_others_may_have_holds_up_nobody_of_its_serial_key(bench: Bench) -> None:
    others = add(bench, serial_key="k", subject="another's", priority=5)
    first, second = (add(bench, serial_key="k", subject="mine") for _ in range(2))

    def claimed(**options: Any) -> list[int]:
        with bench.database.write() as session:
            wanted = {"owner": "me", "queues": ("default",), "kinds": KINDS, "free": 10, "lease_seconds": 60}
            return [job.job_id for job in claims.claim(session, **wanted, **options)]

    with bench.database.read() as session:
        assert claims.anything_due(session, ("default",), KINDS, only=of_mine)
    assert claimed(only=of_mine) == [first]  # nobody may be there who takes the other one
    assert claimed() == []  # but of the key one runs at a time, whoever asks
    with bench.database.write() as session:
        assert claims.end(session, (first, bench.job(first).fence), JobState.SUCCEEDED, None)
    assert claimed() == [others]
    assert claimed(only=of_mine) == []
    assert bench.state(second) is JobState.QUEUED


def test_stop(bench: Bench) -> None:
    queued, running = add(bench, dedupe="d"), add(bench, priority=1)
    (job,) = take(bench, free=1)
    with bench.database.write() as session:
        assert request_stop(session, queued)
        assert request_stop(session, running)
        assert not request_stop(session, 999_999)
    assert bench.state(queued) is JobState.STOPPED
    assert bench.job(queued).ended_at is not None
    assert bench.state(running) is JobState.RUNNING, "stopped only when its handler has returned"
    assert take(bench) == []
    with bench.database.write() as session:
        beats = claims.renew(session, owner="me", holds=[(job.job_id, job.fence)], lease_seconds=60)
        assert beats[(job.job_id, job.fence)].stop_requested
    finish(bench, job)
    with bench.database.write() as session:
        assert not request_stop(session, queued)
        assert not request_stop(session, running)
    assert bench.state(running) is JobState.SUCCEEDED
    add(bench, dedupe="d")


def test_a_stop_is_not_lost_when_the_attempt_fails_before_it_is_heard(bench: Bench) -> None:
    job_id = add(bench)
    (job,) = take(bench)
    with bench.database.write() as session:
        request_stop(session, job_id)
        assert claims.give_back(session, (job_id, job.fence), after_seconds=0, error="x", counts=True) == "stopped"
    assert bench.state(job_id) is JobState.STOPPED


def test_renewing_is_for_the_holder_only(bench: Bench) -> None:
    add(bench)
    (job,) = take(bench)
    hold = (job.job_id, job.fence)
    with bench.database.write() as session:
        assert set(claims.renew(session, owner="me", holds=[hold, (job.job_id, job.fence + 1)], lease_seconds=90)) == {
            hold
        }
        assert claims.renew(session, owner="somebody else", holds=[hold], lease_seconds=90) == {}
    finish(bench, job)
    with bench.database.write() as session:
        assert claims.renew(session, owner="me", holds=[hold], lease_seconds=90) == {}


def expire(bench: Bench, job: Claimed) -> claims.EndedJob | None:
    """Let the lease run out and reclaim the job."""
    bench.change(job.job_id, lease_until=1.0)
    with bench.database.read() as session:
        assert claims.expired(session, KINDS) == [(job.job_id, job.fence)]
        assert claims.expired(session, {"of a newer version"}) == []
    with bench.database.write() as session:
        return claims.reclaim(session, (job.job_id, job.fence))


def test_a_live_lease_is_not_reclaimed(bench: Bench) -> None:
    add(bench)
    (job,) = take(bench)
    with bench.database.write() as session:
        assert claims.expired(session, KINDS) == []
        assert claims.reclaim(session, (job.job_id, job.fence)) is None
    assert bench.job(job.job_id).fence == job.fence


def test_a_silent_holder_loses_the_job_and_its_writes_are_refused(bench: Bench) -> None:
    add(bench)
    (zombie,) = take(bench)
    assert expire(bench, zombie) is None
    (heir,) = take(bench, owner="heir")
    assert (heir.attempt, heir.fence > zombie.fence) == (2, True)
    hold = (zombie.job_id, zombie.fence)
    with bench.database.write() as session:
        assert not claims.is_held(session, hold)
        assert not claims.end(session, hold, JobState.SUCCEEDED, None)
        assert claims.give_back(session, hold, after_seconds=0, error=None, counts=True) is None
        assert claims.reclaim(session, hold) is None
        assert claims.is_held(session, (heir.job_id, heir.fence)), "the control: the heir is held"
    finish(bench, heir)


def test_what_becomes_of_a_reclaimed_job(bench: Bench) -> None:
    add(bench, max_attempts=1, subject="s")
    (job,) = take(bench)
    ended = expire(bench, job)
    assert ended is not None
    assert (ended.state, ended.subject, ended.payload, ended.attempt) == (JobState.LOST, "s", {"n": 1}, 1)

    stopped = add(bench)
    (job,) = take(bench)
    with bench.database.write() as session:
        request_stop(session, stopped)
    ended = expire(bench, job)
    assert ended is not None
    assert ended.state is JobState.STOPPED

    add(bench, timeout_seconds=5)
    (job,) = take(bench)
    assert expire(bench, job) is None, "its worker died before the deadline: the time was not used up"
    (job,) = take(bench)
    bench.change(job.job_id, deadline=1.0)
    ended = expire(bench, job)
    assert ended is not None
    assert ended.state is JobState.TIMED_OUT


def test_attempts_only_rise_and_given_back_ones_do_not_count(bench: Bench) -> None:
    job_id = add(bench, max_attempts=1)
    for number in range(1, 4):
        (job,) = take(bench)
        assert (job.attempt, job.tries_used) == (number, 1)
        with bench.database.write() as session:
            claims.give_back(session, (job_id, job.fence), after_seconds=0, error=None, counts=False)
    (job,) = take(bench)
    with bench.database.write() as session:
        claims.give_back(session, (job_id, job.fence), after_seconds=0, error="one line", counts=True)
    (job,) = take(bench)
    assert (job.attempt, job.tries_used) == (5, 2)
    assert bench.job(job_id).error == "one line"


def test_releasing_what_another_worker_took_since_does_nothing(bench: Bench) -> None:
    job_id = add(bench)
    (job,) = take(bench, owner="other")
    with bench.database.write() as session:
        claims.release(session, owner="me", holds=[(job_id, job.fence)])
    assert bench.state(job_id) is JobState.RUNNING
    with bench.database.write() as session:
        claims.release(session, owner="other", holds=[(job_id, job.fence)])
    assert bench.state(job_id) is JobState.QUEUED


def test_retention_deletes_old_ends_in_batches_and_ids_never_come_back(bench: Bench) -> None:
    for _ in range(5):
        add(bench)
    kept = add(bench, run_after_seconds=60)
    ended = take(bench)
    for job in ended:
        finish(bench, job)
    with bench.database.write() as session:
        assert claims.purge(session, older_than_seconds=3600, at_most=3) == 0
    for job in ended:
        bench.change(job.job_id, ended_at=1.0)
    with bench.database.write() as session:
        assert claims.purge(session, older_than_seconds=3600, at_most=3) == 3
        assert claims.purge(session, older_than_seconds=3600, at_most=3) == 2
        assert session.scalars(select(Job.id)).all() == [kept]
    with bench.database.write() as session:
        request_stop(session, kept)
    bench.change(kept, ended_at=1.0)
    with bench.database.write() as session:
        assert claims.purge(session, older_than_seconds=3600, at_most=3) == 1
    assert add(bench) > kept


def test_job_state(bench: Bench) -> None:
    job_id = add(bench)
    with bench.database.read() as session:
        assert job_state(session, job_id) is JobState.QUEUED
        assert job_state(session, job_id + 1) is None


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ({"lease_until": None}, "runs without a lease"),
        ({"owner": None}, "runs without a lease"),
        ({"lease_until": 9e12}, "far future"),
        ({"state": JobState.QUEUED}, "queued and held"),
        ({"state": JobState.FAILED}, "has ended and is held"),
        ({"state": JobState.FAILED, "lease_until": None}, "without a time"),
        ({"ended_at": 1.0}, "has not ended"),
        ({"fence": 0}, "impossible counters"),
        ({"released": 2}, "impossible counters"),
        ({"attempts": 0}, "never started"),
    ],
)
def test_fsck_sees_each_fault(bench: Bench, damage: dict[str, Any], told: str) -> None:
    job_id = add(bench)
    take(bench)
    with bench.database.read() as session:
        assert faults(session) == []
    bench.change(job_id, **damage)
    with bench.database.write() as session:
        found = faults(session)
        assert any(told in line and f"job {job_id} " in line for line in found), found
        session.delete(session.get_one(Job, job_id))


def test_the_index_itself_refuses_two_running_jobs_of_one_serial_key(bench: Bench) -> None:
    add(bench, serial_key="k")
    add(bench, serial_key="k")
    take(bench)
    with bench.database.read() as session:
        assert session.scalar(select(func.count()).where(Job.state == JobState.RUNNING)) == 1
        waiting = session.scalars(select(Job.id).where(Job.state == JobState.QUEUED)).one()
    with pytest.raises(Exception, match=r"(?i)unique"):
        bench.change(waiting, state=JobState.RUNNING)


def delay(error: Exception, used: int, *, jitter: float = 0.0, allowed: int = 10_000) -> float | None:
    return retry.delay_seconds(error, tries_used=used, tries_allowed=allowed, jitter=jitter, first_seconds=1.0)


def test_delays_double_up_to_a_ceiling_and_spread() -> None:
    error = ValueError("x")
    assert [delay(error, used) for used in (1, 2, 3, 4)] == [1, 2, 4, 8]
    assert delay(error, 9_999) == retry.LONGEST_DELAY_SECONDS
    assert delay(error, 2, jitter=1.0) == 1
    assert delay(error, 5, allowed=5) is None
    assert delay(retry.Retry(7.5), 4, allowed=5) == 7.5
    assert delay(retry.Retry(7.5), 5, allowed=5) is None


def test_an_error_becomes_one_printable_bounded_line() -> None:
    assert retry.one_line(ValueError("a\nb\x1b[31m\tc")) == "ValueError: a b [31m c"
    assert retry.one_line(retry.Retry(1, "busy")) == "busy"
    assert len(retry.one_line(ValueError("x" * 9000))) == retry.ERROR_TEXT_LIMIT
