"""The rows of runners: made by an administrator, registered once, seen, and revoked. In the caller's transaction.

A runner's machine counts as hostile: it has a credential of its own, of which the server keeps a digest, and that opens the
runner protocol alone. No user's token opens that, and this one opens nothing else.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from hooks.jobs.remote import forsake
from hooks.models.build import Build, BuildProject
from hooks.models.build_token import BuildToken
from hooks.models.job import Job, JobState
from hooks.models.runner import BuildLease, BuildRunner
from registry import audit
from registry.errors import Conflict, Denied, Invalid, NotFound, Unauthenticated
from registry.token_shape import looks_like_token, new_token

REGISTRATION_LIFE = timedelta(hours=1)
"""So long can a runner be registered with the token that an administrator was given."""
SILENT_AFTER = timedelta(minutes=2)
_SEEN_GRAIN = timedelta(seconds=30)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\Z")
_ENVIRONMENT = re.compile(r"[a-z][a-z0-9_-]{0,31}\Z")

# By the key of the build's row: a scan of all builds ever for each poll would cost more than the poll.
_BUILD_ID = Job.payload["build_id"].as_string()

Digest = Callable[[str], str]
"""How a secret is kept (``registry.accounts.Accounts.digest``)."""
EndToken = Callable[[Session, int], object]
"""Ends a token of a build's by its id (``RunnerWork.end_token``)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Whose builds a runner may have: of these projects, and of sources in these domains. Empty is no limit."""

    projects: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a runner says of itself. ``environments`` are the types of builds it can run, ``slots`` how many at a time."""

    host: str
    version: str
    environments: tuple[str, ...]
    slots: int

    def check(self) -> None:
        """Raise Invalid for what no runner says."""
        if not self.host.isprintable() or not self.version.isprintable():
            raise Invalid("host and version are one line each")
        if not all(_ENVIRONMENT.match(each) for each in self.environments):
            raise Invalid("environments are words in lower case")


@dataclass(frozen=True, slots=True)
class NewToken:
    """A one-use token to register a runner with: shown now, and never again."""

    secret: str = field(repr=False)
    expires_at: datetime


def add(
    session: Session, name: str, limits: Limits, *, digest: Digest, created_by: str, now: datetime
) -> tuple[BuildRunner, NewToken]:
    """Make a runner that still has to register. Raises Invalid, NotFound for a project, and Conflict."""
    if not _NAME.match(name):
        raise Invalid("a runner's name has letters, digits, '.', '-' and '_', at most 100, the first a letter or digit")
    for project in limits.projects:
        known = select(BuildProject.id).where(BuildProject.name == project, BuildProject.deleted_at.is_(None))
        if session.scalar(known) is None:
            raise NotFound("build project", project)
    if session.scalar(select(BuildRunner.id).where(BuildRunner.name == name)) is not None:
        raise Conflict(f"there is a runner called {name} already; a revoked one has to be deleted first")
    row = BuildRunner(
        id=uuid.uuid4().hex,
        name=name,
        projects=sorted(set(limits.projects)),
        domains=sorted(set(limits.domains)),
        environments=[],
        created_by=created_by,
        created_at=now,
    )
    session.add(row)
    given = _new_registration(row, digest, now)
    session.flush()
    about = {"projects": row.projects, "domains": row.domains}
    audit.record(session, now, created_by, "runner.add", f"runner/{name}", **about)
    return row, given


def renew_registration(session: Session, name: str, *, digest: Digest, by: str, now: datetime) -> NewToken:
    """Another registration token, for one that was lost, or to give the runner a new credential. Raises NotFound, Conflict."""
    row = find(session, name)
    if row.revoked_at is not None:
        raise Conflict(f"runner {name} is revoked")
    given = _new_registration(row, digest, now)
    audit.record(session, now, by, "runner.renew_registration", f"runner/{name}")
    return given


def _new_registration(row: BuildRunner, digest: Digest, now: datetime) -> NewToken:
    given = NewToken(new_token(), now + REGISTRATION_LIFE)
    row.registration_digest, row.registration_expires_at = digest(given.secret), given.expires_at
    return given


def register(
    session: Session, token: str, said: Introduction, *, digest: Digest, now: datetime
) -> tuple[BuildRunner, str]:
    """Give a runner its credential for the token, which is used up by it. Raises Invalid, and Unauthenticated.

    The statement that takes the token away is the arbiter: of two that come with one token, one gets a credential.
    """
    said.check()
    credential = new_token()
    spent = session.scalar(
        update(BuildRunner)
        .where(
            BuildRunner.registration_digest == _digest_of(token, digest),
            BuildRunner.registration_expires_at > now,
            BuildRunner.revoked_at.is_(None),
        )
        .values(
            registration_digest=None,
            registration_expires_at=None,
            credential_digest=digest(credential),
            registered_at=now,
            seen_at=now,
            **_introduced(said),
        )
        .returning(BuildRunner.id),
        execution_options={"synchronize_session": False},
    )
    if spent is None:
        raise Unauthenticated("the registration token is unknown, used or too old; ask for another one")
    row = session.get_one(BuildRunner, spent, populate_existing=True)
    # Whatever held builds under this name before is another process, with a credential that counts no more.
    forsake(session, owner=row.id, held=())
    audit.record(session, now, f"runner/{row.name}", "runner.register", f"runner/{row.name}", host=row.host)
    return row, credential


def authenticate(session: Session, credential: str, digest: Digest) -> BuildRunner:
    """The runner behind a credential. Raises Unauthenticated, and Denied for one that was revoked."""
    row = session.scalar(select(BuildRunner).where(BuildRunner.credential_digest == _digest_of(credential, digest)))
    if row is None:
        raise Unauthenticated("send the runner's own credential")
    if row.revoked_at is not None:
        raise Denied(f"runner {row.name} is revoked")
    return row


def _digest_of(secret: str, digest: Digest) -> str:
    # What cannot be one of ours is no reason to compute anything; no row has an empty digest.
    return digest(secret) if looks_like_token(secret) else ""


def is_seen_lately(row: BuildRunner, said: Introduction, now: datetime) -> bool:
    """Whether what ``see`` would write is there already, nearly."""
    is_fresh = row.seen_at is not None and now - row.seen_at < _SEEN_GRAIN
    return is_fresh and all(getattr(row, name) == value for name, value in _introduced(said).items())


def see(session: Session, runner_id: str, said: Introduction, now: datetime) -> None:
    """Note that a runner was there, and what it says of itself now."""
    session.execute(
        update(BuildRunner).where(BuildRunner.id == runner_id).values(seen_at=now, **_introduced(said)),
        execution_options={"synchronize_session": False},
    )


def count_online(session: Session, now: datetime) -> int:
    """How many runners have asked lately."""
    lately = (BuildRunner.seen_at > now - SILENT_AFTER) & BuildRunner.revoked_at.is_(None)
    return session.scalar(select(func.count()).select_from(BuildRunner).where(lately)) or 0


def _introduced(said: Introduction) -> dict[str, object]:
    return {
        "host": said.host,
        "version": said.version,
        "environments": sorted(set(said.environments)),
        "slots": said.slots,
    }


def revoke(session: Session, name: str, *, by: str, now: datetime, end_token: EndToken) -> BuildRunner:
    """End a runner: from its next request on nothing is taken from it, and what it held is given to others.

    The tokens of these builds end at once, whenever another runner takes them. Raises NotFound.
    """
    row = find(session, name)
    if row.revoked_at is None:
        row.revoked_at = now
        row.registration_digest = row.registration_expires_at = None
        held = forsake(session, owner=row.id, held=())
        _end_tokens(session, row.id, end_token)
        audit.record(session, now, by, "runner.revoke", f"runner/{name}", held=held)
    return row


def delete(session: Session, name: str, *, by: str, now: datetime, end_token: EndToken) -> None:
    """Forget a runner, which ends it as well. Raises NotFound."""
    row = find(session, name)
    held = forsake(session, owner=row.id, held=())
    _end_tokens(session, row.id, end_token)  # with the row goes what is known of its builds
    session.delete(row)
    audit.record(session, now, by, "runner.delete", f"runner/{name}", held=held)


def _end_tokens(session: Session, runner_id: str, end_token: EndToken) -> None:
    mine = (BuildLease.runner_id == runner_id) & BuildLease.ended_at.is_(None)
    # Locked: where its lease is still open no other attempt has begun, nor does one until this transaction has ended.
    reading = session.scalars(select(BuildLease.token_id).where(mine).order_by(BuildLease.id).with_for_update()).all()
    publishing = session.scalars(
        select(BuildToken.token_id).join(BuildLease, BuildLease.build_id == BuildToken.build_id).where(mine)
    ).all()
    for token_id in sorted({each for each in (*reading, *publishing) if each is not None}):
        end_token(session, token_id)


def find(session: Session, name: str) -> BuildRunner:
    """A runner by its name. Raises NotFound."""
    row = session.scalar(select(BuildRunner).where(BuildRunner.name == name))
    if row is None:
        raise NotFound("runner", name)
    return row


def state_of(row: BuildRunner, now: datetime) -> str:
    """REVOKED, PENDING (not registered yet), ONLINE or OFFLINE (it has not asked for a while)."""
    if row.revoked_at is not None:
        return "REVOKED"
    if row.registered_at is None or row.seen_at is None:
        return "PENDING"
    return "ONLINE" if now - row.seen_at < SILENT_AFTER else "OFFLINE"


@dataclass(frozen=True, slots=True)
class Held:
    """A build that a runner has now."""

    build_id: str
    project: str
    number: int


def held_now(session: Session, runner_ids: Sequence[str]) -> dict[str, list[Held]]:
    """What each of these runners runs now."""
    statement = (
        select(Job.owner, Build.id, BuildProject.name, Build.number)
        .join(Build, Build.id == _BUILD_ID)
        .join(BuildProject, BuildProject.id == Build.project_id)
        .where(Job.owner.in_(runner_ids), Job.state == JobState.RUNNING)
        .order_by(Job.id)
    )
    found: dict[str, list[Held]] = {}
    for owner, build_id, project, number in session.execute(statement):
        found.setdefault(str(owner), []).append(Held(build_id, project, number))
    return found


@dataclass(frozen=True, slots=True)
class JobsFor:
    """Which jobs of builds somebody who can run ``environments`` may have: a ``hooks.jobs.claims.Only``."""

    environments: tuple[str, ...]
    limits: Limits = field(default_factory=Limits)

    def __call__(self, job: type[Job]) -> ColumnElement[bool]:
        """The condition on ``job``."""
        limits = self.limits
        wanted = select(Build.id).where(
            Build.id == job.payload["build_id"].as_string(),
            Build.environment["type"].as_string().in_(self.environments),
        )
        if limits.projects:
            wanted = wanted.join(BuildProject, BuildProject.id == Build.project_id).where(
                BuildProject.name.in_(limits.projects)
            )
        if limits.domains:
            wanted = wanted.where(Build.source["domain"].as_string().in_(limits.domains))
        return wanted.correlate(job).exists()
