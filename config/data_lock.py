"""Who serves a data directory: a lock that goes with the process which holds it, and says where that one listens."""

from __future__ import annotations

import fcntl
import json
import socket
import time
from pathlib import Path
from typing import IO

from storage.disk import make_directories

LOCK_FILE = Path("run/serve.lock")
# ``serving_at`` holds the lock for a moment, and must not keep a server from starting.
LOCK_SECONDS = 0.5


class AlreadyServed(Exception):
    """Another ``serve`` uses the data directory."""


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
