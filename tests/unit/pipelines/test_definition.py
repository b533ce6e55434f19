import json
import re
from types import SimpleNamespace

import pytest
import yaml

from hooks.pipelines.actions.commands import RUN
from hooks.pipelines.declaration import parse_documents
from hooks.pipelines.definition import BuildProjectDeclaration, PipelineDefinition, from_model, to_model
from hooks.pipelines.providers import PROVIDERS
from hooks.pipelines.variables import resolve
from registry.errors import Invalid, InvalidDocument

CAMEL = """\
pipeline:
  name: release
  roleArn: arn:aws:iam::1:role/x
  artifactStore: {type: S3, location: bucket}
  executionMode: PARALLEL
  pipelineType: V2
  variables:
  - name: Ring
    defaultValue: blue
    description: where to
  stages:
  - name: Source
    actions:
    - name: Package
      actionTypeId: {category: Source, owner: Entrepot, provider: Package, version: "1"}
      namespace: src
      outputArtifacts: [{name: App}]
      configuration: {Repository: "dev*", Format: fmt, Name: "acme-*", Version: "1.*", SettleSeconds: "5"}
  - name: Test
    actions:
    - name: Unit
      actionTypeId: {category: Test, owner: AWS, provider: CodeBuild, version: "1"}
      inputArtifacts: [{name: App}]
      namespace: tested
      configuration:
        ProjectName: tests
        EnvironmentVariables: '[{"name":"V","value":"#{src.Version}","type":"PLAINTEXT"}]'
    - name: Ask
      runOrder: 2
      timeoutInMinutes: 60
      actionTypeId: {category: Approval, provider: Manual}
      configuration: {CustomData: "#{tested.NOTES} #{variables.Ring}", NotByPublisher: "true"}
  - name: Ship
    actions:
    - name: Promote
      actionTypeId: {category: Deploy, provider: Promote}
      inputArtifacts: [{name: App}]
      configuration: {TargetRepository: staging}
  version: 3
"""


def parse(text):
    (declared,) = parse_documents(text, PROVIDERS)
    return declared.declares


def faults(text):
    with pytest.raises(InvalidDocument) as caught:
        parse_documents(text, PROVIDERS)
    return caught.value.faults


def pascal(node):
    """The same document as CloudFormation writes it: structure in PascalCase, configuration keys as they are."""
    if isinstance(node, list):
        return [pascal(item) for item in node]
    if isinstance(node, dict):
        return {k[0].upper() + k[1:]: (v if k == "configuration" else pascal(v)) for k, v in node.items()}
    return node


def changed(edit, base=CAMEL):
    document = yaml.safe_load(base)
    edit(document["pipeline"])
    # through JSON, or what stands there twice would become an anchor and an alias
    return yaml.safe_dump(json.loads(json.dumps(document)), sort_keys=False)


def test_the_whole_structure():
    definition = parse(CAMEL)
    assert isinstance(definition, PipelineDefinition)
    assert [stage.name for stage in definition.stages] == ["Source", "Test", "Ship"]
    assert definition.source.configuration["SettleSeconds"] == "5"
    ask = definition.stages[1].actions[1]
    assert (ask.run_order, ask.timeout_minutes, str(ask.type)) == (2, 60, "Approval / AWS / Manual")
    assert definition.stages[2].actions[0].inputs == ("App",)
    assert definition.variables[0].default == "blue"


@pytest.mark.parametrize(
    "text",
    [
        yaml.safe_dump(yaml.safe_load(CAMEL)["pipeline"]),
        yaml.safe_dump(pascal(yaml.safe_load(CAMEL))),
        yaml.safe_dump(pascal(yaml.safe_load(CAMEL)["pipeline"])),
        json.dumps(yaml.safe_load(CAMEL)),
        json.dumps(pascal(yaml.safe_load(CAMEL)), indent="\t"),
        json.dumps({**yaml.safe_load(CAMEL), "metadata": {"pipelineArn": "arn:x"}}, indent=1),
    ],
)
def test_every_spelling_is_the_same_definition(text):
    assert parse(text) == parse(CAMEL)


def test_the_model_brings_the_definition_back():
    definition = parse(CAMEL)
    assert from_model(json.loads(json.dumps(to_model(definition)))) == definition


@pytest.mark.parametrize("mode", ["SUPERSEDED", "QUEUED", "PARALLEL"])
def test_the_execution_mode_is_kept(mode):
    definition = parse(CAMEL.replace("PARALLEL", mode))
    assert definition.execution_mode == mode
    assert from_model(json.loads(json.dumps(to_model(definition)))) == definition


def test_a_definition_without_a_mode_runs_in_parallel():
    definition = parse(CAMEL.replace("  executionMode: PARALLEL\n", ""))
    assert definition.execution_mode == "PARALLEL"
    model = to_model(definition)
    del model["execution_mode"]  # as definitions were kept before there were modes
    assert from_model(model).execution_mode == "PARALLEL"


def test_json_text_keeps_its_characters():
    text = json.dumps(yaml.safe_load(changed(lambda p: p["variables"][0].update(description='\U0001f680 tab\t "q"'))))
    assert "\\ud83d" in text
    assert parse(text).variables[0].description == '\U0001f680 tab\t "q"'


def test_several_documents_keep_their_own_text():
    project = "buildProject:\n  name: tests\n  timeoutInMinutes: 30\n  buildspec: |\n    version: 0.2\n"
    project += "  environment: {network: none, variables: {A: '1'}}\n"
    declared = parse_documents(f"{project}---\n{CAMEL}---\n# nothing\n", PROVIDERS)
    assert [type(item.declares) for item in declared] == [BuildProjectDeclaration, PipelineDefinition]
    assert declared[0].declares == BuildProjectDeclaration("tests", "version: 0.2\n", {"A": "1"}, "none", 30)
    assert (declared[0].text, declared[1].text) == (project, CAMEL)
    assert parse_documents(CAMEL, PROVIDERS)[0].text == CAMEL


def test_lines_count_in_the_whole_file():
    text = f"# head\n---\n{CAMEL}---\nname: second\nstages: []\n"
    found = faults(text)
    assert found == [f"line {text.count(chr(10))}: pipeline: 0 stages; a pipeline has 2 to 50"]


def test_all_faults_at_once_each_with_its_line():
    text = """\
name: "bad name"
roleArn: x
executionMode: SLOW
triggers: [{providerType: CodeStarSourceConnection}]
colour: red
stages:
- name: First
  actions:
  - name: S
    actionTypeId: {category: Source, provider: Package}
    namespace: variables
    outputArtifacts: [{name: App}]
    configuration: {Repository: "#{x.y}", Format: fmt, Name: "a|b", SettleSeconds: 3, Branch: main}
  - name: B
    actionTypeId: {category: Build, provider: CodeBuild}
    configuration: {ProjectName: p}
- name: First
  onFailure: {result: SHRUG}
  actions:
  - name: A
    runOrder: 0
    actionTypeId: {category: Approval, provider: Manual}
    inputArtifacts: [{name: App}]
    configuration: {ExternalEntityLink: "javascript:alert(1)", NotByPublisher: "yes"}
  - name: A
    actionTypeId: {category: Deploy, provider: CloudFormation}
  - name: C
    timeoutInMinutes: 10
    actionTypeId: {category: Build, owner: AWS, provider: CodeBuild, version: "2"}
    region: eu-west-1
  - name: D
    actionTypeId: {category: Test, provider: CodeBuild}
    inputArtifacts: [{name: Nowhere}]
    outputArtifacts: [{name: B1}, {name: B2}, {name: B3}, {name: B4}, {name: B5}, {name: B6}]
    configuration: {EnvironmentVariables: '[{"name":"A","value":"1","type":"VAULT"}]'}
"""
    found = faults(text)
    expected = [
        (1, "pipeline: name 'bad name' must match"),
        (3, "executionMode must be one of PARALLEL, SUPERSEDED, QUEUED"),
        (4, "gitConfiguration is missing"),
        (5, "unknown key 'colour'"),
        (11, "namespace 'variables' is reserved"),
        (13, 'SettleSeconds must be text: write it in quotes, "3"'),
        (13, "a Source action cannot use variables"),
        (13, "no regular expression"),
        (13, "does not carry out the setting 'Branch'"),
        (14, "First/B: Build action in the first stage"),
        (17, "another stage has this name"),
        (18, "onFailure: result 'SHRUG' is none of ROLLBACK, RETRY"),
        (20, "the stage has this name twice"),
        (21, "runOrder must be a whole number from 1 to 999"),
        (20, "1 input artifacts; Manual has 0"),
        (24, "not an http or https address"),
        (24, "neither 'true' nor 'false'"),
        (26, "Deploy / ? / CloudFormation / 1 is not carried out"),
        (29, "Build / AWS / CodeBuild / 2 is not carried out"),
        (30, "'region' is not carried out"),
        (31, "configuration ProjectName is missing"),
        (31, "6 output artifacts; CodeBuild has 0 to 5"),
        (33, "no action makes the input artifact 'Nowhere'"),
        (35, "VAULT"),
    ]
    for line, part in expected:
        assert any(f.startswith(f"line {line}: ") and part in f for f in found), (line, part, found)
    assert [int(re.match(r"line (\d+)", f)[1]) for f in found] == sorted(
        int(re.match(r"line (\d+)", f)[1]) for f in found
    )
    assert len(found) == len(set(found))


def stage(p, index):
    return p["stages"][index]


def action(p, i, j):
    return p["stages"][i]["actions"][j]


def test_all_faults_of_a_deployment_are_told_at_once():
    def edit(p):
        action(p, 2, 0).update(
            actionTypeId={"category": "Deploy", "provider": "CodeDeploy"},
            configuration={"ApplicationName": "a b", "Asset": "x/[y]", "SourceRepository": "-", "Where": "x"},
            inputArtifacts=[{"name": "App"}, {"name": "Nobody"}],
            outputArtifacts=[{"name": "More"}],
            timeoutInMinutes=4,
        )

    found = "\n".join(faults(changed(edit)))
    for told in (
        "ApplicationName: 'a b': a name has 1 to 100",
        "configuration DeploymentGroupName is missing",
        "Asset: 'x/[y]' is no pattern",
        "configuration SourceRepository: repository name",
        "does not carry out the setting 'Where' (known: ApplicationName, DeploymentGroupName, SourceRepository, Asset)",
        "2 input artifacts; CodeDeploy has 0 to 1",
        "1 output artifacts; CodeDeploy has 0",
        "no action makes the input artifact 'Nobody'",
        "from 5 to 86400",
    ):
        assert told in found, (told, found)


def test_what_is_said_of_the_version_is_refused_for_the_artifact_of_a_build():
    def edit(p, handed="Made"):
        action(p, 1, 0)["outputArtifacts"] = [{"name": "Made"}]
        action(p, 2, 0).update(
            actionTypeId={"category": "Deploy", "provider": "CodeDeploy"},
            configuration={"ApplicationName": "shop", "DeploymentGroupName": "prod", "Asset": "*.tgz"},
            inputArtifacts=[{"name": handed}],
        )

    (fault,) = faults(changed(edit))
    assert "configuration Asset is about the package version" in fault
    parse(changed(lambda p: edit(p, "App")))


def commanded(**more):
    """An edit that makes the promotion of the document an action that runs commands."""

    def edit(p):
        made = {"category": "Compute", "provider": "Commands"}
        action(p, 2, 0).pop("configuration")
        action(p, 2, 0).update({"actionTypeId": made, "commands": ["make"], **more})

    return edit


def test_commands_are_kept_with_what_they_need():
    variables = [{"name": "V", "value": "#{src.Version}", "type": "PLAINTEXT"}]
    outputs = [{"name": "Made", "files": ["dist/**/*"]}]
    text = changed(commanded(environmentVariables=variables, outputVariables=["OUT"], outputArtifacts=outputs))
    found = parse(text).stages[2].actions[0]
    assert {name: json.loads(value) for name, value in found.configuration.items()} == {
        "Commands": ["make"], "OutputVariables": ["OUT"], "EnvironmentVariables": variables, "OutputFiles": ["dist/**/*"],
    }  # fmt: skip
    assert (found.inputs, found.outputs) == (("App",), ("Made",))
    document = pascal(yaml.safe_load(text))
    assert parse(yaml.safe_dump(document)) == parse(text)


def test_a_variable_in_the_names_of_files_adds_none():
    settings = {setting.name for setting in RUN.provider.settings if setting.is_json}
    written = json.dumps(["out/#{made.NAME}", "more"])
    found = resolve({"OutputFiles": written}, {"made": {"NAME": 'a","/b'}}, settings)
    assert json.loads(found["OutputFiles"]) == ['out/a","/b', "more"]
    with pytest.raises(Invalid, match="OutputFiles is no JSON"):
        RUN.start(None, SimpleNamespace(configuration={"OutputFiles": '["a" b"]'}))


def test_all_faults_of_commands_are_told_at_once():
    def edit(p):
        commanded(
            commands=["echo #{src.Version}", "two\nlines", " "],
            configuration={"ProjectName": "x"},
            environmentVariables=[{"name": "A-B", "value": "1"}, {"name": "C", "value": "#{nobody.X}"}],
            outputVariables=["OUT", "OUT", "#{x.y}"],
            outputArtifacts=[{"name": "Made"}],
            timeoutInMinutes=5000,
        )(p)

    found = "\n".join(faults(changed(edit)))
    for told in (
        "variables are not written into commands",
        "a command is one line of text",
        "a Compute action has no configuration",
        "'A-B' is not the name of an environment variable",
        "no action has the namespace 'nobody'",
        "outputVariables: 'OUT' is there twice",
        "an output artifact needs its files",
        "from 5 to 2160",
    ):
        assert told in found, (told, found)


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda p: p.pop("name"), "name is missing"),
        (lambda p: p.pop("stages"), "stages are missing"),
        (lambda p: p["stages"].pop(), None),
        (lambda p: p.update(stages=p["stages"][:1]), "a pipeline has 2 to 50"),
        (lambda p: stage(p, 1).update(name="x" * 101), "must match"),
        (lambda p: stage(p, 1).update(name="a b"), "must match"),
        (lambda p: stage(p, 1).update(name="a\nb"), "must match"),
        (lambda p: stage(p, 1).update(name=None), "must be text"),
        (lambda p: stage(p, 1).update(name=[1]), "must be text"),
        (lambda p: stage(p, 1).update(actions=[]), "a stage has 1 to 50"),
        (lambda p: stage(p, 1).update(actions="x"), "must be a list"),
        (lambda p: stage(p, 0)["actions"].append({**action(p, 0, 0), "name": "Two", "namespace": "n2"}), "a second Source"),
        (lambda p: stage(p, 2)["actions"].append(action(p, 0, 0)), "Source action outside the first stage"),
        (lambda p: p["stages"].reverse(), "outside the first stage"),
        (lambda p: action(p, 1, 0).update(namespace="src"), "already that of action Source/Package"),
        (lambda p: action(p, 1, 0).update(namespace="App"), "also the name of an artifact"),
        (lambda p: action(p, 1, 0).update(namespace="codepipeline"), "is reserved"),
        (lambda p: action(p, 1, 0).update(namespace="a.b"), "must match"),
        (lambda p: action(p, 1, 0).update(runOrder=1000), "from 1 to 999"),
        (lambda p: action(p, 1, 0).update(runOrder="two"), "from 1 to 999"),
        (lambda p: action(p, 1, 0).update(runOrder=True), "from 1 to 999"),
        (lambda p: action(p, 1, 0).update(timeoutInMinutes=5), "have no timeoutInMinutes"),
        (lambda p: action(p, 1, 1).update(timeoutInMinutes=4), "from 5 to 86400"),
        (lambda p: action(p, 1, 1).update(runOrder=1), "tested.NOTES}: action Test/Unit has not certainly ended before"),
        (lambda p: action(p, 1, 1)["configuration"].update(CustomData="#{src.Colour}"), "Source/Package sets Digest"),
        (lambda p: action(p, 1, 1)["configuration"].update(CustomData="#{nobody.X}"), "no action has the namespace"),
        (lambda p: action(p, 1, 1)["configuration"].update(CustomData="#{variables.No}"), "declares no variable"),
        (lambda p: action(p, 1, 1)["configuration"].update(CustomData="#{codepipeline.Id}"), "PipelineExecutionId"),
        (lambda p: action(p, 1, 1)["configuration"].update(CustomData="#{src Name}"), "must begin a reference"),
        (lambda p: action(p, 1, 1)["configuration"].update(CustomData="x" * 1001), "at most 1000"),
        (lambda p: action(p, 1, 1)["configuration"].update({"k" * 51: "x"}), "1 to 50 characters"),
        (lambda p: action(p, 1, 1)["configuration"].update(NotByPublisher=True), "write it in quotes"),
        (lambda p: action(p, 1, 1)["configuration"].update(CustomData=["a"]), "must be text"),
        (lambda p: action(p, 1, 1)["configuration"].update(NotificationArn="x"), "does not carry out the setting"),
        (lambda p: action(p, 1, 0).update(inputArtifacts=[{"name": "App"}, {"name": "App"}]), "is there twice"),
        (lambda p: action(p, 1, 0).update(commands=["make"]), "'commands' is not carried out"),
        (lambda p: action(p, 1, 0).update(environmentVariables=[{"name": "A"}]), "'environmentVariables' is not carried"),
        (lambda p: action(p, 1, 0).update(actionTypeId={"category": "Build"}), "needs provider"),
        (lambda p: action(p, 1, 0).pop("actionTypeId"), "actionTypeId is missing"),
        (lambda p: action(p, 1, 0)["actionTypeId"].update(owner="Custom"), "is not carried out by this release"),
        (lambda p: action(p, 1, 0)["configuration"].update(EnvironmentVariables="{}"), "not a JSON list"),
        (lambda p: action(p, 1, 0)["configuration"].update(EnvironmentVariables='[{"name":"#{src.Name}","value":""}]'), "not the name"),
        (lambda p: action(p, 2, 0)["configuration"].update(TargetRepository="-x"), "repository name"),
        (lambda p: action(p, 0, 0)["configuration"].pop("Repository"), "configuration Repository is missing"),
        (lambda p: action(p, 0, 0)["configuration"].update(Repository="acme/dev"), "the domain stands in Domain"),
        (lambda p: action(p, 0, 0)["configuration"].update(SettleSeconds="-1"), "whole number of seconds"),
        (lambda p: action(p, 0, 0)["configuration"].update(Name="a[bc]"), "no regular expression"),
        (lambda p: action(p, 0, 0)["configuration"].update(Domain="X"), "domain name"),
        (lambda p: p.update(executionMode="FAST"), "must be one of"),
        (lambda p: p.update(pipelineType="V1"), "variables need pipelineType V2"),
        (lambda p: p.update(artifactStores={}), "exclude each other"),
        (lambda p: p["artifactStore"].update(encryptionKey={"id": "k", "type": "KMS"}), "'encryptionKey' is not carried"),
        (lambda p: p["variables"].append({"name": "Ring"}), "declared twice"),
        (lambda p: p["variables"].append({"name": "a b"}), "must match"),
        (lambda p: p.update(variables=[{"name": f"v{i}"} for i in range(51)]), "at most 50"),
        (lambda p: stage(p, 1).update(onSuccess={}, blockers=[]), None),
        (lambda p: p.update(triggers=[]), None),
    ],
)  # fmt: skip
def test_each_rule(edit, expected):
    text = changed(edit)
    if expected is None:
        parse(text)
    else:
        found = faults(text)
        assert any(expected in fault for fault in found), found
        assert all(re.match(r"line \d+: ", fault) for fault in found)


def test_an_output_made_twice_and_an_input_made_too_late():
    text = changed(
        lambda p: (action(p, 0, 0).pop("outputArtifacts"), action(p, 2, 0).update(outputArtifacts=[{"name": "App"}]))
    )
    found = faults(text)
    assert any("Ship/Promote, which makes 'App', has not certainly ended before" in fault for fault in found)
    text = changed(lambda p: action(p, 1, 0).update(outputArtifacts=[{"name": "App"}]))
    assert any("already made by action Source/Package" in fault for fault in faults(text))


def test_the_limits_of_size():
    many = changed(
        lambda p: stage(p, 1).update(
            actions=[{**action(p, 1, 1), "name": f"a{i}", "configuration": {}} for i in range(51)]
        )
    )
    assert any("51 actions; a stage has 1 to 50" in fault for fault in faults(many))
    stages = changed(lambda p: p.update(stages=p["stages"][:1] + [{**stage(p, 2), "name": f"s{i}"} for i in range(50)]))
    assert any("51 stages" in fault for fault in faults(stages))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the document is empty"),
        ("# only a comment\n", "the document is empty"),
        ("a: [1\n", "line 2:"),
        ('{"a": \n', "line 2:"),
        ("a: &x [1]\nb: *x\n", "anchors and aliases"),
        ("%YAML 1.1\n---\na: 1\n", "%-directives"),
        ("[" * 5000, "nested deeper"),
        ('{"a":' * 5000, "nested deeper"),
        ("- 1\n", "must be a mapping"),
        ("name: \x01\n", "a character that is not allowed"),
        ("x" * 1_000_001, "longer than"),
        ("pipeline:\n", "must be a mapping"),
        ("stages:\n- x\n", "stage must be a mapping"),
        ("name: a\nname: b\nstages: []\n", "key 'name' is there twice"),
        ("? [a]\n: b\n", "unknown key '?'"),
        ("buildProject: {name: t, image: x}\n", "unknown key 'image'"),
        ("buildProject: {environment: {variables: {A B: '1'}}}\n", "letters, digits"),
        ("buildProject: {name: t, timeoutInMinutes: 1}\n", "from 5 to 2160"),
        ("buildProject: {name: t}\n---\nbuildProject: {name: t}\n", "declared twice"),
        ("buildProject: {name: t, buildspec: {version: 0.2}}\n", "must be text"),
    ],
)
def test_what_is_no_document(text, expected):
    found = faults(text)
    assert any(expected in fault for fault in found), found
    assert all(re.match(r"line \d+: ", fault) for fault in found)


def test_environment_variables_of_a_project_as_codebuild_lists_them():
    text = "buildProject: {name: t, environment: {variables: [{name: A, value: 'x', type: PLAINTEXT}]}}"
    assert parse(text).variables == {"A": "x"}
    assert parse(text.replace("PLAINTEXT", "PARAMETER_STORE")).variables == {
        "A": {"type": "PARAMETER_STORE", "value": "x"}
    }
    assert any("VAULT" in f for f in faults(text.replace("PLAINTEXT", "VAULT")))
