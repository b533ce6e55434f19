from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import pytest

from registry.upstream.flight import SingleFlight

ROOT = Path(__file__).parents[3]


class WatchedKey(str):
    """A key that tells when it is looked up the second time: then a second caller has met the first one's flight."""

    __slots__ = ("joined", "lookups")

    def __new__(cls, text: str) -> Self:
        key = super().__new__(cls, text)
        key.lookups = 0
        key.joined = threading.Event()
        return key

    def __eq__(self, other: object) -> bool:
        return str(self) == other

    def __hash__(self) -> int:
        self.lookups += 1
        if self.lookups > 2:  # the leader looks it up and stores it, the follower looks it up
            self.joined.set()
        return str.__hash__(self)


def test_fifty_threads_do_the_work_once(tmp_path: Path) -> None:
    flight = SingleFlight(tmp_path)
    barrier = threading.Barrier(50)
    done: list[str] = []

    def work() -> str:
        time.sleep(0.02)
        done.append("once")
        return "result"

    def call(_: int) -> str:
        barrier.wait()
        return flight.run("key", work, lambda: "result" if done else None)

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(call, range(50))) == ["result"] * 50
    assert done == ["once"]


def test_who_comes_during_the_work_shares_its_result(tmp_path: Path) -> None:
    flight = SingleFlight(tmp_path)
    key = WatchedKey("key")

    def work() -> object:
        assert key.joined.wait(30)
        return [1, 2]

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(flight.run, key, work), pool.submit(flight.run, key, work)
        assert first.result() is second.result()


def test_who_comes_during_the_work_shares_its_error_and_the_next_one_does_not(tmp_path: Path) -> None:
    flight = SingleFlight(tmp_path)
    key = WatchedKey("key")

    def work() -> str:
        assert key.joined.wait(30)
        raise ValueError("no luck")

    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(flight.run, key, work) for _ in range(2)]
        errors = [call.exception() for call in calls]
    assert errors[0] is errors[1]
    assert isinstance(errors[0], ValueError)
    assert flight.run(key, lambda: "luck") == "luck"


def test_an_aborted_leader_is_not_copied(tmp_path: Path) -> None:
    flight = SingleFlight(tmp_path)
    key = WatchedKey("key")
    outcomes: list[str] = []

    def aborted() -> str:
        assert key.joined.wait(30)
        raise SystemExit

    def lead() -> None:
        with pytest.raises(SystemExit):
            flight.run(key, aborted)

    leader = threading.Thread(target=lead)
    leader.start()
    while key.lookups < 2:
        time.sleep(0.001)
    outcomes.append(flight.run(key, lambda: "own work"))
    leader.join()
    assert outcomes == ["own work"]


def test_nobody_waits_for_ever(tmp_path: Path) -> None:
    flight = SingleFlight(tmp_path, wait_seconds=0.05)
    started, release = threading.Event(), threading.Event()

    def slow() -> str:
        started.set()
        assert release.wait(30)
        return "slow"

    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(flight.run, "key", slow)
        assert started.wait(30)
        assert flight.run("key", lambda: "own") == "own"
        other_process = SingleFlight(tmp_path, wait_seconds=0.05)
        assert other_process.run("key", lambda: "other") == "other"
        release.set()
        assert leader.result() == "slow"


def test_different_keys_do_not_wait_for_each_other(tmp_path: Path) -> None:
    flight = SingleFlight(tmp_path)
    barrier = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(flight.run, key, lambda: barrier.wait(30)) for key in ("a", "b")]
        assert sorted(call.result() for call in calls) == [0, 1]


def test_work_that_asks_for_its_own_key_does_not_block_itself(tmp_path: Path) -> None:
    flight = SingleFlight(tmp_path, wait_seconds=60)
    began = time.monotonic()
    assert flight.run("key", lambda: flight.run("key", lambda: "inner")) == "inner"
    assert time.monotonic() - began < 30


def test_no_lock_file_stays(tmp_path: Path) -> None:
    flight = SingleFlight(tmp_path)
    flight.run("../../etc/passwd", lambda: "x")
    with pytest.raises(ValueError, match="y"):
        flight.run("y", lambda: (_ for _ in ()).throw(ValueError("y")))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert list(tmp_path.parent.glob("passwd")) == []


def test_an_unusable_directory_does_not_stop_the_work(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    assert SingleFlight(blocked).run("key", lambda: "done") == "done"


PROCESS = """
import sys, time
from pathlib import Path
from registry.upstream.flight import SingleFlight

base, mode = Path(sys.argv[1]), sys.argv[2]
result = base / "result"

def work():
    with (base / "log").open("a") as log:
        log.write("work\\n")
    if mode == "hang":
        print("working", flush=True)
        time.sleep(60)
    time.sleep(0.05)
    result.write_text("done")
    return "done"

def check():
    return result.read_text() or None if mode == "check" and result.exists() else None

print("ready", flush=True)
if mode != "hang":
    sys.stdin.readline()
print(SingleFlight(base / "locks").run("key", work, check))
"""


def spawn(base: Path, mode: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROCESS), str(base), mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def run_four(base: Path, mode: str) -> int:
    processes = [spawn(base, mode) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        assert process.communicate(timeout=60)[0] == "done\n"
    return (base / "log").read_text().count("work")


def test_four_processes_do_the_work_once(tmp_path: Path) -> None:
    assert run_four(tmp_path, "check") == 1


def test_negative_control_without_looking_again_all_four_work(tmp_path: Path) -> None:
    assert run_four(tmp_path, "blind") == 4


def test_a_killed_holder_frees_the_lock(tmp_path: Path) -> None:
    with spawn(tmp_path, "hang") as holder:
        assert holder.stdout is not None
        assert [holder.stdout.readline() for _ in range(2)] == ["ready\n", "working\n"]
        flight = SingleFlight(tmp_path / "locks", wait_seconds=0.1)
        assert flight._acquire(next((tmp_path / "locks").glob("*/*")), 0.1) is None  # it is held indeed
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert any(path.is_file() for path in (tmp_path / "locks").rglob("*"))
    began = time.monotonic()
    assert SingleFlight(tmp_path / "locks", wait_seconds=60).run("key", lambda: "mine") == "mine"
    assert time.monotonic() - began < 30


def test_a_caller_may_be_more_patient_than_most(tmp_path: Path) -> None:
    """A large file takes longer than a page; its second fetch would be a second download."""
    go, done = threading.Event(), []
    flight = SingleFlight(tmp_path / "locks", wait_seconds=0.01)
    twin = SingleFlight(tmp_path / "locks", wait_seconds=0.01)

    def work() -> int:
        done.append(1)
        go.wait(60)
        return 1

    leader = threading.Thread(target=lambda: flight.run("key", work), daemon=True)
    leader.start()
    while not done:
        time.sleep(0.005)
    timer = threading.Timer(0.2, go.set)
    timer.start()
    assert twin.run("key", work, lambda: 2, wait_seconds=60) == 2
    leader.join()
    assert len(done) == 1
