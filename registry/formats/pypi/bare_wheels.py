"""Wheels of an upstream that says nothing about them: what is read out of them stands in for what it leaves out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from registry.formats.pypi.installer import Installer, likely
from registry.formats.pypi.metadata import glance
from registry.formats.pypi.names import sort_key
from registry.formats.pypi.reading import entries_of, is_promised
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
    bare = list(_bare(offer))
    if not bare:
        return offer
    connections = {each.connection.id: each.connection for each in bare}
    known = services.files.derived.known(offer.key, connections)
    newest = max({each.version for each in bare}, key=sort_key)
    for connection in connections.values():
        files = (_file(offer, each) for each in bare if each.version == newest and each.connection == connection)
        of_newest = [file for file in files if file is not None]
        links = [
            file.link
            for file in likely(of_newest, client)[:WHEELS_READ_AHEAD]
            if file.link is not None and file.hashes.get("sha256") not in known
        ]
        services.files.derived.read_ahead(connection, offer.key, links, glance)
    told = (_file(offer, each) for each in bare if each.sha256 in known)
    return replace(offer, own={**offer.own, **{file.filename: _told(file, known) for file in told if file is not None}})


@dataclass(slots=True)  # not frozen: a page has thousands
class _Bare:
    """A wheel of which its index promises no metadata; ``sha256`` as it is listed."""

    filename: str
    version: str
    sha256: str | None
    connection: Connection


def _bare(offer: Offer) -> Iterator[_Bare]:
    """The lists are told without looking at the rest of each file."""
    for connection, listing in offer.listings:
        entries = entries_of(listing)
        if entries is None:
            for link in listing.files:
                if link.filename.endswith(".whl") and not link.extra.get("core_metadata"):
                    yield _Bare(link.filename, link.version, link.hashes.get("sha256"), connection)
            continue
        for filename, version in entries.versions.items():
            entry = entries.by_filename[filename]
            if filename.endswith(".whl") and not is_promised(entry):
                hashes = entry.get("hashes")
                said = hashes.get("sha256") if isinstance(hashes, dict) else None
                yield _Bare(filename, version, said.lower() if isinstance(said, str) else None, connection)


def _file(offer: Offer, bare: _Bare) -> OfferedFile | None:
    """What is offered under the name, if that is the file: an earlier repository may have another."""
    file = offer.file(bare.filename)
    is_it = file is not None and is_bare(file) and file.connection == bare.connection
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
