"""The rotation of a domain's keys as a job: asked for by an administrator, done by a worker, resumed by another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.jobs import queue
from hooks.jobs.context import JobContext
from hooks.models.job import Job, JobState
from registry import audit
from registry.db import Database
from registry.errors import Conflict
from registry.repos import key_use
from registry.repos.key_use import CURRENT, SERVER_NAME, KeyUse, Owner
from registry.repos.rotation import Rotator, Work
from registry.repos.sealed_fields import SealedField
from registry.stores import DomainStores
from storage.errors import KeyDestroyed, StorageError

JOB_KIND = "rotate_keys"
# A provider that is away for a day must not make it give up; running again is harmless and backs off by itself.
_ATTEMPTS = 200


SAMPLE = 200
"""How many of an owner's envelopes are opened where somebody waits for the answer."""
MOST_FAULTS = 50


@dataclass(frozen=True, slots=True)
class RotationView:
    """The newest rotation that was asked for here. ``state`` is its job's; ``error`` is why it failed or waits."""

    job_id: int
    state: str
    error: str | None


@dataclass(frozen=True, slots=True)
class DomainKeys:
    """The keys of a domain (or of the server, ``(server)``), oldest first.

    ``remaining`` counts the bodies and fields that its older keys still wrap.
    """

    domain: str
    provider: str
    keys: tuple[KeyUse, ...]
    remaining: int
    rotation: RotationView | None


@dataclass(frozen=True, slots=True)
class KeyVerification:
    """What did not open, one line each, at most 50. ``sample`` is how many bodies' envelopes were tried at most."""

    domain: str
    is_sound: bool
    sample: int
    faults: tuple[str, ...]


def shown(session: Session, stores: DomainStores, fields: Sequence[SealedField], owner: Owner) -> DomainKeys:
    """The keys of an owner with their state, what each still wraps, and the newest rotation."""
    uses = key_use.key_uses(session, stores, fields, owner)
    job = latest(session, owner.name)
    return DomainKeys(
        owner.name,
        stores.provider.name,
        tuple(uses),
        sum(use.blobs + use.fields for use in uses if use.state != CURRENT),
        RotationView(job.id, job.state.value, job.error) if job is not None else None,
    )


def ask(session: Session, owner: Owner, actor: str, now: datetime) -> int | None:
    """Ask for a rotation and note who did; returns the job's number, None when one is waiting or running already."""
    job_id = enqueue(session, owner, actor)
    audit.record(session, now, actor, "keys.rotate_asked", owner.name, job=job_id)
    return job_id


def verified(db: Database, stores: DomainStores, fields: Sequence[SealedField], owner: Owner) -> KeyVerification:
    """Whether the keys of an owner open, with a sample of what they wrap. A key that cannot be had is a fault as well."""
    found = key_use.verify(db, stores, fields, owner, sample=SAMPLE, most_fields=SAMPLE)
    try:
        faults = list(islice(found, MOST_FAULTS))
    except StorageError as error:
        faults = [str(error)]
    return KeyVerification(owner.name, not faults, SAMPLE, tuple(faults))


def server(session: Session) -> Owner:
    """The server as the owner of its own keys. Raises NotFound before it has any."""
    return key_use.owner_named(session, SERVER_NAME)


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
