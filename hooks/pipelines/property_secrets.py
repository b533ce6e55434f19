"""The values of secret properties: sealed with the definition that they stand in, and told to workers alone."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.models.action_job import PipelineSecret
from hooks.models.pipeline import Pipeline, PipelineDefinitionVersion
from hooks.pipelines.declaration import MASK, Secrets
from hooks.secret_store.store import Sealer
from registry.db import table_of
from registry.errors import Conflict, InvalidDocument
from registry.repos.sealed_fields import SealedField


def filled(secrets: Secrets, held: Secrets) -> Secrets:
    """``secrets`` with what is ``held`` where they are masked. Raises InvalidDocument where nothing is."""
    lacking = [place for place, value in secrets.items() if value == MASK and place not in held]
    if lacking:
        told = f"is masked, and there is no value of it yet: write it where {MASK} stands"
        raise InvalidDocument(
            "pipeline document",
            [f"action {stage}/{action}: configuration {name} {told}" for stage, action, name in lacking],
        )
    return {place: held[place] if value == MASK else value for place, value in secrets.items()}


def of_current(session: Session, sealer: Sealer | None, pipeline: Pipeline) -> Secrets:
    """The secrets of a pipeline's definition in force."""
    rows = session.scalars(
        select(PipelineSecret)
        .join(PipelineDefinitionVersion, PipelineDefinitionVersion.id == PipelineSecret.definition_id)
        .where(
            PipelineDefinitionVersion.pipeline_id == pipeline.id,
            PipelineDefinitionVersion.version == pipeline.current_version,
        )
    )
    return {(row.stage, row.action, row.property): _opened(sealer, row) for row in rows}


def of_action(
    session: Session, sealer: Sealer | None, definition_id: int, stage: str, action: str
) -> Mapping[str, str]:
    """Property → value of one action. Raises storage.errors.Damaged or KeyUnavailable."""
    rows = session.scalars(
        select(PipelineSecret).where(
            PipelineSecret.definition_id == definition_id,
            PipelineSecret.stage == stage,
            PipelineSecret.action == action,
        )
    )
    return {row.property: _opened(sealer, row) for row in rows}


def keep(session: Session, sealer: Sealer | None, definition_id: int, secrets: Secrets) -> None:
    """Write the secrets of a new definition."""
    for (stage, action, name), value in secrets.items():
        context = context_of(definition_id, stage, action, name)
        session.add(
            PipelineSecret(
                definition_id=definition_id,
                stage=stage,
                action=action,
                property=name,
                sealed=sealing(sealer).seal(value.encode(), context),
            )
        )
    session.flush()


def sealing(sealer: Sealer | None) -> Sealer:
    """What seals. Raises Conflict for a process without keys."""
    if sealer is None:
        raise Conflict("this process has no keys to seal secrets with")
    return sealer


def context_of(definition_id: int, stage: str, action: str, name: str) -> str:
    """What a box is bound to. None of the names can hold a slash."""
    return f"pipeline-secret:{definition_id}/{stage}/{action}/{name}"


def sealed_properties() -> SealedField:
    """Where the values lie, for whoever rotates the server's keys."""
    table = table_of(PipelineSecret)
    columns = table.c
    rows = select(columns.definition_id, columns.stage, columns.action, columns.property, columns.sealed)
    return SealedField(
        "secret properties of pipelines",
        table,
        "sealed",
        rows,
        lambda row: context_of(row.definition_id, row.stage, row.action, row.property),
    )


def _opened(sealer: Sealer | None, row: PipelineSecret) -> str:
    context = context_of(row.definition_id, row.stage, row.action, row.property)
    return sealing(sealer).unseal(row.sealed, context).decode()
