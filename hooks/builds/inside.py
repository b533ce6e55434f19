"""Runs inside a build's sandbox and does what the worker asks: run an item, unpack, read, collect.

Standard library only, run by the system's interpreter. Requests come on standard input as length + JSON; answers go to
standard output as frames: one byte kind, four bytes length, payload. ``O`` output, ``D`` data, ``E`` the end of the
request (JSON). Commands share the sandbox and the user with this process, so the worker believes nothing it says
beyond "this is what the build printed"; no secret stays in its memory, and it cannot be dumped or traced.

Each item is a new shell process (CodeBuild's observable behaviour): it starts in the directory and with the variables
that the one before left; functions, aliases and shell options are gone. An interactive shell fed with commands would
break on ``exit``, ``exec`` and ``set -e``.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

PR_SET_DUMPABLE = 4
ROOT = Path("/codebuild")
SOURCE = ROOT / "src"
HOME = ROOT / "home"
STATE = ROOT / "output" / "tmp"
ASSETS = Path("/entrepot/assets")
FORWARDER = "/entrepot/lib/forwarder.py"
ARCHIVES = "/entrepot/lib/archives.py"
BIN = ROOT / "user" / "bin"
SHARDING = "/entrepot/lib/sharding.py"
COMMANDS = {
    "codebuild-hash-files": f'#!/bin/sh\nexec {sys.executable} -I -S {ARCHIVES} hash "$@"\n',
    "codebuild-tests-run": f'#!/bin/sh\nexec {sys.executable} -I -S {SHARDING} run "$@"\n',
    # Who asks for a breakpoint makes the directory, and who ends it removes it.
    "codebuild-breakpoint": (
        f"#!/bin/sh\n[ -e {STATE}/halts ] || {{ echo 'codebuild-breakpoint: this build has no debug session'; exit 0; }}\n"
        f"mkdir {STATE}/breakpoint 2>/dev/null\nwhile [ -d {STATE}/breakpoint ]; do sleep 1; done\n"
    ),
    "codebuild-resume": f"#!/bin/sh\nexec rmdir {STATE}/breakpoint\n",
    "codebuild-glob-search": f'#!/bin/sh\nexec {sys.executable} -I -S {SHARDING} glob "$@"\n',
}
"""What items find on their PATH beside the system's."""
NETWORK = "/entrepot/net"
CHUNK_BYTES = 65536
GRACE_SECONDS = 1.0
HELD_OUTPUT_NOTICE_SECONDS = 10.0

# The state is saved by the shell itself: at the end, and in a trap for `exit` and `set -e`. `>|` because an item may
# set noclobber; the files exist beforehand because it may set any umask. The first line makes the kernel choose a
# command rather than this process when memory runs out.
WRAPPER = f"""{{ echo 500 >/proc/self/oom_score_adj; }} 2>/dev/null
entrepot_keep_state() {{ /usr/bin/env -0 >|{STATE}/env.new; pwd >|{STATE}/cwd.new; }}
trap entrepot_keep_state EXIT
set -a
. {STATE}/script.sh
entrepot_exit=$?
entrepot_keep_state
exit "$entrepot_exit"
"""

# Variables that describe one shell process; SHELLOPTS would carry `set -e` on, BASH_FUNC_* functions.
_NOT_CARRIED = {"_", "SHLVL", "SHELLOPTS", "BASHOPTS", "OPTIND", "PPID", "entrepot_exit"}


class Link:
    """The worker's two pipes."""

    def __init__(self) -> None:
        self.requests = os.dup(0)
        self._frames = os.dup(1)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)

    def receive(self) -> dict[str, Any]:
        """The next request. Ends the process when the worker has closed the pipe."""
        (size,) = struct.unpack(">I", self._exactly(4))
        request: dict[str, Any] = json.loads(self._exactly(size))
        return request

    def receive_piece(self) -> bytes:
        """The next piece of a body that the worker sends; empty at its end."""
        (size,) = struct.unpack(">I", self._exactly(4))
        return self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = os.read(self.requests, size - len(data))
            if not more:
                _leave()
            data += more
        return data

    def send(self, kind: bytes, payload: bytes) -> None:
        """Send one frame."""
        data = memoryview(kind + struct.pack(">I", len(payload)) + payload)
        try:
            while data:
                data = data[os.write(self._frames, data) :]
        except BrokenPipeError:
            _leave()

    def end(self, **answer: Any) -> None:
        """Send the frame that ends a request."""
        self.send(b"E", json.dumps(answer).encode())


class Runner:
    """The requests, one method each, and the state that items hand on."""

    def __init__(self, link: Link, start: Mapping[str, Any]) -> None:
        self._link = link
        self._initial: dict[str, str] = dict(start["environment"])
        self._carried = self._initial
        self._directory = str(SOURCE)
        self._credentials = list(start["home_files"])
        for path in (SOURCE, HOME, STATE, BIN):
            path.mkdir(parents=True, exist_ok=True)
        for name, text in COMMANDS.items():
            (BIN / name).write_text(text, encoding="utf-8")
            (BIN / name).chmod(0o755)
        _name_python(self._initial.get("PATH", os.defpath))
        (STATE / "wrapper.sh").write_text(WRAPPER, encoding="utf-8")
        for name, text in start["home_files"].items():
            path = HOME / name
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
        # Set in here, the limit counts this sandbox's processes only, also where the worker's user has others.
        if start["processes"]:
            resource.setrlimit(resource.RLIMIT_NPROC, (start["processes"], start["processes"]))
        for name, port in start["ports"].items():
            _start_forwarder(port, f"{NETWORK}/{name}")

    def define(self, request: Mapping[str, Any]) -> None:
        """Take over the variables of the first item, which starts in the source directory."""
        self._carried = self._initial = dict(request["environment"])
        self._directory = str(SOURCE)
        self._link.end()

    def run(self, request: Mapping[str, Any]) -> None:
        """Run one item and answer with its status."""
        carries = request["carries_state"]
        environment = {**(self._carried if carries else self._initial), **request["environment"]}
        directory = self._directory if carries else str(SOURCE)
        if not Path(directory).is_dir():
            self._say(f"{directory} is gone; the command starts in {SOURCE}")
            directory = str(SOURCE)
        (STATE / "script.sh").write_text(request["script"] + "\n", encoding="utf-8", errors="surrogateescape")
        for name in ("env.new", "cwd.new"):
            (STATE / name).unlink(missing_ok=True)
            (STATE / name).touch(0o600)
        if request["halts"]:
            (STATE / "halts").touch()
        code = self._execute([request["shell"], str(STATE / "wrapper.sh")], environment, directory)
        if request["halts"]:
            _end_halts()
            self._link.send(b"D", b"moved")
        if carries:
            self._take_state()
        self._link.end(code=code)

    def unpack(self, request: Mapping[str, Any]) -> None:
        """Unpack an asset into a source directory, in a process of its own: archives are the user's."""
        command = [sys.executable, "-I", "-S", ARCHIVES, "unpack", str(ASSETS / request["file"])]
        if request["as_is"]:
            command.append("as-is")
        into = SOURCE.with_name(f"{SOURCE.name}-{request['into']}") if request["into"] else SOURCE
        into.mkdir(exist_ok=True)
        self._link.end(code=self._execute(command, {"PATH": "/usr/bin:/bin"}, str(into)))

    def read(self, request: Mapping[str, Any]) -> None:
        """Send a regular file's first bytes."""
        path = SOURCE / request["path"]
        found = path.is_file()
        if found:
            with path.open("rb") as file:
                self._link.send(b"D", file.read(request["limit"]))
        self._link.end(found=found)

    def environment(self, _request: Mapping[str, Any]) -> None:
        """Send the variables as the last item left them."""
        self._link.end(environment=self._carried)

    def collect(self, request: Mapping[str, Any]) -> None:
        """Send a zip of the selected files, made by a process of its own."""
        self._send_archive("pack", request)

    def save(self, request: Mapping[str, Any]) -> None:
        """Send an archive of the paths to be cached, made by a process of its own."""
        self._send_archive("save", {**request, "home": str(HOME), "source": str(SOURCE), "never": self._credentials})

    def restore(self, _request: Mapping[str, Any]) -> None:
        """Take an archive in pieces (four bytes length and the piece; an empty one is the end) and put it back."""
        command = [sys.executable, "-I", "-S", ARCHIVES, "restore", str(HOME), str(SOURCE)]
        with (STATE / "answer").open("w+b") as answer:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=answer, stderr=answer, env={}, cwd=SOURCE, start_new_session=True
            )
            assert process.stdin is not None
            is_taken = True
            while piece := self._link.receive_piece():
                try:
                    if is_taken:
                        process.stdin.write(piece)
                except BrokenPipeError:
                    is_taken = False  # it has failed and says why; the rest must be read all the same
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            code = process.wait()
            answer.seek(0)
            self._link.send(b"O", answer.read(CHUNK_BYTES))
        self._link.end(code=code)

    def _send_archive(self, verb: str, request: Mapping[str, Any]) -> None:
        order = json.dumps({**request, "variables": self._carried})
        with (STATE / "answer").open("w+b") as answer:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", ARCHIVES, verb],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=answer,
                env={},
                cwd=SOURCE,
                start_new_session=True,
            )
            assert process.stdin is not None and process.stdout is not None  # noqa: PT018
            process.stdin.write(order.encode())
            process.stdin.close()
            while data := process.stdout.read(CHUNK_BYTES):
                self._link.send(b"D", data)
            code = process.wait()
            answer.seek(0)
            told = json.loads(answer.read() or b"{}")
        self._link.end(code=code, files=told.get("files", 0), detail=told.get("detail", "the packing process ended"))

    def _say(self, text: str) -> None:
        self._link.send(
            b"O", f"[Container] {time.strftime('%Y/%m/%d %H:%M:%S', time.gmtime())} {text}\n".encode(errors="replace")
        )

    def _execute(self, command: list[str], environment: Mapping[str, str], directory: str) -> int:
        """Run a command with its output framed; the item lasts until the process *and* its output have ended."""
        output, writing = os.pipe()
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                env=dict(environment),
                cwd=directory,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            os.close(output)
            self._say(f"could not start {command[0]}: {error}")
            return 127 if isinstance(error, FileNotFoundError) else 126
        finally:
            os.close(writing)
        try:
            self._pump(process, output)
        finally:
            os.close(output)
        code = process.wait()
        return 128 - code if code < 0 else code

    def _pump(self, process: subprocess.Popen[bytes], output: int) -> None:
        exited_at: float | None = None
        notice_due, stands = True, False
        while True:
            ready, _, _ = select.select([output, self._link.requests], [], [], 1.0)
            if output in ready:
                data = os.read(output, CHUNK_BYTES)
                if not data:
                    return
                self._link.send(b"O", data)
            if self._link.requests in ready:
                if self._link.receive()["op"] == "resume":
                    _remove_breakpoint()
                    stands = False
                else:
                    _end_everything()
            if _stands() is not stands:
                stands = not stands
                self._link.send(b"D", b"stands" if stands else b"moved")
            if exited_at is None and process.poll() is not None:
                exited_at = time.monotonic()
            if exited_at and notice_due and time.monotonic() > exited_at + HELD_OUTPUT_NOTICE_SECONDS:
                notice_due = False
                self._say("The command has ended, but a process it started holds its output; redirect that to go on")

    def _take_state(self) -> None:
        raw = (STATE / "env.new").read_bytes()
        directory = (STATE / "cwd.new").read_text(encoding="utf-8", errors="surrogateescape").removesuffix("\n")
        if not raw or not directory:
            return  # `exec` or KILL left nothing behind: what was before stays
        entries = (
            entry.decode("utf-8", errors="surrogateescape").partition("=") for entry in raw.split(b"\0") if entry
        )
        self._carried = {
            name: value for name, _, value in entries if name not in _NOT_CARRIED and not name.startswith("BASH_FUNC_")
        }
        self._directory = directory


def _stands() -> bool:
    return (STATE / "halts").exists() and (STATE / "breakpoint").is_dir()


def _remove_breakpoint() -> None:
    with contextlib.suppress(OSError):
        (STATE / "breakpoint").rmdir()


def _end_halts() -> None:
    """With its item a breakpoint ends that stands in the background: it holds nothing any more."""
    (STATE / "halts").unlink(missing_ok=True)
    _remove_breakpoint()


def _name_python(path: str) -> None:
    """Let ``python`` be found where a system has ``python3`` alone, as Debian's: half of all documents call it so."""
    python = shutil.which("python3", path=path)
    if python is not None and shutil.which("python", path=path) is None:
        with contextlib.suppress(FileExistsError):
            (BIN / "python").symlink_to(python)


def _start_forwarder(port: int, path: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", FORWARDER, str(port), path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    if process.stdout is None or not process.stdout.readline():
        raise RuntimeError("the forwarder to the registry did not start")


def _leave() -> NoReturn:
    # The worker is gone. When this process ends, init ends, and with it whatever ignored TERM.
    _end_everything()
    sys.exit(0)


def _end_everything() -> None:
    """TERM, one second, KILL for every process of the sandbox but this one (and init, which is immune)."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(-1, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline and _others_run():
            time.sleep(0.02)


def _others_run() -> bool:
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and int(process.name) not in {1, os.getpid()}:
            try:
                text = (process / "stat").read_text(errors="replace")
            except OSError:
                continue  # ended between the listing and the reading
            if text[text.rindex(")") + 2] != "Z":
                return True
    return False


def main() -> None:
    """Serve requests until the worker closes the pipe or says ``quit``."""
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # /proc/PID/{mem,environ,fd} of this process are closed
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)  # a handler, unlike "ignore", ends at exec
    link = Link()
    runner = Runner(link, link.receive())
    link.end(ready=True)
    handlers = {
        "define": runner.define,
        "run": runner.run,
        "unpack": runner.unpack,
        "read": runner.read,
        "environment": runner.environment,
        "collect": runner.collect,
        "save": runner.save,
        "restore": runner.restore,
    }
    while (request := link.receive())["op"] != "quit":
        if request["op"] in handlers:  # "end" may arrive when the item has just ended by itself
            handlers[request["op"]](request)


if __name__ == "__main__":
    main()
