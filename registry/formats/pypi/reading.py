"""An upstream's pages of the simple index (PEP 503, 592, 629, 658, 691, 700, 714, 740, 792).

A page may list ten thousand files, of which an install wants one or two: a page in JSON is decoded, and its files are
looked at when somebody asks for them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from registry.errors import Invalid
from registry.format import BadIndex, FileLink, LazyLinks, Listing
from registry.formats.pypi.html_tags import tags
from registry.formats.pypi.names import listed_version, project_name
from registry.json_text import decode
from registry.names import PackageKey, PackageName

Entry = Mapping[str, Any]
"""A file as a page in JSON describes it, unread (PEP 691)."""

_HTML_API_VERSION = "1.0"  # of a page that does not say (PEP 629)
_QUARANTINED = "quarantined"
_STATUSES = frozenset({"active", "archived", "deprecated", _QUARANTINED})
_HEX_DIGITS = {"md5": 32, "sha1": 40, "sha224": 56, "sha256": 64, "sha384": 96, "sha512": 128, "blake2b_256": 64}
_HEX = re.compile(r"[0-9a-fA-F]+\Z")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}\Z")
# Absolute, with nothing in it that joining or taking apart would change or refuse.
_PLAIN_URL = re.compile(r"https?://[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]{1,5})?/[A-Za-z0-9._~/%+-]*(?:#[A-Za-z0-9_=]+)?\Z")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+%-]*(?:#[A-Za-z0-9_=]+)?\Z")
_MAJOR_1 = re.compile(r"1\.[0-9]{1,4}\Z")
# ISO 8601 with an offset; ``fromisoformat`` alone would take a date without one for local time.
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(\.\d{1,12})?([Zz]|[+-]\d\d:\d\d)\Z", re.ASCII)


class Entries:
    """The files of a page in JSON, unread, by name; links in them start from ``address``."""

    def __init__(self, name: PackageName, address: str, by_filename: Mapping[str, Entry]) -> None:
        self._name = name
        self.address = address
        self.by_filename = by_filename

    @cached_property
    def versions(self) -> Mapping[str, str]:
        """Of each file that can be one of the project's, its version."""
        found = ((filename, listed_version(self._name, filename)) for filename in self.by_filename)
        return {filename: version for filename, version in found if version is not None}

    @cached_property
    def bare_wheels(self) -> Mapping[str, str]:
        """Those of wheels without metadata beside them."""
        entries = self.by_filename
        return {
            filename: version
            for filename, version in self.versions.items()
            if filename.endswith(".whl") and not is_promised(entries[filename])
        }

    def sha256(self, filename: str) -> str | None:
        """The digest as it is listed, unchecked."""
        hashes = self.by_filename[filename].get("hashes")
        said = hashes.get("sha256") if isinstance(hashes, dict) else None
        return said.lower() if isinstance(said, str) else None


def parse(name: PackageName, body: bytes, content_type: str, final_url: str) -> Listing:
    """Read an upstream's project page. Raises BadIndex.

    ``content_type`` decides only when the first character does not: it is often wrong behind a site's proxies. Files
    of other projects, of kinds no client installs, and with links that are not HTTP are left out.

    ``extra`` of a page in JSON has its ``entries``.
    """
    text = body.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    first = text.lstrip()[:1]
    if first == "{" or (first != "<" and content_type.partition(";")[0].strip().endswith("json")):
        return _parse_json(name, text, final_url)
    return _parse_html(name, text, final_url)


def _parse_json(name: PackageName, text: str, final_url: str) -> Listing:
    try:
        page = decode(text)
    except (ValueError, RecursionError) as error:
        raise BadIndex(f"the index page of {name} is not JSON") from error
    if not isinstance(page, dict) or not isinstance(page.get("files"), list):
        raise BadIndex(f"the index page of {name} is JSON, but no project page")
    _check_api_version(name, _mapping(page.get("meta")).get("api-version"))
    _check_name(name, page.get("name"))
    said = _mapping(page.get("project-status"))
    # PEP 792's text says "state" where its example, and every server, says "status".
    status, reason = _status(said.get("status", said.get("state")), said.get("reason"))
    entries: dict[str, Entry] = {}
    if status != _QUARANTINED:
        for entry in page["files"]:
            filename = entry.get("filename") if isinstance(entry, dict) else None
            if isinstance(filename, str):
                entries.setdefault(filename, entry)  # the first of several wins

    def link(filename: str) -> FileLink | None:
        return _json_link(name, filename, entries[filename], final_url) if filename in entries else None

    extra = {"entries": Entries(name, final_url, entries)}
    return Listing(PackageKey("pypi", "", name), LazyLinks(entries, link), status, reason, extra)


def _json_link(name: PackageName, filename: str, entry: Entry, final_url: str) -> FileLink | None:
    yanked, core = entry.get("yanked", False), promised_metadata(entry)
    return _link(
        name,
        filename,
        absolute(final_url, entry.get("url")),
        digests(_mapping(entry.get("hashes"))),
        size_bytes=size(entry),
        upload_time=moment(entry.get("upload-time")),
        requires_python=entry.get("requires-python"),
        yanked=yanked if isinstance(yanked, str) and yanked else bool(yanked),
        core_metadata=digests(core) or True if isinstance(core, dict) else bool(core),
        provenance=absolute(final_url, entry.get("provenance")),
    )


def promised_metadata(entry: Entry) -> Any:
    """What an entry says of its file's metadata document, under whichever of the three names (PEP 658, 714)."""
    return entry.get("core-metadata", entry.get("data-dist-info-metadata", entry.get("dist-info-metadata", False)))


def is_promised(entry: Entry) -> bool:
    """Whether there is a metadata document beside the file."""
    said = promised_metadata(entry)
    return isinstance(said, dict) or bool(said)


def entries_of(listing: Listing) -> Entries | None:
    """The entries of a page that was JSON; None for one in HTML."""
    found = listing.extra.get("entries")
    return found if isinstance(found, Entries) else None


def size(entry: Entry) -> int | None:
    """The file's size in bytes; None where it is not said, or nonsense."""
    said = entry.get("size")
    return said if isinstance(said, int) and not isinstance(said, bool) and said >= 0 else None


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
            base = absolute(final_url, attributes["href"])
    _check_api_version(name, meta.get("pypi:repository-version", _HTML_API_VERSION))
    if not links and "<" not in text:
        raise BadIndex(f"the index page of {name} is neither JSON nor HTML")
    status, reason = _status(meta.get("pypi:project-status"), meta.get("pypi:project-status-reason"))
    # The first of several wins; a quarantined project offers nothing (PEP 792).
    files: dict[str, FileLink] = {}
    for link in links:
        if link is not None and status != _QUARANTINED:
            files.setdefault(link.filename, link)
    return Listing(PackageKey("pypi", "", name), tuple(files.values()), status, reason)


def _html_link(name: PackageName, attributes: Mapping[str, str], base: str) -> FileLink | None:
    url = absolute(base, attributes.get("href"))
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
        digests({algorithm: digest}),
        requires_python=attributes.get("data-requires-python"),
        yanked=attributes.get("data-yanked") or "data-yanked" in attributes,
        core_metadata=core is not None and (digests(dict([core.partition("=")[::2]])) or True),
        provenance=absolute(base, attributes.get("data-provenance")),
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


def _status(said: Any, reason: Any) -> tuple[str | None, str | None]:
    status = said if isinstance(said, str) and said in _STATUSES else None
    return status, reason if status and isinstance(reason, str) and reason else None


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


def absolute(base: str, href: Any) -> str | None:
    """The HTTP address that a link on the page at ``base`` leads to; None for what is none."""
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


def digests(given: Mapping[str, Any]) -> dict[str, str]:
    """Of what a page says only what can be a digest of its algorithm: a wrong one would fail the install, none does not."""
    if len(given) == 1:  # as nearly all have it
        only = given.get("sha256")
        return {"sha256": only.lower()} if isinstance(only, str) and _SHA256.match(only) else _digests(given)
    return _digests(given)


def _digests(given: Mapping[str, Any]) -> dict[str, str]:
    return {
        algorithm: digest.lower()
        for algorithm, digest in given.items()
        if isinstance(digest, str) and len(digest) == _HEX_DIGITS.get(algorithm) and _HEX.match(digest)
    }


def moment(text: Any) -> datetime | None:
    """The moment of an ``upload-time``, in UTC; None for what is none."""
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
