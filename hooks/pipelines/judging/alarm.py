"""Rule / AWS / CloudWatchAlarm, Rule / Entrepot / Alarm: an alarm of the domain is in no bad state.

Its state is told from outside (``entrepot deploy alarm tell``), as that of alarms which watch over deployments.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.deployments.health.alarms import AlarmState
from hooks.models.deployment import DeploymentAlarm
from hooks.pipelines.judging.kind import (
    Judging,
    RuleKind,
    Verdict,
    check_whole,
    met,
    not_met,
    rule_provider,
    unjudged,
    wait_until,
)
from hooks.pipelines.provider import Setting

LOOK_SECONDS = 30
_MOST_MINUTES = 7 * 24 * 60


def alarm_state(session: Session, domain: str, name: str) -> str | None:
    """The state of an alarm as it was told last; None: nobody has told of one with this name."""
    wanted = (DeploymentAlarm.domain == domain, DeploymentAlarm.name == name)
    return session.scalar(select(DeploymentAlarm.state).where(*wanted))


def _check_states(value: str) -> str | None:
    unknown = [each for each in _states(value) if each not in set(AlarmState)]
    return f"{', '.join(unknown) or 'nothing'} is none of {', '.join(AlarmState)}" if unknown or not value else None


def _states(value: str) -> list[str]:
    return [each.strip() for each in value.split(",")]


def _judge(session: Session, judging: Judging) -> Verdict:
    configuration = judging.configuration
    name, states = configuration["AlarmName"], _states(configuration.get("AlarmStates") or AlarmState.ALARM.value)
    minutes = configuration.get("WaitTime") or "0"
    fault = _check_states(",".join(states)) or check_whole(0, _MOST_MINUTES)(minutes)
    if fault is not None:
        return unjudged(fault)
    state = alarm_state(session, judging.source.domain, name)
    ends = judging.began_at + timedelta(minutes=int(minutes))
    told = f"alarm {name} is {state}" if state is not None else f"there is no alarm {name}"
    if state is not None and state not in states:
        return met(told)
    if judging.now < ends:
        again = min(ends, judging.now + timedelta(seconds=LOOK_SECONDS))
        return wait_until(again, f"{told}; waits for a change until {ends:%Y-%m-%d %H:%M:%S} UTC")
    # Silence is no health, and a misspelt name must not open a gate.
    return not_met(told) if state is not None else unjudged(f"{told} in domain {judging.source.domain}")


_SETTINGS = (
    Setting("AlarmName", is_required=True),
    Setting("AlarmStates", check=_check_states),
    Setting("WaitTime", check=check_whole(0, _MOST_MINUTES)),
)
CLOUDWATCH = RuleKind(rule_provider("AWS", "CloudWatchAlarm", _SETTINGS), _judge, is_momentary=True)
OURS = RuleKind(rule_provider("Entrepot", "Alarm", _SETTINGS), _judge, is_momentary=True)
