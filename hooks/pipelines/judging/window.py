"""Rule / AWS / DeploymentWindow: waits until the time is inside a window."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy.orm import Session

from hooks.pipelines.cron import CronError, parse_cron, parse_zone
from hooks.pipelines.judging.kind import Judging, RuleKind, Verdict, met, not_met, rule_provider, unjudged, wait_until
from hooks.pipelines.provider import Setting

# A window may be one second long, and a look comes a little after the moment it was asked for.
_LATE = timedelta(minutes=1)


def check_cron(value: str) -> str | None:
    """What is wrong with a cron expression, or None."""
    try:
        parse_cron(value)
    except CronError as error:
        return str(error)
    return None


def check_zone(value: str) -> str | None:
    """What is wrong with a time zone, or None."""
    try:
        parse_zone(value)
    except CronError as error:
        return str(error)
    return None


def _judge(_session: Session, judging: Judging) -> Verdict:
    written, place = judging.configuration["Cron"], judging.configuration.get("TimeZone") or "UTC"
    try:
        cron, zone = parse_cron(written), parse_zone(place)
    except CronError as error:
        return unjudged(str(error))
    begun = judging.looked_for
    if cron.is_inside(judging.now, zone) or (begun is not None and begun <= judging.now <= begun + _LATE):
        return met(f"inside the window {written} ({place})")
    opens = cron.following(judging.now, zone)
    if opens is None:
        return not_met(f"the window {written} ({place}) opens never again")
    return wait_until(opens, f"waits for the window {written} ({place}), which opens at {opens:%Y-%m-%d %H:%M:%S} UTC")


WINDOW = RuleKind(
    rule_provider(
        "AWS",
        "DeploymentWindow",
        (Setting("Cron", is_required=True, check=check_cron), Setting("TimeZone", check=check_zone)),
    ),
    _judge,
    is_momentary=True,
)
