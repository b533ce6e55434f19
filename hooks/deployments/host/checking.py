"""Checks of a deployment group that are commands, made on the machine itself: as many answers in a row as each says decide.

A check is no step of the release: it may be made any number of times, so that none is journaled, and nothing that it
starts outlives it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hooks.deployments.appspec_model import HookScript
from hooks.deployments.health.checks import CommandCheck
from hooks.deployments.health.judging import Health, Tally, after
from hooks.deployments.host.script_log import ScriptLog
from hooks.deployments.host.scripts import ScriptSettings, run_check
from hooks.deployments.outcomes import ErrorCode, EventFailed

_TICK_SECONDS = 0.2


def decide(
    checks: Sequence[CommandCheck],
    archive: Path,
    variables: Mapping[str, str],
    settings: ScriptSettings,
    log: ScriptLog,
    limit_seconds: float,
) -> None:
    """Make checks in their turns until all find the machine healthy. Raises EventFailed as soon as one does not.

    ``archive`` is the unpacked bundle, which scripts are run from.
    """
    settings = replace(settings, environment=settings.environment or dict(os.environ))
    deadline = time.monotonic() + limit_seconds
    tallies = {check.name: Tally() for check in checks}
    due = dict.fromkeys(tallies, 0.0)
    while any(tally.health is not Health.HEALTHY for tally in tallies.values()):
        check = min(checks, key=lambda each: due[each.name])
        _wait(due[check.name], deadline, settings.is_stopped)
        failure = _failure(check, archive, variables, settings, log, deadline)
        tallies[check.name] = tally = after(tallies[check.name], passed=failure is None, pace=check.pace)
        log.say(f"Check - {check.name}: {'passed' if failure is None else f'failed: {failure}'}")
        if tally.health is Health.UNHEALTHY and failure is not None:
            raise EventFailed(failure.code, f"{check.name}: {failure}", check.location or check.name)
        due[check.name] = time.monotonic() + check.pace.interval_seconds


def _wait(until: float, deadline: float, is_stopped: Callable[[], bool]) -> None:
    while True:
        now = time.monotonic()
        if is_stopped():
            raise EventFailed(ErrorCode.UNKNOWN_ERROR, "the checks were stopped")
        if now >= deadline or until > deadline:
            raise EventFailed(ErrorCode.SCRIPT_TIMED_OUT, "the checks did not decide in the event's time")
        if now >= until:
            return
        time.sleep(min(_TICK_SECONDS, until - now))


def _failure(
    check: CommandCheck,
    archive: Path,
    variables: Mapping[str, str],
    settings: ScriptSettings,
    log: ScriptLog,
    deadline: float,
) -> EventFailed | None:
    """Why a check has not passed; None: it has. Raises EventFailed where it was stopped."""
    script = HookScript(check.location or check.name, check.pace.timeout_seconds, check.runas)
    try:
        status = run_check(script, check.argv, archive, variables, settings, log, deadline - time.monotonic())
    except EventFailed as error:
        if settings.is_stopped():
            raise
        return error
    except OSError as error:
        return EventFailed(ErrorCode.UNKNOWN_ERROR, f"it cannot be run: {error}")
    return EventFailed(ErrorCode.SCRIPT_FAILED, f"exit code {status}") if status else None
