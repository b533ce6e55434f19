"""Pipelines of git repositories: a real push, told by a real hook to the real server, is fetched, built and handed on."""

from __future__ import annotations

import json
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.build_bench import MISSING_SANDBOX, work_directory
from tests.fakes.forge import Forge, Repository, forge
from tests.harness.server import Server

pytestmark = pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX)
TOKEN = "forge-token-0815-secret"
BUILDSPEC = """version: 0.2
env:
  exported-variables: [SEEN]
phases:
  build:
    commands:
    - test ! -e .git
    - export SEEN="$CODEBUILD_RESOLVED_SOURCE_VERSION $(cat text)"
    - mkdir out && cp text out/
artifacts:
  files: ['out/*']
"""
PIPELINE = """
pipeline:
  name: release
  pipelineType: V2
  triggers:
  - providerType: CodeStarSourceConnection
    gitConfiguration:
      sourceActionName: App
      push:
      - branches: {includes: [main, "feature/**"], excludes: ["feature/wip*"]}
        filePaths: {excludes: ["docs/**"]}
  stages:
  - name: Source
    actions:
    - name: App
      namespace: src
      actionTypeId: {category: Source, owner: AWS, provider: CodeStarSourceConnection, version: "1"}
      configuration: {ConnectionArn: forge, FullRepositoryId: app, BranchName: main}
      outputArtifacts: [{name: App}]
  - name: Build
    actions:
    - name: Unit
      namespace: unit
      actionTypeId: {category: Build, owner: AWS, provider: CodeBuild, version: "1"}
      configuration:
        ProjectName: unit
        EnvironmentVariables: '[{"name": "BRANCH", "value": "#{src.BranchName}"}]'
      inputArtifacts: [{name: App}]
      outputArtifacts: [{name: Built}]
    - name: Look
      runOrder: 2
      actionTypeId: {category: Compute, owner: AWS, provider: Commands, version: "1"}
      inputArtifacts: [{name: Built}, {name: App}]
      environmentVariables: [{name: MESSAGE, value: "#{src.CommitMessage}"}, {name: SEEN, value: "#{unit.SEEN}"}]
      outputVariables: [TOLD]
      commands:
      - cmp out/text "$CODEBUILD_SRC_DIR_App/text"
      - export TOLD="$MESSAGE / $SEEN"
---
buildProject: {name: unit, repository: dev, source: {type: CODEPIPELINE}, environment: {network: none}}
"""
# What a forge would send, of the provider that anybody can speak: Standard Webhooks over the push.
POST_RECEIVE = """#!{python}
import base64, hashlib, hmac, json, os, sys, time, urllib.request, uuid
url, secret = {url!r}, {secret!r}
for line in sys.stdin:
    before, after, ref = line.split()
    files = os.popen(f"git diff --name-only {{before}} {{after}}").read().split() if before.strip("0") else []
    body = json.dumps({{"ref": ref, "before": before, "after": after, "actorAccountId": "7", "filePaths": files or None}}
                      if files else {{"ref": ref, "before": before, "after": after, "actorAccountId": "7",
                                      "filePaths": ["text"]}}).encode()
    number, sent = uuid.uuid4().hex, str(int(time.time()))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.digest(key, f"{{number}}.{{sent}}.".encode() + body, hashlib.sha256)
    headers = {{"Content-Type": "application/json", "webhook-id": number, "webhook-timestamp": sent,
               "webhook-signature": "v1," + base64.b64encode(mac).decode()}}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as answer:
        open({told!r}, "a").write(answer.read().decode().strip() + "\\n")
"""


@dataclass
class Line:
    """A server with a worker, a forge, and a repository whose hook tells the server."""

    server: Server
    forge: Forge
    app: Repository
    token: str
    told: Path

    def call(self, method: str, path: str, **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = requests.request(method, f"{self.server.url}/api/v1{path}", headers=headers, timeout=30, **options)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    def push(self, files: dict[str, str], message: str, branch: str = "main") -> tuple[str, dict[str, Any]]:
        """Commit and push; the commit, and what the server answered the hook."""
        commit = self.app.commit(files, message, branch)
        return commit, json.loads(self.told.read_text().splitlines()[-1])

    def ended(self, execution_id: int) -> dict[str, Any]:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            found = self.call("GET", f"/executions/{execution_id}")
            if found["status"] not in {"InProgress", "Stopping"}:
                return found
            time.sleep(0.2)
        raise AssertionError(f"the execution goes on: {found}")


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    with work_directory() as work:
        root = work.parent / "repositories"
        root.mkdir()
        root.chmod(0o755)
        app = Repository(root, "app")
        app.commit({"text": "first\n", "buildspec.yml": BUILDSPEC}, "begin")
        server = Server(
            tmp_path_factory.mktemp("git") / "data",
            web_processes=1,
            environment={"ENTREPOT_BUILDS_WORKSPACE_PATH": str(work)},
        )
        with forge(root) as running:
            server.start()
            try:
                running.credentials["app.git"] = ("x-access-token", TOKEN)
                made = Line(server, running, app, server.token(), root / "told")
                made.call("PUT", "/git-connections/forge", json={
                    "url": running.url, "repository": "dev", "provider": "gitea",
                    "credential": {"authType": "PERSONAL_ACCESS_TOKEN", "secret": TOKEN},
                })  # fmt: skip
                made.call("PUT", "/pipelines", json={"document": PIPELINE})
                hook = made.call("POST", "/pipelines/release/webhooks", json={"provider": "generic"})
                script = app.bare / "hooks" / "post-receive"
                script.write_text(
                    POST_RECEIVE.format(
                        python=sys.executable, url=hook["payloadUrl"], secret=hook["secret"], told=str(made.told)
                    )
                )
                script.chmod(script.stat().st_mode | stat.S_IXUSR)
                yield made
            finally:
                server.stop()


def action(execution: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for stage in execution["stages"] for each in stage["actions"] if each["name"] == name)


def test_a_push_runs_the_pipeline_on_its_commit(line: Line) -> None:
    commit, answer = line.push({"text": "second\n"}, "the second\n\n$(id) #{src.CommitId}")
    assert answer["outcome"] == "started"
    execution = line.ended(answer["executionId"])
    assert execution["status"] == "Succeeded", json.dumps(execution, indent=1)
    assert (execution["revisionType"], execution["name"], execution["version"]) == ("GIT", "app", commit)
    facts = action(execution, "App")["outputVariables"]
    assert facts["CommitId"] == commit
    assert facts["BranchName"] == "main"
    assert facts["FullRepositoryName"] == "app"
    assert facts["CommitUrl"] == f"{line.forge.url}/app/commit/{commit}"
    assert facts["AuthorDate"][:4].isdigit()
    # The message is a value: neither the shell nor the pipeline reads it again.
    told = action(execution, "Look")["outputVariables"]["TOLD"]
    assert told == f"the second\n\n$(id) #{{src.CommitId}} / {commit} second"
    assert execution["assets"] == {"source.tar": facts["Digest"].removeprefix("sha256:")}
    assert TOKEN not in json.dumps(execution)


DELIVER = """
name: deliver
stages:
- name: Source
  actions:
  - name: App
    actionTypeId: {category: Source, owner: Entrepot, provider: Git, version: "1"}
    configuration: {Connection: forge, FullRepositoryId: app, BranchName: main, DetectChanges: "false"}
    outputArtifacts: [{name: App}]
- name: Make
  actions:
  - name: Make
    actionTypeId: {category: Build, owner: AWS, provider: CodeBuild, version: "1"}
    configuration: {ProjectName: maker, PublishRepository: dev}
    inputArtifacts: [{name: App}]
- name: Ship
  actions:
  - name: Stage
    actionTypeId: {category: Deploy, owner: Entrepot, provider: Promote, version: "1"}
    configuration: {TargetRepository: staging}
  - name: Prod
    runOrder: 2
    actionTypeId: {category: Deploy, owner: Entrepot, provider: Promote, version: "1"}
    configuration: {TargetRepository: prod, SourceRepository: staging}
---
buildProject:
  name: maker
  repository: dev
  publishRepository: dev
  source:
    type: CODEPIPELINE
    buildspec: |
      version: 0.2
      phases:
        build:
          commands:
          - >-
            python3 -c "import os, urllib.request as u; b = open('text', 'rb').read();
            u.urlopen(u.Request(os.environ['ENTREPOT_PUBLISH_GENERIC_URL'].rstrip('/') + '/made/1.0/text', b, method='PUT'))"
"""


def test_what_the_builds_of_a_commit_publish_is_promoted(line: Line) -> None:
    line.call("PUT", "/pipelines", json={"document": DELIVER})
    started = line.call("POST", "/pipelines/deliver/executions", json={"clientRequestToken": "once"})
    execution = line.ended(started["id"])
    assert execution["status"] == "Succeeded", json.dumps(execution, indent=1)
    assert action(execution, "Prod")["summary"] == "promoted to prod: made 1.0"
    made = line.call("GET", "/domains/default/repositories/prod/packages/generic/made/versions/1.0")
    (by,) = made["builtBy"]
    assert (by["source"]["type"], by["source"]["version"]) == ("GIT", execution["version"])
    assert by["source"]["uri"] == f"{line.forge.url}/app.git"
