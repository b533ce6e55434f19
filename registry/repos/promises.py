"""Digests that arrive apart from their files, before them or after: held, compared, and in the way of a publish if wrong.

A digest that fits what is here needs no keeping. One whose file is not here waits for it; one that differs stays as
well, so that the version cannot be finished without the file that was meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import Enum, auto
from typing import Any

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session

from registry import audit
from registry.models import Asset, PackageVersion, PromisedDigest
from registry.names import PackageKey
from registry.repos import shelf
from registry.repos.admission import Admission

OWED = ""
"""In the place of a digest: a file is missing, and whichever comes under its name next will do."""


class Outcome(Enum):
    """What became of a promise. ``REMOVED`` is ``DIFFERENT``, and the file that was not meant is gone."""

    FULFILLED = auto()
    HELD = auto()
    DIFFERENT = auto()
    REMOVED = auto()


def promise(
    session: Session,
    admission: Admission,
    key: PackageKey,
    version: str,
    filename: str,
    algorithm: str,
    digest: str,
    now: datetime,
) -> Outcome:
    """Compare a digest (lower-case hex) with the file it is of, or hold it until that comes.

    A file that differs was damaged on its way: while its version is Unfinished it is taken back if the same publisher
    sent it, so that sending it again works.
    """
    package = shelf.find_package(session, admission.repository_id, *key)
    asset = shelf.find_asset(session, package.id, filename) if package is not None else None
    if asset is not None and digest_of(asset, algorithm) == digest:
        _forget(session, admission.repository_id, key, filename, algorithm)
        return Outcome.FULFILLED
    if asset is not None and not _take_back(session, admission, key, asset, now):
        return Outcome.DIFFERENT
    held = session.get(PromisedDigest, (admission.repository_id, *key, filename, algorithm))
    if held is None:
        held = PromisedDigest(repository_id=admission.repository_id, **_names(key), filename=filename)
        held.algorithm = algorithm
        session.add(held)
    held.version, held.promised_at = version, now
    held.digest = digest if asset is None else OWED
    return Outcome.HELD if asset is None else Outcome.REMOVED


def promised(session: Session, repository_id: int, key: PackageKey, filename: str) -> Mapping[str, str]:
    """The digests that were sent for a file, by algorithm."""
    rows = session.scalars(select(PromisedDigest).where(*_is_of(repository_id, key), _named(filename)))
    return {row.algorithm: row.digest for row in rows if row.digest != OWED}


def settle(session: Session, repository_id: int, key: PackageKey, version: str, since: datetime) -> list[str]:
    """Forget the promises of a version that are kept; gives the files of which one is not.

    What was promised before ``since`` does not count any more: its file will not come.
    """
    broken = []
    rows = session.scalars(
        select(PromisedDigest).where(*_is_of(repository_id, key), PromisedDigest.version == version)
    ).all()
    package = shelf.find_package(session, repository_id, *key) if rows else None
    for row in rows:
        asset = shelf.find_asset(session, package.id, row.filename) if package is not None else None
        is_kept = asset is not None and row.digest in (OWED, digest_of(asset, row.algorithm))
        if is_kept or row.promised_at < since:
            session.delete(row)
        else:
            broken.append(row.filename)
    return list(dict.fromkeys(broken))


def forget_old(session: Session, before: datetime) -> None:
    """Forget what was promised before a moment and never came."""
    session.execute(delete(PromisedDigest).where(PromisedDigest.promised_at < before))


def digest_of(asset: Asset, algorithm: str) -> str | None:
    """A file's digest; None where that algorithm was not computed."""
    return asset.sha256 if algorithm == "sha256" else asset.hashes.get(algorithm)


def _take_back(session: Session, admission: Admission, key: PackageKey, asset: Asset, now: datetime) -> bool:
    version = session.get_one(PackageVersion, asset.version_id)
    if version.status != shelf.UNFINISHED or asset.published_by != admission.actor:
        return False
    place = f"{admission.path}/{key.format}/{key.path}/{version.version}/{asset.filename}"
    audit.record(session, now, admission.actor, "asset.take-back", place, sha256=asset.sha256)
    session.delete(asset)
    session.flush()
    if session.scalar(select(Asset.id).where(Asset.version_id == version.id).limit(1)) is None:
        session.delete(version)
    return True


def _forget(session: Session, repository_id: int, key: PackageKey, filename: str, algorithm: str) -> None:
    held = session.get(PromisedDigest, (repository_id, *key, filename, algorithm))
    if held is not None:
        session.delete(held)


def _is_of(repository_id: int, key: PackageKey) -> tuple[ColumnElement[bool], ...]:
    return (
        PromisedDigest.repository_id == repository_id,
        PromisedDigest.format == key.format,
        PromisedDigest.namespace == key.namespace,
        PromisedDigest.name == key.name,
    )


def _named(filename: str) -> ColumnElement[bool]:
    return PromisedDigest.filename == filename


def _names(key: PackageKey) -> dict[str, Any]:
    return {"format": key.format, "namespace": key.namespace, "name": key.name}
