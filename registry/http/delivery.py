"""Sending a package's file: kept ones from the store, others while they arrive from the upstream. The same for all formats."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from flask import Response, request

from registry.http import context
from registry.http.responses import INERT_HEADERS, disposition, send_file
from registry.names import PackageKey
from registry.repos.arrival import Kept
from registry.repos.coming import AT_ONCE_BYTES, Coming
from registry.repos.resolve import KeptFile, OfferedFile
from registry.services import Services

OCTETS = "application/octet-stream"


DigestHeaders = Callable[[Mapping[str, str]], Mapping[str, str]]
"""Makes header fields of a file's digests (hex by algorithm), as far as they are known."""


@dataclass(frozen=True, slots=True)
class _Sending:
    """What one answer is made of, whatever is sent of the file."""

    services: Services
    key: PackageKey
    offered: OfferedFile
    content_type: str
    digest_headers: DigestHeaders


def send_offered(
    services: Services,
    key: PackageKey,
    offered: OfferedFile,
    *,
    content_type: str = OCTETS,
    digest_headers: DigestHeaders = lambda _: {},
) -> Response:
    """The file as the request asks for it: whole, one range, or its head only.

    Raises UpstreamUnavailable or NotFound for a file that is not kept and cannot be had.
    """
    sending = _Sending(services, key, offered, content_type, digest_headers)
    if offered.kept is not None:
        return _send_kept(sending, offered.kept)
    return _send_head(sending) if request.method == "HEAD" else _send_coming(sending)


def repository_url(services: Services, format_name: str) -> str:
    """Where clients reach the admitted repository; ends in a slash.

    By the address in the settings, else as this request has it: then what is rendered with it must be kept by it.
    """
    admission = context.admission()
    root = (services.public_url or request.url_root).rstrip("/")
    return f"{root}/{format_name}/{admission.path}/"


def is_private() -> bool:
    """Whether the answer is for this caller alone, and not for caches that others share."""
    return context.identity() is not None


def _send_kept(sending: _Sending, there: KeptFile) -> Response:
    admission, files = context.admission(), sending.services.files
    return send_file(
        lambda part: files.read(admission, there.handle, part),
        size_bytes=there.handle.size_bytes,
        sha256=there.handle.digest,
        filename=sending.offered.filename,
        modified=there.published_at,
        private=is_private(),
        content_type=sending.content_type,
        headers=sending.digest_headers(sending.offered.hashes),
    )


def _send_fetched(sending: _Sending, coming: Coming, kept: Kept) -> Response:
    """A file that has been kept for this request: as one that was here before."""
    return send_file(
        coming.read,
        size_bytes=kept.handle.size_bytes,
        sha256=kept.handle.digest,
        filename=sending.offered.filename,
        modified=sending.offered.upload_time or sending.services.clock(),
        private=is_private(),
        content_type=sending.content_type,
        headers=sending.digest_headers(kept.digests),
    )


def _send_head(sending: _Sending) -> Response:
    """What is known of a file without fetching it; it is fetched only where nobody else can say how long it is."""
    offered, files = sending.offered, sending.services.files
    size_bytes, hashes = offered.size_bytes, offered.hashes
    if size_bytes is None:
        head = files.head(offered)
        if head is None:
            coming = files.begin(context.admission(), sending.key, offered)
            return _send_fetched(sending, coming, coming.wait_kept())
        size_bytes, hashes = head.size_bytes, {**head.checksums, **hashes}
    return send_file(
        lambda _: iter(()),
        size_bytes=size_bytes,
        sha256=offered.hashes.get("sha256"),
        filename=offered.filename,
        modified=offered.upload_time,
        private=is_private(),
        content_type=sending.content_type,
        headers=sending.digest_headers(hashes),
    )


def _send_coming(sending: _Sending) -> Response:
    """The file while it is fetched: as a kept one, but that its parts are not verified yet, and say so to caches."""
    offered = sending.offered
    coming = sending.services.files.begin(context.admission(), sending.key, offered)
    has_range = "Range" in request.headers
    if has_range:
        coming.ask_size()
    size_bytes = coming.size_bytes
    if size_bytes is None and not has_range:
        return _send_unsized(sending, coming)
    if size_bytes is None or size_bytes <= AT_ONCE_BYTES:
        coming.wait_kept()
    if coming.kept is not None:
        return _send_fetched(sending, coming, coming.kept)
    assert size_bytes is not None
    return send_file(
        lambda part: _begun(coming.read(part)),
        size_bytes=size_bytes,
        sha256=offered.hashes.get("sha256"),
        filename=offered.filename,
        modified=offered.upload_time,
        private=is_private(),
        content_type=sending.content_type,
        headers=sending.digest_headers({**coming.digests, **offered.hashes}),
        parts_are_verified=False,
    )


def _send_unsized(sending: _Sending, coming: Coming) -> Response:
    """The whole file, from an upstream that does not say how long it is."""
    pieces = _begun(coming.read(None))
    if coming.kept is not None:
        return _send_fetched(sending, coming, coming.kept)
    headers = {"Content-Disposition": disposition(sending.offered.filename), **INERT_HEADERS}
    headers |= sending.digest_headers({**coming.digests, **sending.offered.hashes})
    return Response(pieces, headers=headers, content_type=sending.content_type, direct_passthrough=True)


def _begun(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same pieces, the first of them here already: a file that fails before it can still be told as a failure."""
    first = next(pieces, b"")

    def all_of_them() -> Iterator[bytes]:
        if first:
            yield first
        yield from pieces

    return all_of_them()
