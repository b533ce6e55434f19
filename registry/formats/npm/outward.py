"""Publishing to a registry elsewhere: one document with the manifest and the tarball in base64, as ``npm publish`` sends it.

The tarball is encoded as it is read: what is in memory does not grow with it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from registry.errors import Invalid
from registry.formats.npm import integrity
from registry.formats.npm.manifest import from_text
from registry.outward import Body, OtherBytes, Outgoing, OutgoingFile, Remote, SendRefused, Sent

_ABBREVIATED = "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8"
_PACKUMENT_BYTES = 64 * 1024 * 1024
# A multiple of 3, so that pieces of base64 can be put behind each other.
_TRIPLES_BYTES = 3 * 64 * 1024


class NpmOutward:
    """``registry.outward.Outward`` for npm packages."""

    takes_tag = True

    def publish(self, remote: Remote, version: Outgoing) -> Iterator[Sent]:
        """Publish the one tarball of a version, under its tag."""
        if len(version.files) != 1:
            raise Invalid(f"{version.display_name} {version.version} has {len(version.files)} files, npm takes one")
        (file,) = version.files
        digests = file.digests(integrity.ALGORITHMS)
        url = _tarball_url(remote, version, file)
        if _is_there(remote, version, digests):
            yield Sent(file.filename, url, file.sha256, was_there=True)
            return
        try:
            remote.send("PUT", _path(version), _document(remote, version, file, digests))
        except SendRefused as refused:
            # Two may have published it at once.
            if refused.status not in {400, 403, 409} or not _is_there(remote, version, digests):
                raise
            yield Sent(file.filename, url, file.sha256, was_there=True)
            return
        yield Sent(file.filename, url, file.sha256, was_there=False)


def _path(version: Outgoing) -> str:
    """``/@scope%2fname``, as clients write it."""
    return quote(version.display_name, safe="@")


def _tarball_url(remote: Remote, version: Outgoing, file: OutgoingFile) -> str:
    return f"{remote.url}/{version.display_name}/-/{file.filename.rpartition('/')[2]}"


def _is_there(remote: Remote, version: Outgoing, digests: dict[str, str]) -> bool:
    """Whether the registry has the version with this tarball. Raises OtherBytes for another one."""
    reply = remote.get(_path(version), accept=_ABBREVIATED, limit_bytes=_PACKUMENT_BYTES)
    if reply.status == 404:
        return False
    try:
        document = json.loads(reply.body)
    except (ValueError, RecursionError) as error:
        raise Invalid("the destination's document of the package is no JSON") from error
    versions = document.get("versions") if isinstance(document, dict) else None
    there = versions.get(version.version) if isinstance(versions, dict) else None
    if not isinstance(there, dict):
        return False
    promised = integrity.promised(there["dist"] if isinstance(there.get("dist"), dict) else {})
    strong = promised.get("sha512") or promised.get("sha1")
    if strong is None:
        raise Invalid(f"{version.display_name}@{version.version} is at {remote.url} already, without a digest")
    if strong not in digests.values():
        raise OtherBytes(f"{version.display_name}@{version.version}", remote.url)
    return True


def _document(remote: Remote, version: Outgoing, file: OutgoingFile, digests: dict[str, str]) -> Body:
    name, tarball = version.display_name, f"{version.display_name}-{version.version}.tgz"
    manifest: dict[str, Any] = {
        key: value for key, value in from_text(file.extra.get("manifest", "{}")).items() if not key.startswith("_npm")
    }
    dist = {**integrity.written(digests), "tarball": _tarball_url(remote, version, file)}
    manifest.update(name=name, version=version.version, _id=f"{name}@{version.version}", dist=dist)
    document = {
        "_id": name,
        "name": name,
        "description": manifest.get("description", ""),
        "dist-tags": {version.tag: version.version},
        "versions": {version.version: manifest},
        "access": None,
    }
    attachment = {"content_type": "application/octet-stream", "length": file.size_bytes}
    # The document is closed by hand, so that its one long text can come last and in pieces.
    head = json.dumps(document)[:-1] + f', "_attachments": {{{json.dumps(tarball)}: '
    opening = (head + json.dumps(attachment)[:-1] + ', "data": "').encode()
    closing = b'"}}}'

    def chunks() -> Iterator[bytes]:
        yield opening
        yield from _encoded(file)
        yield closing

    size_bytes = len(opening) + 4 * -(-file.size_bytes // 3) + len(closing)
    return Body(size_bytes, "application/json", chunks)


def _encoded(file: OutgoingFile) -> Iterator[bytes]:
    with file.open() as body:
        left = b""
        while piece := body.read(_TRIPLES_BYTES):
            left += piece
            whole = len(left) - len(left) % 3
            yield base64.b64encode(left[:whole])
            left = left[whole:]
        if left:
            yield base64.b64encode(left)


OUTWARD = NpmOutward()
