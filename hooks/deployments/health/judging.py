"""From single answers to "healthy" and "unhealthy": as many in a row as the check says. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from hooks.deployments.health.checks import Pace


class Health(StrEnum):
    """A target's health in the words of a load balancer's."""

    INITIAL = "initial"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class Tally:
    """How one check of one target stands: its health so far, and how many answers of one kind came last."""

    health: Health = Health.INITIAL
    passed_in_a_row: int = 0
    failed_in_a_row: int = 0


def after(tally: Tally, *, passed: bool, pace: Pace) -> Tally:
    """The tally with one more answer. What is healthy stays so until enough in a row have failed, and the other way."""
    passes = tally.passed_in_a_row + 1 if passed else 0
    failures = 0 if passed else tally.failed_in_a_row + 1
    health = tally.health
    if passes >= pace.healthy_count:
        health = Health.HEALTHY
    elif failures >= pace.unhealthy_count:
        health = Health.UNHEALTHY
    return Tally(health, passes, failures)


def judge(answers: Iterable[bool], pace: Pace) -> Tally:
    """The tally after a series of answers, oldest first."""
    tally = Tally()
    for passed in answers:
        tally = after(tally, passed=passed, pace=pace)
    return tally


def altogether(healths: Iterable[Health]) -> Health:
    """A target's health by all its checks: one that fails decides; healthy with all of them, also with none."""
    found = set(healths)
    if Health.UNHEALTHY in found:
        return Health.UNHEALTHY
    return Health.INITIAL if Health.INITIAL in found else Health.HEALTHY
