"""``entrepot serve``: a supervisor of two children, gunicorn and one worker process, which live and die with it.

The children are forked, not started anew: what they need is imported once and shared. A server with its worker takes
2.5 seconds of processor time for a start and an end instead of 7, and 170 MB of memory instead of 310 (measured).
"""

from __future__ import annotations

import ctypes
import errno
import gc
import logging
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from typing import Protocol

import requests
from gunicorn.app import wsgiapp  # type: ignore[import-untyped]
from setproctitle import setproctitle

import config.gunicorn_worker
import config.worker  # noqa: F401  (both for the children, which find them imported)
from config import app
from config.settings import Settings, host_and_port

log = logging.getLogger("entrepot.serve")

PR_SET_PDEATHSIG = 1
M_ARENA_MAX = -8
# glibc gives threads arenas of their own, and each keeps what was freed in it: with sixty downloads at once a process
# grew by 66 MiB, and with two arenas by 48 (measured). One thread runs Python at a time anyway.
ARENAS = 2
RESTART_WINDOW_SECONDS = 30.0
RESTARTS_ALLOWED = 5
START_SECONDS = 60.0
# A server that was killed lets go of its port when its children have seen it, which takes a moment.
PORT_SECONDS = 5.0
BACKLOG = 2048
ENDING = (signal.SIGTERM, signal.SIGINT)
_FORK = multiprocessing.get_context("fork")
# What a child has on top of its own patience: builds that are told to end have some seconds for it themselves.
WORKER_LEAVES_SECONDS = 20.0
WEB_LEAVES_SECONDS = 5.0
QUIT_SECONDS = 5.0


class StartFailed(Exception):
    """The web server did not come up."""


class Closes(Protocol):
    """What a child does without: a file, a socket."""

    def close(self) -> None:
        """Close it."""


@dataclass(slots=True)
class Child:
    """A process that is kept running: ``main`` in a fork of this one, which first closes what it ``lets_go`` of.

    ``starts`` holds when it was started lately (monotonic seconds); ``has_lived`` is true once it has answered, or ran
    for a while.
    """

    name: str
    main: Callable[[], None]
    lets_go: Iterable[Closes] = ()
    has_lived: bool = False
    process: BaseProcess | None = None
    starts: list[float] = field(default_factory=list)


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


def web(settings: Settings, listener: socket.socket, lets_go: Iterable[Closes] = ()) -> Child:
    """gunicorn, which answers on ``listener``."""

    def main() -> None:
        # gunicorn takes the descriptor for its own, and a worker that ends closes its port with it.
        descriptor = listener.detach()
        os.environ.update(environment(settings))
        sys.argv = ["gunicorn", "-c", "python:config.gunicorn_conf", "--bind", f"fd://{descriptor}", "config.wsgi:app"]
        wsgiapp.run()

    return Child("web", main, lets_go)


def environment(settings: Settings) -> dict[str, str]:
    """What gunicorn's settings and the application are told: where the data is, and the command line's overrides."""
    return {
        "ENTREPOT_DATA": str(settings.data.resolve()),
        "ENTREPOT_SERVER_BIND": settings.server.bind,
        "ENTREPOT_SERVER_WORKERS": str(settings.server.workers),
    }


class Supervisor:
    """Starts the children, restarts one that dies, and ends them all on SIGTERM or SIGINT."""

    def __init__(self, settings: Settings, listener: socket.socket, processes: list[Child]) -> None:
        self._settings = settings
        self._listener = listener
        self._children = processes
        self._signals = 0

    def run(self, announce: Callable[[], None]) -> int:
        """Serve until told to stop; ``announce`` is called once requests are answered. Returns the exit status."""
        for number in ENDING:
            signal.signal(number, self._note_signal)
        app.import_all()
        gc.collect()
        gc.freeze()  # collections of the children would else copy what they look at, which is all that they share
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
        # Daemonic: should this process end by an error of its own, it ends them first.
        process = _FORK.Process(target=_child, args=(child, os.getpid()), name=child.name, daemon=True)
        # A signal waits until the child has its own answer to it; it would only be noted, and lost, by the parent's.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        child.process = process

    def _revive(self, child: Child) -> None:
        """Start a child that died again, a few times in a while; raise StartFailed if it never came up at all."""
        if child.process is None or child.process.exitcode is None:
            return
        now = time.monotonic()
        child.has_lived = child.has_lived or now - child.starts[-1] >= RESTART_WINDOW_SECONDS
        child.starts = [at for at in child.starts if now - at < RESTART_WINDOW_SECONDS]
        if len(child.starts) >= RESTARTS_ALLOWED:
            if not child.has_lived:
                raise StartFailed(f"the {child.name} process ended {len(child.starts)} times within half a minute")
            return  # what took it down, a database that is away for one, may pass: it is tried again in a while
        log.warning("the %s process ended with %s and is started again", child.name, child.process.exitcode)
        self._start(child)

    def _await_ready(self) -> None:
        host, port = self._settings.local_address
        host = f"[{host}]" if ":" in host else host
        deadline = time.monotonic() + START_SECONDS
        while not self._signals:
            if _answers(f"http://{host}:{port}/healthz"):
                # From here on it is no server that cannot start, however young it is when its database goes away.
                self._children[0].has_lived = True
                return
            web = self._children[0].process
            if web is not None and web.exitcode is not None:
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

    def _end(self, process: BaseProcess, patience_seconds: float, at_once: signal.Signals) -> None:
        _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + patience_seconds
        while process.exitcode is None and self._signals < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        _signal(process, at_once)
        deadline = time.monotonic() + QUIT_SECONDS
        while process.exitcode is None and time.monotonic() < deadline:
            time.sleep(0.02)
        _signal(process, signal.SIGKILL)
        process.join()


def _signal(process: BaseProcess, number: signal.Signals) -> None:
    if process.exitcode is None and process.pid is not None:  # not waited for yet: the number is still its own
        os.kill(process.pid, number)


def _answers(url: str) -> bool:
    session = requests.Session()
    session.trust_env = False
    try:
        return session.get(url, timeout=2).status_code == 200
    except requests.RequestException:
        return False
    finally:
        session.close()


def _child(child: Child, supervisor: int) -> None:
    """Be a child from here on."""
    _die_with(supervisor)
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    for each in child.lets_go:
        each.close()
    _limit_arenas()
    setproctitle(f"entrepot {child.name}")
    child.main()


def _die_with(supervisor: int) -> None:
    # Without this a killed supervisor would leave a server behind that holds the port.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != supervisor:
        os._exit(1)  # it died before the line above, which then never tells of it


def _limit_arenas() -> None:
    libc = ctypes.CDLL(None)
    if "MALLOC_ARENA_MAX" not in os.environ and hasattr(libc, "mallopt"):  # glibc's; musl has neither
        libc.mallopt(M_ARENA_MAX, ARENAS)
