"""A hook of a lifecycle event that somebody else carries out: a webhook is told, and says by a call how it has ended. Pure.

It stands for CodeDeploy's Lambda functions, which answer by PutLifecycleEventHookExecutionStatus.
"""

from __future__ import annotations

from hooks.deployments.outcomes import ErrorCode, EventResult, EventStatus
from hooks.deployments.platform import DeploymentFacts, HookCall, Later, TargetPlan, retries_of

HOOK_SECONDS = 3600
"""So long a hook may take to answer."""
ANSWERS = (EventStatus.SUCCEEDED.value, EventStatus.FAILED.value)
_PAUSE_SECONDS = 15.0
_UNTIL = "hookUntil"


def ask(
    about: DeploymentFacts, target: TargetPlan, event: str, *, hook: str, webhook: int, seconds: int, now: float
) -> EventResult | Later:
    """Have the ``webhook`` told of the ``hook`` of an event, or look whether it has answered; it has so many ``seconds``.

    ``now`` is a time stamp.
    """
    key = _key(target, event)
    answer = about.hook_answers.get(key)
    if answer is None:
        call = HookCall(key, webhook, hook, event)
        return Later(_PAUSE_SECONDS, {**target.details, _UNTIL: now + seconds}, f"hook {hook} is told", call)
    if answer == EventStatus.SUCCEEDED.value:
        return EventResult(event, EventStatus.SUCCEEDED, message=f"hook {hook} succeeded")
    if answer == EventStatus.FAILED.value:
        return EventResult(event, EventStatus.FAILED, ErrorCode.SCRIPT_FAILED, f"hook {hook} has answered: Failed")
    left = float(target.details.get(_UNTIL, now)) - now
    if left <= 0:
        told = f"hook {hook} has not answered within {seconds} seconds"
        return EventResult(event, EventStatus.FAILED, ErrorCode.SCRIPT_TIMED_OUT, told)
    return Later(min(_PAUSE_SECONDS, left), target.details, f"waits for the answer of hook {hook}")


def _key(target: TargetPlan, event: str) -> str:
    """The one execution: another one where somebody wants the event done once more."""
    return f"{target.name}/{event}/{retries_of(target.details, event)}"
