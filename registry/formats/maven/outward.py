"""Publishing to a repository elsewhere: a PUT for each file and its checksums, then the artifact's metadata, as mvn does.

The files come first and the metadata last: who reads the list of versions finds what it names. Of a file that is there
its checksums tell whether it is the same, or it is read through.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from registry.errors import Invalid
from registry.formats.maven import metadata, paths
from registry.formats.maven.checksums import checksum_of, read_checksum
from registry.formats.maven.coordinates import is_snapshot
from registry.formats.maven.xml_reader import BadXml
from registry.outward import Body, OtherBytes, Outgoing, OutgoingFile, Remote, SendRefused, Sent

_CHECKSUM_BYTES = 4096
_ALGORITHMS = ("sha256", "sha1", "md5")


class MavenOutward:
    """``registry.outward.Outward`` for Maven artifacts."""

    takes_tag = False

    def publish(self, remote: Remote, version: Outgoing) -> Iterator[Sent]:
        """Send the version's files, the POM first, and name the version in the artifact's metadata."""
        if is_snapshot(version.version):
            raise Invalid("snapshots are not published outside: their builds are called by their time")
        folder = paths.artifact_folder(version.key)
        # The POM first: a repository that looks at it refuses before anything else has arrived.
        for file in sorted(version.files, key=lambda file: (not file.filename.endswith(".pom"), file.filename)):
            yield _send(remote, f"{folder}/{file.filename}", file)
        _name_version(remote, version, f"{folder}/{paths.METADATA}")


def _send(remote: Remote, path: str, file: OutgoingFile) -> Sent:
    digests = file.digests(_ALGORITHMS)
    missing = [name for name in _ALGORITHMS if not _says_the_same(remote, path, file, name, digests[name])]
    known = len(missing) < len(_ALGORITHMS) or remote.sha256_of(path)
    if isinstance(known, str) and known != file.sha256:
        raise OtherBytes(file.filename, remote.url)
    if not known:
        remote.send("PUT", path, Body(file.size_bytes, "application/octet-stream", file.chunks))
    # Also of a file that was there: whoever sent it may have been broken off before its checksums.
    for name in missing:
        _put_small(remote, f"{path}.{name}", digests[name].encode())
    return Sent(file.filename, f"{remote.url}/{path}", file.sha256, was_there=bool(known))


def _says_the_same(remote: Remote, path: str, file: OutgoingFile, algorithm: str, digest: str) -> bool:
    """Whether the checksum is there and this one. Raises OtherBytes for another one."""
    reply = remote.get(f"{path}.{algorithm}", accept="*/*", limit_bytes=_CHECKSUM_BYTES)
    if reply.status == 404:
        return False
    try:
        said = read_checksum(reply.body, algorithm)
    except Invalid as error:
        raise Invalid(f"{file.filename}.{algorithm} at {remote.url} cannot be read: {error}") from error
    if said != digest:
        raise OtherBytes(file.filename, remote.url)
    return True


def _name_version(remote: Remote, version: Outgoing, path: str) -> None:
    reply = remote.get(path, accept="*/*", limit_bytes=metadata.LIMIT_BYTES)
    try:
        found = metadata.read(reply.body) if reply.status != 404 else metadata.Metadata()
    except BadXml as error:
        raise Invalid(f"the metadata of {version.display_name} at {remote.url} cannot be read: {error}") from error
    if version.version in found.versions:
        return
    now = metadata.stamp(datetime.now(UTC))
    body = metadata.render_artifact(version.key, (*found.versions, version.version), now, found.plugins)
    _put_small(remote, path, body)
    for name in _ALGORITHMS:
        _put_small(remote, f"{path}.{name}", checksum_of(body, name).encode())


def _put_small(remote: Remote, path: str, body: bytes) -> None:
    try:
        remote.send("PUT", path, Body(len(body), "text/plain", lambda: iter((body,))))
    except SendRefused as refused:
        # Some repositories make these themselves and take none.
        if refused.status not in {404, 405, 409}:
            raise


OUTWARD = MavenOutward()
