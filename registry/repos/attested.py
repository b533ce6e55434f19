"""Who attested a version's files: what their provenance documents say of the publisher."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import select

from registry.db import Database
from registry.models import Asset, Blob, Domain, Package, PackageVersion, Repository
from registry.names import PackageKey
from registry.stores import DomainStores, handle_of
from storage.reader import open_file

_LARGEST_BYTES = 16 * 1024 * 1024


def publishers(
    db: Database, stores: DomainStores, path: tuple[str, str], key: PackageKey, version: str
) -> dict[str, tuple[str, ...]]:
    """File name → the publishers that its provenance names; ``path`` is domain and repository.

    A file without provenance is not there, one whose provenance names nobody has none. A publisher is written
    ``KIND:NAME``: ``Entrepot:ci-bot`` for the account that uploaded it here, ``GitHub:acme/client`` for what an upstream
    vouches for. Raises what the store raises.
    """
    with db.read() as session:
        rows = session.execute(
            select(Asset.filename, Blob)
            .join(Blob, Blob.id == Asset.provenance_blob_id)
            .join(PackageVersion, PackageVersion.id == Asset.version_id)
            .join(Package, Package.id == PackageVersion.package_id)
            .join(Repository, Repository.id == Package.repository_id)
            .join(Domain, Domain.id == Repository.domain_id)
            .where(
                Domain.name == path[0],
                Repository.name == path[1],
                Package.format == key.format,
                Package.namespace == key.namespace,
                Package.name == key.name,
                PackageVersion.version == version,
            )
        ).all()
    found = {}
    for filename, blob in rows:
        with open_file(stores.of(blob.domain_id), handle_of(blob)) as body:
            found[filename] = tuple(dict.fromkeys(_named(body.read(_LARGEST_BYTES))))
    return found


def _named(body: bytes) -> Iterator[str]:
    """The publishers of a provenance document (PEP 740); nobody for a document of another kind."""
    try:
        document = json.loads(body)
    except ValueError:  # cut off: larger than any that was let in
        return
    bundles = document.get("attestation_bundles") if isinstance(document, dict) else None
    for bundle in bundles if isinstance(bundles, list) else ():
        publisher = bundle.get("publisher") if isinstance(bundle, dict) else None
        if isinstance(publisher, dict):
            yield f"{publisher.get('kind', '')}:{_name(publisher)}"


def _name(publisher: Mapping[str, Any]) -> str:
    claims = publisher.get("claims")
    for holder in (publisher, claims if isinstance(claims, dict) else {}):
        for field in ("account", "repository", "email"):
            if isinstance(holder.get(field), str):
                return str(holder[field])
    return ""
