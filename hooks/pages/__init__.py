"""The pages of pipelines, executions, approvals, builds and deployments, in the registry's design."""

from __future__ import annotations

from flask import Blueprint
from flask.blueprints import BlueprintSetupState

from hooks.pages.agents import AgentPages
from hooks.pages.applications import ApplicationPages
from hooks.pages.approvals import ApprovalPages
from hooks.pages.build_artifacts import ArtifactPages
from hooks.pages.build_batches import BatchPages
from hooks.pages.build_debugging import DebugPages
from hooks.pages.build_projects import BuildProjectPages
from hooks.pages.builds import BuildPages
from hooks.pages.deployment import DeploymentPages
from hooks.pages.deployments import DeploymentListPages
from hooks.pages.destinations import DestinationPages
from hooks.pages.executions import ExecutionPages
from hooks.pages.keys import KeyPages
from hooks.pages.life import LifePages
from hooks.pages.looks import look, look_of_execution, look_of_stage
from hooks.pages.new_deployment import NewDeploymentPages
from hooks.pages.notifications import NotificationPages
from hooks.pages.panels import Panels
from hooks.pages.pipeline_gates import PipelineGatePages
from hooks.pages.pipelines import PipelinePages
from hooks.pages.push_hooks import PushHookPages
from hooks.pages.reports import ReportPages
from hooks.pages.runners import RunnerPages
from hooks.pages.secrets import SecretPages
from hooks.pages.webhooks import WebhookPages
from hooks.services import HookServices
from registry.pages.panels import extend

__all__ = ["blueprint"]


def blueprint(services: HookServices) -> Blueprint:
    """All pages of hooks, to be mounted at ``/`` beside the registry's."""
    pages = Blueprint("hook_pages", __name__, template_folder="templates")
    projects = BuildProjectPages(services)
    pipelines, executions = PipelinePages(services), ExecutionPages(services)
    for part in (
        pipelines,
        executions,
        PipelineGatePages(services, pipelines, executions),
        ApprovalPages(services),
        BuildPages(services),
        BatchPages(services),
        DebugPages(services),
        ArtifactPages(services),
        ReportPages(services),
        projects,
        PushHookPages(services, projects.shown),
        WebhookPages(services),
        SecretPages(services),
        NotificationPages(services),
        KeyPages(services),
        RunnerPages(services),
        DestinationPages(services),
        AgentPages(services),
        DeploymentListPages(services),
        ApplicationPages(services),
        NewDeploymentPages(services),
        DeploymentPages(services),
        LifePages(services),
    ):
        part.routes(pages)
    for look_function in (look, look_of_stage, look_of_execution):
        pages.add_app_template_global(look_function)

    def set_up(state: BlueprintSetupState) -> None:
        extend(state.app.extensions, Panels(services).extension())

    pages.record_once(set_up)
    return pages
