"""Source / AWS / S3: an object that is kept here. Its version was pinned when the execution started; nothing is fetched."""

from __future__ import annotations

from sqlalchemy.orm import Session

from hooks.models.pipeline_source import SourceRevision
from hooks.pipelines.actions.git import ended
from hooks.pipelines.actions.kind import ActionKind, Progress, Starting
from hooks.pipelines.provider import Provider, Setting
from hooks.pipelines.sources.buckets import bucket_fault, find_object, key_fault
from registry.errors import Conflict, NotFound


def _bucket(value: str) -> str | None:
    return bucket_fault(value) or None


def _key(value: str) -> str | None:
    return key_fault(value) or None


def _boolean(value: str) -> str | None:
    return None if value.lower() in {"true", "false"} else "neither true nor false"


def _start(session: Session, starting: Starting) -> Progress:
    row = session.get_one(SourceRevision, (starting.execution_id, starting.definition.name))
    if row.blob_id is None:  # a retry, after the archive was let go of: the bucket may still have this very version
        bucket, _, key = row.location.partition("/")
        try:
            _, found = find_object(session, bucket, key, row.revision)
        except NotFound as gone:
            told = f"{row.location} {row.revision} has had its time, and the bucket does not have it any more"
            raise Conflict(told) from gone
        row.blob_id = found.blob_id
    return ended(row)


S3 = ActionKind(
    Provider(
        "Source",
        "AWS",
        "S3",
        (
            Setting("S3Bucket", is_required=True, check=_bucket),
            Setting("S3ObjectKey", is_required=True, check=_key),
            Setting("PollForSourceChanges", check=_boolean),
            Setting("AllowOverrideForS3ObjectKey", check=_boolean),
        ),
        inputs=(0, 0),
        outputs=(0, 1),
        variables=frozenset({"ETag", "VersionId", "BucketName", "ObjectKey", "Digest"}),
    ),
    _start,
)
