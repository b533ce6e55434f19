"""Tokens made with tokens: one that ends takes all with it that were made with it, on their next request.

All writes of a line (a first token and everything derived from it) take turns on the first one's row. Without that, a
token made at the very moment at which its maker is revoked would stay: the statement that ends the line would not see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from registry.errors import Unauthenticated
from registry.models import Token

LEAKED = "leaked"


def join(session: Session, parent_id: int, now: datetime) -> tuple[int, datetime]:
    """Begin to make a token with another: the line's first, and when the maker ends. Raises Unauthenticated if it has."""
    root_id = session.scalar(select(func.coalesce(Token.root_id, Token.id)).where(Token.id == parent_id))
    _lock(session, [root_id] if root_id is not None else [])
    row = session.execute(select(Token.expires_at, Token.revoked_at).where(Token.id == parent_id)).first()
    if root_id is None or row is None or row.revoked_at is not None or row.expires_at <= now:
        raise Unauthenticated("the token is unknown, expired or revoked")
    return root_id, row.expires_at


def end(session: Session, token_ids: Sequence[int], now: datetime, reason: str = "") -> list[int]:
    """Revoke tokens and all that were made with them; returns the ids of those that counted until now."""
    if not token_ids:
        return []
    roots = session.scalars(
        select(func.coalesce(Token.root_id, Token.id)).where(Token.id.in_(token_ids)).distinct()
    ).all()
    _lock(session, roots)
    line = select(Token.id).where(Token.id.in_(token_ids)).cte("line", recursive=True)
    line = line.union(select(Token.id).join(line, Token.parent_id == line.c.id))
    ended = session.scalars(select(Token.id).where(Token.id.in_(select(line.c.id)), Token.revoked_at.is_(None))).all()
    session.execute(
        update(Token)
        .where(Token.id.in_(select(line.c.id)), Token.revoked_at.is_(None))
        .values(revoked_at=now, end_reason=reason)
        .execution_options(synchronize_session=False)
    )
    return list(ended)


def live_ids(session: Session, now: datetime, *, account_id: int | None = None, kind: str | None = None) -> list[int]:
    """The tokens that count, of one account or of all, of one kind or of all."""
    statement = select(Token.id).where(Token.revoked_at.is_(None), Token.expires_at > now)
    if account_id is not None:
        statement = statement.where(Token.account_id == account_id)
    if kind is not None:
        statement = statement.where(Token.kind == kind)
    return list(session.scalars(statement.order_by(Token.id)))


def _lock(session: Session, ids: Sequence[int]) -> None:
    # On SQLite writers take turns anyway; in the order of ids, so that two do not wait for each other.
    session.execute(select(Token.id).where(Token.id.in_(ids)).order_by(Token.id).with_for_update()).all()
