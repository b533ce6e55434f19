"""The tables of everything that happens because of a publish."""

from hooks.models.build import Build, BuildLogChunk, BuildProject, BuildTally
from hooks.models.build_batch import BuildBatch, BuildBatchGroup
from hooks.models.build_image import BuildImagePin
from hooks.models.build_output import BuildArtifact, BuildCache
from hooks.models.build_source import BuildUpload, PushDelivery, PushHook, PushWaiting, SourceCredential
from hooks.models.build_token import BuildToken
from hooks.models.deployment import (
    Deployment,
    DeploymentAgent,
    DeploymentAlarm,
    DeploymentApplication,
    DeploymentConfig,
    DeploymentEvent,
    DeploymentGroup,
    DeploymentInstallation,
    DeploymentTarget,
    DeploymentUpload,
)
from hooks.models.destination import PublishDestination
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
from hooks.models.pipeline import (
    ActionExecution,
    ApprovalResult,
    Execution,
    Pipeline,
    PipelineDefinitionVersion,
    StageExecution,
)
from hooks.models.pipeline_condition import ConditionExecution, PipelineFreeze, RuleExecution, StageHold
from hooks.models.pipeline_source import (
    GitConnection,
    PipelineDelivery,
    PipelineHook,
    PipelineLocation,
    PipelineSchedule,
    SourceBucket,
    SourceObject,
    SourceRevision,
    SourceWatch,
)
from hooks.models.pipeline_stage import InboundExecution, StageSlot
from hooks.models.report import FileCoverageRow, Report, ReportGroup, TestCase
from hooks.models.runner import BuildLease, BuildRunner
from hooks.models.secret_store import StoredValue, StoredValueProject, StoredValueVersion

__all__ = [
    "ActionExecution",
    "ApprovalResult",
    "Build",
    "BuildArtifact",
    "BuildBatch",
    "BuildBatchGroup",
    "BuildCache",
    "BuildImagePin",
    "BuildLease",
    "BuildLogChunk",
    "BuildProject",
    "BuildRunner",
    "BuildTally",
    "BuildToken",
    "BuildUpload",
    "ConditionExecution",
    "Deployment",
    "DeploymentAgent",
    "DeploymentAlarm",
    "DeploymentApplication",
    "DeploymentConfig",
    "DeploymentEvent",
    "DeploymentGroup",
    "DeploymentInstallation",
    "DeploymentTarget",
    "DeploymentUpload",
    "Execution",
    "FileCoverageRow",
    "GitConnection",
    "InboundExecution",
    "Job",
    "JobQueue",
    "JobState",
    "MailAddress",
    "MailItem",
    "MailMessage",
    "MailSubscription",
    "Pipeline",
    "PipelineDefinitionVersion",
    "PipelineDelivery",
    "PipelineFreeze",
    "PipelineHook",
    "PipelineLocation",
    "PipelineSchedule",
    "PublishDestination",
    "PushDelivery",
    "PushHook",
    "PushWaiting",
    "Report",
    "ReportGroup",
    "RuleExecution",
    "SourceBucket",
    "SourceCredential",
    "SourceObject",
    "SourceRevision",
    "SourceWatch",
    "StageExecution",
    "StageHold",
    "StageSlot",
    "StoredValue",
    "StoredValueProject",
    "StoredValueVersion",
    "TestCase",
    "WebhookAttempt",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WorkerProcess",
]
