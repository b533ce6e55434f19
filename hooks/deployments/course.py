"""A deployment's course from phase to phase, by the rows of its targets. Under its lock, in the caller's transaction.

After a rollback of the transaction everything is as it was, and the same call may be made again; a call that comes late
or twice finds nothing left to do. Nothing waits here: a wait is ``wait_until`` and a due job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from hooks.deployments import baking, happenings
from hooks.deployments.ending import finish
from hooks.deployments.outcomes import EventStatus
from hooks.deployments.parts import Parts
from hooks.deployments.phases import (
    MONITOR_HEALTH,
    TERMINATE,
    Phase,
    bake_minutes,
    ready_wait_minutes,
    termination_wait_minutes,
)
from hooks.deployments.planning import (
    HEALTH_CONSTRAINTS,
    DeploymentStatus,
    End,
    GiveUp,
    LetGo,
    Monitor,
    Rules,
    TargetStatus,
    TargetView,
    View,
    plan,
)
from hooks.deployments.platform import Actor
from hooks.deployments.rows import BLUE, GREEN, Run, events_of, first_open, targets_of
from hooks.deployments.silence import HEARD, Silence, silences
from hooks.deployments.targets import EVENT_KIND, cut_off, enqueue_event, forward, give_up, let_go, subject_of, told_of
from hooks.jobs.queue import forget
from hooks.models.deployment import DeploymentTarget

_DONE_OR_READY = {TargetStatus.READY: TargetStatus.SUCCEEDED}


def go_on(session: Session, parts: Parts, run: Run, now: datetime) -> None:
    """Move a locked deployment as far as its rows allow. Harmless at any time and any number of times."""
    session.flush()
    # Ends: every step lets a target go, ends one, or goes to a later phase.
    while run.deployment.completed_at is None and _step(session, parts, run, now):
        session.flush()
    session.flush()


def _step(session: Session, parts: Parts, run: Run, now: datetime) -> bool:
    phase = Phase(run.deployment.phase)
    if phase is Phase.NEW and not run.is_stopping:
        return False
    targets = targets_of(session, run.deployment.id)
    if run.is_stopping:
        return _wind_down(session, parts, run, targets, now)
    if unwell := baking.unwell(targets):
        told = "it was unwell while the deployment baked"
        return _fail(session, run, End(DeploymentStatus.FAILED, baking.CUSTOMER_APPLICATION_UNHEALTHY, told), unwell)
    if run.deployment.is_paused or _still_waits(run, now):
        return False
    match phase:
        case Phase.DEPLOY:
            return _deploy(session, parts, run, targets, now)
        case Phase.READY_WAIT:
            # Nobody let it go on in time.
            begin_end(run, DeploymentStatus.STOPPED, "TIMEOUT", "nobody let it send traffic to the new targets in time")
            return True
        case Phase.REROUTE:
            return _reroute(session, run, targets, now)
        case Phase.DRAIN:
            return _drain(session, run, targets, now)
        case Phase.BAKE:
            return enter(session, run, Phase.TERMINATE, now)
        case _:
            return _terminate(session, parts, run, targets, now)


def enter(session: Session, run: Run, phase: Phase, now: datetime) -> bool:
    """Go to a later phase, with what is waited for in it."""
    row = run.deployment
    row.phase, row.status, row.wait_until = phase.value, DeploymentStatus.IN_PROGRESS.value, None
    if phase is Phase.READY_WAIT:
        minutes = ready_wait_minutes(row.group_document) or 0
        row.status, row.wait_until = DeploymentStatus.READY.value, now + timedelta(minutes=minutes)
        happenings.tell(session, run, happenings.READY, now, until=row.wait_until.isoformat())
    elif phase is Phase.BAKE:
        minutes = _bake_minutes(run)
        if minutes:
            row.status, row.wait_until = DeploymentStatus.BAKING.value, now + timedelta(minutes=minutes)
            baking.begin(session, run, now)
    elif phase is Phase.TERMINATE:
        baking.end(session, run, now)
    return True


def _bake_minutes(run: Run) -> int:
    row = run.deployment
    return bake_minutes(row.group_document, row.options, is_blue_green=run.is_blue_green, is_rollback=run.is_rollback)


def _still_waits(run: Run, now: datetime) -> bool:
    if run.deployment.wait_until is None:
        return False
    if now < run.deployment.wait_until:
        return True
    if Phase(run.deployment.phase) is Phase.DEPLOY:
        run.deployment.wait_until = None
    return False


def _deploy(session: Session, parts: Parts, run: Run, targets: Sequence[DeploymentTarget], now: datetime) -> bool:
    mine = [target for target in targets if target.fleet in {"", GREEN}]
    step = plan(_view(run, mine, silences(session, parts, run, now)))
    match step:
        case LetGo(names):
            for target in mine:
                if target.name in names:
                    let_go(session, run, target, now)
            return True
        case GiveUp(names):
            for target in mine:
                if target.name in names:
                    give_up(session, run, target, now)
            return True
        case Monitor(zone, seconds):
            run.note(monitored=[*run.deployment.details.get("monitored", []), zone])
            run.deployment.wait_until = now + timedelta(seconds=seconds)
            return False
        case End(DeploymentStatus.SUCCEEDED, _, message):
            run.note(result=message)
            if not run.is_blue_green:
                return enter(session, run, Phase.BAKE if _bake_minutes(run) else Phase.TERMINATE, now)
            waits = ready_wait_minutes(run.deployment.group_document) is not None
            return enter(session, run, Phase.READY_WAIT if waits else Phase.REROUTE, now)
        case End():
            return _fail(session, run, step, mine)
    return False


def _view(run: Run, targets: Sequence[DeploymentTarget], silent: Mapping[str, Silence]) -> View:
    """The fleet as the planner sees it: what is ready has had its part, and what was left out counts as it was."""
    details = run.deployment.details
    unhealthy = frozenset(details.get("unhealthy", []))
    views = [
        TargetView(
            target.name,
            _DONE_OR_READY.get(TargetStatus(target.status), TargetStatus(target.status)),
            target.name not in unhealthy,
            zone=target.zone,
            is_silent=heard.is_silent,
            is_lost=heard.is_lost,
        )
        for target in targets
        for heard in (silent.get(target.agent_id or "", HEARD),)
    ]
    for zone, counts in details.get("outside", {}).items():
        agents = details.get("outsideAgents", {}).get(zone, ())
        unheard = [silent[each] for each in agents if each in silent]
        views += [
            TargetView("", TargetStatus.SKIPPED, zone=zone, is_silent=True, is_lost=each.is_lost) for each in unheard
        ]
        for is_healthy, count in zip((True, False), counts, strict=True):
            views += [TargetView("", TargetStatus.SKIPPED, is_healthy, zone=zone)] * (count - is_healthy * len(unheard))
    row = run.deployment
    rules = Rules.of(row.config_name, row.config_document, run.option("maxConcurrent"))
    return View(tuple(views), rules, frozenset(details.get("monitored", [])))


def _fail(session: Session, run: Run, end: End, targets: Sequence[DeploymentTarget]) -> bool:
    first = next((target for target in targets if target.status == TargetStatus.FAILED), None)
    why = f"{first.name}: {_why(session, first)}; " if first is not None else ""
    begin_end(run, end.status, end.code, why + end.message)
    return True


def _why(session: Session, target: DeploymentTarget) -> str:
    failed = [event for event in events_of(session, target.id) if event.status == EventStatus.FAILED.value]
    return told_of(failed[-1]) if failed else "it did not come to its end"


def _reroute(session: Session, run: Run, targets: Sequence[DeploymentTarget], now: datetime) -> bool:
    """The side that is to serve gets the traffic: nothing is taken away by it, so all of it may be under way at once."""
    mine = [target for target in targets if target.fleet in {"", BLUE if run.is_rollback else GREEN}]
    waiting = [target for target in mine if _is_waiting(session, target)]
    row = run.deployment
    rules = Rules.of(row.config_name, row.config_document, run.option("maxConcurrent"))
    views = tuple(
        TargetView(
            target.name,
            TargetStatus.PENDING if target in waiting else _DONE_OR_READY.get(status, status),
            was_healthy=False,
        )
        for target in mine
        for status in (TargetStatus(target.status),)
    )
    step = plan(View(views, Rules(rules.minimum, rules.is_one_at_a_time, rules.max_concurrent)))
    match step:
        case LetGo(names):
            for target in waiting:
                if target.name in names:
                    _take_up(session, run, target, now)
            return True
        case End(DeploymentStatus.SUCCEEDED, _, message):
            run.note(result=run.deployment.details.get("result", message))
            return enter(session, run, Phase.DRAIN, now)
        case End():
            return _fail(session, run, step, mine)
    return False


def _is_waiting(session: Session, target: DeploymentTarget) -> bool:
    if target.status == TargetStatus.PENDING:
        return True
    return target.status == TargetStatus.READY and not _waits_for_its_end(session, target)


def _waits_for_its_end(session: Session, target: DeploymentTarget) -> bool:
    event = first_open(events_of(session, target.id))
    return event is not None and event.name in {TERMINATE, MONITOR_HEALTH}


def _take_up(session: Session, run: Run, target: DeploymentTarget, now: datetime) -> None:
    if target.status == TargetStatus.PENDING:
        let_go(session, run, target, now)
    else:
        forward(session, run, target, now)


def _drain(session: Session, run: Run, targets: Sequence[DeploymentTarget], now: datetime) -> bool:
    """The other side loses the traffic; one that cannot be taken out fails the deployment."""
    theirs = [target for target in targets if target.fleet == (GREEN if run.is_rollback else BLUE)]
    waiting = [target for target in theirs if target.status == TargetStatus.PENDING]
    for target in waiting:
        let_go(session, run, target, now)
    if waiting:
        return True
    if any(target.status == TargetStatus.IN_PROGRESS for target in theirs):
        return False
    if _any_failed(theirs):
        told = "a target could not be taken out of the traffic"
        return _fail(session, run, End(DeploymentStatus.FAILED, HEALTH_CONSTRAINTS, told), theirs)
    return enter(session, run, Phase.BAKE, now)


def _terminate(session: Session, parts: Parts, run: Run, targets: Sequence[DeploymentTarget], now: datetime) -> bool:
    waiting = [target for target in targets if target.status == TargetStatus.READY]
    goes_back = run.is_rollback and any(target.fleet for target in targets)
    keeps = goes_back or termination_wait_minutes(run.deployment.group_document) is None
    for target in waiting:
        event = first_open(events_of(session, target.id))
        if keeps and event is not None:
            event.status, event.ended_at = EventStatus.SKIPPED.value, now
            event.message = "it is kept alive"
            session.flush()
        forward(session, run, target, now)
    if waiting:
        return True
    if any(target.status == TargetStatus.IN_PROGRESS for target in targets):
        return False
    originals = [target for target in targets if target.fleet == BLUE]
    if run.is_blue_green and not run.is_rollback and _any_failed(originals):
        told = "an original could not be let go"
        return _fail(session, run, End(DeploymentStatus.FAILED, HEALTH_CONSTRAINTS, told), originals)
    message = run.deployment.details.get("result", "")
    finish(session, parts, run, DeploymentStatus.SUCCEEDED, None, message, now=now)
    return True


def _any_failed(targets: Sequence[DeploymentTarget]) -> bool:
    return any(target.status == TargetStatus.FAILED for target in targets)


def begin_end(
    run: Run, status: DeploymentStatus, code: str | None, message: str, *, rolls_back: bool | None = None
) -> None:
    """Let nothing more of a deployment begin; it has its status when all that is under way has ended.

    The first reason stays. ``rolls_back`` None: the configuration says whether it is undone.
    """
    if run.is_stopping:
        return
    run.note(ending={"status": status.value, "code": code, "message": message, "rollsBack": rolls_back})
    run.note(awaiting=None)
    run.deployment.is_paused = False


def _wind_down(session: Session, parts: Parts, run: Run, targets: Sequence[DeploymentTarget], now: datetime) -> bool:
    if not run.deployment.details["ending"].get("isTold"):
        run.note(ending={**run.deployment.details["ending"], "isTold": True})
        call_back(session, run, targets)
    has_rerouted = Phase(run.deployment.phase).has_rerouted
    for target in targets:
        if target.status in {TargetStatus.IN_PROGRESS, TargetStatus.READY} and baking.break_off(
            session, run, target, now
        ):
            continue
        if target.status == TargetStatus.IN_PROGRESS:
            event = first_open(events_of(session, target.id))
            if event is None or event.status == EventStatus.PENDING.value or _has_failed(session, target):
                cut_off(session, run, target, TargetStatus.FAILED, now)
        elif target.status in {TargetStatus.PENDING, TargetStatus.READY}:
            # What has no side of its own is given back to the original by the undo, until that has gone.
            is_done = has_rerouted and target.status == TargetStatus.READY and bool(target.fleet)
            cut_off(session, run, target, TargetStatus.SUCCEEDED if is_done else TargetStatus.SKIPPED, now)
    if any(target.status == TargetStatus.IN_PROGRESS for target in targets):
        return False
    ending = run.deployment.details["ending"]
    status = DeploymentStatus(ending["status"])
    finish(session, parts, run, status, ending["code"], ending["message"], now=now)
    return True


def call_back(session: Session, run: Run, targets: Sequence[DeploymentTarget]) -> None:
    """What the engine was to go on with later is gone on with now; it may have been hours."""
    forget(session, EVENT_KIND, subject_of(run.deployment.id))
    for target in targets:
        event = first_open(events_of(session, target.id)) if target.status == TargetStatus.IN_PROGRESS else None
        is_begun = event is not None and event.status == EventStatus.IN_PROGRESS.value
        if event is not None and is_begun and event.actor == Actor.ENGINE.value:
            enqueue_event(session, run, target, event)


def _has_failed(session: Session, target: DeploymentTarget) -> bool:
    """Whether it waits for somebody's answer to a failure."""
    return any(event.status == EventStatus.FAILED.value for event in events_of(session, target.id)) and not any(
        event.status == EventStatus.IN_PROGRESS.value for event in events_of(session, target.id)
    )
