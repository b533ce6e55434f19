"""What a job's token opens: its input artifacts, its output artifacts, and for webhooks the call back with its result."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from dataclasses import dataclass

from flask import Response
from sqlalchemy.orm import Session

from hooks.api.jobs import JobFailure, JobState, JobSuccess, failure_of, success_of
from hooks.builds import artifact_reading
from hooks.builds.artifact_scan import scan
from hooks.builds.executor import Refused
from hooks.models.action_job import ActionJob
from hooks.models.pipeline import Execution
from hooks.pipelines import action_jobs, job_data, job_outputs, job_results
from hooks.services import HookServices
from registry import audit
from registry.api.routes import Route
from registry.errors import Conflict, Invalid, Unauthenticated
from registry.http import context
from registry.http.auth import credential_sent, machine
from registry.http.responses import send_file
from registry.http.upload import counted_body
from registry.repos.admission import Credential
from registry.token_shape import looks_like_token
from storage.encrypted import EncryptedStore
from storage.errors import BodyRejected
from storage.intake import Received, receive
from storage.reader import open_file


@dataclass(frozen=True, slots=True)
class KeptOutput:
    """An output artifact as it was kept."""

    name: str
    size: int
    sha256: str
    files: int


class JobExchangeViews:
    """The operations. The credential is the job's own token: no account's opens them, and it opens no other job's."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self) -> tuple[Route, ...]:
        """The part of the table."""
        door = machine("job", self._prove)
        artifacts, results = "/job-artifacts/<job>", "/job-results/<job>"
        return (
            Route("GET", f"{artifacts}/inputs/<artifact>/<path:filename>", door, self.download_job_input,
                  media_type="application/octet-stream"),
            Route("PUT", f"{artifacts}/outputs/<artifact>", door, self.upload_job_output, answer=KeptOutput,
                  body_media_type="application/octet-stream"),
            Route("POST", f"{results}/success", door, self.call_back_success, body=JobSuccess, answer=JobState),
            Route("POST", f"{results}/failure", door, self.call_back_failure, body=JobFailure, answer=JobState),
        )  # fmt: skip

    def download_job_input(self, job: str, artifact: str, filename: str) -> Response:
        """A file of an input artifact of a job in progress, whole or one range of it."""
        with self._services.db.read() as session:
            found = job_data.find_file(session, self._job(session, job), artifact, filename)
        store = self._services.stores.of(found.domain_id)
        return send_file(
            lambda part: store.open(found.handle, part),
            size_bytes=found.handle.size_bytes,
            sha256=found.handle.digest,
            filename=found.filename,
            modified=found.modified,
            private=True,
        )

    def upload_job_output(self, job: str, artifact: str) -> KeptOutput:
        """Send an output artifact of a job in progress: a zip of at most 1 GiB. Sent again it replaces the one before."""
        services, registry = self._services, context.services()
        with services.db.read() as session:
            row = self._job(session, job)
            place = session.get_one(Execution, row.execution_id).domain
            domain_id = job_outputs.domain_of(session, row, artifact, place).id
            secrets = job_data.secrets_of(session, services.actions, row).values()
        store = services.stores.of(domain_id)
        # Its members are looked through for tokens, packed as they are: the bytes as they come say little.
        body = counted_body(min(job_outputs.MAX_BYTES, registry.limits.upload_bytes))
        try:
            received = receive(body, store, limit_bytes=job_outputs.MAX_BYTES)
        except BodyRejected as error:
            raise Invalid(str(error)) from error
        is_used = False
        try:
            files = self._looked_through(store, received, secrets, f"artifact {artifact} of job {job}")
            with services.db.write() as session:
                kept, is_used = job_outputs.keep_output(
                    session,
                    job,
                    artifact,
                    domain_id,
                    received.handle,
                    files,
                    digest=_digest(credential_sent()),
                    now=services.clock(),
                )
                answer = KeptOutput(artifact, kept.size_bytes, kept.sha256, kept.files)
        finally:
            if not is_used:
                store.delete(received.handle.locator)
        return answer

    def call_back_success(self, job: str, body: JobSuccess) -> JobState:
        """Say that a job that a webhook was called with went well, or goes on (`continuationToken`). Its token ends with it."""

        def unit(session: Session) -> JobState:
            row, now = self._called(session, job), self._services.clock()
            actor = row.held_by or ""
            job_results.succeed(session, self._services.actions, job, success_of(body), actor=actor, now=now)
            session.refresh(row)
            return JobState(row.status)

        return self._services.db.retry(unit)

    def call_back_failure(self, job: str, body: JobFailure) -> JobState:
        """Say that a job that a webhook was called with failed. Its token ends with it."""

        def unit(session: Session) -> JobState:
            row, now = self._called(session, job), self._services.clock()
            actor = row.held_by or ""
            job_results.fail(session, self._services.actions, job, failure_of(body), actor=actor, now=now)
            session.refresh(row)
            return JobState(row.status)

        return self._services.db.retry(unit)

    def _looked_through(self, store: EncryptedStore, received: Received, secrets: Collection[str], where: str) -> int:
        """How many files a zip has. Raises Invalid for one that cannot be read, or holds what must not be in it."""
        try:
            with open_file(store, received.handle) as body:
                tokens = scan(body, secrets)
            with open_file(store, received.handle) as body, artifact_reading.open_zip(body) as archive:
                files = sum(1 for entry in archive.infolist() if not entry.is_dir())
        except (Refused, artifact_reading.Unreadable, zipfile.BadZipFile) as error:
            raise Invalid(f"an output artifact is a zip: {error}") from error
        if tokens and context.services().leaks.end(tokens, where, "build"):
            raise Invalid("the artifact holds an access token of this server, which is revoked now")
        return files

    def _called(self, session: Session, job: str) -> ActionJob:
        row = self._job(session, job)
        if row.action_type_id is not None:
            raise Conflict("the worker that holds the job says how it went, with its own token")
        return row

    def _job(self, session: Session, job: str) -> ActionJob:
        """The job of the path, if the credential is its. Raises Unauthenticated."""
        digest, now = _digest(credential_sent()), self._services.clock()
        row = action_jobs.by_token(session, job, digest, now)
        if row is None:
            raise Unauthenticated("the token is not this job's, or the job takes nothing more")
        return row

    def _prove(self, sent: Credential | None) -> str:
        """Whom to charge: the job. Raises Unauthenticated for what is no token of a job in progress."""
        with self._services.db.read() as session:
            row = action_jobs.of_token(session, _digest(sent), self._services.clock())
        if row is None:
            raise Unauthenticated("send the token of a job in progress as a Bearer token")
        audit.proved_by("job token")
        return f"job:{row}"


def _digest(sent: Credential | None) -> str:
    if sent is None or sent.user or not looks_like_token(sent.secret):
        raise Unauthenticated("send the token of a job in progress as a Bearer token")
    return context.services().accounts.digest(sent.secret)
