"""Pull requests that wait for an approver's comment: which do, who may let them be built, and at which commit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from hooks.builds.push_comments import COMMAND, DEFAULT_ROLES, ROLES, Comment, Person
from hooks.builds.push_payloads import Told
from hooks.models.build_source import PushHook, PushWaiting

FORK_POLICIES = ("FORK_PULL_REQUESTS", "ALL_PULL_REQUESTS", "DISABLED")
"""CodeBuild's requiresCommentApproval: which pull requests wait for an approver. The first is the default."""
MAX_ACCOUNTS = 100
MOST_WAITING = 500
KEPT = timedelta(days=90)
_ACCOUNT = re.compile(r"[A-Za-z0-9_.:{}-]{1,128}\Z")
_KNOWN = [role for roles in ROLES.values() for role in roles]
_NEW_COMMITS = {"PULL_REQUEST_CREATED", "PULL_REQUEST_UPDATED"}


def policy_faults(fork_policy: str, roles: Sequence[str], accounts: Sequence[str]) -> list[str]:
    """Everything that is wrong with a ``pullRequestBuildPolicy``."""
    faults = []
    if fork_policy not in FORK_POLICIES:
        faults.append(f"requiresCommentApproval: one of {', '.join(FORK_POLICIES)}")
    unknown = sorted(set(roles) - set(_KNOWN))
    if unknown:
        faults.append(f"approverRoles: {unknown[0]!r} is not one of {', '.join(_KNOWN)}")
    if len(accounts) > MAX_ACCOUNTS or not all(_ACCOUNT.match(each) for each in accounts):
        faults.append(f"approverAccountIds: at most {MAX_ACCOUNTS} account ids of the forge")
    return faults


def default_roles(provider: str) -> list[str]:
    """The approverRoles of a hook that names none."""
    return [role for role in ROLES.get(provider, ()) if role in DEFAULT_ROLES]


def is_approver(row: PushHook, person: Person) -> bool:
    """Whether somebody may let pull requests be built: by the exact account id, or a role that the forge told."""
    return person.account_id in row.approver_accounts or person.role in row.approver_roles


def is_held(row: PushHook, told: Told) -> bool:
    """Whether a pull request has to wait. Not where an approver has opened it and brings its commits (CodeBuild's rule)."""
    if not told.trigger.startswith("pr/") or row.fork_policy == "DISABLED":
        return False
    if row.fork_policy != "ALL_PULL_REQUESTS" and not told.from_fork:
        return False
    is_own = told.author is not None and told.happening.event in _NEW_COMMITS
    return not (is_own and told.author is not None and is_approver(row, told.author))


def hold(session: Session, row: PushHook, told: Told, now: datetime) -> str:
    """Have a pull request wait at its commit, in place of what waited of it before; what that means, in words.

    Of more than ``MOST_WAITING`` of a hook the oldest are let go of: anybody may open pull requests.
    """
    let_go(session, row, told.trigger)
    session.execute(delete(PushWaiting).where(PushWaiting.received_at < now - KEPT))
    count = session.scalar(select(func.count()).select_from(PushWaiting).where(PushWaiting.hook_id == row.id)) or 0
    for old in list_waiting(session, row)[: max(0, count - MOST_WAITING + 1)]:
        session.delete(old)
    session.add(
        PushWaiting(
            hook_id=row.id,
            trigger=told.trigger,
            commit=told.commit,
            version=told.version,
            webhook=told.variables(),
            received_at=now,
        )
    )
    whose = "a fork's" if told.from_fork else "a"
    return (
        f"{whose} pull request waits for an approver's comment /{COMMAND}({told.commit}), or a start of {told.trigger}"
    )


def let_go(session: Session, row: PushHook, trigger: str) -> None:
    """Nothing of this pull request waits any more: what is told of it now counts."""
    session.execute(delete(PushWaiting).where(PushWaiting.hook_id == row.id, PushWaiting.trigger == trigger))


def list_waiting(session: Session, row: PushHook) -> Sequence[PushWaiting]:
    """What waits, the oldest first."""
    statement = select(PushWaiting).where(PushWaiting.hook_id == row.id)
    return session.scalars(statement.order_by(PushWaiting.received_at, PushWaiting.trigger)).all()


def hooks_of(session: Session, project_id: int) -> Sequence[tuple[PushHook, Sequence[PushWaiting]]]:
    """The hooks of a project, the oldest first, each with what waits."""
    rows = select(PushHook).where(PushHook.project_id == project_id).order_by(PushHook.created_at, PushHook.id)
    return [(row, list_waiting(session, row)) for row in session.scalars(rows)]


def approved(session: Session, row: PushHook, comment: Comment) -> PushWaiting | str:
    """What a comment lets be built, locked; or in words why it lets nothing."""
    if not is_approver(row, comment.person):
        return "the comment is not an approver's, as far as the forge tells"
    mine = (PushWaiting.hook_id == row.id) & (PushWaiting.trigger == comment.trigger)
    found = session.scalar(select(PushWaiting).where(mine).with_for_update())
    if found is None:
        return f"nothing of {comment.trigger} waits"
    if found.commit != comment.commit:
        return f"{comment.trigger} waits at another commit"
    return found
