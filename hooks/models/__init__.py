"""The tables of everything that happens because of a publish."""

from hooks.models.build import Build, BuildLogChunk, BuildProject
from hooks.models.job import Job, JobQueue, JobState, WorkerProcess
from hooks.models.notification import (
    MailAddress,
    MailItem,
    MailMessage,
    MailSubscription,
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
)
from hooks.models.pipeline import ActionExecution, Execution, Pipeline, PipelineDefinitionVersion, StageExecution
from hooks.models.secret_store import StoredValue, StoredValueProject, StoredValueVersion

__all__ = [
    "ActionExecution",
    "Build",
    "BuildLogChunk",
    "BuildProject",
    "Execution",
    "Job",
    "JobQueue",
    "JobState",
    "MailAddress",
    "MailItem",
    "MailMessage",
    "MailSubscription",
    "Pipeline",
    "PipelineDefinitionVersion",
    "StageExecution",
    "StoredValue",
    "StoredValueProject",
    "StoredValueVersion",
    "WebhookAttempt",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WorkerProcess",
]
