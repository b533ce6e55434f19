"""A signed command to make a group's checks on this machine: whether that is let here, and how it went."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from hooks.deployments.agent.settings import AgentSettings
from hooks.deployments.appspec_model import EVENT_SECONDS
from hooks.deployments.health.checks import CommandCheck, read_checks
from hooks.deployments.host.checking import decide
from hooks.deployments.host.script_log import ScriptLog
from hooks.deployments.host.scripts import ScriptSettings
from hooks.deployments.host.state import ARCHIVE, GroupState
from hooks.deployments.outcomes import ErrorCode, EventFailed, EventResult, EventStatus
from hooks.deployments.signed_commands import Command, CommandRefused
from registry.errors import InvalidDocument


def check(
    command: Command,
    settings: AgentSettings,
    state: GroupState,
    now: Callable[[], datetime],
    is_stopped: Callable[[], bool],
) -> EventResult:
    """How the checks of a command went. Raises CommandRefused for checks that this agent cannot read, OSError."""
    checks = _checks(command)
    began = time.monotonic()
    directory = state.deployment(command.deployment_id)
    log = ScriptLog(directory / "logs" / "checks.log", now, lambda _: None)
    result = EventResult(command.event, EventStatus.SUCCEEDED)
    variables = {
        "APPLICATION_NAME": command.application,
        "DEPLOYMENT_ID": command.deployment_id,
        "DEPLOYMENT_GROUP_NAME": command.group,
        "DEPLOYMENT_GROUP_ID": command.group_id,
        "LIFECYCLE_EVENT": command.event,
    }
    scripts = ScriptSettings(frozenset(settings.runas), is_stopped=is_stopped)
    try:
        _require_let(checks, settings)
        decide(checks, directory / ARCHIVE, variables, scripts, log, EVENT_SECONDS)
    except EventFailed as error:
        log.say(str(error))
        result = replace(result, status=EventStatus.FAILED, code=error.code, message=str(error), script=error.script)
    finally:
        log.close()
    return replace(result, log=log.tail, seconds=time.monotonic() - began)


def _require_let(checks: list[CommandCheck], settings: AgentSettings) -> None:
    told = ""
    if not settings.check_commands:
        told = "checks that are commands are not switched on here (check_commands in agent.toml)"
    elif not settings.scripts and any(each.location for each in checks):
        told = "scripts are switched off here, and a check is one of the bundle"
    if told:
        raise EventFailed(ErrorCode.UNKNOWN_ERROR, f"it is not carried out on this machine: {told}")


def _checks(command: Command) -> list[CommandCheck]:
    try:
        found = read_checks([dict(each) for each in command.checks])
    except (InvalidDocument, TypeError, ValueError) as error:
        raise CommandRefused(f"its checks cannot be read: {error}") from error
    checks = [each for each in found if isinstance(each, CommandCheck)]
    if not checks or len(checks) < len(found):
        raise CommandRefused("it has no checks, or some that are none of an agent's")
    return checks
