"""One execution: its stages as they stand, what it waits for, what it is about, and how it came here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from hooks.pages.rights import may_steer, path_of, stages_to_override, stages_to_roll_back, visible
from hooks.pipelines import store
from hooks.pipelines.abandoning import check_abandon
from hooks.pipelines.approvals import Verdict, decide
from hooks.pipelines.asking import questions
from hooks.pipelines.definition import RetryMode, Slot
from hooks.pipelines.gates import may_look_into, repositories_behind, repositories_of
from hooks.pipelines.pipeline_state import is_frozen_out, why_inbound
from hooks.pipelines.rollback import rollback_stage
from hooks.pipelines.state import ExecutionStatus
from hooks.pipelines.steering import retry_stage, stop_execution
from hooks.services import HookServices
from hooks.triggers.shown import execution_shown
from registry.access import Action, check
from registry.errors import Conflict, Denied, Invalid, Problem
from registry.http import context
from registry.http.auth import page
from registry.http.problems import status_of
from registry.pages.appearance import redirect_with

_TRIGGERS = {
    "manual": "it by hand",
    "event": "it by publishing",
    "rollback": "the rollback",
    "auto-rollback": "the rollback",
    "invoke": "it by an action",
}

_CONDITIONS = {"BEFORE_ENTRY": "the condition before entry", "ON_SUCCESS": "the condition on success"}

Word = TypeVar("Word", Verdict, RetryMode)


@dataclass(frozen=True, slots=True)
class Decision:
    """Something a person did to an execution. ``what`` is approved, rejected, overrode, started or stopped."""

    at: datetime
    who: str
    what: str
    where: str
    comment: str


class ExecutionPages:
    """The pages of executions."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self, pages: Blueprint) -> None:
        """Add the routes."""
        one = "/executions/<int:execution_id>"
        pages.add_url_rule(one, "execution", page(self.show))
        pages.add_url_rule(f"{one}/live", "execution_live", page(self.live))
        pages.add_url_rule(f"{one}/approval", "answer", page(self.answer), methods=["POST"])
        pages.add_url_rule(f"{one}/stop", "stop_execution", page(self.stop), methods=["POST"])
        pages.add_url_rule(f"{one}/retry", "retry_stage", page(self.retry), methods=["POST"])
        pages.add_url_rule(f"{one}/rollback", "rollback_stage", page(self.roll_back), methods=["POST"])

    def show(self, execution_id: int) -> str:
        """The whole page."""
        return self._render("pipelines/execution.html", execution_id)

    def live(self, execution_id: int) -> str:
        """The part that changes, for a page that is open."""
        return self._render("pipelines/execution_live.html", execution_id)

    def _render(self, template: str, execution_id: int, message: str = "") -> str:
        who = context.caller()
        with self._services.db.read() as session:
            execution = execution_shown(session, visible(session, execution_id, who), who)
            now = self._services.clock()
            waits = why_inbound(session, execution, now)
            frozen = is_frozen_out(session, execution, now)
            asked = questions(session, self._services.actions, execution, who)
        return render_template(
            template,
            execution=execution,
            summary=execution.summary,
            questions=asked,
            decisions=_decisions(execution),
            is_final=ExecutionStatus(execution.summary.status).is_final,
            may_steer=may_steer(execution, who),
            waits=waits,
            may_pass=frozen and who.may(Action.ADMIN),
            # In a freeze a condition before entry is not overridden: the freeze comes first.
            overrides={
                stage: slot
                for stage, slot in stages_to_override(execution, who).items()
                if not (frozen and slot == Slot.BEFORE_ENTRY)
            },
            rolls_back=stages_to_roll_back(execution, who),
            may_read=may_look_into(who, execution.summary),
            message=message,
            now=self._services.clock(),
        )

    def answer(self, execution_id: int) -> ResponseReturnValue:
        """Approve or reject. Needs the right to approve on everything the approval stands before."""
        who, form = context.caller(), request.form
        stage, action = form.get("stage", ""), form.get("action", "")

        def act(session: Session) -> str:
            verdict = _word(Verdict, form.get("verdict", ""))
            for path in repositories_behind(visible(session, execution_id, who), stage, action):
                check(who, Action.APPROVE, path)
            is_decided = decide(
                session,
                self._services.actions,
                execution_id,
                stage,
                action,
                verdict=verdict,
                comment=form.get("comment", "").strip(),
                actor=who.name,
                now=self._services.clock(),
                # What the form was made from: an approval that was asked anew meanwhile is not answered by it.
                token=form.get("token", ""),
            )
            return verdict.value.lower() if is_decided else "approved-further"

        return self.act_on(execution_id, act)

    def stop(self, execution_id: int) -> ResponseReturnValue:
        """Stop, letting running actions end, or abandoning them."""
        who = context.caller()

        def act(session: Session) -> str:
            self._check_steering(session, execution_id)
            abandon = "abandon" in request.form
            if abandon:
                check_abandon(session, who, execution_id)
            stop_execution(
                session,
                self._services.actions,
                execution_id,
                actor=who.name,
                reason=request.form.get("reason", "").strip(),
                abandon=abandon,
                now=self._services.clock(),
            )
            return "execution-stopping"

        return self.act_on(execution_id, act)

    def retry(self, execution_id: int) -> ResponseReturnValue:
        """Try a failed stage again."""
        who = context.caller()

        def act(session: Session) -> str:
            self._check_steering(session, execution_id)
            mode = _word(RetryMode, request.form.get("mode", ""))
            now = self._services.clock()
            stage = request.form.get("stage", "")
            retry_stage(session, self._services.actions, execution_id, stage, mode, actor=who.name, now=now)
            return "stage-retried"

        return self.act_on(execution_id, act)

    def roll_back(self, execution_id: int) -> ResponseReturnValue:
        """Roll a stage back to this execution. Needs the right to approve on what the stage brings somewhere."""
        who, stage = context.caller(), request.form.get("stage", "")
        try:
            with self._services.db.write() as session:
                for path in repositories_of(visible(session, execution_id, who), stage):
                    check(who, Action.APPROVE, path)
                now = self._services.clock()
                started = rollback_stage(session, self._services.actions, execution_id, stage, actor=who.name, now=now)
        except (Conflict, Denied) as error:
            return self._render("pipelines/execution.html", execution_id, _sentence(error)), status_of(error)
        return redirect_with("stage-rolled-back", url_for("hook_pages.execution", execution_id=started.execution_id))

    def _check_steering(self, session: Session, execution_id: int) -> None:
        who = context.caller()
        check(who, Action.PUBLISH, path_of(visible(session, execution_id, who).summary))

    def act_on(self, execution_id: int, act: Callable[[Session], str]) -> ResponseReturnValue:
        """Do something to an execution; ``act`` returns the notice. A refusal is told on the execution's page."""
        try:
            notice = self._services.db.retry(act)
        except (Invalid, Conflict, Denied) as error:
            return self._render("pipelines/execution.html", execution_id, _sentence(error)), status_of(error)
        return redirect_with(notice, url_for("hook_pages.execution", execution_id=execution_id))


def _word(kind: type[Word], word: str) -> Word:
    try:
        return kind(word)
    except ValueError as error:
        raise Invalid(f"{word!r} is none of {', '.join(kind)}") from error


def _sentence(error: Problem) -> str:
    text = str(error)
    return text[:1].upper() + text[1:]


def _decisions(execution: store.ExecutionView) -> list[Decision]:
    """What people decided, in order, from the start on."""
    summary = execution.summary
    found = [
        Decision(
            summary.started_at,
            summary.triggered_by,
            "started",
            _TRIGGERS.get(summary.trigger_kind, summary.trigger_kind),
            "",
        )
    ]
    for stage in execution.stages:
        for action in stage.actions:
            found += [
                Decision(
                    result.answered_at,
                    result.account,
                    result.verdict.lower(),
                    f"{stage.name} / {action.name}",
                    result.comment,
                )
                for attempt in (*action.attempts, action)
                for result in attempt.results
            ]
        found += [
            Decision(
                condition.ended_at or condition.started_at,
                condition.decided_by,
                "overrode",
                f"{_CONDITIONS[condition.condition_type]} of {stage.name}",
                condition.reason or "",
            )
            for condition in stage.conditions
            if condition.decided_by is not None
        ]
    if execution.stopped_by is not None:
        at = summary.ended_at or summary.started_at
        found.append(Decision(at, execution.stopped_by, "stopped", "", execution.stop_reason or ""))
    return sorted(found, key=lambda decision: decision.at)
