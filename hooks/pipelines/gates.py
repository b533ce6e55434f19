"""Who may answer an approval: whoever holds the right to approve on the repositories it stands before.

An approval lets through what comes after it, so the right is asked for there: on the targets of all promotions up to the
next approval, on the repositories that builds up to there publish to and on those that deployments get their files from,
and on the execution's own where there are none.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from sqlalchemy.orm import Session

from hooks.models.pipeline_condition import StageHold
from hooks.pipelines.store import ActionExecutionView, ExecutionSummary, ExecutionView, get_execution
from registry.access import Action, Identity, check
from registry.errors import NotFound
from registry.names import PackageKey, PackageName


def repositories_behind(execution: ExecutionView, stage: str, action: str) -> tuple[str, ...]:
    """The ``domain/repository`` paths on which an approver needs ``approve``. Raises NotFound for no such approval.

    A target that is only known when the promotion starts (``#{…}``) stands for any repository of the domain.
    """
    summary = execution.summary
    targets: list[str] = []
    for _, members in groups_after(execution, stage, action):
        targets += [target for member in members if (target := _target(member, summary))]
        if any(is_approval(member) for member in members):
            break
    return tuple(f"{summary.domain}/{target}" for target in dict.fromkeys(targets or [summary.repository]))


def groups_after(execution: ExecutionView, stage: str, action: str) -> list[tuple[str, list[ActionExecutionView]]]:
    """What comes after an approval: (stage, the actions of one runOrder), in order. Raises NotFound for no such one."""
    groups = list(_groups(execution))
    at = next(
        (
            position
            for position, (owner, members) in enumerate(groups)
            if owner == stage and any(member.name == action and is_approval(member) for member in members)
        ),
        None,
    )
    if at is None:
        raise NotFound("approval", f"{stage}/{action} of execution {execution.summary.id}")
    return groups[at + 1 :]


def may_answer(identity: Identity, execution: ExecutionView, stage: str, action: str) -> bool:
    """Whether ``identity`` may answer this approval, as far as repositories are concerned. Raises NotFound."""
    return all(identity.may(Action.APPROVE, path) for path in repositories_behind(execution, stage, action))


def may_look_into(identity: Identity, summary: ExecutionSummary) -> bool:
    """Whether ``identity`` may be told of an execution: a reader of its repository, and of its package."""
    place = f"{summary.domain}/{summary.repository}"
    if not summary.format:  # of no package: a right on packages of some name says nothing about it
        return identity.may(Action.READ, place)
    return identity.may_look_into(place, PackageKey(summary.format, summary.namespace, PackageName(summary.name)))


def may_see(identity: Identity, execution: ExecutionView) -> bool:
    """Whether ``identity`` may look at an execution: readers of its repository, and whoever an approval of it asks."""
    if may_look_into(identity, execution.summary):
        return True
    return any(
        may_answer(identity, execution, stage.name, action.name)
        for stage in execution.stages
        for action in stage.actions
        if is_approval(action)
    )


def repositories_of(execution: ExecutionView, stage: str) -> tuple[str, ...]:
    """The paths on which somebody needs ``approve`` who rolls ``stage`` back to this execution: where that brings it.

    They are what the stage promotes and publishes to and deploys from, or the execution's own repository.
    """
    summary = execution.summary
    actions = [action for each in execution.stages if each.name == stage for action in each.actions]
    targets = [target for action in actions if (target := _target(action, summary))]
    return tuple(f"{summary.domain}/{target}" for target in dict.fromkeys(targets or [summary.repository]))


def check_release(session: Session, caller: Identity, row: StageHold) -> None:
    """Raise Denied for who may not let go of a hold, and NotFound for who may not even see what it is about."""
    execution = get_execution(session, row.rollback_id)
    if not may_see(caller, execution):
        raise NotFound("hold", f"of stage {row.stage}")
    for path in repositories_of(execution, row.stage):
        check(caller, Action.APPROVE, path)


def _groups(execution: ExecutionView) -> Iterator[tuple[str, list[ActionExecutionView]]]:
    """What runs one after the other: (stage, the actions of one runOrder)."""
    for stage in execution.stages:
        ordered = sorted(stage.actions, key=lambda action: action.run_order)
        for _, members in groupby(ordered, key=lambda action: action.run_order):
            yield stage.name, list(members)


def is_approval(action: ActionExecutionView) -> bool:
    """Whether an action asks somebody."""
    return (action.category, action.provider) == ("Approval", "Manual")


_TARGETS = {("Deploy", "Promote"): "TargetRepository", ("Build", "CodeBuild"): "PublishRepository"}
_TARGETS |= {("Test", "CodeBuild"): _TARGETS["Build", "CodeBuild"]}
# What is brought out of the domain's repositories: the right is asked for where it comes from.
_FROM = {("Deploy", "CodeDeploy"), ("Deploy", "CodeDeployToECS"), ("Deploy", "Publish")}
_TARGETS |= dict.fromkeys(_FROM, "SourceRepository")
_INVOKES = ("Invoke", "CodePipeline")


def _target(action: ActionExecutionView, summary: ExecutionSummary) -> str:
    """The repository that an action puts versions into, or from which it deploys or publishes them; "" for none."""
    kind = (action.category, action.provider)
    if kind == _INVOKES:
        return "*"  # what the other pipeline's definition says when it is started: perhaps any of them
    setting = _TARGETS.get(kind, "")
    written = (action.configuration or {}).get(setting, "") or (summary.repository if kind in _FROM else "")
    # A literal ``*`` is matched by nothing but a ``*`` in the approver's own scope.
    return "*" if "#{" in written else written
