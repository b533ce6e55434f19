"""A real, throw-away PostgreSQL server on a free loopback port, in a folder of its own, never as root.

Use it as a context manager, or ``shared()`` for one server per test process (it starts on first use).
"""

from __future__ import annotations

import atexit
import functools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import psycopg

_ACCOUNTS = ("postgres", "nobody")
_START_SECONDS = 60.0


def find_binaries() -> Path | None:
    """The folder that holds ``initdb`` and ``postgres``; None when there is no PostgreSQL on this machine."""
    candidates = [Path(found).resolve().parent for found in (shutil.which("postgres"), shutil.which("initdb")) if found]
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in candidates:
        if (folder / "postgres").is_file() and (folder / "initdb").is_file():
            return folder
    return None


class PostgresServer:
    """``start``, ``stop``, ``restart_immediate`` as a crash does it, and fresh databases."""

    def __init__(self) -> None:
        binaries = find_binaries()
        if binaries is None:
            raise RuntimeError("there is no PostgreSQL on this machine (Debian: apt-get install postgresql)")
        self._binaries = binaries
        self._folder = Path(tempfile.mkdtemp(prefix="entrepot-postgres-"))
        self._account = _unprivileged_account()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        if self._account is not None:
            os.chown(self._folder, self._account["user"], self._account["group"])
        self._initialise()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        assert self._process is None
        with (self._folder / "log").open("ab") as log:
            self._process = self._spawn(
                [
                    str(self._binaries / "postgres"),
                    *("-D", str(self._data), "-p", str(self.port)),
                    *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
                    *("-c", "max_connections=200", "-c", "shared_buffers=32MB"),
                    # A killed server loses nothing that the kernel has; only power loss would, and nobody tests that.
                    *("-c", "fsync=off"),
                ],
                log,
            )
        self._await_ready()

    def stop(self) -> None:
        """End the server quickly but cleanly; the data stays."""
        self._signal(signal.SIGINT)

    def stop_immediate(self) -> None:
        """End the server as a crash does: no checkpoint, every connection cut, recovery at the next start."""
        self._signal(signal.SIGQUIT)

    def restart_immediate(self) -> None:
        """A crash and a start on the same port."""
        self.stop_immediate()
        self.start()

    def close(self) -> None:
        """End the server and remove everything."""
        if self._process is not None:
            self.stop_immediate()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, database: str) -> str:
        """The URL of a database as ``registry.db.Database`` takes it."""
        return f"postgresql+psycopg://entrepot@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def fresh_database(self) -> Iterator[str]:
        """The URL of an empty database, which is dropped afterwards whoever is still connected."""
        name = f"test_{uuid.uuid4().hex}"
        self._administer(f'CREATE DATABASE "{name}" TEMPLATE template0')
        try:
            yield self.url(name)
        finally:
            self._administer(f'DROP DATABASE "{name}" WITH (FORCE)')

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _administer(self, statement: str) -> None:
        with psycopg.connect(f"postgresql://entrepot@127.0.0.1:{self.port}/postgres", autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[arg-type]

    def _initialise(self) -> None:
        with (self._folder / "log").open("ab") as log:
            command = [str(self._binaries / "initdb"), "-D", str(self._data), "-U", "entrepot", "--auth=trust"]
            process = self._spawn([*command, "--no-sync", "--encoding=UTF8", "--locale=C"], log)
            if process.wait(timeout=_START_SECONDS) != 0:
                raise RuntimeError((self._folder / "log").read_text())

    def _spawn(self, command: list[str], log: Any) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C at the tests must not end the server before the tests' own clean-up.
        options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "cwd": self._folder}
        if self._account is not None:
            options |= {**self._account, "extra_groups": []}
        return subprocess.Popen(command, start_new_session=True, **options)

    def _await_ready(self) -> None:
        end = time.monotonic() + _START_SECONDS
        while True:
            try:
                self._administer("SELECT 1")
            except psycopg.OperationalError:
                exited = self._process is None or self._process.poll() is not None
                if exited or time.monotonic() > end:
                    raise RuntimeError((self._folder / "log").read_text()) from None
                time.sleep(0.02)
            else:
                return

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(timeout=_START_SECONDS)
        self._process = None


@functools.cache
def shared() -> PostgresServer:
    """One running server for this test process; it ends with it."""
    server = PostgresServer()
    atexit.register(server.close)
    server.start()
    return server


def _unprivileged_account() -> dict[str, int] | None:
    """Whom to run the server as: PostgreSQL refuses root. None when we are not root."""
    if os.geteuid() != 0:
        return None
    for name in _ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid}
    raise RuntimeError(f"PostgreSQL does not run as root, and there is none of the users {_ACCOUNTS}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
