"""The package versions that an execution's own builds have published: what is promoted where its source gives none."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from hooks.builds.batches import builds_of
from hooks.models.build_batch import BuildBatch
from hooks.models.pipeline import ActionExecution
from hooks.pipelines.parts import PinnedVersion
from hooks.pipelines.run import Run
from hooks.pipelines.state import ActionStatus
from registry.errors import Conflict
from registry.repos.built import all_by_build


def published_versions(session: Session, run: Run, repository: str = "") -> list[PinnedVersion]:
    """Versions with exactly the files that the builds of succeeded actions published, in their order.

    They are where the builds put them, or with ``repository`` there, if they have come to it. Raises Conflict for what was
    published in another domain, and for more files than are promoted at once.
    """
    rows = [*run.inherited.values(), *run.actions.values()]
    return versions_of(session, run, rows, repository)


def versions_of(
    session: Session, run: Run, rows: Sequence[ActionExecution], repository: str = ""
) -> list[PinnedVersion]:
    """The same of the builds of some actions; what has not succeeded has published nothing that counts."""
    found: dict[tuple[str, str, str, str, str], dict[str, str]] = {}
    for build_id in _builds(session, rows):
        for each in all_by_build(session, build_id, repository):
            if each.domain != run.execution.domain:
                raise Conflict(
                    f"{each.name} {each.version} was published in domain {each.domain}, and is not promoted from there"
                )
            at = (each.repository, each.format, each.namespace, each.name, each.version)
            found.setdefault(at, {}).update(each.assets)
    return [
        PinnedVersion(run.execution.domain, where, kind, namespace, name, version, assets)
        for (where, kind, namespace, name, version), assets in found.items()
    ]


def _builds(session: Session, rows: Sequence[ActionExecution]) -> list[str]:
    """The builds of actions; of a batch the newest of each of its builds."""
    found: list[str] = []
    for row in rows:
        if row.build_id is None or row.status != ActionStatus.SUCCEEDED:
            continue
        if session.get(BuildBatch, row.build_id) is not None:
            found += [builds[0].id for builds in builds_of(session, row.build_id).values()]
        else:
            found.append(row.build_id)
    return found
