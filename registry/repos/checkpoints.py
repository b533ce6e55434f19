"""Checkpoints of the audit log: the server signs what the log's head is, and sends that where it cannot take it back.

A chain alone does not stop somebody who writes the whole table anew, or who takes entries off its end. Against a
checkpoint that lies elsewhere both show.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from registry.audit_chain import Vouched, canonical, moment
from registry.clock import Clock
from registry.db import Database
from registry.errors import Invalid
from registry.models import AuditCheckpoint, AuditEntry
from registry.repos import shelf
from registry.repos.signing import AUDIT_CHECKPOINT, Signer

log = logging.getLogger("entrepot.audit")

MARK = "audit checkpoint "
"""What stands before a checkpoint in a line of the log output."""

_SIGNED_AS = b"entrepot audit checkpoint v1\n"
_PUSHED_AT_ONCE = 100

Sink = Callable[[str], None]
"""Takes one checkpoint (a line of JSON) out of here. Raises when that did not work; it is then tried again."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """At ``at`` entry ``seq`` was the head of the log, with this hash; ``signature`` is base64 of Ed25519's 64 bytes."""

    seq: int
    hash: str
    at: datetime
    key_id: str
    signature: str

    @property
    def line(self) -> str:
        """The checkpoint as one line of canonical JSON."""
        return canonical(
            {
                "seq": self.seq,
                "hash": self.hash,
                "at": moment(self.at),
                "key": self.key_id,
                "signature": self.signature,
            }
        ).decode("ascii")

    @property
    def vouched(self) -> Vouched:
        """What it says of the log."""
        return Vouched(self.seq, self.hash, self.at)


@dataclass(frozen=True, slots=True)
class Made:
    """A checkpoint as people look at it; ``pushed_at`` is null until it was sent to where the settings say."""

    seq: int
    at: datetime
    hash: str
    key_id: str
    pushed_at: datetime | None


@dataclass(frozen=True)
class Checkpointer:
    """Makes checkpoints and pushes them out. Any number of workers may: a head is signed once."""

    db: Database
    signer: Signer
    clock: Clock
    interval: timedelta = timedelta(minutes=10)
    sinks: Sequence[Sink] = field(default=())

    def round(self) -> None:
        """What the worker does every few seconds: a checkpoint when one is due, and what is not out yet once more."""
        if self._is_due():
            self.make()
        self.push()

    def make(self) -> Checkpoint | None:
        """Sign the head of the log; None when the newest checkpoint says it already. Raises KeyUnavailable."""
        now = self.clock()
        with self.db.read() as session:
            head = session.execute(
                select(AuditEntry.seq, AuditEntry.hash).order_by(AuditEntry.seq.desc()).limit(1)
            ).first()
            if head is None or head.seq <= _newest(session)[0]:
                return None
        signature = self.signer.sign(AUDIT_CHECKPOINT, _signed(head.seq, head.hash, now))
        made = Checkpoint(head.seq, head.hash, now, signature.key_id, signature.base64)

        def unit(session: Session) -> None:
            if session.get(AuditCheckpoint, made.seq) is None:
                session.add(
                    AuditCheckpoint(seq=made.seq, at=now, hash=made.hash, key_id=made.key_id, signature=made.signature)
                )

        shelf.settle(self.db, unit)
        return made

    def push(self) -> int:
        """Send what is not out yet to every sink, oldest first; returns how many went out.

        A sink that fails is logged, and everything from that checkpoint on is tried again in the next round: a sink
        may see a checkpoint twice, and never misses one.
        """
        with self.db.read() as session:
            waiting = session.scalars(
                select(AuditCheckpoint)
                .where(AuditCheckpoint.pushed_at.is_(None))
                .order_by(AuditCheckpoint.seq)
                .limit(_PUSHED_AT_ONCE)
            ).all()
        for count, row in enumerate(waiting):
            checkpoint = of_row(row)
            for sink in self.sinks:
                try:
                    sink(checkpoint.line)
                except Exception:  # a sink of any kind may fail in any way, and the others still want theirs
                    log.exception("a checkpoint of the audit log could not be pushed and is tried again")
                    return count
            with self.db.write() as session:
                session.execute(
                    update(AuditCheckpoint).where(AuditCheckpoint.seq == row.seq).values(pushed_at=self.clock())
                )
        return len(waiting)

    def public_key(self) -> bytes:
        """The key that checkpoints are verified with, SubjectPublicKeyInfo DER."""
        return self.signer.public_key(AUDIT_CHECKPOINT)

    def _is_due(self) -> bool:
        with self.db.read() as session:
            _, last = _newest(session)
        now = self.clock()
        # A clock that was set back must not keep checkpoints away until it has caught up.
        return last is None or not last <= now < last + self.interval


def kept(session: Session) -> list[Checkpoint]:
    """The checkpoints that this server made itself, oldest first."""
    return [of_row(row) for row in session.scalars(select(AuditCheckpoint).order_by(AuditCheckpoint.seq))]


def newest(session: Session) -> Made | None:
    """The newest checkpoint that this server made, and when it left the server; None before the first."""
    row = session.scalar(select(AuditCheckpoint).order_by(AuditCheckpoint.seq.desc()).limit(1))
    return Made(row.seq, row.at, row.hash, row.key_id, row.pushed_at) if row is not None else None


def of_row(row: AuditCheckpoint) -> Checkpoint:
    """A row as a value."""
    return Checkpoint(row.seq, row.hash, row.at, row.key_id, row.signature)


def _newest(session: Session) -> tuple[int, datetime | None]:
    row = session.execute(
        select(AuditCheckpoint.seq, AuditCheckpoint.at).order_by(AuditCheckpoint.seq.desc()).limit(1)
    ).first()
    return (row.seq, row.at) if row is not None else (0, None)


def _signed(seq: int, hash_: str, at: datetime) -> bytes:
    return _SIGNED_AS + canonical({"seq": seq, "hash": hash_, "at": moment(at)})


def load_public_key(pem: bytes) -> Ed25519PublicKey:
    """A public key from its PEM text. Raises Invalid."""
    try:
        key = load_pem_public_key(pem)
    except ValueError as error:
        raise Invalid("the public key is no PEM text") from error
    if not isinstance(key, Ed25519PublicKey):
        raise Invalid("the public key is no Ed25519 key")
    return key


def is_signed_by(checkpoint: Checkpoint, key: Ed25519PublicKey) -> bool:
    """Whether the holder of ``key``'s private half made this checkpoint."""
    try:
        signature = base64.b64decode(checkpoint.signature, validate=True)
        key.verify(signature, _signed(checkpoint.seq, checkpoint.hash, checkpoint.at))
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def read_lines(lines: Iterable[str]) -> list[Checkpoint]:
    """The checkpoints in a file: one a line, or lines of the log output among others. Raises Invalid for a broken one."""
    found = []
    for number, text in enumerate(lines, start=1):
        document = _document_in(text.strip())
        if document is None:
            continue
        try:
            found.append(_parse(document))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise Invalid(f"line {number} holds a checkpoint that cannot be read") from error
    return found


def _document_in(text: str) -> str | None:
    if text.startswith("{"):
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):
            return text
        message = record.get("message") if isinstance(record, dict) else None
        # The log output as JSON lines has it as one record's message.
        return text if message is None else _document_in(str(message)) if MARK in str(message) else None
    _, mark, rest = text.partition(MARK)
    return rest if mark else None


def _parse(text: str) -> Checkpoint:
    document = json.loads(text)
    checkpoint = Checkpoint(
        seq=int(document["seq"]),
        hash=str(document["hash"]),
        at=datetime.fromisoformat(document["at"]),
        key_id=str(document["key"]),
        signature=str(document["signature"]),
    )
    if checkpoint.at.tzinfo is None:
        raise ValueError("a moment without a time zone")
    return checkpoint
