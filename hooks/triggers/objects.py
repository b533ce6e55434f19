"""A new version of a kept object starts the pipelines whose source takes it."""

from __future__ import annotations

import hashlib
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.models.pipeline import Pipeline, PipelineDefinitionVersion
from hooks.models.pipeline_source import SourceBucket, SourceObject
from hooks.pipelines.definition import from_model
from hooks.pipelines.engine import REFUSALS, Start, Trigger
from hooks.pipelines.parts import Parts
from hooks.pipelines.pinning import Wanted
from hooks.pipelines.run import SYSTEM
from hooks.triggers.newest import start_with_newest
from registry import audit


def on_new_version(session: Session, parts: Parts, bucket: SourceBucket, row: SourceObject, now: datetime) -> list[int]:
    """Start what takes the object, in the transaction that makes its version; the executions."""
    found = session.execute(
        select(Pipeline.id, Pipeline.name, PipelineDefinitionVersion.model)
        .join(PipelineDefinitionVersion, PipelineDefinitionVersion.pipeline_id == Pipeline.id)
        .where(PipelineDefinitionVersion.version == Pipeline.current_version)
        .order_by(Pipeline.id)
    ).all()
    started = []
    for pipeline_id, name, model in found:
        definition = from_model(model)
        for action in definition.sources:
            said = action.configuration
            takes = action.type.provider == "S3" and (said["S3Bucket"], said["S3ObjectKey"]) == (bucket.name, row.key)
            if not takes or said.get("PollForSourceChanges", "").lower() == "false":
                continue
            identity = "object:" + hashlib.sha256(f"{action.name}\n{row.version_id}".encode()).hexdigest()
            trigger = Trigger("object", identity, row.created_by)
            start = Start(revisions={action.name: Wanted(row.version_id)})
            try:
                with session.begin_nested():
                    done = start_with_newest(session, parts, pipeline_id, definition, start, trigger=trigger, now=now)
            except REFUSALS as refusal:
                about = {"reason": str(refusal), "object": f"{bucket.name}/{row.key}", "version": row.version_id}
                audit.record(session, now, SYSTEM, "execution.refuse", f"pipeline/{name}", **about)
                continue
            started.append(done.execution_id)
    return started
