"""Pipelines hand over artifacts: what one build leaves is the source of another, through the real sandbox and the real store."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select

from config import wiring
from hooks.builds.access import ACCOUNT
from hooks.builds.records import QUEUE
from hooks.jobs import claims
from hooks.jobs.attempt import Attempt
from hooks.models import BuildArtifact
from tests.build_bench import MISSING_SANDBOX, tar_of
from tests.build_outputs import OutputWorld, output_world

pytestmark = pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX)
HEAD = """
pipeline:
  name: {name}
  stages:
  - name: Source
    actions:
    - name: Source
      actionTypeId: {{category: Source, owner: Entrepot, provider: Package, version: "1"}}
      configuration: {{Repository: dev, Format: generic, Name: {name}-src}}
      outputArtifacts: [{{name: Src}}]
  - name: Build
    actions:
"""
ACTION = """
    - name: {name}
      runOrder: {order}
      actionTypeId: {{category: Build, owner: AWS, provider: CodeBuild, version: "1"}}
      configuration: {{ProjectName: {project}{more}}}
      inputArtifacts: {inputs}
      outputArtifacts: {outputs}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OutputWorld]:
    with output_world(tmp_path_factory.mktemp("line")) as made:
        yield made


def project(world: OutputWorld, name: str, spec: dict[str, Any], **more: Any) -> None:
    document = {
        "name": name, "repository": "dev", "environment": {"network": "none"},
        "source": {"type": "CODEPIPELINE", "buildspec": json.dumps({"version": "0.2", **spec})}, **more,
    }  # fmt: skip
    done = world.call("PUT", f"/build-projects/{name}", json={"document": json.dumps(document)})
    assert done.status_code == 200, done.text


def action(name: str, order: int, inputs: list[str], outputs: list[str], project: str = "", more: str = "") -> str:
    listed = [json.dumps([{"name": each} for each in names]) for names in (inputs, outputs)]
    return ACTION.format(
        name=name, order=order, project=project or name.lower(), more=more, inputs=listed[0], outputs=listed[1]
    )


def run(world: OutputWorld, name: str, *actions: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Apply the pipeline, publish what it is about, and work until nothing is left: the execution, and its builds' logs."""
    done = world.call("PUT", "/pipelines", json={"document": HEAD.format(name=name) + "".join(actions)})
    assert done.status_code < 300, done.text
    body = tar_of({"hello.txt": b"from the package\n"})
    sent = world.http.put(
        f"/generic/default/dev/{name}-src/1.0/src.tar.gz", data=body,
        headers={"Authorization": f"Bearer {world.tokens['admin']}"},
    )  # fmt: skip
    assert sent.status_code == 201, sent.text
    start = {
        "package": {
            "domain": "default",
            "repository": "dev",
            "format": "generic",
            "name": f"{name}-src",
            "version": "1.0",
        }
    }
    started = world.call("POST", f"/pipelines/{name}/executions", json=start)
    if started.status_code >= 300:
        started = world.call("POST", f"/pipelines/{name}/executions", json=start["package"])
    assert started.status_code < 300, started.text
    tables = [
        wiring.general_jobs(world.hooks.actions),
        wiring.build_jobs(world.settings, world.services, world.hooks.actions),
        wiring.combining_jobs(world.settings, world.services, world.hooks.actions),
    ]
    handlers = {kind: handler for table in tables for kind, handler in table.handlers.items()}
    settle = {kind: ends for table in tables for kind, ends in table.settle.items()}
    while True:
        with world.db.write() as session:
            jobs = claims.claim(
                session, owner="w", queues=[QUEUE, "default"], kinds=list(handlers), free=1, lease_seconds=600
            )
        if not jobs:
            break
        for job in jobs:
            Attempt(
                world.db, job, handler=handlers[job.kind], settle=settle.get(job.kind), lease_seconds=600,
                first_retry_seconds=600,
            ).run()  # fmt: skip
    (found,) = world.call("GET", f"/pipelines/{name}/executions").json["items"]
    execution = world.call("GET", f"/executions/{found['id']}").json
    logs = {}
    for stage in execution["stages"]:
        for each in stage["actions"]:
            if each.get("buildId"):
                logs[each["name"]] = world.call("GET", f"/builds/{each['buildId']}/log").text
    return execution, logs


def test_commands_run_without_a_project_and_hand_on_files_and_variables(world: OutputWorld) -> None:
    make = """
    - name: Make
      actionTypeId: {category: Compute, owner: AWS, provider: Commands, version: "1"}
      namespace: made
      inputArtifacts: [{name: Src}]
      environmentVariables: [{name: WHO, value: "#{codepipeline.PipelineExecutionId}; false"}]
      commands:
      - grep package hello.txt
      - export GREETING="hello $WHO"
      - echo "$GREETING" >greeting
      outputVariables: [GREETING]
      outputArtifacts: [{name: Greeting, files: [greeting]}]
"""
    use = """
    - name: Use
      runOrder: 2
      actionTypeId: {category: Compute, provider: Commands}
      inputArtifacts: [{name: Greeting}, {name: Src}]
      environmentVariables: [{name: TOLD, value: "#{made.GREETING}"}]
      commands:
      - test "$(cat greeting)" = "$TOLD"
      - test -f "$CODEBUILD_SRC_DIR_Src/hello.txt"
"""
    world.account(ACCOUNT, "read")  # as the first start of a server makes it
    execution, logs = run(world, "commanded", make, use)
    assert execution["status"] == "Succeeded", (execution, logs)
    made, used = execution["stages"][1]["actions"]
    assert made["outputVariables"] == {"GREETING": f"hello {execution['id']}; false"}
    builds = [world.call("GET", f"/builds/{each['buildId']}").json for each in (made, used)]
    assert {build["project"] for build in builds} == {"pipeline-commands"}
    assert {build["initiator"] for build in builds} == {"codepipeline/commanded"}

    # Whoever may change projects of a repository does not choose where commands of pipelines run.
    project(world, "pipeline-commands", {"phases": {"build": {"commands": ["true"]}}})
    refused, _ = run(world, "refused", make)
    (made,) = refused["stages"][1]["actions"]
    assert (made["status"], made["buildId"]) == ("Failed", None)
    assert "belongs to a repository" in made["summary"]


def test_builds_hand_on_what_they_left(world: OutputWorld) -> None:
    """One output is the primary artifact, several are the secondary ones of their names; a single directory stays."""
    project(
        world, "make",
        {"phases": {"build": {"commands": ["grep package hello.txt", "mkdir -p only/bin", "echo made >only/bin/tool"]}},
         "artifacts": {"files": ["only/**/*"]}},
        artifacts={"type": "NO_ARTIFACTS"},  # a pipeline's builds are CODEPIPELINE, whatever the project says
    )  # fmt: skip
    project(
        world, "split",
        {"phases": {"build": {"commands": [
            "grep made only/bin/tool", "grep package $CODEBUILD_SRC_DIR_Src/hello.txt", "echo one >one", "echo two >two"]}},
         "artifacts": {"secondary-artifacts": {"One": {"files": ["one"]}, "Two": {"files": ["two"]}}}},
    )  # fmt: skip
    project(
        world, "join",
        {"phases": {"build": {"commands": ["grep two two", "grep one $CODEBUILD_SRC_DIR_One/one", "test ! -e one"]}}},
    )  # fmt: skip
    execution, logs = run(
        world, "line",
        action("Make", 1, ["Src"], ["Made"]),
        action("Split", 2, ["Src", "Made"], ["One", "Two"], more=", PrimarySource: Made"),
        action("Join", 3, ["One", "Two"], [], more=", PrimarySource: Two"),
    )  # fmt: skip
    assert execution["status"] == "Succeeded", "\n".join(logs.values())
    assert set(logs) == {"Make", "Split", "Join"}
    with world.db.read() as session:
        kept = set(session.scalars(select(BuildArtifact.identifier)))
    assert kept == {"primary", "One", "Two"}


def test_a_build_that_does_not_leave_what_it_was_to_hand_on_has_failed(world: OutputWorld) -> None:
    project(world, "idle", {"phases": {"build": {"commands": ["true"]}}})
    execution, _ = run(
        world, "nothing", action("Idle", 1, ["Src"], ["Made"]), action("After", 2, ["Made"], [], project="idle")
    )
    assert execution["status"] == "Failed"
    idle, after = execution["stages"][1]["actions"]
    assert (idle["status"], after["status"]) == ("Failed", None)
    assert "it left no artifact Made" in idle["summary"]


def test_a_batch_hands_on_what_its_builds_left_combined(world: OutputWorld) -> None:
    command = 'echo "$CODEBUILD_BATCH_BUILD_IDENTIFIER" >"$CODEBUILD_BATCH_BUILD_IDENTIFIER.txt"'
    tasks = [{"identifier": "one"}, {"identifier": "two"}]
    project(
        world, "wide",
        {"batch": {"build-list": tasks}, "phases": {"build": {"commands": [command]}}, "artifacts": {"files": ["*.txt"]}},
    )  # fmt: skip
    project(world, "after", {"phases": {"build": {"commands": ["grep one one.txt", "grep two two.txt"]}}})
    execution, _ = run(
        world, "batched",
        action("Wide", 1, ["Src"], ["Made"], more=', BatchEnabled: "true", CombineArtifacts: "true"'),
        action("After", 2, ["Made"], []),
    )  # fmt: skip
    assert execution["status"] == "Succeeded", execution


def test_several_inputs_need_a_primary_one(world: OutputWorld) -> None:
    document = HEAD.format(name="many") + action("A", 1, ["Src"], ["Made"]) + action("B", 2, ["Src", "Made"], [])
    refused = world.call("PUT", "/pipelines", json={"document": document})
    assert refused.status_code == 400
    assert "PrimarySource is missing" in refused.text
    document = document.replace("ProjectName: b", "ProjectName: b, PrimarySource: Other")
    assert "'Other' is none of the input artifacts" in world.call("PUT", "/pipelines", json={"document": document}).text
