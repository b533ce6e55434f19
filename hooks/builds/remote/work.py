"""Running one build that the server gave: its plan out of the answer, its files as they are asked for, its end told."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from hooks.builds.bundles import Inputs
from hooks.builds.cache_scope import Level, Scope
from hooks.builds.executor import Executor, ExecutorError, Interrupt, Login, Network, Publishing, Refused, RoomRequest
from hooks.builds.git_fetch import Fetched, GitCredential, GitFetcher
from hooks.builds.local_caches import LocalCaches, LocalUse, SourceCache, place_of
from hooks.builds.output_settings import OutputSettings, handed_on
from hooks.builds.plan import BuildPlan
from hooks.builds.project import STORED, SourceSettings
from hooks.builds.references import Reference, Resolved, Unresolved, VariableType
from hooks.builds.remote.lease import HeldLease
from hooks.builds.remote.link import Away, Rejected, broken_off
from hooks.builds.remote.reporter import RemoteReporter
from hooks.builds.run import Abandoned, run_build
from hooks.builds.source import PackageSource
from registry.clock import Clock

LOG = logging.getLogger(__name__)
_PIECE_BYTES = 256 * 1024
_ERROR_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Bench:
    """What this machine runs builds with: ``executors`` by type of environment; ``git`` fetches git sources.

    ``local`` are the caches that stay on this machine, None where none do.
    """

    executors: Mapping[str, Executor]
    git: GitFetcher
    spool_dir: Path
    clock: Clock
    local: LocalCaches | None = None


def run_one(bench: Bench, lease: HeldLease, build: Mapping[str, Any]) -> None:
    """Run a build to its end, or give it back. Raises nothing that is about the build."""
    reporter = RemoteReporter(lease, bench.spool_dir, bench.clock)
    try:
        try:
            plan = _plan(bench, lease, build, reporter)
            outcome = run_build(plan, _executor(bench, build["environment"]), reporter, reporter.interrupt, bench.clock)
            reporter.finish(outcome)
            LOG.info("build %s: %s", build["id"], outcome.status.value)
        except ExecutorError as error:
            LOG.warning("build %s could not be run: %s", build["id"], error)
            reporter.flush()
            _give_back(lease, " ".join(str(error).split())[:_ERROR_CHARACTERS] or "it could not be run")
    except Abandoned:
        if lease.is_drained:
            _leave(lease)
        LOG.info("build %s was broken off", build["id"])
    except (KeyError, TypeError, ValueError) as error:
        LOG.exception("build %s: the server's answer cannot be read", build.get("id"))
        _give_back(lease, f"the runner cannot read the server's answer: {type(error).__name__}")


def _executor(bench: Bench, environment: str) -> Executor:
    executor = bench.executors.get(environment)
    if executor is None:
        raise ExecutorError(f"this runner has no executor of type {environment}")
    return executor


def _give_back(lease: HeldLease, error: str) -> None:
    try:
        lease.insist(lambda: lease.ask("POST", "give-back", json={"error": error}))
    except (Abandoned, Rejected) as reason:
        LOG.warning("lease %s is not given back: %s", lease.id, reason)


def _leave(lease: HeldLease) -> None:
    try:
        lease.ask("POST", "give-back", json={"error": None}, read_seconds=5.0)
    except (Abandoned, Away, Rejected) as reason:
        LOG.warning("lease %s is not given back, and ends by itself: %s", lease.id, reason)


def _plan(bench: Bench, lease: HeldLease, build: Mapping[str, Any], reporter: RemoteReporter) -> BuildPlan:
    source = PackageSource.from_json(build["source"])
    given = {each["sourceIdentifier"]: _credential(each) for each in build["gitCredentials"]}
    files = _Files(bench, lease)

    def fetch(
        _project: int,
        _source: PackageSource,
        wanted: SourceSettings,
        interrupt: Interrupt,
        cache: SourceCache | None,
    ) -> Fetched:
        if wanted.type in STORED:
            return Fetched(files.stored(wanted), "")
        return bench.git.fetch(wanted, given.get(wanted.identifier), interrupt, cache)

    login, room, publishing = build["credentials"], build["room"], build["publishing"]
    outputs = OutputSettings.of(build["outputs"])
    scope = Scope(Level(build["cacheScope"]["level"]), build["cacheScope"]["name"])
    here = LocalUse(bench.local, outputs, place_of(source, build["project"], scope))
    reporter.keeper = here.keeper(reporter.keeper)
    inputs = Inputs(0, source, fetch, reporter.interrupt, reporter.resolved, here.sources)
    return BuildPlan(
        build_id=build["id"],
        source=inputs.bundle(files.asset),
        submitted_at=datetime.fromisoformat(build["submittedAt"]),
        spec_text=build["buildspec"],
        environment=build["variables"],
        overrides=build["overrides"],
        references=tuple(
            Reference(each["variable"], VariableType(each["type"]), each["value"]) for each in build["references"]
        ),
        reserved=build["reserved"],
        network=Network(build["network"]),
        room=RoomRequest(
            room["image"], room["pinnedDigest"], reporter.image, room["computeType"], room["privilegedMode"]
        ),
        credentials=Login(login["login"], login["token"]) if login else None,
        home_files=build["homeFiles"],
        secrets=(
            *((login["token"],) if login else ()),
            *((publishing["token"],) if publishing else ()),
            *(each.secret for each in given.values()),
        ),
        resolver=lambda references: _values(lease, references),
        project=build["project"],
        publishing=Publishing(tuple(publishing["paths"]), f"Bearer {publishing['token']}") if publishing else None,
        outputs=handed_on(outputs) if source.outputs else outputs,
        timeout_seconds=build["timeoutSeconds"],
        on_spec=(lambda text, _spec: reporter.batch(text)) if build["readsBatch"] else None,
        debug=reporter if build["debugSession"] else None,
    )


def _credential(told: Mapping[str, str]) -> GitCredential:
    return GitCredential(told["authType"], told["username"], told["secret"], told["knownHosts"])


def _values(lease: HeldLease, references: Sequence[Reference]) -> Sequence[Resolved]:
    asked = [{"variable": each.variable, "type": each.type.value, "value": each.name} for each in references]
    try:
        told = lease.insist(lambda: lease.ask("POST", "values", json={"references": asked})).json()
    except Rejected as error:
        raise ExecutorError(f"the server gives no values: {error}") from error
    refused = told["refused"]
    if refused is not None:
        raise Unresolved(VariableType(refused["type"]), refused["message"])
    return [Resolved(each["variable"], each["value"], each["isOpen"]) for each in told["values"]]


class _Files:
    """The files of a build's source, brought into files of the runner's own, and believed by their digests alone."""

    def __init__(self, bench: Bench, lease: HeldLease) -> None:
        self._bench = bench
        self._lease = lease

    def asset(self, source: PackageSource, filename: str) -> BinaryIO:
        """A file of the package version. Raises Refused, ExecutorError, Abandoned."""
        (pinned,) = [asset for asset in source.assets if asset.filename == filename]
        return self._brought({"name": filename}, pinned.sha256, filename)

    def stored(self, wanted: SourceSettings) -> BinaryIO:
        """A source of the server's store. Raises as ``asset``."""
        return self._brought({"identifier": wanted.identifier}, wanted.version, "the source")

    def _brought(self, query: Mapping[str, str], sha256: str, what: str) -> BinaryIO:
        try:
            file: IO[bytes] = tempfile.TemporaryFile(dir=self._bench.spool_dir)  # noqa: SIM115  (the caller closes it)
        except OSError as error:
            raise ExecutorError(f"nothing can be written here: {error}") from error
        try:
            self._lease.insist(lambda: self._write(query, sha256, what, file))
        except Rejected as error:
            file.close()
            raise Refused(str(error)) from error
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return cast("BinaryIO", file)

    def _write(self, query: Mapping[str, str], sha256: str, what: str, file: IO[bytes]) -> None:
        file.seek(0)
        file.truncate()
        digest = hashlib.sha256()
        with self._lease.ask("GET", "source", query=query, is_streamed=True) as response, broken_off():
            for piece in response.iter_content(_PIECE_BYTES):
                digest.update(piece)
                try:
                    file.write(piece)
                except OSError as error:
                    raise ExecutorError(f"{what} cannot be written here: {error}") from error
        if digest.hexdigest() != sha256:
            raise Away(f"{what} has not arrived as it is")
