"""Freeze windows: named times in which executions wait before stages, and go on by themselves afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, exists, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hooks.jobs.queue import PATIENT_ATTEMPTS, enqueue
from hooks.models.pipeline import ActionExecution, Execution, Pipeline, StageExecution
from hooks.models.pipeline_condition import ConditionExecution, PipelineFreeze
from hooks.models.pipeline_stage import InboundExecution
from hooks.pipelines.cron import CronError, parse_cron, parse_zone
from hooks.pipelines.current import current_definition
from hooks.pipelines.definition import NAME, Slot
from hooks.pipelines.state import ConditionStatus
from registry import audit
from registry.errors import Conflict, Invalid, NotFound

JOB_KIND = "thaw_pipeline"
MAX_REASON_CHARACTERS = 300
MAX_FREEZES = 500
MAX_MINUTES = 366 * 24 * 60
# Also without a job of its own (a freeze was changed just when an execution came to wait) a stage is looked at so often.
LOOK_AGAIN = timedelta(hours=1)

WAITS_TO_ENTER = (
    ConditionExecution.slot == Slot.BEFORE_ENTRY.value,
    ConditionExecution.status == ConditionStatus.IN_PROGRESS.value,
    ConditionExecution.is_current,
)
"""Conditions of executions that are in a stage, and on their way to its actions."""

_HAS_BEGUN = exists().where(ActionExecution.stage_execution_id == StageExecution.id)


@dataclass(frozen=True, slots=True)
class NewFreeze:
    """A freeze window to be: from ``starts_at`` to ``ends_at``, or ``minutes`` from each moment of ``cron``.

    ``pipeline`` None: of all pipelines. ``stages`` None: all but the first. No ``starts_at``: from now on.
    """

    name: str
    reason: str
    pipeline: str | None = None
    stages: Sequence[str] | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    cron: str | None = None
    timezone: str | None = None
    minutes: int | None = None


@dataclass(frozen=True, slots=True)
class FreezeView:
    """A freeze window as people see it; ``until`` is when it ends that holds now, ``next_at`` when the next one begins."""

    name: str
    pipeline: str | None
    stages: tuple[str, ...] | None
    starts_at: datetime | None
    ends_at: datetime | None
    cron: str | None
    timezone: str | None
    minutes: int | None
    reason: str
    created_by: str
    created_at: datetime
    until: datetime | None
    next_at: datetime | None


def create_freeze(session: Session, wanted: NewFreeze, *, actor: str, now: datetime) -> PipelineFreeze:
    """Make a freeze window. Raises Invalid, NotFound for the pipeline, and Conflict for a taken name, or one too many."""
    _check(wanted, now)
    pipeline_id = _pipeline(session, wanted)
    names = session.scalars(select(PipelineFreeze.name)).all()  # a few hundred at the most
    if wanted.name in names:
        raise Conflict(f"there is a freeze {wanted.name} already; delete it first")
    if len(names) >= MAX_FREEZES:
        raise Conflict(f"there are {MAX_FREEZES} freezes already; delete those that are over")
    row = PipelineFreeze(
        name=wanted.name,
        pipeline_id=pipeline_id,
        stages=None if wanted.stages is None else sorted(set(wanted.stages)),
        starts_at=wanted.starts_at if wanted.cron is not None else wanted.starts_at or now,
        ends_at=wanted.ends_at,
        cron=wanted.cron,
        timezone=(wanted.timezone or "UTC") if wanted.cron is not None else None,
        minutes=wanted.minutes,
        reason=wanted.reason,
        created_by=actor,
        created_at=now,
    )
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError as error:
        raise Conflict(f"somebody else made a freeze {wanted.name} meanwhile") from error
    audit.record(session, now, actor, "freeze.create", f"freeze/{row.name}", reason=row.reason, **_told(wanted))
    return row


def delete_freeze(session: Session, name: str, *, actor: str, now: datetime) -> None:
    """Take a freeze window away; what waits for it goes on soon after. Raises NotFound."""
    row = session.scalar(select(PipelineFreeze).where(PipelineFreeze.name == name).with_for_update())
    if row is None:
        raise NotFound("freeze", name[:100])
    waiting = set(session.scalars(select(InboundExecution.pipeline_id)))
    waiting |= set(session.scalars(select(Execution.pipeline_id).join(ConditionExecution).where(*WAITS_TO_ENTER)))
    session.delete(row)
    session.flush()
    audit.record(session, now, actor, "freeze.delete", f"freeze/{name}", reason=row.reason)
    for pipeline_id in sorted(waiting & {row.pipeline_id} if row.pipeline_id is not None else waiting):
        thaw_later(session, pipeline_id, now, now, of=f"without:{row.id}")


def list_freezes(session: Session, now: datetime, pipeline: str | None = None) -> list[FreezeView]:
    """All freeze windows by name, or those that hold for a pipeline."""
    statement = select(PipelineFreeze, Pipeline.name.label("pipeline")).outerjoin(
        Pipeline, Pipeline.id == PipelineFreeze.pipeline_id
    )
    if pipeline is not None:
        statement = statement.where(or_(PipelineFreeze.pipeline_id.is_(None), Pipeline.name == pipeline))
    return [
        _view(row.PipelineFreeze, row.pipeline, now) for row in session.execute(statement.order_by(PipelineFreeze.name))
    ]


def frozen(session: Session, pipeline_id: int, stage: str, now: datetime) -> PipelineFreeze | None:
    """The freeze window that keeps executions out of a stage now and ends last, if any."""
    return frozen_stages(session, pipeline_id, [stage], now).get(stage)


def frozen_stages(
    session: Session, pipeline_id: int, stages: Sequence[str], now: datetime
) -> Mapping[str, PipelineFreeze]:
    """Stage → the freeze window that keeps executions out of it now and ends last; those that are open are left out."""
    rows = list(_of_pipeline(session, pipeline_id))
    found = {stage: row for stage in stages if (row := _longest(rows, stage, now)) is not None}
    # No transition leads to the first stage, and what is published is taken up at any time.
    if found:
        found.pop(current_definition(session, pipeline_id)[1].stages[0].name, None)
    return found


def _longest(rows: Sequence[PipelineFreeze], stage: str, now: datetime) -> PipelineFreeze | None:
    holding = [(until, row) for row in rows if covers(row, stage) and (until := holds_until(row, now)) is not None]
    return max(holding, key=lambda each: each[0])[1] if holding else None


def any_of(pipeline_id: int) -> ColumnElement[bool]:
    """Whether there are windows that could concern a pipeline, for a query."""
    return exists().where(_mine(pipeline_id))


def look_again_at(until: datetime, now: datetime) -> datetime:
    """When to look at a frozen stage again: at the freeze's end, and on the hour, so that all who wait ask for one job."""
    return min(until, now.replace(minute=0, second=0, microsecond=0) + LOOK_AGAIN)


def keeps_out(session: Session, execution: Execution, now: datetime) -> tuple[str, PipelineFreeze] | None:
    """The stage that an execution cannot enter, with the freeze window; None where no freeze keeps it out.

    It waits before the stage, or is on its way in: inside, before its condition has let it on to the actions.
    """
    place = session.get(InboundExecution, execution.id, populate_existing=True)
    stage = None if place is None else place.stage
    passed = None if place is None else place.passed_by
    if place is None:
        entering = session.scalar(
            select(StageExecution)
            .join(ConditionExecution, ConditionExecution.stage_execution_id == StageExecution.id)
            .where(StageExecution.execution_id == execution.id, ~_HAS_BEGUN, *WAITS_TO_ENTER)
        )
        stage = None if entering is None else entering.name
        passed = None if entering is None else entering.passed_by
    if stage is None or passed is not None:
        return None
    row = frozen(session, execution.pipeline_id, stage, now)
    return None if row is None else (stage, row)


def has_begun(session: Session, stage: StageExecution) -> bool:
    """Whether an action of the stage has ever begun: its retries are inside already, and no freeze keeps them out.

    The number of the attempt does not tell: an execution that was stopped on its way in has begun nothing.
    """
    return bool(session.scalar(select(exists().where(ActionExecution.stage_execution_id == stage.id))))


def holds_until(row: PipelineFreeze, now: datetime) -> datetime | None:
    """When the window that holds now ends; None: none holds."""
    if row.cron is None:
        begun = row.starts_at is None or row.starts_at <= now
        return row.ends_at if begun and row.ends_at is not None and now < row.ends_at else None
    if (row.starts_at is not None and now < row.starts_at) or (row.ends_at is not None and now >= row.ends_at):
        return None
    lasts = timedelta(minutes=row.minutes or 0)
    began = parse_cron(row.cron).following(now - lasts, parse_zone(row.timezone or "UTC"))
    if began is None or began > now:
        return None
    until = began + lasts
    return until if row.ends_at is None else min(until, row.ends_at)


def covers(row: PipelineFreeze, stage: str) -> bool:
    """Whether the window is about a stage."""
    return row.stages is None or stage in row.stages


def thaw_later(
    session: Session, pipeline_id: int, at: datetime, now: datetime, *, only: int | None = None, of: str = ""
) -> None:
    """Have what waits before stages of a pipeline looked at again; ``only``: one execution.

    Executions in parallel hold no common lock: each has a job of its own, so that none waits for another's. ``of`` sets a
    job apart from others that are due at the same time.
    """
    enqueue(
        session,
        JOB_KIND,
        {"pipeline_id": pipeline_id, "execution_id": only},
        dedupe=f"{JOB_KIND}:{pipeline_id}:{only or ''}:{of}:{at:%Y%m%d%H%M%S}",
        run_after_seconds=max(0.0, (at - now).total_seconds()),
        subject=f"pipeline:{pipeline_id}",
        max_attempts=PATIENT_ATTEMPTS,
    )


def _of_pipeline(session: Session, pipeline_id: int) -> Iterable[PipelineFreeze]:
    wanted = select(PipelineFreeze).where(_mine(pipeline_id))
    return session.scalars(wanted, execution_options={"populate_existing": True})


def _mine(pipeline_id: int) -> ColumnElement[bool]:
    return or_(PipelineFreeze.pipeline_id.is_(None), PipelineFreeze.pipeline_id == pipeline_id)


def _view(row: PipelineFreeze, pipeline: str | None, now: datetime) -> FreezeView:
    return FreezeView(
        row.name,
        pipeline,
        None if row.stages is None else tuple(row.stages),
        row.starts_at,
        row.ends_at,
        row.cron,
        row.timezone,
        row.minutes,
        row.reason,
        row.created_by,
        row.created_at,
        holds_until(row, now),
        _next_at(row, now),
    )


def _next_at(row: PipelineFreeze, now: datetime) -> datetime | None:
    if row.cron is None:
        return row.starts_at if row.starts_at is not None and now < row.starts_at else None
    begin = max(now, row.starts_at) if row.starts_at is not None else now
    found = parse_cron(row.cron).following(begin, parse_zone(row.timezone or "UTC"))
    return None if found is None or (row.ends_at is not None and found >= row.ends_at) else found


def _pipeline(session: Session, wanted: NewFreeze) -> int | None:
    """The pipeline that a freeze is about, which has the stages; of all of them any names will do."""
    if wanted.pipeline is None:
        return None
    pipeline_id = session.scalar(select(Pipeline.id).where(Pipeline.name == wanted.pipeline))
    if pipeline_id is None:
        raise NotFound("pipeline", wanted.pipeline)
    _, definition = current_definition(session, pipeline_id)
    for stage in wanted.stages or ():
        if definition.stage(stage) is None:
            raise NotFound("stage", stage)
        if stage == definition.stages[0].name:
            raise Conflict(f"{stage} is the first stage: no transition leads to it")
    return pipeline_id


def _told(wanted: NewFreeze) -> dict[str, object]:
    told = {
        "pipeline": wanted.pipeline,
        "stages": None if wanted.stages is None else list(wanted.stages),
        "starts_at": wanted.starts_at and wanted.starts_at.isoformat(),
        "ends_at": wanted.ends_at and wanted.ends_at.isoformat(),
        "cron": wanted.cron,
        "timezone": wanted.timezone,
        "minutes": wanted.minutes,
    }
    return {key: value for key, value in told.items() if value is not None}


def _check(wanted: NewFreeze, now: datetime) -> None:
    if not NAME.match(wanted.name):
        raise Invalid(f"the name of a freeze must match {NAME.pattern.removesuffix(chr(92) + 'Z')}")
    if not 1 <= len(wanted.reason) <= MAX_REASON_CHARACTERS:
        raise Invalid(f"a reason of 1 to {MAX_REASON_CHARACTERS} characters is needed")
    if wanted.stages is not None and (not wanted.stages or not all(NAME.match(stage) for stage in wanted.stages)):
        raise Invalid("stages are the names of stages; leave them out for all of them")
    if wanted.cron is None:
        _check_span(wanted, now)
    else:
        _check_cron(wanted)


def _check_span(wanted: NewFreeze, now: datetime) -> None:
    if wanted.minutes is not None or wanted.timezone is not None:
        raise Invalid("minutes and a time zone are of a freeze that comes again: give it a cron expression")
    if wanted.ends_at is None:
        raise Invalid("a freeze has an end, or a cron expression with minutes")
    if wanted.ends_at <= max(now, wanted.starts_at or now):
        raise Invalid("a freeze ends after it has begun, and in the future")


def _check_cron(wanted: NewFreeze) -> None:
    if wanted.minutes is None or not 1 <= wanted.minutes <= MAX_MINUTES:
        raise Invalid(f"a freeze that comes again lasts 1 to {MAX_MINUTES} minutes")
    try:
        cron = parse_cron(wanted.cron or "")
        parse_zone(wanted.timezone or "UTC")
    except CronError as error:
        raise Invalid(f"cron: {error}") from error
    if len(cron.seconds) != 1 or len(cron.minutes) != 1:
        raise Invalid("the cron expression of a freeze says when it begins: one second and one minute")
