"""Builds that publish: where a project lets them, with which credential, and what is written down of it.

The token of a build never enters its sandbox: ``hooks.builds.broker`` adds it outside. It counts for the one repository
that the project names, and only while the very attempt that it was made for runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, literal, select
from sqlalchemy.orm import Session

from hooks.builds.cache_scope import Level, scope_of
from hooks.builds.phases import BuildStatus
from hooks.builds.project import SourceType
from hooks.builds.source import PackageSource
from hooks.models.build import Build, BuildProject
from hooks.models.build_token import BuildToken
from hooks.models.job import Job, JobState, WorkerProcess
from hooks.models.runner import BuildRunner
from registry.access import Identity
from registry.errors import Denied, NotFound
from registry.models import Token
from registry.names import PackageKey, PackageName
from registry.repos.built import Built, BuiltSource, BuiltVersion, by_build
from registry.repos.topology import find_repository

SETTING = "publishRepository"
ACTION_SETTING = "PublishRepository"
"""What the action of a pipeline says of it: without it the project's word does not count there."""
_PLACE = re.compile(r"([a-z0-9][a-z0-9-]{0,49})/([A-Za-z0-9][A-Za-z0-9._-]{0,99})\Z")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")


def publish_place(document: Mapping[str, Any]) -> tuple[str, str] | None:
    """(domain, repository) that a project's builds may publish to, as its document has it; None for nowhere."""
    found = _PLACE.match(str(document.get(SETTING, "")))
    return (found[1], found[2]) if found else None


def publish_path(document: Mapping[str, Any]) -> str | None:
    """``domain/repository`` of ``publish_place``, as builds remember it."""
    place = publish_place(document)
    return "/".join(place) if place is not None else None


def publish_faults(session: Session, document: Mapping[str, Any], place: tuple[str, str] | None) -> list[str]:
    """What is wrong with where a project that belongs to ``place`` wants to publish."""
    if SETTING not in document:
        return []
    target = publish_place(document)
    if target is None:
        return [f"{SETTING} is written NAME or DOMAIN/NAME"]
    if place is None:
        return [f"{SETTING}: only a project that belongs to a repository publishes; say which in its document"]
    if target[0] != place[0]:
        return [f"{SETTING}: the project belongs to domain {place[0]} and publishes in no other"]
    try:
        find_repository(session, *target)
    except NotFound as error:
        return [f"{SETTING}: {error}"]
    return []


def why_not(build: Build, place: tuple[str, str], protected_refs: tuple[str, ...]) -> str:
    """Why this build of a project that publishes to ``place`` now may not publish; "" when it may.

    The right to publish was asked for when it was started, and for the repository of that time. What a pull request holds
    is its author's, who may not publish.
    """
    if scope_of(build.source, build.webhook, protected_refs).level is Level.PULL_REQUEST:
        return "a build of a pull request publishes nothing"
    if build.publish_to is None and (build.subject or "").startswith("execution:"):
        return f"the pipeline's action has no {ACTION_SETTING}, so its builds publish nothing"
    if build.publish_to != "/".join(place):
        before = build.publish_to or "nowhere"
        return f"the project published to {before} when this build was started, and to {'/'.join(place)} now"
    return ""


def bind(session: Session, token_id: int, build: Build, now: datetime) -> None:
    """Bind a token to the attempt at a build that it is made for."""
    session.add(BuildToken(token_id=token_id, build_id=build.id, attempt=build.attempt, created_at=now))


def tokens_of(session: Session, build_id: str) -> Sequence[int]:
    """The ids of all tokens that attempts at a build were given to publish with."""
    return session.scalars(select(BuildToken.token_id).where(BuildToken.build_id == build_id)).all()


def witness(session: Session, who: Identity | None) -> Built | None:
    """Which build publishes in this transaction. Implements ``registry.repos.built.Witness``.

    Raises Denied when the build has ended, was told to stop, or goes on in another attempt. What was made with its token
    counts as the build's own.
    """
    if who is None or who.token_id is None:
        return None
    root = select(func.coalesce(Token.root_id, Token.id)).where(Token.id == who.token_id).scalar_subquery()
    bound = session.scalar(select(BuildToken).where(BuildToken.token_id == root))
    if bound is None:
        return None
    who_runs_it = func.coalesce(WorkerProcess.name, literal("runner ") + BuildRunner.name)
    row = session.execute(
        select(Build, BuildProject.name, Job.state, Job.stop_requested, who_runs_it)
        .join(BuildProject, BuildProject.id == Build.project_id)
        .outerjoin(Job, Job.id == Build.job_id)
        .outerjoin(WorkerProcess, WorkerProcess.id == Job.owner)
        .outerjoin(BuildRunner, BuildRunner.id == Job.owner)
        .where(Build.id == bound.build_id)
        .execution_options(populate_existing=True)
    ).one()
    build, project, job_state, stop_requested, runner = row
    if build.status != BuildStatus.IN_PROGRESS or build.attempt != bound.attempt or job_state is not JobState.RUNNING:
        raise Denied(f"build {build.id} has ended and publishes nothing any more")
    if stop_requested:
        raise Denied(f"build {build.id} was told to stop and publishes nothing any more")
    return Built(build.id, project, build.number, build.attempt, runner or "", build.initiator, source_of(build))


def source_of(build: Build) -> BuiltSource:
    """What a build was made from, by what it found."""
    source = PackageSource.from_json(build.source)
    if source.is_package:
        return BuiltSource("PACKAGE", source.purl, source.version, f"sha256:{source.digest}")
    primary = source.primary
    if primary is None:
        return BuiltSource(SourceType.NO_SOURCE.value, "", "", "")
    if primary.type is SourceType.UPLOAD:
        return BuiltSource(primary.type.value, "", primary.version, f"sha256:{primary.version}")
    if primary.type is SourceType.REVISION:
        is_commit = bool(_COMMIT.match(source.version))
        kind = SourceType.GIT if is_commit else primary.type
        digest = f"sha1:{source.version}" if is_commit else f"sha256:{primary.version}"
        return BuiltSource(kind.value, source.name, source.version, digest)
    version = build.resolved_versions.get("", primary.version)
    return BuiltSource(
        primary.type.value, primary.location, version, f"sha1:{version}" if _COMMIT.match(version) else ""
    )


def published_versions(session: Session, build_id: str, who: Identity) -> list[BuiltVersion]:
    """What a build published, where it is now, of what somebody may look into."""
    return [
        each
        for each in by_build(session, build_id)
        if who.may_look_into(
            f"{each.domain}/{each.repository}", PackageKey(each.format, each.namespace, PackageName(each.name))
        )
    ]
