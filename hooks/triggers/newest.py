"""Starting with what is newest: for schedules, webhooks without a revision of their own, and pushes beside a package source."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.pipelines.definition import PipelineDefinition
from hooks.pipelines.engine import Start, Started, Trigger, start_execution
from hooks.pipelines.parts import Parts
from hooks.triggers.collect import Coordinates, collect
from hooks.triggers.match import PackageFilter, filter_of
from registry.errors import NotFound
from registry.models import Domain, Package, PackageVersion, Repository
from registry.repos import shelf

MOST_LOOKED_AT = 2000
"""Of the newest versions of a format in a domain so many are looked at; who takes an older one says which."""


def newest_version(session: Session, wanted: PackageFilter) -> Coordinates:
    """The version that was published last of those a source takes. Raises NotFound."""
    rows = session.execute(
        select(Repository.name, Package.namespace, Package.name, PackageVersion.version)
        .join(Package, Package.id == PackageVersion.package_id)
        .join(Repository, Repository.id == Package.repository_id)
        .join(Domain, Domain.id == Repository.domain_id)
        .where(
            Domain.name == wanted.domain,
            Package.format == wanted.format,
            PackageVersion.status == shelf.FINISHED,
            # What was only fetched from upstream was published by nobody here.
            PackageVersion.origin == shelf.PUBLISHED,
        )
        .order_by(PackageVersion.published_at.desc(), PackageVersion.id.desc())
        .limit(MOST_LOOKED_AT)
    )
    for repository, namespace, name, version in rows:
        at = Coordinates(wanted.domain, repository, wanted.format, namespace, name, version)
        if wanted.matches(at.candidate()):
            return at
    raise NotFound(
        "version", f"that the source takes ({wanted.format} {wanted.name} in {wanted.domain}/{wanted.repository})"
    )


def start_with_newest(
    session: Session,
    parts: Parts,
    pipeline_id: int,
    definition: PipelineDefinition,
    start: Start,
    *,
    trigger: Trigger,
    now: datetime,
) -> Started:
    """Start with what ``start`` says, and where the source takes package versions with the newest one.

    Raises as the engine does, and NotFound where there is no version.
    """
    takes = filter_of(definition)
    if takes is not None and start.version is None:
        found = collect(session, newest_version(session, takes))
        start = replace(start, version=found.version, publishers=sorted(found.publishers))
    return start_execution(session, parts, pipeline_id, start, trigger=trigger, now=now)
