"""The JSON description of a project or one of its releases, in the shape that the public index made usual. Pure.

It says in one document what the simple index says of files and an archive says of itself; tools that keep dependencies
up to date read it. Counts of downloads are not kept, and are -1 as there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from packaging.version import InvalidVersion, Version

from registry.errors import Invalid
from registry.formats.pypi.names import parse_filename, sort_key

# Fields that are texts, empty where nothing was said, and lists, null where nothing was said.
_TEXTS = (
    "summary",
    "description",
    "author",
    "author_email",
    "maintainer",
    "maintainer_email",
    "license",
    "keywords",
    "home_page",
    "download_url",
)
_NULLABLE = (
    "description_content_type",
    "license_expression",
    "license_files",
    "requires_python",
    "requires_dist",
    "provides_extra",
    "project_urls",
    "dynamic",
    "platform",
    "import_names",
    "import_namespaces",
)


@dataclass(frozen=True, slots=True)
class ReleaseFile:
    """A file as the document shows it. ``url`` is absolute, ``yanked_reason`` None while it is not yanked."""

    filename: str
    version: str
    url: str
    hashes: Mapping[str, str]
    size_bytes: int | None
    upload_time: datetime | None
    requires_python: str | None
    yanked_reason: str | None
    core_metadata: Any
    provenance: str | None


@dataclass(frozen=True, slots=True)
class Described:
    """What the document is about: one release of a project, ``fields`` as its archive has them (may be empty).

    ``project_url`` and ``release_url`` are for people; ``serial`` grows with every change of the project.
    """

    name: str
    version: str
    fields: Mapping[str, Any]
    project_url: str
    release_url: str
    serial: int
    status: str | None
    status_reason: str | None


def latest_version(files: Sequence[ReleaseFile]) -> str | None:
    """The release a project is described by: rather not yanked, then rather final, then the highest."""
    versions = {file.version for file in files}
    standing = {file.version for file in files if file.yanked_reason is None}

    def order(version: str) -> tuple[bool, bool, Any]:
        return version in standing, not _is_prerelease(version), sort_key(version)

    return max(versions, key=order, default=None)


def render(described: Described, files: Sequence[ReleaseFile], *, with_releases: bool) -> bytes:
    """The document: of the project (``with_releases``, every release with its files) or of the release alone."""
    of_release = [file for file in files if file.version == described.version]
    document: dict[str, Any] = {"info": _info(described, of_release), "last_serial": described.serial}
    if with_releases:
        releases: dict[str, list[dict[str, Any]]] = {}
        for file in sorted(files, key=lambda file: (sort_key(file.version), file.filename)):
            releases.setdefault(file.version, []).append(_file(file))
        document["releases"] = releases
    document["urls"] = [_file(file) for file in sorted(of_release, key=lambda file: file.filename)]
    # Known vulnerabilities are another service's to say; an empty list is what tools take for "none known here".
    document["vulnerabilities"] = []
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def _info(described: Described, files: Sequence[ReleaseFile]) -> dict[str, Any]:
    fields = described.fields
    info: dict[str, Any] = {name: _text(fields.get(name)) for name in _TEXTS}
    info |= {name: fields.get(name) for name in _NULLABLE}
    info |= {
        "name": described.name,
        "version": described.version,
        "classifiers": fields.get("classifiers") or [],
        "platform": ", ".join(fields.get("platforms") or []) or None,
        "requires_python": info["requires_python"]
        or next((f.requires_python for f in files if f.requires_python), None),
        "package_url": described.project_url,
        "project_url": described.project_url,
        "release_url": described.release_url,
        "docs_url": None,
        "bugtrack_url": None,
        "downloads": {"last_day": -1, "last_month": -1, "last_week": -1},
        "yanked": bool(files) and all(file.yanked_reason is not None for file in files),
        "yanked_reason": next((file.yanked_reason for file in files if file.yanked_reason), None),
        "project_status": {"status": described.status or "active", "reason": described.status_reason},
    }
    return info


def _text(value: Any) -> str:
    return ",".join(value) if isinstance(value, list) else str(value or "")


def _file(file: ReleaseFile) -> dict[str, Any]:
    packagetype, python_version = _kind(file.filename)
    uploaded = file.upload_time.astimezone(UTC) if file.upload_time is not None else None
    return {
        "comment_text": "",
        "core-metadata": file.core_metadata,
        "digests": dict(file.hashes),
        "downloads": -1,
        "filename": file.filename,
        "has_sig": False,
        "md5_digest": file.hashes.get("md5"),
        "packagetype": packagetype,
        "provenance": file.provenance,
        "python_version": python_version,
        "requires_python": file.requires_python,
        "size": file.size_bytes,
        "upload_time": uploaded.strftime("%Y-%m-%dT%H:%M:%S") if uploaded else None,
        "upload_time_iso_8601": uploaded.strftime("%Y-%m-%dT%H:%M:%S.%fZ") if uploaded else None,
        "url": file.url,
        "yanked": file.yanked_reason is not None,
        "yanked_reason": file.yanked_reason or None,
    }


def _kind(filename: str) -> tuple[str, str]:
    try:
        parsed = parse_filename(filename)
    except Invalid:  # an old archive that an index lists and nobody may publish any more
        return "sdist", "source"
    return parsed.packagetype, parsed.python_tag


def _is_prerelease(version: str) -> bool:
    try:
        return Version(version).is_prerelease
    except InvalidVersion:
        return True
