"""Deploy / Entrepot / Publish: the pinned files are published to a registry elsewhere, by its own protocol."""

from __future__ import annotations

import re
from datetime import timedelta

from sqlalchemy.orm import Session

from hooks.jobs.queue import enqueue, give_up
from hooks.models.pipeline import ActionExecution
from hooks.pipelines.actions.kind import ActionKind, Progress, Starting
from hooks.pipelines.actions.timeouts import expire_later, forget_expiry
from hooks.pipelines.parts import Parts
from hooks.pipelines.provider import Provider, Setting
from hooks.pipelines.state import ActionStatus
from registry.errors import Invalid
from registry.names import repository_name

JOB_KIND = "publish_outward"
QUEUE = "publishing"
ATTEMPTS = 10
"""How often it is tried: with the waits between (1 s, doubled up to 5 minutes) about a quarter of an hour of outage."""
DEFAULT_TIMEOUT_MINUTES = 60
VARIABLES = frozenset({"Destination", "DestinationUrl", "FilesSent", "FilesThere"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_TAG = re.compile(r"[a-z][a-z0-9._-]{0,99}\Z")


def _check_name(value: str) -> str | None:
    return None if _NAME.match(value) else f"{value[:80]!a} is no name of a destination"


def _check_repository(value: str) -> str | None:
    try:
        repository_name(value)
    except Invalid as error:
        return error.rule
    return None


def _check_tag(value: str) -> str | None:
    return None if _TAG.match(value) else f"{value[:80]!a} is no tag"


def _start(session: Session, starting: Starting) -> Progress:
    if any(not handed.is_version for handed in starting.artifacts.values()):
        raise Invalid("the package version is what is published: another artifact is none")
    configuration = starting.configuration
    tag = configuration.get("Tag", "")
    fault = _check_tag(tag) if tag else None
    if fault:
        raise Invalid(f"configuration Tag: {fault}")
    destination = configuration["Destination"]
    minutes = starting.definition.timeout_minutes or DEFAULT_TIMEOUT_MINUTES
    job_id = enqueue(
        session,
        JOB_KIND,
        {
            "action_execution_id": starting.action_id,
            "destination": destination,
            "repository": configuration.get("SourceRepository") or starting.source.repository,
            "tag": tag,
        },
        queue=QUEUE,
        dedupe=f"{JOB_KIND}:{starting.action_id}",
        # Two executions never send to one place at the same moment.
        serial_key=f"{JOB_KIND}:{destination}",
        subject=f"execution:{starting.execution_id}",
        max_attempts=ATTEMPTS,
    )
    expire_later(session, starting.action_id, minutes)
    return Progress(
        ActionStatus.IN_PROGRESS,
        f"publishing to {destination}",
        job_id=job_id,
        expires_at=starting.now + timedelta(minutes=minutes),
    )


def _stop(session: Session, _parts: Parts, row: ActionExecution, _actor: str) -> None:
    forget_expiry(session, row.id)
    if row.job_id is not None:
        give_up(session, row.job_id)


PUBLISH = ActionKind(
    Provider(
        "Deploy",
        "Entrepot",
        "Publish",
        (
            Setting("Destination", is_required=True, check=_check_name, is_literal=True),
            Setting("SourceRepository", check=_check_repository, is_literal=True),
            Setting("Tag", check=_check_tag),
        ),
        inputs=(0, 1),
        outputs=(0, 0),
        variables=VARIABLES,
        has_timeout=True,
    ),
    _start,
    _stop,
)
