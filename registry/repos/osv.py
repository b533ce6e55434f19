"""Reading advisories in the Open Source Vulnerability format (schema version 1). Pure.

Of a document is kept what decides which versions it is about, and what a person needs to find the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from registry.errors import Invalid
from registry.format import Format
from registry.names import PackageKey

SEVERITIES = ("low", "moderate", "high", "critical")
UNKNOWN = "unknown"
LONGEST_ID = 100
_LONGEST_SUMMARY = 500
_MOST_AFFECTED = 500
_MOST_VERSIONS = 20_000
_MOST_EVENTS = 2000
_RANGES = {"SEMVER", "ECOSYSTEM"}
_WORDS = {"LOW": "low", "MODERATE": "moderate", "MEDIUM": "moderate", "HIGH": "high", "CRITICAL": "critical"}


@dataclass(frozen=True, slots=True)
class Affected:
    """A package that it is about: these versions, and those in these ranges (lists of OSV's events)."""

    key: PackageKey
    versions: tuple[str, ...]
    ranges: tuple[tuple[Mapping[str, str], ...], ...]
    fixed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """An advisory as it was read. ``affected`` holds what is of a format that is known here."""

    id: str
    summary: str
    severity: str
    aliases: tuple[str, ...]
    url: str
    published_at: datetime | None
    modified_at: datetime
    withdrawn_at: datetime | None
    affected: tuple[Affected, ...]


def read(document: Any, formats: Mapping[str, Format]) -> Document:
    """Read one document. Raises Invalid naming what is wrong, for what is no OSV document."""
    if not isinstance(document, dict):
        raise Invalid("an advisory is a JSON object in the OSV format")
    name = document.get("id")
    if not isinstance(name, str) or not name.isprintable() or not 1 <= len(name) <= LONGEST_ID or " " in name:
        raise Invalid("an advisory has an id of 1 to 100 characters")
    modified = _moment(document.get("modified"), name)
    if modified is None:
        raise Invalid(f"advisory {name} does not say when it was modified")
    affected = document.get("affected") or []
    if not isinstance(affected, list) or len(affected) > _MOST_AFFECTED:
        raise Invalid(f"advisory {name} has no list of at most {_MOST_AFFECTED} affected packages")
    aliases = document.get("aliases")
    return Document(
        id=name,
        summary=_text(document.get("summary") or document.get("details")),
        severity=_severity(document, affected),
        aliases=tuple(each for each in aliases[:50] if _is_text(each)) if isinstance(aliases, list) else (),
        url=_url(document.get("references")),
        published_at=_moment(document.get("published"), name),
        modified_at=modified,
        withdrawn_at=_moment(document.get("withdrawn"), name),
        affected=tuple(found for each in affected if (found := _affected(each, formats, name)) is not None),
    )


def is_affected(
    version: str, versions: Sequence[str], ranges: Sequence[Sequence[Mapping[str, str]]], sort_key: Callable[[str], Any]
) -> bool:
    """Whether a version is among those that are named, or in a range (OSV, "Evaluation")."""
    if version in versions:
        return True
    at = sort_key(version)
    for events in ranges:
        is_in = False
        for kind, written in ordered(events, sort_key):
            if kind == "introduced" and (written == "0" or at >= sort_key(written)):
                is_in = True
            elif (kind == "fixed" and at >= sort_key(written)) or (kind == "last_affected" and at > sort_key(written)):
                is_in = False
        if is_in:
            return True
    return False


def ordered(events: Sequence[Mapping[str, str]], sort_key: Callable[[str], Any]) -> list[tuple[str, str]]:
    """The events of a range (kind, version) in the order of their versions; of two at one version the fix comes last."""
    return sorted(
        ((kind, written) for event in events for kind, written in event.items()),
        key=lambda event: (event[1] != "0", sort_key(event[1]), event[0] != "introduced"),
    )


def _affected(node: Any, formats: Mapping[str, Format], name: str) -> Affected | None:
    package = node.get("package") if isinstance(node, dict) else None
    if not isinstance(package, dict):
        return None
    ecosystem, written = package.get("ecosystem"), package.get("name")
    known = next((each for each in formats.values() if each.osv_ecosystem and each.osv_ecosystem == ecosystem), None)
    if known is None or not isinstance(written, str):
        return None
    try:
        key = known.key(written)
    except Invalid:
        return None
    versions = [each for each in _list(node.get("versions")) if _is_text(each)]
    ranges = [
        _events(each.get("events"))
        for each in _list(node.get("ranges"))
        if isinstance(each, dict) and each.get("type") in _RANGES
    ]
    if len(versions) > _MOST_VERSIONS or sum(map(len, ranges)) > _MOST_EVENTS:
        raise Invalid(f"advisory {name} names too many versions of {key.path}")
    fixed = dict.fromkeys(event["fixed"] for events in ranges for event in events if "fixed" in event)
    return Affected(key, tuple(versions), tuple(tuple(events) for events in ranges if events), tuple(fixed))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and 0 < len(value) <= 255


def _events(events: Any) -> list[dict[str, str]]:
    """The events of a range, each with its one kind; ``limit`` says nothing of which versions are affected."""
    return [
        {kind: event[kind]}
        for event in _list(events)
        if isinstance(event, dict)
        for kind in ("introduced", "fixed", "last_affected")
        if _is_text(event.get(kind))
    ]


def _severity(document: Mapping[str, Any], affected: list[Any]) -> str:
    """The word of whoever wrote it, else what the vector of CVSS 3 comes to; the worst of several."""
    holders = [document, *(each for each in affected if isinstance(each, dict))]
    found = []
    for holder in holders:
        own = holder.get("database_specific")
        word = _WORDS.get(str(own.get("severity")).upper()) if isinstance(own, dict) else None
        found += [word] if word else []
    if not found:
        for holder in holders:
            for each in _list(holder.get("severity")):
                if isinstance(each, dict) and each.get("type") == "CVSS_V3":
                    found += [word] if (word := _rating(str(each.get("score", "")))) else []
    return max(found, key=SEVERITIES.index) if found else UNKNOWN


_CVSS = {
    "AV": {"N": 0.85, "A": 0.62, "L": 0.55, "P": 0.2},
    "AC": {"L": 0.77, "H": 0.44},
    "UI": {"N": 0.85, "R": 0.62},
    "C": {"H": 0.56, "L": 0.22, "N": 0.0},
}
_CVSS |= {"I": _CVSS["C"], "A": _CVSS["C"]}
_PRIVILEGES = {"N": (0.85, 0.85), "L": (0.62, 0.68), "H": (0.27, 0.5)}


def _rating(vector: str) -> str | None:
    """The word for a vector's base score (CVSS 3.1, section 7.1); None for what is no vector, or scores nothing."""
    metrics = dict(part.partition(":")[::2] for part in vector.split("/"))
    try:
        value = {name: _CVSS[name][metrics[name]] for name in _CVSS}
        is_changed = {"U": False, "C": True}[metrics["S"]]
        privileges = _PRIVILEGES[metrics["PR"]][is_changed]
    except KeyError:
        return None
    loss = 1 - (1 - value["C"]) * (1 - value["I"]) * (1 - value["A"])
    impact = 7.52 * (loss - 0.029) - 3.25 * (loss - 0.02) ** 15 if is_changed else 6.42 * loss
    if impact <= 0:
        return None
    ease = 8.22 * value["AV"] * value["AC"] * privileges * value["UI"]
    score = math.ceil(round(min((1.08 if is_changed else 1.0) * (impact + ease), 10) * 10, 4)) / 10
    return "low" if score < 4 else "moderate" if score < 7 else "high" if score < 9 else "critical"


def _moment(value: Any, name: str) -> datetime | None:
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise Invalid(f"advisory {name} has a time that cannot be read: {str(value)[:40]!a}") from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else ""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:_LONGEST_SUMMARY]


def _url(references: Any) -> str:
    """Where to read more: the advisory's own page, else the first that is named."""
    found = [each for each in references if isinstance(each, dict)] if isinstance(references, list) else []
    found.sort(key=lambda each: each.get("type") != "ADVISORY")
    urls = [str(each.get("url")) for each in found]
    return next(
        (url for url in urls if url.startswith(("https://", "http://")) and len(url) <= 1000 and url.isprintable()), ""
    )
