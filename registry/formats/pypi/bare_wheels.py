"""Wheels of an upstream that says nothing about them: what is read out of them stands in for what it leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from registry.formats.pypi.installer import Installer, likely
from registry.formats.pypi.metadata import glance
from registry.formats.pypi.names import sort_key
from registry.repos.derived import Known
from registry.repos.resolve import Offer, OfferedFile
from registry.services import Services

WHEELS_READ_AHEAD = 2


def with_read_metadata(services: Services, offer: Offer, client: Installer | None) -> Offer:
    """Add what was read out of wheels that the upstream says nothing about, and read the newest release's behind this.

    Of those what the ``client`` is likely to take: a release may have a hundred wheels, for all the platforms there are.

    Only what is known is promised (PEP 658: the digest is that of the document which is served), so that the first list of
    a package comes without and a later one with it.
    """
    bare = [file for file in offer.files if is_bare(file)]
    if not bare:
        return offer
    connections = {file.connection.id: file.connection for file in bare if file.connection is not None}
    known = services.files.derived.known(offer.key, connections)
    newest = max((file.version for file in bare), key=sort_key)
    for connection in connections.values():
        of_newest = [file for file in bare if file.connection == connection and file.version == newest]
        links = [
            file.link
            for file in likely(of_newest, client)[:WHEELS_READ_AHEAD]
            if file.link is not None and file.hashes.get("sha256") not in known
        ]
        services.files.derived.read_ahead(connection, offer.key, links, glance)
    return replace(offer, files=tuple(_told(file, known) for file in offer.files))


def is_bare(file: OfferedFile) -> bool:
    """Whether it is an upstream's wheel for which the upstream promises no metadata document."""
    return file.link is not None and file.filename.endswith(".whl") and not file.extra.get("core_metadata", False)


def _told(file: OfferedFile, known: Mapping[str, Known]) -> OfferedFile:
    found = known.get(file.hashes.get("sha256", ""))
    if found is None or not is_bare(file):
        return file
    says = file.link.upload_time if file.link is not None else None
    return replace(
        file,
        extra={**file.extra, "core_metadata": {"sha256": found.sha256}},
        upload_time=says or found.modified or file.upload_time,
    )
