"""What a promotion brings to its target: the pinned version, and versions that builds of the same execution published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from hooks.pipelines.parts import PinnedVersion
from hooks.pipelines.published import published_versions, versions_of
from hooks.pipelines.run import Run, pinned_version
from hooks.pipelines.state import ActionStatus
from hooks.pipelines.which_packages import SETTING, SOURCE, parse_packages
from registry.errors import Conflict
from registry.names import PackageKey, PackageName

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
    named_source = settings.get("SourceRepository", "")
    if settings.get(SETTING) or pinned_version(run.execution).is_package:
        named = [
            each
            for place in parse_packages(settings.get(SETTING) or SOURCE)
            for each in (_pinned(run, source) if place is None else _published(session, run, place, named_source))
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
    return [_promoted(each) for each in versions]


def _pinned(run: Run, source: str) -> Iterator[Promoted]:
    execution = run.execution
    if not pinned_version(execution).is_package:
        raise Conflict("the execution is about no package version that could be promoted")
    key = PackageKey(execution.format, execution.namespace, PackageName(execution.name))
    yield Promoted(source, key, execution.version, execution.assets)


def _published(session: Session, run: Run, place: tuple[str, str], repository: str) -> Iterator[Promoted]:
    row, which = run.made_by(*place), "/".join(place)
    if row is None or row.build_id is None:
        raise Conflict(f"{which} has run no build in this execution")
    if row.status != ActionStatus.SUCCEEDED:
        raise Conflict(f"the build of {which} has not succeeded: what it published is not promoted")
    versions = versions_of(session, run, [row], repository)
    if not versions:
        where = f" in {repository}" if repository else ""
        raise Conflict(f"the build of {which} has published nothing that is still there{where}")
    yield from (_promoted(each) for each in versions)


def _promoted(version: PinnedVersion) -> Promoted:
    key = PackageKey(version.format, version.namespace, PackageName(version.name))
    return Promoted(version.repository, key, version.version, version.assets)
