"""Rule / Entrepot / Soak: the version has stood for a time, in a repository or since the stage before, with no alarm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from hooks.deployments.health.alarms import AlarmState
from hooks.pipelines.judging.alarm import LOOK_SECONDS, alarm_state
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
from registry.errors import Invalid, NotFound
from registry.names import PackageKey, PackageName, repository_name
from registry.repos import shelf
from registry.repos.states import may_be_copied
from registry.repos.topology import find_repository

_MOST_MINUTES = 60 * 24 * 60


def _check_repository(value: str) -> str | None:
    try:
        repository_name(value)
    except Invalid as error:
        return error.rule
    return None


def _check_time(configuration: Mapping[str, str]) -> Sequence[tuple[str, str]]:
    is_said = {"Hours", "Minutes"} & configuration.keys()
    return [] if is_said else [("", "configuration Hours or Minutes is missing")]


def _judge(session: Session, judging: Judging) -> Verdict:
    configuration = judging.configuration
    hours, minutes = configuration.get("Hours") or "0", configuration.get("Minutes") or "0"
    fault = check_whole(0, _MOST_MINUTES // 60)(hours) or check_whole(0, _MOST_MINUTES)(minutes)
    if fault is not None:
        return unjudged(fault)
    repository = configuration.get("Repository")
    since, what = judging.settled_at, "since the stage before succeeded"
    if repository:
        found = _in_repository(session, judging, repository)
        if isinstance(found, Verdict):
            return found
        since, what = found, f"in {judging.source.domain}/{repository}"
    alarm = configuration.get("AlarmName")
    if alarm:
        state = alarm_state(session, judging.source.domain, alarm)
        if state is None:
            return unjudged(f"there is no alarm {alarm} in domain {judging.source.domain}")
        if state == AlarmState.ALARM:
            return not_met(f"alarm {alarm} is {state}")
    ends = since + timedelta(hours=int(hours), minutes=int(minutes))
    if judging.now >= ends:
        return met(f"has stood {what} since {since:%Y-%m-%d %H:%M} UTC")
    again = min(ends, judging.now + timedelta(seconds=LOOK_SECONDS)) if alarm else ends
    return wait_until(
        again, f"has stood {what} since {since:%Y-%m-%d %H:%M} UTC, and has to until {ends:%Y-%m-%d %H:%M} UTC"
    )


def _in_repository(session: Session, judging: Judging, name: str) -> datetime | Verdict:
    """Since when the version is in a repository of the domain; a verdict when it is not, or may not be taken from there."""
    source = judging.source
    if not source.is_package:
        return unjudged("the execution is about no package version, which could be in a repository")
    try:
        _, place = find_repository(session, source.domain, name)
    except NotFound as missing:
        return unjudged(str(missing))
    key = PackageKey(source.format, source.namespace, PackageName(source.name))
    try:
        row = shelf.find_version(session, place.id, key, source.version)
    except NotFound:
        return not_met(f"{source.full_name} {source.version} is not in {source.domain}/{name}")
    if not may_be_copied(row.status):
        return not_met(f"{source.full_name} {source.version} is {row.status} in {source.domain}/{name}")
    if row.yanked_reason is not None:
        return not_met(f"{source.full_name} {source.version} is yanked in {source.domain}/{name}")
    return row.published_at


SOAK = RuleKind(
    rule_provider(
        "Entrepot",
        "Soak",
        (
            Setting("Hours", check=check_whole(0, _MOST_MINUTES // 60)),
            Setting("Minutes", check=check_whole(0, _MOST_MINUTES)),
            Setting("Repository", check=_check_repository),
            Setting("AlarmName"),
        ),
        check_all=_check_time,
    ),
    _judge,
    is_momentary=True,
    default_minutes=2 * _MOST_MINUTES,
)
