"""A build's log as it is written: by the server's event stream, or where that is not to be had by asking again and again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

from registry.commands.client import Client, Failed, Refused, Unreachable
from registry.commands.output import say

FOLLOW_SECONDS = 1.0
UNREACHABLE_SECONDS = 300.0
# No such route (an older server), too many followers, or something on the way that lets no stream through.
_NO_STREAM = frozenset({404, 405, 406, 429, 501, 502, 503, 504})


@dataclass(slots=True)
class Follower:
    """Reads one log. ``offset`` is the byte to go on at, after each piece."""

    client: Client
    build_id: str
    offset: int
    streams: bool = True

    def pieces(self, *, follow: bool) -> Iterator[tuple[bytes, bool]]:
        """The log as far as it goes, or with ``follow`` until the build has ended: (bytes, is the end). Raises Failed."""
        patience = UNREACHABLE_SECONDS
        has_ended = False
        while not has_ended:
            try:
                for data, has_ended in self._streamed() if follow and self.streams else self._asked():
                    patience = UNREACHABLE_SECONDS
                    yield data, has_ended
            except Refused as error:
                if not (follow and self.streams) or error.status not in _NO_STREAM:
                    raise
                self.streams = False
                continue
            except Unreachable as error:
                patience -= FOLLOW_SECONDS
                if not follow or patience <= 0:
                    raise
                say(f"{error.message}; going on at byte {self.offset}")
                time.sleep(FOLLOW_SECONDS)
                continue
            if not follow:
                return
            if not has_ended and not self.streams:
                time.sleep(FOLLOW_SECONDS)

    def _asked(self) -> Iterator[tuple[bytes, bool]]:
        """All that is there by now."""
        while True:
            chunk, headers = self.client.read("builds", self.build_id, "log", **{"from": self.offset})
            self.offset = int(headers["X-Next-Offset"])
            has_ended = headers["X-Build-Ended"] == "true"
            yield chunk, has_ended
            if has_ended or not chunk:
                break

    def _streamed(self) -> Iterator[tuple[bytes, bool]]:
        """What comes until the server ends its answer."""
        for name, data in self.client.events("builds", self.build_id, "log", "stream", **{"from": self.offset}):
            try:
                told = json.loads(data)
                text, following = told.get("text", ""), int(told["next"])
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise Failed("the server's event stream cannot be read") from error
            self.offset = following
            yield text.encode(errors="surrogateescape"), name == "end"
