"""Objects that are kept for pipelines: buckets, and new versions of what is in them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.models.pipeline_source import SourceBucket, SourceObject
from hooks.pipelines.sources import buckets
from hooks.services import HookServices
from hooks.triggers.objects import on_new_version
from registry import audit
from registry.access import Action, check
from registry.api.routes import Route
from registry.api.shapes import Length
from registry.errors import Invalid, NotFound
from registry.http import context
from registry.http.auth import requires, signed_in_api
from registry.http.upload import counted_body
from storage.errors import BodyRejected
from storage.intake import receive


@dataclass(frozen=True, slots=True)
class NewBucket:
    """Whose readers see what is in a bucket, and who may put something there: those who may publish to the repository."""

    repository: Annotated[str, Length(1, 100)]
    domain: Annotated[str, Length(1, 50)] = "default"


@dataclass(frozen=True, slots=True)
class BucketDetail:
    """A bucket."""

    name: str
    domain: str
    repository: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class BucketList:
    """The buckets of repositories that the caller may read, by name."""

    items: tuple[BucketDetail, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """The newest version of an object. ``eTag`` is its MD5, as in S3."""

    key: str
    version_id: str
    e_tag: str
    sha256: str
    size_bytes: int
    created_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class PutObjectResult(ObjectVersion):
    """What was stored, and the executions that it has started."""

    executions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ObjectList:
    """The objects of a bucket, each in its newest version, by key."""

    items: tuple[ObjectVersion, ...]
    next: str | None


class SourceBucketViews:
    """The operations on buckets and objects."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self) -> tuple[Route, ...]:
        """The part of the table. A bucket belongs to a repository, so that what is done with objects is asked for there."""
        these, one = "/source-buckets", "/source-buckets/<bucket>"
        objects, admin, door = f"{one}/objects", requires(Action.ADMIN), signed_in_api
        return (
            Route("GET", these, door, self.list_source_buckets, answer=BucketList),
            Route("PUT", one, admin, self.put_source_bucket, body=NewBucket, answer=BucketDetail),
            Route("DELETE", one, admin, self.delete_source_bucket, status=204),
            Route("GET", objects, door, self.list_source_objects, answer=ObjectList),
            Route(
                "PUT",
                f"{objects}/<path:key>",
                door,
                self.put_source_object,
                answer=PutObjectResult,
                status=201,
                body_media_type="application/octet-stream",
            ),
        )

    def list_source_buckets(self) -> BucketList:
        """The buckets of repositories that the caller may read."""
        caller = context.caller()
        with self._services.db.read() as session:
            rows = session.scalars(select(SourceBucket).order_by(SourceBucket.name)).all()
        return BucketList(tuple(_bucket(row) for row in rows if caller.may(Action.READ, _path(row))), None)

    def put_source_bucket(self, bucket: str, body: NewBucket) -> BucketDetail:
        """Make a bucket, or let it belong to another repository of its domain."""
        caller, services = context.caller(), self._services
        with services.db.write() as session:
            now = services.clock()
            row, is_new = buckets.put_bucket(session, bucket, body.domain, body.repository, now)
            action = "source_bucket.create" if is_new else "source_bucket.change"
            audit.record(session, now, caller.name, action, f"source-bucket/{bucket}", repository=_path(row))
            return _bucket(row)

    def delete_source_bucket(self, bucket: str) -> None:
        """Delete a bucket with its objects. What executions have pinned stays with them."""
        caller, services = context.caller(), self._services
        with services.db.write() as session:
            buckets.delete_bucket(session, bucket)
            audit.record(session, services.clock(), caller.name, "source_bucket.delete", f"source-bucket/{bucket}")

    def list_source_objects(self, bucket: str) -> ObjectList:
        """The objects of a bucket, each in its newest version. For readers of its repository."""
        with self._services.db.read() as session:
            row = self._visible(session, bucket)
            return ObjectList(
                tuple(ObjectVersion(*_facts(each)) for each in buckets.newest_objects(session, row)), None
            )

    def put_source_object(self, bucket: str, key: str) -> PutObjectResult:
        """Store a new version of an object, the body (at most 2 GiB), and start the pipelines whose source takes it.

        Needs `publish` on the bucket's repository.
        """
        caller, services, registry = context.caller(), self._services, context.services()
        with services.db.read() as session:
            row = self._visible(session, bucket)
            check(caller, Action.PUBLISH, _path(row))
            domain_id = buckets.domain_of(session, row)
        if fault := buckets.key_fault(key):
            raise Invalid(fault)
        limit_bytes = min(buckets.MAX_BYTES, registry.limits.upload_bytes)
        store = services.stores.of(domain_id)
        try:
            received = receive(counted_body(limit_bytes), store, limit_bytes=limit_bytes, algorithms=("md5",))
        except BodyRejected as error:
            raise Invalid(str(error)) from error

        def unit(session: Session) -> tuple[PutObjectResult, bool]:
            now, row = services.clock(), self._visible(session, bucket)
            check(caller, Action.PUBLISH, _path(row))
            made, is_new = buckets.put_object(session, row, key, received, caller.name, now)
            about = {"version": made.version_id, "sha256": made.sha256, "size_bytes": made.size_bytes}
            audit.record(session, now, caller.name, "source_object.put", f"source-bucket/{bucket}/{key}", **about)
            started = on_new_version(session, services.actions, row, made, now)
            return PutObjectResult(*_facts(made), executions=tuple(started)), is_new

        answer, is_new = services.db.retry(unit)
        if not is_new:
            store.delete(received.handle.locator)  # the domain has that body already
        return answer

    def _visible(self, session: Session, name: str) -> SourceBucket:
        row = buckets.find_bucket(session, name)
        if not context.caller().may(Action.READ, _path(row)):
            raise NotFound("bucket", name)
        return row


def _path(row: SourceBucket) -> str:
    return f"{row.domain}/{row.repository}"


def _bucket(row: SourceBucket) -> BucketDetail:
    return BucketDetail(row.name, row.domain, row.repository, row.created_at)


def _facts(row: SourceObject) -> tuple[str, str, str, str, int, str, datetime]:
    return row.key, row.version_id, row.md5, row.sha256, row.size_bytes, row.created_by, row.created_at
