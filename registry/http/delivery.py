"""Sending a package's file: kept ones from the store, others while they arrive from the upstream. The same for all formats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from flask import Response, request

from registry.http import context
from registry.http.responses import INERT_HEADERS, disposition, send_file, whole
from registry.names import PackageKey
from registry.repos.resolve import OfferedFile
from registry.services import Services
from storage.blobs import BlobHandle, ByteRange

OCTETS = "application/octet-stream"


def send_offered(
    services: Services,
    key: PackageKey,
    offered: OfferedFile,
    *,
    content_type: str = OCTETS,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The file as the request asks for it: whole, one range, or its head only.

    ``headers`` are added to the answer. Raises UpstreamUnavailable or NotFound for a file that has to be fetched first.
    """
    if offered.kept is not None:
        return _send_kept(services, offered, offered.kept.handle, offered.kept.published_at, content_type, headers)
    admission = context.admission()
    modified = offered.upload_time or services.clock()
    if request.method == "HEAD" and offered.size_bytes is not None and "sha256" in offered.hashes:
        return send_file(
            lambda _: iter(()),
            size_bytes=offered.size_bytes,
            sha256=offered.hashes["sha256"],
            filename=offered.filename,
            modified=modified,
            private=is_private(),
            content_type=content_type,
            headers=headers,
        )
    if request.method == "HEAD" or "Range" in request.headers:
        handle = services.files.complete(admission, key, offered)
        return _send_kept(services, offered, handle, modified, content_type, headers)
    opened = services.files.fetch(admission, key, offered)
    return _send_arriving(opened.pieces, opened.size_bytes, offered.filename, content_type, headers)


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


def _send_kept(
    services: Services,
    offered: OfferedFile,
    handle: BlobHandle,
    modified: datetime,
    content_type: str,
    headers: Mapping[str, str] | None,
) -> Response:
    admission = context.admission()

    def open_part(part: ByteRange | None) -> Iterator[bytes]:
        return services.files.read(admission, handle, part)

    return send_file(
        open_part,
        size_bytes=handle.size_bytes,
        sha256=handle.digest,
        filename=offered.filename,
        modified=modified,
        private=is_private(),
        content_type=content_type,
        headers=headers,
    )


def _send_arriving(
    pieces: Iterator[bytes],
    size_bytes: int | None,
    filename: str,
    content_type: str,
    headers: Mapping[str, str] | None,
) -> Response:
    said = {
        "Accept-Ranges": "bytes",
        "Content-Disposition": disposition(filename),
        **INERT_HEADERS,
        **(headers or {}),
    }
    pieces = _begun(pieces)
    if size_bytes is not None:
        said["Content-Length"] = str(size_bytes)
        pieces = whole(pieces, size_bytes)
    return Response(pieces, headers=said, content_type=content_type, direct_passthrough=True)


def _begun(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same pieces, the first of them here already: a file that fails before it can still be told as a failure.

    Small files come in one piece, and only when their digest has proved right.
    """
    first = next(pieces, b"")

    def all_of_them() -> Iterator[bytes]:
        if first:
            yield first
        yield from pieces

    return all_of_them()
