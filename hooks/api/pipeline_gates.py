"""What keeps executions before stages, and the ways past: freeze windows, holds, conditions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated

from sqlalchemy.orm import Session

from hooks.api.executions import ExecutionDetail, detail_of, visible_execution
from hooks.models.pipeline_condition import StageHold
from hooks.pipelines import freezes, pipeline_state, store
from hooks.pipelines.definition import Slot
from hooks.pipelines.gates import check_release, may_look_into, repositories_to_override
from hooks.pipelines.overriding import override_condition
from hooks.pipelines.sticky import let_through, release_stage
from hooks.services import HookServices
from registry.access import Action, check
from registry.api.routes import Route
from registry.api.shapes import Between, Length
from registry.errors import Invalid
from registry.http import context
from registry.http.auth import requires, signed_in_api


@dataclass(frozen=True, slots=True)
class NewFreezeWindow:
    """A freeze window: from ``starts_at`` (now if not said) to ``ends_at``, or ``minutes`` from each moment of ``cron``.

    Times are ISO 8601 with an offset. ``cron`` is Quartz's, of six or seven fields, told in ``timezone`` (Region/City, UTC or
    UTC+HH:MM). Without ``pipeline`` it is of all pipelines, without ``stages`` of all stages but the first.
    """

    name: Annotated[str, Length(1, 100)]
    reason: Annotated[str, Length(1, freezes.MAX_REASON_CHARACTERS)]
    pipeline: Annotated[str, Length(1, 100)] | None = None
    stages: Annotated[tuple[str, ...], Length(1, 50)] | None = None
    starts_at: Annotated[str, Length(1, 40)] | None = None
    ends_at: Annotated[str, Length(1, 40)] | None = None
    cron: Annotated[str, Length(1, 200)] | None = None
    timezone: Annotated[str, Length(1, 64)] | None = None
    minutes: Annotated[int, Between(1, freezes.MAX_MINUTES)] | None = None


@dataclass(frozen=True, slots=True)
class FreezeList:
    """Freeze windows by name."""

    items: tuple[freezes.FreezeView, ...]


@dataclass(frozen=True, slots=True)
class FreezeQuery:
    """Only those that hold for a pipeline."""

    pipeline: Annotated[str, Length(1, 100)] | None = None


@dataclass(frozen=True, slots=True)
class LetThrough:
    """Why an execution goes on in spite of a freeze."""

    reason: Annotated[str, Length(1, 300)]


@dataclass(frozen=True, slots=True)
class ConditionOverride:
    """``condition_type`` is BEFORE_ENTRY or ON_SUCCESS."""

    stage: Annotated[str, Length(1, 100)]
    condition_type: str
    reason: Annotated[str, Length(1, 300)]


@dataclass(frozen=True, slots=True)
class StageRelease:
    """The stage whose holds are let go, and why."""

    stage: Annotated[str, Length(1, 100)]
    reason: Annotated[str, Length(0, 300)] = ""


class PipelineGateViews:
    """The operations on freeze windows, holds and conditions."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self) -> tuple[Route, ...]:
        """The part of the table. A freeze is the server's; what an override or a release opens is a repository's."""
        one, root = "/executions/<id:execution_id>", requires(Action.ADMIN)
        return (
            Route("GET", "/freezes", signed_in_api, self.list_freezes, query=FreezeQuery, answer=FreezeList),
            Route("POST", "/freezes", root, self.create_freeze, body=NewFreezeWindow, answer=FreezeList, status=201),
            Route("DELETE", "/freezes/<name>", root, self.delete_freeze, status=204),
            Route("POST", f"{one}/pass", root, self.let_through, body=LetThrough, answer=ExecutionDetail),
            Route(
                "POST", f"{one}/override", signed_in_api, self.override, body=ConditionOverride, answer=ExecutionDetail
            ),
            Route(
                "POST",
                "/pipelines/<pipeline>/release",
                signed_in_api,
                self.release,
                body=StageRelease,
                answer=pipeline_state.PipelineState,
            ),
        )

    def list_freezes(self, query: FreezeQuery) -> FreezeList:
        """Freeze windows by name: all, or those that hold for a pipeline."""
        with self._services.db.read() as session:
            if query.pipeline is not None:
                store.get_pipeline(session, query.pipeline)
            return FreezeList(tuple(freezes.list_freezes(session, self._services.clock(), query.pipeline)))

    def create_freeze(self, body: NewFreezeWindow) -> FreezeList:
        """Make a freeze window: in its time executions wait before the stages, and go on by themselves afterwards."""
        wanted = freezes.NewFreeze(
            body.name,
            body.reason,
            body.pipeline,
            body.stages,
            moment("starts_at", body.starts_at),
            moment("ends_at", body.ends_at),
            body.cron,
            body.timezone,
            body.minutes,
        )
        now = self._services.clock()
        with self._services.db.write() as session:
            freezes.create_freeze(session, wanted, actor=context.caller().name, now=now)
            found = freezes.list_freezes(session, now)
        return FreezeList(tuple(each for each in found if each.name == body.name))

    def delete_freeze(self, name: str) -> None:
        """Take a freeze window away; what waits for it goes on."""
        with self._services.db.write() as session:
            freezes.delete_freeze(session, name, actor=context.caller().name, now=self._services.clock())

    def let_through(self, execution_id: int, body: LetThrough) -> ExecutionDetail:
        """Let an execution through the freeze windows before the stage for which it waits."""
        caller = context.caller()

        def act(session: Session) -> None:
            visible_execution(session, execution_id, caller)
            now = self._services.clock()
            let_through(session, self._services.actions, execution_id, actor=caller.name, reason=body.reason, now=now)

        return self._change(execution_id, act)

    def override(self, execution_id: int, body: ConditionOverride) -> ExecutionDetail:
        """Let a stage's condition count as met (CodePipeline's OverrideStageCondition).

        Needs `approve` on what the stage promotes and publishes to and deploys from, or on the execution's own repository; of
        a condition on success also on that of what follows, up to the next approval.
        """
        caller = context.caller()
        try:
            slot = Slot(body.condition_type)
        except ValueError as error:
            raise Invalid(f"condition_type must be one of {', '.join(Slot)}") from error

        def act(session: Session) -> None:
            execution = visible_execution(session, execution_id, caller)
            for path in repositories_to_override(execution, body.stage, slot):
                check(caller, Action.APPROVE, path)
            override_condition(
                session,
                self._services.actions,
                execution_id,
                body.stage,
                slot,
                actor=caller.name,
                reason=body.reason,
                now=self._services.clock(),
            )

        return self._change(execution_id, act)

    def release(self, pipeline: str, body: StageRelease) -> pipeline_state.PipelineState:
        """Let what manual rollbacks have held before a stage enter it again.

        Needs, for each package that is held there, what rolling its stage back needs.
        """
        services, caller = self._services, context.caller()

        def unit(session: Session) -> pipeline_state.PipelineState:
            now = services.clock()

            def may(row: StageHold) -> None:
                check_release(session, caller, row)

            release_stage(
                session,
                services.actions,
                pipeline,
                body.stage,
                actor=caller.name,
                reason=body.reason,
                now=now,
                may=may,
            )
            session.flush()
            return pipeline_state.get_pipeline_state(session, pipeline, partial(may_look_into, caller), now)

        return services.db.retry(unit)

    def _change(self, execution_id: int, act: Callable[[Session], None]) -> ExecutionDetail:
        def unit(session: Session) -> ExecutionDetail:
            act(session)
            session.flush()
            return detail_of(
                session, self._services.actions, store.get_execution(session, execution_id), context.caller()
            )

        # Jobs end actions meanwhile: of two that wait for each other the one that is turned away asks again.
        return self._services.db.retry(unit)


def moment(field: str, text: str | None) -> datetime | None:
    """A time with its offset from UTC, as ISO 8601 writes it. Raises Invalid."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise Invalid(f"{field}: {text!r} is no time; write 2026-12-24T18:00:00+01:00") from error
    if found.tzinfo is None:
        raise Invalid(f"{field}: {text!r} says no offset from UTC; write 2026-12-24T18:00:00+01:00, or Z at its end")
    return found
