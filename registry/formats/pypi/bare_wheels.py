"""Wheels of an upstream that says nothing about them: what is read out of them stands in for what it leaves out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from registry.format import Listing
from registry.formats.pypi.installer import Installer, likely
from registry.formats.pypi.metadata import glance
from registry.formats.pypi.names import sort_key
from registry.formats.pypi.reading import entries_of
from registry.repos.derived import Known
from registry.repos.resolve import Offer, OfferedFile
from registry.repos.topology import Connection
from registry.services import Services

WHEELS_READ_AHEAD = 2


def with_read_metadata(services: Services, offer: Offer, client: Installer | None) -> Offer:
    """Add what was read out of wheels that the upstream says nothing about, and read the newest release's behind this.

    Of those what the ``client`` is likely to take: a release may have a hundred wheels, for all the platforms there are.

    Only what is known is promised (PEP 658: the digest is that of the document which is served), so that the first list of
    a package comes without and a later one with it.
    """
    bare = [found for pair in offer.listings if (found := _bare_wheels(*pair)).versions]
    if not bare:
        return offer
    known = services.files.derived.known(offer.key, {each.connection.id: each.connection for each in bare})
    newest = max({version for each in bare for version in each.versions.values()}, key=sort_key)
    for each in bare:
        names = [filename for filename, version in each.versions.items() if version == newest]
        of_newest = [file for name in names if (file := _file(offer, each.connection, name)) is not None]
        links = [
            file.link
            for file in likely(of_newest, client)[:WHEELS_READ_AHEAD]
            if file.link is not None and file.hashes.get("sha256") not in known
        ]
        services.files.derived.read_ahead(each.connection, offer.key, links, glance)
    if not known:
        return offer
    of_known = [(each.connection, name) for each in bare for name in each.versions if each.sha256(name) in known]
    told = [_told(file, known) for pair in of_known if (file := _file(offer, *pair)) is not None]
    return replace(offer, own={**offer.own, **{file.filename: file for file in told}})


@dataclass(frozen=True, slots=True)
class _Wheels:
    """The wheels of an index of which it promises no metadata: versions by file name, and their digests as listed."""

    connection: Connection
    versions: Mapping[str, str]
    sha256: Callable[[str], str | None]


def _bare_wheels(connection: Connection, listing: Listing) -> _Wheels:
    entries = entries_of(listing)
    if entries is not None:
        return _Wheels(connection, entries.bare_wheels, entries.sha256)
    links = {
        link.filename: link
        for link in listing.files
        if link.filename.endswith(".whl") and not link.extra.get("core_metadata")
    }
    versions = {filename: link.version for filename, link in links.items()}
    return _Wheels(connection, versions, lambda filename: links[filename].hashes.get("sha256"))


def _file(offer: Offer, connection: Connection, filename: str) -> OfferedFile | None:
    """What is offered under the name, if that is the connection's: an earlier repository may have another."""
    file = offer.file(filename)
    is_it = file is not None and is_bare(file) and file.connection == connection
    return file if is_it else None


def is_bare(file: OfferedFile) -> bool:
    """Whether it is an upstream's wheel for which the upstream promises no metadata document."""
    return file.link is not None and file.filename.endswith(".whl") and not file.extra.get("core_metadata", False)


def _told(file: OfferedFile, known: Mapping[str, Known]) -> OfferedFile:
    found = known.get(file.hashes.get("sha256", ""))
    if found is None:
        return file
    says = file.link.upload_time if file.link is not None else None
    return replace(
        file,
        extra={**file.extra, "core_metadata": {"sha256": found.sha256}},
        upload_time=says or found.modified or file.upload_time,
    )
