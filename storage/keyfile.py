"""Master keys in a local file: the key provider that needs no service.

::

    {"format": 1, "current": "9f86d081884c7d65", "keys": {"9f86d081884c7d65": "<base64 of 32 bytes>", ...}}

Each key is named by its check value. The file is read anew for every wrap and unwrap, which are as rare as rotations
and starts: master keys then are not kept in memory, and a rotation by another process is seen at once.
"""

from __future__ import annotations

import base64
import binascii
import errno
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.disk import Disk, as_storage_error, make_directories, write_all
from storage.errors import Damaged, KeyUnavailable
from storage.sealing import KEY_BYTES, key_check_value, new_key, seal, sealed_by, unseal

_FORMAT = 1
_LIMIT_BYTES = 64 * 1024
_MASTER_KEY = "entrepot/master-key/v1"


@dataclass(frozen=True, slots=True)
class _Keys:
    current: str
    keys: dict[str, bytes] = field(repr=False)

    def to_json(self) -> bytes:
        keys = {key_id: base64.b64encode(key).decode("ascii") for key_id, key in self.keys.items()}
        return json.dumps({"format": _FORMAT, "current": self.current, "keys": keys}, indent=1).encode("ascii") + b"\n"


class LocalKeyFile:
    """A key provider over one file, which only its owner may read.

    Raises KeyUnavailable from every method when the file is absent, readable for others or not a key file.
    """

    name = "file"

    def __init__(self, path: Path) -> None:
        self._path = path

    def __repr__(self) -> str:
        return f"LocalKeyFile({str(self._path)!r})"

    @classmethod
    def create(cls, path: Path) -> LocalKeyFile:
        """A new file with one new master key, durable on return.

        Raises FileExistsError when there is one: a master key is never overwritten, everything hangs on it.
        """
        key = new_key()
        key_id = key_check_value(key)
        taken = False
        with as_storage_error(f"write the key file {path}"):
            make_directories(path.parent)
            with _written_beside(path, _Keys(key_id, {key_id: key})) as beside:
                try:
                    # A link, unlike a rename, refuses to replace what another process made a moment ago.
                    path.hardlink_to(beside)
                except FileExistsError:
                    taken = True
        if taken:
            raise FileExistsError(errno.EEXIST, "there is a key file already", str(path))
        return cls(path)

    def rotate(self) -> str:
        """Add a new master key and make it the current one; the old ones stay readable. Returns the new id."""
        keys = self._read()
        key = new_key()
        key_id = key_check_value(key)
        self._replace(_Keys(key_id, {**keys.keys, key_id: key}))
        return key_id

    def forget(self, key_id: str) -> None:
        """Remove an old master key for good; domain keys that were not wrapped anew are lost with it.

        Raises ValueError for the current key; an unknown one is forgotten already.
        """
        keys = self._read()
        if key_id == keys.current:
            raise ValueError("the current master key cannot be forgotten")
        kept = {name: key for name, key in keys.keys.items() if name != key_id}
        self._replace(_Keys(keys.current, kept))

    def wrap(self, key: bytes, context: str) -> bytes:
        """``key`` under the current master key, bound to ``context``."""
        keys = self._read()
        return seal(AESGCM(keys.keys[keys.current]), keys.current, key, _MASTER_KEY, context)

    def unwrap(self, wrapped: bytes, context: str) -> bytes:
        """What ``wrap`` was given with the same ``context``."""
        keys = self._read()
        try:
            key_id = sealed_by(wrapped)
            if key_id not in keys.keys:
                known = ", ".join(sorted(keys.keys))
                raise KeyUnavailable(
                    f"the wrong master key: {key_id} is needed, and the key file {self._path} holds {known}"
                )
            return unseal(AESGCM(keys.keys[key_id]), wrapped, _MASTER_KEY, context)
        except Damaged as error:
            raise KeyUnavailable(f"master key of {self._path} does not open a key: {error}") from None

    def current_id(self) -> str:
        """The check value of the current master key."""
        return self._read().current

    def known(self) -> frozenset[str]:
        """The names of all master keys in the file."""
        return frozenset(self._read().keys)

    def master_of(self, wrapped: bytes) -> str | None:
        """The check value of the master key that made ``wrapped``, whether or not it is in the file."""
        try:
            return sealed_by(wrapped)
        except Damaged:
            return None

    def check(self) -> None:
        """Read the file, and compare every key with its name."""
        self._read()

    def _replace(self, keys: _Keys) -> None:
        with as_storage_error(f"write the key file {self._path}"), _written_beside(self._path, keys) as beside:
            beside.rename(self._path)

    def _read(self) -> _Keys:
        keys = _parse(self._read_bytes())
        if isinstance(keys, str):
            # Raised here and not where it was found: a JSON or base64 error carries the text it could not read, and
            # would take the keys along into a crash report.
            raise KeyUnavailable(f"the key file {self._path} cannot be used: {keys}")
        return keys

    def _read_bytes(self) -> bytes:
        try:
            # Without O_NONBLOCK a named pipe in the file's place would hold the start for ever.
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                mode = os.fstat(descriptor).st_mode
                text = os.read(descriptor, _LIMIT_BYTES + 1) if stat.S_ISREG(mode) else b""
            finally:
                os.close(descriptor)
        except OSError as error:
            raise KeyUnavailable(f"the key file {self._path} cannot be read: {error.strerror}") from None
        if not stat.S_ISREG(mode):
            raise KeyUnavailable(f"the key file {self._path} is not a file")
        if mode & 0o077:
            raise KeyUnavailable(
                f"the key file {self._path} may be used by others (mode {stat.S_IMODE(mode):04o}): chmod 600 it, and "
                "rotate the master key if somebody may have read it"
            )
        return text


def _parse(text: bytes) -> _Keys | str:
    """The keys, or what is wrong with the file (without any of its text)."""
    if len(text) > _LIMIT_BYTES:
        return f"it is larger than {_LIMIT_BYTES} bytes"
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return "it is not JSON"
    if (
        not isinstance(document, dict)
        or document.get("format") != _FORMAT
        or not isinstance(document.get("keys"), dict)
    ):
        return f"it is not a key file of format {_FORMAT}"
    keys: dict[str, bytes] = {}
    for key_id, encoded in document["keys"].items():
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, TypeError, ValueError):
            return "one of its keys is not base64"
        if len(key) != KEY_BYTES:
            return f"one of its keys has {len(key)} bytes instead of {KEY_BYTES}"
        if key_check_value(key) != key_id:
            return "one of its keys is not the key that its name says"
        keys[key_id] = key
    current = document.get("current")
    if not isinstance(current, str) or current not in keys:
        return "its current key is not among its keys"
    return _Keys(current, keys)


@contextmanager
def _written_beside(path: Path, keys: _Keys) -> Iterator[Path]:
    """The new text in a synced file of its own, to be put in place: a torn key file would lose everything."""
    disk = Disk()
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = disk.create(beside)
    try:
        try:
            write_all(disk, descriptor, keys.to_json())
            disk.sync(descriptor)
        finally:
            disk.close(descriptor)
        yield beside
    finally:
        with suppress(FileNotFoundError):  # renamed: that was the point
            disk.unlink(beside)
    disk.sync_directory(path.parent)
