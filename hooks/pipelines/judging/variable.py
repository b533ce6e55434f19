"""Rule / AWS / VariableCheck: a variable of the pipeline compared with a text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sqlalchemy.orm import Session

from hooks.builds.patterns import is_whole, pattern_fault
from hooks.pipelines.judging.kind import Judging, RuleKind, Verdict, met, not_met, rule_provider, unjudged
from hooks.pipelines.provider import Setting
from hooks.pipelines.variables import has_reference

_OPERATORS: Mapping[str, tuple[Callable[[str, str], bool], str]] = {
    "EQ": (lambda value, wanted: value == wanted, "is {wanted}"),
    "NE": (lambda value, wanted: value != wanted, "is not {wanted}"),
    "CONTAINS": (lambda value, wanted: wanted in value, "contains {wanted}"),
    "MATCHES": (lambda value, wanted: is_whole(wanted, value), "matches {wanted}"),
}


def _check_variable(value: str) -> str | None:
    # Told by the checks of references otherwise; a text without any compares nothing.
    return None if has_reference(value) else f"{value!r} refers to no variable; write #{{namespace.key}}"


def _check_operator(value: str) -> str | None:
    return None if value in _OPERATORS else f"{value!r} is none of {', '.join(_OPERATORS)}"


def _check_pattern(configuration: Mapping[str, str]) -> Sequence[tuple[str, str]]:
    wanted = configuration.get("Value", "")
    fault = None
    if configuration.get("Operator") == "MATCHES" and not has_reference(wanted):
        fault = pattern_fault(wanted)
    return [] if fault is None else [("Value", f"{wanted[:120]!r} is no regular expression: {fault}")]


def _judge(_session: Session, judging: Judging) -> Verdict:
    configuration = judging.configuration
    value, wanted = configuration["Variable"], configuration["Value"]
    operator = configuration["Operator"]
    fault = _check_operator(operator)
    if fault is None and operator == "MATCHES":
        fault = pattern_fault(wanted)
    if fault is not None:
        return unjudged(fault)
    holds, words = _OPERATORS[operator]
    written = judging.rule.configuration["Variable"]
    told = f"{written} = {value[:200]!r}, and has to be one that {words.format(wanted=repr(wanted[:200]))}"
    return met(told) if holds(value, wanted) else not_met(told)


CHECK = RuleKind(
    rule_provider(
        "AWS",
        "VariableCheck",
        (
            Setting("Variable", is_required=True, check=_check_variable),
            Setting("Value", is_required=True),
            Setting("Operator", is_required=True, check=_check_operator),
        ),
        check_all=_check_pattern,
    ),
    _judge,
)
