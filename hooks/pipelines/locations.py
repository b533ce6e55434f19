"""Where pipelines' definitions come from, as rows: set by an administrator, let go of by one."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from hooks.jobs.queue import enqueue
from hooks.models.pipeline_source import PipelineLocation
from hooks.pipelines.actions.git import QUEUE
from hooks.pipelines.applied import Applied
from hooks.pipelines.definition import DefinitionLocation
from hooks.pipelines.sources.connections import locate
from hooks.pipelines.sources.git_settings import settings_of
from registry import audit
from registry.accounts import find_account
from registry.errors import NotFound
from registry.repos.topology import find_repository

JOB_KIND = "apply_definition"


def apply_location(session: Session, location: DefinitionLocation, actor: str, now: datetime) -> Applied:
    """Let a pipeline's definition come from a repository from now on, the newest at once.

    It has the rights of the account that ``location`` names, or of ``actor``.
    Raises NotFound for the connection, the account, or the repository whose readers see it, and Invalid.
    """
    whose = find_account(session, location.account).name if location.account else actor
    located = locate(session, settings_of(location.source))
    find_repository(session, located.domain, located.repository)
    row = session.get(PipelineLocation, location.name, with_for_update=True)
    said = (dict(location.source), location.path, whose)
    if row is not None and (dict(row.source), row.path, row.configured_by) == said:
        change = "unchanged"
    else:
        change = "created" if row is None else "updated"
        if row is None:
            row = PipelineLocation(name=location.name, commit="")
            session.add(row)
        row.source, row.path, row.configured_by = said
        row.seen_commit, row.fault, row.changed_at, row.asked_at = "", "", now, None
        session.flush()
        about = {"url": located.url, "branch": location.source["BranchName"], "file": location.path, "as": whose}
        audit.record(session, now, actor, "pipeline.locate", f"pipeline/{location.name}", **about)
    ask_for_definition(session, location.name)
    return Applied("pipeline source", location.name, change)


def ask_for_definition(session: Session, name: str, told: dict[str, object] | None = None) -> None:
    """Have the newest definition fetched and applied; then what is ``told`` of a push is listened to."""
    commit = str((told or {}).get("commit", ""))
    enqueue(
        session,
        JOB_KIND,
        {"name": name, "told": told},
        queue=QUEUE,
        dedupe=f"{JOB_KIND}:{name}:{commit}",
        serial_key=f"{JOB_KIND}:{name}",
        subject=f"pipeline:{name}"[:100],
        timeout_seconds=900,
    )


def detach(session: Session, name: str, actor: str, now: datetime) -> None:
    """Let the definition in force stay, and be changed by hand again. Raises NotFound."""
    row = session.get(PipelineLocation, name)
    if row is None:
        raise NotFound("source of the definition of pipeline", name)
    session.delete(row)
    audit.record(session, now, actor, "pipeline.detach", f"pipeline/{name}")
