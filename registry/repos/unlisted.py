"""Files that no index lists: asked for where they lie, their checksums where they lie beside them, absences kept.

A file without a checksum beside it is a file all the same. That it is not there is known when the file itself is asked
for; it is kept for a minute, as that of a page is.
"""

from __future__ import annotations

from collections.abc import Mapping

from registry.errors import UpstreamUnavailable
from registry.format import BadIndex, FileLink, Location
from registry.repos.topology import Connection
from registry.repos.upstreams import Upstreams
from registry.upstream.promised import is_digest


class Unlisted:
    """What external connections have beside any index. Safe for many threads."""

    def __init__(self, upstreams: Upstreams) -> None:
        self._upstreams = upstreams

    def link(self, connection: Connection, location: Location, filename: str) -> FileLink | None:
        """Where the file is, if it is there; None where it was not, a moment ago. Nobody is asked."""
        if self._upstreams.is_known_missing(connection, location.path):
            return None
        return FileLink(filename, location.version, self._upstreams.upstream(connection).base_url + location.path, {})

    def note_missing(self, connection: Connection, location: Location) -> None:
        """The connection surely has no such file."""
        self._upstreams.note_missing(connection, location.path)

    def digest(self, connection: Connection, location: Location) -> Mapping[str, str]:
        """The digest beside the file by its algorithm; nothing where there is none. Raises UpstreamUnavailable."""
        if location.digest_path is None:
            return {}
        algorithm = location.digest_algorithm

        def check(body: bytes) -> None:
            if _digest_in(body, algorithm) is None:
                raise BadIndex("it holds no digest")

        # An old digest would call the new file behind it a forgery.
        found = self._upstreams.document(
            connection, None, location.digest_path, accept="*/*", check=check, may_lag=False
        )
        if found.body is None:
            return {}
        digest = _digest_in(found.body, algorithm)
        if digest is None:
            raise UpstreamUnavailable(f"the upstream's {location.digest_path} holds no digest")
        return {algorithm: digest}


def _digest_in(body: bytes, algorithm: str) -> str | None:
    """The digest that a checksum document holds: its first word (some have the file's name behind it)."""
    words = body[:1000].decode("latin-1").split()
    digest = words[0].lower() if words else ""
    return digest if is_digest(digest, algorithm) else None
