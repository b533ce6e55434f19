"""Servers under measurement: started on loopback, their processor time and memory read, ended by pid."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import requests

START_SECONDS = 90.0
STOP_SECONDS = 20.0
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class CouldNotStart(Exception):
    """A program that was to be measured did not come up; the message has the end of its log."""


@dataclass(frozen=True)
class Usage:
    """What a server's processes have used together: processor seconds so far, resident bytes now."""

    cpu_seconds: float
    resident_bytes: int


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def loopback_session() -> requests.Session:
    """A session that no proxy of this machine's environment comes between."""
    session = requests.Session()
    session.trust_env = False
    return session


def die_with_parent() -> None:
    # A benchmark that is killed must not leave servers behind; PR_SET_PDEATHSIG is 1.
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class Running:
    """A started server and the processes below it."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    def pids(self) -> list[int]:
        """The server's process and all that descend from it."""
        parents = {int(entry.name): _parent(entry) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
        found = [self.process.pid]
        for pid in found:
            found.extend(child for child, parent in parents.items() if parent == pid)
        return found

    def usage(self) -> Usage:
        ticks = pages = 0
        for pid in self.pids():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += sum(int(field) for field in fields[11:15])  # own and of children already waited for
                pages += int(fields[21])
        return Usage(ticks / _TICKS_PER_SECOND, pages * _PAGE_BYTES)

    def stop(self) -> None:
        """End the server as an operator would; what is left after a while is killed, one pid at a time."""
        pids = self.pids()
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)
        if self.process.poll() is None:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait(STOP_SECONDS)


class Both(Running):
    """Two servers that answer together."""

    def __init__(self, front: Running, back: Running) -> None:
        super().__init__(front.process, front.log)
        self._back = back

    def pids(self) -> list[int]:
        return super().pids() + self._back.pids()


def _parent(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


@contextlib.contextmanager
def running(
    command: Sequence[str | Path], ready: str, log: Path, *, environment: Mapping[str, str] | None = None, cwd: Path
) -> Iterator[Running]:
    """Run a server until the block ends. ``ready`` is the URL that answers below 500 once it serves."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            env=dict(os.environ if environment is None else environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509  (no other thread is running when servers are started)
        )
    server = Running(process, log)
    try:
        _await(lambda: _answers(ready), server)
        yield server
    finally:
        server.stop()


def _await(is_ready: Callable[[], bool], server: Running) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not is_ready():
        if server.process.poll() is not None or time.monotonic() > deadline:
            raise CouldNotStart(f"{server.process.args!r}:\n{server.log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)


def _answers(url: str) -> bool:
    with loopback_session() as session:
        try:
            return session.get(url, timeout=2).status_code < 500
        except requests.RequestException:
            return False
