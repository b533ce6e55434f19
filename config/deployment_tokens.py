"""What machines read a repository with while they install a package from it."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from hooks.builds.access import ACCOUNT
from registry.access import Action
from registry.accounts import Accounts, find_account

LIFE = timedelta(minutes=30)


def reading_token(accounts: Accounts, session: Session, name: str, repository: str, now: datetime) -> str:
    """A token that reads one repository (``domain/repository``) for half an hour, of the account that builds have."""
    account = find_account(session, ACCOUNT)
    issued = accounts.issue_token(
        session,
        account.id,
        name,
        actions=[Action.READ],
        repositories=[repository],
        life=LIFE,
        now=now,
        kind="build",
        created_by=ACCOUNT,
    )
    return issued.secret
