"""What an administrator changes about an account after it was made: its rights, whether it counts, whether it is there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from registry import audit
from registry.access import Action, Identity, parse_actions
from registry.accounts import Accounts, find_account
from registry.errors import Conflict
from registry.models import Account
from registry.rulebook import bump


def create(
    session: Session,
    accounts: Accounts,
    name: str,
    caller: Identity,
    *,
    actions: Iterable[str],
    repositories: Sequence[str] | None,
    password: str | None,
    is_service: bool,
    now: datetime,
) -> Account:
    """Add an account. Raises Invalid for a bad name, action or password, Conflict for a taken name."""
    account = accounts.create(
        session, name, actions=actions, repositories=repositories, password=password, is_service=is_service, now=now
    )
    named = {"actions": account.actions, "repositories": account.repositories}
    audit.record(session, now, caller.name, "user.create", f"user/{account.name}", **named)
    return account


def change(
    session: Session,
    name: str,
    caller: Identity,
    *,
    actions: Iterable[str] | None,
    repositories: Sequence[str] | None,
    everywhere: bool,
    is_disabled: bool | None,
    now: datetime,
) -> Account:
    """Change an account's rights; None leaves them, ``everywhere`` takes the limit to repositories away.

    Counts on its next request, whatever it has signed in with. Raises NotFound; Invalid for an unknown action;
    Conflict for who would shut themselves out.
    """
    bump(session)
    account = find_account(session, name)
    changed: dict[str, Any] = {}
    if actions is not None:
        account.actions = changed["actions"] = sorted(word.value for word in parse_actions(actions))
    if repositories is not None or everywhere:
        account.repositories = changed["repositories"] = None if repositories is None else list(repositories)
    if is_disabled is not None:
        account.is_disabled = changed["is_disabled"] = is_disabled
    is_shut_out = account.is_disabled or Action.ADMIN.value not in account.actions or account.repositories is not None
    if account.id == caller.account_id and changed and is_shut_out:
        raise Conflict("you would shut yourself out; let another administrator do it")
    if changed:
        audit.record(session, now, caller.name, "user.change", f"user/{name}", **changed)
    session.flush()
    return account


def remove(session: Session, name: str, caller: Identity, now: datetime) -> None:
    """Delete an account with its tokens, browsers, memberships and roles. Raises NotFound; Conflict for one's own."""
    bump(session)
    account = find_account(session, name)
    if account.id == caller.account_id:
        raise Conflict("you cannot delete your own account; let another administrator do it")
    session.delete(account)
    session.flush()
    audit.record(session, now, caller.name, "user.delete", f"user/{name}")
