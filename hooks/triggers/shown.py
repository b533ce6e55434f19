"""The sources of a pipeline that take no package versions, as people see them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.models.pipeline import Pipeline
from hooks.models.pipeline_source import PipelineHook, PipelineLocation, SourceWatch
from hooks.pipelines.definition import GIT_PROVIDERS, PipelineDefinition
from hooks.pipelines.pinning import GIT, OBJECT
from hooks.pipelines.sources.connections import locate
from hooks.pipelines.sources.git_settings import settings_of
from registry.errors import Invalid, NotFound


@dataclass(frozen=True, slots=True)
class SourceShown:
    """A source; ``called`` is its address. What tells of it and how asking went is there for administrators alone."""

    action: str
    kind: str
    called: str
    branch: str = ""
    watch: SourceWatch | None = None
    hooks: tuple[PipelineHook, ...] = ()


def location_shown(session: Session, pipeline: str) -> PipelineLocation | None:
    """Where a pipeline's definition comes from; None where it is applied by hand."""
    return session.get(PipelineLocation, pipeline)


def locations_without_pipeline(session: Session) -> list[PipelineLocation]:
    """Those of pipelines that are not there yet: their first definition has not come, or has a fault."""
    there = select(Pipeline.name)
    wanted = select(PipelineLocation).where(PipelineLocation.name.not_in(there)).order_by(PipelineLocation.name)
    return list(session.scalars(wanted))


def sources_shown(
    session: Session, pipeline_id: int, definition: PipelineDefinition, *, is_admin: bool
) -> list[SourceShown]:
    """The sources, in the document's order."""
    watches, hooks = {}, []
    if is_admin:
        rows = session.scalars(select(SourceWatch).where(SourceWatch.pipeline_id == pipeline_id))
        watches = {row.action: row for row in rows}
        made = select(PipelineHook).where(PipelineHook.pipeline_id == pipeline_id)
        hooks = list(session.scalars(made.order_by(PipelineHook.created_at, PipelineHook.id)))
    found = []
    for action in definition.sources:
        said = action.configuration
        if action.type.provider == "S3":
            told = tuple(hook for hook in hooks if hook.action == action.name)
            found.append(SourceShown(action.name, OBJECT, f"{said['S3Bucket']}/{said['S3ObjectKey']}", hooks=told))
        if action.type.provider not in GIT_PROVIDERS:
            continue
        settings = settings_of(said)
        try:
            url = locate(session, settings).url
        except (NotFound, Invalid):  # said where it is fetched; here it has a name all the same
            url = settings.url or settings.full_name
        told = tuple(hook for hook in hooks if hook.action == action.name)
        found.append(SourceShown(action.name, GIT, url, settings.branch, watches.get(action.name), told))
    return found
