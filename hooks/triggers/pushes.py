"""Pushes that start pipelines: hooks of a source action, and what becomes of what arrives there or was found by asking."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from hooks.builds.logs import Sealer
from hooks.builds.push_comments import Comment
from hooks.builds.push_filters import PUSH
from hooks.builds.push_payloads import Told
from hooks.builds.push_signatures import PROVIDERS, Delivery, new_secret
from hooks.models.pipeline import Pipeline
from hooks.models.pipeline_source import PipelineDelivery, PipelineHook, PipelineLocation
from hooks.pipelines.current import current_definition
from hooks.pipelines.definition import GIT_PROVIDERS, ActionDefinition, PipelineDefinition
from hooks.pipelines.engine import REFUSALS, Start, Trigger
from hooks.pipelines.locations import ask_for_definition
from hooks.pipelines.parts import Parts
from hooks.pipelines.pinning import Wanted
from hooks.pipelines.sources.connections import locate
from hooks.pipelines.sources.git_settings import settings_of
from hooks.pipelines.sources.triggers import Branches, starts
from hooks.triggers import custom_hooks
from hooks.triggers.newest import start_with_newest
from hooks.triggers.told import as_told
from registry.db import table_of
from registry.errors import Conflict, Invalid, InvalidDocument, NotFound
from registry.repos.sealed_fields import SealedField

MOST_HOOKS = 10
REMEMBERED = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Received:
    """What became of a delivery: an execution, or in words why not. ``duplicate``: it had come before."""

    outcome: str
    execution_id: int | None = None
    duplicate: bool = False


def create_hook(
    session: Session,
    sealer: Sealer,
    pipeline: str,
    *,
    action: str,
    provider: str,
    now: datetime,
    filters: Sequence[Mapping[str, str]] = (),
) -> tuple[PipelineHook, str]:
    """Make a hook of a git source; gives it and its secret, told this once. Raises NotFound, Invalid, Conflict.

    ``action`` "": the only git source that there is, or where none is, what tells of new definitions.
    """
    row, definition = find_pipeline(session, pipeline)
    if provider in custom_hooks.PROVIDERS:
        if faults := custom_hooks.filter_faults(filters):
            raise InvalidDocument("webhook", faults)
        found = [each.name for each in definition.sources if action in {"", each.name}]
        if not found:
            raise NotFound("source action", action)
        return _make(session, sealer, row, (found[0], provider), filters, now)
    if filters:
        raise Invalid("filters are for webhooks of the providers hmac and token; pushes have the pipeline's triggers")
    is_of_definition = not action and session.get(PipelineLocation, pipeline) is not None and not _has_git(definition)
    source = "" if is_of_definition else git_source(definition, action).name
    if provider not in PROVIDERS:
        raise Invalid(f"provider: one of {', '.join((*PROVIDERS, *custom_hooks.PROVIDERS))}")
    return _make(session, sealer, row, (source, provider), (), now)


def _make(
    session: Session,
    sealer: Sealer,
    row: Pipeline,
    what: tuple[str, str],
    filters: Sequence[Mapping[str, str]],
    now: datetime,
) -> tuple[PipelineHook, str]:
    source, provider = what
    held = session.scalars(select(PipelineHook.id).where(PipelineHook.pipeline_id == row.id)).all()
    if len(held) >= MOST_HOOKS:
        raise Conflict(f"pipeline {row.name} has {MOST_HOOKS} webhooks already; delete one first")
    secret = new_secret(provider)
    hook_id = secrets.token_hex(16)
    hook = PipelineHook(
        id=hook_id,
        pipeline_id=row.id,
        action=source,
        provider=provider,
        filters=[dict(each) for each in filters],
        sealed_secret=sealer.seal(secret.encode(), box_context(hook_id)),
        fingerprint=hashlib.sha256(secret.encode()).hexdigest()[:8],
        created_at=now,
    )
    session.add(hook)
    session.flush()
    return hook, secret


def find_pipeline(session: Session, name: str) -> tuple[Pipeline, PipelineDefinition]:
    """A pipeline with its definition in force. Raises NotFound."""
    row = session.scalar(select(Pipeline).where(Pipeline.name == name))
    if row is None:
        raise NotFound("pipeline", name)
    return row, current_definition(session, row.id)[1]


def git_source(definition: PipelineDefinition, action: str = "") -> ActionDefinition:
    """The git source of that name, or the only one. Raises NotFound, Invalid."""
    found = [each for each in definition.sources if each.type.provider in GIT_PROVIDERS and action in {"", each.name}]
    if not found:
        raise NotFound("git source", action or f"of pipeline {definition.name}")
    if len(found) > 1:
        raise Invalid(f"pipeline {definition.name} has several git sources; say which")
    return found[0]


def _has_git(definition: PipelineDefinition) -> bool:
    return any(each.type.provider in GIT_PROVIDERS for each in definition.sources)


def find_hook(session: Session, hook_id: str, pipeline: str | None = None) -> PipelineHook:
    """A hook (of ``pipeline``). Raises NotFound."""
    row = session.get(PipelineHook, hook_id[:64])
    owner = session.get(Pipeline, row.pipeline_id) if row is not None else None
    if row is None or owner is None or pipeline not in {None, owner.name}:
        raise NotFound("webhook", hook_id[:64])
    return row


def secret_of(sealer: Sealer, row: PipelineHook) -> str:
    """Raises storage.errors.Damaged or KeyUnavailable."""
    return sealer.unseal(row.sealed_secret, box_context(row.id)).decode()


def repetition(session: Session, hook_id: str, delivery: Delivery) -> Received | None:
    """What became of a delivery when it came before; None for a new one."""
    seen = select(PipelineDelivery).where(PipelineDelivery.hook_id == hook_id, PipelineDelivery.key.in_(delivery.keys))
    row = session.scalar(seen.limit(1))
    return Received(row.outcome, row.execution_id, duplicate=True) if row is not None else None


def take(
    session: Session,
    parts: Parts,
    row: PipelineHook,
    delivery: Delivery,
    told: Told | Comment | str,
    now: datetime,
) -> Received:
    """Start what a new delivery asks for, and remember it, in the caller's transaction."""
    session.execute(delete(PipelineDelivery).where(PipelineDelivery.received_at < now - REMEMBERED))
    match told:
        case str():
            received = Received(told)
        case Comment():
            received = Received("comments start no pipeline")
        case Told():
            received = hear(session, parts, row.pipeline_id, row.action, told, actor=f"{row.provider}-webhook", now=now)
    for key in delivery.keys:
        session.add(
            PipelineDelivery(
                hook_id=row.id, key=key, outcome=received.outcome, execution_id=received.execution_id, received_at=now
            )
        )
    session.flush()
    return received


def take_custom(
    session: Session, parts: Parts, row: PipelineHook, delivery: Delivery, payload: object, now: datetime
) -> Received:
    """Start the pipeline with what is newest, if the hook's filters let a new delivery through, and remember it."""
    session.execute(delete(PipelineDelivery).where(PipelineDelivery.received_at < now - REMEMBERED))
    received = _start_custom(session, parts, row, delivery, payload, now)
    session.add(
        PipelineDelivery(
            hook_id=row.id,
            key=delivery.keys[0],
            outcome=received.outcome,
            execution_id=received.execution_id,
            received_at=now,
        )
    )
    session.flush()
    return received


def _start_custom(
    session: Session, parts: Parts, row: PipelineHook, delivery: Delivery, payload: object, now: datetime
) -> Received:
    _, definition = current_definition(session, row.pipeline_id)
    source = next((each for each in definition.sources if each.name == row.action), None)
    if source is None:
        return Received(f"the pipeline has no source {row.action} any more")
    if not custom_hooks.passes(row.filters, payload, source.configuration):
        return Received("not all filters hold")
    told = f"{row.id}\n{delivery.keys[0]}"
    trigger = Trigger("webhook", "webhook:" + hashlib.sha256(told.encode()).hexdigest(), f"{row.provider}-webhook")
    try:
        with session.begin_nested():
            started = start_with_newest(session, parts, row.pipeline_id, definition, Start(), trigger=trigger, now=now)
    except REFUSALS as refusal:
        return Received(f"not started: {refusal}"[:500])
    return Received("started", started.execution_id)


def hear(
    session: Session,
    parts: Parts,
    pipeline_id: int,
    action: str,
    told: Told,
    *,
    actor: str,
    now: datetime,
    is_applied: bool = False,
) -> Received:
    """Start a pipeline for what a forge tells of one of its sources, if its triggers take it; the same push once.

    A push to the branch that the definition comes from has it applied first, unless that ``is_applied``.
    """
    _, definition = current_definition(session, pipeline_id)
    if not is_applied and brings_definition(session, definition, action, told):
        ask_for_definition(session, definition.name, as_told(told, action, actor))
        return Received("its definition is applied first")
    source = next((each for each in definition.sources if each.name == action), None)
    if source is None or source.type.provider not in GIT_PROVIDERS:
        return Received(f"the pipeline has no git source {action} any more")
    settings = settings_of(source.configuration)
    own = [each for each in definition.triggers if each.action == action]
    if told.from_fork:
        # Whoever may open one has no right here: their code would run with what the pipeline's builds are given.
        return Received("pull requests from forks start no pipeline")
    if not starts(own, Branches(settings.branch, settings.detects), told.happening):
        return Received("no trigger takes it")
    wanted = Wanted(told.version, told.trigger, told.commit)
    trigger = Trigger("push", identity_of(action, told), actor)
    try:
        with session.begin_nested():
            start = Start(revisions={action: wanted})
            started = start_with_newest(session, parts, pipeline_id, definition, start, trigger=trigger, now=now)
    except REFUSALS as refusal:
        return Received(f"not started: {refusal}"[:500])
    outcome = "started" if started.is_new else "it was started before"
    return Received(outcome, started.execution_id)


def brings_definition(session: Session, definition: PipelineDefinition, action: str, told: Told) -> bool:
    """Whether it is a push to the very branch that the pipeline's definition comes from. No other can change it."""
    row = session.get(PipelineLocation, definition.name)
    if row is None or told.happening.event != PUSH or told.from_fork:
        return False
    settings = settings_of(row.source)
    if told.happening.head_ref != f"refs/heads/{settings.branch}":
        return False
    source = next((each for each in definition.sources if each.name == action), None)
    if source is None or source.type.provider not in GIT_PROVIDERS:
        return not action
    try:
        return locate(session, settings_of(source.configuration)).url == locate(session, settings).url
    except (NotFound, Invalid):
        return False


def identity_of(action: str, told: Told) -> str:
    """The same for the same push, whether it was told or found by asking."""
    happening, before = told.happening, told.previous_commit.strip("0") and told.previous_commit
    what = (action, happening.event if happening.event != PUSH else "", told.trigger, before, told.commit)
    return "push:" + hashlib.sha256("\n".join(what).encode()).hexdigest()


def box_context(hook_id: str) -> str:
    """What the box of a hook's secret is bound to."""
    return f"pipeline-hook:{hook_id}:secret"


def sealed_pipeline_hooks() -> SealedField:
    """Where the secrets lie, for whoever rotates the server's keys."""
    table = table_of(PipelineHook)
    rows = select(table.c.id, table.c.sealed_secret)
    return SealedField("secrets of pipelines' hooks", table, "sealed_secret", rows, lambda row: box_context(row.id))
