"""The lease of one attempt at a build: bound to job, fence and runner, and what the server remembers while it lasts."""

from __future__ import annotations

import hmac
import json
import uuid
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from hooks.builds.logs import Sealer
from hooks.builds.masking import Masker
from hooks.builds.runners import Digest
from hooks.errors import LeaseLost
from hooks.jobs import claims
from hooks.models.job import Job, JobState
from hooks.models.runner import BuildLease
from registry.db import table_of
from registry.errors import Denied
from registry.repos.sealed_fields import SealedField
from registry.token_finder import Mask, mask
from registry.token_shape import looks_like_token, new_token

_KEPT = timedelta(days=7)
_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Secrets:
    """What has to be masked in all that a runner sends, and what the masking of its log holds back at the moment."""

    texts: tuple[str, ...] = field(default=(), repr=False)
    held: tuple[bytes, int, bool] = field(default=(b"", 0, False), repr=False)
    held_tokens: bytes = field(default=b"", repr=False)

    def masker(self) -> Masker:
        """What masks whole texts."""
        return Masker(self.texts)

    def hider(self) -> Callable[[str], str]:
        """What takes secrets, and tokens of this server, out of whole texts."""
        masker = self.masker()
        return lambda text: mask(masker.mask(text))

    def feed(self, data: bytes, *, is_last: bool) -> tuple[bytes, set[str], Secrets]:
        """The next bytes of the log: what may be shown, the tokens of this server in it, and what to go on with."""
        masker, tokens = self.masker(), Mask()
        masker.resume(self.held)
        shown = masker.feed(data)
        if is_last:
            shown += masker.flush()
        shown = tokens.feed(self.held_tokens + shown)
        if is_last:
            shown += tokens.flush()
        return shown, tokens.found, replace(self, held=masker.state, held_tokens=tokens.held)

    def to_bytes(self) -> bytes:
        """For ``from_bytes``."""
        held, covered, follows = self.held
        told = [list(self.texts), _text(held), covered, follows, _text(self.held_tokens)]
        return json.dumps(told).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Secrets:
        """Back from ``to_bytes``."""
        texts, held, covered, follows, tokens = json.loads(data)
        return cls(tuple(texts), (b64decode(held), covered, follows), b64decode(tokens))


def _text(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def open_lease(
    session: Session,
    claimed: claims.Claimed,
    runner_id: str,
    token_id: int | None,
    secrets: Secrets,
    *,
    sealer: Sealer,
    digest: Digest,
    now: datetime,
) -> tuple[BuildLease, str]:
    """Make the row of a lease, and its token, which the runner is told once."""
    token, lease_id = new_token(), uuid.uuid4().hex
    row = BuildLease(
        id=lease_id,
        build_id=claimed.payload["build_id"],
        runner_id=runner_id,
        job_id=claimed.job_id,
        fence=claimed.fence,
        attempt=claimed.attempt,
        token_digest=digest(token),
        token_id=token_id,
        log_bytes=0,
        sealed_state=sealer.seal(secrets.to_bytes(), box_context(lease_id)),
        created_at=now,
    )
    session.add(row)
    session.flush()
    return row, token


def find_lease(session: Session, lease_id: str, token: str, runner_id: str, digest: Digest) -> BuildLease:
    """The lease, for the runner that has it and shows its token.

    Raises Denied for another's, and LeaseLost for one that nobody holds any more. That it is held is asked again in each
    transaction that writes.
    """
    row = session.get(BuildLease, lease_id)
    if row is None:
        raise LeaseLost(0, 0)
    shown = digest(token) if looks_like_token(token) else ""
    if row.runner_id != runner_id or not hmac.compare_digest(row.token_digest, shown):
        raise Denied("this lease is another's")
    return row


def require_held(session: Session, row: BuildLease) -> None:
    """Raise LeaseLost unless the lease still holds its job; it does so until the transaction ends."""
    if not claims.is_held(session, (row.job_id, row.fence)):
        raise LeaseLost(row.job_id, row.fence)


def secrets_of(sealer: Sealer, row: BuildLease) -> Secrets:
    """What is remembered. Raises storage.errors.StorageError where it does not open."""
    if row.sealed_state is None:
        return Secrets()
    return Secrets.from_bytes(sealer.unseal(row.sealed_state, box_context(row.id)))


def remember(sealer: Sealer, row: BuildLease, secrets: Secrets) -> None:
    """Remember this from now on."""
    row.sealed_state = sealer.seal(secrets.to_bytes(), box_context(row.id))


def close_leases(session: Session, build_id: str, now: datetime) -> Iterable[int]:
    """Forget what is remembered for a build's attempts; the ids of tokens that lived for them, which are to be revoked."""
    ended = []
    for row in session.scalars(
        select(BuildLease).where(BuildLease.build_id == build_id, BuildLease.ended_at.is_(None))
    ):
        if row.token_id is not None:
            ended.append(row.token_id)
        row.ended_at, row.sealed_state, row.token_id = now, None, None
    session.execute(
        delete(BuildLease).where(BuildLease.ended_at < now - _KEPT), execution_options={"synchronize_session": False}
    )
    return ended


def lost(session: Session, *, locks: bool = False) -> list[str]:
    """The builds whose runner lost them, and whose next attempt has not begun: what they were given is still out there.

    With ``locks`` none begins before the transaction ends.
    """
    holds = select(Job.id).where(
        Job.id == BuildLease.job_id, Job.fence == BuildLease.fence, Job.state == JobState.RUNNING
    )
    statement = (
        select(BuildLease.build_id)
        .where(BuildLease.ended_at.is_(None), ~holds.correlate(BuildLease).exists())
        .order_by(BuildLease.id)
        .limit(_AT_ONCE)
    )
    return list(session.scalars(statement.with_for_update(of=BuildLease) if locks else statement))


def box_context(lease_id: str) -> str:
    """What the box of a lease is bound to."""
    return f"build-lease:{lease_id}"


def sealed_leases() -> SealedField:
    """Where they lie, for whoever rotates the server's keys."""
    table = table_of(BuildLease)
    rows = select(table.c.id, table.c.sealed_state)
    return SealedField("states of builds on runners", table, "sealed_state", rows, lambda row: box_context(row.id))
