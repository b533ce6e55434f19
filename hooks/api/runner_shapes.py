"""What runners and the server say to each other: read strictly, as from strangers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from hooks.builds.executor import Publishing
from hooks.builds.log_size import MAX_SPEC_BYTES
from hooks.builds.phases import BuildStatus, Phase
from hooks.builds.runner_claims import Assignment
from registry.api.shapes import Between, Length
from registry.errors import Invalid

PROTOCOL = 2
LOG_PIECE_BYTES = 1024 * 1024
_MOST_SECONDS = 10**9
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}\Z")
_CODE = re.compile(r"[A-Za-z0-9_ ]{0,64}\Z")


@dataclass(frozen=True, slots=True)
class Told:
    """What a runner says of itself. ``environments`` are the types of builds it can run, ``slots`` how many at a time."""

    protocol: Annotated[int, Between(0, 1000)]
    host: Annotated[str, Length(1, 255)]
    version: Annotated[str, Length(1, 50)]
    environments: Annotated[tuple[Annotated[str, Length(1, 32)], ...], Length(0, 20)]
    slots: Annotated[int, Between(0, 1000)]


@dataclass(frozen=True, slots=True)
class RunnerIdentity:
    """A runner's own credential. It is never told again."""

    name: str
    credential: str


@dataclass(frozen=True, slots=True)
class ClaimRequest(Told):
    """A runner that asks for a build; ``leases`` are those it works on. What else it holds goes to others."""

    leases: Annotated[tuple[Annotated[str, Length(1, 32)], ...], Length(0, 1000)]


@dataclass(frozen=True, slots=True)
class VariableReference:
    """A variable, and the parameter or secret that fills it."""

    variable: Annotated[str, Length(1, 255)]
    type: Annotated[str, Length(1, 20)]
    value: Annotated[str, Length(1, 2048)]


@dataclass(frozen=True, slots=True)
class BuildLogin:
    """The build's own token for the registry."""

    login: str
    token: str


@dataclass(frozen=True, slots=True)
class BuildPublishing:
    """What the runner adds, outside of the sandbox, to what the build asks for below ``paths`` of the registry."""

    paths: tuple[str, ...]
    token: str


@dataclass(frozen=True, slots=True)
class BuildRoom:
    """What the build's environment asks of its sandbox."""

    image: str
    pinned_digest: str
    compute_type: str
    privileged_mode: bool


@dataclass(frozen=True, slots=True)
class SourceLogin:
    """What a git source is fetched with."""

    source_identifier: str
    auth_type: str
    username: str
    secret: str
    known_hosts: str


@dataclass(frozen=True, slots=True)
class CacheScope:
    """At which trust a build reads and writes the caches of the runner's machine (protected, branch or pull_request)."""

    level: str
    name: str


@dataclass(frozen=True, slots=True)
class ClaimedBuild:
    """A build, and all that it needs but its files. ``leaseToken`` goes with each request about it (``Entrepot-Lease``).

    With ``readsBatch`` it does no more than read its buildspec, which it tells before it ends, and again with its end.
    """

    lease_id: str
    lease_token: str
    lease_seconds: float
    attempt: int
    id: str
    number: int
    project: str
    environment: str
    submitted_at: datetime
    source: dict[str, Any]
    git_credentials: tuple[SourceLogin, ...]
    buildspec: str | None
    variables: dict[str, str]
    overrides: dict[str, str]
    references: tuple[VariableReference, ...]
    reserved: dict[str, str]
    network: str
    room: BuildRoom
    credentials: BuildLogin | None
    home_files: dict[str, str]
    publishing: BuildPublishing | None
    outputs: dict[str, Any]
    cache_scope: CacheScope
    debug_session: bool
    timeout_seconds: float
    reads_batch: bool


@dataclass(frozen=True, slots=True)
class ClaimAnswer:
    """The build to run now, null for none; and how long to wait before the next question."""

    build: ClaimedBuild | None
    poll_seconds: float


@dataclass(frozen=True, slots=True)
class Beat:
    """The lease is good for so long from the question on; ``stop`` is STOPPED or TIMED_OUT where the build has to end.

    ``paused``: it stands at a breakpoint, and nobody has resumed it.
    """

    lease_seconds: float
    stop: str | None
    paused: bool


@dataclass(frozen=True, slots=True)
class LogEnd:
    """How much of the log has arrived."""

    end: int


@dataclass(frozen=True, slots=True)
class Offset:
    """Where a piece of the log begins in all that this attempt sends."""

    offset: Annotated[int, Between(0, 2**62)]


@dataclass(frozen=True, slots=True)
class PhaseContext:
    """What went wrong in a phase."""

    status_code: Annotated[str, Length(0, 64)]
    message: Annotated[str, Length(0, 1000)]


@dataclass(frozen=True, slots=True)
class BuildPhase:
    """A phase in CodeBuild's shape; moments in ISO 8601."""

    phase_type: Annotated[str, Length(1, 32)]
    start_time: Annotated[str, Length(1, 40)]
    phase_status: Annotated[str, Length(1, 16)] | None = None
    end_time: Annotated[str, Length(1, 40)] | None = None
    duration_in_seconds: Annotated[int, Between(0, _MOST_SECONDS)] | None = None
    contexts: Annotated[tuple[PhaseContext, ...], Length(0, 20)] = ()


BuildspecText = Annotated[str, Length(0, MAX_SPEC_BYTES)]
Phases = Annotated[tuple[BuildPhase, ...], Length(1, 100)]


@dataclass(frozen=True, slots=True)
class PhaseList:
    """All phases entered so far, in order."""

    phases: Phases


@dataclass(frozen=True, slots=True)
class BuildFacts:
    """What became known: a git source's commit, the digest of the build's image, or tokens of this server that it showed.

    Or ``paused``: it stands at a breakpoint, or (false) goes on from there by itself.
    """

    source_identifier: Annotated[str, Length(0, 128)] | None = None
    resolved_source_version: Annotated[str, Length(1, 64)] | None = None
    image_digest: Annotated[str, Length(1, 80)] | None = None
    leaked_tokens: Annotated[tuple[Annotated[str, Length(1, 200)], ...], Length(0, 100)] = ()
    paused: bool | None = None


@dataclass(frozen=True, slots=True)
class ReferenceList:
    """The parameters and secrets that a build names."""

    references: Annotated[tuple[VariableReference, ...], Length(1, 1000)]


@dataclass(frozen=True, slots=True)
class GivenValue:
    """A value; ``isOpen`` for a parameter that is no secret."""

    variable: str
    value: str
    is_open: bool


@dataclass(frozen=True, slots=True)
class RefusedValue:
    """A value that the build cannot have, and why."""

    type: str
    message: str


@dataclass(frozen=True, slots=True)
class ValueList:
    """All values in order; or the first that the build cannot have."""

    values: tuple[GivenValue, ...]
    refused: RefusedValue | None


@dataclass(frozen=True, slots=True)
class SourceQuery:
    """A file of the package by its name, or an uploaded source by its identifier (without one: the primary source)."""

    name: Annotated[str, Length(1, 500)] | None = None
    identifier: Annotated[str, Length(0, 128)] | None = None


@dataclass(frozen=True, slots=True)
class ArtifactQuery:
    """What the artifact is called, and of how many files it is."""

    name: Annotated[str, Length(1, 500)]
    packaging: Annotated[str, Length(1, 8)]
    files: Annotated[int, Between(0, 2**31 - 1)]


@dataclass(frozen=True, slots=True)
class WantedCache:
    """What a cache is found by."""

    version: Annotated[str, Length(64, 64)]
    key: Annotated[str, Length(0, 500)] = ""
    fallbacks: Annotated[tuple[Annotated[str, Length(1, 500)], ...], Length(0, 100)] = ()


@dataclass(frozen=True, slots=True)
class CacheQuery:
    """What the cache will be found by, and of how many files it is."""

    version: Annotated[str, Length(64, 64)]
    files: Annotated[int, Between(0, 2**31 - 1)]
    key: Annotated[str, Length(0, 500)] = ""


@dataclass(frozen=True, slots=True)
class KeptBody:
    """What is kept now; null where nothing is."""

    size: int | None
    sha256sum: str | None


@dataclass(frozen=True, slots=True)
class ReportTaken:
    """Why the report was not taken, empty when it was."""

    fault: str


@dataclass(frozen=True, slots=True)
class BatchDocument:
    """The buildspec that the first build of a batch has read."""

    document: BuildspecText


@dataclass(frozen=True, slots=True)
class BatchFaults:
    """What is wrong with its batch; empty when nothing is."""

    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BuildEnding:
    """How the build ended. ``logBytes`` is how much log was sent; what is missing of it keeps the build from ending.

    ``batchDocument`` is what the first build of a batch has read.
    """

    status: Annotated[str, Length(1, 16)]
    phases: Phases
    exported_variables: Annotated[dict[str, Annotated[str, Length(0, 10_000)]], Length(0, 1000)]
    log_bytes: Annotated[int, Between(0, 2**62)]
    batch_document: BuildspecText | None = None


@dataclass(frozen=True, slots=True)
class GivenBack:
    """Why the build could not be run there; null for a runner that leaves in order."""

    error: Annotated[str, Length(1, 2000)] | None = None


def claimed_build(given: Assignment, lease_seconds: float) -> ClaimedBuild:
    """A build as a runner is told of it."""
    plan, room = given.plan, given.plan.room
    login = plan.credentials
    return ClaimedBuild(
        lease_id=given.lease_id,
        lease_token=given.token,
        lease_seconds=lease_seconds,
        attempt=given.attempt,
        id=plan.build_id,
        number=given.number,
        project=plan.project,
        environment=given.environment,
        submitted_at=plan.submitted_at,
        source=given.source.as_json(),
        git_credentials=tuple(
            SourceLogin(identifier, each.auth_type, each.username, each.secret, each.known_hosts)
            for identifier, each in given.git_credentials.items()
        ),
        buildspec=plan.spec_text,
        variables=dict(plan.environment),
        overrides=dict(plan.overrides),
        references=tuple(VariableReference(each.variable, each.type.value, each.name) for each in plan.references),
        reserved=dict(plan.reserved),
        network=plan.network.value,
        room=BuildRoom(room.image, room.pinned_digest, room.compute_type, room.is_privileged),
        credentials=BuildLogin(login.login, login.token) if login is not None else None,
        home_files=dict(plan.home_files),
        publishing=_publishing(plan.publishing),
        outputs={
            name: given.document[name]
            for name in ("artifacts", "secondaryArtifacts", "cache")
            if name in given.document
        },
        cache_scope=CacheScope(given.scope.level.value, given.scope.name),
        debug_session=given.debug_session,
        timeout_seconds=plan.timeout_seconds,
        reads_batch=plan.on_spec is not None,
    )


def _publishing(publishing: Publishing | None) -> BuildPublishing | None:
    if publishing is None:
        return None
    return BuildPublishing(publishing.paths, publishing.authorization.removeprefix("Bearer "))


def phases_read(phases: Sequence[BuildPhase]) -> list[dict[str, Any]]:
    """Phases in the shape that is stored. Raises Invalid."""
    return [_phase(each) for each in phases]


def _phase(phase: BuildPhase) -> dict[str, Any]:
    try:
        record: dict[str, Any] = {
            "phaseType": Phase(phase.phase_type).value,
            "startTime": _moment(phase.start_time),
        }
        if phase.phase_status is not None and phase.end_time is not None:
            record["phaseStatus"] = BuildStatus(phase.phase_status).value
            record["endTime"] = _moment(phase.end_time)
            record["durationInSeconds"] = phase.duration_in_seconds or 0
    except ValueError as error:
        raise Invalid("a phase's type, status or moment is none") from error
    if not all(_CODE.match(context.status_code) for context in phase.contexts):
        raise Invalid("a phase's status code is none")
    record["contexts"] = [{"statusCode": context.status_code, "message": context.message} for context in phase.contexts]
    return record


def _moment(text: str) -> str:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    return moment.isoformat()


def exported_read(exported: dict[str, str]) -> dict[str, str]:
    """Exported variables. Raises Invalid."""
    if not all(_VARIABLE.match(name) for name in exported):
        raise Invalid("an exported variable's name is none")
    return exported
