"""Who is asked to let what follows go on: the repositories that an approval stands before."""

from datetime import UTC, datetime

import pytest

from hooks.pipelines.gates import repositories_behind, repositories_of
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
