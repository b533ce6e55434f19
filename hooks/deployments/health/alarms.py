"""``alarmConfiguration`` of a group: CodeDeploy's document, with alarms of our own in CloudWatch's words. Pure.

{"enabled": true, "ignorePollAlarmFailure": false, "alarms": [
  {"name": "errors", "type": "PROMETHEUS", "url": "https://prometheus.example", "query": "sum(rate(errors[1m]))",
   "comparisonOperator": "GreaterThanThreshold", "threshold": 0.5, "forSeconds": 60, "intervalSeconds": 15,
   "treatMissingData": "missing"},
  {"name": "pager"}]}

An alarm without a type has its state set from outside, by its name, as CloudWatch's have: type WEBHOOK.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from hooks.deployments.health.checks import MAX_SECONDS, check_name, url_fault
from hooks.deployments.health.fields import Fields
from registry.errors import InvalidDocument

MAX_ALARMS = 10
POLL_FAILURES = 3
"""An alarm's state cannot be had when so many polls in a row have failed; one lost packet stops no deployment."""

_PROMETHEUS_FIELDS = (
    "name",
    "type",
    "url",
    "query",
    "comparisonOperator",
    "threshold",
    "forSeconds",
    "intervalSeconds",
    "timeoutSeconds",
    "treatMissingData",
)


class AlarmType(StrEnum):
    """Who knows an alarm's state."""

    PROMETHEUS = "PROMETHEUS"
    WEBHOOK = "WEBHOOK"


class AlarmState(StrEnum):
    """CloudWatch's states. ALARM alone stands in a deployment's way."""

    OK = "OK"
    ALARM = "ALARM"
    INSUFFICIENT_DATA = "INSUFFICIENT_DATA"


class Comparison(StrEnum):
    """CloudWatch's ``ComparisonOperator`` for fixed thresholds."""

    ABOVE_OR_AT = "GreaterThanOrEqualToThreshold"
    ABOVE = "GreaterThanThreshold"
    BELOW = "LessThanThreshold"
    BELOW_OR_AT = "LessThanOrEqualToThreshold"


_COMPARE: Mapping[Comparison, Callable[[float, float], bool]] = {
    Comparison.ABOVE_OR_AT: operator.ge,
    Comparison.ABOVE: operator.gt,
    Comparison.BELOW: operator.lt,
    Comparison.BELOW_OR_AT: operator.le,
}


class MissingData(StrEnum):
    """CloudWatch's ``TreatMissingData``: no data is INSUFFICIENT_DATA, OK, as bad as a breach, or changes nothing."""

    MISSING = "missing"
    NOT_BREACHING = "notBreaching"
    BREACHING = "breaching"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class PrometheusAlarm:
    """An instant query; any of its series beyond the ``threshold`` for ``for_seconds`` is an ALARM."""

    name: str
    url: str
    query: str
    comparison: Comparison
    threshold: float
    for_seconds: int = 0
    interval_seconds: int = 15
    timeout_seconds: int = 10
    missing_data: MissingData = MissingData.MISSING

    def breaches(self, value: float) -> bool:
        """Whether a value is beyond the threshold."""
        return _COMPARE[self.comparison](value, self.threshold)


@dataclass(frozen=True, slots=True)
class WebhookAlarm:
    """A state that is told from outside; not told again for ``stale_after_seconds``, it counts as missing (0: never)."""

    name: str
    stale_after_seconds: int = 0
    missing_data: MissingData = MissingData.MISSING


Alarm = PrometheusAlarm | WebhookAlarm


@dataclass(frozen=True, slots=True)
class AlarmConfiguration:
    """CodeDeploy's. Without ``ignore_poll_failure`` a deployment stops when a state cannot be had."""

    enabled: bool = False
    ignore_poll_failure: bool = False
    alarms: tuple[Alarm, ...] = ()


# --- the document ----------------------------------------------------------------------------------------------------


def alarms_of(value: Any, faults: list[str], where: str = "alarmConfiguration") -> AlarmConfiguration:
    """The configuration as ``json.loads`` gives it; what is wrong with it is added to ``faults``."""
    fields = Fields(value, where, faults)
    fields.known(["enabled", "ignorePollAlarmFailure", "alarms"])
    found = [alarm for each in fields.entries("alarms", most=MAX_ALARMS) if (alarm := _alarm(each))]
    names = [alarm.name for alarm in found]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    faults.extend(f"{where}.alarms: two have the name {name}" for name in twice)
    return AlarmConfiguration(
        # Alarms that nobody looks at because a word was left out would be found out when it is too late.
        enabled=fields.switch("enabled", default=None if found else False),
        ignore_poll_failure=fields.switch("ignorePollAlarmFailure", default=False),
        alarms=tuple(found),
    )


def read_alarms(value: Any) -> AlarmConfiguration:
    """As ``alarms_of``. Raises InvalidDocument with all faults."""
    faults: list[str] = []
    found = alarms_of(value, faults)
    if faults:
        raise InvalidDocument("alarmConfiguration", faults)
    return found


def _alarm(fields: Fields) -> Alarm | None:
    name = check_name(fields)
    kind = fields.word("type", AlarmType, AlarmType.WEBHOOK)
    if kind is None:
        return None
    missing_data = fields.word("treatMissingData", MissingData, MissingData.MISSING) or MissingData.MISSING
    if kind is AlarmType.WEBHOOK:
        fields.known(["name", "type", "staleAfterSeconds", "treatMissingData"])
        return WebhookAlarm(name, fields.whole("staleAfterSeconds", 0, least=0, most=30 * 86400), missing_data)
    fields.known(_PROMETHEUS_FIELDS)
    url = fields.text("url")
    if url and (fault := url_fault(url) or ("has neither query nor fragment" if set("?#") & set(url) else "")):
        fields.fault("url", fault)
    return PrometheusAlarm(
        name=name,
        url=url,
        query=fields.text("query"),
        comparison=fields.word("comparisonOperator", Comparison) or Comparison.ABOVE,
        threshold=fields.number("threshold"),
        for_seconds=fields.whole("forSeconds", 0, least=0, most=86400),
        interval_seconds=fields.whole("intervalSeconds", 15, least=1, most=MAX_SECONDS),
        timeout_seconds=fields.whole("timeoutSeconds", 10, least=1, most=120),
        missing_data=missing_data,
    )


# --- what comes of it ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Measured:
    """A poll's answer: the value of each series; none at all is missing data."""

    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PollFailed:
    """Nobody knows: ``reason`` says why the question was not answered."""

    reason: str


Poll = Measured | PollFailed


@dataclass(frozen=True, slots=True)
class Standing:
    """How an alarm stands between two polls. ``failure`` is why the last one failed, empty if it did not."""

    state: AlarmState = AlarmState.INSUFFICIENT_DATA
    breaching_since: datetime | None = None
    failed_polls: int = 0
    failure: str = ""


def after_poll(alarm: PrometheusAlarm, before: Standing, poll: Poll, now: datetime) -> Standing:
    """The standing with one more poll. A failed one leaves the state as it was: nothing is known of it."""
    if isinstance(poll, PollFailed):
        return replace(before, failed_polls=before.failed_polls + 1, failure=poll.reason)
    if poll.values:
        is_breaching = any(map(alarm.breaches, poll.values))
    elif alarm.missing_data is MissingData.IGNORE:
        return replace(before, failed_polls=0, failure="")
    elif alarm.missing_data is MissingData.MISSING:
        return Standing(AlarmState.INSUFFICIENT_DATA)
    else:
        is_breaching = alarm.missing_data is MissingData.BREACHING
    if not is_breaching:
        return Standing(AlarmState.OK)
    since = before.breaching_since or now
    is_long_enough = now - since >= timedelta(seconds=alarm.for_seconds)
    return Standing(AlarmState.ALARM if is_long_enough else AlarmState.OK, since)


def told(alarm: WebhookAlarm, state: AlarmState | None, at: datetime | None, now: datetime) -> Standing:
    """The standing of a state that was told ``at`` a moment, or never (None)."""
    stale_after = timedelta(seconds=alarm.stale_after_seconds)
    is_missing = state is None or at is None or bool(stale_after and now - at > stale_after)
    if is_missing or state is AlarmState.INSUFFICIENT_DATA:
        of_missing = {
            MissingData.MISSING: AlarmState.INSUFFICIENT_DATA,
            MissingData.NOT_BREACHING: AlarmState.OK,
            MissingData.BREACHING: AlarmState.ALARM,
            MissingData.IGNORE: state or AlarmState.INSUFFICIENT_DATA,
        }
        return Standing(of_missing[alarm.missing_data])
    return Standing(state or AlarmState.INSUFFICIENT_DATA)


def is_firing(alarm: WebhookAlarm, state: AlarmState | None, at: datetime | None, now: datetime) -> bool:
    """Whether a state told from outside stands in a deployment's way."""
    return told(alarm, state, at, now).state is AlarmState.ALARM


def reason_to_stop(configuration: AlarmConfiguration, standings: Mapping[str, Standing]) -> str:
    """Why a deployment has to stop (ALARM_ACTIVE), by the standing of each alarm's name; empty: it may go on."""
    if not configuration.enabled:
        return ""
    for alarm in configuration.alarms:
        standing = standings.get(alarm.name, Standing())
        if standing.state is AlarmState.ALARM:
            return f"the alarm {alarm.name} is active"
    if configuration.ignore_poll_failure:
        return ""
    for alarm in configuration.alarms:
        standing = standings.get(alarm.name, Standing())
        if standing.failed_polls >= POLL_FAILURES:
            return f"the state of the alarm {alarm.name} cannot be had: {standing.failure}"
    return ""
