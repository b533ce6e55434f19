"""A build's phases: their names, what follows what, and the record of each. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from hooks.builds.spec import OnFailure


class Phase(StrEnum):
    """In the order in which they come."""

    SUBMITTED = "SUBMITTED"
    QUEUED = "QUEUED"
    PROVISIONING = "PROVISIONING"
    DOWNLOAD_SOURCE = "DOWNLOAD_SOURCE"
    INSTALL = "INSTALL"
    PRE_BUILD = "PRE_BUILD"
    BUILD = "BUILD"
    POST_BUILD = "POST_BUILD"
    UPLOAD_ARTIFACTS = "UPLOAD_ARTIFACTS"
    FINALIZING = "FINALIZING"
    COMPLETED = "COMPLETED"


class BuildStatus(StrEnum):
    """CodeBuild's words for a build; the phases use them too. All but IN_PROGRESS are final.

    FAILED: its commands or its document; FAULT: it could not be run.
    """

    IN_PROGRESS = "IN_PROGRESS"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    FAULT = "FAULT"
    TIMED_OUT = "TIMED_OUT"
    STOPPED = "STOPPED"


COMMAND_PHASES: Mapping[Phase, str] = {
    Phase.INSTALL: "install",
    Phase.PRE_BUILD: "pre_build",
    Phase.BUILD: "build",
    Phase.POST_BUILD: "post_build",
}
"""The phases that a buildspec fills, with their names in it."""

_ORDER = tuple(Phase)
# What follows a failure: after BUILD was entered, POST_BUILD and the artifacts are always attempted.
_AFTER_FAILURE = {
    Phase.BUILD: Phase.POST_BUILD,
    Phase.POST_BUILD: Phase.UPLOAD_ARTIFACTS,
    Phase.FINALIZING: Phase.COMPLETED,
}


def next_phase(phase: Phase, *, failed: bool, on_failure: OnFailure | None = None) -> Phase:
    """The phase after ``phase``. Raises IndexError after COMPLETED."""
    if failed and on_failure is not OnFailure.CONTINUE:
        return Phase.FINALIZING if on_failure is not None else _AFTER_FAILURE.get(phase, Phase.FINALIZING)
    return _ORDER[_ORDER.index(phase) + 1]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a phase did not succeed. ``status_code`` is one of CodeBuild's words."""

    status_code: str
    message: str


COMMAND_EXECUTION_ERROR = "COMMAND_EXECUTION_ERROR"
YAML_FILE_ERROR = "YAML_FILE_ERROR"
CLIENT_ERROR = "CLIENT_ERROR"


@dataclass(frozen=True, slots=True)
class PhaseRecord:
    """A phase that was entered. ``status`` and ``ended_at`` are None while it lasts, and for COMPLETED for good."""

    phase: Phase
    started_at: datetime
    status: BuildStatus | None = None
    ended_at: datetime | None = None
    faults: tuple[Fault, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The shape of CodeBuild's ``phases[]``; moments in ISO 8601, UTC."""
        record: dict[str, Any] = {"phaseType": self.phase.value, "startTime": self.started_at.isoformat()}
        if self.status is not None and self.ended_at is not None:
            record["phaseStatus"] = self.status.value
            record["endTime"] = self.ended_at.isoformat()
            record["durationInSeconds"] = max(0, round((self.ended_at - self.started_at).total_seconds()))
        record["contexts"] = [{"statusCode": fault.status_code, "message": fault.message} for fault in self.faults]
        return record
