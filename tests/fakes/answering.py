"""Answers of a server that misbehaves on command: the faults there are, and how each one is played."""

from __future__ import annotations

import gzip
import http.server
import re
import socket
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any


class Fault(Enum):
    """How an answer goes wrong."""

    SILENCE = auto()  # accepted, then nothing
    SLOW_HEAD = auto()  # the head byte by byte, ``pace_seconds`` apart
    SLOW_BODY = auto()  # the body likewise
    STALL_HALF = auto()  # half of the body, then nothing
    RESET_START = auto()  # TCP reset instead of an answer
    RESET_HALF = auto()
    RESET_END = auto()  # after 99 % of the body
    CUT = auto()  # half of the body, then a clean end, with Content-Length
    CUT_UNFRAMED = auto()  # the same without Content-Length
    UNFRAMED = auto()  # all of it, but only the connection's end marks the end
    TOO_LONG = auto()  # more than Content-Length, in one piece
    BAD_CHUNK = auto()  # chunked, with a size that is no number
    CUT_CHUNKS = auto()  # chunked, without the last chunk
    CHUNKED = auto()  # chunked, and right
    TWO_LENGTHS = auto()  # two Content-Length fields that differ
    NOT_GZIP = auto()  # says gzip, is not
    HIDDEN_GZIP = auto()  # is gzip, does not say so
    GZIP = auto()  # gzip, and right
    CUT_GZIP = auto()  # gzip without its end, length as sent
    GZIP_BOMB = auto()  # 64 MiB of zeros
    BROTLI = auto()  # says br
    PARTIAL = auto()  # 206 with the first half, unasked
    LYING_304 = auto()  # 304 whatever was asked
    LOGIN_PAGE = auto()  # 200 with a sign-in form
    HUGE_HEAD = auto()  # a header line of 100 KiB
    CONTINUES = auto()  # "100 Continue" without end
    STRAY_ANSWER = auto()  # the right answer; after ``send_stray`` is set a second one, unasked
    NONSENSE = auto()  # not HTTP
    FLAPPING = auto()  # every second answer is 503, the first one too
    HELD = auto()  # half of the body (or as much as the page says), the rest once ``release`` was called
    HELD_HEAD = auto()  # nothing until then


class PartFault(Enum):
    """How an answer to a range goes wrong."""

    WHOLE = auto()  # 200 with all of it
    WHOLE_AS_PART = auto()  # all of it, which is said to be a part
    OTHER = auto()  # the part one byte further on
    UNNAMED = auto()  # does not say which part it is
    SEVERAL = auto()  # multipart/byteranges
    GROWN = auto()  # of a file that is longer by now
    OTHER_ETAG = auto()  # of another file
    SHORT = auto()  # half of it, with that length
    CUT = auto()  # half of it, then a clean end
    RESET = auto()  # half of it, then a TCP reset
    TOO_LONG = auto()  # more than Content-Length
    UNSATISFIABLE = auto()  # 416
    UNAVAILABLE = auto()  # 503
    PAGE = auto()  # a sign-in form
    PACKED = auto()  # gzip
    LIE = auto()  # other bytes, and nothing to see it by


@dataclass(frozen=True)
class Seen:
    """One request as it arrived; header names are lower-case."""

    path: str
    headers: dict[str, str]
    connection: int
    method: str = "GET"
    body: bytes = b""


@dataclass
class Page:
    """What a path answers."""

    body: bytes
    content_type: str
    status: int
    headers: Mapping[str, str]
    fault: Fault | None
    etag: str | None
    pace_seconds: float
    asked: int = 0
    takes_ranges: bool = True
    takes_head: bool = True
    part_fault: PartFault | None = None
    is_released_by_part: bool = False
    held_after_bytes: int | None = None  # half of the body unless this says otherwise
    released: threading.Event = field(default_factory=threading.Event)


LOGIN_PAGE = b"<!DOCTYPE html><html><body><form><input name=u><input type='password' name=p></form></body></html>"


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection; every request on it is logged first."""

    protocol_version = "HTTP/1.1"
    server: Any  # ``tests.fakes.upstream``: its ``owner`` has the pages, the log, and the moment of its end

    def log_message(self, *_: object) -> None:
        """The log is ``FaultyUpstream.requests``."""

    def do_POST(self) -> None:
        """As GET: the page of the path; what was posted is in the log."""
        self.do_GET()

    def do_HEAD(self) -> None:
        """The head of what a GET would bring."""
        self.do_GET()

    def do_GET(self) -> None:
        owner = self.server.owner
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        with owner.lock:
            owner.requests.append(Seen(self.path, headers, id(self.connection), self.command, body))
        self.page = owner.page_for(self.path.partition("?")[0], headers.get("accept", ""))
        if self.command == "HEAD":
            self._answer_head()
        elif self._wanted_part(headers) is not None and self.page.fault in {None, Fault.HELD, Fault.HELD_HEAD}:
            try:
                self._answer_part(headers)
            finally:  # who does not want the answer cuts it off
                if self.page.is_released_by_part:
                    owner.release(self.path.partition("?")[0])
        elif self.page.fault is None:
            self._answer_properly(headers)
        elif self.page.fault is Fault.FLAPPING:
            self._answer_properly(headers) if self.page.asked % 2 == 0 else self._send(503, b"down")
        else:
            self._answer_badly(self.page.fault)

    def _answer_properly(self, headers: Mapping[str, str]) -> None:
        page = self.page
        if page.etag is not None and headers.get("if-none-match") == page.etag:
            self._send(304, b"", length=None)
            return
        self._send(page.status, page.body, length=None if page.status in {204, 304} else len(page.body))

    def _answer_head(self) -> None:
        page = self.page
        if page.fault not in {None, Fault.HELD, Fault.HELD_HEAD} or not page.takes_head:
            is_chunked = page.fault is Fault.CHUNKED
            self._write(self._head(200, None, {"Transfer-Encoding": "chunked"}) if is_chunked else self._head(405, 0))
        else:
            self._write(self._head(page.status, len(page.body)))

    def _wanted_part(self, headers: Mapping[str, str]) -> tuple[int, int] | None:
        page, size = self.page, len(self.page.body)
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", headers.get("range", ""))
        if not wanted or not any(wanted.groups()) or page.status != 200 or not page.takes_ranges:
            return None
        start = int(wanted[1]) if wanted[1] else max(0, size - int(wanted[2]))
        stop = min(int(wanted[2]) + 1, size) if wanted[1] and wanted[2] else size
        return (start, stop) if start < stop else None

    def _answer_part(self, headers: Mapping[str, str]) -> None:
        body, size = self.page.body, len(self.page.body)
        start, stop = self._wanted_part(headers) or (0, size)
        part, half = body[start:stop], (stop - start) // 2
        place = {"Content-Range": f"bytes {start}-{stop - 1}/{size}"}
        match self.page.part_fault:
            case None:
                self._send(206, part, place)
            case PartFault.WHOLE:
                self._send(200, body)
            case PartFault.WHOLE_AS_PART:
                self._send(206, body, {"Content-Range": f"bytes 0-{size - 1}/{size}"})
            case PartFault.OTHER:
                moved = body[start - 1 : stop - 1]
                self._send(206, moved, {"Content-Range": f"bytes {start - 1}-{stop - 2}/{size}"})
            case PartFault.UNNAMED:
                self._send(206, part)
            case PartFault.SEVERAL:
                self._send(
                    206, b"--x\r\n\r\n" + part + b"\r\n--x--", {"Content-Type": "multipart/byteranges; boundary=x"}
                )
            case PartFault.GROWN:
                self._send(206, bytes(len(part)), {"Content-Range": f"bytes {start}-{stop - 1}/{size + 1000}"})
            case PartFault.OTHER_ETAG:
                self._send(206, bytes(len(part)), {**place, "ETag": '"another"'})
            case PartFault.SHORT:
                self._send(206, part[:half], place)
            case PartFault.CUT:
                self._write(self._head(206, len(part), place) + part[:half])
                self._hang_up()
            case PartFault.RESET:
                self._write(self._head(206, len(part), place) + part[:half])
                self._reset(Fault.RESET_START)
            case PartFault.TOO_LONG:
                self._write(self._head(206, len(part), place) + part + b"more")
            case PartFault.UNSATISFIABLE:
                self._send(416, b"", {"Content-Range": f"bytes */{size}"})
            case PartFault.UNAVAILABLE:
                self._send(503, b"down")
            case PartFault.PAGE:
                self._send(206, part, {**place, "Content-Type": "text/html"})
            case PartFault.PACKED:
                self._send(206, part, {**place, "Content-Encoding": "gzip"})
            case PartFault.LIE:
                self._send(206, bytes(len(part)), place)

    def _answer_badly(self, fault: Fault) -> None:
        body = self.page.body
        half = len(body) // 2
        packed = gzip.compress(body)
        match fault:
            case Fault.SILENCE:
                self._wait()
            case Fault.SLOW_HEAD:
                self._drip(self._head(200, len(body)))
            case Fault.SLOW_BODY:
                self._write(self._head(200, len(body)))
                self._drip(body)
            case Fault.STALL_HALF:
                self._write(self._head(200, len(body)) + body[:half])
                self._wait()
            case Fault.RESET_START | Fault.RESET_HALF | Fault.RESET_END:
                self._reset(fault)
            case Fault.CUT:
                self._write(self._head(200, len(body)) + body[:half])
                self._hang_up()
            case Fault.CUT_UNFRAMED | Fault.UNFRAMED:
                sent = body if fault is Fault.UNFRAMED else body[:half]
                self._write(self._head(200, None, {"Connection": "close"}) + sent)
                self._hang_up()
            case Fault.TOO_LONG:
                self._write(self._head(200, half) + body)
            case Fault.BAD_CHUNK | Fault.CUT_CHUNKS | Fault.CHUNKED:
                self._chunks(fault)
            case Fault.TWO_LENGTHS:
                self._write(self._head(200, half, {"Content-length": str(len(body))}) + body)
            case Fault.NOT_GZIP:
                self._send(200, body, {"Content-Encoding": "gzip"})
            case Fault.GZIP:
                self._send(200, packed, {"Content-Encoding": "gzip"})
            case Fault.HIDDEN_GZIP:
                self._send(200, packed)
            case Fault.CUT_GZIP:
                self._send(200, packed[:-4], {"Content-Encoding": "gzip"})
            case Fault.GZIP_BOMB:
                self._send(200, gzip.compress(bytes(64 * 1024 * 1024), 1), {"Content-Encoding": "gzip"})
            case Fault.BROTLI:
                self._send(200, body, {"Content-Encoding": "br"})
            case Fault.PARTIAL:
                self._send(206, body[:half], {"Content-Range": f"bytes 0-{half - 1}/{len(body)}"})
            case Fault.LYING_304:
                self._send(304, b"", length=None)
            case Fault.LOGIN_PAGE:
                self.page.content_type = "text/html"
                self._send(200, LOGIN_PAGE)
            case Fault.HUGE_HEAD:
                self._send(200, body, {"X-Padding": "x" * 100 * 1024})
            case Fault.CONTINUES:
                while not self.server.owner.stopping.wait(self.page.pace_seconds):
                    self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
            case Fault.STRAY_ANSWER:
                self._send(200, body)
                if self.server.owner.send_stray.wait(30):
                    self._send(200, body)
                    self.server.owner.sent_stray.set()
            case Fault.HELD | Fault.HELD_HEAD:
                sent = self._head(200, len(body)) + body
                first = half if self.page.held_after_bytes is None else self.page.held_after_bytes
                at_once = len(sent) - len(body) + first if fault is Fault.HELD else 0
                self._write(sent[:at_once])
                while not self.page.released.wait(0.05):
                    if self.server.owner.stopping.is_set():
                        self.close_connection = True
                        return
                self._write(sent[at_once:])
            case Fault.NONSENSE:
                self._write(b"220 mail.example ESMTP ready\r\n")
                self._hang_up()
            case _:
                raise AssertionError(fault)

    def _head(self, status: int, length: int | None, extra: Mapping[str, str] | None = None) -> bytes:
        fields = {"Content-Type": self.page.content_type, **self.page.headers, **(extra or {})}
        if length is not None:
            fields["Content-Length"] = str(length)
        if self.page.etag is not None:
            fields.setdefault("ETag", self.page.etag)
        lines = [f"HTTP/1.1 {status} Told So", *(f"{name}: {value}" for name, value in fields.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _send(self, status: int, body: bytes, extra: Mapping[str, str] | None = None, length: int | None = -1) -> None:
        self._write(self._head(status, len(body) if length == -1 else length, extra) + body)

    def _write(self, data: bytes) -> None:
        self.connection.sendall(data)

    def _drip(self, data: bytes) -> None:
        for value in data:
            self._write(bytes([value]))
            if self.server.owner.stopping.wait(self.page.pace_seconds):
                return

    def _wait(self) -> None:
        self.server.owner.stopping.wait(60)
        self.close_connection = True

    def _hang_up(self) -> None:
        self.connection.shutdown(socket.SHUT_WR)
        self.close_connection = True

    def _reset(self, fault: Fault) -> None:
        body = self.page.body
        if fault is not Fault.RESET_START:
            part = len(body) // 2 if fault is Fault.RESET_HALF else len(body) * 99 // 100
            self._write(self._head(200, len(body)) + body[:part])
        # A linger time of zero turns the close into a reset; the server's own shutdown would make it a clean end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.connection.close()
        self.close_connection = True

    def _chunks(self, fault: Fault) -> None:
        body = self.page.body
        half = len(body) // 2
        first = f"{half:x}\r\n".encode() + body[:half] + b"\r\n"
        rest = f"{len(body) - half:x}\r\n".encode() + body[half:] + b"\r\n0\r\n\r\n"
        self._write(self._head(200, None, {"Transfer-Encoding": "chunked"}) + first)
        if fault is Fault.CHUNKED:
            self._write(rest)
            return
        if fault is Fault.BAD_CHUNK:
            self._write(b"zz\r\n" + body[half:] + b"\r\n0\r\n\r\n")
        self._hang_up()
