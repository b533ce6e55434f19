"""Documents of external connections as rows: what was fetched is read and written here, and nowhere decided upon."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from isal import isal_zlib
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.orm import Session

from registry.db import table_of
from registry.models import ExternalConnection, Repository, UpstreamPage
from registry.names import PackageKey
from registry.repos import shelf
from registry.repos.topology import Connection
from registry.upstream import freshness
from registry.upstream.answers import Found

_CONTENT_TYPE_CHARACTERS = 200
_ETAG_CHARACTERS = 500
_LAST_MODIFIED_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class KeptPage:
    """The last good answer for a document, ``packed`` by zlib; with ``is_missing`` the sure knowledge of its absence."""

    packed: bytes
    content_type: str
    final_url: str
    etag: str | None
    last_modified: str | None
    is_missing: bool
    fetched_at: datetime
    fresh_until: datetime

    @property
    def body(self) -> bytes:
        """The document; unpacked each time, since most askers want to know only whether it is fresh."""
        return isal_zlib.decompress(self.packed) if self.packed else b""


def packed(body: bytes) -> bytes:
    """A document as ``KeptPage`` has it."""
    return isal_zlib.compress(body, 1)


def answered(answer: Found, now: datetime, until: datetime) -> KeptPage:
    """What an upstream has just answered, fresh ``until`` then."""
    return KeptPage(
        packed(answer.body),
        answer.content_type,
        answer.final_url,
        answer.etag,
        answer.last_modified,
        is_missing=False,
        fetched_at=now,
        fresh_until=until,
    )


def missing(now: datetime) -> KeptPage:
    """The knowledge, for a minute, that an upstream has no such document."""
    until = freshness.missing_until(now)
    return KeptPage(b"", "", "", None, None, is_missing=True, fetched_at=now, fresh_until=until)


_PAGE, _CONNECTION, _REPOSITORY = (table_of(each) for each in (UpstreamPage, ExternalConnection, Repository))
_IS_PAGE = (_PAGE.c.connection_id == bindparam("of_connection"), _PAGE.c.path == bindparam("of_path"))
_READ = select(
    _PAGE.c.body,
    _PAGE.c.content_type,
    _PAGE.c.final_url,
    _PAGE.c.etag,
    _PAGE.c.last_modified,
    _PAGE.c.is_missing,
    _PAGE.c.fetched_at,
    _PAGE.c.fresh_until,
).where(*_IS_PAGE)
_VALUES = ("body", "content_type", "final_url", "etag", "last_modified", "is_missing", "fetched_at", "fresh_until")
_REPLACE = update(_PAGE).where(*_IS_PAGE).values({name: bindparam(name) for name in _VALUES})
_ADD = insert(_PAGE)
_EXTEND = update(_PAGE).where(*_IS_PAGE).values(fresh_until=bindparam("until"))
_OWNER = (
    select(_CONNECTION.c.url, _REPOSITORY.c.domain_id)
    .select_from(_CONNECTION)
    .join(_REPOSITORY, _REPOSITORY.c.id == _CONNECTION.c.repository_id)
    .where(_CONNECTION.c.id == bindparam("connection"))
)


def read(session: Session, connection_id: int, path: str) -> KeptPage | None:
    """What is kept of a document, however old."""
    row = session.execute(_READ, _page(connection_id, path)).first()
    return KeptPage(*row) if row is not None else None


def write(session: Session, connection: Connection, path: str, page: KeptPage, *, changed: PackageKey | None) -> bool:
    """Keep a document in place of what was kept of it; with ``changed`` it counts as a change under that name.

    False, and nothing is kept, where the connection was removed or pointed elsewhere while it was asked: the answer is
    not that of what is there now.
    """
    owner = session.execute(_OWNER, {"connection": connection.id}).first()
    if owner is None or owner.url != connection.url:
        return False
    values = {
        "body": page.packed,
        "content_type": page.content_type[:_CONTENT_TYPE_CHARACTERS],
        "final_url": page.final_url,
        "etag": page.etag[:_ETAG_CHARACTERS] if page.etag else None,
        "last_modified": page.last_modified[:_LAST_MODIFIED_CHARACTERS] if page.last_modified else None,
        "is_missing": page.is_missing,
        "fetched_at": page.fetched_at,
        "fresh_until": page.fresh_until,
    }
    here = session.connection()
    if here.execute(_REPLACE, {**_page(connection.id, path), **values}).rowcount == 0:
        here.execute(_ADD, {"connection_id": connection.id, "path": path, **values})
    if changed is not None:
        shelf.bump(session, owner.domain_id, *changed)
    return True


def extend(session: Session, connection_id: int, path: str, until: datetime) -> None:
    """Say until when a document that was asked for again, and has not changed, is fresh."""
    session.connection().execute(_EXTEND, {**_page(connection_id, path), "until": until})


def _page(connection_id: int, path: str) -> dict[str, object]:
    return {"of_connection": connection_id, "of_path": path}
