"""What jobs leave: zips in the domain's encrypted store, as the artifacts of builds are, under their names in the pipeline."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.builds.artifact_reading import MAX_MEMBERS
from hooks.models.action_job import ActionArtifact, ActionJob
from hooks.pipelines.action_jobs import JobStatus
from hooks.pipelines.job_data import outputs_of
from registry import audit
from registry.errors import Conflict, Invalid, NotFound
from registry.models import Domain
from registry.repos.kept_rows import ensure_blob
from storage.blobs import BlobHandle

MAX_BYTES = 1024**3
MAX_FILES = MAX_MEMBERS


def domain_of(session: Session, job: ActionJob, name: str, domain: str) -> Domain:
    """Whose store takes an output artifact of a job. Raises NotFound for what is no output of it."""
    if name not in outputs_of(session, job):
        raise NotFound("output artifact", name[:100])
    found = session.scalar(select(Domain).where(Domain.name == domain))
    if found is None:
        raise NotFound("domain", domain)
    return found


def keep_output(
    session: Session,
    job_id: str,
    name: str,
    domain_id: int,
    handle: BlobHandle,
    files: int,
    *,
    digest: str,
    now: datetime,
) -> tuple[ActionArtifact, bool]:
    """Make the row of a received zip, or let it replace the one before; whether the body was new to the domain.

    ``digest`` is the token's that it came with. Raises Conflict for a job that is not in progress any more.
    """
    if files > MAX_FILES:
        raise Invalid(f"an artifact has at most {MAX_FILES} files")
    job = session.scalar(
        select(ActionJob).where(ActionJob.id == job_id).with_for_update(), execution_options={"populate_existing": True}
    )
    if job is None or job.status != JobStatus.IN_PROGRESS or job.token_digest != digest or job.expires_at <= now:
        raise Conflict("InvalidJobState: the job takes no artifacts any more")
    kept = ensure_blob(session, domain_id, handle, now)
    row = session.scalar(
        select(ActionArtifact).where(ActionArtifact.job_id == job_id, ActionArtifact.identifier == name)
    ) or ActionArtifact(job_id=job_id, identifier=name, name=name)
    row.files, row.size_bytes, row.sha256 = files, handle.size_bytes, handle.digest
    row.blob_id, row.created_at = kept.id, now
    session.add(row)
    session.flush()
    about = {"job": job.id, "sha256": row.sha256, "size_bytes": row.size_bytes}
    audit.record(session, now, job.held_by or "", "job.upload", f"job/{job.id}/{name}", **about)
    return row, kept.handle.locator == handle.locator
