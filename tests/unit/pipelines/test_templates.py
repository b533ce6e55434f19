"""CloudFormation's AWS::CodePipeline::Pipeline: the same pipeline as in CodePipeline's own words."""

from __future__ import annotations

import json

import pytest
import yaml

from hooks.pipelines.actions import PROVIDERS
from hooks.pipelines.declaration import parse_documents
from registry.errors import InvalidDocument
from tests.unit.pipelines.test_definition import CAMEL, pascal

OWN = yaml.safe_load(CAMEL)["pipeline"]
GIT = """
Name: site
RoleArn: arn:aws:iam::1:role/x
PipelineType: V2
ArtifactStores:
- {Region: eu-central-1, ArtifactStore: {Type: S3, Location: bucket}}
Tags: [{Key: team, Value: web}]
Triggers:
- ProviderType: CodeStarSourceConnection
  GitConfiguration:
    SourceActionName: App
    Push: [{Branches: {Includes: [main], Excludes: [wip]}, FilePaths: {Includes: [src/**]}}, {Tags: {Includes: [v*]}}]
    PullRequest: [{Events: [OPEN], Branches: {Includes: [main]}}]
Stages:
- Name: Source
  Actions:
  - Name: App
    ActionTypeId: {Category: Source, Owner: AWS, Provider: CodeStarSourceConnection, Version: "1"}
    Configuration: {ConnectionArn: "arn:aws:codeconnections:x:1:connection/forge", FullRepositoryId: a/b, BranchName: main}
    OutputArtifacts: [{Name: App}]
- Name: Look
  Actions:
  - Name: Look
    ActionTypeId: {Category: Compute, Owner: AWS, Provider: Commands, Version: "1"}
    InputArtifacts: [{Name: App}]
    Commands: [ls]
    TimeoutInMinutes: 5
"""


def template(properties: object, **more: object) -> str:
    resources = {"Site": {"Type": "AWS::CodePipeline::Pipeline", "DependsOn": "Role", "Properties": properties}, **more}
    return json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Description": "x", "Resources": resources})


def test_a_resource_is_the_same_definition() -> None:
    (own,) = parse_documents(CAMEL, PROVIDERS)
    properties = pascal(OWN)
    role = {"Type": "AWS::IAM::Role", "Properties": {"Anything": {"Fn::Sub": "x"}}}
    (declared,) = parse_documents(template(properties, Role=role), PROVIDERS)
    assert declared.declares == own.declares
    assert "Role (AWS::IAM::Role) is no pipeline, and has no effect" in declared.warnings[0]
    (alone,) = parse_documents(json.dumps({"Type": "AWS::CodePipeline::Pipeline", "Properties": properties}), PROVIDERS)
    assert alone.declares == own.declares
    del properties["Name"]
    (named,) = parse_documents(template(properties), PROVIDERS)
    assert named.declares.name == "Site"


def test_what_has_no_effect_is_told() -> None:
    (declared,) = parse_documents(GIT, PROVIDERS)
    told = [warning.partition(": ")[2].partition(" ")[0] for warning in declared.warnings]
    assert told == ["artifactStores", "roleArn", "tags"]
    (trigger,) = declared.declares.triggers
    assert (trigger.push[0].branches.excludes, trigger.push[0].file_paths.includes) == (("wip",), ("src/**",))
    assert (trigger.push[1].tags.includes, trigger.pull_request[0].events) == (("v*",), ("OPEN",))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (GIT.replace("Name: site", "Name: !Ref Site"), "line 2: !Ref is not resolved here"),
        (GIT.replace("Name: site", "Name: {Ref: Site}"), "name must be text"),
        (GIT.replace("ArtifactStores:\n", "ArtifactStore: {Type: S3}\nArtifactStores:\n"), "exclude each other"),
        (
            GIT.replace("Tags: [{Key", "RestartExecutionOnUpdate: true\nTags: [{Key"),
            "'RestartExecutionOnUpdate' is not",
        ),
        (template({"Stages": []}), "0 stages"),
        (json.dumps({"Resources": {"A": {"Type": "AWS::S3::Bucket"}}}), "it has no AWS::CodePipeline::Pipeline"),
        (json.dumps({"Resources": {"A": {"Type": "AWS::CodePipeline::Pipeline"}}}), "Properties are missing"),
        (json.dumps({"Resources": {}, "Colour": 1}), "unknown key 'Colour'"),
    ],
)
def test_what_is_no_pipeline_of_ours_is_refused(text: str, fault: str) -> None:
    with pytest.raises(InvalidDocument, match=fault):
        parse_documents(text, PROVIDERS)
