"""Whom an approval asks: what its configuration says of people, and which of the answers given so far count.

The right to approve on what the approval opens the way to is asked for beside this (``hooks.pipelines.gates``): a list of
approvers narrows who may answer, it gives nobody a right.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.errors import Invalid
from registry.models import Account, AccountGroup, GroupMember

MOST_REQUIRED = 20
MOST_APPROVERS = 50
_NAME = re.compile(r"(?:(?:user|group):)?[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}\Z")


def parse_approvers(value: str) -> tuple[str, ...]:
    """The names of ``Approvers``: a JSON list, or separated by commas. Raises Invalid.

    ``user:NAME`` and ``group:NAME`` say which is meant; a bare name is the group of that name, else the user.
    """
    text = value.strip()
    try:
        found = json.loads(text) if text.startswith("[") else text.split(",")
    except ValueError as error:
        raise Invalid(f"{value[:80]!a} is no JSON list of names") from error
    if not all(isinstance(each, str) for each in found):
        raise Invalid("a list of names is needed")
    words = tuple(dict.fromkeys(each.strip() for each in found))
    wrong = next((word for word in words if not _NAME.match(word)), None)
    if wrong is not None:
        raise Invalid(f"{wrong[:80]!a} is no name of a user or a group")
    if not 1 <= len(words) <= MOST_APPROVERS:
        raise Invalid(f"name 1 to {MOST_APPROVERS} users or groups")
    return words


def check_approvers(value: str) -> str | None:
    """What is wrong with a value of ``Approvers``, or None."""
    try:
        parse_approvers(value)
    except Invalid as error:
        return error.rule
    return None


def check_required(value: str) -> str | None:
    """What is wrong with a value of ``RequiredApprovals``, or None."""
    if value.isascii() and value.isdigit() and 1 <= int(value[:9]) <= MOST_REQUIRED:
        return None
    return f"{value[:80]!a} is no number from 1 to {MOST_REQUIRED}"


def is_manual(category: str, provider: str) -> bool:
    """Whether an action asks people, and its settings are those below: a custom one of the category has its own."""
    return (category, provider) == ("Approval", "Manual")


def required_approvals(configuration: Mapping[str, str]) -> int:
    """How many have to approve."""
    return int(configuration.get("RequiredApprovals") or 1)


def named_approvers(configuration: Mapping[str, str]) -> tuple[str, ...]:
    """Those that the configuration names; empty: whoever has the right."""
    value = configuration.get("Approvers")
    return parse_approvers(value) if value else ()


def check_known(session: Session, words: Sequence[str]) -> None:
    """Raise Invalid for a name that no user and no group has: nobody could ever answer for it."""
    for word in words:
        kind, _, name = word.rpartition(":")
        is_group = kind != "user" and session.scalar(select(AccountGroup.id).where(AccountGroup.name == name))
        if is_group or (kind != "group" and session.scalar(select(Account.id).where(Account.name == name))):
            continue
        raise Invalid(f"configuration Approvers: there is no {kind or 'user or group'} {name}")


def is_named(session: Session, words: Sequence[str], account: str) -> bool:
    """Whether ``words`` name this account now: as a user, or as a member of a group."""
    if not words:
        return True
    names = [word.rpartition(":")[2] for word in words if not word.startswith("user:")]
    there = set(session.scalars(select(AccountGroup.name).where(AccountGroup.name.in_(names))))
    mine = set(
        session.scalars(
            select(AccountGroup.name)
            .join(GroupMember, GroupMember.group_id == AccountGroup.id)
            .join(Account, Account.id == GroupMember.account_id)
            .where(Account.name == account, AccountGroup.name.in_(there))
        )
    )
    for word in words:
        kind, _, name = word.rpartition(":")
        # A bare name is a user's only where no group has it: nobody becomes an approver by the name he signs up with.
        is_user = name == account and (kind == "user" or (not kind and name not in there))
        if is_user or (kind != "user" and name in mine):
            return True
    return False
