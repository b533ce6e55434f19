"""The small process between a worker and what it runs: when the worker is gone, so is everything below the shim.

Run as a file with ``-I -S``, standard library only. Its standard input is the worker's life line: one JSON line with
what to run, then nothing until the end of file, which means "end it now" (the worker closed it, or was killed). Then
TERM to the whole descendant tree, up to one second, KILL. Being a subreaper it also finds grandchildren that left
their session or lost their parent; PR_SET_PDEATHSIG alone reaches the direct child only.

The JSON object: ``argv``; ``fds`` (the child's 0, 1, 2); ``keep`` (further descriptors for the child); ``uid``/``gid``
or null; ``rlimits`` (name without RLIMIT_ → value); ``cgroups`` (paths of ``cgroup.procs`` to enter);
``ends_by_itself`` (no TERM: the child sees the end of its own pipe and does the same inside its process namespace,
where a TERM to bubblewrap from here would cut the second short). Optional: ``niceness``, added to the worker's. And for
what is no sandbox, optional as well: ``environment`` and ``directory`` of the child; ``groups`` beside ``gid``; ``tells``:
when the child has ended, its status is written to standard output as a line (0 to 255, 128 and the signal for one that was
killed), and any byte on the life line then means that what the child has started may stay.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

PR_SET_CHILD_SUBREAPER = 36
GRACE_SECONDS = 1.2  # the second that is promised, and what it takes to use it
_POLL_SECONDS = 0.05


def main() -> int:
    """Run what the first line says until it ends or the life line does; 0, or 1 when nothing could be started."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # only the life line and SIGKILL end the shim
    order = json.loads(_first_line())
    child = os.fork()
    if child == 0:
        _become(order)
    for descriptor in {*order["fds"], *order["keep"]}:
        os.close(descriptor)  # or the worker would never see the end of the child's output
    has_ended = _watch(child)
    if order.get("tells") and has_ended and _is_rest_to_stay(child):
        return 0
    _end_tree(term=not order["ends_by_itself"])
    return 0


def _is_rest_to_stay(child: int) -> bool:
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    os.write(1, b"%d\n" % (128 - code if code < 0 else code))
    return bool(os.read(0, 4096))


def _first_line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        data = os.read(0, 65536)
        if not data:
            sys.exit(1)
        line += data
    return line


def _become(order: dict[str, Any]) -> NoReturn:
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        for path in order["cgroups"]:
            Path(path).write_text(str(os.getpid()))
        os.nice(order.get("niceness", 0))
        for name, value in order["rlimits"].items():
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
        if order["uid"] is not None:
            os.setgroups(order.get("groups", []))
            os.setresgid(order["gid"], order["gid"], order["gid"])
            os.setresuid(order["uid"], order["uid"], order["uid"])
        _arrange_descriptors(order["fds"], order["keep"])
        if "directory" in order:
            os.chdir(order["directory"])
        _execute(order["argv"], order.get("environment", {"PATH": "/usr/local/bin:/usr/bin:/bin"}))
    except (OSError, ValueError) as error:
        os.write(2, f"could not start: {error}\n".encode())
    os._exit(126)


def _execute(argv: list[str], environment: dict[str, str]) -> NoReturn:
    try:
        os.execvpe(argv[0], argv, environment)  # noqa: S606 - no shell
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
    # No program and no script that names one: the shell's, as for everybody who starts one by its name.
    os.execve("/bin/sh", ["/bin/sh", *argv], environment)  # noqa: S606


def _arrange_descriptors(standard: Sequence[int], keep: Sequence[int]) -> None:
    for target, source in enumerate(standard):
        os.dup2(source, target)
    wanted = set(keep)
    for entry in list(Path("/proc/self/fd").iterdir()):
        descriptor = int(entry.name)
        if descriptor > 2 and descriptor not in wanted:  # a leaked descriptor is a way out (CVE-2024-21626)
            with contextlib.suppress(OSError):  # the one the listing itself was read through
                os.set_inheritable(descriptor, False)
    for descriptor in wanted:
        os.set_inheritable(descriptor, True)


def _watch(child: int) -> bool:
    """Wait for the end of the child (True) or of the life line (False)."""
    pidfd = os.pidfd_open(child)
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    poller.register(0, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _events in poller.poll()}
        if pidfd in ready or (0 in ready and not os.read(0, 4096)):
            return pidfd in ready


def _end_tree(*, term: bool) -> None:
    for process in _descendants() if term else ():
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    while _reap() and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    while _reap():
        for process in _descendants():
            _signal(process, signal.SIGKILL)
        time.sleep(_POLL_SECONDS / 5)


def _reap() -> bool:
    """Collect what has ended; whether children are left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _descendants() -> list[int]:
    children: dict[int, list[int]] = {}
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                stat = (process / "stat").read_bytes()
            except OSError:
                continue  # ended between the listing and the reading
            # the command's name is in parentheses and may hold any character, also ')'
            parent = int(stat[stat.rindex(b")") + 2 :].split()[1])
            children.setdefault(parent, []).append(int(process.name))
    found: list[int] = []
    queue = [os.getpid()]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def _signal(process: int, number: int) -> None:
    try:
        os.kill(process, number)
    except (ProcessLookupError, PermissionError):
        return  # gone, or already a zombie of another user's


if __name__ == "__main__":
    sys.exit(main())
