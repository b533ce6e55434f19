"""Run the scripts of a lifecycle event: one after the other, each in time, and with everything it has started.

A script runs below ``hooks.builds.shim``: should this process be killed, the script ends with it and is not left half
done and unwatched. What a script has started in the background stays, as CodeDeploy's users expect of a start script,
if it does not hold the script's output.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Self

from hooks.builds import shim
from hooks.deployments.appspec_model import HookScript
from hooks.deployments.host.script_log import ScriptLog
from hooks.deployments.outcomes import ErrorCode, EventFailed

HELD_OUTPUT_NOTICE_SECONDS = 5.0
_CHUNK_BYTES = 65536
_TICK_SECONDS = 0.2
_NOT_HANDED_ON = ("ENTREPOT_",)
_HEAD_BYTES = 512
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class ScriptSettings:
    """``allowed_users``: whom scripts may run as by ``runas``, beside this process's own user.

    ``is_stopped`` is asked while a script runs; when it says so the script is ended.
    """

    allowed_users: frozenset[str] = frozenset()
    environment: Mapping[str, str] = field(default_factory=dict)
    is_stopped: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class _Identity:
    """Whom a script runs as: None where that is who we are already."""

    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


def run_script(
    script: HookScript,
    archive: Path,
    variables: Mapping[str, str],
    settings: ScriptSettings,
    log: ScriptLog,
    seconds_left: float,
) -> None:
    """Run one script of an unpacked bundle. Raises EventFailed with the code that says how it has gone wrong."""
    if seconds_left <= 0:
        message = f"Script at specified location: {script.location} was not started: the event's time is over"
        raise EventFailed(ErrorCode.SCRIPT_TIMED_OUT, message, script.location)
    path = _found(script, archive)
    identity = _identity(script, settings)
    _make_executable(script, path)
    _look_at_head(script, path, log)
    log.say(f"Script - {script.location}")
    environment = _environment(settings, identity, variables)
    limit = min(float(script.timeout_seconds), seconds_left)
    with _Running(script.location, [str(path)], identity, environment) as running:
        status = running.until_the_end(log, limit, settings.is_stopped)
    if status:
        who = f" run as user {script.runas}" if script.runas else ""
        message = f"Script at specified location: {script.location}{who} failed with exit code {status}"
        raise EventFailed(ErrorCode.SCRIPT_FAILED, message, script.location)


def run_check(
    script: HookScript,
    argv: Sequence[str],
    archive: Path,
    variables: Mapping[str, str],
    settings: ScriptSettings,
    log: ScriptLog,
    seconds_left: float,
) -> int:
    """Run a check as scripts run: ``argv``, or without one the script of the bundle; its exit status. Nothing of it stays.

    Raises EventFailed where it cannot be run, takes longer than it may, or is stopped; OSError.
    """
    identity = _identity(script, settings)
    if not argv:
        path = _found(script, archive)
        _make_executable(script, path)
        _look_at_head(script, path, log)
        argv = [str(path)]
    limit = min(float(script.timeout_seconds), max(seconds_left, 0.0))
    environment = _environment(settings, identity, variables)
    with _Running(script.location, argv, identity, environment) as running:
        return running.until_the_end(log, limit, settings.is_stopped, may_stay=False)


def _environment(settings: ScriptSettings, identity: _Identity, variables: Mapping[str, str]) -> dict[str, str]:
    own = {name: value for name, value in settings.environment.items() if not name.startswith(_NOT_HANDED_ON)}
    return {**own, **identity.variables, **variables}


def run_program(
    name: str,
    argv: Sequence[str],
    environment: Mapping[str, str],
    directory: Path,
    log: ScriptLog,
    limit_seconds: float,
    is_stopped: Callable[[], bool],
) -> int:
    """Run a program of the agent's own as scripts run, with nothing else in its environment; its exit status.

    Raises EventFailed where it takes longer, or is stopped.
    """
    with _Running(name, list(argv), _Identity(), environment, directory) as running:
        return running.until_the_end(log, limit_seconds, is_stopped)


def _found(script: HookScript, archive: Path) -> Path:
    top = archive.resolve()
    path = (top / script.location).resolve()
    if not path.is_relative_to(top):
        message = f"Script at specified location: {script.location} is a link that leads out of the bundle"
        raise EventFailed(ErrorCode.SCRIPT_MISSING, message, script.location)
    if not path.is_file():
        message = f"Script does not exist at specified location: {script.location}"
        raise EventFailed(ErrorCode.SCRIPT_MISSING, message, script.location)
    return path


def _identity(script: HookScript, settings: ScriptSettings) -> _Identity:
    own = os.geteuid()
    wanted = script.runas or ("root" if script.sudo and own else "")
    if not wanted:
        return _Identity()
    try:
        account = pwd.getpwuid(int(wanted)) if wanted.isdecimal() else pwd.getpwnam(wanted)
    except KeyError:
        message = f"{script.location} is to run as {wanted}, and this machine has no such user"
        raise EventFailed(ErrorCode.SCRIPT_FAILED, message, script.location) from None
    if account.pw_uid != own and account.pw_name not in settings.allowed_users:
        message = (
            f"{script.location} is to run as {account.pw_name}, which is not on this machine's list of users that"
            " scripts may run as"
        )
        raise EventFailed(ErrorCode.SCRIPT_FAILED, message, script.location)
    variables = {"HOME": account.pw_dir, "SHELL": account.pw_shell or "/bin/sh"}
    variables |= {"USER": account.pw_name, "LOGNAME": account.pw_name}
    if account.pw_uid == own:
        return _Identity(variables=variables)
    if own:
        message = f"{script.location} is to run as {account.pw_name}, which only an agent that root runs can do"
        raise EventFailed(ErrorCode.SCRIPT_FAILED, message, script.location)
    groups = tuple(os.getgrouplist(account.pw_name, account.pw_gid))
    return _Identity(account.pw_uid, account.pw_gid, groups, variables)


def _make_executable(script: HookScript, path: Path) -> None:
    mode = path.stat().st_mode
    if mode & 0o111:
        return
    try:
        path.chmod(mode & 0o7777 | 0o111)
    except OSError:
        message = f"Unable to set script at specified location: {script.location} as executable"
        raise EventFailed(ErrorCode.SCRIPT_NOT_EXECUTABLE, message, script.location) from None


def head_fault(head: bytes) -> str:
    """What is wrong with the first bytes of a script, so that the kernel does not start it; "" for nothing."""
    if not head.startswith(b"#!"):
        return ""
    line = head.split(b"\n", 1)[0]
    if line.endswith(b"\r"):
        return "its lines end as on Windows (CR LF), so that the kernel looks for an interpreter with a CR in its name"
    words = line[2:].split()
    interpreter = os.fsdecode(words[0]) if words else ""
    if not interpreter.startswith("/"):
        return "its first line names no interpreter by an absolute path"
    return "" if os.access(interpreter, os.X_OK) else f"its interpreter {interpreter} is not on this machine"


def _look_at_head(script: HookScript, path: Path, log: ScriptLog) -> None:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head.startswith(_BYTE_ORDER_MARK + b"#!"):
        log.say(f"{script.location} begins with a byte order mark: its first line counts for nothing, /bin/sh runs it")
    fault = head_fault(head)
    if fault:
        message = f"Script at specified location: {script.location} cannot be started: {fault}"
        raise EventFailed(ErrorCode.SCRIPT_NOT_EXECUTABLE, message, script.location)


class _Running:
    """A script that runs below the shim; when the context ends, what must end has ended."""

    def __init__(
        self,
        location: str,
        argv: Sequence[str],
        identity: _Identity,
        environment: Mapping[str, str],
        directory: Path = Path("/"),
    ) -> None:
        self._location = location
        self._order = {
            "argv": list(argv),
            "keep": [],
            "uid": identity.uid,
            "gid": identity.gid,
            "groups": identity.groups,
            "rlimits": {},
            "cgroups": [],
            "ends_by_itself": False,
            "environment": dict(environment),
            "directory": str(directory),
            "tells": True,
        }

    def __enter__(self) -> Self:
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._outputs: dict[int, str] = {}
        writing: list[int] = []
        for stream in ("[stdout]", "[stderr]"):
            reading, written = os.pipe()
            self._outputs[reading] = stream
            writing.append(written)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", shim.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=(null, *writing),
                start_new_session=True,
                env={},
                cwd="/",
            )
        finally:
            for descriptor in (null, *writing):
                os.close(descriptor)
        order: dict[str, Any] = {**self._order, "fds": [null, *writing]}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the life line, and wait until the shim has ended what is left."""
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: PT018
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        for descriptor in self._outputs:
            os.close(descriptor)

    def until_the_end(
        self, log: ScriptLog, limit: float, is_stopped: Callable[[], bool], *, may_stay: bool = True
    ) -> int:
        """The script's exit status, when it and its output have ended. Raises EventFailed.

        ``may_stay``: what it has started goes on without it.
        """
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: PT018
        deadline = time.monotonic() + limit
        ended_at: float | None = None
        status: int | None = None
        is_noted = False
        with selectors.DefaultSelector() as selector:
            for descriptor in (*self._outputs, self._process.stdout.fileno()):
                selector.register(descriptor, selectors.EVENT_READ)
            while len(selector.get_map()) > 0:
                for key, _ in selector.select(_TICK_SECONDS):
                    data = os.read(key.fd, _CHUNK_BYTES)
                    if key.fd in self._outputs and data:
                        log.feed(self._outputs[key.fd], data)
                        continue
                    selector.unregister(key.fd)
                    if key.fd not in self._outputs:
                        status = int(data) if data else 137  # somebody has killed the shim
                        ended_at = time.monotonic()
                now = time.monotonic()
                if ended_at and not is_noted and now > ended_at + HELD_OUTPUT_NOTICE_SECONDS:
                    is_noted = True
                    log.say(self._held_words())
                if is_stopped() or now >= deadline:
                    self._give_up(limit, status, is_stopped=is_stopped())
        assert status is not None
        if not may_stay:
            return status
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(b"stay\n")
            self._process.stdin.flush()
        return status

    def _give_up(self, limit: float, status: int | None, *, is_stopped: bool) -> NoReturn:
        where = f"Script at specified location: {self._location}"
        if is_stopped:
            raise EventFailed(ErrorCode.UNKNOWN_ERROR, f"{where} was stopped", self._location)
        if status is None:
            message = f"{where} failed to complete in {limit:.0f} seconds"
            raise EventFailed(ErrorCode.SCRIPT_TIMED_OUT, message, self._location)
        message = f"{where} failed to close STDOUT or STDERR: {self._held_words()}"
        raise EventFailed(ErrorCode.OUTPUTS_LEFT_OPEN, message, self._location)

    def _held_words(self) -> str:
        return (
            f"{self._location} has ended, but a process it has started holds its output; start it with"
            " >/dev/null 2>&1 </dev/null &"
        )
