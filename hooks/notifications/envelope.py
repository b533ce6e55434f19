"""What is sent: an event as CloudEvents 1.0 in JSON, structured mode. Pure.

    {"specversion": "1.0", "id": "17", "source": "https://packages.example", "type": "org.entrepot.asset.published.v1",
     "subject": "default/dev/pypi/acme/1.0", "time": "…", "datacontenttype": "application/json", "data": {…}}

``data`` is thin: names, numbers and digests, by which a receiver that may looks up the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
MOST_BYTES = 20 * 1024
_LONGEST_TEXT = 512
_LONGEST_SUBJECT = 1024


def compose(
    *, event_id: str, kind: str, source: str, subject: str, occurred_at: datetime, data: Mapping[str, Any]
) -> str:
    """The body, at most ``MOST_BYTES`` long in UTF-8; what is too long for that leaves its long fields out."""
    envelope: dict[str, Any] = {
        "specversion": "1.0",
        "id": event_id,
        "source": source,
        "type": f"org.entrepot.{kind}.v1",
        "subject": subject[:_LONGEST_SUBJECT],
        "time": occurred_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": dict(data),
    }
    if not subject:
        del envelope["subject"]  # CloudEvents: a subject is a non-empty text
    body = _text(envelope)
    if len(body.encode()) > MOST_BYTES:
        short = {key: value for key, value in data.items() if len(_text(value)) <= _LONGEST_TEXT}
        envelope["data"] = dict(list(short.items())[:20]) | {"truncated": True}
        body = _text(envelope)
    return body


def _text(value: Any) -> str:
    # Lone surrogates have no UTF-8; escaped they are JSON all the same.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text
