"""Pipelines: apply documents, look at definitions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from hooks.pipelines import pipeline_state, store
from hooks.pipelines.applied import Applied
from hooks.pipelines.applying import apply_document, known_providers
from hooks.pipelines.declaration import parse_documents
from hooks.pipelines.definition import BuildProjectDeclaration, DefinitionLocation, PipelineDefinition
from hooks.pipelines.gates import may_look_into
from hooks.pipelines.transitions import MAX_REASON_CHARACTERS, disable_transition, enable_transition
from hooks.services import HookServices
from registry.access import Action
from registry.api.routes import Route
from registry.api.shapes import Between, Length
from registry.http import context
from registry.http.auth import requires, signed_in_api

MOST_DOCUMENT_CHARACTERS = 512 * 1024
_KINDS: dict[type, str] = {
    PipelineDefinition: "pipeline",
    BuildProjectDeclaration: "build project",
    DefinitionLocation: "pipeline source",
}


@dataclass(frozen=True, slots=True)
class Document:
    """Pipelines and build projects, as YAML or JSON; several may stand in one text, separated by ``---``."""

    document: Annotated[str, Length(1, MOST_DOCUMENT_CHARACTERS)]


@dataclass(frozen=True, slots=True)
class AppliedList:
    """What became of each part of a document, in its order."""

    items: tuple[Applied, ...]


@dataclass(frozen=True, slots=True)
class LintedDocument:
    """A part of a document that has no fault. ``kind`` is a word as ``Applied`` has it."""

    kind: str
    name: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LintedList:
    """What each part of a document declares, in its order."""

    items: tuple[LintedDocument, ...]


@dataclass(frozen=True, slots=True)
class PipelineList:
    """Pipelines by name; ``next`` goes into ``after`` for the following ones, null at the end."""

    items: tuple[store.PipelineSummary, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class PipelineQuery:
    """Where to go on in the list."""

    after: Annotated[str, Length(0, 100)] = ""
    limit: Annotated[int, Between(1, 200)] = 50


@dataclass(frozen=True, slots=True)
class DefinitionQuery:
    """Which version of the definition; the one in force if not said."""

    version: Annotated[int, Between(1, 2**31 - 1)] | None = None


@dataclass(frozen=True, slots=True)
class Transition:
    """The way into ``stage``, opened or closed; a closed one needs a ``reason``."""

    stage: Annotated[str, Length(1, 100)]
    enabled: bool
    reason: Annotated[str, Length(0, MAX_REASON_CHARACTERS)] = ""


class PipelineViews:
    """The operations on pipelines."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self) -> tuple[Route, ...]:
        """The part of the table."""
        return (
            Route("PUT", "/pipelines", requires(Action.ADMIN), self.apply_pipelines, body=Document, answer=AppliedList),
            Route("POST", "/pipelines/lint", signed_in_api, self.lint_pipelines, body=Document, answer=LintedList),
            Route("GET", "/pipelines", signed_in_api, self.list_pipelines, query=PipelineQuery, answer=PipelineList),
            Route(
                "GET",
                "/pipelines/<pipeline>",
                signed_in_api,
                self.show_pipeline,
                query=DefinitionQuery,
                answer=store.PipelineView,
            ),
            Route(
                "GET",
                "/pipelines/<pipeline>/state",
                signed_in_api,
                self.show_state,
                answer=pipeline_state.PipelineState,
            ),
            Route(
                "POST",
                "/pipelines/<pipeline>/transition",
                requires(Action.ADMIN),
                self.change_transition,
                body=Transition,
                answer=pipeline_state.PipelineState,
            ),
        )

    def apply_pipelines(self, body: Document) -> AppliedList:
        """Create or update everything a document declares: all of it, or with a fault nothing.

        What is in force already changes nothing. Executions in progress stay on the definition they started with.
        """
        services = self._services
        with services.db.write() as session:
            applied = apply_document(
                session, services.actions, body.document, actor=context.caller().name, now=services.clock()
            )
        return AppliedList(tuple(applied))

    def lint_pipelines(self, body: Document) -> LintedList:
        """Say what is wrong with a document, all of it at once, as applying it would. Nothing is changed.

        Names of projects, repositories and people are not looked up: that is for those who may apply it.
        """
        with self._services.db.read() as session:
            found = parse_documents(body.document, known_providers(session))
        return LintedList(
            tuple(LintedDocument(_KINDS[type(each.declares)], each.declares.name, each.warnings) for each in found)
        )

    def list_pipelines(self, query: PipelineQuery) -> PipelineList:
        """All pipelines. The last execution is told to those who may read its repository."""
        caller = context.caller()
        with self._services.db.read() as session:
            # Sorted here, because databases sort letters each in their own way and the place is compared here.
            found = sorted(store.list_pipelines(session), key=lambda entry: entry.name)
        found = [entry for entry in found if entry.name > query.after]
        shown = tuple(
            entry
            if entry.last_execution is None or may_look_into(caller, entry.last_execution)
            else store.PipelineSummary(entry.id, entry.name, entry.version, entry.updated_at, None)
            for entry in found[: query.limit]
        )
        return PipelineList(shown, shown[-1].name if len(found) > len(shown) else None)

    def show_pipeline(self, pipeline: str, query: DefinitionQuery) -> store.PipelineView:
        """A pipeline's definition, verbatim and as it was understood."""
        with self._services.db.read() as session:
            return store.get_pipeline(session, pipeline, query.version)

    def show_state(self, pipeline: str) -> pipeline_state.PipelineState:
        """What is in each stage, what waits before it, and whether the way in is open, as far as the caller may see it."""
        with self._services.db.read() as session:
            return pipeline_state.get_pipeline_state(
                session, pipeline, partial(may_look_into, context.caller()), self._services.clock()
            )

    def change_transition(self, pipeline: str, body: Transition) -> pipeline_state.PipelineState:
        """Close the way into a stage, so that executions wait before it, or open it again."""
        services, caller = self._services, context.caller()
        now = services.clock()
        with services.db.write() as session:
            if body.enabled:
                enable_transition(session, services.actions, pipeline, body.stage, actor=caller.name, now=now)
            else:
                disable_transition(session, pipeline, body.stage, reason=body.reason, actor=caller.name, now=now)
            session.flush()
            return pipeline_state.get_pipeline_state(session, pipeline, partial(may_look_into, caller), now)
