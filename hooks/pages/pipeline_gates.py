"""Buttons past what keeps executions before stages: overriding a condition, freeze windows, releasing what is held."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from flask import Blueprint, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from hooks.pages.executions import ExecutionPages
from hooks.pages.pipelines import PipelinePages, sentence
from hooks.pages.rights import visible
from hooks.pipelines import freezes, store
from hooks.pipelines.definition import Slot
from hooks.pipelines.gates import check_release, repositories_to_override
from hooks.pipelines.overriding import override_condition
from hooks.pipelines.sticky import let_through, release_stage
from hooks.services import HookServices
from registry.access import Action, check
from registry.errors import Conflict, Denied, Invalid
from registry.http import context
from registry.http.auth import page
from registry.http.problems import status_of
from registry.pages.appearance import redirect_with


class PipelineGatePages:
    """What the pages of pipelines and executions do about gates; they are shown there."""

    def __init__(self, services: HookServices, pipelines: PipelinePages, executions: ExecutionPages) -> None:
        self._services = services
        self._pipelines = pipelines
        self._executions = executions

    def routes(self, pages: Blueprint) -> None:
        """Add the routes."""
        execution, pipeline = "/executions/<int:execution_id>", "/pipelines/<name>"
        pages.add_url_rule(f"{execution}/override", "override", page(self.override), methods=["POST"])
        pages.add_url_rule(f"{execution}/pass", "let_through", page(self.let_through), methods=["POST"])
        pages.add_url_rule(f"{pipeline}/release", "release_stage", page(self.release), methods=["POST"])
        pages.add_url_rule(f"{pipeline}/freeze", "freeze", page(self.freeze), methods=["POST"])
        pages.add_url_rule(f"{pipeline}/unfreeze", "unfreeze", page(self.unfreeze), methods=["POST"])

    def override(self, execution_id: int) -> ResponseReturnValue:
        """Let a condition count as met. Needs the right to approve on what that brings somewhere."""
        who, form = context.caller(), request.form
        stage, reason = form.get("stage", ""), form.get("reason", "").strip()

        def act(session: Session) -> str:
            execution = visible(session, execution_id, who)
            try:
                slot = Slot(form.get("condition", ""))
            except ValueError as error:
                raise Invalid(f"a condition is one of {', '.join(Slot)}") from error
            for path in repositories_to_override(execution, stage, slot):
                check(who, Action.APPROVE, path)
            parts, now = self._services.actions, self._services.clock()
            override_condition(session, parts, execution_id, stage, slot, actor=who.name, reason=reason, now=now)
            return "condition-overridden"

        return self._executions.act_on(execution_id, act)

    def let_through(self, execution_id: int) -> ResponseReturnValue:
        """Let an execution through the freeze windows before its stage. For administrators."""
        who, reason = context.caller(), request.form.get("reason", "").strip()
        check(who, Action.ADMIN)

        def act(session: Session) -> str:
            visible(session, execution_id, who)
            parts, now = self._services.actions, self._services.clock()
            let_through(session, parts, execution_id, actor=who.name, reason=reason, now=now)
            return "let-through"

        return self._executions.act_on(execution_id, act)

    def release(self, name: str) -> ResponseReturnValue:
        """Let what rollbacks have held before a stage enter it again."""
        who, stage, reason = context.caller(), request.form.get("stage", ""), request.form.get("reason", "").strip()

        def act(session: Session) -> str:
            release_stage(
                session,
                self._services.actions,
                name,
                stage,
                actor=who.name,
                reason=reason,
                now=self._services.clock(),
                may=lambda row: check_release(session, who, row),
            )
            return "stage-released"

        return self._act(name, act)

    def freeze(self, name: str) -> ResponseReturnValue:
        """Make a freeze window for this pipeline: once, from a time to a time. For administrators."""
        who, form = context.caller(), request.form
        check(who, Action.ADMIN)

        def act(session: Session) -> str:
            store.get_pipeline(session, name)
            stages = [stage for stage in form.getlist("stages") if stage]
            wanted = freezes.NewFreeze(
                form.get("freeze", "").strip(),
                form.get("reason", "").strip(),
                name,
                stages or None,
                _moment(form.get("starts_at", "")),
                _moment(form.get("ends_at", "")),
            )
            freezes.create_freeze(session, wanted, actor=who.name, now=self._services.clock())
            return "freeze-made"

        return self._act(name, act)

    def unfreeze(self, name: str) -> ResponseReturnValue:
        """Take a freeze window away. For administrators."""
        who = context.caller()
        check(who, Action.ADMIN)

        def act(session: Session) -> str:
            wanted = request.form.get("freeze", "")
            freezes.delete_freeze(session, wanted, actor=who.name, now=self._services.clock())
            return "freeze-gone"

        return self._act(name, act)

    def _act(self, name: str, act: Callable[[Session], str]) -> ResponseReturnValue:
        try:
            notice = self._services.db.retry(act)
        except (Invalid, Conflict, Denied) as error:
            return self._pipelines.shown(name, sentence(error)), status_of(error)
        return redirect_with(notice, url_for("hook_pages.pipeline", name=name))


def _moment(text: str) -> datetime | None:
    """What a field for a date and a time holds, told in UTC. Raises Invalid."""
    if not text.strip():
        return None
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise Invalid(f"{text[:40]!r} is no date and time") from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
