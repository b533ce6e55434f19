"""The kinds of rules this release judges. A further kind is one file here and one line below."""

from __future__ import annotations

from hooks.pipelines.definition import ActionType
from hooks.pipelines.judging import alarm, builds, soak, variable, window
from hooks.pipelines.judging.kind import RuleKind

KINDS: tuple[RuleKind, ...] = (
    variable.CHECK,
    window.WINDOW,
    alarm.CLOUDWATCH,
    alarm.OURS,
    soak.SOAK,
    builds.CODEBUILD,
    builds.COMMANDS,
)

RULE_PROVIDERS = tuple(kind.provider for kind in KINDS)

_BY_TYPE = {(kind.provider.owner, kind.provider.name): kind for kind in KINDS}


def find_rule_kind(rule_type: ActionType) -> RuleKind | None:
    """The kind that judges rules of a type, or None when this release has none."""
    return _BY_TYPE.get((rule_type.owner, rule_type.provider))
