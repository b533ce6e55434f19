"""Starting executions: by the job that a publish leaves behind, and by hand."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.jobs.context import Handler, JobContext
from hooks.models.job import JobState
from hooks.models.pipeline import Pipeline
from hooks.pipelines.current import current_definition
from hooks.pipelines.engine import REFUSALS, Start, Started, Trigger, start_execution
from hooks.pipelines.parts import Parts
from hooks.pipelines.run import SYSTEM
from hooks.triggers.collect import Collected, Coordinates, collect
from hooks.triggers.match import filter_of
from hooks.triggers.newest import start_with_newest
from hooks.triggers.overrides import check_kinds, overrides
from registry import audit
from registry.errors import Invalid, NotFound

JOB_KIND = "start_execution"


def handlers(parts: Parts) -> Mapping[str, Handler]:
    """Job kind → handler."""
    return {JOB_KIND: lambda context: run_start(parts, context)}


def run_start(parts: Parts, context: JobContext) -> None:
    """Start a pipeline for a version, with the files it has when the job runs.

    Running twice is harmless: the start, its audit entry and the job's end are one transaction, and the same set of
    files never starts a second execution. A refusal is recorded in the audit log and ends the job.
    """
    payload = dict(context.payload)
    pipeline_id = int(payload.pop("pipeline_id"))
    at = Coordinates(**payload)
    context.finish(JobState.SUCCEEDED, lambda session: _start_once(session, parts, pipeline_id, at))


def start_manual(
    session: Session,
    parts: Parts,
    pipeline_name: str,
    at: Coordinates | None,
    *,
    actor: str,
    now: datetime,
    variables: Mapping[str, str] | None = None,
    revisions: Mapping[str, tuple[str, str]] | None = None,
    request_token: str | None = None,
) -> Started:
    """Start a pipeline by hand for a version that its source action takes, or for revisions of its sources.

    ``revisions`` is source action → (revisionType, revisionValue); sources that are not in it bring what is newest.

    The same ``request_token`` never starts a second execution (CodePipeline's clientRequestToken, up to 64
    characters). Raises NotFound for the pipeline or the version, and Invalid for a version the source does not take.
    """
    if request_token is not None and not 1 <= len(request_token) <= 64:
        raise Invalid("a request token has 1 to 64 characters")
    pipeline = session.scalar(select(Pipeline).where(Pipeline.name == pipeline_name))
    if pipeline is None:
        raise NotFound("pipeline", pipeline_name)
    _, definition = current_definition(session, pipeline.id)
    trigger = Trigger("manual", f"manual:{request_token or uuid.uuid4().hex}", actor)
    check_kinds(definition, revisions or {})
    start = Start(variables=variables or {}, revisions=overrides(revisions or {}))
    if at is not None:
        takes, source = filter_of(definition), definition.source
        if takes is None or not takes.matches(at.candidate()):
            wanted = ", ".join(f"{key} {value}" for key, value in sorted(source.configuration.items()))
            raise Invalid(f"{at.candidate().name} {at.version} is not what source {source.name} takes ({wanted})")
        found = collect(session, at)
        start = replace(start, version=found.version, publishers=sorted(found.publishers))
    return start_with_newest(session, parts, pipeline.id, definition, start, trigger=trigger, now=now)


def _start_once(session: Session, parts: Parts, pipeline_id: int, at: Coordinates) -> None:
    now = parts.clock()
    pipeline = session.get(Pipeline, pipeline_id)
    if pipeline is None:
        return
    _, definition = current_definition(session, pipeline_id)
    takes = filter_of(definition)
    if takes is None or not takes.matches(at.candidate()):
        return  # The pipeline was changed since, and its source no longer takes this version.
    where = f"pipeline/{pipeline.name}"
    try:
        found = collect(session, at)
        start = Start(found.version, sorted(found.publishers))
        trigger = Trigger("event", _identity(found), found.published_by, found.depth)
        start_execution(session, parts, pipeline_id, start, trigger=trigger, now=now)
    except REFUSALS as refusal:
        audit.record(session, now, SYSTEM, "execution.refuse", where, reason=str(refusal), version=asdict(at))


def _identity(found: Collected) -> str:
    """The same files of the same version in the same repository, whichever event brought them up."""
    version = found.version
    place = (version.domain, version.repository, version.format, version.namespace, version.name, version.version)
    return "event:" + hashlib.sha256("\n".join((*place, version.digest)).encode()).hexdigest()
