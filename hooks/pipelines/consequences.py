"""What an approval lets through, in words: a person must know what a click does. Pure."""

from __future__ import annotations

from hooks.pipelines import store
from hooks.pipelines.gates import groups_after, is_approval


def lets_through(execution: store.ExecutionView, stage: str, action: str) -> tuple[str, ...]:
    """What may start when this approval is given, up to the next one: promotions, deployments, publishing, builds.

    Empty where nothing comes after it. Raises NotFound for no such approval.
    """
    found: list[str] = []
    for _, members in groups_after(execution, stage, action):
        found += [told for member in members if (told := _told(member))]
        if any(is_approval(member) for member in members):
            found.append("then the next approval")
            break
    return tuple(dict.fromkeys(found))


def _told(action: store.ActionExecutionView) -> str:
    settings = action.resolved_configuration or action.configuration or {}
    match action.category, action.provider:
        case "Deploy", "Promote":
            what = settings.get("Packages") or "source"
            of = "" if what == "source" else f" of {what}"
            return f"promotion{of} to {_value(settings.get('TargetRepository'), 'a repository')}"
        case "Deploy", ("CodeDeploy" | "CodeDeployToECS"):
            group = _value(settings.get("DeploymentGroupName"), "a deployment group")
            what = "deployment of a service" if action.provider == "CodeDeployToECS" else "deployment"
            return f"{what} to {_value(settings.get('ApplicationName'), 'an application')}/{group}"
        case "Deploy", "Publish":
            return f"publishing to {_value(settings.get('Destination'), 'a destination')}, outside of this server"
        case (("Build" | "Test"), "CodeBuild") if settings.get("PublishRepository"):
            into = _value(settings.get("PublishRepository"), "a repository")
            return f"build {_value(settings.get('ProjectName'), '')}, which publishes to {into}"
        case (("Build" | "Test"), "CodeBuild"):
            return f"build {_value(settings.get('ProjectName'), 'of a project')}"
        case "Compute", _:
            return f"commands of {action.name}"
        case "Invoke", "CodePipeline":
            return f"start of {_value(settings.get('PipelineName'), 'a pipeline')}, another pipeline"
        case "Invoke", "Webhook":
            return f"call of {_value(settings.get('WebhookName'), 'a webhook')}, outside of this server"
        case ("Source", _) | ("Approval", "Manual"):
            return ""
    # Custom types: nothing that comes after an approval may be missing here.
    return f"{action.name} ({action.category} / {action.provider}), carried out by its workers"


def _value(written: str | None, what: str) -> str:
    """A setting's value; one that is only known when the action starts is said to be."""
    if not written or "#{" in written:
        return f"{what} chosen when it runs".strip()
    return written
