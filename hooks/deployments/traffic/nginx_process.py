"""A running nginx, as its operator's commands and the kernel show it: its test of the configuration, reload, workers."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from hooks.deployments.traffic.router import refuse, unreached

TAKE_UP_SECONDS = 10.0
_COMMAND_SECONDS = 30.0
_POLL_SECONDS = 0.02


class NginxProcess:
    """The nginx whose master is named by ``pid_file``, on this machine.

    ``test`` and ``reload`` are commands, word by word, that no shell sees; without ``reload`` the master is sent HUP,
    which its own user and root may do.
    """

    def __init__(self, *, pid_file: str, test: Sequence[str], reload: Sequence[str] = ()) -> None:
        self._pid_file = Path(pid_file)
        self._test = tuple(test)
        self._reload = tuple(reload)

    def test(self) -> str:
        """What nginx has against its configuration as it lies on the disk; empty for nothing. Raises RoutingError."""
        done = _run(self._test)
        if done.returncode == 0:
            return ""
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return (lines[0] if lines else f"exit status {done.returncode}")[:300]

    def reload(self) -> None:
        """Have the configuration on the disk taken up; back when only new workers accept. Raises RoutingError."""
        master = self._master()
        before = set(_workers(master, ending=False))
        if self._reload:
            done = _run(self._reload)
            if done.returncode != 0:
                unreached(f"'{' '.join(self._reload)}' failed: {done.stderr.strip()[:300]}")
        else:
            self._hang_up(master)
        deadline = time.monotonic() + TAKE_UP_SECONDS
        while time.monotonic() < deadline:
            accepting = set(_workers(self._master(), ending=False))
            if accepting and not accepting & before:
                return
            time.sleep(_POLL_SECONDS)
        unreached("nginx has not taken its new configuration up; its error log says why")

    def has_ending_workers(self) -> bool:
        """Whether requests from before a reload still run. Raises RoutingError."""
        return any(True for _ in _workers(self._master(), ending=True))

    def _master(self) -> int:
        try:
            text = self._pid_file.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            unreached(f"nginx does not run: {self._pid_file}: {getattr(error, 'strerror', error)}")
        if not (text.isdigit() and len(text) < 10):
            unreached(f"nginx does not run: {self._pid_file} holds no process id")
        # A file that outlived its process must not have somebody else's process sent a signal.
        if not _title(int(text)).startswith("nginx: master process"):
            unreached(f"nginx does not run: process {text} of {self._pid_file} is not its master")
        return int(text)

    def _hang_up(self, master: int) -> None:
        try:
            os.kill(master, signal.SIGHUP)
        except PermissionError:
            refuse("nginx's master belongs to another user: give the router a 'reload' command")
        except ProcessLookupError:
            unreached("nginx does not run: its master ended just now")


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        unreached(f"'{' '.join(command)}' did not end within {_COMMAND_SECONDS:.0f} s")
    except OSError as error:
        unreached(f"'{command[0]}' cannot be run: {error.strerror or error}")


def _workers(master: int, *, ending: bool) -> Iterator[int]:
    """Its worker processes: those that end with their last request, or those that accept new ones."""
    for pid in _children(master):
        title = _title(pid)
        if title.startswith("nginx: worker process") and ("shutting down" in title) is ending:
            yield pid


def _children(parent: int) -> list[int]:
    try:
        return [int(text) for text in Path(f"/proc/{parent}/task/{parent}/children").read_text("ascii").split()]
    except OSError:
        return _children_by_looking(parent)


def _children_by_looking(parent: int) -> list[int]:
    """For a kernel without that list: a look at every process."""
    places = [place for place in Path("/proc").iterdir() if place.name.isdigit()]
    return [int(place.name) for place in places if _parent(place) == parent]


def _parent(place: Path) -> int:
    try:
        return int((place / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return 0  # it has ended meanwhile


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""
