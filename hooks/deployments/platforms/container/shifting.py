"""Traffic of a deployment: to the new task set step by step, away from the original, and back when it broke off."""

from __future__ import annotations

from collections.abc import Mapping

from hooks.deployments.outcomes import ErrorCode, EventResult
from hooks.deployments.platform import Later, Remains
from hooks.deployments.platforms.container.hook_runs import clear_hooks
from hooks.deployments.platforms.container.sets import TaskSet, other
from hooks.deployments.platforms.container.work import Work
from hooks.deployments.traffic_steps import TrafficStep, traffic_steps


def allow_test_traffic(work: Work) -> EventResult | Later:
    """Let the test listener's requests go to the new task set."""
    own = work.needed()
    work.routes.bring(own, alone=True)
    waiting = _router_agrees(work, own)
    if waiting is not None:
        return waiting
    work.routes.shift(work.group.test_listener, own.colour, 100)
    return work.done(f"the test listener's requests go to {own.colour}")


def allow_traffic(work: Work) -> EventResult | Later:
    """Shift production's requests as the configuration says; a set that is unwell under traffic fails the event."""
    own = work.needed()
    routes = work.routes
    routes.bring(own, alone=True)
    original = _original(work, own, work.sets())
    if original is not None and routes.share(original.colour):
        routes.bring(original)
    index = int(work.progress.get("step", 0))
    if index == 0:
        waiting = _router_agrees(work, own)
        if waiting is not None:
            return waiting
    else:
        held = _hold(work, own)
        if held is not None:
            return held
    return _shift(work, own, _steps(work, own, original), index)


def _steps(work: Work, own: TaskSet, original: TaskSet | None) -> tuple[TrafficStep, ...]:
    # Without anybody to share the requests with there are no shares; nor where it has all of them already.
    if original is None or work.is_taken_again(own):
        return (TrafficStep(100),)
    return traffic_steps(work.about.config)


def _shift(work: Work, own: TaskSet, steps: tuple[TrafficStep, ...], index: int) -> EventResult | Later:
    step = steps[min(index, len(steps) - 1)]
    work.routes.shift(work.group.listener, own.colour, step.percent)
    if step.percent == 100:
        return work.done(f"all requests go to {own.colour}")
    until = work.seconds + step.seconds
    message = f"{step.percent} % of the requests go to {own.colour}"
    return work.later(
        min(step.seconds, work.pace.watch), message, step=index + 1, until=until, failures=0, told=message
    )


def monitor(work: Work) -> EventResult | Later:
    """Look at the set that has the traffic, while the original is kept: well or unwell, it is looked at again."""
    own = work.needed()
    why, failures, failed = _looked_at(work, own)
    return failed or work.later(work.pace.poll if why else work.pace.watch, why, failures=failures)


def _looked_at(work: Work, own: TaskSet) -> tuple[str, int, EventResult | None]:
    """Why the set is unwell now, "" if it is not, how often in a row it was, and that the event has failed by that."""
    why, broken = work.unhealthy(own)
    failures = work.progress.get("failures", 0) + 1 if why else 0
    if broken is None and failures <= work.pace.tolerated_failures:
        return why, failures, None
    log = work.host.log((broken or own.containers[0]).id)
    return why, failures, work.failed(f"unwell with traffic: {why}", ErrorCode.SCRIPT_FAILED, log)


def _hold(work: Work, own: TaskSet) -> EventResult | Later | None:
    """Watch the set until the next step is due; None: it is."""
    why, failures, failed = _looked_at(work, own)
    if failed is not None:
        return failed
    left = work.progress["until"] - work.seconds
    if left <= 0 and not why:
        return None
    told = str(work.progress.get("told", ""))
    # One that is unwell just now gets no more requests, and is looked at again soon.
    pause = work.pace.poll if why else min(left, work.pace.watch)
    return work.later(pause, f"{told}; {why}" if why else told, failures=failures)


def _router_agrees(work: Work, own: TaskSet) -> EventResult | Later | None:
    """Wait for the router's own checks, if it has any; None: they have nothing against the set."""
    if work.routes.is_well(own):
        return None
    until = work.progress.get("agreeUntil", work.seconds + work.pace.grace)
    if work.seconds >= until:
        return work.failed("the router's own check does not find the new task set healthy")
    return work.later(work.pace.poll, "waits for the router's own check", agreeUntil=until)


def terminate_original(work: Work) -> EventResult | Later:
    """End every other task set, once its last request has."""
    own = work.needed()
    work.routes.bring(own)
    work.routes.shift(work.group.listener, own.colour, 100)
    if work.group.test_listener:
        work.routes.shift(work.group.test_listener, own.colour, 100)
    others = [found for found in work.sets().values() if found.deployment != own.deployment]
    waiting = _withdraw(work, others)
    if waiting is not None:
        return waiting
    for found in others:
        _end(work, found)
    clear_hooks(work)
    return work.done(f"ended: {', '.join(found.deployment for found in others)}" if others else "there was none")


def _withdraw(work: Work, sets: list[TaskSet]) -> Later | None:
    are_drained = [work.routes.withdraw(found) for found in sets]
    until = work.progress.get("drainUntil", work.seconds + work.pace.drain)
    if all(are_drained) or work.seconds >= until:
        return None
    return work.later(work.pace.poll, "waits for the last requests to end", drainUntil=until)


def _end(work: Work, found: TaskSet) -> None:
    work.routes.forget(found)
    for container in found.containers:
        work.host.stop(container.id)
        work.host.remove(container.id)


def go_back(work: Work) -> Later | Remains:
    """Give the original its requests back and end the new task set; what serves when nothing is left to do.

    An original that is not whole any more was being ended, or somebody has removed it: then the new set stays where it is,
    and so do the requests. One that came later than this set has taken over, and is left alone.
    """
    sets = work.sets()
    own = sets.pop(work.about.deployment_id, None)
    if own is None:
        clear_hooks(work)
        return Remains.ORIGINAL if any(found.is_whole for found in sets.values()) else Remains.NOTHING
    original = sets.get(own.original)
    if any(found.created > own.created for found in sets.values()):
        return Remains.NEW
    if own.original and (original is None or not original.is_whole):
        return Remains.NEW
    if original is not None:
        for container in original.containers:
            work.host.start(container.id)
        work.routes.bring(original)
        for listener in filter(None, (work.group.listener, work.group.test_listener)):
            work.routes.shift(listener, original.colour, 100)
    waiting = _withdraw(work, [own])
    if waiting is not None:
        return waiting
    _end(work, own)
    clear_hooks(work)
    return Remains.ORIGINAL if original is not None else Remains.NOTHING


def _original(work: Work, own: TaskSet, sets: Mapping[str, TaskSet]) -> TaskSet | None:
    """Who has the requests that the new set has not."""
    if work.is_taken_again(own):
        return work.routes.serving([found for found in sets.values() if found.colour == other(own.colour)])
    return sets.get(own.original)
