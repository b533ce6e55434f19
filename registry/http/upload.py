"""Request bodies: read in one place, counted against what was announced.

gunicorn hands a body that ended before its Content-Length to the application as if it were whole (measured), so no
route reads ``request.data``, ``json`` or ``form`` of an upload itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any, cast

from flask import request
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import MultiPartParser

from registry.errors import Invalid, TooLarge
from registry.http import context
from registry.leaks import Watch
from storage.errors import BodyTooShort
from storage.intake import Intake

FORM_FIELDS_LIMIT_BYTES = 16 * 1024 * 1024
FORM_PARTS_LIMIT = 20_000
FILE_PARTS_LIMIT = 4
BUFFER_BYTES = 256 * 1024


class CountedBody:
    """The request's body as a stream that knows how much of it arrived and refuses more than ``limit_bytes``."""

    def __init__(
        self, stream: IO[bytes], declared_bytes: int | None, limit_bytes: int, watch: Watch | None = None
    ) -> None:
        self._watch = watch
        self._stream = stream
        self._declared_bytes = declared_bytes
        self._limit_bytes = limit_bytes
        self.received_bytes = 0

    def read(self, size: int = -1) -> bytes:
        """Read at most ``size`` bytes. Raises TooLarge, and BodyTooShort or Invalid at an end that came too early."""
        try:
            piece = self._stream.read(size)
        except (OSError, ParseException) as error:
            # A reset connection, and chunks that break off (both OSError) or are none.
            raise Invalid("the request body broke off, or is not chunked as it should be") from error
        self.received_bytes += len(piece)
        if self.received_bytes > self._limit_bytes:
            raise TooLarge("the request body", self._limit_bytes)
        if self._watch is not None:
            self._watch.feed(piece)
        if not piece and size != 0:
            self.check_complete()
        return piece

    def check_complete(self) -> None:
        """Raise BodyTooShort unless all that was announced has arrived."""
        if self._declared_bytes is not None and self.received_bytes < self._declared_bytes:
            raise BodyTooShort(self._declared_bytes, self.received_bytes)


def counted_body(limit_bytes: int, *, holds_secrets: bool = False) -> CountedBody:
    """The current request's body. Raises TooLarge at once when it announces more than the limit.

    Reading it raises TokenInside when a live token of ours comes by, but where a secret is what is sent.
    """
    declared = request.content_length
    if declared is not None and declared > limit_bytes:
        raise TooLarge("the request body", limit_bytes)
    return CountedBody(request.stream, declared, limit_bytes, None if holds_secrets else leak_watch())


def leak_watch() -> Watch | None:
    """What looks for our tokens in this request's body; nothing where no server is that could have given any out."""
    if not context.is_attached():
        return None
    who = context.identity()
    sender = who.name if who is not None else "somebody unknown"
    return context.services().leaks.watch("what you sent", f"what {sender} sent to {request.path}")


@dataclass(slots=True)
class Form:
    """A multipart form: text fields in order, and files by field name, already in the store's intake."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, tuple[str, Intake]] = field(default_factory=dict)

    def abort(self) -> None:
        """Discard files that were not committed; safe at any time."""
        for _, intake in self.files.values():
            intake.abort()


class _FilePart:
    """What Werkzeug's parser writes a file part to: straight into the intake, which hashes and encrypts on the way."""

    def __init__(self, intake: Intake) -> None:
        self.intake = intake

    def write(self, data: bytes) -> int:
        self.intake.write(data)
        return len(data)

    def seek(self, *_: Any) -> int:
        return 0

    def close(self) -> None:
        """Nothing to close: the intake ends by finish or abort."""


class _FormBody:
    """A form's body on its way through the parser, which bounds single fields only: here all texts together are.

    Knows the file parts, because their bytes leave the memory at once and do not count.
    """

    def __init__(self, body: CountedBody, make_intake: Callable[[str], Intake]) -> None:
        self._body = body
        self._make_intake = make_intake
        self._parts: list[_FilePart] = []

    def read(self, size: int = -1) -> bytes:
        """As ``CountedBody.read``. Raises TooLarge as well when the texts have become too many."""
        piece = self._body.read(size)
        in_files = sum(part.intake.size_bytes for part in self._parts)
        # The parser may still hold the last pieces of a file back, looking for the boundary.
        if self._body.received_bytes - in_files > FORM_FIELDS_LIMIT_BYTES + 2 * BUFFER_BYTES:
            raise TooLarge("the form without its files", FORM_FIELDS_LIMIT_BYTES)
        return piece

    def open_part(self, *, filename: str | None, **_: Any) -> Any:
        """Werkzeug's stream factory."""
        if len(self._parts) >= FILE_PARTS_LIMIT:
            raise Invalid(f"the form has more than {FILE_PARTS_LIMIT} files")
        part = _FilePart(self._make_intake(filename or ""))
        self._parts.append(part)
        return part

    def drain(self) -> None:
        """Read what follows the form. Raises BodyTooShort when less arrived than was announced."""
        while self._body.read(BUFFER_BYTES):
            pass
        self._body.check_complete()

    def check_complete(self) -> None:
        """Raise BodyTooShort unless all that was announced has arrived."""
        self._body.check_complete()

    def abort(self) -> None:
        """Keep none of the files."""
        for part in self._parts:
            part.intake.abort()


def read_form(make_intake: Callable[[str], Intake], *, limit_bytes: int) -> Form:
    """Parse the request's multipart form, sending each file part to ``make_intake(field's file name)``.

    Raises Invalid for a malformed or truncated form, TooLarge for one over a limit; every intake is aborted then.
    """
    boundary = request.mimetype_params.get("boundary", "")
    if request.mimetype != "multipart/form-data" or not boundary or not boundary.isascii():
        raise Invalid("send the upload as multipart/form-data")
    body = _FormBody(counted_body(limit_bytes), make_intake)
    try:
        return _parse(body, boundary.encode())
    except BaseException as error:
        body.abort()
        if isinstance(error, RequestEntityTooLarge):
            raise Invalid(f"the form has more than {FORM_PARTS_LIMIT} parts") from error
        if isinstance(error, ValueError):
            body.check_complete()
            raise Invalid(f"the multipart form cannot be read: {error}") from error
        raise


def _parse(body: _FormBody, boundary: bytes) -> Form:
    parser = MultiPartParser(
        stream_factory=cast("Any", body.open_part),
        # Never reached: ``_FormBody`` stops earlier, so that the parser's one exception means too many parts.
        max_form_memory_size=FORM_FIELDS_LIMIT_BYTES + 4 * BUFFER_BYTES,
        max_form_parts=FORM_PARTS_LIMIT,
        buffer_size=BUFFER_BYTES,
    )
    fields, files = parser.parse(cast("IO[bytes]", body), boundary, request.content_length)
    body.drain()
    form = Form({name: list(values) for name, values in fields.lists()})
    for name, storage in files.items(multi=True):
        if name in form.files:
            raise Invalid(f"the form has two files named {name!r}")
        form.files[name] = (storage.filename or "", cast("_FilePart", storage.stream).intake)
    return form
