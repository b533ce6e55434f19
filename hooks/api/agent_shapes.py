"""What agents and the server say to each other: read strictly, as from strangers."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from hooks.deployments.agent_work import MOST_TAIL_BYTES
from hooks.deployments.outcomes import ErrorCode, EventResult, EventStatus
from hooks.deployments.reconciling import Found
from registry.api.shapes import Between, Length
from registry.errors import Invalid

PROTOCOL = 1
_MOST = 2**53
_SHOWN = 20
Line = Annotated[str, Length(0, 255)]
Path = Annotated[str, Length(0, 4096)]


@dataclass(frozen=True, slots=True)
class AgentFacts:
    """What an agent says of its machine, for people. ``user`` is who it runs as."""

    host: Line
    version: Line
    os: Line
    user: Line

    def as_json(self) -> dict[str, str]:
        """As the row has it. Raises Invalid for what is not one line each."""
        told = {"host": self.host, "version": self.version, "os": self.os, "user": self.user}
        if not "".join(told.values()).isprintable():
            raise Invalid("facts are one line each")
        return told


@dataclass(frozen=True, slots=True)
class Enrolment:
    """An agent's public key (Ed25519, 32 bytes in base64), of which it keeps the private half."""

    protocol: Annotated[int, Between(0, 1000)]
    public_key: Annotated[str, Length(1, 64)]
    facts: AgentFacts


@dataclass(frozen=True, slots=True)
class AgentIdentity:
    """Who the agent is, and the server's key for commands (SubjectPublicKeyInfo DER in base64), to be pinned."""

    agent_id: str
    name: str
    server_key: str
    server_key_id: str


@dataclass(frozen=True, slots=True)
class ChallengeRequest:
    """Which agent wants to prove who it is."""

    agent_id: Annotated[str, Length(1, 32)]


@dataclass(frozen=True, slots=True)
class Challenge:
    """What is to be signed, within a minute and once."""

    challenge: str


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """A signed challenge (``hooks.deployments.signed_commands.proof_text``). ``previousSession``: the last that is known."""

    agent_id: Annotated[str, Length(1, 32)]
    challenge: Annotated[str, Length(1, 200)]
    boot_id: Annotated[str, Length(1, 64)]
    nonce: Annotated[str, Length(16, 64)]
    signature: Annotated[str, Length(1, 200)]
    previous_session: Annotated[str, Length(0, 100)] = ""


@dataclass(frozen=True, slots=True)
class AgentSession:
    """A session's credential, never told again; and the server's time, signed together with the agent's nonce."""

    session: str
    expires_in_seconds: int
    server_time: datetime
    signature: str


@dataclass(frozen=True, slots=True)
class FileQuery:
    """A file of the version that is installed."""

    name: Annotated[str, Length(1, 1000)]


@dataclass(frozen=True, slots=True)
class RepositoryCredential:
    """A token for reading one repository, never told again."""

    token: str


@dataclass(frozen=True, slots=True)
class Poll:
    """``running`` are the lifecycle events that the agent is at, ``free`` how many more it could begin now."""

    running: Annotated[tuple[Annotated[int, Between(0, _MOST)], ...], Length(0, 16)]
    free: Annotated[int, Between(0, 16)]


@dataclass(frozen=True, slots=True)
class SignedCommand:
    """A command: canonical JSON, and the signature over it, both in base64."""

    command: str
    signature: str


@dataclass(frozen=True, slots=True)
class PollResult:
    """What to do now, null for nothing; events that nobody waits for any more; and when to ask again."""

    command: SignedCommand | None
    stopped_events: tuple[int, ...]
    poll_after_seconds: float


@dataclass(frozen=True, slots=True)
class Begin:
    """An event begins on the machine. ``isNoop``: there is nothing to do in it, it has ended with this."""

    is_noop: bool = False


@dataclass(frozen=True, slots=True)
class EventState:
    """An event's status, and whether the agent is to go on with it."""

    status: str
    goes_on: bool


@dataclass(frozen=True, slots=True)
class ReportedDiagnostics:
    """Why an event has ended as it did. ``logTail`` is at most 2048 bytes."""

    agent_error_code: Annotated[int, Between(0, 7)]
    script_name: Path
    message: Annotated[str, Length(0, 8000)]
    log_tail: Annotated[str, Length(0, MOST_TAIL_BYTES)]


@dataclass(frozen=True, slots=True)
class Completion:
    """How an event has ended: Succeeded or Failed."""

    lifecycle_event_name: Annotated[str, Length(1, 64)]
    status: Annotated[str, Length(1, 16)]
    diagnostics: ReportedDiagnostics
    duration_in_milliseconds: Annotated[int, Between(0, _MOST)]

    def result(self) -> EventResult:
        """As the engine has it. Raises Invalid."""
        if self.status not in {EventStatus.SUCCEEDED.value, EventStatus.FAILED.value}:
            raise Invalid("an event ends as Succeeded or Failed")
        told = self.diagnostics
        (code,) = [each for each in ErrorCode if each.number == told.agent_error_code]
        if (code is ErrorCode.SUCCESS) != (self.status == EventStatus.SUCCEEDED.value):
            raise Invalid("what succeeded has the code 0, and nothing else has")
        texts = [told.script_name, told.message, told.log_tail]
        name, message, tail = (text.replace("\0", "\ufffd") for text in texts)
        seconds = self.duration_in_milliseconds / 1000
        return EventResult(self.lifecycle_event_name, EventStatus(self.status), code, message, name, tail, seconds)


@dataclass(frozen=True, slots=True)
class FoundInstallation:
    """What is really there of a group: how many files its last successful deployment has put there, and how they fare."""

    deployment_group_id: Annotated[str, Length(1, 100)]
    deployment_id: Annotated[str, Length(1, 100)]
    files: Annotated[int, Between(0, _MOST)]
    changed_count: Annotated[int, Between(0, _MOST)]
    missing_count: Annotated[int, Between(0, _MOST)]
    changed: Annotated[tuple[Path, ...], Length(0, _SHOWN)]
    missing: Annotated[tuple[Path, ...], Length(0, _SHOWN)]
    is_complete: bool

    def found(self) -> Found:
        """As it is kept."""
        return Found(
            self.deployment_group_id,
            self.deployment_id,
            self.files,
            self.changed_count,
            self.missing_count,
            tuple(path.replace("\0", "\ufffd") for path in self.changed),
            tuple(path.replace("\0", "\ufffd") for path in self.missing),
            self.is_complete,
        )


@dataclass(frozen=True, slots=True)
class InstalledReport:
    """What a machine has, group by group."""

    groups: Annotated[tuple[FoundInstallation, ...], Length(0, 200)]


def decoded(text: str) -> bytes:
    """Base64. Raises Invalid."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Invalid("a signature is base64") from error


def encoded(data: bytes) -> str:
    """Base64."""
    return base64.b64encode(data).decode("ascii")
