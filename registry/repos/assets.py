"""Opening a published asset by its names, for the parts of the server that read packages without a request."""

from __future__ import annotations

import io

from sqlalchemy import select

from registry.db import Database
from registry.errors import NotFound
from registry.models import Asset, Blob, Domain, Package, PackageVersion, Repository
from registry.repos import shelf, states
from registry.stores import DomainStores, handle_of
from storage.reader import open_file


def open_asset(
    db: Database,
    stores: DomainStores,
    *,
    domain: str,
    repository: str,
    format_name: str,
    namespace: str,
    name: str,
    version: str,
    filename: str,
    sha256: str,
) -> io.BufferedReader:
    """A file of a version, if it is still the one of that digest, and nobody has archived or quarantined it.

    Raises NotFound, and what the store raises.
    """
    with db.read() as session:
        blob = session.scalar(
            select(Blob)
            .join(Asset, Asset.blob_id == Blob.id)
            .join(PackageVersion, PackageVersion.id == Asset.version_id)
            .join(Package, Package.id == PackageVersion.package_id)
            .join(Repository, Repository.id == Package.repository_id)
            .join(Domain, Domain.id == Repository.domain_id)
            .where(
                Domain.name == domain,
                Repository.name == repository,
                Package.format == format_name,
                Package.namespace == namespace,
                Package.name == name,
                Package.status != shelf.QUARANTINED,
                PackageVersion.version == version,
                PackageVersion.status != states.ARCHIVED,
                Asset.filename == filename,
                Asset.sha256 == sha256,
            )
        )
    if blob is None:
        raise NotFound("file", f"{filename} ({sha256[:12]}…) of {name} {version} in {domain}/{repository}")
    return open_file(stores.of(blob.domain_id), handle_of(blob))
