"""What a promotion brings to its target: the pinned version, and versions that builds of the same execution published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from hooks.builds.batches import builds_of
from hooks.models.build_batch import BuildBatch
from hooks.pipelines.published import published_versions
from hooks.pipelines.run import Run, pinned_version
from hooks.pipelines.which_packages import SETTING, SOURCE, parse_packages
from registry.errors import Conflict
from registry.names import PackageKey, PackageName
from registry.repos import built

MOST_VERSIONS = 50


@dataclass(frozen=True, slots=True)
class Promoted:
    """A version with exactly the files (name → SHA-256) that are promoted, as they are in ``repository``."""

    repository: str
    key: PackageKey
    version: str
    assets: Mapping[str, str]


def promoted_by(session: Session, run: Run, settings: Mapping[str, str], source: str) -> list[Promoted]:
    """The versions that a promotion is about; ``source`` is where the pinned one comes from.

    Of a build those files that it published itself, where it published them. Where the execution is about no package
    version, and nothing is named, it is what all of its builds have published. Raises Conflict for a build that published
    nothing, nothing that is still there, or in another domain.
    """
    found: dict[tuple[str, PackageKey, str], Promoted] = {}
    if settings.get(SETTING) or pinned_version(run.execution).is_package:
        named = [
            each
            for place in parse_packages(settings.get(SETTING) or SOURCE)
            for each in (_pinned(run, source) if place is None else _published(session, run, *place))
        ]
    else:
        named = _all_published(session, run, source)
    for each in named:
        known = found.get((each.repository, each.key, each.version))
        assets = {**known.assets, **each.assets} if known is not None else each.assets
        found[each.repository, each.key, each.version] = Promoted(each.repository, each.key, each.version, assets)
    if len(found) > MOST_VERSIONS:
        raise Conflict(f"{len(found)} versions are to be promoted at once, at most {MOST_VERSIONS} may")
    return list(found.values())


def _all_published(session: Session, run: Run, source: str) -> list[Promoted]:
    versions = published_versions(session, run, source)
    if not versions:
        where = source or "where it was published"
        raise Conflict(f"the builds of the execution have published no package version ({where})")
    return [
        Promoted(
            each.repository, PackageKey(each.format, each.namespace, PackageName(each.name)), each.version, each.assets
        )
        for each in versions
    ]


def _pinned(run: Run, source: str) -> Iterator[Promoted]:
    execution = run.execution
    if not pinned_version(execution).is_package:
        raise Conflict("the execution is about no package version that could be promoted")
    key = PackageKey(execution.format, execution.namespace, PackageName(execution.name))
    yield Promoted(source, key, execution.version, execution.assets)


def _published(session: Session, run: Run, stage: str, action: str) -> Iterator[Promoted]:
    row = run.made_by(stage, action)
    if row is None or row.build_id is None:
        raise Conflict(f"{stage}/{action} has run no build in this execution")
    build_ids = [row.build_id]
    if session.get(BuildBatch, row.build_id) is not None:
        build_ids = [builds[0].id for builds in builds_of(session, row.build_id).values()]
    versions = [each for build_id in build_ids for each in built.by_build(session, build_id) if not each.is_copy]
    if not versions:
        raise Conflict(f"the build of {stage}/{action} has published nothing that is still there")
    for each in versions:
        if each.domain != run.execution.domain:
            raise Conflict(
                f"{each.name} {each.version} was published in domain {each.domain}, and is not promoted from there"
            )
        yield Promoted(
            each.repository, PackageKey(each.format, each.namespace, PackageName(each.name)), each.version, each.assets
        )
