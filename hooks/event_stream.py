"""Server-sent events as a response (HTML Living Standard §9.2): resumable, never cached, never held back by a proxy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Response, request

from registry.errors import Invalid

RECONNECT_MS = 1000


@dataclass(frozen=True, slots=True)
class Event:
    """An event, or with no ``name`` a comment that keeps the connection alive. ``id`` is where a client goes on."""

    name: str = ""
    data: Mapping[str, Any] | None = None
    id: str = ""


def last_event_id(otherwise: str) -> str:
    """Where the client stopped, by its header; else ``otherwise``. Raises Invalid."""
    found = request.headers.get("Last-Event-ID", "") or otherwise
    if len(found) > 200 or not found.isprintable():
        raise Invalid("Last-Event-ID is not one of this stream's")
    return found


def respond(events: Iterator[Event], on_close: Callable[[], None]) -> Response:
    """Send events as they come. ``on_close`` is called when the answer ends, also if it never began."""
    response = Response(_lines(events), content_type="text/event-stream; charset=utf-8")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"  # nginx would keep it until a buffer is full
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    response.call_on_close(on_close)
    return response


def _lines(events: Iterator[Event]) -> Iterator[bytes]:
    yield f"retry: {RECONNECT_MS}\n\n".encode()
    for event in events:
        if not event.name:
            yield b": still there\n\n"
            continue
        head = f"id: {event.id}\n" if event.id else ""
        yield f"{head}event: {event.name}\ndata: {json.dumps(event.data)}\n\n".encode()
