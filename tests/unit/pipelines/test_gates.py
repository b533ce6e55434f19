"""Who is asked to let what follows go on: the repositories that an approval stands before."""

from datetime import UTC, datetime

import pytest

from hooks.pipelines.consequences import lets_through
from hooks.pipelines.gates import repositories_behind, repositories_of, repositories_to_override
from hooks.pipelines.store import ActionExecutionView, ExecutionSummary, ExecutionView, StageExecutionView

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SUMMARY = ExecutionSummary(
    1, "p", 1, "InProgress", "event", "alice", "default", "dev", "fmt", "", "acme", "1", "0" * 64, NOW, None,
    "PARALLEL", "STANDARD", None,
)  # fmt: skip


def acts(category: str, provider: str, **configuration: str) -> ActionExecutionView:
    return ActionExecutionView(provider, category, provider, 1, None, configuration=configuration)


def execution(*actions: ActionExecutionView) -> ExecutionView:
    gate = StageExecutionView("Gate", None, 0, None, None, (acts("Approval", "Manual"),))
    stages = (StageExecutionView(f"S{n}", None, 0, None, None, (action,)) for n, action in enumerate(actions))
    return ExecutionView(SUMMARY, {}, (), {}, 0, None, None, None, (gate, *stages))


@pytest.mark.parametrize(
    ("actions", "places"),
    [
        ([acts("Deploy", "CodeDeploy")], ("default/dev",)),
        ([acts("Deploy", "CodeDeploy", SourceRepository="prod")], ("default/prod",)),
        ([acts("Deploy", "CodeDeploy", SourceRepository="#{variables.Where}")], ("default/*",)),
        (
            [acts("Deploy", "Promote", TargetRepository="staging"), acts("Deploy", "CodeDeploy")],
            ("default/staging", "default/dev"),
        ),
        (
            [
                acts("Deploy", "Promote", TargetRepository="staging"),
                acts("Deploy", "CodeDeploy", SourceRepository="staging"),
            ],
            ("default/staging",),
        ),
    ],
)
def test_an_approval_before_a_deployment_is_asked_where_its_files_come_from(
    actions: list[ActionExecutionView], places: tuple[str, ...]
) -> None:
    assert repositories_behind(execution(*actions), "Gate", "Manual") == places
    assert set(repositories_of(execution(*actions), "S0")) <= set(places)


STAGING = acts("Deploy", "Promote", TargetRepository="staging")
PROD = acts("Deploy", "Promote", TargetRepository="prod")


@pytest.mark.parametrize(
    ("action", "told", "places"),
    [
        (
            acts("Deploy", "CodeDeployToECS", ApplicationName="shop", DeploymentGroupName="prod"),
            "deployment of a service to shop/prod",
            ("default/staging", "default/dev"),
        ),
        (
            acts("Invoke", "Webhook", WebhookName="rollout"),
            "call of rollout, outside of this server",
            ("default/staging", "default/dev"),
        ),
        (
            acts("Deploy", "Octopus"),
            "Octopus (Deploy / Octopus), carried out by its workers",
            ("default/staging", "default/dev"),
        ),
        (
            acts("Invoke", "CodePipeline", PipelineName="prod"),
            "start of prod, another pipeline",
            ("default/staging", "default/*"),
        ),
        (acts("Test", "Lab"), "Lab (Test / Lab), carried out by its workers", ("default/staging",)),
        (acts("Approval", "Desk"), "Desk (Approval / Desk), carried out by its workers", ("default/staging",)),
        (acts("Build", "CodeBuild", ProjectName="docs"), "build docs", ("default/staging",)),
    ],
)
def test_what_others_carry_out_behind_an_approval_is_told_and_asked_for(
    action: ActionExecutionView, told: str, places: tuple[str, ...]
) -> None:
    found = execution(STAGING, action)
    assert lets_through(found, "Gate", "Manual") == ("promotion to staging", told)
    assert repositories_behind(found, "Gate", "Manual") == places
    assert repositories_of(found, "S1") == (places[1:] or ("default/dev",))


def test_an_override_is_asked_for_where_it_opens_the_way_to() -> None:
    ask = acts("Approval", "Manual")
    found = execution(STAGING, acts("Test", "CodeBuild"), PROD, ask, acts("Invoke", "CodePipeline"))
    assert repositories_to_override(found, "S0", "BEFORE_ENTRY") == ("default/staging",)
    assert repositories_to_override(found, "S0", "ON_SUCCESS") == ("default/staging", "default/prod")
    assert repositories_to_override(found, "S2", "ON_SUCCESS") == ("default/prod",)  # then somebody is asked
    assert repositories_to_override(found, "S4", "ON_SUCCESS") == ("default/*",)  # the last one
    assert repositories_to_override(found, "Nowhere", "ON_SUCCESS") == ("default/dev",)
