"""From what a repository offers under a name to the packument that lists it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Response, request

from registry.errors import NotFound
from registry.formats.npm import names
from registry.formats.npm.manifest import from_text, repository_url, to_text
from registry.formats.npm.packument import (
    ABBREVIATED_TYPE,
    FULL_TYPE,
    Entry,
    Packument,
    parse_time,
    render_abbreviated,
    render_full,
    render_version,
)
from registry.formats.npm.publication import revision_text
from registry.http import context
from registry.http.delivery import is_private
from registry.http.delivery import repository_url as address
from registry.http.responses import send_document
from registry.names import PackageKey
from registry.repos import shelf
from registry.repos.documents import Document, Stamp, make_document
from registry.repos.resolve import Offer, OfferedFile
from registry.services import Services

NAME = names.FORMAT_NAME
_FROM_LATEST = ("description", "homepage", "keywords", "author", "bugs", "license", "contributors")


def packument_of(services: Services, offer: Offer) -> Packument:
    """The document to render. Raises NotFound when no version is left to list."""
    entries = _entries(offer)
    if not entries:
        raise NotFound("package", names.display_name(offer.key))
    tags = _tags(offer, entries)
    extra = offer.extras[0] if offer.extras else {}
    document = from_text(extra["document"]) if "document" in extra else _own_document(services, offer, entries, tags)
    return Packument(
        name=names.display_name(offer.key),
        entries=entries,
        tags=tags,
        document=document,
        revision=revision_text(offer.key, offer.revision),
        created=parse_time(extra.get("created")),
        modified=parse_time(extra.get("modified")),
    )


def _entries(offer: Offer) -> list[Entry]:
    # A package is deprecated in npm by a warning on each of its versions.
    of_all = (offer.status_reason or "this package is deprecated") if offer.status == shelf.DEPRECATED else ""
    found: dict[str, Entry] = {}
    for file in offer.files:
        # A yanked version can still be had by who pins its file; the first repository that has a version decides.
        if file.yanked_reason is None and file.version not in found and "manifest" in file.extra:
            found[file.version] = Entry(
                file.version,
                file.filename,
                file.extra["manifest"],
                file.extra["dist"],
                file.deprecated or file.extra.get("deprecated", "") or of_all,
                file.upload_time,
            )
    return sorted(found.values(), key=lambda entry: names.sort_key(entry.version))


def _tags(offer: Offer, entries: list[Entry]) -> dict[str, str]:
    """Tags of rows, else of the first upstream that has some; none points at what is not listed, and latest is there."""
    listed = {entry.version for entry in entries}
    said = offer.tags or next((extra["tags"] for extra in offer.extras if extra.get("tags")), {})
    tags = {tag: version for tag, version in said.items() if version in listed}
    if "latest" not in tags:
        stable = [entry.version for entry in entries if not names.is_prerelease(entry.version)]
        tags = {"latest": stable[-1] if stable else entries[-1].version, **tags}
    return tags


def _own_document(services: Services, offer: Offer, entries: list[Entry], tags: dict[str, str]) -> dict[str, Any]:
    """What is said of a package that is published here: what its latest version says."""
    latest = next(entry for entry in entries if entry.version == tags["latest"])
    manifest = from_text(latest.manifest)
    document = {field: manifest[field] for field in _FROM_LATEST if field in manifest}
    if url := repository_url(manifest):
        document["repository"] = {"type": "git", "url": url}
    publishers = {
        name: None
        for entry in entries
        if (name := from_text(entry.manifest).get("_npmUser", {}).get("name")) is not None
    }
    document["maintainers"] = [{"name": name, "email": ""} for name in publishers]
    kept = next((file.kept for file in offer.files if file.version == latest.version), None)
    said = services.files.described(context.admission(), offer.key, kept) if kept is not None else None
    if said is not None and said.description:
        document["readme"] = said.description
        document["readmeFilename"] = said.metadata.get("readme_filename", "README.md")
    return document


def _document(
    services: Services, key: PackageKey, kind: str, content_type: str, render: Callable[[Packument, str], bytes]
) -> Document:
    """A rendered answer about a package, out of memory while nothing changed that it depends on."""
    admission, base_url = context.admission(), address(services, NAME)
    place = (admission.repository_id, NAME, key.path, f"{kind} {base_url}")
    stamp = Stamp(admission.topology_revision, admission.package_revision)
    document = services.documents.get(place, stamp, services.clock())
    if document is None:
        offer = services.resolver.offer(admission, key)
        body = render(packument_of(services, offer), base_url)
        stamp = Stamp(admission.topology_revision, offer.revision)
        document = make_document(body, content_type, stamp, offer.valid_until, stale=offer.is_stale)
        services.documents.put(place, document)
    return document


def send_packument(services: Services, name: str) -> Response:
    """The document, whole or abbreviated as the client accepts it; who means to change it gets the whole."""
    key = names.package_key(name)
    if _wants_abbreviated() and "write" not in request.args:
        document = _document(services, key, "abbreviated", ABBREVIATED_TYPE, render_abbreviated)
    else:
        document = _document(services, key, "full", FULL_TYPE, render_full)
    return send_document(document, private=is_private())


def send_version(services: Services, name: str, wanted: str) -> Response:
    """One version's manifest, by version or tag: the text that stands in the packument."""
    key = names.package_key(name)

    def render(packument: Packument, base_url: str) -> bytes:
        version = packument.tags.get(wanted, wanted)
        for entry in packument.entries:
            if entry.version == version:
                return render_version(packument.name, entry, base_url).encode("ascii")
        raise NotFound("version", f"{packument.name}@{wanted}")

    return send_document(_document(services, key, f"version {wanted[:300]}", FULL_TYPE, render), private=is_private())


def send_tags(services: Services, name: str) -> Response:
    """Tag → version."""

    def render(packument: Packument, _: str) -> bytes:
        return to_text(dict(packument.tags)).encode("ascii")

    return send_document(_document(services, names.package_key(name), "tags", FULL_TYPE, render), private=is_private())


def find_version(services: Services, key: PackageKey, version: str) -> OfferedFile:
    """The file that a version is listed with. Raises NotFound."""
    for file in services.resolver.offer(context.admission(), key).files:
        if file.version == version:
            return file
    raise NotFound("version", f"{names.display_name(key)}@{version}")


def _wants_abbreviated() -> bool:
    """Only when it is named: ``*/*`` means the whole, which is what clients that say nothing read."""
    said = {media.lower(): quality for media, quality in request.accept_mimetypes}
    return said.get(ABBREVIATED_TYPE, 0) > 0 and said[ABBREVIATED_TYPE] >= said.get(FULL_TYPE, 0)
