"""The management interface of hooks: JSON under ``/api/v1``, in the same document as the registry's."""

from __future__ import annotations

from flask import Blueprint

from hooks.api.agent_protocol import blueprint as agent_protocol
from hooks.api.agents import AgentViews
from hooks.api.build_artifacts import ArtifactViews
from hooks.api.build_batches import BatchViews
from hooks.api.build_debugging import DebugViews
from hooks.api.build_projects import BuildProjectViews
from hooks.api.builds import BuildViews
from hooks.api.declarations import DeclarationViews
from hooks.api.deployment_alarms import DeploymentAlarmViews
from hooks.api.deployment_applications import DeploymentApplicationViews
from hooks.api.deployment_hooks import DeploymentHookViews
from hooks.api.deployments import DeploymentViews
from hooks.api.destinations import DestinationViews
from hooks.api.executions import ExecutionViews
from hooks.api.feeds import FeedViews
from hooks.api.keys import KeyViews
from hooks.api.metrics import blueprint as metrics
from hooks.api.pipeline_gates import PipelineGateViews
from hooks.api.pipeline_sources import PipelineSourceViews, pipeline_receivers
from hooks.api.pipelines import PipelineViews
from hooks.api.pushes import PushViews
from hooks.api.pushes import receivers as push_receivers
from hooks.api.reports import ReportViews
from hooks.api.runner_protocol import blueprint as runner_protocol
from hooks.api.runners import RunnerViews
from hooks.api.secrets import SecretViews
from hooks.api.source_buckets import SourceBucketViews
from hooks.api.subscriptions import SubscriptionViews
from hooks.api.visibility import VisibilityViews
from hooks.api.webhooks import WebhookViews
from hooks.services import HookServices
from registry.api.routes import register

__all__ = ["agent_protocol", "blueprint", "metrics", "pipeline_receivers", "push_receivers", "runner_protocol"]


def blueprint(services: HookServices) -> Blueprint:
    """All routes, to be mounted at ``/api/v1``."""
    routes = Blueprint("hook_api", __name__)
    for views in (
        PipelineViews(services),
        PipelineSourceViews(services),
        SourceBucketViews(services),
        ExecutionViews(services),
        PipelineGateViews(services),
        BuildProjectViews(services),
        PushViews(services),
        BuildViews(services),
        DebugViews(services),
        BatchViews(services),
        ArtifactViews(services),
        ReportViews(services),
        RunnerViews(services),
        AgentViews(services),
        DeploymentApplicationViews(services),
        DeploymentViews(services),
        DeploymentHookViews(services),
        DeploymentAlarmViews(services),
        SecretViews(services),
        DestinationViews(services),
        WebhookViews(services),
        SubscriptionViews(services),
        KeyViews(services),
        DeclarationViews(services),
        VisibilityViews(services),
        FeedViews(services),
    ):
        register(routes, views.routes())
    return routes
