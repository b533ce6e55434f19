"""The processes of a server as the kernel tells of them: who descends from whom, and how much memory each has."""

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Self, TypeVar

T = TypeVar("T")


def _stat(pid: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` behind the name, state first; empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def all_pids() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    fields = _stat(pid)
    return bool(fields) and fields[0] not in "ZX"


def descendants(pid: int) -> list[int]:
    """All living processes below ``pid``, nearest first."""
    parents = {each: int(fields[1]) for each in all_pids() if (fields := _stat(each)) and fields[0] not in "ZX"}
    found: list[int] = []
    generation = [pid]
    while generation:
        generation = [each for each, parent in parents.items() if parent in generation]
        found += generation
    return found


def children(pid: int) -> set[int]:
    """The processes that ``pid``'s main thread has started, without a look at all others: at once."""
    return {int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def running(marker: str) -> list[int]:
    """All processes of the machine with ``marker`` in their command line."""
    return [pid for pid in all_pids() if is_alive(pid) and marker in command_line(pid)]


def child(pid: int, marker: str) -> int:
    """The one direct child of ``pid`` with ``marker`` in its command line."""
    (found,) = [each for each in children(pid) if is_alive(each) and marker in command_line(each)]
    return found


def resident_bytes(pid: int) -> int:
    """The memory of a process that is its own or shared (VmRSS); 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), 0)


def wait_until(condition: Callable[[], T], *, seconds: float = 60.0, pause_seconds: float = 0.02) -> T:
    """Ask until the answer is truthy and return it. Raises AssertionError after ``seconds``.

    What takes long is asked for less and less often, down to four times a second: asking is work as well.
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"still {answer!r} after {seconds} s"
        time.sleep(pause_seconds)
        pause_seconds = min(pause_seconds * 1.2, max(pause_seconds, 0.25))


class MemoryWatch:
    """Remembers the largest growth of any of some processes while its block runs."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._before = {pid: resident_bytes(pid) for pid in pids}
        self.growth_bytes = dict.fromkeys(self._before, 0)
        self._ended = Event()
        self._thread = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            self._look()

    def _look(self) -> None:
        for pid, before in self._before.items():
            self.growth_bytes[pid] = max(self.growth_bytes[pid], resident_bytes(pid) - before)
