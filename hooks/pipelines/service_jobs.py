"""Deployments of services for actions, as jobs: their documents are read first, and the deployment is made as any other.

How it ends, is stopped and times out is in ``deploy_jobs``. Running one twice is harmless.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from hooks.jobs.context import Handler, JobContext
from hooks.models.job import JobState
from hooks.models.pipeline import ActionExecution
from hooks.pipelines import deploy_jobs
from hooks.pipelines.actions import deploy_service
from hooks.pipelines.engine import REFUSALS
from hooks.pipelines.parts import Parts, PinnedVersion, ServiceDocuments, TextPlace
from hooks.pipelines.run import look, pinned_version
from hooks.pipelines.service_texts import image_of, task_definition
from hooks.pipelines.state import ActionStatus
from registry.errors import Conflict, Problem


def handlers(parts: Parts) -> Mapping[str, Handler]:
    """Job kind → handler."""
    return {deploy_service.JOB_KIND: partial(run_deploy, parts)}


def run_deploy(parts: Parts, context: JobContext) -> None:
    """Make the deployment of a service. What refuses it is the action's failure; an outage is raised, and tried again."""
    source = context.step(lambda session: _source(session, context.payload["action_execution_id"]))
    documents: ServiceDocuments | Problem | None = None
    if source is not None:
        try:
            documents = _documents(parts, source, context.payload)
        except REFUSALS as refusal:
            documents = refusal
    context.finish(
        JobState.SUCCEEDED, lambda session: deploy_jobs.make(session, parts, context.payload, documents=documents)
    )


def _source(session: Session, action_execution_id: int) -> PinnedVersion | None:
    row = session.get(ActionExecution, action_execution_id)
    if row is None or not ActionStatus(row.status).is_running:
        return None
    return pinned_version(look(session, row.execution_id).execution)


def _documents(parts: Parts, source: PinnedVersion, asked: Mapping[str, Any]) -> ServiceDocuments:
    if parts.deployer is None:
        raise Conflict("this process deploys nothing")
    texts = {}
    for name, (keeper, identifier, sha256, path) in asked["texts"].items():
        place = TextPlace(path, source, asked["repository"], keeper, identifier, sha256)
        texts[name] = parts.deployer.read_text(place)
    images = {name.removeprefix("image "): image_of(text) for name, text in texts.items() if name.startswith("image ")}
    return ServiceDocuments(texts["appspec"], task_definition(texts["taskdef"], images))
