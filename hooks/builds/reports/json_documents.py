"""JSON reports, read whole: bounded in bytes and in the number of objects and lists. Pure."""

from __future__ import annotations

from typing import IO, Any

from hooks.builds.reports.model import Malformed
from registry import json_text

MOST_BYTES = 16 * 1024 * 1024
MOST_CONTAINERS = 500_000


def read_document(stream: IO[bytes]) -> Any:
    """The value of a JSON file. Raises Malformed."""
    text = stream.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise Malformed(f"is larger than {MOST_BYTES // 1024**2} MiB")
    if text.count(b"[") + text.count(b"{") > MOST_CONTAINERS:
        raise Malformed(f"has more than {MOST_CONTAINERS} objects and lists")
    try:
        return json_text.decode(text.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError) as error:
        raise Malformed(f"is not JSON: {' '.join(str(error).split())[:150]}") from error


def texts(value: Any) -> str:
    """A JSON text; anything else is empty."""
    return value if isinstance(value, str) else ""


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects in a JSON list; anything else is left out."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
