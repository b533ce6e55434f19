"""Rule / AWS / CodeBuild and Commands: a build that has to succeed, started by what starts those of actions."""

from __future__ import annotations

from sqlalchemy.orm import Session

from hooks.pipelines.actions.build import TEST
from hooks.pipelines.actions.commands import RUN
from hooks.pipelines.actions.kind import ActionKind, Starting
from hooks.pipelines.definition import ActionDefinition
from hooks.pipelines.judging.kind import Judging, RuleKind, Verdict, rule_provider
from hooks.pipelines.state import ConditionStatus

# Publishing is an action's: a rule only looks.
_NOT_FOR_RULES = {"PublishRepository", "CombineArtifacts", "OutputVariables", "OutputFiles"}


def _kind(name: str, action: ActionKind) -> RuleKind:
    def judge(session: Session, judging: Judging) -> Verdict:
        starting = Starting(
            parts=judging.parts,
            pipeline=judging.pipeline,
            execution_id=judging.execution_id,
            definition_id=judging.definition_id,
            action_id=0,
            attempt=1,
            definition=ActionDefinition(
                judging.rule.name,
                judging.rule.type,
                configuration=judging.rule.configuration,
                inputs=judging.rule.inputs,
                timeout_minutes=judging.rule.timeout_minutes,
            ),
            configuration=judging.configuration,
            source=judging.source,
            now=judging.now,
            artifacts=judging.artifacts,
        )
        progress = action.start(session, starting)
        return Verdict(ConditionStatus.IN_PROGRESS, progress.summary, build_id=progress.build_id)

    told = action.provider
    settings = tuple(setting for setting in told.settings if setting.name not in _NOT_FOR_RULES)
    return RuleKind(rule_provider("AWS", name, settings, told.inputs), judge, default_minutes=8 * 60)


CODEBUILD = _kind("CodeBuild", TEST)
COMMANDS = _kind("Commands", RUN)
