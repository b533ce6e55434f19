"""What a package version is at this moment: its files, whose work they are, and which executions led to it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.models.build import Build
from hooks.models.pipeline import Execution
from hooks.pipelines.parts import PinnedVersion
from hooks.triggers.match import Candidate
from registry.errors import NotFound
from registry.models import Asset, BuiltAsset, Package, PackageVersion
from registry.repos import shelf
from registry.repos.topology import find_repository

_LONGEST_LINEAGE = 32
# No account can have such a name (``registry.names``): what a publisher calls themselves cannot pose as one.
_EXECUTION = re.compile(r"execution:([0-9]{1,9})\Z")


@dataclass(frozen=True, slots=True)
class Coordinates:
    """A version in a repository, by names; ``namespace`` is empty where the format has none."""

    domain: str
    repository: str
    format: str
    namespace: str
    name: str
    version: str

    def candidate(self) -> Candidate:
        """The form that patterns are matched against."""
        name = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return Candidate(self.domain, self.repository, self.format, name, self.version)


@dataclass(frozen=True, slots=True)
class Collected:
    """``publishers`` are accounts, followed back through promotions; ``published_by`` who added the newest file.

    ``depth`` is 0 for what people published, else one more than that of the execution that published it.
    """

    version: PinnedVersion
    publishers: frozenset[str]
    published_by: str
    depth: int


@dataclass(frozen=True, slots=True)
class _Held:
    assets: dict[str, str]
    principals: frozenset[str]
    newest_by: str
    promoted_from: str | None


def collect(session: Session, at: Coordinates) -> Collected:
    """Read a version with its files as they are now. Raises NotFound."""
    held = _held(session, at, at.repository)
    if held is None:
        raise NotFound("version", f"{at.candidate().name} {at.version} in {at.domain}/{at.repository}")
    causes = _causes(session, held.principals)
    return Collected(
        PinnedVersion(at.domain, at.repository, at.format, at.namespace, at.name, at.version, held.assets),
        frozenset(_publishers(session, at, held)),
        held.newest_by,
        max((cause.depth + 1 for cause in causes), default=0),
    )


def _held(session: Session, at: Coordinates, repository: str) -> _Held | None:
    try:
        _, row = find_repository(session, at.domain, repository)
    except NotFound:
        return None
    found = session.execute(
        select(
            Asset.filename,
            Asset.sha256,
            Asset.published_by,
            PackageVersion.published_by.label("version_by"),
            PackageVersion.promoted_from,
            BuiltAsset.initiator,
            Build.subject,
        )
        .join(PackageVersion, PackageVersion.id == Asset.version_id)
        .join(Package, Package.id == PackageVersion.package_id)
        .outerjoin(BuiltAsset, BuiltAsset.asset_id == Asset.id)
        .outerjoin(Build, Build.id == BuiltAsset.build_id)
        .where(
            Package.repository_id == row.id,
            Package.format == at.format,
            Package.namespace == at.namespace,
            Package.name == at.name,
            PackageVersion.version == at.version,
            PackageVersion.status != shelf.UNFINISHED,  # its files are still coming
        )
        .order_by(Asset.id)
    ).all()
    if not found:
        return None
    return _Held(
        {asset.filename: asset.sha256 for asset in found},
        # What a build published is also the work of whoever, or whichever execution, started it.
        frozenset({asset.published_by for asset in found} | {found[0].version_by} | _starters(found)),
        found[-1].published_by,
        found[0].promoted_from,
    )


def _starters(found: Iterable[Any]) -> set[str]:
    return {name for asset in found for name in (asset.initiator, asset.subject) if name}


def _causes(session: Session, principals: Iterable[str]) -> list[Execution]:
    """The executions among those who published: they did it by promoting."""
    found = []
    for principal in principals:
        named = _EXECUTION.match(principal)
        cause = session.get(Execution, int(named[1])) if named else None
        if cause is not None:
            found.append(cause)
    return found


def _publishers(session: Session, at: Coordinates, held: _Held) -> set[str]:
    """Everybody whose work the files are, wherever the version was promoted from.

    Without this walk a promotion would wash the author out, who could then approve the own work one repository on.
    """
    people: set[str] = set()
    seen: set[str] = {at.repository}
    current: _Held | None = held
    while current is not None:
        people |= current.principals
        for cause in _causes(session, current.principals):
            people |= set(cause.publishers)
        origin = current.promoted_from
        if origin is None or origin in seen or len(seen) > _LONGEST_LINEAGE:
            break
        seen.add(origin)
        current = _held(session, at, origin)
    return people
