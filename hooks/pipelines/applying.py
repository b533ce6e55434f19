"""Applying documents: everything that one declares becomes rows, or with a fault nothing does."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.models.pipeline import Pipeline, PipelineDefinitionVersion
from hooks.models.pipeline_source import PipelineLocation
from hooks.pipelines import property_secrets
from hooks.pipelines.applied import Applied
from hooks.pipelines.approvers import check_known, is_manual, named_approvers
from hooks.pipelines.custom_types import providers as custom_providers
from hooks.pipelines.declaration import Secrets, parse_documents
from hooks.pipelines.definition import (
    BuildProjectDeclaration,
    Declaration,
    DefinitionLocation,
    PipelineDefinition,
    to_model,
)
from hooks.pipelines.locations import apply_location
from hooks.pipelines.parts import Parts
from hooks.pipelines.provider import Provider
from hooks.pipelines.providers import PROVIDERS
from hooks.pipelines.schedule_rows import keep_schedules
from hooks.pipelines.watches import keep_watches
from registry import audit
from registry.errors import Conflict, Invalid, InvalidDocument


def apply_document(session: Session, parts: Parts, text: str, *, actor: str, now: datetime) -> list[Applied]:
    """Create or update everything that ``text`` declares; all of it or, with InvalidDocument, nothing.

    Text that is in force already changes nothing, so that applying a file again is harmless. Executions in progress
    stay on the definition they started with.
    """
    found = parse_documents(text, known_providers(session))
    # A pipeline before the projects that its executions build with, as everywhere; of several the names in order.
    lock_pipelines(session, [each.declares.name for each in found if isinstance(each.declares, PipelineDefinition)])
    return [
        replace(
            apply_declared(session, parts, each.declares, each.text, secrets=each.secrets, actor=actor, now=now),
            warnings=each.warnings,
        )
        for each in found
    ]


def known_providers(session: Session) -> Sequence[Provider]:
    """Everything that actions of a document can be: the server's own kinds, and the custom types."""
    return (*PROVIDERS, *custom_providers(session))


def lock_pipelines(session: Session, names: Collection[str]) -> None:
    """Keep others from changing pipelines of these names until the transaction ends."""
    wanted = select(Pipeline.id).where(Pipeline.name.in_(sorted(names)))
    session.execute(wanted.order_by(Pipeline.name).with_for_update())


def apply_declared(
    session: Session,
    parts: Parts,
    declares: Declaration,
    text: str,
    *,
    secrets: Secrets | None = None,
    actor: str,
    now: datetime,
    comes_from_source: bool = False,
) -> Applied:
    """Create or update one pipeline, whose document is ``text``, one build project, or where a pipeline comes from.

    ``secrets`` are what ``text`` masks.
    Raises InvalidDocument, and Conflict for a pipeline that comes from its source, unless this one does.
    """
    if isinstance(declares, BuildProjectDeclaration):
        change = parts.apply_build_project(session, declares, now)
        if change != "unchanged":
            audit.record(session, now, actor, f"build_project.{change[:-1]}", f"build-project/{declares.name}")
        return Applied("build project", declares.name, change)
    if isinstance(declares, DefinitionLocation):
        return apply_location(session, declares, actor, now)
    if not comes_from_source and session.get(PipelineLocation, declares.name) is not None:
        raise Conflict(
            f"the definition of pipeline {declares.name} comes from its source; push it there, or detach it first"
            f" (entrepot pipeline detach {declares.name})"
        )
    keeps_author = not comes_from_source
    return _apply_pipeline(
        session, parts, declares, text, secrets or {}, actor=actor, now=now, keeps_author=keeps_author
    )


def _apply_pipeline(
    session: Session,
    parts: Parts,
    definition: PipelineDefinition,
    text: str,
    secrets: Secrets,
    *,
    actor: str,
    now: datetime,
    keeps_author: bool,
) -> Applied:
    # Locked, so that two who apply at once get two versions one after the other.
    row = session.scalar(select(Pipeline).where(Pipeline.name == definition.name).with_for_update())
    change = "updated"
    held = property_secrets.of_current(session, parts.sealer, row) if row is not None and secrets else {}
    values = property_secrets.filled(secrets, held)
    if row is None:
        change = "created"
        row = Pipeline(name=definition.name, current_version=0, created_at=now, updated_at=now)
        session.add(row)
        session.flush()
    elif values == held and _is_in_force(session, row, text, None if keeps_author else actor):
        return Applied("pipeline", row.name, "unchanged", row.current_version)
    _check_approvers(session, definition)
    row.current_version += 1
    row.updated_at = now
    made = PipelineDefinitionVersion(
        pipeline_id=row.id,
        version=row.current_version,
        document=text,
        model=to_model(definition),
        created_at=now,
        created_by=actor,
    )
    session.add(made)
    session.flush()
    keep_watches(session, row.id, definition)
    keep_schedules(session, row.id, definition, now)
    property_secrets.keep(session, parts.sealer, made.id, values)
    action = "pipeline.create" if change == "created" else "pipeline.update"
    audit.record(session, now, actor, action, f"pipeline/{row.name}", version=row.current_version)
    return Applied("pipeline", row.name, change, row.current_version)


def _check_approvers(session: Session, definition: PipelineDefinition) -> None:
    """Refuse an approval that asks somebody whom nobody knows. Raises Invalid."""
    for stage in definition.stages:
        for action in stage.actions:
            if is_manual(action.type.category, action.type.provider):
                try:
                    check_known(session, named_approvers(action.configuration))
                except Invalid as error:
                    raise InvalidDocument(
                        f"pipeline {definition.name}", [f"action {stage.name}/{action.name}: {error}"]
                    ) from error


def _is_in_force(session: Session, row: Pipeline, text: str, author: str | None) -> bool:
    """Whether the current version is this text, and by that author if there has to be one: their rights are its own."""
    found = session.execute(
        select(PipelineDefinitionVersion.document, PipelineDefinitionVersion.created_by).where(
            PipelineDefinitionVersion.pipeline_id == row.id, PipelineDefinitionVersion.version == row.current_version
        )
    ).one()
    return found.document == text and author in {None, found.created_by}
