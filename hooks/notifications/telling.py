"""An event in a line for people, and the page that shows what it is about. Values in, text out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from hooks.notifications.filters import place_of

LONGEST_LINE = 500
_LONGEST_WORD = 160
_NAMED = (
    "pipeline",
    "execution",
    "stage",
    "action",
    "project",
    "number",
    "application",
    "deployment_group",
    "deployment",
    "target",
    "brings",
    "rollback_of",
    "user",
    "state",
    "verdict",
    "status",
)
_WHO = ("by", "started_by", "initiator")
_WHY = ("reason", "error", "message", "summary", "comment")


def line(kind: str, data: Mapping[str, Any]) -> str:
    """What happened, where, what it is about, who did it and why, as far as the event says; without control characters."""
    about = [f"{name.replace('_', ' ')} {_word(data[name])}" for name in _NAMED if _is_word(data.get(name))]
    who = next((f"by {_word(data[name])}" for name in _WHO if _is_word(data.get(name))), "")
    place = place_of(data).path
    told = f"{kind}: {place}" if place else f"{kind}:"
    rest = ", ".join([*about, who] if who else about)
    told += f" ({rest})" if rest and place else f" {rest}" if rest else ""
    why = list(dict.fromkeys(_word(data[name]) for name in _WHY if _is_word(data.get(name))))
    if why:
        told += f": {'; '.join(why)}"
    return "".join(char if char.isprintable() else " " for char in told)[:LONGEST_LINE]


def _is_word(value: Any) -> bool:
    return (isinstance(value, str) and bool(value)) or (isinstance(value, int) and not isinstance(value, bool))


def _word(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= _LONGEST_WORD else f"{text[:_LONGEST_WORD]}…"


def page(data: Mapping[str, Any]) -> str:
    """The page that shows what an event is about, from the server's root; empty where there is none."""
    if isinstance(data.get("execution"), int):
        return f"/executions/{data['execution']}"
    for name, folder in (
        ("build", "builds"),
        ("build_batch", "build-batches"),
        ("deployment", "deployments"),
        ("pipeline", "pipelines"),
        ("webhook", "webhooks"),
    ):
        if isinstance(data.get(name), str):
            return f"/{folder}/{quote(data[name], safe='')}"
    if isinstance(data.get("application"), str):
        group = data.get("deployment_group")
        rest = f"/groups/{quote(group, safe='')}" if isinstance(group, str) else ""
        return f"/applications/{quote(data['application'], safe='')}{rest}"
    place = place_of(data)
    if place.domain and place.repository and place.format and place.package:
        parts = (place.domain, place.repository, place.format, *place.package.split("/"))
        version = f"/-/{quote(place.version, safe='')}" if place.version else ""
        return "/packages/" + "/".join(quote(part, safe="@") for part in parts) + version
    if place.domain and place.repository:
        return f"/repositories/{quote(place.domain, safe='')}/{quote(place.repository, safe='')}"
    return ""
