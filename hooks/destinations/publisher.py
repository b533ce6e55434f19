"""Bringing a pinned version to a destination: its files out of the store, byte for byte, by the format's own protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import select

from hooks.destinations import store
from hooks.destinations.store import DestinationSecret, Sealer
from registry.db import Database
from registry.errors import Conflict, Invalid, NotFound, UpstreamUnavailable
from registry.format import Format
from registry.models import Asset, Domain, Package, PackageVersion, Repository
from registry.names import PackageKey, PackageName
from registry.outward import Outgoing, OutgoingFile, Outward, Sent
from registry.repos.assets import open_asset
from registry.stores import DomainStores
from registry.upstream.answers import Upstream
from registry.upstream.guard import AddressPolicy
from registry.upstream.outgoing import Site
from storage.errors import Damaged, Missing


@dataclass(frozen=True, slots=True)
class Order:
    """What goes where: the files (name → SHA-256) of a version as they are in ``repository`` of its domain."""

    destination: str
    domain: str
    repository: str
    key: PackageKey
    version: str
    assets: Mapping[str, str]
    tag: str


@dataclass(frozen=True, slots=True)
class _Found:
    upstream: Upstream
    index_url: str
    rows: Mapping[str, Any]


class Stopped(Exception):
    """Whoever asked for it wants no more of it."""


class DestinationPublisher:
    """Publishes to destinations. Safe for many threads; no transaction is open while anything is sent."""

    def __init__(
        self,
        db: Database,
        stores: DomainStores,
        formats: Mapping[str, Format],
        outward: Mapping[str, Outward],
        policy: AddressPolicy,
        *,
        sealer: Sealer,
        ca_bundle: str | None = None,
    ) -> None:
        self._db = db
        self._stores = stores
        self._formats = formats
        self._outward = outward
        self._policy = policy
        self._sealer = sealer
        self._ca_bundle = ca_bundle

    def publish(self, order: Order, should_stop: Callable[[], bool]) -> Sequence[Sent]:
        """Bring all files of the order to its destination; what is there with the same bytes is left alone.

        Repeating it is harmless. Raises NotFound, Conflict or Invalid for what will not be taken, UpstreamUnavailable
        and StorageError for what may pass, and Stopped between two files.
        """
        protocol = self._outward.get(order.key.format)
        if protocol is None:
            raise Conflict(f"versions of {order.key.format} are not published outside")
        if order.tag and not protocol.takes_tag:
            raise Invalid(f"configuration Tag: {order.key.format} knows no tags")
        found = self._find(order)
        files = tuple(self._file(order, name, found.rows[name]) for name in sorted(order.assets))
        written = self._formats[order.key.format].display_name(order.key)
        version = Outgoing(order.key, written, order.version, files, order.tag or "latest")
        site = Site(found.upstream, found.index_url)
        sent: list[Sent] = []
        try:
            for each in protocol.publish(site, version):
                sent.append(each)
                if should_stop():
                    raise Stopped
        except (Missing, Damaged) as error:
            raise Conflict(f"a file of {written} {order.version} cannot be read: {error}") from error
        finally:
            site.close()
        return sent

    def _find(self, order: Order) -> _Found:
        with self._db.read() as session:
            row = store.find(session, order.destination)
            store.check_use(row, order.key.format, f"{order.domain}/{order.repository}")
            credential = store.opened(self._sealer, row)
            upstream = Upstream(
                id=row.id,
                base_url=row.url,
                policy=self._policy,
                credential=_pair(credential),
                ca_bundle=self._ca_bundle,
                token=credential.secret if credential is not None and not credential.user else None,
                ca_pem=row.ca_pem,
            )
            rows = {
                asset.filename: asset
                for asset in session.execute(
                    select(Asset.filename, Asset.sha256, Asset.size_bytes, Asset.hashes, Asset.extra)
                    .join(PackageVersion, PackageVersion.id == Asset.version_id)
                    .join(Package, Package.id == PackageVersion.package_id)
                    .join(Repository, Repository.id == Package.repository_id)
                    .join(Domain, Domain.id == Repository.domain_id)
                    .where(
                        Domain.name == order.domain,
                        Repository.name == order.repository,
                        Package.format == order.key.format,
                        Package.namespace == order.key.namespace,
                        Package.name == order.key.name,
                        PackageVersion.version == order.version,
                    )
                )
            }
        for filename, sha256 in order.assets.items():
            place = f"{order.domain}/{order.repository}"
            if filename not in rows:
                raise NotFound("file", f"{filename} of {order.key.path} {order.version} in {place}")
            if rows[filename].sha256 != sha256:
                raise Conflict(f"{filename} has digest {rows[filename].sha256} in {place}, and {sha256} was to go out")
        return _Found(upstream, row.index_url, rows)

    def _file(self, order: Order, filename: str, row: Any) -> OutgoingFile:
        opens = partial(
            open_asset,
            self._db,
            self._stores,
            domain=order.domain,
            repository=order.repository,
            format_name=order.key.format,
            namespace=order.key.namespace,
            name=PackageName(order.key.name),
            version=order.version,
            filename=filename,
            sha256=order.assets[filename],
        )
        return OutgoingFile(filename, row.size_bytes, order.assets[filename], row.hashes, row.extra, opens)


def _pair(credential: DestinationSecret | None) -> tuple[str, str] | None:
    return (credential.user, credential.secret) if credential is not None and credential.user else None


__all__ = ["DestinationPublisher", "Order", "Sent", "Stopped", "UpstreamUnavailable"]
