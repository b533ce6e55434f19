"""Objects that are kept for pipelines: buckets, and the versions of what is in them. Their bytes are blobs of a domain."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from hooks.models.pipeline_source import SourceBucket, SourceObject
from registry.errors import Conflict, Invalid, NotFound
from registry.models import Blob, Domain
from registry.repos import shelf
from registry.repos.topology import find_repository
from storage.intake import Received

MAX_BYTES = 2 * 1024**3
MOST_VERSIONS = 50
"""So many versions of a key are kept; what an execution has pinned stays with it."""
ENDINGS = (".zip", ".tar.gz", ".tgz", ".tar")
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")
_KEY = re.compile(r"[A-Za-z0-9!_.*'()-]+(?:/[A-Za-z0-9!_.*'()-]+)*\Z")


def bucket_fault(name: str) -> str:
    """What is wrong with a bucket's name; empty if nothing is."""
    return "" if _NAME.match(name) else f"{name[:80]!r}: a bucket has 3 to 63 small letters, digits, '.' and '-'"


def key_fault(key: str) -> str:
    """What is wrong with an object's key; empty if nothing is. It is an archive, by its ending."""
    if len(key) > 500 or not _KEY.match(key) or {".", ".."} & set(key.split("/")):
        return f"{key[:80]!r} is no key: parts of letters, digits and !-_.*'() with '/' between"
    return "" if key.endswith(ENDINGS) else f"{key[:80]!r}: an object is an archive, and ends with {', '.join(ENDINGS)}"


def put_bucket(session: Session, name: str, domain: str, repository: str, now: datetime) -> tuple[SourceBucket, bool]:
    """Make a bucket, or let it belong to another repository of its domain. Raises Invalid, NotFound, Conflict."""
    if fault := bucket_fault(name):
        raise Invalid(fault)
    find_repository(session, domain, repository)
    row = session.scalar(select(SourceBucket).where(SourceBucket.name == name).with_for_update())
    is_new = row is None
    if row is None:
        row = SourceBucket(name=name, domain=domain, created_at=now)
        session.add(row)
    elif row.domain != domain:
        raise Conflict(f"bucket {name} is in domain {row.domain}: what is in it is encrypted with that domain's key")
    row.repository = repository
    session.flush()
    return row, is_new


def find_bucket(session: Session, name: str) -> SourceBucket:
    """Raises NotFound."""
    row = session.scalar(select(SourceBucket).where(SourceBucket.name == name))
    if row is None:
        raise NotFound("bucket", name)
    return row


def delete_bucket(session: Session, name: str) -> None:
    """Delete a bucket with its objects; what executions have pinned stays with them. Raises NotFound."""
    row = find_bucket(session, name)
    session.execute(delete(SourceObject).where(SourceObject.bucket_id == row.id))
    session.delete(row)


def find_object(session: Session, bucket: str, key: str, version_id: str = "") -> tuple[SourceBucket, SourceObject]:
    """A version of an object, or the newest. Raises NotFound."""
    row = find_bucket(session, bucket)
    wanted = select(SourceObject).where(SourceObject.bucket_id == row.id, SourceObject.key == key)
    if version_id:
        wanted = wanted.where(SourceObject.version_id == version_id)
    found = session.scalar(wanted.order_by(SourceObject.id.desc()).limit(1))
    if found is None:
        raise NotFound("object", f"{bucket}/{key}" + (f", version {version_id}" if version_id else ""))
    return row, found


def newest_objects(session: Session, bucket: SourceBucket) -> Sequence[SourceObject]:
    """The newest version of each key, by key."""
    newest = select(func.max(SourceObject.id)).where(SourceObject.bucket_id == bucket.id).group_by(SourceObject.key)
    return session.scalars(select(SourceObject).where(SourceObject.id.in_(newest)).order_by(SourceObject.key)).all()


def put_object(
    session: Session, bucket: SourceBucket, key: str, received: Received, who: str, now: datetime
) -> tuple[SourceObject, bool]:
    """Make the row of a received body, and let the oldest versions go; whether the body was new to the domain."""
    domain_id = domain_of(session, bucket)
    blob, is_new = shelf.ensure_blob(session, domain_id, received.handle, now)
    row = SourceObject(
        bucket_id=bucket.id,
        key=key,
        version_id=uuid.uuid4().hex,
        sha256=blob.sha256,
        md5=received.digests["md5"],
        size_bytes=blob.size_bytes,
        blob_id=blob.id,
        created_by=who,
        created_at=now,
    )
    session.add(row)
    session.flush()
    old = session.scalars(
        select(SourceObject)
        .where(SourceObject.bucket_id == bucket.id, SourceObject.key == key)
        .order_by(SourceObject.id.desc())
        .offset(MOST_VERSIONS)
    ).all()
    for each in old:
        session.get_one(Blob, each.blob_id).touched_at = now  # somebody may be reading it: the sweep's grace begins now
        session.delete(each)
    session.flush()
    return row, is_new


def domain_of(session: Session, bucket: SourceBucket) -> int:
    """The domain in whose store its objects are."""
    return session.scalars(select(Domain.id).where(Domain.name == bucket.domain)).one()
