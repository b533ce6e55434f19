"""Bytes that the processes of one server hand each other, and that need not outlive them: sealed files in a folder.

Each is sealed under a key that lives in memory alone: made when this module is imported, which ``entrepot serve`` does
before it forks. Whatever another start has left behind does not open, and is as good as not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage import sealing
from storage.blobs import MIB
from storage.errors import Damaged

log = logging.getLogger("entrepot.scratch")

_KEY = AESGCM(sealing.new_key())
_KEY_ID = "memory"
_DIRECTORY_MODE = 0o700
_FILE_MODE = 0o600
# The folder is looked through once in so many bytes written by this process.
_LOOK_BYTES = 16 * MIB


class Scratch:
    """Named bytes in a folder, the oldest of them dropped over the limit. Safe for many threads and processes.

    It may forget anything at any time; that a name is not there is never an error.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        """``folder`` is made when something is put there."""
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._unseen_bytes = _LOOK_BYTES  # so that the first one looks at what is left from before

    def get(self, name: str) -> bytes | None:
        """What was put under the name last, by any process of this server."""
        place = self._place(name)
        try:
            return sealing.unseal(_KEY, place.read_bytes(), name)
        except OSError:
            return None  # not there, or dropped at this moment
        except Damaged:
            return None  # of another start, or torn by a crash

    def put(self, name: str, body: bytes) -> None:
        """Keep ``body`` under the name, in place of what was there."""
        place = self._place(name)
        beside = place.with_name(f"{place.name}.{os.getpid()}-{threading.get_ident()}")
        try:
            self._folder.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _FILE_MODE)
            with os.fdopen(descriptor, "wb") as file:
                file.write(sealing.seal(_KEY, _KEY_ID, body, name))
            beside.replace(place)
        except OSError as error:
            # A full disk costs speed here and nothing else; who must not lose bytes does not put them here.
            log.warning("a rendered document is not shared with other processes: %s", error.strerror)
            with contextlib.suppress(OSError):
                beside.unlink()
            return
        self._drop_some(len(body))

    def _place(self, name: str) -> Path:
        return self._folder / hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()

    def _drop_some(self, written_bytes: int) -> None:
        with self._lock:
            self._unseen_bytes += written_bytes
            if self._unseen_bytes < _LOOK_BYTES:
                return
            self._unseen_bytes = 0
        left = self._limit_bytes
        for _, size_bytes, path in sorted(self._found(), reverse=True):
            left -= size_bytes
            if left < 0:
                with contextlib.suppress(OSError):  # another process was first
                    path.unlink()

    def _found(self) -> list[tuple[int, int, Path]]:
        """Each file: when it was written, how long it is, and where."""
        found = []
        for path in self._folder.iterdir():
            with contextlib.suppress(OSError):
                state = path.stat()
                found.append((state.st_mtime_ns, state.st_size, path))
        return found
