"""What runners call, at ``/api/v1/runner``. Their own credential opens it, and no user's token does.

Each request about a build shows its lease's token beside it (``Entrepot-Lease``), and is answered 409 once the lease holds
nothing any more, 403 if it is another's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, cast

from flask import Blueprint, Response, g, request

from hooks.api.runner_shapes import (
    LOG_PIECE_BYTES,
    PROTOCOL,
    ArtifactQuery,
    BatchDocument,
    BatchFaults,
    Beat,
    BuildEnding,
    BuildFacts,
    CacheQuery,
    ClaimAnswer,
    ClaimRequest,
    GivenBack,
    GivenValue,
    KeptBody,
    LogEnd,
    Offset,
    PhaseList,
    ReferenceList,
    RefusedValue,
    ReportTaken,
    RunnerIdentity,
    SourceQuery,
    Told,
    ValueList,
    WantedCache,
    claimed_build,
    exported_read,
    phases_read,
)
from hooks.builds import runners
from hooks.builds.keeping import ArtifactName, CacheKey, Kept
from hooks.builds.phases import BuildStatus
from hooks.builds.references import Reference, Unresolved, VariableType, variable_fault
from hooks.builds.report_lines import MOST_BYTES
from hooks.builds.runner_work import Claim, Ending
from hooks.builds.runners import Introduction
from hooks.models.runner import BuildRunner
from hooks.services import HookServices
from registry import audit
from registry.api.routes import Route, register
from registry.errors import Invalid, Unauthenticated
from registry.http import context
from registry.http.auth import charge, machine, public
from registry.http.upload import counted_body
from registry.rates import CostClass
from registry.repos.admission import Credential

LEASE_HEADER = "Entrepot-Lease"
_OCTETS = "application/octet-stream"
_PIECE_BYTES = 256 * 1024
_MOST_BODY_BYTES = 2**40  # what counts is the limit of what is kept, which is asked for each piece
_ENDS = {
    status.value: status for status in BuildStatus if status.value in {"SUCCEEDED", "FAILED", "STOPPED", "TIMED_OUT"}
}


class RunnerProtocolViews:
    """The operations of runners."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self) -> tuple[Route, ...]:
        """The part of the table that runners use."""
        known = public("a registration token is proof by itself, once")
        door, lease = machine("runner", self._prove), "/runner/leases/<lease>"
        beats = machine("runner", self._prove_beat)
        return (
            Route("POST", "/runner/register", known, self.register_runner, Told, answer=RunnerIdentity, status=201),
            Route("POST", "/runner/claim", door, self.claim_build, ClaimRequest, answer=ClaimAnswer),
            Route("POST", f"{lease}/heartbeat", beats, self.beat, answer=Beat),
            Route("PUT", f"{lease}/log", door, self.add_log, query=Offset, answer=LogEnd, body_media_type=_OCTETS),
            # What a build says may hold a token of this server, and must not stand in the way of its end: it is masked here.
            Route("PUT", f"{lease}/phases", door, self.put_phases, PhaseList, status=204, holds_secrets=True),
            Route("POST", f"{lease}/facts", door, self.tell_facts, BuildFacts, status=204, holds_secrets=True),
            Route(
                "POST",
                f"{lease}/batch",
                door,
                self.read_batch,
                body=BatchDocument,
                answer=BatchFaults,
                holds_secrets=True,
            ),
            Route("GET", f"{lease}/source", door, self.get_source, query=SourceQuery, media_type=_OCTETS),
            Route("POST", f"{lease}/values", door, self.get_values, ReferenceList, answer=ValueList),
            Route(
                "PUT",
                f"{lease}/artifacts/<identifier>",
                door,
                self.put_artifact,
                query=ArtifactQuery,
                answer=KeptBody,
                body_media_type=_OCTETS,
            ),
            Route("POST", f"{lease}/cache", door, self.find_cache, WantedCache, media_type=_OCTETS),
            Route(
                "PUT",
                f"{lease}/cache",
                door,
                self.put_cache,
                query=CacheQuery,
                answer=KeptBody,
                body_media_type=_OCTETS,
            ),
            Route("PUT", f"{lease}/reports", door, self.put_report, answer=ReportTaken, body_media_type=_OCTETS),
            Route("POST", f"{lease}/finish", door, self.finish_build, BuildEnding, status=204, holds_secrets=True),
            Route("POST", f"{lease}/give-back", door, self.give_build_back, GivenBack, status=204, holds_secrets=True),
        )

    def _prove(self, sent: Credential | None) -> str:
        if sent is None:
            raise Unauthenticated("send the runner's own credential")
        with self._services.db.read() as session:
            g.runner = runners.authenticate(session, sent.secret, context.services().accounts.digest)
        audit.proved_by("runner credential")
        return f"runner:{_runner().id}"

    def _prove_beat(self, sent: Credential | None) -> str:
        # Counted apart: a build that writes much must not cost the runner's other builds their leases.
        return f"{self._prove(sent)}:beats"

    # --- identity and work

    def register_runner(self, body: Told) -> RunnerIdentity:
        """Register a runner with its registration token (sent as Bearer); answers with its own credential, this once."""
        charge(CostClass.MINT)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated("send the registration token as Bearer")
        said = _introduction(body)
        audit.proved_by("registration token")
        services = self._services
        with services.db.write() as session:
            digest = context.services().accounts.digest
            row, credential = runners.register(session, token.strip(), said, digest=digest, now=services.clock())
            return RunnerIdentity(row.name, credential)

    def claim_build(self, body: ClaimRequest) -> ClaimAnswer:
        """Ask for a build: the most urgent that the runner may have and can run, within queue's and projects' limits."""
        work = self._services.runners
        given = work.claims.claim(_runner(), _introduction(body), body.leases)
        if given is None:
            return ClaimAnswer(None, work.claims.poll_seconds)
        return ClaimAnswer(claimed_build(given, work.work.lease_seconds), 0.0)

    def beat(self, lease: str) -> Beat:
        """Prolong a lease; says whether the build has to end."""
        work = self._services.runners.work
        reason = work.renew(_claim(lease))
        return Beat(work.lease_seconds, None if reason is None else reason.name, work.stands(_claim(lease)))

    # --- what the build tells

    def add_log(self, lease: str, query: Offset) -> LogEnd:
        """Add to the log. What came before under the same offset is not added again."""
        data = counted_body(LOG_PIECE_BYTES, holds_secrets=True)
        pieces = []
        while piece := data.read(LOG_PIECE_BYTES):
            pieces.append(piece)
        return LogEnd(self._services.runners.work.log(_claim(lease), query.offset, b"".join(pieces)))

    def put_phases(self, lease: str, body: PhaseList) -> None:
        """Write the phases entered so far."""
        self._services.runners.work.phases(_claim(lease), phases_read(body.phases))

    def tell_facts(self, lease: str, body: BuildFacts) -> None:
        """Keep which commit a source is, or what the image's name means now; end tokens that the build has shown."""
        work, claim = self._services.runners.work, _claim(lease)
        if body.resolved_source_version is not None:
            work.resolved(claim, body.source_identifier or "", body.resolved_source_version)
        elif body.image_digest is not None:
            work.image(claim, body.image_digest)
        elif body.paused is not None:
            work.pauses(claim, stands=body.paused)
        elif body.leaked_tokens:
            work.leaked(claim, body.leaked_tokens)
        else:
            raise Invalid("nothing is told")

    def read_batch(self, lease: str, body: BatchDocument) -> BatchFaults:
        """Look at the buildspec that the first build of a batch has read; it counts when the build ends with it."""
        return BatchFaults(tuple(self._services.runners.work.read_batch(_claim(lease), body.document)))

    # --- what the build gets

    def get_source(self, lease: str, query: SourceQuery) -> Response:
        """A file that is built: of the package version, or a source that somebody uploaded."""
        body = self._services.runners.work.open_source(_claim(lease), query.name, query.identifier)
        return _streamed(_pieces(body), {})

    def get_values(self, lease: str, body: ReferenceList) -> ValueList:
        """Parameters and secrets that the build names, as far as its project may read them."""
        for each in body.references:
            fault = variable_fault({"type": each.type, "value": each.value})
            if fault:
                raise Invalid(f"reference {each.variable}: {fault}")
        wanted = [Reference(each.variable, VariableType(each.type), each.value) for each in body.references]
        try:
            found = self._services.runners.work.values(_claim(lease), wanted)
        except Unresolved as error:
            return ValueList((), RefusedValue(error.type.value, str(error)))
        return ValueList(tuple(GivenValue(each.variable, each.value, each.is_open) for each in found), None)

    # --- what the build leaves

    def put_artifact(self, lease: str, identifier: str, query: ArtifactQuery) -> KeptBody:
        """Keep an artifact: a zip. One of the same identifier is replaced."""
        name = ArtifactName(identifier[:128], query.name, query.packaging)
        work = self._services.runners.work
        return _kept(work.artifact(_claim(lease), name, query.files, _body(_MOST_BODY_BYTES)))

    def find_cache(self, lease: str, body: WantedCache) -> Response:
        """The cache to restore, with its key, scope and size in headers; 204 for none."""
        found = self._services.runners.work.find_cache(_claim(lease), CacheKey(body.version, body.key, body.fallbacks))
        if found is None:
            return Response(status=204)
        cache, pieces = found
        told = {
            "Entrepot-Cache-Key": cache.key.encode("unicode_escape").decode("ascii"),
            "Entrepot-Cache-Scope": cache.scope.encode("unicode_escape").decode("ascii"),
            "Entrepot-Cache-Exact": "1" if cache.is_exact else "0",
            "Content-Length": str(cache.size_bytes),
        }
        return _streamed(pieces, told)

    def put_cache(self, lease: str, query: CacheQuery) -> KeptBody:
        """Keep a cache; what is kept under a key already stays."""
        wanted = CacheKey(query.version, query.key)
        return _kept(self._services.runners.work.cache(_claim(lease), wanted, query.files, _body(_MOST_BODY_BYTES)))

    def put_report(self, lease: str) -> ReportTaken:
        """Keep a report, in lines of JSON. One of the same group is replaced."""
        return ReportTaken(self._services.runners.work.report(_claim(lease), _body(MOST_BYTES)))

    def finish_build(self, lease: str, body: BuildEnding) -> None:
        """The build has ended. Saying it again changes nothing."""
        if body.status not in _ENDS:
            raise Invalid(f"a build ends as one of {', '.join(_ENDS)}")
        exported = exported_read(body.exported_variables)
        phases = phases_read(body.phases)
        ending = Ending(_ENDS[body.status], phases, exported, body.log_bytes, body.batch_document)
        self._services.runners.work.finish(_claim(lease), ending)

    def give_build_back(self, lease: str, body: GivenBack) -> None:
        """The build could not be run here, or the runner leaves: it goes to another."""
        self._services.runners.work.give_back(_claim(lease), body.error)


def blueprint(services: HookServices) -> Blueprint:
    """The protocol of runners, to be mounted at ``/api/v1``."""
    routes = Blueprint("runner_api", __name__)
    register(routes, RunnerProtocolViews(services).routes())
    return routes


def _runner() -> BuildRunner:
    return cast("BuildRunner", g.runner)


def _claim(lease: str) -> Claim:
    return Claim(_runner(), lease[:32], request.headers.get(LEASE_HEADER, ""))


def _introduction(told: Told) -> Introduction:
    if told.protocol != PROTOCOL:
        raise Invalid(f"this server speaks version {PROTOCOL} of the runners' protocol, and the runner {told.protocol}")
    return Introduction(told.host, told.version, told.environments, told.slots)


def _body(limit_bytes: int) -> BinaryIO:
    # What is looked for in artifacts and logs is looked for by those who keep them.
    return cast("BinaryIO", counted_body(limit_bytes, holds_secrets=True))


def _kept(kept: Kept | None) -> KeptBody:
    return KeptBody(None, None) if kept is None else KeptBody(kept.size_bytes, kept.sha256)


def _pieces(body: BinaryIO) -> Iterator[bytes]:
    with body:
        while piece := body.read(_PIECE_BYTES):
            yield piece


def _streamed(pieces: Iterator[bytes], headers: dict[str, str]) -> Response:
    response = Response(pieces, content_type=_OCTETS, headers=headers)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
