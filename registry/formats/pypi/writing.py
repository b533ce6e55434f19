"""Our pages of the simple index, from what is offered (PEP 503, 592, 629, 658, 691, 700, 714, 740, 792)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any
from urllib.parse import quote

from packaging.utils import canonicalize_name

from registry.json_text import encode

API_VERSION = "1.4"


@dataclass(slots=True)  # not frozen: a page has thousands, and each would take three times as long to make
class ViewFile:
    """A file as a page of ours shows it. ``href`` is relative to the page and percent-encoded (see ``file_href``).

    ``yanked`` is False, True or the reason; ``core_metadata`` False, True or its hashes by algorithm; ``provenance`` an
    absolute URL. ``size_bytes`` and ``upload_time`` are left out where they are None.
    """

    filename: str
    href: str
    hashes: Mapping[str, str]
    size_bytes: int | None = None
    upload_time: datetime | None = None
    requires_python: str | None = None
    yanked: bool | str = False
    core_metadata: bool | Mapping[str, str] = False
    provenance: str | None = None


@dataclass(frozen=True, slots=True)
class ProjectView:
    """A project's page. ``versions`` are all its release numbers, also those without files (PEP 700).

    ``status`` None is shown as ``active`` (PEP 792).
    """

    name: str
    files: Sequence[ViewFile]
    versions: Sequence[str] = ()
    status: str | None = None
    status_reason: str | None = None
    last_serial: int | None = None


def file_href(prefix: str, filename: str) -> str:
    """A link to a file below ``prefix`` (ends in a slash). ``+`` becomes ``%2B``: some clients read it as a blank."""
    return prefix + quote(filename, safe="")


def render_json(view: ProjectView) -> bytes:
    """The project page as PEP 691 JSON, API version 1.4."""
    files = [json_file(file) for file in view.files]
    return json_page(view.name, files, view.versions, view.status, view.status_reason, view.last_serial)


def json_page(
    name: str,
    files: Sequence[Mapping[str, Any]],
    versions: Sequence[str],
    status: str | None,
    status_reason: str | None,
    last_serial: int | None = None,
) -> bytes:
    """The same, of files as ``json_file`` has them."""
    page = {
        "meta": _meta(last_serial),
        "name": name,
        "project-status": {"status": status or "active"} | ({"reason": status_reason} if status_reason else {}),
        "versions": list(versions),
        "files": list(files),
    }
    return _dump(page)


def render_html(view: ProjectView) -> bytes:
    """The project page as PEP 503 HTML, which is frozen at API version 1.4 (PEP 833)."""
    head = [f'<meta name="pypi:project-status" content="{escape(view.status or "active")}">']
    if view.status_reason:
        head.append(f'<meta name="pypi:project-status-reason" content="{escape(view.status_reason)}">')
    return _page(f"Links for {view.name}", head, [_anchor(file) for file in view.files])


def render_list_json(names: Iterable[str], last_serial: int | None = None) -> bytes:
    """The list of projects as PEP 691 JSON."""
    return _dump({"meta": _meta(last_serial), "projects": [{"name": name} for name in names]})


def render_list_html(names: Iterable[str]) -> bytes:
    """The list of projects as PEP 503 HTML. Names may be as their authors wrote them; the relative links are canonical."""
    return _page(
        "Simple index", [], [f'<a href="{quote(canonicalize_name(name))}/">{escape(name)}</a>' for name in names]
    )


def _meta(last_serial: int | None) -> dict[str, Any]:
    return {"api-version": API_VERSION} | ({} if last_serial is None else {"_last-serial": last_serial})


def _dump(page: Mapping[str, Any]) -> bytes:
    return encode(page).encode("ascii")


def json_file(file: ViewFile) -> dict[str, Any]:
    """A file's entry of a page in JSON."""
    shown: dict[str, Any] = {
        "filename": file.filename,
        "url": file.href.replace("+", "%2B"),
        "hashes": _as_dict(file.hashes),
        "requires-python": file.requires_python,
        "yanked": file.yanked,
        "provenance": file.provenance,
    }
    if file.size_bytes is not None:
        shown["size"] = file.size_bytes
    if file.upload_time is not None:
        shown["upload-time"] = stamp(file.upload_time)
    core = _as_dict(file.core_metadata) if isinstance(file.core_metadata, Mapping) else file.core_metadata
    # PEP 714: never ``dist-info-metadata`` here. pip 22.3 to 23.0 reads that key and fails on its dictionary (measured
    # with 23.0.1); the key with ``data-`` is the one that older clients look for without harm.
    shown["core-metadata"] = shown["data-dist-info-metadata"] = core
    return shown


def _as_dict(hashes: Mapping[str, str]) -> dict[str, str]:
    # The encoder wants a dict; copying those that are one already would be a third of a large page's time.
    return hashes if isinstance(hashes, dict) else dict(hashes)


def stamp(moment: datetime) -> str:
    """A moment as ``upload-time`` has it."""
    # PEP 700: UTC, ``Z``, at most microseconds. Always six digits, so that texts sort like moments.
    in_utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return in_utc.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def _anchor(file: ViewFile) -> str:
    algorithm = "sha256" if "sha256" in file.hashes else next(iter(file.hashes), None)
    fragment = f"#{algorithm}={file.hashes[algorithm]}" if algorithm else ""
    parts = [f'<a href="{escape(file.href.replace("+", "%2B") + fragment)}"']
    if file.requires_python:
        parts.append(f'data-requires-python="{escape(file.requires_python)}"')
    if file.yanked is not False:  # an empty reason is a valid yank (PEP 592)
        parts.append(f'data-yanked="{escape(file.yanked) if isinstance(file.yanked, str) else ""}"')
    if file.core_metadata:
        hashes = file.core_metadata if isinstance(file.core_metadata, Mapping) else {}
        value = escape(f"sha256={hashes['sha256']}" if "sha256" in hashes else "true")
        parts.append(f'data-core-metadata="{value}" data-dist-info-metadata="{value}"')
    if file.provenance:
        parts.append(f'data-provenance="{escape(file.provenance)}"')
    return " ".join(parts) + f">{escape(file.filename)}</a>"


def _page(title: str, head: Iterable[str], anchors: Iterable[str]) -> bytes:
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta name="pypi:repository-version" content="{API_VERSION}">',
            *head,
            f"<title>{escape(title)}</title>",
            "</head>",
            "<body>",
            f"<h1>{escape(title)}</h1>",
            *(f"{anchor}<br>" for anchor in anchors),
            "</body>",
            "</html>",
            "",
        ]
    ).encode()
