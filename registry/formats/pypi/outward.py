"""Publishing to an index elsewhere: the legacy upload form, as twine sends it, one request for each file.

What is there is looked up in the index (PEP 503, PEP 691) where the destination names one: the upload's own address
cannot be asked. Without it the form is sent, and an index that has the same bytes already says so by taking them.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from packaging.metadata import parse_email

from registry.errors import Invalid
from registry.format import BadIndex
from registry.formats.pypi import metadata, negotiation, reading
from registry.formats.pypi.names import parse_filename
from registry.outward import Body, OtherBytes, Outgoing, OutgoingFile, Remote, SendRefused, Sent

_INDEX_BYTES = 64 * 1024 * 1024
_DOCUMENT_BYTES = 8 * 1024 * 1024
_ACCEPT = f"{negotiation.JSON_TYPE}, {negotiation.HTML_TYPE};q=0.2"
# How ``packaging`` calls a field, and how the form does.
_RENAMED = {"platforms": "platform", "license_files": "license_file", "supported_platforms": "supported_platform"}


class PypiOutward:
    """``registry.outward.Outward`` for Python distributions."""

    takes_tag = False

    def publish(self, remote: Remote, version: Outgoing) -> Iterator[Sent]:
        """Upload each distribution that the index has not."""
        there = _listed(remote, version)
        for file in version.files:
            known = there.get(file.filename)
            if known is not None:
                yield Sent(file.filename, _same(file, known, remote.index_url), file.sha256, was_there=True)
                continue
            try:
                remote.send("POST", f"{remote.url}/", _form(file))
            except SendRefused as refused:
                # Two may have published it at once, or the index is behind what was uploaded.
                known = _listed(remote, version).get(file.filename) if refused.status in {400, 403, 409} else None
                if known is None:
                    raise
                yield Sent(file.filename, _same(file, known, remote.index_url), file.sha256, was_there=True)
                continue
            page = f"{remote.index_url}/{version.key.name}/" if remote.index_url else f"{remote.url}/"
            yield Sent(file.filename, page, file.sha256, was_there=False)


def _listed(remote: Remote, version: Outgoing) -> dict[str, Any]:
    """File name → its link, of what the index has; nothing without an index."""
    if not remote.index_url:
        return {}
    page = f"{remote.index_url}/{quote(version.key.name)}/"
    reply = remote.get(page, accept=_ACCEPT, limit_bytes=_INDEX_BYTES)
    if reply.status == 404:
        return {}
    try:
        listing = reading.parse(version.key.name, reply.body, reply.content_type, page)
    except BadIndex as error:
        raise Invalid(f"the index of the destination cannot be read: {error}") from error
    return {link.filename: link for link in listing.files}


def _same(file: OutgoingFile, link: Any, place: str) -> str:
    """The URL of a file that is there, if it is this one. Raises OtherBytes."""
    known = link.hashes.get("sha256")
    if known is None:
        raise Invalid(f"{file.filename} is at {place} already, and the index does not tell its sha256")
    if known != file.sha256:
        raise OtherBytes(file.filename, place)
    return str(link.url).partition("#")[0].partition("?")[0]


def _form(file: OutgoingFile) -> Body:
    """The multipart form, with the file as its last part, streamed."""
    parsed = parse_filename(file.filename)
    is_wheel = parsed.packagetype == "bdist_wheel"
    fields: list[tuple[str, str]] = [
        (":action", "file_upload"),
        ("protocol_version", "1"),
        ("filetype", parsed.packagetype),
        ("pyversion", parsed.python_tag if is_wheel else "source"),
        ("sha256_digest", file.sha256),
        ("md5_digest", file.digests(("md5",))["md5"]),
        *_metadata(file),
    ]
    boundary = f"entrepot-{secrets.token_hex(24)}"
    head = b"".join(_part(boundary, name) + value.encode() + b"\r\n" for name, value in fields)
    named = f'content"; filename="{file.filename}'
    head += _part(boundary, named, "application/octet-stream")
    tail = f"\r\n--{boundary}--\r\n".encode()

    def chunks() -> Iterator[bytes]:
        yield head
        yield from file.chunks()
        yield tail

    size_bytes = len(head) + file.size_bytes + len(tail)
    return Body(size_bytes, f"multipart/form-data; boundary={boundary}", chunks)


def _part(boundary: str, name: str, content_type: str = "") -> bytes:
    kind = f"Content-Type: {content_type}\r\n" if content_type else ""
    return f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n{kind}\r\n'.encode()


def _metadata(file: OutgoingFile) -> Iterator[tuple[str, str]]:
    """The core metadata of the archive as fields of the form, each value of a list by itself."""
    raw, _ = parse_email(_document(file))
    for name, value in raw.items():
        field = _RENAMED.get(name, name)
        if isinstance(value, dict):
            yield from ((field, f"{label}, {url}") for label, url in value.items())
        elif isinstance(value, list):
            if field == "keywords":
                yield field, ",".join(value)
            else:
                yield from ((field, str(each)) for each in value)
        else:
            yield field, str(value)


def _document(file: OutgoingFile) -> bytes:
    with file.open() as body:
        found = metadata.glance(file.filename, body)
        if found is None:
            found = metadata.read_member(file.filename, body, "PKG-INFO", _DOCUMENT_BYTES)
    if found is None:
        raise Invalid(f"{file.filename} has neither METADATA nor PKG-INFO")
    return found


OUTWARD = PypiOutward()
