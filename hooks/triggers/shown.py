"""The sources of a pipeline that take no package versions, as people see them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.models.pipeline import Pipeline
from hooks.models.pipeline_source import PipelineHook, PipelineLocation, SourceWatch
from hooks.pipelines import store
from hooks.pipelines.definition import GIT_PROVIDERS, PipelineDefinition
from hooks.pipelines.pinning import GIT, OBJECT
from hooks.pipelines.source_places import hidden_sources
from hooks.pipelines.sources.connections import locate
from hooks.pipelines.sources.git_settings import settings_of
from registry.access import Action, Identity
from registry.errors import Invalid, NotFound


@dataclass(frozen=True, slots=True)
class SourceShown:
    """A source; ``called`` is its address, or its name. What tells of it and how asking went is for administrators alone."""

    action: str
    kind: str
    called: str
    branch: str = ""
    watch: SourceWatch | None = None
    hooks: tuple[PipelineHook, ...] = ()


def location_shown(session: Session, pipeline: str, who: Identity) -> PipelineLocation | None:
    """Where a pipeline's definition comes from; None where it is applied by hand, or that is not for these eyes.

    A fault says who may not do what where: it is for administrators, and for readers of the repository that it belongs to.
    """
    row = session.get(PipelineLocation, pipeline)
    if row is None or who.may(Action.ADMIN):
        return row
    try:
        located = locate(session, settings_of(row.source))
    except (NotFound, Invalid):  # nobody's repository now
        return None
    return row if who.may(Action.READ, f"{located.domain}/{located.repository}") else None


def locations_without_pipeline(session: Session) -> list[PipelineLocation]:
    """Those of pipelines that are not there yet: their first definition has not come, or has a fault."""
    there = select(Pipeline.name)
    wanted = select(PipelineLocation).where(PipelineLocation.name.not_in(there)).order_by(PipelineLocation.name)
    return list(session.scalars(wanted))


def sources_shown(
    session: Session, pipeline_id: int, definition: PipelineDefinition, who: Identity
) -> list[SourceShown]:
    """The sources, in the document's order. Who may not read where one belongs is told what the definition says of it."""
    watches, hooks = {}, []
    if who.may(Action.ADMIN):
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
        url = settings.url or settings.full_name
        try:
            located = locate(session, settings)
            if who.may(Action.ADMIN) or who.may(Action.READ, f"{located.domain}/{located.repository}"):
                url = located.url
        except (NotFound, Invalid):
            pass  # said where it is fetched; here it has a name all the same
        told = tuple(hook for hook in hooks if hook.action == action.name)
        found.append(SourceShown(action.name, GIT, url, settings.branch, watches.get(action.name), told))
    return found


def execution_shown(session: Session, execution: store.ExecutionView, who: Identity) -> store.ExecutionView:
    """An execution as somebody may see it: of sources that belong where they may not read, the revisions and no more."""
    if not execution.revisions:
        return execution
    summary = execution.summary
    definition = store.get_pipeline(session, summary.pipeline, summary.definition_version).definition
    hidden = hidden_sources(session, definition, who)
    if not hidden:
        return execution
    revisions = tuple(
        replace(each, location="", message="", url="") if each.action in hidden else each
        for each in execution.revisions
    )
    first = definition.stages[0].name
    stages = tuple(
        replace(stage, actions=tuple(_silent(each) if each.name in hidden else each for each in stage.actions))
        if stage.name == first
        else stage
        for stage in execution.stages
    )
    return replace(execution, revisions=revisions, stages=stages)


def _silent(action: store.ActionExecutionView) -> store.ActionExecutionView:
    """Without what its source said: the commit's message, the place that it comes from, why it could not be fetched."""
    attempts = tuple(_silent(each) for each in action.attempts)
    return replace(action, output_variables=None, summary="", attempts=attempts)
