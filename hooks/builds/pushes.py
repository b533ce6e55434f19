"""Hooks of pushes: made for a project with a secret of their own, and what becomes of what arrives."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from hooks.builds.logs import Sealer
from hooks.builds.project import SourceType
from hooks.builds.projects import sources_of
from hooks.builds.push_filters import group_faults, passes
from hooks.builds.push_payloads import Told
from hooks.builds.push_signatures import PROVIDERS, Delivery, new_secret
from hooks.builds.records import Options
from hooks.builds.starting import Asked, start_project
from hooks.models.build import BuildProject
from hooks.models.build_source import PushDelivery, PushHook
from registry.db import table_of
from registry.errors import Conflict, Invalid, InvalidDocument, NotFound
from registry.repos.sealed_fields import SealedField

FORK_POLICIES = ("FORK_PULL_REQUESTS", "ALL_PULL_REQUESTS", "DISABLED")
"""CodeBuild's requiresCommentApproval: which pull requests somebody has to start by hand. The first is the default."""
MOST_HOOKS = 10
REMEMBERED = timedelta(days=30)
ANY_PUSH: Sequence[Sequence[Mapping[str, Any]]] = [[{"type": "EVENT", "pattern": "PUSH"}]]


@dataclass(frozen=True, slots=True)
class Received:
    """What became of a delivery: a build, or in words why not. ``duplicate``: it had come before."""

    outcome: str
    build_id: str | None = None
    duplicate: bool = False


def create_hook(
    session: Session,
    sealer: Sealer,
    project: BuildProject,
    *,
    provider: str,
    groups: Sequence[Sequence[Mapping[str, Any]]],
    fork_policy: str,
    now: datetime,
) -> tuple[PushHook, str]:
    """Make a hook; gives it and its secret, which is told this once. Raises InvalidDocument, Conflict."""
    faults = _faults(provider, groups, fork_policy)
    if sources_of(project)[0].type is not SourceType.GIT:
        faults.append(f"build project {project.name} has no git source that could be pushed to")
    if faults:
        raise InvalidDocument("webhook", faults)
    held = session.scalars(select(PushHook.id).where(PushHook.project_id == project.id)).all()
    if len(held) >= MOST_HOOKS:
        raise Conflict(f"build project {project.name} has {MOST_HOOKS} webhooks already; delete one first")
    row = PushHook(
        id=secrets.token_hex(16),
        project_id=project.id,
        provider=provider,
        filter_groups=[[dict(each) for each in group] for group in groups],
        fork_policy=fork_policy,
        sealed_secret=b"",
        fingerprint="",
        is_enabled=True,
        created_at=now,
    )
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


def change_hook(row: PushHook, groups: Sequence[Sequence[Mapping[str, Any]]] | None, fork_policy: str | None) -> None:
    """Change what is not None. Raises InvalidDocument."""
    faults = _faults(row.provider, groups if groups is not None else row.filter_groups, fork_policy or row.fork_policy)
    if faults:
        raise InvalidDocument("webhook", faults)
    if groups is not None:
        row.filter_groups = [[dict(each) for each in group] for group in groups]
    row.fork_policy = fork_policy or row.fork_policy


def _faults(provider: str, groups: Sequence[Sequence[Mapping[str, Any]]], fork_policy: str) -> list[str]:
    faults = group_faults(groups)
    if provider not in PROVIDERS:
        faults.append(f"provider: one of {', '.join(PROVIDERS)}")
    if fork_policy not in FORK_POLICIES:
        faults.append(f"requiresCommentApproval: one of {', '.join(FORK_POLICIES)}")
    return faults


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
    return Received(row.outcome, row.build_id, duplicate=True) if row is not None else None


def take(session: Session, row: PushHook, delivery: Delivery, told: Told | str, now: datetime) -> Received:
    """Start what a new delivery asks for, and remember it, in the caller's transaction."""
    session.execute(delete(PushDelivery).where(PushDelivery.received_at < now - REMEMBERED))
    received = Received(told) if isinstance(told, str) else _start(session, row, told, now)
    for key in delivery.keys:
        session.add(
            PushDelivery(hook_id=row.id, key=key, outcome=received.outcome, build_id=received.build_id, received_at=now)
        )
    session.flush()
    return received


def _start(session: Session, row: PushHook, told: Told, now: datetime) -> Received:
    if not passes(row.filter_groups, told.happening):
        return Received("no filter group takes it")
    is_pull = told.happening.event.startswith("PULL_REQUEST_")
    if is_pull and (row.fork_policy == "ALL_PULL_REQUESTS" or (row.fork_policy != "DISABLED" and told.from_fork)):
        whose = "a fork's" if told.from_fork else "a"
        return Received(f"{whose} pull request is started by hand: source version {told.trigger}")
    project = session.get_one(BuildProject, row.project_id)
    asked = Asked(source_version=told.version, options=Options(webhook=told.variables()))
    try:
        with session.begin_nested():
            build = start_project(session, project.name, asked, initiator=f"{row.provider}-webhook", now=now)
    except (Conflict, Invalid) as error:
        return Received(f"not started: {error}"[:500])
    return Received("started", build.id)


def box_context(hook_id: str) -> str:
    """What the box of a hook's secret is bound to."""
    return f"push-hook:{hook_id}:secret"


def sealed_hook_secrets() -> SealedField:
    """Where the secrets lie, for whoever rotates the server's keys."""
    table = table_of(PushHook)
    rows = select(table.c.id, table.c.sealed_secret)
    return SealedField("secrets of push hooks", table, "sealed_secret", rows, lambda row: box_context(row.id))
