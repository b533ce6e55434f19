"""How lifecycle events end: CodeDeploy's words and numbers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


class ErrorCode(Enum):
    """Why an event failed: the agent's number and the service's name for it, which has none of its own for 6 and 7."""

    SUCCESS = (0, "Success")
    SCRIPT_MISSING = (1, "ScriptMissing")
    SCRIPT_NOT_EXECUTABLE = (2, "ScriptNotExecutable")
    SCRIPT_TIMED_OUT = (3, "ScriptTimedOut")
    SCRIPT_FAILED = (4, "ScriptFailed")
    UNKNOWN_ERROR = (5, "UnknownError")
    OUTPUTS_LEFT_OPEN = (6, "UnknownError")
    FAILED_AFTER_RESTART = (7, "UnknownError")

    @property
    def number(self) -> int:
        """The agent's number."""
        return self.value[0]

    @property
    def aws_name(self) -> str:
        """The service's name."""
        return self.value[1]


class EventStatus(Enum):
    """A lifecycle event's status."""

    PENDING = "Pending"
    IN_PROGRESS = "InProgress"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SKIPPED = "Skipped"


@dataclass(frozen=True, slots=True)
class EventResult:
    """How an event has ended. ``log`` is the tail of its scripts' output, at most 2048 bytes."""

    event: str
    status: EventStatus
    code: ErrorCode = ErrorCode.SUCCESS
    message: str = ""
    script: str = ""
    log: str = ""
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """For people's programs, and for the service."""
        return {
            "lifecycleEventName": self.event,
            "status": self.status.value,
            "diagnostics": {
                "errorCode": self.code.aws_name,
                "agentErrorCode": self.code.number,
                "scriptName": self.script,
                "message": self.message,
                "logTail": self.log,
            },
            "durationInSeconds": round(self.seconds, 3),
        }

    @staticmethod
    def of_json(record: Mapping[str, Any]) -> EventResult:
        """What ``as_json`` has made."""
        found = record["diagnostics"]
        code = next(code for code in ErrorCode if code.number == found["agentErrorCode"])
        return EventResult(
            str(record["lifecycleEventName"]),
            EventStatus(record["status"]),
            code,
            str(found["message"]),
            str(found["scriptName"]),
            str(found["logTail"]),
            float(record["durationInSeconds"]),
        )


class EventFailed(Exception):
    """An event has failed, or could not be carried out; ``str()`` is the message."""

    def __init__(self, code: ErrorCode, message: str, script: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.script = script
