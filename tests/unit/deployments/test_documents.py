"""CodeDeploy's documents of groups, configurations and new deployments: what is read, and every fault with its line."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hooks.deployments.documents.config import DEFAULTS, PREDEFINED, parse_config
from hooks.deployments.documents.group import parse_group
from hooks.deployments.documents.request import parse_request
from hooks.deployments.documents.settings import GroupSettings
from hooks.deployments.documents.tags import MOST_LISTS, Selection, TagFilter, matches
from registry.errors import InvalidDocument


def faults(parse, text: str) -> list[str]:
    with pytest.raises(InvalidDocument) as caught:
        parse(text)
    return caught.value.faults


# --- tags ------------------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(["", "a", "b", "A"])
TAGS = st.lists(st.fixed_dictionaries({"Key": WORDS, "Value": WORDS}), max_size=4)
FILTERS = st.builds(TagFilter, WORDS, WORDS, st.sampled_from(["KEY_ONLY", "VALUE_ONLY", "KEY_AND_VALUE"]))
SETS = st.lists(st.lists(FILTERS, max_size=3).map(tuple), max_size=MOST_LISTS).map(tuple)


def admits(one: TagFilter, tag: dict[str, str]) -> bool:
    """What CodeDeploy says of each type of filter, one after the other."""
    if one.type == "KEY_ONLY":
        return tag["Key"] == one.key
    if one.type == "VALUE_ONLY":
        return tag["Value"] == one.value
    return tag == {"Key": one.key, "Value": one.value}


@given(SETS, TAGS)
@settings(max_examples=300, deadline=None)
def test_a_set_is_an_and_of_ors(tag_set, tags) -> None:
    wanted = len(tag_set) > 0
    for filters in tag_set:
        wanted = wanted and sum(admits(one, tag) for one in filters for tag in tags) > 0
    assert matches(tag_set, tags) == wanted


@given(st.frozensets(WORDS), st.lists(SETS, max_size=2).map(tuple), WORDS, TAGS)
@settings(max_examples=150, deadline=None)
def test_a_selection_has_who_is_named_or_matched_and_a_further_tag_takes_nobody_out(names, sets, name, tags) -> None:
    selection = Selection(names, sets)
    assert selection.has(name, tags) == (name in names or any(matches(each, tags) for each in sets))
    if selection.has(name, tags):
        assert selection.has(name, [*tags, {"Key": "more", "Value": "x"}])
    if selection.is_empty:
        assert not selection.has(name, tags)


# --- groups ----------------------------------------------------------------------------------------------------------

WHOLE = """\
applicationName: shop
deploymentGroupName: prod
deploymentConfigName: CodeDeployDefault.HalfAtATime
ec2TagFilters: [{Key: stage, Value: prod}, {Key: role, Type: KEY_ONLY}, {Value: web}]
onPremisesTagSet:
  onPremisesTagSetList:
    - [{Key: stage, Value: prod, Type: KEY_AND_VALUE}]
    - [{Key: zone}, {Key: region}]
targets: [web-1]
deploymentStyle: {deploymentType: BLUE_GREEN, deploymentOption: WITH_TRAFFIC_CONTROL}
loadBalancerInfo:
  targetGroupInfoList: [{name: edge/shop}]
blueGreenDeploymentConfiguration:
  terminateBlueInstancesOnDeploymentSuccess: {action: TERMINATE, terminationWaitTimeInMinutes: 5}
  deploymentReadyOption: {actionOnTimeout: STOP_DEPLOYMENT, waitTimeInMinutes: 60}
  greenFleetProvisioningOption: {action: DISCOVER_EXISTING, tagFilters: [{Key: fleet, Value: green}]}
alarmConfiguration: {enabled: true, ignorePollAlarmFailure: true, alarms: [{name: errors, type: PROMETHEUS, url: "https://prometheus.example", query: up, comparisonOperator: GreaterThanThreshold, threshold: 0.5}]}
autoRollbackConfiguration: {enabled: true, events: [DEPLOYMENT_FAILURE]}
triggerConfigurations: [{triggerName: t, triggerTargetArn: "arn:x", triggerEvents: [DeploymentFailure]}]
outdatedInstancesStrategy: IGNORE
serviceRoleArn: arn:aws:iam::1:role/x
terminationHookEnabled: false
link: /opt/app//current/
maxConcurrent: 3
guidedFailure: yes
healthChecks: [{name: ready, type: HTTP, url: "http://{host}:80/", bodyContains: "200", intervalSeconds: 5}]
"""


def test_a_whole_group() -> None:
    parsed = parse_group(WHOLE)
    assert (parsed.application, parsed.name) == ("shop", "prod")
    assert parsed.document["ec2TagFilters"] == [
        {"Type": "KEY_AND_VALUE", "Key": "stage", "Value": "prod"},
        {"Type": "KEY_ONLY", "Key": "role"},
        {"Type": "VALUE_ONLY", "Value": "web"},
    ]
    assert parsed.document["alarmConfiguration"]["alarms"] == [
        {
            "name": "errors",
            "type": "PROMETHEUS",
            "url": "https://prometheus.example",
            "query": "up",
            "comparisonOperator": "GreaterThanThreshold",
            "threshold": 0.5,
        }
    ]
    assert parsed.document["healthChecks"] == [
        {"name": "ready", "type": "HTTP", "url": "http://{host}:80/", "bodyContains": "200", "intervalSeconds": 5}
    ]
    assert [note.partition(" ")[0] for note in parsed.warnings] == [
        "serviceRoleArn",
        "terminationHookEnabled",
        "triggerConfigurations",
    ]
    found = GroupSettings.of(parsed.document)
    assert found.is_blue_green
    assert found.controls_traffic
    assert (found.pools, found.link, found.max_concurrent, found.is_guided) == (
        ("edge/shop",),
        "/opt/app/current",
        3,
        True,
    )
    assert (found.ready_wait_minutes, found.stops_unless_continued) == (60, True)
    assert (found.terminates_blue, found.termination_wait_minutes) == (True, 5)
    assert found.rollback_events == {"DEPLOYMENT_FAILURE"}
    assert not found.updates_outdated
    assert found.machines.has("web-1", [])
    assert found.machines.has("x", [{"Key": "stage", "Value": "prod"}])
    assert not found.machines.has("x", [{"Key": "stage", "Value": "beta"}])
    assert found.replacements.has("x", [{"Key": "fleet", "Value": "green"}])


def test_what_is_kept_can_be_applied_again_and_comes_to_the_same() -> None:
    once = parse_group(WHOLE).document
    assert parse_group(json.dumps(once)).document == once
    assert parse_group(json.dumps(once, indent="\t")).document == once


def test_what_codedeploy_answers_with_can_be_applied_here_and_cloudformation_s_spelling_too() -> None:
    answer = {
        "applicationName": "shop",
        "deploymentGroupId": "7",
        "computePlatform": "Server",
        "ec2TagFilters": [{"Key": "a", "Value": "b", "Type": "KEY_AND_VALUE"}],
        "onPremisesInstanceTagFilters": [],
        "autoScalingGroups": [],
        "lastSuccessfulDeployment": {"deploymentId": "d-1"},
        "deploymentStyle": {"deploymentType": "IN_PLACE", "deploymentOption": "WITHOUT_TRAFFIC_CONTROL"},
    }
    wanted = {key: answer[key] for key in ("ec2TagFilters", "deploymentStyle")}
    assert parse_group(json.dumps(answer)).document == wanted
    spelt = {"Ec2TagFilters": answer["ec2TagFilters"], "DeploymentStyle": {"DeploymentType": "IN_PLACE"}}
    assert parse_group(json.dumps(spelt)).document == wanted


def test_the_start_s_options_go_over_the_group_s() -> None:
    options = parse_request(
        """\
applicationName: shop
deploymentGroupName: prod
targets: [web-2]
targetInstances: {tagFilters: [{Key: canary}]}
autoRollbackConfiguration: {enabled: false}
overrideAlarmConfiguration: {enabled: false}
maxConcurrent: 1
guidedFailure: false
"""
    ).options
    found = GroupSettings.of(parse_group(WHOLE).document, options)
    assert (found.rollback_events, found.alarms, found.max_concurrent, found.is_guided) == (frozenset(), (), 1, False)
    assert found.names == {"web-2"}
    assert found.chosen is not None
    assert found.chosen.has("any", [{"Key": "canary", "Value": ""}])


def test_all_faults_of_a_group_are_told_at_once_each_with_its_line() -> None:
    text = """\
deploymentGroupName: "with space"
ec2TagFilters: [{Key: a, Type: BOTH}]
nonsense: 1
autoScalingGroups: [one]
deploymentStyle: {deploymentType: SIDEWAYS}
loadBalancerInfo:
  elbInfoList: [{name: classic}]
  targetGroupInfoList: [{name: "edge; quit"}]
alarmConfiguration: {enabled: true}
autoRollbackConfiguration: {enabled: true, events: [SOMETIMES]}
maxConcurrent: 0
link: current
"""
    told = faults(parse_group, text)
    assert [fault.partition(":")[0] for fault in told] == [
        f"line {line}" for line in (1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12)
    ]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("ec2TagFilters: [" + "{Key: a}," * 11 + "]", "at most 10"),
        ("ec2TagSet: {ec2TagSetList: [[{Key: a}],[{Key: a}],[{Key: a}],[{Key: a}]]}", "at most 3"),
        ("ec2TagSet: {ec2TagSetList: [[" + "{Key: a}," * 6 + "],[" + "{Key: a}," * 5 + "]]}", "more than 10 tags"),
        ("ec2TagSet: {ec2TagSetList: [[], [{Key: a}]]}", "matches nothing"),
        ("ec2TagFilters: [{Key: a}]\nec2TagSet: {ec2TagSetList: [[{Key: a}]]}", "exclude each other"),
        ("alarmConfiguration: {alarms: [" + "{name: a}," * 11 + "]}", "at most 10"),
        ("alarmConfiguration: {alarms: [{name: a}, {name: a}]}", "there twice"),
        ("deploymentGroupName: " + "x" * 101, "1 to 100"),
        ("targets: [a, a]", "there twice"),
        ("healthChecks: [{name: a, type: HTTP, url: 'file:///etc/passwd'}]", "line 1: healthChecks"),
        ("alarmConfiguration: {alarms: [{name: a, type: PROMETHEUS}]}", "line 1: alarmConfiguration"),
        ("deploymentStyle: {deploymentOption: WITH_TRAFFIC_CONTROL}", "names no pool"),
        ("deploymentStyle: {deploymentType: BLUE_GREEN}", "blueGreenDeploymentConfiguration is missing"),
        ("blueGreenDeploymentConfiguration: {}\nlink: /a/../b/c", "absolute path"),
        ("appSpecFilename: ../x.yml", "within the bundle"),
        ("loadBalancerInfo: {targetGroupPairInfoList: [{targetGroups: [{name: r/a}]}]}", "two different pools"),
        ("a: &a [*a]", "line 1"),
        ("healthChecks: &a [[1,2,3,4,5,6,7,8,9]]\nhooks: [" + "*a," * 300 + "]", "2000 values"),
        ("- list", "mapping"),
        ("", "empty"),
        ("targets: [a\n", "line"),
    ],
)
def test_limits_of_a_group(text: str, part: str) -> None:
    assert part in "; ".join(faults(parse_group, text))


KEYS = st.sampled_from(["ec2TagFilters", "Key", "targets", "alarmConfiguration", "alarms", "name", "revision", "x"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
@settings(max_examples=40, deadline=None)
def test_no_document_does_more_than_be_refused(value) -> None:
    for parse in (parse_group, parse_config, parse_request):
        with contextlib.suppress(InvalidDocument):
            parse(json.dumps(value))


# --- configurations --------------------------------------------------------------------------------------------------


LINEAR = "computePlatform: ECS\ntrafficRoutingConfig: {type: TimeBasedLinear, timeBasedLinear:"
CANARY = "computePlatform: ECS\ntrafficRoutingConfig: {type: TimeBasedCanary, timeBasedCanary:"


def test_the_predefined_ones_are_those_of_codedeploy_and_would_be_accepted() -> None:
    assert len(PREDEFINED) == 3 + 5 + 9
    assert set(DEFAULTS.values()) <= set(PREDEFINED)
    assert PREDEFINED["CodeDeployDefault.HalfAtATime"]["minimumHealthyHosts"] == {"type": "FLEET_PERCENT", "value": 50}
    assert PREDEFINED["CodeDeployDefault.ECSLinear10PercentEvery3Minutes"]["trafficRoutingConfig"] == {
        "type": "TimeBasedLinear",
        "timeBasedLinear": {"linearPercentage": 10, "linearInterval": 3},
    }
    for name, document in PREDEFINED.items():
        own = {key: value for key, value in document.items() if key != "maxConcurrent"}
        assert parse_config(json.dumps(own)).document == own, name


def test_a_configuration_of_one_s_own() -> None:
    parsed = parse_config(
        """\
deploymentConfigName: three-quarters
minimumHealthyHosts: {type: FLEET_PERCENT, value: 75}
zonalConfig:
  firstZoneMonitorDurationInSeconds: 600
  monitorDurationInSeconds: 60
  minimumHealthyHostsPerZone: {type: HOST_COUNT, value: 1}
"""
    )
    assert (parsed.name, parsed.platform) == ("three-quarters", "Server")
    assert parsed.document["zonalConfig"]["minimumHealthyHostsPerZone"] == {"type": "HOST_COUNT", "value": 1}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (
            "deploymentConfigName: CodeDeployDefault.Mine\nminimumHealthyHosts: {type: HOST_COUNT, value: 1}",
            "CodeDeploy's own",
        ),
        ("computePlatform: Server", "minimumHealthyHosts is missing"),
        ("minimumHealthyHosts: {type: FLEET_PERCENT, value: 100}", "0 to 99"),
        ("minimumHealthyHosts: {type: HOST_COUNT, value: -1}", "whole number"),
        ("minimumHealthyHosts: {value: 1}", "needs a type"),
        ("computePlatform: ECS\nminimumHealthyHosts: {type: HOST_COUNT, value: 1}", "for the platform Server"),
        ("computePlatform: ECS", "trafficRoutingConfig is missing"),
        ("computePlatform: ECS\ntrafficRoutingConfig: {type: TimeBasedCanary}", "timeBasedCanary"),
        (
            f"{LINEAR} {{linearPercentage: 10, linearInterval: 321}}}}",
            "at most 2880",
        ),
        (
            f"{CANARY} {{canaryPercentage: 100, canaryInterval: 1}}}}",
            "1 to 99",
        ),
    ],
)
def test_faults_of_a_configuration(text: str, part: str) -> None:
    assert part in "; ".join(faults(parse_config, text))


def test_the_longest_linear_shift_is_what_lies_between_the_first_and_the_last() -> None:
    text = f"{LINEAR} {{linearPercentage: 10, linearInterval: 320}}}}"
    assert parse_config(text).document["trafficRoutingConfig"]["timeBasedLinear"]["linearInterval"] == 320


# --- deployments -----------------------------------------------------------------------------------------------------

NAMED = "applicationName: shop\ndeploymentGroupName: prod\n"


def test_a_whole_request() -> None:
    parsed = parse_request(
        NAMED
        + """\
revision:
  revisionType: Package
  package: {repository: prod, format: generic, name: shop, version: "1.10", asset: shop.tar.gz}
deploymentConfigName: CodeDeployDefault.AllAtOnce
description: "Grüße \\U0001F600"
ignoreApplicationStopFailures: true
updateOutdatedInstancesOnly: no
fileExistsBehavior: RETAIN
skipEvents: [ApplicationStop]
bakeTimeInMinutes: 10
clientRequestToken: once
"""
    )
    assert parsed.revision == {
        "revisionType": "Package",
        "package": {
            "repository": "prod",
            "format": "generic",
            "name": "shop",
            "version": "1.10",
            "asset": "shop.tar.gz",
        },
    }
    assert parsed.options == {
        "ignoreApplicationStopFailures": True,
        "updateOutdatedInstancesOnly": False,
        "fileExistsBehavior": "RETAIN",
        "skipEvents": ["ApplicationStop"],
        "bakeTimeInMinutes": 10,
    }
    assert (parsed.config_name, parsed.request_token) == ("CodeDeployDefault.AllAtOnce", "once")
    assert parsed.description == "Grüße \U0001f600"


def test_json_s_two_escapes_are_one_character() -> None:
    text = json.dumps({"applicationName": "a", "deploymentGroupName": "b", "description": "\U0001f600 \\ud83d"})
    assert parse_request(text).description == "\U0001f600 \\ud83d"


def test_codedeploy_s_string_revision_is_an_appspec() -> None:
    parsed = parse_request(NAMED + "revision: {revisionType: String, string: {content: 'version: 0.0'}}")
    assert parsed.revision == {"revisionType": "AppSpecContent", "appSpecContent": {"content": "version: 0.0"}}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("revision: {revisionType: S3, s3Location: {bucket: b, key: k}}", "entrepot deploy push"),
        ("revision: {revisionType: GitHub, gitHubLocation: {repository: r}}", "build's artifact"),
        ("revision: {revisionType: Tape}", "revisionType is one of"),
        ("revision: {revisionType: Package, upload: {id: x}}", "has package, and no upload"),
        ("revision: {revisionType: Package, package: {name: x}}", "version is missing"),
        ("revision: {revisionType: Upload, upload: {id: x, sha256: abc}}", "is a SHA-256"),
        ("fileExistsBehavior: overwrite", "DISALLOW or OVERWRITE or RETAIN"),
        ("skipEvents: [Install]", "skipEvents[0]"),
        ("targetInstances: {}", "chooses no machines"),
        ("targetInstances: {autoScalingGroups: [a]}", "no auto-scaling groups"),
        ("description: " + "x" * 257, "256"),
        ("bakeTimeInMinutes: 2881", "0 to 2880"),
        ("isAdmin: true", "isAdmin is unknown"),
    ],
)
def test_faults_of_a_request(text: str, part: str) -> None:
    assert part in "; ".join(faults(parse_request, NAMED + text))


def test_a_request_names_its_group() -> None:
    assert faults(parse_request, "revision: {}") == [
        "line 1: applicationName is missing",
        "line 1: deploymentGroupName is missing",
        "line 1: revision.revisionType is one of Package, BuildArtifact, Upload, AppSpecContent, String",
    ]
