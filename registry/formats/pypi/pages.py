"""A project's page out of what is offered.

An entry of an upstream's page in JSON becomes one of ours without an object in between: of the ten thousand that a page
may have nobody looks at more than a few. As objects 5,000 of them took 240 ms of processor time to read and render, so
they take 110 (measured); both ways give the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from registry.formats.pypi.names import sort_key
from registry.formats.pypi.reading import (
    Entries,
    absolute,
    digests,
    entries_of,
    moment,
    promised_metadata,
    size,
)
from registry.formats.pypi.writing import ProjectView, ViewFile, file_href, json_file, json_page, render_json, stamp
from registry.names import PackageName
from registry.repos.resolve import Offer, OfferedFile

# As ``writing.stamp`` writes them and as the largest index does; days that not each month has are for ``moment``.
_STAMP = re.compile(
    r"([12]\d{3}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d)(\.\d{6})?Z\Z", re.ASCII
)


def listed(offer: Offer) -> Iterator[tuple[str, str]]:
    """Name and version of each file, once. Of some the entry may turn out to be useless; ``offer.file`` has them not."""
    for file in offer.own.values():
        yield file.filename, file.version
    seen = set(offer.own)
    for _, listing in offer.listings:
        entries = entries_of(listing)
        versions = {link.filename: link.version for link in listing.files} if entries is None else entries.versions
        yield from ((name, version) for name, version in versions.items() if name not in seen)
        seen.update(versions)


@dataclass(frozen=True, slots=True)
class Addresses:
    """What links begin with: ``root`` is the repository's address, without a slash at its end (see ``absolute``).

    ``files`` is the place of all files: below ``root``, or relative to the page.
    """

    root: str
    files: str = "../../files"

    @classmethod
    def absolute(cls, root: str) -> Addresses:
        """With links to files in full. pip takes a sixth of its time to join relative ones to the page's (measured)."""
        return cls(root, f"{root}/files")


def view(offer: Offer, addresses: Addresses) -> ProjectView:
    """The page to render, in the order of releases."""
    files = sorted(offer.files, key=lambda file: (sort_key(file.version), file.version, file.filename))
    return ProjectView(
        name=offer.key.name,
        files=tuple(_view(offer.key.name, file, addresses) for file in files),
        versions=tuple(dict.fromkeys(file.version for file in files)),
        status=offer.status,
        status_reason=offer.status_reason,
    )


def as_json(offer: Offer, addresses: Addresses) -> tuple[bytes, bool]:
    """The page as ``render_json`` has it, and whether links to provenance are in it, which are never relative."""
    if any(entries_of(listing) is None for _, listing in offer.listings):
        shown = view(offer, addresses)
        return render_json(shown), any(file.provenance for file in shown.files)
    name = offer.key.name
    found = {file.filename: (file.version, json_file(_view(name, file, addresses))) for file in _overlaid(offer)}
    for _, listing in offer.listings:
        entries = entries_of(listing)
        assert entries is not None
        for filename, version in entries.versions.items():
            if filename not in found:
                passed = _pass_on(name, filename, version, entries, addresses)
                if passed is not None:
                    found[filename] = version, passed
    # By the rank of its release: comparing versions themselves for each pair of files would take longer than the rest.
    releases = sorted({version for version, _ in found.values()}, key=lambda version: (sort_key(version), version))
    rank = {version: number for number, version in enumerate(releases)}
    files = sorted(found.values(), key=lambda each: (rank[each[0]], each[1]["filename"]))
    shown_files = [file for _, file in files]
    page = json_page(name, shown_files, releases, offer.status, offer.status_reason)
    return page, any(file["provenance"] for file in shown_files)


def _overlaid(offer: Offer) -> Iterator[OfferedFile]:
    for filename in offer.own:
        file = offer.file(filename)
        if file is not None:
            yield file


def _view(name: str, file: OfferedFile, addresses: Addresses) -> ViewFile:
    extra = file.extra
    return ViewFile(
        filename=file.filename,
        href=file_href(f"{addresses.files}/{name}/", file.filename),
        hashes={"sha256": file.hashes["sha256"]} if "sha256" in file.hashes else dict(file.hashes),
        size_bytes=file.size_bytes,
        upload_time=file.upload_time,
        requires_python=extra.get("requires_python"),
        yanked=False if file.yanked_reason is None else (file.yanked_reason or True),
        core_metadata=extra.get("core_metadata", False),
        provenance=provenance_url(addresses.root, name, file),
    )


def _pass_on(
    name: PackageName, filename: str, version: str, entries: Entries, addresses: Addresses
) -> dict[str, Any] | None:
    """An entry as one of ours, None for one without an address: what ``reading`` and ``writing`` together make of it."""
    entry = entries.by_filename[filename]
    if absolute(entries.address, entry.get("url")) is None:
        return None
    requires, yanked, core = entry.get("requires-python"), entry.get("yanked", False), promised_metadata(entry)
    quoted = _quoted(filename)
    has_provenance = absolute(entries.address, entry.get("provenance")) is not None
    shown: dict[str, Any] = {
        "filename": filename,
        "url": f"{addresses.files}/{name}/{quoted}",
        "hashes": _shown_digests(entry.get("hashes")),
        "requires-python": requires if isinstance(requires, str) and requires.strip() else None,
        "yanked": yanked if isinstance(yanked, str) and yanked else bool(yanked),
        "provenance": f"{addresses.root}/integrity/{name}/{_quoted(version)}/{quoted}/provenance"
        if has_provenance
        else None,
    }
    size_bytes = size(entry)
    if size_bytes is not None:
        shown["size"] = size_bytes
    uploaded = _shown_moment(entry.get("upload-time"))
    if uploaded is not None:
        shown["upload-time"] = uploaded
    promised = digests(core) or True if isinstance(core, dict) else bool(core)
    shown["core-metadata"] = shown["data-dist-info-metadata"] = promised
    return shown


def _shown_digests(said: Any) -> dict[str, str]:
    found = digests(said) if isinstance(said, dict) else {}
    return {"sha256": found["sha256"]} if len(found) > 1 and "sha256" in found else found


def _shown_moment(said: Any) -> str | None:
    plain = _STAMP.match(said) if isinstance(said, str) else None
    if plain is not None:
        return plain[0] if plain[2] else f"{plain[1]}.000000Z"
    at = moment(said)
    return stamp(at) if at is not None else None


def _quoted(text: str) -> str:
    """A file name or version as part of a path: of what can be in one only these two are not for themselves."""
    return quote(text, safe="") if "+" in text or "!" in text else text


def provenance_url(root: str, name: str, file: OfferedFile) -> str | None:
    """Where we serve what was attested of a file (PEP 740); None where there is nothing."""
    has_own = file.kept is not None and file.kept.provenance_blob_id is not None
    if not has_own and not file.extra.get("provenance"):
        return None
    return f"{root}/integrity/{name}/{quote(file.version)}/{quote(file.filename, safe='')}/provenance"
