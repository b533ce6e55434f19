"""``entrepot serve``: a supervisor of two children, gunicorn and one worker process, which live and die with it."""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import requests

from config.settings import Settings

log = logging.getLogger("entrepot.serve")

PR_SET_PDEATHSIG = 1
RESTART_WINDOW_SECONDS = 30.0
RESTARTS_ALLOWED = 5
START_SECONDS = 60.0


class AlreadyServed(Exception):
    """Another ``serve`` uses the data directory."""


class StartFailed(Exception):
    """The web server did not come up."""


@dataclass(slots=True)
class Child:
    """A process that is kept running. ``starts`` holds when it was started lately (monotonic seconds)."""

    name: str
    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    starts: list[float] = field(default_factory=list)


def lock(data: Path) -> IO[str]:
    """Hold the data directory for one supervisor; the lock goes with the process. Raises AlreadyServed."""
    path = data / "run" / "serve.lock"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise AlreadyServed(f"another server uses {data}") from error
    return file


def environment(settings: Settings) -> dict[str, str]:
    """What the children are told: where the data is, and the command line's overrides."""
    return {
        **os.environ,
        "ENTREPOT_DATA": str(settings.data.resolve()),
        "ENTREPOT_SERVER_BIND": settings.server.bind,
        "ENTREPOT_SERVER_WORKERS": str(settings.server.workers),
    }


def children(*, with_worker: bool) -> list[Child]:
    """The processes of one server."""
    web = Child("web", [sys.executable, "-m", "gunicorn", "-c", "python:config.gunicorn_conf", "config.wsgi:app"])
    worker = Child("worker", [sys.executable, "-m", "config.cli.main", "worker"])
    return [web, worker] if with_worker else [web]


class Supervisor:
    """Starts the children, restarts one that dies, and ends them all on SIGTERM or SIGINT."""

    def __init__(self, settings: Settings, processes: list[Child]) -> None:
        self._settings = settings
        self._children = processes
        self._environment = environment(settings)
        self._signals = 0

    def run(self, announce: Callable[[], None]) -> int:
        """Serve until told to stop; ``announce`` is called once requests are answered. Returns the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note_signal)
        for child in self._children:
            self._start(child)
        try:
            self._await_ready()
            if not self._signals:
                announce()
            while not self._signals:
                time.sleep(0.2)
                for child in self._children:
                    self._revive(child)
        except StartFailed as error:
            log.error("%s", error)  # noqa: TRY400  (a message for a person, not a trace)
            self._stop()
            return 1
        self._stop()
        return 0

    def _note_signal(self, _number: int, _frame: object) -> None:
        self._signals += 1

    def _start(self, child: Child) -> None:
        child.starts = [at for at in child.starts if time.monotonic() - at < RESTART_WINDOW_SECONDS]
        child.starts.append(time.monotonic())
        child.process = subprocess.Popen(
            child.command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            preexec_fn=_die_with_parent,  # noqa: PLW1509  (one thread here: the supervisor starts no others)
        )

    def _revive(self, child: Child) -> None:
        if child.process is None or child.process.poll() is None:
            return
        if len(child.starts) >= RESTARTS_ALLOWED:
            raise StartFailed(f"the {child.name} process ended {len(child.starts)} times within half a minute")
        log.warning("the %s process ended with %s and is started again", child.name, child.process.returncode)
        self._start(child)

    def _await_ready(self) -> None:
        host, _, port = self._settings.server.bind.rpartition(":")
        host = "127.0.0.1" if host in {"0.0.0.0", "", "[::]"} else host  # noqa: S104  (the address to ask, not to bind)
        deadline = time.monotonic() + START_SECONDS
        while not self._signals:
            if _answers(f"http://{host}:{port}/healthz"):
                return
            web = self._children[0].process
            if web is not None and web.poll() is not None:
                raise StartFailed("the web server could not start; the lines above say why")
            if time.monotonic() > deadline:
                raise StartFailed(f"the web server does not answer on {self._settings.server.bind}")
            time.sleep(0.05)

    def _stop(self) -> None:
        """Ask all to end, wait for running requests and jobs; a second signal, or the time-out, ends them at once."""
        alive = [child.process for child in self._children if child.process is not None]
        for process in alive:
            if process.poll() is None:
                process.terminate()
        patience = self._settings.server.graceful_timeout_seconds + self._settings.worker.drain_seconds + 5
        deadline = time.monotonic() + patience
        while any(process.poll() is None for process in alive):
            if self._signals > 1 or time.monotonic() > deadline:
                for process in alive:
                    process.kill()
            time.sleep(0.05)


def _answers(url: str) -> bool:
    session = requests.Session()
    session.trust_env = False
    try:
        return session.get(url, timeout=2).status_code == 200
    except requests.RequestException:
        return False
    finally:
        session.close()


def _die_with_parent() -> None:
    # Without this a killed supervisor would leave a server behind that holds the port.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
