"""Conditions in documents: all that is wrong with them at once, each with its line."""

import pytest

from hooks.pipelines.declaration import parse_documents
from hooks.pipelines.definition import Result, RetryMode, Slot
from hooks.pipelines.providers import PROVIDERS
from registry.errors import InvalidDocument

HEAD = """\
name: release
executionMode: QUEUED
stages:
- name: Source
  actions:
  - {name: P, actionTypeId: {category: Source, provider: Package}, namespace: src, outputArtifacts: [{name: App}],
     configuration: {Repository: dev, Format: fmt, Name: "*"}}
- name: Ship
"""
TAIL = """\
  actions:
  - {name: U, actionTypeId: {category: Build, provider: CodeBuild}, namespace: unit, outputArtifacts: [{name: Made}],
     configuration: {ProjectName: p}}
"""
V = "{name: V, ruleTypeId: {category: Rule, provider: VariableCheck}, configuration: {Variable: '#{src.Version}', Value: x, Operator: EQ}}"


def stage_of(lines, head=HEAD):
    (declared,) = parse_documents(head + lines + TAIL, PROVIDERS)
    return declared.declares.stages[1].conditions


def faults(lines, head=HEAD):
    with pytest.raises(InvalidDocument) as caught:
        stage_of(lines, head)
    return caught.value.faults


def guard(key, result, *rules):
    return f"  {key}: {{conditions: [{{result: {result}, rules: [{', '.join(rules)}]}}]}}\n"


def test_every_slot_takes_its_results():
    for key, slot, results in (
        ("beforeEntry", Slot.BEFORE_ENTRY, {"FAIL", "SKIP"}),
        ("onSuccess", Slot.ON_SUCCESS, {"FAIL", "ROLLBACK"}),
        ("onFailure", Slot.ON_FAILURE, {"ROLLBACK", "RETRY", "FAIL", "SKIP"}),
    ):
        for result in Result:
            if result in results:
                assert stage_of(guard(key, result, V))[slot].result == result
            else:
                assert f"result '{result}' is none of" in faults(guard(key, result, V))[0]


def test_on_failure_alone_has_a_result_by_itself():
    told = stage_of("  onFailure: {result: RETRY, retryConfiguration: {retryMode: ALL_ACTIONS}}\n")[Slot.ON_FAILURE]
    assert (told.result, told.rules, told.retry_mode) == (Result.RETRY, (), RetryMode.ALL_ACTIONS)
    assert stage_of("  onFailure: {result: ROLLBACK}\n")[Slot.ON_FAILURE].result == Result.ROLLBACK
    assert "none of ROLLBACK, RETRY" in faults("  onFailure: {result: SKIP}\n")[0]
    assert stage_of("  beforeEntry: {conditions: []}\n  onSuccess: {}\n  onFailure: {conditions: []}\n") == {}


def rule(provider, configuration, more=""):
    return f"{{name: R, ruleTypeId: {{category: Rule, provider: {provider}}}, configuration: {configuration}{more}}}"


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (guard("beforeEntry", "FAIL"), "0 rules; a condition has 1 to 5"),
        (guard("beforeEntry", "FAIL", *[V.replace("name: V", f"name: V{i}") for i in range(6)]), "6 rules"),
        (guard("beforeEntry", "FAIL", V, V), "the rule 'V' twice"),
        (f"  beforeEntry: {{conditions: [{{result: FAIL, rules: [{V}]}}, {{result: FAIL, rules: [{V}]}}]}}\n", "exactly one"),
        ("  beforeEntry: {result: FAIL}\n", "unknown key 'result'"),
        (f"  onFailure: {{result: RETRY, conditions: [{{result: FAIL, rules: [{V}]}}]}}\n", "the condition's own that counts"),
        ("  onFailure: {result: ROLLBACK, retryConfiguration: {retryMode: ALL_ACTIONS}}\n", "is for the result RETRY"),
        ("  onFailure: {result: RETRY, retryConfiguration: {retryMode: SOME}}\n", "retryMode must be one of"),
        (guard("beforeEntry", "FAIL", rule("LambdaInvoke", "{FunctionName: f}")), "LambdaInvoke / ? is not carried out"),
        (guard("beforeEntry", "FAIL", "{name: R}"), "ruleTypeId is missing"),
        (guard("beforeEntry", "FAIL", V.replace("src.Version", "src.Colour")), "#{src.Colour}"),
        (guard("beforeEntry", "FAIL", V.replace("src.Version", "unit.X")), "has not certainly ended before"),
        (guard("beforeEntry", "FAIL", V.replace("#{src.Version}", "1.0")), "refers to no variable"),
        (guard("beforeEntry", "FAIL", V.replace("EQ", "LIKE")), "'LIKE' is none of EQ, NE, CONTAINS, MATCHES"),
        (guard("beforeEntry", "FAIL", V.replace("Value: x, Operator: EQ", "Value: '(', Operator: MATCHES")), "no regular expression"),
        (guard("beforeEntry", "FAIL", V.replace("Value: x, Operator: EQ", "Value: '(?=x)', Operator: MATCHES")), "no regular expression"),
        (guard("beforeEntry", "FAIL", rule("DeploymentWindow", "{Cron: '* * * * *', TimeZone: Mars/Crater}")), "5 fields"),
        (guard("beforeEntry", "FAIL", rule("DeploymentWindow", "{Cron: '* * * ? * *', TimeZone: Mars/Crater}")), "no time zone"),
        (guard("beforeEntry", "FAIL", rule("Soak", "{Repository: staging}")), "Hours or Minutes is missing"),
        (guard("beforeEntry", "FAIL", rule("Soak", "{Hours: '-1'}")), "no whole number"),
        (guard("beforeEntry", "FAIL", rule("CloudWatchAlarm", "{AlarmName: x, AlarmStates: 'ALARM,LOUD'}")), "LOUD is none of"),
        (guard("beforeEntry", "FAIL", rule("Commands", "{}")), "commands are missing"),
        (guard("beforeEntry", "FAIL", rule("Commands", "{}", ", commands: ['echo #{src.Version}']")), "not written into commands"),
        (guard("beforeEntry", "FAIL", V[:-1] + ", commands: [x]}"), "commands are for rules of the provider Commands"),
        (guard("beforeEntry", "FAIL", rule("CodeBuild", "{ProjectName: p, PublishRepository: dev}")), "PublishRepository"),
        (guard("beforeEntry", "FAIL", rule("CodeBuild", "{ProjectName: p}", ", inputArtifacts: [{name: Made}]")), "certainly ended"),
        (guard("beforeEntry", "FAIL", V[:-1] + ", timeoutInMinutes: 1}"), "from 5 to 86400"),
        (guard("beforeEntry", "FAIL", V[:-1] + ", region: eu-west-1}"), "one server has no regions"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(lines, told):
    found = faults(lines)
    assert any(told in fault and fault.startswith("line 9: ") for fault in found), found


def test_all_faults_at_once():
    lines = (
        guard("beforeEntry", "RETRY", V.replace("EQ", "LIKE"))
        + guard("onSuccess", "FAIL")
        + "  onFailure: {result: X}\n"
    )
    assert [fault.partition(":")[0] for fault in faults(lines)] == ["line 9", "line 10", "line 11"]


def test_what_a_stage_cannot_do_where_it_stands():
    parallel = HEAD.replace("executionMode: QUEUED\n", "")
    assert "ROLLBACK needs stages that executions share" in faults("  onFailure: {result: ROLLBACK}\n", parallel)[0]
    assert "ROLLBACK needs stages" in faults(guard("onSuccess", "ROLLBACK", V), parallel)[0]
    for lines, told in (
        (guard("beforeEntry", "FAIL", V), "nothing is before the first stage"),
        ("  onFailure: {result: ROLLBACK}\n", "source stage cannot be rolled back"),
        (guard("onFailure", "SKIP", V), "source stage cannot be skipped"),
    ):
        assert any(told in fault for fault in faults("", HEAD.replace("- name: Source\n", f"- name: Source\n{lines}")))


def test_cloudformation_writes_it_otherwise():
    """PascalCase, and JSON."""
    pascal = """  BeforeEntry: {Conditions: [{Result: SKIP, Rules: [{Name: V, RuleTypeId: {Category: Rule, Owner: AWS, Provider: VariableCheck, Version: "1"},
    Configuration: {Variable: "#{src.Version}", Value: x, Operator: EQ}, InputArtifacts: [], TimeoutInMinutes: 9}]}]}
  OnFailure: {Result: RETRY, RetryConfiguration: {RetryMode: ALL_ACTIONS}}
"""
    found = stage_of(pascal)
    assert found[Slot.BEFORE_ENTRY].rules[0].timeout_minutes == 9
    assert found[Slot.ON_FAILURE].retry_mode == RetryMode.ALL_ACTIONS


def test_rules_are_no_actions():
    text = HEAD + TAIL.replace("category: Build, provider: CodeBuild", "category: Rule, provider: CodeBuild")
    with pytest.raises(InvalidDocument, match="Rule / \\? / CodeBuild / 1 is not carried out"):
        parse_documents(text, PROVIDERS)


def test_on_success_may_use_what_the_stage_itself_has_made():
    inputs = ", inputArtifacts: [{name: Made}]"
    assert stage_of(guard("onSuccess", "FAIL", V.replace("src.Version", "unit.X")))[Slot.ON_SUCCESS].rules
    assert (
        stage_of(guard("onSuccess", "FAIL", rule("CodeBuild", "{ProjectName: p}", inputs)))[Slot.ON_SUCCESS]
        .rules[0]
        .inputs
    )
