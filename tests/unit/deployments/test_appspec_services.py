"""appspec.yaml for services: what people's files have, what is refused and why, every fault with its line."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hooks.deployments.appspec_services import ServiceSpec, parse_service_spec
from registry.errors import InvalidDocument

USUAL = """version: 0.0
Resources:
  - TargetService:
      Type: AWS::ECS::Service
      Properties:
        TaskDefinition: "arn:aws:ecs:us-east-1:111122223333:task-definition/shop:7"
        LoadBalancerInfo:
          ContainerName: "app"
          ContainerPort: 8080
Hooks:
  - BeforeInstall: "migrate"
  - AfterAllowTestTraffic: "arn:aws:lambda:us-east-1:111122223333:function:smoke"
"""


def faults(text: str) -> list[str]:
    with pytest.raises(InvalidDocument) as caught:
        parse_service_spec(text)
    return caught.value.faults


def test_the_usual_document():
    spec = parse_service_spec(USUAL)
    assert (spec.container_name, spec.container_port, spec.family, spec.warnings) == ("app", 8080, "shop", ())
    assert spec.hooks == {
        "BeforeInstall": "migrate",
        "AfterAllowTestTraffic": "arn:aws:lambda:us-east-1:111122223333:function:smoke",
    }


@pytest.mark.parametrize(
    "text",
    [
        USUAL.replace("version: 0.0\n", ""),
        USUAL.replace("version: 0.0", "version: 1.0"),
        USUAL.replace("version: 0.0", 'version: "0.0"'),
        USUAL.replace("8080", '"8080"'),
        USUAL.replace("Resources", "resources").replace("TaskDefinition:", "taskDefinition:").replace("Type:", "type:"),
        USUAL.replace("ContainerName", "containerName").replace("Hooks", "hooks"),
        USUAL.replace("TargetService", "myService"),
        USUAL.replace("  - BeforeInstall", "  - LifeCycleEvent: ''\n  - BeforeInstall"),
        USUAL.replace("        LoadBalancer", "        PlatformVersion: LATEST\n        LoadBalancer"),
        "\ufeff" + USUAL,
    ],
)
def test_what_files_in_use_have(text: str):
    spec = parse_service_spec(text)
    assert (spec.container_name, spec.container_port, sorted(spec.hooks)) == (
        "app",
        8080,
        ["AfterAllowTestTraffic", "BeforeInstall"],
    )


def test_json_without_version_indented_by_tabs():
    document = {
        "Resources": [
            {
                "TargetService": {
                    "Type": "AWS::ECS::Service",
                    "Properties": {
                        "TaskDefinition": "<TASK_DEFINITION>",
                        "LoadBalancerInfo": {"ContainerName": "app", "ContainerPort": "80"},
                    },
                }
            }
        ]
    }
    spec = parse_service_spec(json.dumps(document, indent="\t"))
    assert (spec.container_port, spec.family, spec.hooks) == (80, "", {})


def test_what_has_no_effect_is_told():
    text = USUAL.replace(
        "        LoadBalancer", "        CapacityProviderStrategy: []\n        Colour: red\n        LoadBalancer"
    )
    assert parse_service_spec(text).warnings == (
        "line 7: CapacityProviderStrategy has no effect here: the container host is the group's",
        "line 8: TargetService.Properties.colour is unknown and is ignored",
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("version: 0.0\nos: linux\nfiles: []\n", "line 1: this appspec is for servers"),
        (
            '{"settings": [{"id": "x"}]}',
            "line 1: this is no appspec of deployments: it has no Resources; other programs",
        ),
        ("- a", "is a mapping with"),
        (USUAL.replace("AWS::ECS::Service", "AWS::Lambda::Function"), "this appspec is for Lambda"),
        (
            USUAL.replace("AWS::ECS::Service", "AWS::ECS::Task"),
            "line 4: TargetService.Type has to be AWS::ECS::Service",
        ),
        (USUAL.replace("0.0", "2.0"), "line 1: version '2.0' is unknown"),
        (USUAL.replace("8080", "${PORT}"), "line 9: ContainerPort '${PORT}' is a place for a value that nobody has"),
        (USUAL.replace('"app"', "<container>"), "line 8: ContainerName '<container>' is a place"),
        (USUAL.replace("8080", "70000"), "line 9: ContainerPort '70000' has to be 1 to 65535"),
        (USUAL.replace("          ContainerPort: 8080\n", ""), "ContainerPort is missing"),
        (USUAL.replace("BeforeInstall", "Install"), "no hook runs in this event"),
        (
            USUAL.replace("BeforeInstall", "ValidateService"),
            "line 11: Hooks.ValidateService: there is no such lifecycle",
        ),
        (USUAL + "  - BeforeInstall: again\n", "line 13: Hooks.BeforeInstall stands here twice"),
        (USUAL.replace("Resources:\n", "Resources:\n  - Other: {}\n"), "Resources has to have one entry"),
        (USUAL + "resources: []\n", "stands here twice, in other letters"),
    ],
)
def test_what_is_refused(text: str, told: str):
    assert any(told in fault for fault in faults(text)), faults(text)


def test_all_faults_come_at_once():
    text = USUAL.replace("8080", "no").replace('"app"', '""').replace("BeforeInstall", "Nothing")
    assert [fault.split(":")[0] for fault in faults(text)] == ["line 8", "line 9", "line 11"]


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.sampled_from("Rresouc:-{}[]\n &*<'\"0T"), max_size=60), st.integers(0, len(USUAL)))
def test_whatever_is_written_is_read_or_refused(noise: str, place: int):
    with contextlib.suppress(InvalidDocument):
        assert isinstance(parse_service_spec(USUAL[:place] + noise + USUAL[place:]), ServiceSpec)
