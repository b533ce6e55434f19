"""The rotation of a domain's keys as a job: asked for by an administrator, done by a worker, resumed by another."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.jobs import queue
from hooks.jobs.context import JobContext
from hooks.models.job import Job, JobState
from registry.errors import Conflict
from registry.repos.key_use import Owner
from registry.repos.rotation import Rotator, Work
from storage.errors import KeyDestroyed

JOB_KIND = "rotate_keys"
# A provider that is away for a day must not make it give up; running again is harmless and backs off by itself.
_ATTEMPTS = 200


def subject_of(domain: str) -> str:
    """What the job is found by."""
    return f"keys:{domain}"


def enqueue(session: Session, owner: Owner, actor: str) -> int | None:
    """Ask for a rotation; None when one is waiting or running already."""
    subject = subject_of(owner.name)
    payload = {"domain_id": owner.domain_id, "domain": owner.name, "actor": actor}
    return queue.enqueue(
        session, JOB_KIND, payload, dedupe=subject, serial_key=subject, subject=subject, max_attempts=_ATTEMPTS
    )


def latest(session: Session, domain: str) -> Job | None:
    """The newest job of a domain, running or ended."""
    return session.scalar(
        select(Job).where(Job.kind == JOB_KIND, Job.subject == subject_of(domain)).order_by(Job.id.desc()).limit(1)
    )


def run(rotator: Rotator, context: JobContext) -> None:
    """Rotate. Running twice is harmless: the second run finishes what the first began, or finds it done."""
    sent = context.payload
    owner = Owner(sent["domain_id"], sent["domain"])
    wait = lambda seconds: context.wait(seconds) if seconds else context.should_stop()  # noqa: E731
    try:
        (done,) = rotator.rotate([owner], Work(sent["actor"], wait=wait))
    except (Conflict, KeyDestroyed) as error:
        context.finish(JobState.FAILED, error=str(error))
        return
    if done.failed:
        told = f"{len(done.failed)} rows do not open and keep the old key ('entrepot fsck --deep' names them)"
        context.finish(JobState.FAILED, error=told)
    elif done.is_finished:
        context.finish(JobState.SUCCEEDED)
