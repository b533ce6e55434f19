"""What an execution is about, and what its other sources bring: said when it starts, fetched by their actions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from hooks.models.pipeline_source import SourceRevision
from hooks.pipelines.definition import GIT_PROVIDERS, ActionDefinition, PipelineDefinition
from hooks.pipelines.parts import PinnedVersion
from hooks.pipelines.sources.buckets import ENDINGS, find_object
from hooks.pipelines.sources.connections import locate
from hooks.pipelines.sources.git_settings import settings_of
from registry.errors import Invalid
from registry.repos.topology import find_repository

PACKAGE, GIT, OBJECT = "PACKAGE", "GIT", "OBJECT"
GIT_ARCHIVE = "source.tar"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A revision that a start asks for. ``version`` as builds spell it: ``refs/heads/main^{COMMIT}``, or a commit.

    ``trigger`` is what it is called: ``branch/main``, ``tag/v1`` or ``pr/12``. ``commit`` "": whatever it is then. Of an object
    ``version`` is its version's id ("": the newest), and ``key`` another key than the source's ("": that one).
    """

    version: str
    trigger: str = ""
    commit: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class About:
    """``revision_type`` is PACKAGE, GIT or OBJECT; ``rows`` are those of all sources that take no package version.

    ``publishers`` are the accounts whose work these are, as far as they are accounts.
    """

    version: PinnedVersion
    revision_type: str
    rows: tuple[SourceRevision, ...] = ()
    publishers: tuple[str, ...] = ()


def about(
    session: Session,
    definition: PipelineDefinition,
    version: PinnedVersion | None,
    revisions: Mapping[str, Wanted],
    now: datetime,
) -> About:
    """What an execution that starts now is about.

    Raises Invalid where the version is missing, or revisions are given of sources that have none, and NotFound for a
    connection or a repository that is not there.
    """
    unknown = sorted(set(revisions) - {each.name for each in definition.sources if not each.is_package_source})
    if unknown:
        raise Invalid(f"{unknown[0]} is no source of pipeline {definition.name} that takes revisions")
    others = [each for each in definition.sources if not each.is_package_source]
    made = [_pinned(session, each, revisions.get(each.name), now) for each in others]
    rows = tuple(row for row, *_ in made)
    people = tuple(who for *_, who in made if who)
    if definition.source.is_package_source:
        if version is None:
            raise Invalid(f"pipeline {definition.name} takes a package version; say which")
        return About(version, PACKAGE, rows, people)
    if version is not None:
        raise Invalid(f"pipeline {definition.name} takes no package versions")
    return About(made[0][1], rows[0].kind, rows, people)


def _pinned(
    session: Session, action: ActionDefinition, wanted: Wanted | None, now: datetime
) -> tuple[SourceRevision, PinnedVersion, str]:
    pin = _git if action.type.provider in GIT_PROVIDERS else _object
    return pin(session, action, wanted, now)


def _git(
    session: Session, action: ActionDefinition, wanted: Wanted | None, now: datetime
) -> tuple[SourceRevision, PinnedVersion, str]:
    settings = settings_of(action.configuration)
    located = locate(session, settings)
    find_repository(session, located.domain, located.repository)
    wanted = wanted or Wanted(f"refs/heads/{settings.branch}", f"branch/{settings.branch}")
    row = SourceRevision(
        action=action.name,
        kind=GIT,
        location=located.url,
        wanted=wanted.version,
        trigger=wanted.trigger,
        revision=wanted.commit,
        filename=GIT_ARCHIVE,
        sha256="",
        size_bytes=0,
        facts={},
        created_at=now,
    )
    # Whose readers see it: from here on a package version and a revision are asked for in the same way.
    name = settings.full_name[-255:]
    return row, PinnedVersion(located.domain, located.repository, "", "", name, wanted.commit, {}), ""


def _object(
    session: Session, action: ActionDefinition, wanted: Wanted | None, now: datetime
) -> tuple[SourceRevision, PinnedVersion, str]:
    said = action.configuration
    wanted = wanted or Wanted("")
    if wanted.key and said.get("AllowOverrideForS3ObjectKey", "").lower() != "true":
        raise Invalid(f"source {action.name} takes no other key: AllowOverrideForS3ObjectKey is not true")
    bucket, found = find_object(session, said["S3Bucket"], wanted.key or said["S3ObjectKey"], wanted.version)
    location = f"{bucket.name}/{found.key}"
    filename = next(f"source{ending}" for ending in ENDINGS if found.key.endswith(ending))
    row = SourceRevision(
        action=action.name,
        kind=OBJECT,
        location=location,
        wanted=found.version_id,
        trigger="",
        revision=found.version_id,
        filename=filename,
        sha256=found.sha256,
        size_bytes=found.size_bytes,
        blob_id=found.blob_id,
        facts={
            "BucketName": bucket.name,
            "Digest": f"sha256:{found.sha256}",
            "ETag": found.md5,
            "ObjectKey": found.key,
            "VersionId": found.version_id,
        },
        created_at=now,
    )
    assets = {filename: found.sha256}
    version = PinnedVersion(bucket.domain, bucket.repository, "", "", location[-255:], found.version_id, assets)
    return row, version, found.created_by
