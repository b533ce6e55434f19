"""The job that puts the artifacts of a batch's builds into one (``combineArtifacts``).

What comes out is kept with the batch's first build: read, downloaded and forgotten as any artifact. The same file of two
builds is there once; two files of one name and different contents fail the batch, because nobody could tell which one
would be meant.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.builds import batch_engine
from hooks.builds.artifact_reading import NOT_READABLE, Unreadable, body_of, open_zip
from hooks.builds.batch_engine import BatchPhase, groups_of, lock
from hooks.builds.batch_plan import DOWNLOAD_SOURCE, TaskStatus
from hooks.builds.executor import Refused
from hooks.builds.keeping import PRIMARY, ArtifactName, Incoming
from hooks.builds.phases import BuildStatus
from hooks.builds.records import OnFinished, moves
from hooks.builds.stored_outputs import BuildPlace, StoredOutputs
from hooks.jobs.claims import EndedJob
from hooks.jobs.context import JobContext
from hooks.models.build import BuildProject
from hooks.models.build_batch import BuildBatch
from hooks.models.build_output import BuildArtifact
from hooks.models.job import JobState
from registry.models import Blob
from storage.errors import Damaged, Missing
from storage.reader import open_file

_COPY_BYTES = 256 * 1024
_MOST_FILES = 100_000


@dataclass(frozen=True, slots=True)
class _Found:
    """What there is to combine: artifacts by identifier, each with the group that made it. ``first`` keeps the result."""

    first: str
    domain: str
    project: str
    artifacts: dict[str, list[tuple[str, BuildArtifact, Blob]]]


class Combiner:
    """Handles the job, and settles it where it ended without its handler."""

    def __init__(self, outputs: StoredOutputs, on_finished: OnFinished) -> None:
        self._outputs = outputs
        self._on_finished = on_finished

    def __call__(self, job: JobContext) -> None:
        """Combine what the builds of ``job.payload["batch_id"]`` left. Harmless again: each result replaces the last."""
        batch_id = job.payload["batch_id"]
        with self._outputs.db.read() as session:
            found = _find(session, batch_id)
        fault = self._combine(job, found) if found is not None else ""
        if job.should_stop():
            return
        status = BuildStatus.FAILED if fault else BuildStatus.SUCCEEDED

        def unit(session: Session) -> None:
            self._end(session, batch_id, job.job_id, status, fault)

        job.finish(JobState.FAILED if fault else JobState.SUCCEEDED, unit, error=fault or None)

    def settle(self, session: Session, ended: EndedJob) -> None:
        """End the batch of a job that could not be run to its end."""
        fault = ended.error or "artifacts: not combined"
        self._end(session, ended.payload["batch_id"], ended.job_id, BuildStatus.FAULT, fault)

    def _end(self, session: Session, batch_id: str, job_id: int, status: BuildStatus, message: str) -> None:
        batch = lock(session, batch_id)
        # A batch that was stopped and retried combines anew: what the job of before found does not count.
        is_own = batch.phase == BatchPhase.COMBINE_ARTIFACTS and batch.job_id == job_id
        if batch.status == BuildStatus.IN_PROGRESS and is_own:
            batch_engine.finish(session, batch, status, self._outputs.clock(), moves(self._on_finished), message)

    def _combine(self, job: JobContext, found: _Found) -> str:
        """Make the combined artifacts; why it cannot be done, or ""."""
        keeper = self._outputs.keeper(BuildPlace(found.first, found.domain, "batch"), job.step)
        try:
            for identifier, artifacts in found.artifacts.items():
                name = found.project if identifier == PRIMARY else identifier
                incoming = keeper.begin_artifact(ArtifactName(identifier, name))
                try:
                    files = self._write(job, artifacts, incoming)
                    if job.should_stop():
                        return ""
                    incoming.keep(files)
                finally:
                    incoming.abort()
        except (Refused, Unreadable, Damaged, Missing, *NOT_READABLE) as error:
            return f"the artifacts cannot be combined: {error}"
        return ""

    def _write(self, job: JobContext, artifacts: Sequence[tuple[str, BuildArtifact, Blob]], incoming: Incoming) -> int:
        digests: dict[str, tuple[bytes, str]] = {}
        with zipfile.ZipFile(_Sink(incoming), "w", zipfile.ZIP_DEFLATED) as target:
            for group, _, blob in artifacts:
                with open_file(*body_of(self._outputs.stores, blob)) as body, open_zip(body) as source:
                    for member in source.infolist():
                        if job.should_stop():
                            return 0
                        if not member.is_dir():
                            _copy(source, member, target, digests, group)
        return len(digests)


def _copy(
    source: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    target: zipfile.ZipFile,
    digests: dict[str, tuple[bytes, str]],
    group: str,
) -> None:
    known = digests.get(member.filename)
    if known is None and len(digests) >= _MOST_FILES:
        raise Refused(f"they have more than {_MOST_FILES} files")
    digest = hashlib.sha256()
    copied = zipfile.ZipInfo(member.filename, member.date_time)
    copied.external_attr, copied.compress_type = member.external_attr, zipfile.ZIP_DEFLATED
    copied.file_size = member.file_size  # so that the writer knows whether it needs the long form
    with source.open(member) as body:
        if known is not None:
            while data := body.read(_COPY_BYTES):
                digest.update(data)
        else:
            with target.open(copied, "w") as into:
                while data := body.read(_COPY_BYTES):
                    digest.update(data)
                    into.write(data)
    if known is None:
        digests[member.filename] = (digest.digest(), group)
    elif known[0] != digest.digest():
        raise Refused(f"{known[1]} and {group} have different files {member.filename!r}")


class _Sink:
    """A file that can only be written: what the zip module needs for an archive in one pass."""

    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming

    def write(self, data: bytes, /) -> int:
        self._incoming.write(bytes(data))
        return len(data)

    def close(self) -> None:
        """Whoever made it keeps what was written, or does not."""

    def flush(self) -> None:
        """Nothing waits here."""


def _find(session: Session, batch_id: str) -> _Found | None:
    row = session.execute(
        select(BuildBatch, BuildProject.name)
        .join(BuildProject, BuildProject.id == BuildBatch.project_id)
        .where(BuildBatch.id == batch_id)
    ).one_or_none()
    if row is None or row[0].status != BuildStatus.IN_PROGRESS:
        return None
    groups = groups_of(session, batch_id)
    made_by = {group.build_id: group for group in groups if group.status == TaskStatus.SUCCEEDED}
    first = next(group.build_id for group in groups if group.identifier == DOWNLOAD_SOURCE)
    rows = session.execute(
        select(BuildArtifact, Blob)
        .join(Blob, Blob.id == BuildArtifact.blob_id)
        .where(BuildArtifact.build_id.in_([build_id for build_id in made_by if build_id != first]))
    )
    placed = sorted(rows, key=lambda each: (made_by[each[0].build_id].position, each[0].identifier))
    artifacts: dict[str, list[tuple[str, BuildArtifact, Blob]]] = {}
    for artifact, blob in placed:
        artifacts.setdefault(artifact.identifier, []).append((made_by[artifact.build_id].identifier, artifact, blob))
    return _Found(first or "", row[0].source["domain"], row[1], artifacts)
