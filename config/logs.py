"""Logging: one line for each event, as text or JSON, and no token in any of them."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime

from config.settings import Log

# The same shape as registry.accounts.TOKEN_PATTERN; credentials in URLs as well.
_SECRETS = re.compile(r"\bent_[0-9A-Za-z]{49}\b|(?<=://)[^/\s@:]*:[^/\s@]*(?=@)")


def redact(text: str) -> str:
    """``text`` without tokens and URL credentials, and on one line (a log line must not be able to fake another)."""
    return _SECRETS.sub("[redacted]", text).replace("\r", "\\r").replace("\n", "\\n")


class TextLines(logging.Formatter):
    """``2026-01-02T03:04:05Z info entrepot.http: message``; a trace follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as text."""
        at = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        line = f"{at} {record.levelname.lower()} {record.name}: {redact(record.getMessage())}"
        reference = getattr(record, "reference", None)
        if reference:
            line += f" [{reference}]"
        if record.exc_info:
            line += "\n" + _SECRETS.sub("[redacted]", self.formatException(record.exc_info))
        return line


class JsonLines(logging.Formatter):
    """One JSON object for each record."""

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
            entry["trace"] = _SECRETS.sub("[redacted]", self.formatException(record.exc_info))
        return json.dumps(entry, ensure_ascii=False)


def configure(settings: Log) -> None:
    """Send all records to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if settings.format == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
