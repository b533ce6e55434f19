"""Logging: one line for each event, as text or JSON, and no token in any of them."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime

from config.settings import Log

# The same shape as registry.token_shape.TOKEN_PATTERN; credentials in URLs as well.
_SECRETS = re.compile(r"\bent_[0-9A-Za-z]{49}\b|(?<=://)[^/\s@:]*:[^/\s@]*(?=@)")
_CUT_SECRET = re.compile(r"\bent_[0-9A-Za-z]{0,60}\Z")
# What moves a terminal's cursor, ends a line for some reader, or turns the text around.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]")
MOST_CHARACTERS = 8192
MOST_TRACE_CHARACTERS = 65_536
CONTINUED = "  | "
"""What each line of a trace begins with; an event begins with its time."""


def redact(text: str, most: int = MOST_CHARACTERS) -> str:
    """``text`` without tokens and URL credentials, on one line and not endless: what strangers send stays what it is.

    A log line must neither fake another nor do anything to the terminal that shows it.
    """
    shown = _SECRETS.sub("[redacted]", text[: 2 * most])
    if len(text) > 2 * most or len(shown) > most:
        # A cut may go through a token.
        shown = f"{_CUT_SECRET.sub('[redacted]', shown[:most])}... ({len(text)} characters)"
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), shown)


class TextLines(logging.Formatter):
    """``2026-01-02T03:04:05Z info entrepot.http: message``; a trace follows, each of its lines marked as part of it."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as text."""
        at = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        line = f"{at} {record.levelname.lower()} {record.name}: {redact(record.getMessage())}"
        reference = getattr(record, "reference", None)
        if reference:
            line += f" [{redact(str(reference))}]"
        if record.exc_info:
            lines = self.formatException(record.exc_info)[-MOST_TRACE_CHARACTERS:].split("\n")
            line += "".join(f"\n{CONTINUED}{redact(each)}" for each in lines)
        return line


class JsonLines(logging.Formatter):
    """One JSON object for each record, in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as JSON."""
        entry = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        for name in ("reference", "path"):
            if hasattr(record, name):
                entry[name] = redact(str(getattr(record, name)))
        if record.exc_info:
            lines = self.formatException(record.exc_info)[-MOST_TRACE_CHARACTERS:].split("\n")
            entry["trace"] = "\n".join(map(redact, lines))
        return json.dumps(entry)


def configure(settings: Log) -> None:
    """Send all records to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if settings.format == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
