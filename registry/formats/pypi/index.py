"""The simple index: reading an upstream's pages and writing our own (PEP 503, 592, 629, 658, 691, 700, 714, 740, 792)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from html import escape
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from packaging.utils import canonicalize_name

from registry.errors import Invalid
from registry.format import BadIndex, FileLink, Listing
from registry.formats.pypi.html_tags import tags
from registry.formats.pypi.names import listed_version, project_name
from registry.json_text import decode, encode
from registry.names import PackageKey, PackageName

JSON_TYPE = "application/vnd.pypi.simple.v1+json"
HTML_TYPE = "application/vnd.pypi.simple.v1+html"
PLAIN_TYPE = "text/html"
API_VERSION = "1.4"

_STATUSES = frozenset({"active", "archived", "deprecated", "quarantined"})
_HEX_DIGITS = {"md5": 32, "sha1": 40, "sha224": 56, "sha256": 64, "sha384": 96, "sha512": 128, "blake2b_256": 64}
_HEX = re.compile(r"[0-9a-fA-F]+\Z")
# Absolute, with nothing in it that joining or taking apart would change or refuse.
_PLAIN_URL = re.compile(r"https?://[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]{1,5})?/[A-Za-z0-9._~/%+-]*(?:#[A-Za-z0-9_=]+)?\Z")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+%-]*(?:#[A-Za-z0-9_=]+)?\Z")
_MAJOR_1 = re.compile(r"1\.[0-9]{1,4}\Z")
# ISO 8601 with an offset; ``fromisoformat`` alone would take a date without one for local time.
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(\.\d{1,12})?([Zz]|[+-]\d\d:\d\d)\Z", re.ASCII)
_ALIASES = {
    "application/vnd.pypi.simple.latest+json": JSON_TYPE,
    "application/vnd.pypi.simple.latest+html": HTML_TYPE,
}
_OFFERS = (JSON_TYPE, HTML_TYPE, PLAIN_TYPE)
_ACCEPT_PARTS = 64


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


# Reading.


def parse(name: PackageName, body: bytes, content_type: str, final_url: str, *, only: str | None = None) -> Listing:
    """Read an upstream's project page, or ``only`` one file of it where that is less work. Raises BadIndex.

    ``content_type`` decides only when the first character does not: it is often wrong behind a site's proxies. Files
    of other projects, of kinds no client installs, and with links that are not HTTP are left out.
    """
    text = body.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    first = text.lstrip()[:1]
    if first == "{" or (first != "<" and content_type.partition(";")[0].strip().endswith("json")):
        return _parse_json(name, text, final_url, only)
    return _parse_html(name, text, final_url)


def _parse_json(name: PackageName, text: str, final_url: str, only: str | None) -> Listing:
    try:
        page = decode(text)
    except (ValueError, RecursionError) as error:
        raise BadIndex(f"the index page of {name} is not JSON") from error
    if not isinstance(page, dict) or not isinstance(page.get("files"), list):
        raise BadIndex(f"the index page of {name} is JSON, but no project page")
    _check_api_version(name, _mapping(page.get("meta")).get("api-version"))
    _check_name(name, page.get("name"))
    status = _mapping(page.get("project-status"))
    links = (
        _json_link(name, entry, final_url)
        for entry in page["files"]
        if isinstance(entry, dict) and (only is None or entry.get("filename") == only)
    )
    # PEP 792's text says "state" where its example, and every server, says "status".
    return _listing(name, links, status.get("status", status.get("state")), status.get("reason"))


def _json_link(name: PackageName, entry: Mapping[str, Any], final_url: str) -> FileLink | None:
    filename, href = entry.get("filename"), entry.get("url")
    if not isinstance(filename, str) or not isinstance(href, str):
        return None
    size = entry.get("size")
    core = entry.get("core-metadata", entry.get("data-dist-info-metadata", entry.get("dist-info-metadata", False)))
    yanked = entry.get("yanked", False)
    return _link(
        name,
        filename,
        _absolute(final_url, href),
        _hashes(_mapping(entry.get("hashes"))),
        size_bytes=size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None,
        upload_time=_moment(entry.get("upload-time")),
        requires_python=entry.get("requires-python"),
        yanked=yanked if isinstance(yanked, str) and yanked else bool(yanked),
        core_metadata=_hashes(core) or True if isinstance(core, dict) else bool(core),
        provenance=_absolute(final_url, entry.get("provenance")),
    )


def _parse_html(name: PackageName, text: str, final_url: str) -> Listing:
    base: str | None = None
    meta: dict[str, str] = {}
    links: list[FileLink | None] = []
    for tag, attributes in tags(text, ("base", "meta", "a")):
        if tag == "a":
            links.append(_html_link(name, attributes, base or final_url))
        elif tag == "meta":
            meta.setdefault(attributes.get("name", "").lower(), attributes.get("content", ""))
        elif base is None and "href" in attributes:  # HTML: only the first counts
            base = _absolute(final_url, attributes["href"])
    _check_api_version(name, meta.get("pypi:repository-version", API_VERSION))
    if not links and "<" not in text:
        raise BadIndex(f"the index page of {name} is neither JSON nor HTML")
    return _listing(name, links, meta.get("pypi:project-status"), meta.get("pypi:project-status-reason"))


def _html_link(name: PackageName, attributes: Mapping[str, str], base: str) -> FileLink | None:
    url = _absolute(base, attributes.get("href"))
    if url is None:
        return None
    address, _, fragment = url.partition("#")
    algorithm, _, digest = fragment.partition("=")
    core = attributes.get("data-core-metadata", attributes.get("data-dist-info-metadata"))
    return _link(
        name,
        # The clients' rule: the last part of the path is the name, whatever the anchor's text says.
        unquote(urlsplit(address).path.rpartition("/")[2]),
        address,
        _hashes({algorithm: digest}),
        requires_python=attributes.get("data-requires-python"),
        yanked=attributes.get("data-yanked") or "data-yanked" in attributes,
        core_metadata=core is not None and (_hashes(dict([core.partition("=")[::2]])) or True),
        provenance=_absolute(base, attributes.get("data-provenance")),
    )


def _link(
    name: PackageName,
    filename: str,
    url: str | None,
    hashes: Mapping[str, str],
    *,
    size_bytes: int | None = None,
    upload_time: datetime | None = None,
    **extra: Any,
) -> FileLink | None:
    version = listed_version(name, filename)
    if version is None or url is None:
        return None
    if not isinstance(extra["requires_python"], str) or not extra["requires_python"].strip():
        extra["requires_python"] = None
    return FileLink(filename, version, url.partition("#")[0], hashes, size_bytes, upload_time, extra)


def _listing(name: PackageName, links: Iterable[FileLink | None], status: Any, reason: Any) -> Listing:
    known = status if status in _STATUSES else None
    # The first of several wins; a quarantined project offers nothing (PEP 792).
    files: dict[str, FileLink] = {}
    for link in links:
        if link is not None and known != "quarantined":
            files.setdefault(link.filename, link)
    told = reason if known and isinstance(reason, str) and reason else None
    return Listing(PackageKey("pypi", "", name), tuple(files.values()), known, told)


def _check_api_version(name: PackageName, version: Any) -> None:
    # PEP 629: another major version means that what we would read out of it is wrong.
    if not isinstance(version, str) or not _MAJOR_1.match(version):
        raise BadIndex(f"the index page of {name} has API version {ascii(version)[:40]}, not 1.x")


def _check_name(name: PackageName, said: Any) -> None:
    try:
        matches = isinstance(said, str) and project_name(said) == name
    except Invalid:
        matches = False
    if not matches:
        raise BadIndex(f"the index page of {name} is about {ascii(said)[:100]}")


def _absolute(base: str, href: Any) -> str | None:
    if not isinstance(href, str):
        return None
    # A page has thousands of links, nearly all of which need no taking apart: that was half of all reading (measured).
    if _PLAIN_URL.match(href):
        return href
    folder, slash, name = href.rpartition("/")
    if slash and ":" not in folder and not folder.endswith("/") and _PLAIN_NAME.match(name):
        place = _joined(base, folder + slash)
        return place + name if place is not None else None
    return _joined(base, href)


@lru_cache(maxsize=1024)  # of a page's links most lie in few folders
def _joined(base: str, href: str) -> str | None:
    try:
        url = urljoin(base, href.strip())
        parts = urlsplit(url)
    except ValueError:  # "http://[": not an address
        return None
    return url if parts.scheme in ("http", "https") and parts.hostname else None


def _hashes(given: Mapping[str, Any]) -> dict[str, str]:
    """Only what can be a digest of its algorithm: a wrong one would fail the install, none does not."""
    return {
        algorithm: digest.lower()
        for algorithm, digest in given.items()
        if isinstance(digest, str) and len(digest) == _HEX_DIGITS.get(algorithm) and _HEX.match(digest)
    }


def _moment(text: Any) -> datetime | None:
    matched = _MOMENT.match(text) if isinstance(text, str) else None
    if matched is None:
        return None
    fraction = (matched[2] or ".0")[:7].ljust(7, "0")
    try:
        return datetime.fromisoformat(f"{matched[1]}{fraction}{matched[3]}".upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


# Writing.


def render_json(view: ProjectView) -> bytes:
    """The project page as PEP 691 JSON, API version 1.4."""
    status = {"status": view.status or "active"} | ({"reason": view.status_reason} if view.status_reason else {})
    page = {
        "meta": _meta(view.last_serial),
        "name": view.name,
        "project-status": status,
        "versions": list(view.versions),
        "files": [_json_file(file) for file in view.files],
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


def _json_file(file: ViewFile) -> dict[str, Any]:
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
        shown["upload-time"] = _stamp(file.upload_time)
    core = _as_dict(file.core_metadata) if isinstance(file.core_metadata, Mapping) else file.core_metadata
    # PEP 714: never ``dist-info-metadata`` here. pip 22.3 to 23.0 reads that key and fails on its dictionary (measured
    # with 23.0.1); the key with ``data-`` is the one that older clients look for without harm.
    shown["core-metadata"] = shown["data-dist-info-metadata"] = core
    return shown


def _as_dict(hashes: Mapping[str, str]) -> dict[str, str]:
    # The encoder wants a dict; copying those that are one already would be a third of a large page's time.
    return hashes if isinstance(hashes, dict) else dict(hashes)


def _stamp(moment: datetime) -> str:
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


# Choosing.


def negotiate(accept: str | None, format_parameter: str | None = None) -> str | None:
    """Choose the page's type (PEP 691, RFC 9110 12.5.1). None when no type we have is acceptable.

    ``format_parameter`` is the value of ``?format=`` and wins. Without preference the answer is plain HTML, for
    browsers and old tools; a type that is named wins over one that only a wildcard allows.
    """
    if format_parameter:
        wanted = format_parameter.strip().lower().replace(" ", "+")  # an unescaped "+" in a query is a blank
        wanted = _ALIASES.get(wanted, wanted)
        return wanted if wanted in _OFFERS else None
    ranges = _accept_ranges(accept or "")
    if not ranges:
        return PLAIN_TYPE
    best: tuple[float, int, int] = (0.0, 0, 0)
    chosen: str | None = None
    for rank, offer in enumerate(_OFFERS):
        matches = [(3, offer), (2, offer.partition("/")[0] + "/*"), (1, "*/*")]
        specificity, quality = next(((level, ranges[key]) for level, key in matches if key in ranges), (0, 0.0))
        # Among types that only "*/*" allows plain HTML comes first, among named ones JSON does.
        order = (quality, specificity, rank if specificity == 1 else -rank)
        if quality > 0 and (chosen is None or order > best):
            best, chosen = order, offer
    return chosen


def _accept_ranges(accept: str) -> dict[str, float]:
    ranges: dict[str, float] = {}
    for part in accept.split(",", _ACCEPT_PARTS)[:_ACCEPT_PARTS]:
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                quality = _quality(value.strip())
        if media:
            media = _ALIASES.get(media, media)
            ranges[media] = max(quality, ranges.get(media, 0.0))
    return ranges


def _quality(text: str) -> float:
    # RFC 9110 12.4.2: 0 to 1 with three digits; what is something else asks for nothing.
    return float(text) if re.fullmatch(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?", text) else 0.0
