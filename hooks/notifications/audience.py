"""Who is told of events, as they stand before roles and policies at the moment of the telling (J4)."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.access import Identity
from registry.accounts import account_scope
from registry.models import Account
from registry.rulebook import Rulebooks

INTERNAL = "internal"


class Audience:
    """Identities of accounts that are told something without asking: there is no request, and no token that narrows."""

    def __init__(self, rules: Rulebooks) -> None:
        self._rules = rules

    def member(self, session: Session, account: Account, now: datetime, *, at: int | None = None) -> Identity:
        """The account by the rules as they are. ``at`` is their known revision, which spares the question for it."""
        bare = Identity(account.name, account.id, (account_scope(account),), INTERNAL)
        return self._rules.with_rules(session, bare, now, at)

    def by_name(self, session: Session, name: str, now: datetime) -> Identity | None:
        """The account of that name by the rules as they are; None when it is not there, or disabled."""
        account = session.scalar(select(Account).where(Account.name == name, Account.is_disabled.is_(False)))
        return None if account is None else self.member(session, account, now)

    def revision(self, session: Session) -> int:
        """The rules' revision of this moment, for ``member``."""
        return self._rules.current(session).revision
