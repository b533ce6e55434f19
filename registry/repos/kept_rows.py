"""The rows of a file that is kept by reference: made by plain statements, since each file of a cold install makes them.

Through the mapper they took a sixth of the processor time of a cold ``npm install``, and so a thirtieth (sampled); nobody
looks at them as objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, bindparam, insert, select, update
from sqlalchemy.orm import Session

from registry.db import table_of
from registry.errors import UpstreamUnavailable
from registry.models import Asset, Blob, Package, PackageVersion, RetiredFilename
from registry.models.package import new_revision
from registry.names import PackageKey
from registry.repos import shelf, states
from registry.repos.group_patterns import Ruling
from registry.repos.origins import Ask, Controls, Facts, Place, Source, decide
from registry.stores import require_key_in_use
from storage.blobs import BlobHandle, Digest, Locator

BY_UPSTREAM = "upstream"


@dataclass(frozen=True, slots=True)
class KeptRow:
    """What is noted of a file that came from an upstream."""

    display_name: str
    version: str
    summary: str
    yanked_reason: str | None
    filename: str
    hashes: Mapping[str, str]
    extra: Mapping[str, Any]
    published_at: datetime


@dataclass(frozen=True, slots=True)
class WayIn:
    """How a file gets into a repository (through its own connection, or that of an upstream), and its package group."""

    source: Source
    ruling: Ruling


@dataclass(frozen=True, slots=True)
class KeptBlob:
    """The domain's one body of a digest: which row, and how it is opened."""

    id: int
    handle: BlobHandle


_PACKAGE, _VERSION, _ASSET, _BLOB, _RETIRED = (
    table_of(each) for each in (Package, PackageVersion, Asset, Blob, RetiredFilename)
)
_FIND_BLOB = select(_BLOB.c.id, _BLOB.c.locator, _BLOB.c.sha256, _BLOB.c.size_bytes, _BLOB.c.envelope).where(
    _BLOB.c.domain_id == bindparam("domain"), _BLOB.c.sha256 == bindparam("sha256")
)
_TOUCH_BLOB = update(_BLOB).where(_BLOB.c.id == bindparam("blob")).values(touched_at=bindparam("now"))
_FIND_PACKAGE = select(_PACKAGE.c.id, _PACKAGE.c.publish, _PACKAGE.c.upstream, _PACKAGE.c.origin).where(
    _PACKAGE.c.repository_id == bindparam("repository"),
    _PACKAGE.c.format == bindparam("format"),
    _PACKAGE.c.namespace == bindparam("namespace"),
    _PACKAGE.c.name == bindparam("name"),
)
_FIRST_CAME = (
    update(_PACKAGE)
    .where(_PACKAGE.c.id == bindparam("package"), _PACKAGE.c.origin == shelf.PREPARED)
    .values(origin=shelf.UPSTREAM)
)
_FIND_ASSET = select(_ASSET.c.id).where(
    _ASSET.c.package_id == bindparam("package"), _ASSET.c.filename == bindparam("filename")
)
_FIND_RETIRED = select(_RETIRED.c.sha256).where(
    _RETIRED.c.package_id == bindparam("package"), _RETIRED.c.filename == bindparam("filename")
)
_FIND_VERSION = select(_VERSION.c.id, _VERSION.c.origin, _VERSION.c.status).where(
    _VERSION.c.package_id == bindparam("package"), _VERSION.c.version == bindparam("version")
)
_TOUCH_VERSION = update(_VERSION).where(_VERSION.c.id == bindparam("of_version")).values(revision=bindparam("said"))
_ADD = {table: insert(table) for table in (_PACKAGE, _VERSION, _ASSET, _BLOB)}


def ensure_blob(session: Session, domain_id: int, handle: BlobHandle, now: datetime) -> KeptBlob:
    """The domain's one blob of that digest: an older one where there is one, touched so that the sweep stays away."""
    here = session.connection()
    found = here.execute(_FIND_BLOB, {"domain": domain_id, "sha256": handle.digest}).first()
    if found is not None:
        here.execute(_TOUCH_BLOB, {"blob": found.id, "now": now})
        older = BlobHandle(Locator(found.locator), Digest(found.sha256), found.size_bytes, found.envelope)
        return KeptBlob(found.id, older)
    require_key_in_use(session, handle)
    values = {
        "domain_id": domain_id,
        "sha256": handle.digest,
        "size_bytes": handle.size_bytes,
        "locator": handle.locator,
        "envelope": handle.envelope,
        "created_at": now,
        "touched_at": now,
    }
    return KeptBlob(_add(here, _BLOB, values), handle)


def keep(
    session: Session,
    domain_id: int,
    repository_id: int,
    key: PackageKey,
    file: KeptRow,
    blob: KeptBlob,
    way_in: WayIn,
    now: datetime,
) -> None:
    """Note the file in a repository, unless it is there or the name's origin controls keep it out by now.

    Raises UpstreamUnavailable for a file that was here before with another content.
    """
    here = session.connection()
    package_id = _package(session, domain_id, repository_id, key, file.display_name, way_in, now)
    if package_id is None:
        return  # published meanwhile, or blocked: what came from outside does not count any more
    place = {"package": package_id, "filename": file.filename}
    if here.execute(_FIND_ASSET, place).first() is not None:
        return
    pinned = here.execute(_FIND_RETIRED, place).scalar()
    if pinned is not None and pinned != blob.handle.digest:
        # It comes back as it was, or not at all.
        raise UpstreamUnavailable(f"{file.filename} was here with other content before; the upstream changed it")
    known = here.execute(_FIND_VERSION, {"package": package_id, "version": file.version}).first()
    if known is not None and known.origin != shelf.UPSTREAM:
        return  # published meanwhile: a version has one owner
    if known is not None and known.status == states.DISPOSED:
        return  # what was disposed of does not come back; who asked elsewhere has it there
    if known is None:
        version_id = _add(here, _VERSION, _version(package_id, file))
    else:
        version_id = known.id
        here.execute(_TOUCH_VERSION, {"of_version": version_id, "said": new_revision()})
    values = {
        "package_id": package_id,
        "version_id": version_id,
        "filename": file.filename,
        "blob_id": blob.id,
        "sha256": blob.handle.digest,
        "size_bytes": blob.handle.size_bytes,
        "hashes": dict(file.hashes),
        "extra": dict(file.extra),
        "published_at": file.published_at,
        "published_by": BY_UPSTREAM,
    }
    _add(here, _ASSET, values)


def _package(
    session: Session,
    domain_id: int,
    repository_id: int,
    key: PackageKey,
    display_name: str,
    way_in: WayIn,
    now: datetime,
) -> int | None:
    """The package's id, made if it is the first of its name there; None where its origin controls keep the file out."""
    here = session.connection()
    names = {"format": key.format, "namespace": key.namespace, "name": key.name}
    found = here.execute(_FIND_PACKAGE, {"repository": repository_id, **names}).first()
    controls = Controls(found.publish, found.upstream, found.origin) if found is not None else None
    facts = Facts(key, (Place(repository_id, "", controls=controls),), way_in.ruling)
    if not decide(facts, Ask.KEEP, way_in.source).allowed:
        return None
    if found is not None:
        if found.origin == shelf.PREPARED:
            here.execute(_FIRST_CAME, {"package": found.id})
            shelf.bump_names(session, domain_id, key.format, key.namespace)
        return int(found.id)
    # A list of files does not change by being kept; the list of names does.
    shelf.bump_names(session, domain_id, key.format, key.namespace)
    values = {
        "repository_id": repository_id,
        **names,
        "display_name": display_name,
        "origin": shelf.UPSTREAM,
        "created_at": now,
    }
    return _add(here, _PACKAGE, values)


def _version(package_id: int, file: KeptRow) -> dict[str, Any]:
    return {
        "package_id": package_id,
        "version": file.version,
        "display_version": file.version,
        "summary": file.summary,
        "metadata": {},
        "origin": shelf.UPSTREAM,
        "yanked_reason": file.yanked_reason,
        "published_at": file.published_at,
        "published_by": BY_UPSTREAM,
    }


def _add(here: Connection, table: Table, values: Mapping[str, Any]) -> int:
    key = here.execute(_ADD[table], values).inserted_primary_key
    assert key is not None
    return int(key[0])
