"""A process that has imported the server, forked for each server that a test starts.

Importing takes longer than all else of a start (measured: 2 s with it, 0.26 without). From the fork on
it is the command ``entrepot serve``; that the command itself starts is shown by the tests that run it as people do.
"""

import contextlib
import functools
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sqlalchemy.orm

ROOT = Path(__file__).resolve().parents[2]
POLL_SECONDS = 0.01


class Forked:
    """A server's first process, with what tests use of ``subprocess.Popen``."""

    def __init__(self, zygote: "Zygote", pid: int) -> None:
        self._zygote = zygote
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._zygote.ask(do="poll", pid=self.pid)["status"]
        return self.returncode

    def wait(self, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("serve", timeout)
            time.sleep(POLL_SECONDS)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


class Zygote:
    """The other end: one for each process that runs tests, and gone with it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "tests.harness.zygote", str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),))
        self._file = ours.makefile("rw")
        self._one_at_a_time = threading.Lock()
        ours.close()

    def ask(self, **request: Any) -> dict[str, Any]:
        with self._one_at_a_time:
            self._file.write(json.dumps(request) + "\n")
            self._file.flush()
            answer: dict[str, Any] = json.loads(self._file.readline())
        return answer

    def start(
        self,
        arguments: list[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        errors: Path | None = None,
        typed: Path = Path(os.devnull),
    ) -> Forked:
        """Run ``entrepot`` with ``arguments`` in a session of its own; all that it prints goes to the end of ``log``.

        With ``errors`` that is where its standard error goes; ``typed`` is what it reads.
        """
        answer = self.ask(
            do="start",
            arguments=arguments,
            environment=dict(environment),
            log=str(log),
            errors=str(errors or log),
            typed=str(typed),
        )
        return Forked(self, answer["pid"])

    def run(
        self, arguments: list[str], environment: Mapping[str, str], timeout_seconds: float, typed: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run ``entrepot`` with ``arguments`` to its end. Raises subprocess.TimeoutExpired, and kills it then."""
        with tempfile.TemporaryDirectory(prefix="entrepot-command-") as folder:
            output, errors, typing = (Path(folder) / name for name in ("output", "errors", "typed"))
            typing.write_text(typed)
            command = self.start(arguments, environment, output, errors=errors, typed=typing)
            try:
                status = command.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                os.killpg(command.pid, signal.SIGKILL)
                command.wait(20)
                raise
            return subprocess.CompletedProcess(arguments, status, output.read_text(), errors.read_text())


@functools.cache
def zygote() -> Zygote:
    return Zygote()


def _serve_requests(channel: socket.socket) -> None:
    with channel.makefile("rw") as file:
        for line in file:
            request = json.loads(line)
            if request["do"] == "poll":
                pid, status = os.waitpid(request["pid"], os.WNOHANG)
                answer = {"status": os.waitstatus_to_exitcode(status) if pid else None}
            else:
                pid = os.fork()
                if pid == 0:
                    channel.close()
                    os.closerange(3, 256)  # the channel's other descriptors
                    _be_a_command(request)
                answer = {"pid": pid}
            file.write(json.dumps(answer) + "\n")
            file.flush()


def _be_a_command(request: dict[str, Any]) -> None:
    from setproctitle import setproctitle

    from config.cli.main import main

    os.setsid()
    typed = os.open(request["typed"], os.O_RDONLY)
    os.dup2(typed, 0)
    os.close(typed)
    for descriptor, name in ((1, "log"), (2, "errors")):
        log = os.open(request[name], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(log, descriptor)
        os.close(log)
    os.environ.clear()
    os.environ.update(request["environment"])
    setproctitle(" ".join([sys.executable, "-m", "config.cli.main", *request["arguments"]]))
    status: object = 1
    try:
        main(request["arguments"], prog_name="entrepot")
    except SystemExit as ended:
        status = ended.code
    except BaseException:  # as an interpreter would
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status if isinstance(status, int) else int(status is not None))


def _import_all() -> None:
    # What ``serve`` imports when it is run.
    import config.addresses
    import config.cli.server
    import config.first_start
    import config.serve
    import config.sqlite

    config.serve.app.import_all()
    sqlalchemy.orm.configure_mappers()  # a server does it with its first query: once, before it forks
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _import_all()
    _serve_requests(socket.socket(fileno=int(sys.argv[1])))
