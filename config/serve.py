"""``entrepot serve``: a supervisor of two children, gunicorn and one worker process, which live and die with it."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import requests

from config.settings import Settings, host_and_port
from storage.disk import make_directories

log = logging.getLogger("entrepot.serve")

PR_SET_PDEATHSIG = 1
LOCK_FILE = Path("run/serve.lock")
# ``serving_at`` holds the lock for a moment, and must not keep a server from starting.
LOCK_SECONDS = 0.5
RESTART_WINDOW_SECONDS = 30.0
RESTARTS_ALLOWED = 5
START_SECONDS = 60.0
# A server that was killed lets go of its port when its children have seen it, which takes a moment.
PORT_SECONDS = 5.0
BACKLOG = 2048
# In the environment of the children alone.
SUPERVISED = "ENTREPOT_SUPERVISED_BY"
# What a child has on top of its own patience: builds that are told to end have some seconds for it themselves.
WORKER_LEAVES_SECONDS = 20.0
WEB_LEAVES_SECONDS = 5.0
QUIT_SECONDS = 5.0


class AlreadyServed(Exception):
    """Another ``serve`` uses the data directory."""


class StartFailed(Exception):
    """The web server did not come up."""


@dataclass(slots=True)
class Child:
    """A process that is kept running; it inherits the descriptors ``inherits``.

    ``starts`` holds when it was started lately (monotonic seconds); ``has_lived`` is true once it ran for a while.
    """

    name: str
    command: list[str]
    inherits: tuple[int, ...] = ()
    has_lived: bool = False
    process: subprocess.Popen[bytes] | None = None
    starts: list[float] = field(default_factory=list)


def lock(data: Path, bind: str) -> IO[str]:
    """Hold the data directory for one supervisor, and say where it listens; the lock goes with the process.

    Raises AlreadyServed.
    """
    path = data / LOCK_FILE
    make_directories(path.parent)
    file = path.open("a")
    deadline = time.monotonic() + LOCK_SECONDS
    while not _try_lock(file, fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            file.close()
            raise AlreadyServed(f"another server uses {data}")
        time.sleep(0.02)
    file.truncate(0)
    json.dump({"host": socket.gethostname(), "bind": bind}, file)
    file.flush()
    return file


def serving_at(data: Path) -> str | None:
    """The HOST:PORT that a running server of this host and data directory listens on; None when there is none."""
    try:
        with (data / LOCK_FILE).open() as file:
            if _try_lock(file, fcntl.LOCK_SH):
                return None  # the lock of the one that wrote it went with it
            told = json.load(file)
    except (OSError, ValueError):  # never served, or it starts at this moment
        return None
    # A container that shares the directory is a host of its own, with addresses of its own.
    return str(told["bind"]) if told["host"] == socket.gethostname() else None


def _try_lock(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def listen(bind: str) -> socket.socket:
    """The listening socket, held by the supervisor: it outlives a web server that dies, and no request is refused.

    Raises StartFailed when the address cannot be had.
    """
    host, port = host_and_port(bind)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    deadline = time.monotonic() + PORT_SECONDS
    while True:
        try:
            return socket.create_server((host, port), family=family, backlog=BACKLOG)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                reason = os.strerror(error.errno) if error.errno else str(error)
                raise StartFailed(f"cannot listen on {bind}: {reason}") from error
        time.sleep(0.1)


def environment(settings: Settings) -> dict[str, str]:
    """What the children are told: where the data is, and the command line's overrides."""
    return {
        # glibc gives threads arenas of their own, and each keeps what was freed in it: with sixty downloads at once a
        # process grew by 66 MiB, and with two arenas by 48 (measured). One thread runs Python at a time anyway.
        "MALLOC_ARENA_MAX": "2",
        **os.environ,
        "ENTREPOT_DATA": str(settings.data.resolve()),
        "ENTREPOT_SERVER_BIND": settings.server.bind,
        "ENTREPOT_SERVER_WORKERS": str(settings.server.workers),
        SUPERVISED: str(os.getpid()),
    }


def children(listener: socket.socket, *, with_worker: bool) -> list[Child]:
    """The processes of one server."""
    descriptor = listener.fileno()
    command = [sys.executable, "-m", "gunicorn", "-c", "python:config.gunicorn_conf", "--bind", f"fd://{descriptor}"]
    web = Child("web", [*command, "config.wsgi:app"], inherits=(descriptor,))
    worker = Child("worker", [sys.executable, "-m", "config.cli.main", "worker"])
    return [web, worker] if with_worker else [web]


class Supervisor:
    """Starts the children, restarts one that dies, and ends them all on SIGTERM or SIGINT."""

    def __init__(self, settings: Settings, listener: socket.socket, processes: list[Child]) -> None:
        self._settings = settings
        self._listener = listener
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
        child.starts.append(time.monotonic())
        child.process = subprocess.Popen(
            child.command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            pass_fds=child.inherits,
            preexec_fn=functools.partial(_die_with, os.getpid()),  # noqa: PLW1509  (the supervisor has one thread)
        )

    def _revive(self, child: Child) -> None:
        """Start a child that died again, a few times in a while; raise StartFailed if it never came up at all."""
        if child.process is None or child.process.poll() is None:
            return
        now = time.monotonic()
        child.has_lived = child.has_lived or now - child.starts[-1] >= RESTART_WINDOW_SECONDS
        child.starts = [at for at in child.starts if now - at < RESTART_WINDOW_SECONDS]
        if len(child.starts) >= RESTARTS_ALLOWED:
            if not child.has_lived:
                raise StartFailed(f"the {child.name} process ended {len(child.starts)} times within half a minute")
            return  # what took it down, a database that is away for one, may pass: it is tried again in a while
        log.warning("the %s process ended with %s and is started again", child.name, child.process.returncode)
        self._start(child)

    def _await_ready(self) -> None:
        host, port = self._settings.local_address
        host = f"[{host}]" if ":" in host else host
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
        """End the worker, then the web server: running jobs need it, a build for one that installs from here.

        Each is asked to end and finishes what it is at; a second signal, or the time-out, ends it at once.
        """
        settings = self._settings
        worker_seconds = settings.worker.drain_seconds + WORKER_LEAVES_SECONDS
        web_seconds = settings.server.graceful_timeout_seconds + WEB_LEAVES_SECONDS
        for child in reversed(self._children):
            if child.process is None:
                continue
            if child.name == "web":
                self._listener.close()  # else new connections would wait for nobody until the last request is done
                # Killed, gunicorn would leave its workers behind; told to quit, it kills them.
                self._end(child.process, web_seconds, signal.SIGQUIT)
            else:
                self._end(child.process, worker_seconds, signal.SIGKILL)

    def _end(self, process: subprocess.Popen[bytes], patience_seconds: float, at_once: signal.Signals) -> None:
        process.terminate()
        deadline = time.monotonic() + patience_seconds
        while process.poll() is None and self._signals < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(at_once)
        try:
            process.wait(QUIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    session = requests.Session()
    session.trust_env = False
    try:
        return session.get(url, timeout=2).status_code == 200
    except requests.RequestException:
        return False
    finally:
        session.close()


def _die_with(supervisor: int) -> None:
    # Without this a killed supervisor would leave a server behind that holds the port.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != supervisor:
        os._exit(1)  # it died before the line above, which then never tells of it
