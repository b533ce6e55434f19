"""Requests with an idempotency key: done once, however often they come, and answered the same for a day.

A client that lost the answer cannot know whether its request was done. With a key of its own making it may send it again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from registry.db import Database
from registry.errors import Conflict, Invalid
from registry.models import IdempotencyKey
from registry.stores import DomainStores

HEADER = "Idempotency-Key"
LIFE = timedelta(days=1)
_KEY = re.compile(r"[\x21-\x7e]{1,255}\Z")
_IN_PROGRESS = "a request with this Idempotency-Key is being done, or its end is not known: look what has become of it"


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered."""

    status: int
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Begun:
    """A request that is being done for the first time: whose, and under which key."""

    account_id: int
    key: str


def digest_of(parts: Sequence[bytes]) -> str:
    """What tells one request from another: SHA-256 of its parts, each with its length, hex."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "big") + part)
    return found.hexdigest()


class Idempotency:
    """Keeps what was answered to requests with keys. Safe for many threads and processes."""

    def __init__(self, db: Database, stores: DomainStores) -> None:
        self._db = db
        self._stores = stores

    def begin(self, account_id: int, key: str, digest: str, now: datetime) -> Begun | Answer:
        """Take the key for a request, or give what was answered to it before.

        Raises Invalid for what is no key, and Conflict for one that another request has, or that is in work.
        """
        if not _KEY.match(key):
            raise Invalid(f"{HEADER}: 1 to 255 printable ASCII characters without spaces")

        def unit(session: Session) -> IdempotencyKey | None:
            session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < now - LIFE))
            found = session.scalar(
                select(IdempotencyKey).where(IdempotencyKey.account_id == account_id, IdempotencyKey.key == key)
            )
            if found is None:
                session.add(IdempotencyKey(account_id=account_id, key=key, digest=digest, created_at=now))
            return found

        try:
            known = self._db.retry(unit)
        except IntegrityError as error:
            raise Conflict(_IN_PROGRESS) from error
        if known is None:
            return Begun(account_id, key)
        if known.digest != digest:
            raise Conflict(f"this {HEADER} was used for another request")
        if known.status is None or known.sealed_body is None:
            raise Conflict(_IN_PROGRESS)
        body = self._stores.server_keyring().unseal(known.sealed_body, box_context(account_id, key))
        return Answer(known.status, known.content_type, body)

    def done(self, begun: Begun, answer: Answer) -> None:
        """Keep the answer."""
        sealed = self._stores.server_keyring().seal(answer.body, box_context(begun.account_id, begun.key))
        with self._db.write() as session:
            row = session.get(IdempotencyKey, (begun.account_id, begun.key))
            if row is not None:
                row.status, row.content_type, row.sealed_body = answer.status, answer.content_type, sealed

    def refused(self, begun: Begun) -> None:
        """Give the key back: nothing was done."""
        with self._db.write() as session:
            session.execute(
                delete(IdempotencyKey).where(
                    IdempotencyKey.account_id == begun.account_id, IdempotencyKey.key == begun.key
                )
            )


def box_context(account_id: int, key: str) -> str:
    """What the box of an answer is bound to."""
    return f"idempotency/{account_id}/{key}"
