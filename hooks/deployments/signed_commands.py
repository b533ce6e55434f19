"""What the server signs for agents, and how an agent makes sure of it. Pure.

A command is canonical JSON (sorted keys, no blanks, ASCII) that names everything the agent acts on: whom it is for, its
number, until when it counts, the deployment, the event, and the revision with its SHA-256. The signature is Ed25519
(RFC 8032) over a line that says what is signed, and the command's bytes as they were sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from hooks.deployments.appspec_model import FileExistsBehavior
from hooks.deployments.lifecycle import Course

COMMAND_BYTES = 64 * 1024
"""No command is longer."""
VERSION = 1
CHECKING = 2
"""The version of commands with checks: an agent that knows none would take them for nothing to do."""
_COMMAND = b"entrepot agent command v1\n"
_PROOF = b"entrepot agent session v1\n"
_TIME = b"entrepot server time v1\n"
# Where each kind of revision says what its bytes are.
NATIVE = "NativePackage"
"""What a machine calls a revision that is a package version without a bundle in it."""
_PLACES = {"Package": "package", "BuildArtifact": "buildArtifact", "Upload": "upload", "Source": "source"}
_PLACES[NATIVE] = "package"
KINDS = tuple(_PLACES)
"""The kinds of revisions that a machine can install."""


class CommandRefused(Exception):
    """The agent does not act on this; ``str()`` says why."""


@dataclass(frozen=True, slots=True)
class Command:
    """One lifecycle event that an agent is to carry out.

    ``sequence`` grows with every command for an agent. ``attempt`` is another one where somebody wants the event done once
    more, and the same where it is only offered again. ``revision`` is a document as the deployment pins it.
    ``expires_at`` is by the server's clock. ``link``: switch this link, "" for plain copies. ``native`` is the
    group's ``nativePackage``, for a package version without a bundle. ``checks`` are the group's checks that are commands,
    for an event that makes them; it is none of ``events``, which scripts may have.
    """

    agent: str
    agent_id: str
    sequence: int
    expires_at: datetime
    deployment_id: str
    application: str
    group_id: str
    group: str
    creator: str
    event_id: int
    event: str
    attempt: str
    events: tuple[str, ...]
    course: Course
    revision: Mapping[str, Any]
    file_exists_behavior: FileExistsBehavior
    appspec_name: str
    link: str
    is_rollback: bool
    native: Mapping[str, Any] = field(default_factory=dict)
    checks: tuple[Mapping[str, Any], ...] = ()

    @property
    def kind(self) -> str:
        """The kind of the revision; a package version that is installed as such is one of its own."""
        told = str(self.revision.get("revisionType", ""))
        package = self.revision.get("package")
        is_native = told == "Package" and isinstance(package, Mapping) and package.get("asset") is None
        return NATIVE if is_native else told

    @property
    def sha256(self) -> str:
        """The SHA-256 that the bundle has to have, 64 hex digits; of a package as it is that over its files.

        Raises CommandRefused for a revision without one.
        """
        told = self.revision.get(_PLACES.get(self.kind, ""))
        digest = told.get("sha256") if isinstance(told, Mapping) else None
        if not isinstance(digest, str) or len(digest) != 64:
            raise CommandRefused(f"a revision of the kind {self.kind!r} has no bundle that this agent could install")
        return digest

    def payload(self) -> bytes:
        """What is signed and sent."""
        return canonical(
            {
                "version": CHECKING if self.checks else VERSION,
                "agent": self.agent,
                "agentId": self.agent_id,
                "sequence": self.sequence,
                "expiresAt": self.expires_at.astimezone(UTC).isoformat(),
                "deploymentId": self.deployment_id,
                "applicationName": self.application,
                "deploymentGroupId": self.group_id,
                "deploymentGroupName": self.group,
                "creator": self.creator,
                "eventId": self.event_id,
                "eventName": self.event,
                "attempt": self.attempt,
                "events": list(self.events),
                "course": self.course.value,
                "revision": dict(self.revision),
                "fileExistsBehavior": self.file_exists_behavior.value,
                "appSpecFilename": self.appspec_name,
                "link": self.link,
                "isRollback": self.is_rollback,
                "nativePackage": dict(self.native),
                **({"checks": [dict(each) for each in self.checks]} if self.checks else {}),
            }
        )

    @staticmethod
    def of_payload(payload: bytes) -> Command:
        """What ``payload`` has made. Raises CommandRefused."""
        try:
            found = json.loads(payload)
            if found["version"] not in {VERSION, CHECKING}:
                raise CommandRefused(f"it is of version {found['version']!r}, this agent knows up to {CHECKING}")
            checks = tuple(dict(each) for each in found["checks"]) if found["version"] == CHECKING else ()
            command = Command(
                agent=_text(found["agent"]),
                agent_id=_text(found["agentId"]),
                sequence=_number(found["sequence"]),
                expires_at=datetime.fromisoformat(_text(found["expiresAt"])),
                deployment_id=_text(found["deploymentId"]),
                application=_text(found["applicationName"]),
                group_id=_text(found["deploymentGroupId"]),
                group=_text(found["deploymentGroupName"]),
                creator=_text(found["creator"]),
                event_id=_number(found["eventId"]),
                event=_text(found["eventName"]),
                attempt=_text(found["attempt"]),
                events=tuple(_text(each) for each in found["events"]),
                course=Course(found["course"]),
                revision=dict(found["revision"]),
                file_exists_behavior=FileExistsBehavior(found["fileExistsBehavior"]),
                appspec_name=_text(found["appSpecFilename"]),
                link=_text(found["link"]),
                is_rollback=found["isRollback"] is True,
                native=dict(found["nativePackage"]),
                checks=checks,
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CommandRefused(f"it cannot be read: {type(error).__name__}") from error
        is_known = bool(checks) or command.event in command.events
        if command.expires_at.tzinfo is None or not is_known or bool(checks) != (found["version"] == CHECKING):
            raise CommandRefused("it cannot be read: a moment without a zone, or an event that is none of its events")
        return command


@dataclass(frozen=True, slots=True)
class Trust:
    """What an agent believes: ``key`` was pinned when it enrolled, ``last_sequence`` is the last that it accepted."""

    agent: str
    agent_id: str
    key: Ed25519PublicKey
    last_sequence: int

    def accept(self, payload: bytes, signature: bytes, now: datetime) -> Command:
        """The command in ``payload``; ``now`` is by the server's clock. Raises CommandRefused."""
        if len(payload) > COMMAND_BYTES:
            raise CommandRefused(f"it is longer than {COMMAND_BYTES} bytes")
        if not is_signed(self.key, _COMMAND + payload, signature):
            raise CommandRefused("its signature is not that of the server this agent has enrolled with")
        command = Command.of_payload(payload)
        if (command.agent, command.agent_id) != (self.agent, self.agent_id):
            raise CommandRefused(f"it is for the agent {command.agent!r}")
        if command.sequence <= self.last_sequence:
            raise CommandRefused(f"its number {command.sequence} is not above the last one, {self.last_sequence}")
        if command.expires_at <= now:
            raise CommandRefused(f"it counted until {command.expires_at.isoformat()}")
        return command


def sign_command(command: Command, sign: Callable[[bytes], bytes]) -> tuple[bytes, bytes]:
    """A command's bytes and their signature. Raises ValueError for one that is longer than any agent takes."""
    payload = command.payload()
    if len(payload) > COMMAND_BYTES:
        raise ValueError(f"the command has {len(payload)} bytes")
    return payload, sign(_COMMAND + payload)


def proof_text(agent_id: str, challenge: str, boot_id: str, nonce: str) -> bytes:
    """What an agent signs with its own key to get a session."""
    return _PROOF + canonical({"agentId": agent_id, "challenge": challenge, "bootId": boot_id, "nonce": nonce})


def time_text(agent_id: str, nonce: str, moment: datetime) -> bytes:
    """What the server signs so that an agent knows the time, to the second, and that the answer is to its own ``nonce``."""
    told = moment.astimezone(UTC).isoformat(timespec="seconds")
    return _TIME + canonical({"agentId": agent_id, "nonce": nonce, "serverTime": told})


def is_signed(key: Ed25519PublicKey, message: bytes, signature: bytes) -> bool:
    """Whether the holder of ``key``'s private half has signed ``message``."""
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def canonical(value: Mapping[str, Any]) -> bytes:
    """JSON of which there is one form only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a text")
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("a whole number")
    return value
