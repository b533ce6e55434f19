"""What a kind of action is: its declaration, how it starts, and how it is broken off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.orm import Session

from hooks.models.pipeline import ActionExecution
from hooks.pipelines.definition import ActionDefinition
from hooks.pipelines.handover import Handed
from hooks.pipelines.parts import Parts, PinnedVersion
from hooks.pipelines.provider import Provider
from hooks.pipelines.state import ActionStatus


@dataclass(frozen=True, slots=True)
class Starting:
    """An action about to start: everything it may look at. ``configuration`` is resolved, ``artifacts`` are its inputs.

    ``own_revision`` is what the execution is about where that is no package version (``17/Source``).
    """

    parts: Parts
    pipeline: str
    execution_id: int
    definition_id: int
    action_id: int
    attempt: int
    definition: ActionDefinition
    configuration: Mapping[str, str]
    source: PinnedVersion
    now: datetime
    stage: str = ""
    artifacts: Mapping[str, Handed] = field(default_factory=dict)
    own_revision: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """What became of a start. An ended status is final; InProgress ends by a build, deployment or job, Waiting by a person."""

    status: ActionStatus
    summary: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    build_id: str | None = None
    deployment_id: str | None = None
    action_job_id: str | None = None
    invoked_execution_id: int | None = None
    job_id: int | None = None
    token: str | None = None
    expires_at: datetime | None = None


def no_stop(_session: Session, _parts: Parts, _row: ActionExecution, _actor: str) -> None:
    """For actions that leave nothing running behind."""


@dataclass(frozen=True, slots=True)
class ActionKind:
    """A provider with what carries it out. ``stop`` is called when a running action is abandoned.

    ``stop`` is told who gave it up. ``wind_down`` is called when the execution is stopped and the action may come to its
    end; one that has nothing running says how it has ended. Both are called under the execution's lock, and so wait for
    no other.

    ``start`` runs in the transaction that starts the action. What it raises as NotFound, Conflict, Invalid or Denied
    is the action's failure ("ran and failed"); anything else undoes the transaction, and the start is tried again.
    """

    provider: Provider
    start: Callable[[Session, Starting], Progress]
    stop: Callable[[Session, Parts, ActionExecution, str], None] = no_stop
    wind_down: Callable[[Session, Parts, ActionExecution, str], Progress | None] = no_stop
