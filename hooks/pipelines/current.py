"""The definition of a pipeline that is in force."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.models.pipeline import Pipeline, PipelineDefinitionVersion
from hooks.pipelines.definition import PipelineDefinition, from_model
from registry.errors import NotFound


def current_definition(session: Session, pipeline_id: int) -> tuple[PipelineDefinitionVersion, PipelineDefinition]:
    """The definition in force, with its row. Raises NotFound."""
    row = session.scalar(
        select(PipelineDefinitionVersion)
        .join(Pipeline, Pipeline.id == PipelineDefinitionVersion.pipeline_id)
        .where(Pipeline.id == pipeline_id, PipelineDefinitionVersion.version == Pipeline.current_version)
    )
    if row is None:
        raise NotFound("pipeline", str(pipeline_id))
    return row, from_model(row.model)
