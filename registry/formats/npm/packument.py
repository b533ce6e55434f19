"""Packuments: the document that lists a package's versions, read from upstreams and rendered for clients. Pure.

A version's manifest stays a JSON text from the index that gave it to the answer that lists it: documents of 10 MB with
5,000 versions are normal, and as objects they would take five times that memory, for each process and package.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urljoin

from registry.format import BadIndex, FileLink, Listing
from registry.formats.npm import integrity, names
from registry.formats.npm.manifest import abbreviated, from_text, to_text
from registry.json_text import decode
from registry.names import PackageKey

FULL_TYPE = "application/json"
ABBREVIATED_TYPE = "application/vnd.npm.install-v1+json"

# Said once for all versions, or made by us; the rest of an upstream's document is passed on.
_NOT_PASSED_ON = frozenset(
    {"_id", "_rev", "name", "versions", "time", "dist-tags", "_attachments", "modified", "_etag", "_lastModified"}
)
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,20}(?:Z|[+-][0-9]{2}:[0-9]{2})\Z")


@dataclass(frozen=True, slots=True)
class Entry:
    """A version to list: ``manifest`` and ``dist`` are JSON texts of objects that are not empty."""

    version: str
    filename: str
    manifest: str
    dist: str
    deprecated: str
    time: datetime | None


@dataclass(frozen=True, slots=True)
class Packument:
    """A package to render. ``document`` is what is said of the package as a whole."""

    name: str
    entries: Sequence[Entry]
    tags: Mapping[str, str]
    document: Mapping[str, Any]
    revision: str
    created: datetime | None
    modified: datetime | None


def parse(key: PackageKey, body: bytes, final_url: str) -> Listing:
    """Read an upstream's packument, full or abbreviated. A version that cannot be offered is left out. Raises BadIndex."""
    document = _load(body)
    name = names.display_name(key)
    if document.get("name") != name:
        raise BadIndex("it is not the document of this package")
    times = document.get("time")
    times = times if isinstance(times, dict) else {}
    versions = document.get("versions")
    links: list[FileLink] = []
    taken: set[str] = set()
    for version, manifest in (versions if isinstance(versions, dict) else {}).items():
        link = _link(key, version, manifest, times.get(version), final_url, taken)
        if link is not None:
            links.append(link)
            taken.add(link.filename)
    return Listing(key, tuple(links), extra=_package_extra(document, times, {link.version for link in links}))


def _load(body: bytes) -> dict[str, Any]:
    try:
        document = decode(body)
    except (ValueError, RecursionError) as error:
        raise BadIndex("it is not JSON") from error
    if not isinstance(document, dict):
        raise BadIndex("it is not a JSON object")
    return document


def _link(
    key: PackageKey, version: object, manifest: object, time: object, final_url: str, taken: set[str]
) -> FileLink | None:
    dist = manifest.get("dist") if isinstance(manifest, dict) else None
    tarball = dist.get("tarball") if isinstance(dist, dict) else None
    if not isinstance(manifest, dict) or not isinstance(dist, dict) or not isinstance(tarball, str):
        return None
    if not isinstance(version, str) or not names.is_listed_version(version) or not tarball:
        return None
    filename = names.listed_filename(key, version, tarball)
    if filename in taken:
        filename = names.tarball_name(key, version)
        if filename in taken:
            return None
    said = manifest.get("deprecated")
    listed = {name: value for name, value in manifest.items() if name not in ("dist", "deprecated")}
    listed.update(name=names.display_name(key), version=version)
    try:
        extra: dict[str, Any] = {
            "manifest": to_text(listed),
            "dist": to_text({name: value for name, value in dist.items() if name != "tarball"}),
        }
        # Joining thousands of absolute URLs costs more than reading them.
        url = tarball if tarball.startswith(("https://", "http://")) else urljoin(final_url, tarball)
    except (ValueError, RecursionError):
        return None  # numbers beyond all bounds; nothing that JavaScript clients could read
    if said:
        extra["deprecated"] = said if isinstance(said, str) else "this version is deprecated"
    return FileLink(filename, version, url, integrity.promised(dist), upload_time=parse_time(time), extra=extra)


def _package_extra(document: Mapping[str, Any], times: Mapping[str, Any], versions: set[str]) -> dict[str, Any]:
    tags = document.get("dist-tags")
    rest = {name: value for name, value in document.items() if name not in _NOT_PASSED_ON}
    try:
        text = to_text(rest)
    except (ValueError, RecursionError):
        text = "{}"
    return {
        "document": text,
        "tags": {
            tag: version
            for tag, version in (tags if isinstance(tags, dict) else {}).items()
            if isinstance(version, str) and version in versions
        },
        "created": times.get("created") if isinstance(times.get("created"), str) else None,
        "modified": _said_modified(document, times),
    }


def _said_modified(document: Mapping[str, Any], times: Mapping[str, Any]) -> str | None:
    for said in (times.get("modified"), document.get("modified")):
        if isinstance(said, str):
            return said
    return None


def parse_time(said: object) -> datetime | None:
    """A moment as packuments write it, or None for anything else."""
    if not isinstance(said, str) or not _TIME.match(said):
        return None
    try:
        return datetime.fromisoformat(said).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def write_time(moment: datetime) -> str:
    """A moment as JavaScript writes it: UTC, milliseconds, Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def render_full(packument: Packument, base_url: str) -> bytes:
    """The whole document; ``base_url`` is the repository's and ends in a slash."""
    head = {
        "_id": packument.name,
        "_rev": packument.revision,
        "name": packument.name,
        "dist-tags": dict(packument.tags),
    }
    rest = {name: value for name, value in packument.document.items() if name not in head}
    versions = ",".join(
        f"{to_text(entry.version)}:{render_version(packument.name, entry, base_url)}" for entry in packument.entries
    )
    parts = [to_text(head)[:-1], f',"versions":{{{versions}}}', f',"time":{to_text(_times(packument))}']
    if rest:
        parts.append("," + to_text(rest)[1:-1])
    return ("".join(parts) + "}").encode("ascii")


def render_abbreviated(packument: Packument, base_url: str) -> bytes:
    """What installing needs; with ``time``, which release-age rules of clients would else fetch the whole for."""
    versions = ",".join(
        f"{to_text(entry.version)}:{_short_version(packument.name, entry, base_url)}" for entry in packument.entries
    )
    times = _times(packument)
    head = {"name": packument.name, "dist-tags": dict(packument.tags)}
    tail = {"modified": times["modified"], "time": times}
    return f'{to_text(head)[:-1]},"versions":{{{versions}}},{to_text(tail)[1:]}'.encode("ascii")


def render_version(name: str, entry: Entry, base_url: str) -> str:
    """One version's manifest, the same text in the whole document and alone."""
    deprecated = f',"deprecated":{to_text(entry.deprecated)}' if entry.deprecated else ""
    return f'{entry.manifest[:-1]}{deprecated},"dist":{_dist(name, entry, base_url)}}}'


def tarball_url(name: str, filename: str, base_url: str) -> str:
    """Where a tarball is, below the repository: clients send their token only there."""
    return f"{base_url}{quote(name, safe='@/~')}/-/{quote(filename, safe='~')}"


def _short_version(name: str, entry: Entry, base_url: str) -> str:
    short = to_text(abbreviated(from_text(entry.manifest)))
    return render_version(
        name, Entry(entry.version, entry.filename, short, entry.dist, entry.deprecated, None), base_url
    )


def _dist(name: str, entry: Entry, base_url: str) -> str:
    tarball = to_text(tarball_url(name, entry.filename, base_url))
    dist = entry.dist
    if '"attestations"' in dist:
        found = from_text(dist)
        attestations = found.get("attestations")
        if isinstance(attestations, dict):
            url = f"{base_url}-/npm/v1/attestations/{quote(name, safe='@~')}@{quote(entry.version)}"
            dist = to_text({**found, "attestations": {**attestations, "url": url}})
    return f'{{"tarball":{tarball}}}' if dist == "{}" else f'{dist[:-1]},"tarball":{tarball}}}'


def _times(packument: Packument) -> dict[str, str]:
    known = [entry.time for entry in packument.entries if entry.time is not None]
    created = packument.created or min(known, default=None)
    modified = packument.modified or max(known, default=None)
    found = {
        "created": write_time(created) if created else "1970-01-01T00:00:00.000Z",
        "modified": write_time(modified) if modified else "1970-01-01T00:00:00.000Z",
    }
    found.update({entry.version: write_time(entry.time) for entry in packument.entries if entry.time is not None})
    return found
