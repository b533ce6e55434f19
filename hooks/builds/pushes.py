"""Hooks of pushes: made for a project with a secret of their own, and what becomes of what arrives."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from hooks.builds import push_approvals
from hooks.builds.batches import start_project_batch
from hooks.builds.logs import Sealer
from hooks.builds.project import SourceType
from hooks.builds.projects import sources_of
from hooks.builds.push_comments import Comment
from hooks.builds.push_filters import group_faults, passes
from hooks.builds.push_payloads import Told
from hooks.builds.push_signatures import PROVIDERS, Delivery, new_secret
from hooks.builds.records import OnFinished, Options
from hooks.builds.starting import Asked, start_project
from hooks.models.build import BuildProject
from hooks.models.build_source import PushDelivery, PushHook
from registry.db import table_of
from registry.errors import Conflict, Invalid, InvalidDocument, NotFound
from registry.repos.sealed_fields import SealedField

BUILD, BUILD_BATCH = BUILD_TYPES = ("BUILD", "BUILD_BATCH")
"""CodeBuild's buildType of a webhook: what a delivery starts. The first is the default."""
MOST_HOOKS = 10
REMEMBERED = timedelta(days=30)
ANY_PUSH: Sequence[Sequence[Mapping[str, Any]]] = [[{"type": "EVENT", "pattern": "PUSH"}]]


@dataclass(frozen=True, slots=True)
class Received:
    """What became of a delivery: a build or a batch build, or in words why not. ``duplicate``: it had come before.

    ``approved_by`` is the forge's id of the account whose comment started it.
    """

    outcome: str
    build_id: str | None = None
    duplicate: bool = False
    batch_id: str | None = None
    approved_by: str | None = None


@dataclass(frozen=True, slots=True)
class HookSettings:
    """What somebody says of a hook; None leaves it as it is, or to the default of a new one.

    ``approver_roles`` and ``approver_accounts`` say whose comments let pull requests be built.
    """

    groups: Sequence[Sequence[Mapping[str, Any]]] | None = None
    build_type: str | None = None
    fork_policy: str | None = None
    approver_roles: Sequence[str] | None = None
    approver_accounts: Sequence[str] | None = None


def create_hook(
    session: Session, sealer: Sealer, project: BuildProject, *, provider: str, settings: HookSettings, now: datetime
) -> tuple[PushHook, str]:
    """Make a hook; gives it and its secret, which is told this once. Raises InvalidDocument, Conflict."""
    row = PushHook(
        id=secrets.token_hex(16),
        project_id=project.id,
        provider=provider,
        filter_groups=[[dict(each) for each in group] for group in ANY_PUSH],
        build_type=BUILD,
        fork_policy=push_approvals.FORK_POLICIES[0],
        approver_roles=push_approvals.default_roles(provider),
        approver_accounts=[],
        sealed_secret=b"",
        fingerprint="",
        is_enabled=True,
        created_at=now,
    )
    faults = [] if provider in PROVIDERS else [f"provider: one of {', '.join(PROVIDERS)}"]
    if sources_of(project)[0].type is not SourceType.GIT:
        faults.append(f"build project {project.name} has no git source that could be pushed to")
    _set(row, settings, faults)
    held = session.scalars(select(PushHook.id).where(PushHook.project_id == project.id)).all()
    if len(held) >= MOST_HOOKS:
        raise Conflict(f"build project {project.name} has {MOST_HOOKS} webhooks already; delete one first")
    secret = renew_secret(sealer, row)
    session.add(row)
    session.flush()
    return row, secret


def renew_secret(sealer: Sealer, row: PushHook) -> str:
    """Give a hook a new secret; the one before ends now."""
    secret = new_secret(row.provider)
    row.sealed_secret = sealer.seal(secret.encode(), box_context(row.id))
    row.fingerprint = hashlib.sha256(secret.encode()).hexdigest()[:8]
    return secret


def change_hook(row: PushHook, settings: HookSettings) -> None:
    """Change what is not None. Raises InvalidDocument."""
    _set(row, settings, [])


def _set(row: PushHook, settings: HookSettings, faults: list[str]) -> None:
    if settings.groups is not None:
        faults += group_faults(settings.groups)
    if settings.build_type not in {None, *BUILD_TYPES}:
        faults.append(f"buildType: one of {', '.join(BUILD_TYPES)}")
    faults += push_approvals.policy_faults(
        settings.fork_policy or row.fork_policy, settings.approver_roles or (), settings.approver_accounts or ()
    )
    if faults:
        raise InvalidDocument("webhook", faults)
    if settings.groups is not None:
        row.filter_groups = [[dict(each) for each in group] for group in settings.groups]
    row.build_type = settings.build_type or row.build_type
    row.fork_policy = settings.fork_policy or row.fork_policy
    if settings.approver_roles is not None:
        row.approver_roles = list(settings.approver_roles)
    if settings.approver_accounts is not None:
        row.approver_accounts = list(settings.approver_accounts)


def find_hook(session: Session, hook_id: str, project: BuildProject | None = None) -> PushHook:
    """A hook (of ``project``). Raises NotFound, also for one that is switched off when nobody names its project."""
    row = session.get(PushHook, hook_id[:64])
    if row is None or (project is not None and row.project_id != project.id) or not (project or row.is_enabled):
        raise NotFound("webhook", hook_id[:64])
    return row


def secret_of(sealer: Sealer, row: PushHook) -> str:
    """Raises storage.errors.Damaged or KeyUnavailable."""
    return sealer.unseal(row.sealed_secret, box_context(row.id)).decode()


def repetition(session: Session, hook_id: str, delivery: Delivery) -> Received | None:
    """What became of a delivery when it came before; None for a new one."""
    seen = select(PushDelivery).where(PushDelivery.hook_id == hook_id, PushDelivery.key.in_(delivery.keys))
    row = session.scalar(seen.limit(1))
    return Received(row.outcome, row.build_id, duplicate=True, batch_id=row.batch_id) if row is not None else None


def take(
    session: Session,
    row: PushHook,
    delivery: Delivery,
    told: Told | Comment | str,
    *,
    now: datetime,
    on_finished: OnFinished,
) -> Received:
    """Start what a new delivery asks for, and remember it, in the caller's transaction."""
    session.execute(delete(PushDelivery).where(PushDelivery.received_at < now - REMEMBERED))
    match told:
        case str():
            received = Received(told)
        case Comment():
            received = _approve(session, row, told, now, on_finished)
        case Told():
            received = _hear(session, row, told, now, on_finished)
    for key in delivery.keys:
        session.add(
            PushDelivery(
                hook_id=row.id,
                key=key,
                outcome=received.outcome,
                build_id=received.build_id,
                batch_id=received.batch_id,
                received_at=now,
            )
        )
    session.flush()
    return received


def _hear(session: Session, row: PushHook, told: Told, now: datetime, on_finished: OnFinished) -> Received:
    push_approvals.let_go(session, row, told.trigger)
    if not passes(row.filter_groups, told.happening):
        return Received("no filter group takes it")
    if push_approvals.is_held(row, told):
        return Received(push_approvals.hold(session, row, told, now))
    return _start(session, row, told.version, told.variables(), now, on_finished)


def _approve(session: Session, row: PushHook, comment: Comment, now: datetime, on_finished: OnFinished) -> Received:
    # Of the comment nothing reaches the build: what is built, and with what, was told by the pull request's delivery.
    found = push_approvals.approved(session, row, comment)
    if isinstance(found, str):
        return Received(found)
    received = _start(session, row, found.version, found.webhook, now, on_finished)
    if received.build_id is None and received.batch_id is None:
        return received
    session.delete(found)
    return replace(received, approved_by=comment.person.account_id)


def _start(
    session: Session,
    row: PushHook,
    version: str,
    webhook: Mapping[str, str],
    now: datetime,
    on_finished: OnFinished,
) -> Received:
    name = session.get_one(BuildProject, row.project_id).name
    asked, initiator = Asked(source_version=version, options=Options(webhook=webhook)), f"{row.provider}-webhook"
    try:
        with session.begin_nested():
            if row.build_type != BUILD_BATCH:
                return Received("started", start_project(session, name, asked, initiator=initiator, now=now).id)
            batch = start_project_batch(
                session, name, asked, config={}, initiator=initiator, now=now, on_finished=on_finished
            )
            return Received("started", batch_id=batch.id)
    except (Conflict, Invalid) as error:
        return Received(f"not started: {error}"[:500])


def box_context(hook_id: str) -> str:
    """What the box of a hook's secret is bound to."""
    return f"push-hook:{hook_id}:secret"


def sealed_hook_secrets() -> SealedField:
    """Where the secrets lie, for whoever rotates the server's keys."""
    table = table_of(PushHook)
    rows = select(table.c.id, table.c.sealed_secret)
    return SealedField("secrets of push hooks", table, "sealed_secret", rows, lambda row: box_context(row.id))
