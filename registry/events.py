"""Events: what happened in the registry. Recorded in the transaction in which it happened; this module is their reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy.orm import Session

from registry.models.event import Event


@dataclass(frozen=True, slots=True)
class AssetPublished:
    """A file was published (or promoted) and is visible from now on. One event per file."""

    kind: ClassVar[str] = "asset.published"
    domain: str
    repository: str
    format: str
    namespace: str
    name: str
    version: str
    filename: str
    sha256: str
    published_by: str
    promoted_from: str | None = None


@dataclass(frozen=True, slots=True)
class VersionYanked:
    """A version was yanked (``reason`` set) or put back (``reason`` null)."""

    kind: ClassVar[str] = "version.yanked"
    domain: str
    repository: str
    format: str
    namespace: str
    name: str
    version: str
    reason: str | None
    by: str


@dataclass(frozen=True, slots=True)
class VersionDeleted:
    """A version was taken out of a repository with all its files."""

    kind: ClassVar[str] = "version.deleted"
    domain: str
    repository: str
    format: str
    namespace: str
    name: str
    version: str
    by: str


@dataclass(frozen=True, slots=True)
class TokenLeaked:
    """A live token was found where it must not be (``place``, in words), and was revoked with all made with it.

    ``by`` came upon it: ``scan`` for what was sent here, ``build`` for a build's log, ``report`` for a scanner outside.
    """

    kind: ClassVar[str] = "token.leaked"
    user: str
    token_id: int
    token_name: str
    last_four: str
    token_kind: str
    place: str
    by: str


AnyEvent = AssetPublished | VersionYanked | VersionDeleted | TokenLeaked
KINDS: Mapping[str, type[AnyEvent]] = {
    cls.kind: cls for cls in (AssetPublished, VersionYanked, VersionDeleted, TokenLeaked)
}


def record(session: Session, event: AnyEvent, now: datetime) -> None:
    """Add ``event`` to the outbox, in the caller's transaction."""
    session.add(Event(kind=event.kind, payload=asdict(event), occurred_at=now))


def parse(kind: str, payload: Mapping[str, Any]) -> AnyEvent:
    """The event of a stored row. Raises KeyError for an unknown kind, TypeError for another shape."""
    return KINDS[kind](**payload)
