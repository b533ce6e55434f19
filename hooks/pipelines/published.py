"""The package versions that an execution's own builds have published: what is promoted where its source gives none."""

from __future__ import annotations

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from hooks.models.build import Build
from hooks.pipelines.parts import PinnedVersion
from hooks.pipelines.run import Run
from hooks.pipelines.state import ActionStatus
from registry.repos.built import by_build


def published_versions(session: Session, run: Run, repository: str = "") -> list[PinnedVersion]:
    """Versions with exactly the files that the builds of succeeded actions published, in their order.

    They are where the builds put them, or with ``repository`` there, if they have come to it.
    """
    rows = [*run.inherited.values(), *run.actions.values()]
    ids = [row.build_id for row in rows if row.build_id is not None and row.status == ActionStatus.SUCCEEDED]
    # The action of a batch build names the batch; each of its builds may have published.
    builds = session.scalars(
        select(Build.id).where(or_(Build.id.in_(ids), Build.batch_id.in_(ids))).order_by(Build.number)
    ).all()
    found: dict[tuple[str, str, str, str, str], dict[str, str]] = {}
    for build_id in builds:
        for each in by_build(session, build_id):
            if each.domain != run.execution.domain or (each.repository != repository if repository else each.is_copy):
                continue
            at = (each.repository, each.format, each.namespace, each.name, each.version)
            found.setdefault(at, {}).update(each.assets)
    return [
        PinnedVersion(run.execution.domain, where, kind, namespace, name, version, assets)
        for (where, kind, namespace, name, version), assets in found.items()
    ]
