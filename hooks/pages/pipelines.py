"""Pipelines: all of them, one with its stages, executions and definition; starting one, closing a stage."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import partial

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from hooks.pages.rights import may_release
from hooks.pipelines import store
from hooks.pipelines.definition import PipelineDefinition
from hooks.pipelines.freezes import list_freezes
from hooks.pipelines.gates import may_look_into
from hooks.pipelines.pipeline_state import get_pipeline_state
from hooks.pipelines.transitions import disable_transition, enable_transition
from hooks.services import HookServices
from hooks.triggers.collect import Coordinates
from hooks.triggers.match import Candidate, PackageFilter, filter_of
from hooks.triggers.overrides import COMMIT_ID, check_revisions, place_of_source
from hooks.triggers.shown import location_shown, locations_without_pipeline, sources_shown
from hooks.triggers.start import start_manual
from registry.access import Action, Identity, check
from registry.errors import Conflict, Denied, Invalid, NotFound, Problem
from registry.http import context
from registry.http.auth import page
from registry.http.problems import status_of
from registry.pages.appearance import redirect_with
from registry.pages.panels import Coordinate
from registry.repos import browse
from registry.repos.topology import find_repository

EXECUTIONS_SHOWN = 25
_VARIABLE_PREFIX, _REVISION_PREFIX = "variable-", "revision-"


class PipelinePages:
    """The pages of pipelines."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self, pages: Blueprint) -> None:
        """Add the routes."""
        pages.add_url_rule("/pipelines", "pipelines", page(self.list_pipelines))
        pages.add_url_rule("/pipelines/<name>", "pipeline", page(self.show))
        pages.add_url_rule("/pipelines/<name>/start", "start", page(self.start), methods=["POST"])
        pages.add_url_rule("/pipelines/<name>/transition", "transition", page(self.change_transition), methods=["POST"])

    def list_pipelines(self) -> str:
        """All pipelines, each with its latest execution as a row of stages."""
        who = context.caller()
        with self._services.db.read() as session:
            found = store.list_pipelines(session)
            last = [entry.last_execution for entry in found]
            latest = _looked_into(session, who, [each for each in last if each is not None])
            coming = locations_without_pipeline(session) if who.may(Action.ADMIN) else []
        entries = [
            (entry, latest.get(each.id) if each is not None else None) for entry, each in zip(found, last, strict=True)
        ]
        return render_template("pipelines/list.html", entries=entries, coming=coming)

    def show(self, name: str) -> str:
        """One pipeline."""
        return self.shown(name)

    def shown(self, name: str, message: str = "") -> str:
        """The page of a pipeline, with what was wrong with the form that was sent."""
        who = context.caller()
        before = request.args.get("before", type=int)
        with self._services.db.read() as session:
            pipeline = store.get_pipeline(session, name)
            state = get_pipeline_state(session, name, partial(may_look_into, who), self._services.clock())
            windows = list_freezes(session, self._services.clock(), name)
            releases = [
                stage.stage_name for stage in state.stage_states if may_release(session, who, pipeline.id, stage)
            ]
            location = location_shown(session, name, who)
            sources = sources_shown(session, pipeline.id, pipeline.definition, who)
            found = store.list_executions(session, pipeline=name, before_id=before, limit=EXECUTIONS_SHOWN + 1)
            shown = list(_looked_into(session, who, found[:EXECUTIONS_SHOWN]).values())
        return render_template(
            "pipelines/pipeline.html",
            pipeline=pipeline,
            state=state,
            may_close=who.may(Action.ADMIN),
            freezes=windows,
            releases=releases,
            source=filter_of(pipeline.definition),
            sources=sources,
            location=location,
            executions=shown,
            before=before,
            next_before=found[EXECUTIONS_SHOWN - 1].id if len(found) > EXECUTIONS_SHOWN else None,
            message=message,
            form=request.form,
            # Sent twice (a double click, a reload), the form starts one execution.
            request_token=secrets.token_urlsafe(16),
        )

    def start(self, name: str) -> ResponseReturnValue:
        """Start an execution by hand. Needs the right that starts one anyway: to publish where the version, or source, is."""
        who = context.caller()
        given = {
            key.removeprefix(_REVISION_PREFIX): (COMMIT_ID, value.strip())
            for key, value in request.form.items()
            if key.startswith(_REVISION_PREFIX) and value.strip()
        }
        try:
            with self._services.db.write() as session:
                takes = filter_of(store.get_pipeline(session, name).definition)
                if takes is None:
                    check(who, Action.PUBLISH, "/".join(place_of_source(session, name)))
                at = self._coordinates(session, takes) if takes is not None else None
                check_revisions(session, who, name, given)
                started = start_manual(
                    session,
                    self._services.actions,
                    name,
                    at,
                    actor=who.name,
                    now=self._services.clock(),
                    variables=self._variables(),
                    revisions=given,
                    request_token=request.form.get("request_token") or None,
                )
        except (Invalid, NotFound, Conflict, Denied) as error:
            return self.shown(name, sentence(error)), status_of(error)
        notice = "execution-started" if started.is_new else "execution-there"
        return redirect_with(notice, url_for("hook_pages.execution", execution_id=started.execution_id))

    def change_transition(self, name: str) -> ResponseReturnValue:
        """Close the way into a stage, or open it again."""
        who, form = context.caller(), request.form
        check(who, Action.ADMIN)
        stage, now, is_open = form.get("stage", ""), self._services.clock(), form.get("to") == "open"
        try:
            with self._services.db.write() as session:
                if is_open:
                    enable_transition(session, self._services.actions, name, stage, actor=who.name, now=now)
                else:
                    reason = form.get("reason", "").strip()
                    disable_transition(session, name, stage, reason=reason, actor=who.name, now=now)
        except (Invalid, Conflict) as error:
            return self.shown(name, sentence(error)), status_of(error)
        return redirect_with("stage-opened" if is_open else "stage-closed", url_for("hook_pages.pipeline", name=name))

    @staticmethod
    def _coordinates(session: Session, source: PackageFilter) -> Coordinates:
        """The version the form names, in canonical spelling."""
        form = request.form
        repository, written = form.get("repository", "").strip(), form.get("package", "").strip()
        check(context.caller(), Action.PUBLISH, f"{source.domain}/{repository}")
        _, found = find_repository(session, source.domain, repository)
        known = context.services().formats.get(source.format)
        if known is None:
            raise NotFound("format", source.format)
        key = known.key(written)
        version = browse.canonical_version(
            session, found.id, *key, form.get("version", "").strip(), sort_key=known.sort_key
        )
        return Coordinates(source.domain, repository, *key, version)

    @staticmethod
    def _variables() -> dict[str, str]:
        # An empty field stands for the default, which a field without a default then lacks.
        return {
            key.removeprefix(_VARIABLE_PREFIX): value
            for key, value in request.form.items()
            if key.startswith(_VARIABLE_PREFIX) and value
        }


def startable(session: Session, who: Identity, at: Coordinate) -> list[tuple[str, PipelineDefinition]]:
    """The pipelines that somebody could start for a version: those that take it, if they may publish there."""
    if not who.may(Action.PUBLISH, f"{at.domain}/{at.repository}"):
        return []
    name = f"{at.namespace}/{at.name}" if at.namespace else at.name
    candidate = Candidate(at.domain, at.repository, at.format, name, at.version)
    found = []
    for entry in store.list_pipelines(session):
        definition = store.get_pipeline(session, entry.name).definition
        needs_values = any(variable.default is None for variable in definition.variables)
        takes = filter_of(definition)
        if takes is not None and takes.matches(candidate) and not needs_values:
            found.append((entry.name, definition))
    return found


def _looked_into(
    session: Session, who: Identity, found: Sequence[store.ExecutionSummary]
) -> dict[int, store.ExecutionView]:
    """Those of these executions that somebody may be told of, in their order, with their stages: two queries for all."""
    allowed = [each.id for each in found if may_look_into(who, each)]
    views = store.get_executions(session, allowed)
    return {number: views[number] for number in allowed}


def sentence(error: Problem) -> str:
    """A refusal as a page says it."""
    text = str(error)
    return text[:1].upper() + text[1:]
