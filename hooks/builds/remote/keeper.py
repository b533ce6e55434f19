"""Where a runner's builds leave artifacts and caches: first in a file of the runner's own, then at the server.

The file lets an upload be repeated; the build's sandbox is not held up by the network meanwhile.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import requests

from hooks.builds.executor import ExecutorError, Refused
from hooks.builds.keeping import ArtifactName, CacheKey, FoundCache, Incoming, Kept
from hooks.builds.remote.lease import HeldLease
from hooks.builds.remote.link import BODY_SECONDS, Away, Rejected, broken_off

_PIECE_BYTES = 256 * 1024


class RemoteKeeper:
    """Implements ``hooks.builds.keeping.Keeper`` for one build."""

    def __init__(self, lease: HeldLease, spool_dir: Path) -> None:
        self._lease = lease
        self._spool_dir = spool_dir
        self._found: dict[CacheKey, bool] = {}

    def begin_artifact(self, name: ArtifactName) -> Incoming:
        """An artifact of this build."""
        query = {"name": name.name, "packaging": name.packaging}
        return _Spooled(self._lease, self._spool_dir, ("artifacts", name.identifier), query)

    def find_cache(self, wanted: CacheKey) -> FoundCache | None:
        """The cache that the server finds; its bytes come when they are asked for."""
        asked = {"version": wanted.version, "key": wanted.key, "fallbacks": list(wanted.fallbacks)}

        def attempt() -> requests.Response:
            return self._lease.ask("POST", "cache", json=asked, is_streamed=True, read_seconds=BODY_SECONDS)

        try:
            response = self._lease.insist(attempt)
        except Rejected as error:
            raise ExecutorError(f"no cache can be looked for: {error}") from error
        if response.status_code == 204:
            return None
        told = response.headers
        self._found[wanted] = told["Entrepot-Cache-Exact"] == "1"
        return FoundCache(
            _decoded(told["Entrepot-Cache-Key"]),
            _decoded(told["Entrepot-Cache-Scope"]),
            int(told["Content-Length"]),
            self._found[wanted],
            lambda: _pieces(response),
        )

    def begin_cache(self, wanted: CacheKey) -> Incoming | None:
        """A cache of this build; None for a keyed one that was found. The server has the last word."""
        if wanted.key and self._found.get(wanted):
            return None
        query = {"version": wanted.version, "key": wanted.key}
        return _Spooled(self._lease, self._spool_dir, ("cache",), query)


def _decoded(text: str) -> str:
    return text.encode("ascii").decode("unicode_escape")


def _pieces(response: requests.Response) -> Iterator[bytes]:
    try:
        with response, broken_off():
            yield from response.iter_content(_PIECE_BYTES)
    except Away as error:
        raise ExecutorError(f"the cache breaks off: {error}") from error


class _Spooled:
    """Implements ``hooks.builds.keeping.Incoming``."""

    def __init__(self, lease: HeldLease, spool_dir: Path, path: tuple[str, ...], query: Mapping[str, Any]) -> None:
        self._lease = lease
        self._path = path
        self._query = query
        self._digest = hashlib.sha256()
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=spool_dir)  # noqa: SIM115  (it lives as long as this)
        except OSError as error:
            raise ExecutorError(f"nothing can be written here: {error}") from error

    def write(self, data: bytes) -> None:
        self._digest.update(data)
        try:
            self._file.write(data)
        except OSError as error:
            raise ExecutorError(f"it cannot be written here: {error}") from error

    def keep(self, files: int) -> Kept:
        size_bytes = self._file.tell()

        def attempt() -> Mapping[str, Any]:
            self._file.seek(0)
            query = {**self._query, "files": files}
            response = self._lease.ask("PUT", *self._path, body=self._file, query=query, read_seconds=BODY_SECONDS)
            told: Mapping[str, Any] = response.json()
            return told

        try:
            told = self._lease.insist(attempt)
        except Rejected as error:
            raise Refused(str(error)) from error
        finally:
            self.abort()
        own = self._digest.hexdigest()
        if told["sha256sum"] not in {None, own}:
            raise ExecutorError("the server has kept other bytes than were sent")
        return Kept(size_bytes, own)

    def abort(self) -> None:
        self._file.close()
