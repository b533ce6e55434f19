"""Source actions of git repositories: the commit is pinned once for an execution, and fetched by a job into the store."""

from __future__ import annotations

from sqlalchemy.orm import Session

from hooks.jobs.queue import enqueue, give_up
from hooks.models.pipeline import ActionExecution
from hooks.models.pipeline_source import SourceRevision
from hooks.pipelines.actions.kind import ActionKind, Progress, Starting
from hooks.pipelines.actions.timeouts import expire_later, forget_expiry
from hooks.pipelines.parts import Parts
from hooks.pipelines.provider import CheckAll, Provider, Setting, no_faults
from hooks.pipelines.sources import git_settings
from hooks.pipelines.state import ActionStatus

JOB_KIND = "fetch_source"
QUEUE = "sources"
TIMEOUT_MINUTES = 60
"""An hour, CodePipeline's time-out of source actions."""
VARIABLES = frozenset(
    {
        "AuthorDate",
        "BranchName",
        "CommitId",
        "CommitMessage",
        "CommitUrl",
        "CommitterDate",
        "ConnectionArn",
        "Digest",
        "FullRepositoryName",
        "RepositoryName",
    }
)


def _start(session: Session, starting: Starting) -> Progress:
    row = session.get_one(SourceRevision, (starting.execution_id, starting.definition.name))
    if row.blob_id is not None:  # a retry of the stage: what was pinned stays
        return ended(row)
    job_id = enqueue(
        session,
        JOB_KIND,
        {"action_execution_id": starting.action_id, "execution_id": starting.execution_id, "action": row.action},
        queue=QUEUE,
        dedupe=f"{JOB_KIND}:{starting.action_id}",
        subject=f"execution:{starting.execution_id}",
        timeout_seconds=TIMEOUT_MINUTES * 60,
    )
    # Also where no worker fetches sources, it does not wait for ever.
    expire_later(session, starting.action_id, TIMEOUT_MINUTES)
    return Progress(ActionStatus.IN_PROGRESS, f"{row.trigger or row.wanted} of {row.location}", job_id=job_id)


def ended(row: SourceRevision) -> Progress:
    """What a source action that has its revision says."""
    what = f"commit {row.revision[:12]} of {row.location}" if row.kind == "GIT" else f"{row.location} {row.revision}"
    return Progress(ActionStatus.SUCCEEDED, what, row.facts)


def _stop(session: Session, _parts: Parts, row: ActionExecution, _actor: str) -> None:
    forget_expiry(session, row.id)
    if row.job_id is not None:
        give_up(session, row.job_id)


def _kind(owner: str, name: str, settings: tuple[Setting, ...], check: CheckAll = no_faults) -> ActionKind:
    provider = Provider("Source", owner, name, settings, (0, 0), (0, 1), variables=VARIABLES, check_all=check)
    return ActionKind(provider, _start, _stop)


GIT = _kind("Entrepot", "Git", git_settings.OWN, git_settings.faults_of)
CODESTAR = _kind("AWS", "CodeStarSourceConnection", git_settings.CODESTAR)
CODECOMMIT = _kind("AWS", "CodeCommit", git_settings.CODECOMMIT_KEYS)
