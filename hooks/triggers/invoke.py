"""Starting a pipeline from an action of another: ``hooks.pipelines.parts.Invoker`` over the start of executions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.models.pipeline import Pipeline
from hooks.pipelines.current import current_definition
from hooks.pipelines.engine import Start, Trigger, start_execution
from hooks.pipelines.parts import InvocationOrder, Invoker, Parts
from hooks.triggers.collect import Coordinates, collect
from hooks.triggers.match import filter_of
from registry.access import Action, Identity, check
from registry.errors import Conflict, Denied, Invalid, NotFound
from registry.names import PackageKey, PackageName

Member = Callable[[Session, str, datetime], Identity | None]
"""The account of a name by the rules of the moment; None when nobody can act under it."""


def invoker(parts: Callable[[], Parts], member: Member) -> Invoker:
    """What starts executions for actions. ``parts`` gives those that the new executions act through."""

    def start(session: Session, order: InvocationOrder, now: datetime) -> int:
        """Start it, in the right of who wrote the definition, with the very files of the execution that asks."""
        source = replace(order.source, repository=order.repository)
        _check_author(member(session, order.author, now), order)
        pipeline = session.scalar(select(Pipeline).where(Pipeline.name == order.pipeline))
        if pipeline is None:
            raise NotFound("pipeline", order.pipeline)
        _, definition = current_definition(session, pipeline.id)
        at = Coordinates(source.domain, source.repository, source.format, source.namespace, source.name, source.version)
        takes = filter_of(definition)
        if not source.is_package or takes is None:
            whose = f"pipeline {order.pipeline}" if takes is None else "this execution"
            raise Invalid(f"{whose} is about no package versions: they are what one pipeline starts another with")
        if not takes.matches(at.candidate()):
            raise Invalid(f"{at.candidate().name} {at.version} in {at.repository} is not what its source action takes")
        held = collect(session, at).version.assets
        if any(held.get(name) != sha256 for name, sha256 in source.assets.items()):
            raise Conflict(f"{at.domain}/{at.repository} has not the files that this execution is about")
        trigger = Trigger(
            "invoke",
            f"action:{order.action_execution_id}",
            f"execution:{order.execution_id}",
            depth=order.depth,
            invoked_by_action_id=order.action_execution_id,
        )
        begin = Start(source, order.publishers, order.variables)
        return start_execution(session, parts(), pipeline.id, begin, trigger=trigger, now=now).execution_id

    return start


def _check_author(author: Identity | None, order: InvocationOrder) -> None:
    if author is None:
        raise Denied(
            f"{order.author}, who wrote the pipeline's definition, is not there or is disabled; let somebody else apply it"
        )
    source = order.source
    key = PackageKey(source.format, source.namespace, PackageName(source.name))
    try:
        check(author, Action.PUBLISH, f"{source.domain}/{order.repository}", key)
    except Denied as denied:
        raise Denied(f"{author.name}, who wrote the pipeline's definition, may not: {denied}") from denied
