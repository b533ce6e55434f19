"""One contract for all executors: what ``hooks.builds.executor`` promises, over each of them."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hooks.builds.compute import ImageNames
from hooks.builds.executor import (
    Ended,
    Executor,
    Item,
    Refused,
    Sandbox,
    SandboxRequest,
    Selection,
    SourceBundle,
    SourceFile,
    StopReason,
)
from hooks.builds.executors.container import ContainerExecutor, ContainerSettings
from hooks.builds.executors.dummy import DummyExecutor, Step
from hooks.builds.executors.process import ProcessExecutor, ProcessSettings
from hooks.builds.launch import Limits
from tests.build_bench import MISSING_SANDBOX, bundle, never, tar_of, work_directory
from tests.harness.podman import IMAGE, Podman

SECONDS = 3600


@dataclass
class Subject:
    """An executor, and the scripts that make it do what the contract speaks of."""

    executor: Executor
    hello: str
    fails: str
    sets: str
    hangs: str
    vanishes: str
    hashes: str
    source: SourceBundle


def dummy() -> Iterator[Subject]:
    steps = {
        "hello": Step(b"hello\n"),
        "fails": Step(b"", 3),
        "sets": Step(sets={"LEFT": "behind"}),
        "hangs": Step(hangs=True),
        "vanishes": Step(vanishes=True),
        "hashes": Step(hashlib.sha256(hashlib.sha256(b"0123456789").digest()).hexdigest().encode() + b"\n"),
    }
    files = {"notes.txt": b"0123456789"}
    names = {name: name for name in steps}
    yield Subject(DummyExecutor(steps, files), source=SourceBundle(()), **names)


def process() -> Iterator[Subject]:
    if MISSING_SANDBOX:
        pytest.skip(MISSING_SANDBOX)
    with work_directory() as place:
        yield Subject(
            ProcessExecutor(ProcessSettings(place)),
            hello="echo hello",
            fails="exit 3",
            sets="export LEFT=behind",
            hangs=f"sleep {SECONDS}",
            vanishes="kill -9 -1",
            hashes="cd / && codebuild-hash-files '**/notes.*'",
            source=bundle({"a.tar.gz": tar_of({"notes.txt": b"0123456789"})}, "a.tar.gz"),
        )
        assert not list(place.glob("build-*")), "a sandbox left its workspace"


def container(podman: Podman) -> Iterator[Subject]:
    with work_directory() as place:
        settings = ContainerSettings(podman.socket, place, images=ImageNames(usual=IMAGE))
        yield Subject(
            ContainerExecutor(settings),
            hello="echo hello",
            fails="exit 3",
            sets="export LEFT=behind",
            hangs=f"sleep {SECONDS}",
            vanishes="kill -9 -1",
            hashes="cd / && codebuild-hash-files '**/notes.*'",
            source=bundle({"a.tar.gz": tar_of({"notes.txt": b"0123456789"})}, "a.tar.gz"),
        )
        assert not list(place.glob("build-*")), "a sandbox left its workspace"
        assert not podman.engine.containers(f"entrepot.builds={place}"), "a sandbox left its container"


@pytest.fixture(params=[dummy, process, container], ids=lambda make: make.__name__)
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    if request.param is container:
        yield from container(request.getfixturevalue("podman"))
    else:
        yield from request.param()


@pytest.fixture
def sandbox(subject: Subject) -> Iterator[Sandbox]:
    sandbox = subject.executor.prepare(SandboxRequest("b1"))
    try:
        assert sandbox.fetch(subject.source, lambda _: None, never).succeeded
        sandbox.define({**sandbox.variables, "GIVEN": "yes"})
        yield sandbox
    finally:
        sandbox.destroy()


def ignore(_data: bytes) -> None:
    return


def test_it_is_available_and_says_why(subject: Subject):
    availability = subject.executor.available()
    assert availability.ok, availability.reason
    assert availability.reason


def test_output_and_status_are_values(subject: Subject, sandbox: Sandbox):
    output: list[bytes] = []
    outcome = sandbox.run(Item(subject.hello), output.append, never)
    assert (outcome.ended, outcome.exit_code, outcome.succeeded) == (Ended.EXITED, 0, True)
    assert b"".join(output) == b"hello\n"
    assert outcome.seconds >= 0
    failed = sandbox.run(Item(subject.fails), ignore, never)
    assert (failed.ended, failed.exit_code, failed.succeeded) == (Ended.EXITED, 3, False)


def test_variables_are_given_and_left(subject: Subject, sandbox: Sandbox):
    assert {"HOME", "PATH", "CODEBUILD_SRC_DIR"} <= set(sandbox.variables)
    assert sandbox.environment()["GIVEN"] == "yes"
    assert sandbox.run(Item(subject.sets), ignore, never).succeeded
    assert sandbox.environment()["LEFT"] == "behind"


@pytest.mark.parametrize("reason", [StopReason.STOPPED, StopReason.TIMED_OUT, StopReason.LOST])
def test_an_interruption_ends_what_hangs(subject: Subject, sandbox: Sandbox, reason: StopReason):
    started = time.monotonic()
    outcome = sandbox.run(Item(subject.hangs), ignore, lambda: reason if time.monotonic() > started + 0.2 else None)
    assert (outcome.ended, outcome.reason, outcome.exit_code) == (Ended.INTERRUPTED, reason, None)
    assert time.monotonic() - started < SECONDS / 10


def test_a_sandbox_that_ends_under_its_command_is_a_value(subject: Subject, sandbox: Sandbox):
    outcome = sandbox.run(Item(subject.vanishes), ignore, never)
    assert (outcome.ended, outcome.exit_code) == (Ended.VANISHED, None)
    assert outcome.detail


def test_a_user_is_taken_or_it_is_said_that_there_are_none(subject: Subject, sandbox: Sandbox):
    """Either way the item runs: a sandbox of one user is no reason for a build to fail."""
    assert sandbox.run(Item(subject.hello, user="somebody-else"), lambda _: None, never).succeeded or sandbox.has_users
    if not sandbox.has_users:
        assert sandbox.variables["USER"]


def test_files_are_read_up_to_a_limit(sandbox: Sandbox):
    assert sandbox.read_file("notes.txt", 100) == b"0123456789"
    assert sandbox.read_file("notes.txt", 4) == b"01234"
    assert sandbox.read_file("nothing", 100) is None


def test_a_selection_becomes_a_zip(sandbox: Sandbox):
    body = io.BytesIO()
    outcome, files = sandbox.collect(Selection(("notes.txt",)), body.write, never)
    assert (outcome.succeeded, files) == (True, 1)
    with zipfile.ZipFile(body) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {"notes.txt": b"0123456789"}
    outcome, files = sandbox.collect(Selection(("none",)), body.write, never)
    assert (outcome.succeeded, files, outcome.detail) == (False, 0, "no matching artifact paths found")


def test_items_find_the_command_that_hashes_files(subject: Subject, sandbox: Sandbox):
    output: list[bytes] = []
    assert sandbox.run(Item(subject.hashes), output.append, never).succeeded
    digest = hashlib.sha256(hashlib.sha256(b"0123456789").digest()).hexdigest()
    assert b"".join(output) == digest.encode() + b"\n"


def test_a_cache_comes_back_in_another_sandbox(subject: Subject, sandbox: Sandbox):
    pieces: list[bytes] = []
    outcome, files = sandbox.save(("notes.txt",), pieces.append, never)
    assert (outcome.succeeded, files) == (True, 1)
    outcome, files = sandbox.save(("none",), ignore, never)
    assert (outcome.succeeded, files) == (True, 0)
    other = subject.executor.prepare(SandboxRequest("b2"))
    try:
        assert other.fetch(SourceBundle(()), ignore, never).succeeded
        output: list[bytes] = []
        assert other.restore(iter([b"", *pieces]), output.append, never).succeeded
        assert b"restored" in b"".join(output)
        assert other.read_file("notes.txt", 100) == b"0123456789"
        other.define(other.variables)
        assert other.run(Item(subject.hello), ignore, never).succeeded
    finally:
        other.destroy()


@pytest.mark.parametrize("reason", [StopReason.STOPPED, StopReason.LOST])
def test_a_restore_is_interrupted(subject: Subject, sandbox: Sandbox, reason: StopReason):
    outcome = sandbox.restore(iter([bytes(100)]), ignore, lambda: reason)
    assert (outcome.ended, outcome.reason) == (Ended.INTERRUPTED, reason)


def breaks_off() -> Iterator[bytes]:
    yield bytes(100)
    raise OSError("the store is away")


def test_an_archive_that_breaks_off_is_raised_and_the_sandbox_goes(subject: Subject, sandbox: Sandbox):
    with pytest.raises(OSError, match="the store is away"):
        sandbox.restore(breaks_off(), ignore, never)
    sandbox.destroy()


def test_two_builds_at_a_time_and_one_after_the_other(subject: Subject):
    one, two = (subject.executor.prepare(SandboxRequest(name)) for name in ("x", "y"))
    one.destroy()
    again = subject.executor.prepare(SandboxRequest("x"))
    for sandbox in (two, again):
        assert sandbox.fetch(SourceBundle(()), ignore, never).succeeded
        assert sandbox.run(Item(subject.hello), ignore, never).succeeded
        sandbox.destroy()


def test_destroy_works_at_any_time_and_again(subject: Subject):
    fresh = subject.executor.prepare(SandboxRequest("x"))
    fresh.destroy()
    fresh.destroy()
    used = subject.executor.prepare(SandboxRequest("x"))
    used.fetch(SourceBundle(()), ignore, never)
    used.run(Item(subject.vanishes), ignore, never)
    used.destroy()
    used.destroy()


def refuses():
    raise Refused("gone")


def test_a_source_that_is_refused_is_told_and_leaves_nothing(subject: Subject):
    sandbox = subject.executor.prepare(SandboxRequest("x"))
    with pytest.raises(Refused, match="gone"):
        sandbox.fetch(SourceBundle((SourceFile("a", refuses),)), ignore, never)
    sandbox.destroy()


# --- what only a sandbox on a disk can refuse


@pytest.fixture
def process_place() -> Iterator[Path]:
    if MISSING_SANDBOX:
        pytest.skip(MISSING_SANDBOX)
    with work_directory() as place:
        yield place


def test_the_workers_umask_does_not_matter(process_place: Path):
    before = os.umask(0o077)
    try:
        sandbox = ProcessExecutor(ProcessSettings(process_place)).prepare(SandboxRequest("x"))
        try:
            assert sandbox.fetch(bundle({"a": b"1"}), ignore, never).succeeded
            assert sandbox.run(Item('cat "$ENTREPOT_ASSETS_DIR/a" /etc/passwd'), ignore, never).succeeded
        finally:
            sandbox.destroy()
    finally:
        os.umask(before)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "a\0b", "x" * 300])
def test_names_that_are_no_file_names(process_place: Path, name: str):
    sandbox = ProcessExecutor(ProcessSettings(process_place)).prepare(SandboxRequest("x"))
    try:
        with pytest.raises(Refused, match="is not a file name"):
            sandbox.fetch(bundle({name: b""}), ignore, never)
    finally:
        sandbox.destroy()


def test_sources_and_artifacts_over_their_limit(process_place: Path):
    limits = dataclasses.replace(Limits(), source_bytes=1000, artifact_bytes=1000)
    executor = ProcessExecutor(ProcessSettings(process_place, limits=limits))
    sandbox = executor.prepare(SandboxRequest("x"))
    try:
        with pytest.raises(Refused, match="larger than 1000 bytes"):
            sandbox.fetch(bundle({"a": bytes(600), "b": bytes(600)}), ignore, never)
        assert sandbox.run(Item("head -c 5000 /dev/urandom >noise"), ignore, never).succeeded
        with pytest.raises(Refused, match="larger than 1000 bytes"):
            sandbox.collect(Selection(("noise",)), ignore, never)
    finally:
        sandbox.destroy()


def test_an_unreachable_work_directory_is_said_and_not_tried(tmp_path: Path):
    if MISSING_SANDBOX or os.geteuid() != 0:
        pytest.skip(MISSING_SANDBOX or "only a worker of root's changes to other users")
    (tmp_path / "closed").mkdir(mode=0o700)
    availability = ProcessExecutor(ProcessSettings(tmp_path / "closed" / "work")).available()
    assert not availability.ok
    assert "closed to others" in availability.reason
