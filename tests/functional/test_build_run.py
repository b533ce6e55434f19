"""Builds in the real sandbox: how commands run, what they cannot do, and that nothing of them stays."""

from __future__ import annotations

import contextlib
import http.server
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hooks.builds import shim
from hooks.builds.executor import REGISTRY_BASE_URL, Login, Network, StopReason
from hooks.builds.executors.process import ProcessExecutor, ProcessSettings
from hooks.builds.launch import Limits
from hooks.builds.phases import BuildStatus
from hooks.builds.plan import BuildOutcome
from tests.build_bench import (
    MISSING_SANDBOX,
    Log,
    build,
    bundle,
    eventually,
    host_processes,
    phase_states,
    tar_of,
    work_directory,
)

pytestmark = pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX)

ROOT = Path(__file__).resolve().parents[2]
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with work_directory() as place:
        yield place


@pytest.fixture(scope="module")
def executor(place: Path) -> ProcessExecutor:
    executor = ProcessExecutor(ProcessSettings(place))
    availability = executor.available()
    assert availability.ok, availability.reason
    return executor


@pytest.fixture(autouse=True)
def nothing_stays(place: Path) -> Iterator[None]:
    yield
    assert not list(place.glob("build-*"))
    assert not host_processes(str(place))


def spec(*commands: str, shell: str = "/bin/sh", version: str = "0.2", **phases: list[str]) -> str:
    body = {name: {"commands": lines} for name, lines in {"build": list(commands), **phases}.items()}
    env = {"env": {"shell": shell}} if version == "0.2" else {}
    return json.dumps({"version": version, **env, "phases": body})


def run(executor: ProcessExecutor, *commands: str, shell: str = "/bin/sh", **plan) -> tuple[BuildOutcome, Log]:
    outcome, log = build(executor, spec(*commands, shell=shell), **plan)
    log.commands = commands
    return outcome, log


# --- how commands run


def test_state_lives_on_across_phases(executor):
    text = spec("echo $A; pwd", install=["A=1; mkdir x; cd x"], post_build=["echo $A again"])
    assert build(executor, text)[1].output == ["1", "/codebuild/src/x", "1 again"]


def test_arrays_options_and_exported_functions_are_lost_in_bash(executor):
    _, log = run(
        executor,
        "a=(1 2); shopt -s nullglob; set -o pipefail; f() { echo f; }; export -f f; s=kept",
        'echo "[${a[1]}]"; shopt nullglob; command -v f; [[ $- == *e* ]] || echo no e; echo $s',
        "false | true",
        shell="bash",
    )
    assert log.output == ["[]", "nullglob       \toff", "no e", "kept"]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("false", 1),
        ("exit 42", 42),
        ("kill -9 $$", 137),
        ("nothing-of-that-name", 127),
        ("true | (exit 5)", 5),
        ("set -e; false; true", 1),
    ],
)
def test_a_status_that_is_not_zero_ends_the_phase(executor, command: str, code: int):
    outcome, log = run(executor, command, "echo never")
    assert outcome.status is BuildStatus.FAILED
    assert f"Command did not exit successfully {command} exit status {code}" in log.text
    assert "never" not in log.output


def test_bash_words_need_bash(executor):
    assert run(executor, "[[ a == a ]]", shell="bash")[0].status is BuildStatus.SUCCEEDED
    assert run(executor, "[[ a == a ]]")[0].status is BuildStatus.FAILED


def test_a_background_process_with_its_streams_redirected_lives_on(executor):
    _, log = run(
        executor,
        "nohup sh -c 'while ! test -e go; do sleep 0.02; done; echo done >answer' >/dev/null 2>&1 </dev/null &",
        "test ! -e answer && touch go",
        "while ! test -e answer; do sleep 0.02; done; cat answer",
    )
    assert log.output == ["done"]


def test_a_background_process_that_holds_the_output_holds_the_command(executor):
    _, log = run(executor, "(sleep 0.5; echo late) &", "echo next")
    assert log.output == ["late", "next"]


def test_version_0_1_starts_every_command_afresh(executor):
    text = spec("A=1; cd /tmp", "echo [$A]; pwd", version="0.1")
    assert build(executor, text)[1].output == ["[]", "/codebuild/src"]


def test_variables_and_the_source(executor):
    source = bundle(
        {"thing.tar.gz": tar_of({"data.txt": b"content\n", "run.sh": b"#!/bin/sh\necho ran\n"}), "b.whl": b"x"},
        "thing.tar.gz",
    )
    _, log = run(
        executor,
        "cat data.txt && ./run.sh && pwd && ls $ENTREPOT_ASSETS_DIR",
        "touch $ENTREPOT_ASSETS_DIR/x 2>/dev/null || echo read-only",
        "echo $CODEBUILD_SRC_DIR $CODEBUILD_BUILD_SUCCEEDING $ONE",
        source=source,
        overrides={"ONE": "1"},
    )
    assert log.output == [
        "content",
        "ran",
        "/codebuild/src",
        "b.whl",
        "thing.tar.gz",
        "read-only",
        "/codebuild/src 1 1",
    ]


def test_the_document_is_read_from_the_source_and_artifacts_come_back(executor):
    text = (
        "version: 0.2\nenv:\n  exported-variables: [V]\nphases:\n  build:\n    commands:\n"
        "      - V=1.0; mkdir -p dist/sub; echo wheel >dist/a.whl; echo sub >dist/sub/b.txt; cd /tmp\n"
        "artifacts:\n  files: ['**/*']\n  base-directory: dist\n  name: wheels\n"
    )
    source = bundle({"a.tar.gz": tar_of({"buildspec.yml": text.encode()})}, "a.tar.gz")
    outcome, log = build(executor, None, source=source)
    assert outcome.status is BuildStatus.SUCCEEDED, log.text
    assert outcome.exported == {"V": "1.0"}
    with zipfile.ZipFile(io.BytesIO(log.artifacts["wheels"])) as archive:
        assert sorted(archive.namelist()) == ["a.whl", "sub/b.txt"]


def test_links_in_the_source_lead_nowhere(executor):
    source = bundle({"a.tar.gz": tar_of({"x": b"y"})}, "a.tar.gz")
    text = json.dumps(
        {
            "version": "0.2",
            "phases": {"build": {"commands": ["ln -s /etc/passwd link; ln -s / all; mkfifo pipe"]}},
            "artifacts": {"files": ["**/*"]},
        }
    )
    outcome, log = build(executor, text, source=source)
    assert outcome.status is BuildStatus.SUCCEEDED
    with zipfile.ZipFile(io.BytesIO(log.artifacts["build"])) as archive:
        assert archive.namelist() == ["x"]


def test_a_broken_source_archive_fails_download_source(executor):
    outcome, log = build(executor, spec("true"), source=bundle({"a.tar.gz": b"nonsense"}, "a.tar.gz"))
    assert phase_states(outcome)["DOWNLOAD_SOURCE"] == "FAILED"
    assert "could not unpack a.tar.gz" in log.text


# --- ending


@pytest.mark.parametrize(
    "command",
    [
        "echo begun; sleep 3600",
        "trap '' TERM; echo begun; while :; do sleep 3600; done",
        "(trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 3600 & wait; sleep 3600' & ); echo begun; sleep 3600",
        "echo begun; yes",
        "echo begun; (kill -STOP $$) ; sleep 3600",
    ],
)
def test_a_stopped_build_ends_whatever_its_commands_do(executor, command: str):
    seen = [0.0]

    def interrupt() -> StopReason | None:
        seen[0] += 1
        return StopReason.STOPPED if seen[0] > 12 else None

    outcome, log = build(executor, spec(command), interrupt=interrupt)
    assert outcome.status is BuildStatus.STOPPED
    assert "begun" in log.text


def test_a_command_is_told_before_it_is_killed(executor):
    deadline = time.monotonic() + 1.0
    outcome, log = build(
        executor,
        spec("trap 'echo told; exit 0' TERM; while :; do sleep 0.05; done"),
        interrupt=lambda: StopReason.TIMED_OUT if time.monotonic() > deadline else None,
    )
    assert outcome.status is BuildStatus.TIMED_OUT
    assert "told" in log.output


ORPHANS = """
import sys, time
from pathlib import Path
from hooks.builds.executor import *
from hooks.builds.executors.process import ProcessExecutor, ProcessSettings
sandbox = ProcessExecutor(ProcessSettings(Path(sys.argv[1]))).prepare(SandboxRequest("b"))
print("ready", sandbox._shim.pid, flush=True)
sandbox.run(Item(sys.argv[2]), lambda data: None, lambda: None)
"""


@contextlib.contextmanager
def worker_process(place: Path, command: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    process = subprocess.Popen(
        [sys.executable, "-c", ORPHANS, str(place), command], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process, int(process.stdout.readline().split()[1])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("victim", ["worker", "shim"])
def test_the_death_of_worker_or_shim_leaves_nothing(executor, place: Path, victim: str):
    marker = f"7{uuid.uuid4().int % 10**12}"
    command = (
        f"trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep {marker}; sleep {marker}' & "
        f"(sleep {marker} >/dev/null 2>&1 &) ; sleep {marker}; sleep {marker}"
    )
    with worker_process(place, command) as (process, shim_pid):
        eventually(lambda: len(host_processes(marker)) >= 4, "the control: they do run")
        os.kill(process.pid if victim == "worker" else shim_pid, signal.SIGKILL)
        killed_at = time.monotonic()
        eventually(lambda: not host_processes(marker), "processes of the build outlived it")
        assert time.monotonic() - killed_at < 10  # 1.3 s on an idle machine; an hour without the life line
        process.wait()
        eventually(lambda: not host_processes(str(place)))
    assert list(place.glob("build-*")), "the control: there is something to sweep"
    eventually(lambda: executor.sweep() == 1, "its workspace cannot be removed")


def test_the_shim_alone_ends_everything_below_it():
    marker = f"7{uuid.uuid4().int % 10**12}"
    script = f"setsid sh -c 'trap \"\" TERM; sleep {marker}; sleep {marker}' & (sleep {marker} &); sleep {marker}"
    with Path(os.devnull).open("r+b") as null:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", shim.__file__], stdin=subprocess.PIPE, pass_fds=[null.fileno()]
        )
        order = {
            "argv": ["/bin/sh", "-c", script],
            "fds": [null.fileno()] * 3,
            "keep": [],
            "uid": None,
            "gid": None,
            "niceness": 10,
            "rlimits": {"CORE": 0},
            "cgroups": [],
            "ends_by_itself": False,
        }
        assert process.stdin is not None
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()
    eventually(lambda: len(host_processes(marker)) >= 4)
    process.stdin.close()
    assert process.wait(timeout=20) == 0
    assert not host_processes(marker)


# --- attacks, each with a control


def test_every_way_out_is_refused_and_the_probe_would_see_it(executor, place: Path):
    report = executor.probe()
    assert report.ok, report.summary
    assert len(report.findings) > 60
    without = ProcessExecutor(ProcessSettings(place, uses_filter=False))
    opened = {finding.name for finding in without.probe().findings if not finding.refused}
    assert {
        "socket families",
        "system call io_uring_setup",
        "system call add_key",
        "clone3",
        "filter on self",
    } <= opened
    availability = without.available()
    assert not availability.ok
    assert "lets through" in availability.reason


@pytest.mark.parametrize("family", [38, 40, 16])
def test_sockets_that_lead_into_the_kernel(executor, place: Path, family: int):
    command = f"python3 -c 'import socket; socket.socket({family}, socket.SOCK_SEQPACKET)' 2>&1 | tail -1"
    assert "Operation not permitted" in run(executor, command)[1].text
    without = ProcessExecutor(ProcessSettings(place, uses_filter=False))
    assert "[Errno 1]" not in run(without, command)[1].text


def test_memory_and_variables_of_others_stay_closed(executor):
    os.environ["ENTREPOT_TEST_CANARY"] = "canary-8271"
    try:
        _, log = run(
            executor,
            "cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n' | grep -c canary || true",
            "ls -d /proc/[0-9]* | wc -l",
            "cat /proc/kcore >/dev/null 2>&1 || echo no kcore; dmesg 2>/dev/null || echo no dmesg",
            "ls /etc/shadow /root /home /var 2>/dev/null || echo hidden",
            "id -u; cat /etc/passwd | wc -l; hostname",
        )
    finally:
        del os.environ["ENTREPOT_TEST_CANARY"]
    assert log.output[0] == "0"
    assert int(log.output[1]) < 10
    assert log.output[2:] == ["no kcore", "no dmesg", "hidden", "1000", "2", "build"]


def test_threads_and_compilers_work_under_the_filter(executor):
    _, log = run(
        executor,
        "python3 -c 'import threading; t = threading.Thread(target=print, args=(1,)); t.start(); t.join()'",
        "python3 -c 'import multiprocessing as m; print(m.Pool(2).map(abs, [-2]))'",
        "python3 -c 'import asyncio; asyncio.run(asyncio.sleep(0)); print(3)'",
    )
    assert log.output == ["1", "[2]", "3"]


# --- resources


def small(place: Path, **limits: int) -> ProcessExecutor:
    return ProcessExecutor(ProcessSettings(place, limits=Limits(**limits)))


def test_a_fork_bomb_meets_its_limit(place: Path):
    executor = small(place, processes=40)
    outcome, log = run(executor, "for i in $(seq 200); do sleep 100 >/dev/null 2>&1 & done; echo made it")
    assert outcome.status is BuildStatus.FAILED
    assert "fork" in log.text
    # the control: below the limit it works
    outcome, log = run(small(place), "for i in $(seq 60); do sleep 100 >/dev/null 2>&1 & done; echo made it")
    assert log.output == ["made it"]


def test_a_fork_bomb_ends_with_its_build(place: Path):
    """One that never stops by itself: it fills its room, which is its build's and nobody else's, and then it is gone."""
    marker = f"37{os.getpid()}"
    code = "import os\nwhile True:\n  try: os.fork()\n  except OSError: os.sched_yield()"
    bomb = f"python3 -c '{code}' {marker} >/dev/null 2>&1 </dev/null &"
    # Built-in words only: where there is no room for a process, there is none for another command.
    count = "set -- /proc/[0-9]*; i=$((i + 1))"
    wait_and_count = f'{count}; until [ $# -gt 40 ] || [ $i -gt 9999 ]; do {count}; done; echo "$# there"'
    started = time.monotonic()
    _, log = run(small(place, processes=60), f"{bomb} {wait_and_count}", "echo on; echo 1 | cat")
    assert int(log.output[0].removesuffix(" there")) > 40, "it was no bomb"
    assert time.monotonic() - started < 30
    eventually(lambda: not host_processes(marker), "the bomb outlived its build")


def test_a_daemon_ends_with_its_build(executor):
    marker = f"39{os.getpid()}"
    twice = "python3 -c 'import os, sys; os.fork() or (os.setsid(), os.fork() or os.execvp(\"sleep\", sys.argv[1:]))'"
    outcome, log = run(
        executor,
        f"{twice} sleep {marker} >/dev/null 2>&1; setsid nohup sleep {marker} >/dev/null 2>&1 &",
        f"sleep 0.2; grep -lz {marker} /proc/[0-9]*/cmdline | wc -l",
    )
    assert outcome.status is BuildStatus.SUCCEEDED
    assert int(log.output[0]) >= 2, "the daemons did not live on after their item"
    assert not host_processes(f"sleep\0{marker}")


def test_a_file_of_100_gb_is_refused_whole_or_full_of_holes(place: Path):
    _, log = run(
        small(place, workspace_bytes=8 * MIB, tmp_bytes=4 * MIB),
        "yes | head -c 100000000000 >big || echo full at $(stat -c %s big)",
        "rm big; fallocate -l 100000000000 big || echo no room",
        "truncate -s 100000000000 big || echo too large",
        "df --output=pcent . | tail -n 1",
    )
    said = [line for line in log.output if line.startswith(("full", "no room", "too large"))]
    assert [line.partition(" at ")[0] for line in said] == ["full", "no room", "too large"]
    assert int(said[0].rpartition(" ")[2]) <= 8 * MIB


def test_files_have_a_ceiling(place: Path):
    executor = small(place, workspace_bytes=8 * MIB, tmp_bytes=4 * MIB)
    for target in ("/codebuild/src/big", "/codebuild/home/big", "/tmp/big", "/dev/shm/big"):
        _, log = run(executor, f"head -c 16000000 /dev/zero >{target} || echo refused")
        assert "refused" in log.output, target
    assert run(executor, "head -c 3000000 /dev/zero >/tmp/small && echo fits")[1].output == ["fits"]


def test_memory_has_a_ceiling(place: Path):
    executor = small(place, memory_bytes=128 * MIB)
    hog = "python3 -c 'a = bytearray({} * 1024 * 1024); print(len(a))'"
    outcome, log = run(executor, hog.format(400))
    assert outcome.status is BuildStatus.FAILED
    assert "exit status 137" in log.text or "MemoryError" in log.text
    if "groups" in executor.probe().limits:
        assert outcome.phases[6].faults[0].message
    assert run(executor, hog.format(20))[1].output == [str(20 * MIB)]


def test_the_runner_survives_what_kills_a_command_by_memory(place: Path):
    executor = small(place, memory_bytes=128 * MIB)
    outcome, log = run(executor, "python3 -c 'a = bytearray(400 * 1024 * 1024)' || echo killed", "echo goes on")
    assert log.output[-2:] == ["killed", "goes on"]
    assert outcome.status is BuildStatus.SUCCEEDED


def test_output_without_end_or_newline_costs_no_memory_and_no_build(executor):
    outcome, log = run(executor, "head -c 30000000 /dev/zero | tr '\\0' x", "echo end")
    assert outcome.status is BuildStatus.SUCCEEDED
    assert log.data.count(b"x") >= 30_000_000
    assert log.text.endswith("Build complete: SUCCEEDED\n")


def test_a_build_that_kills_its_own_sandbox_has_failed(executor):
    outcome, log = run(executor, "kill -9 -1")
    assert outcome.status is BuildStatus.FAILED
    assert "the sandbox ended while the build ran" in log.text


# --- the network


class _Registry(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = f"registry says {self.path} to {self.headers.get('Authorization', 'nobody')[:5]}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args) -> None:
        return


@contextlib.contextmanager
def web_server() -> Iterator[tuple[str, int]]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Registry)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_address[:2]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


FETCH = (
    "python3 -c 'import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=10).read().decode())' {} "
    "2>/dev/null || echo unreachable"
)


def test_the_registry_is_reached_and_nothing_else_is(place: Path):
    with web_server() as registry, web_server() as other:
        executor = ProcessExecutor(ProcessSettings(place, registry_address=registry))
        commands = [
            FETCH.format(f"{REGISTRY_BASE_URL}/simple/"),
            FETCH.format(f"http://127.0.0.1:{other[1]}/"),
            FETCH.format(f"http://127.0.0.1:{registry[1]}/"),
            FETCH.format("http://192.0.2.1/"),
            FETCH.format("http://169.254.169.254/latest/meta-data"),
        ]
        _, log = run(executor, *commands, network=Network.REGISTRY)
        assert log.output == ["registry says /simple/ to nobod", *["unreachable"] * 4]
        _, log = run(executor, commands[0], network=Network.NONE)
        assert log.output == ["unreachable"]
        # the control: the other server does answer those who may ask
        with socket.create_connection(other, timeout=10) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert b"200" in connection.recv(100)


def test_without_an_address_a_build_with_network_is_not_run(executor):
    with pytest.raises(Exception, match="no registry address"):
        run(executor, "true", network=Network.REGISTRY)


def test_the_token_is_in_a_file_and_nowhere_else(place: Path):
    token = "ent_" + uuid.uuid4().hex
    seen: dict[str, list[int]] = {}

    def interrupt() -> None:
        for name in ("cmdline", "environ"):
            for path in Path("/proc").glob(f"[0-9]*/{name}"):
                with contextlib.suppress(OSError):
                    data = path.read_bytes()
                    if token.encode() in data:
                        seen.setdefault("token", []).append(int(path.parent.name))
                    if b"PLAIN=visible-5512" in data:
                        seen.setdefault("plain", []).append(int(path.parent.name))

    with web_server() as registry:
        executor = ProcessExecutor(ProcessSettings(place, registry_address=registry))
        _, log = run(
            executor,
            "stat -c %a ~/.netrc; tr '\\n' ' ' <~/.netrc; echo",
            "sleep 0.5; env | grep -c ent_ || true",
            "sed 's/.*/token: &/' ~/.netrc | base64 -w0; echo",
            "stat -c %a ~/.deep/rc; cat ~/.deep/rc",
            network=Network.REGISTRY,
            credentials=Login("build", token),
            home_files={".deep/rc": f"token={token}\n"},
            secrets=(token,),
            overrides={"PLAIN": "visible-5512"},
            interrupt=interrupt,
        )
    assert log.output[:3] == ["600", "machine 127.0.0.1 login build password *** ", "0"]
    assert log.output[-2:] == ["600", "token=***"]
    assert token not in log.text
    assert "token" not in seen
    assert seen["plain"], "the control: an ordinary variable is seen"
    assert not [path for path in place.rglob("*") if path.is_file() and token.encode() in path.read_bytes()]


def test_files_below_the_home(executor):
    files = {".m2/settings.xml": "<settings/>", ".tool/a/b": "ü\n"}
    outcome, log = run(executor, "cd; stat -c '%a %n' .m2/settings.xml .tool/a/b; cat .tool/a/b", home_files=files)
    assert log.output == ["600 .m2/settings.xml", "600 .tool/a/b", "ü"]
    assert outcome.status is BuildStatus.SUCCEEDED


def test_two_builds_do_not_see_each_other(executor):
    logs: list[tuple[BuildOutcome, Log]] = []
    text = spec("echo mine >/tmp/shared; sleep 0.7; ls /tmp; ls -d /proc/[0-9]* | wc -l; id -u")
    threads = [
        threading.Thread(target=lambda name=name: logs.append(build(executor, text, build_id=name))) for name in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(logs) == 2
    for outcome, log in logs:
        assert outcome.status is BuildStatus.SUCCEEDED
        assert log.output[0] == "shared"
        assert int(log.output[1]) < 10
