"""Definitions that live in the source they build: what a push may change, and what it cannot reach."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import update

from registry.accounts import find_account
from registry.models import Account
from tests.build_bench import MISSING_SANDBOX
from tests.fakes.forge import Repository, git
from tests.functional.api_world import PASSWORD
from tests.pipeline_sources import SOURCE, SourceWorld, source_world

pytestmark = pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX)
PATH = ".entrepot/pipeline.yml"
TRIGGERS = """triggers:
- providerType: Git
  gitConfiguration: {sourceActionName: App, push: [{branches: {includes: ["**"]}}], pullRequest: [{}]}
"""
GATE = """
- name: Gate
  actions:
  - {name: Ask, actionTypeId: {category: Approval, owner: AWS, provider: Manual, version: "1"}}
"""


class Located(SourceWorld):
    """Each ``place`` is a repository with a pipeline of its name in it."""

    def place(self, name: str, by: str = "admin") -> Repository:
        repository = Repository(self.forge.root, name)
        pointer = f"definitionFrom: {{name: {name}, source: {{Connection: forge, FullRepositoryId: {name}, BranchName: main}}}}"
        done = self.call("PUT", "/pipelines", json={"document": pointer}, as_=by)
        assert done.status_code == 200, done.text
        return repository

    def text(self, name: str, stages: str = GATE, more: str = "", tail: str = "") -> dict[str, str]:
        source = SOURCE.format(repository=name, more=more)
        return {PATH: f"pipeline:\n  name: {name}\n" + indented(f"{TRIGGERS}stages:{source}{stages}") + tail}

    def state(self, name: str) -> dict[str, Any]:
        return dict(self.call("GET", f"/pipelines/{name}/sources").json["definition"])

    def version(self, name: str) -> int | None:
        found = self.call("GET", f"/pipelines/{name}")
        return found.json["version"] if found.status_code == 200 else None

    def pushed(self, hook: dict[str, Any], commit: str, ref: str = "refs/heads/main") -> str:
        told = {
            "ref": ref, "before": "0" * 40, "after": commit, "sender": {"id": 7},
            "repository": {"full_name": "x"}, "commits": [{"modified": ["a"], "message": "m"}],
        }  # fmt: skip
        answer = self.tell(hook, told)
        self.work(builds=False)
        return str(answer.json["outcome"])


def indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Located]:
    with source_world(tmp_path_factory.mktemp("located"), Located) as made:
        yield made


def test_each_push_applies_the_file_of_its_branch_before_it_starts_anything(world: Located) -> None:
    repository = world.place("site")
    world.work(builds=False)
    assert "could not be asked" in world.state("site")["fault"]  # there is no branch yet
    assert world.version("site") is None
    first = repository.commit(world.text("site"))
    # What was configured again is looked at again.
    again = world.call("PUT", "/pipelines", json={"document": POINTER})
    assert [(each["kind"], each["change"]) for each in again.json["items"]] == [("pipeline source", "unchanged")]
    world.work(builds=False)
    state = world.state("site")
    assert (state["commit"], state["fault"], world.version("site")) == (first, "", 1)
    assert world.executions("site") == []
    hook = world.hook("site")
    second = repository.commit(world.text("site", GATE.replace("Gate", "Door")))
    assert world.pushed(hook, second) == "its definition is applied first"
    (execution,) = world.executions("site")
    assert (execution["definitionVersion"], execution["version"]) == (2, second)
    assert [stage["name"] for stage in execution["stages"]] == ["Source", "Door"]
    # A fault is told, changes nothing, and starts nothing.
    broken = repository.commit({PATH: "pipeline: {name: site, colour: red}\n"})
    world.pushed(hook, broken)
    state = world.state("site")
    assert "unknown key 'colour'" in state["fault"]
    assert (state["commit"], state["seenCommit"], world.version("site")) == (second, broken, 2)
    assert len(world.executions("site")) == 1
    # By hand it is changed only when it has been detached.
    document = world.text("site")[PATH]
    assert world.call("PUT", "/pipelines", json={"document": document}).status_code == 409
    assert world.call("DELETE", "/pipelines/site/definition-source").status_code == 204
    assert world.call("PUT", "/pipelines", json={"document": document}).status_code == 200


POINTER = "definitionFrom: {name: site, source: {Connection: forge, FullRepositoryId: site, BranchName: main}}"


def test_another_branch_and_a_pull_request_change_no_definition(world: Located) -> None:
    repository = world.place("kept")
    good = repository.commit(world.text("kept"))
    world.work(builds=False)
    hook = world.hook("kept")
    evil = repository.commit(world.text("kept", EVIL), branch="evil")
    assert world.pushed(hook, evil, "refs/heads/evil") == "started"
    # As if it were on the branch: the server asks the branch itself, and is told what is there.
    assert world.pushed(hook, evil, "refs/heads/main") == "its definition is applied first"
    git(repository.bare, "tag", "main", evil)
    world.pushed(hook, evil, "refs/tags/main")
    git(repository.bare, "update-ref", "refs/pull/3/head", evil)
    pull = {
        "action": "opened", "number": 3, "sender": {"id": 7}, "repository": {"full_name": "x"},
        "pull_request": {
            "title": "t", "user": {"id": 7}, "base": {"ref": "main", "repo": {"id": 1}},
            "head": {"sha": evil, "ref": "evil", "repo": {"id": 1}},
        },
    }  # fmt: skip
    assert world.tell(hook, pull, "pull_request").json["outcome"] == "started"
    world.work(builds=False)
    state = world.state("kept")
    assert (state["commit"], state["seenCommit"], state["fault"], world.version("kept")) == (good, good, "", 1)
    for execution in world.executions("kept"):
        assert execution["definitionVersion"] == 1
        assert [stage["name"] for stage in execution["stages"]] == ["Source", "Gate"]
    # Control: on its branch the same file is taken.
    git(repository.work, "push", "--quiet", "--force", "origin", f"{evil}:refs/heads/main")
    world.poll_definition("kept")
    assert world.version("kept") == 2


EVIL = (
    GATE
    + """
- name: Ship
  actions:
  - name: Ship
    actionTypeId: {category: Compute, owner: AWS, provider: Commands, version: "1"}
    commands: ["id"]
"""
)
ELSEWHERE = {
    "promotes": ("""
- name: Build
  actions:
  - name: Build
    actionTypeId: {category: Build, owner: AWS, provider: CodeBuild, version: "1"}
    configuration: {ProjectName: own, PublishRepository: dev}
- name: Ship
  actions:
  - name: Ship
    actionTypeId: {category: Deploy, owner: Entrepot, provider: Promote, version: "1"}
    configuration: {TargetRepository: prod}
""", "may not promote at default/prod"),
    "publishes": ("""
- name: Build
  actions:
  - name: Build
    actionTypeId: {category: Build, owner: AWS, provider: CodeBuild, version: "1"}
    configuration: {ProjectName: own, PublishRepository: "#{variables.WHERE}"}
""", "publishrepository|may not publish at default/*|no variable"),
    "builds": ("""
- name: Build
  actions:
  - name: Build
    actionTypeId: {category: Build, owner: AWS, provider: CodeBuild, version: "1"}
    configuration: {ProjectName: theirs}
""", "may start no builds of project theirs"),
    "secrets": ("""
- name: Look
  actions:
  - name: Look
    actionTypeId: {category: Compute, owner: AWS, provider: Commands, version: "1"}
    environmentVariables: [{name: KEY, value: signing, type: SECRETS_MANAGER}]
    commands: ["echo $KEY"]
""", "secrets are for build projects that the file declares itself"),
}  # fmt: skip
RULED = GATE.replace(
    "- name: Gate\n",
    """- name: Gate
  beforeEntry:
    conditions:
    - result: FAIL
      rules:
      - name: Check
        ruleTypeId: {category: Rule, owner: AWS, provider: CodeBuild, version: "1"}
        configuration: {ProjectName: theirs}
""",
)
ELSEWHERE["rules"] = (RULED, "rule check of stage gate: configurer-rules may start no builds of project theirs")
OWN = "\n---\nbuildProject: {name: own, repository: dev, source: {type: CODEPIPELINE}}\n"


@pytest.mark.parametrize("way", list(ELSEWHERE))
def test_a_pushed_definition_reaches_what_its_configurer_may_reach_and_no_more(world: Located, way: str) -> None:
    configurer = f"configurer-{way}"
    world.tokens[configurer] = world.account(configurer, "admin")
    if world.call("GET", "/build-projects/theirs").status_code == 404:
        document = "{name: theirs, repository: staging, source: {type: CODEPIPELINE}}"
        assert world.call("PUT", "/build-projects/theirs", json={"document": document}).status_code == 200
    stages, fault = ELSEWHERE[way]
    repository = world.place(way, by=configurer)
    tail = OWN if "own" in stages else ""
    # An administrator of the domain's dev, and no longer of the server.
    with world.db.write() as session:
        account = find_account(session, configurer)
        session.execute(
            update(Account)
            .where(Account.id == account.id)
            .values(actions=["read", "publish"], repositories=["default/dev"])
        )
    repository.commit(world.text(way, stages, tail=tail))
    world.work(builds=False)
    assert any(part in world.state(way)["fault"].lower() for part in fault.lower().split("|")), world.state(way)
    assert world.version(way) is None
    assert ("system", "pipeline.refuse_definition", f"pipeline/{way}") in world.audit() or "line" in world.state(way)[
        "fault"
    ]
    # Control: whoever may, may have it pushed.
    with world.db.write() as session:
        session.execute(update(Account).where(Account.id == account.id).values(actions=["admin"], repositories=None))
    if way not in {"publishes", "secrets"}:  # secrets of commands are no account's to push
        repository.commit({"again": "x"})
        world.poll_definition(way)
        assert (world.state(way)["fault"], world.version(way)) == ("", 1)


def test_a_definition_declares_itself_and_projects_of_its_repository_alone(world: Located) -> None:
    repository = world.place("narrow")
    for number, (tail, fault) in enumerate(
        {
            "\n---\nname: other\n" + "stages:" + SOURCE.format(repository="app", more="") + GATE: "and nothing else",
            "\n---\nbuildProject: {name: fresh, repository: prod, source: {type: CODEPIPELINE}}\n": "has to belong to",
            "\n---\nbuildProject: {name: tests}\n": "has to belong to",
            "\n---\nbuildProject: {name: elsewhere, repository: dev, source: {type: CODEPIPELINE}}\n": "belongs elsewhere",
        }.items()
    ):
        if "elsewhere" in tail:
            document = "{name: elsewhere, repository: staging, source: {type: CODEPIPELINE}}"
            assert world.call("PUT", "/build-projects/elsewhere", json={"document": document}).status_code == 200
        repository.commit({**world.text("narrow", tail=tail), "n": str(number)})
        world.poll_definition("narrow")
        assert fault in world.state("narrow")["fault"], tail
        assert world.version("narrow") is None
    assert world.call("GET", "/pipelines/other").status_code == 404
    # A disabled configurer has nothing applied any more.
    world.tokens["leaver"] = world.account("leaver", "admin")
    left = world.place("left", by="leaver")
    world.disable("leaver")
    left.commit(world.text("left"))
    world.poll_definition("left")
    assert "is not there or is disabled" in world.state("left")["fault"]
    assert world.version("left") is None


APPLIED_ONLY = {
    "Webhook": ("Invoke", "Entrepot", "configuration: {WebhookName: chat}"),
    "Signing": ("Build", "Custom", "configuration: {Secret: whatever}"),
}


def test_what_no_right_stands_for_is_refused_in_what_an_administrator_lets_be_pushed(world: Located) -> None:
    custom = {
        "category": "Build", "provider": "Signing", "version": "1",
        "inputArtifactDetails": {"minimumCount": 0, "maximumCount": 1},
        "outputArtifactDetails": {"minimumCount": 0, "maximumCount": 1},
        "configurationProperties": [{"name": "Secret", "required": True, "key": False, "secret": True}],
    }  # fmt: skip
    made = world.call("POST", "/action-types", json=custom)
    assert made.status_code == 201, made.text
    repository = world.place("reaching")
    for provider, (category, owner, more) in APPLIED_ONLY.items():
        kind = f"{{category: {category}, owner: {owner}, provider: {provider}, version: '1'}}"
        stages = GATE + f"- name: Reach\n  actions:\n  - {{name: Reach, actionTypeId: {kind}, {more}}}\n"
        repository.commit(world.text("reaching", stages))
        world.poll_definition("reaching")
        fault = world.state("reaching")["fault"]
        assert "for definitions that are applied" in fault, (provider, fault)
        assert provider in fault
        assert world.version("reaching") is None
    package = "configuration: {Repository: dev, Format: pypi, Name: x}}"
    packages = "{name: P, actionTypeId: {category: Source, owner: Entrepot, provider: Package}, " + package
    for provider, category, owner, said in (
        ("Publish", "Deploy", "Entrepot", "Destination: out"),
        ("CodePipeline", "Invoke", "AWS", "PipelineName: other"),
    ):
        kind = f"{{category: {category}, owner: {owner}, provider: {provider}, version: '1'}}"
        out = f"- name: Out\n  actions:\n  - {{name: Out, actionTypeId: {kind}, configuration: {{{said}}}}}\n"
        repository.commit({PATH: f"name: reaching\nstages:\n- name: Source\n  actions:\n  - {packages}\n{out}"})
        world.poll_definition("reaching")
        assert f"{provider} is for definitions that are applied" in world.state("reaching")["fault"]
    # Control: an administrator's own document may.
    text = world.text("by-hand", stages)[PATH].replace("FullRepositoryId: by-hand", "FullRepositoryId: reaching")
    applied = world.call("PUT", "/pipelines", json={"document": text})
    assert applied.status_code == 200, applied.text


SHIP = """
- name: Ship
  actions:
  - name: Ship
    actionTypeId: {category: Deploy, owner: AWS, provider: CodeDeploy, version: "1"}
    configuration: {ApplicationName: pushed-shop, DeploymentGroupName: www}
    inputArtifacts: [{name: App}]
"""


def test_a_pushed_definition_deploys_in_the_right_of_the_account_it_has_whatever_the_group_says(world: Located) -> None:
    def rights(*actions: str) -> None:
        with world.db.write() as session:
            account = find_account(session, "robot")
            session.execute(
                update(Account)
                .where(Account.id == account.id)
                .values(actions=list(actions), repositories=["default/*"] if "promote" in actions else ["default/dev"])
            )

    def shipped() -> Any:
        started = world.start("shipping")
        assert started.status_code == 201, started.text
        world.work(builds=False)
        execution = world.call("GET", f"/executions/{started.json['id']}").json
        return next(each for stage in execution["stages"] for each in stage["actions"] if each["name"] == "Ship")

    for method, path, body in (
        ("POST", "/deployment-applications", {"applicationName": "pushed-shop"}),
        (
            "PUT",
            "/deployment-applications/pushed-shop/groups/www",
            {"document": '{"pipelines": ["shipping"], "targets": []}'},
        ),
    ):
        assert (made := world.call(method, path, json=body)).status_code < 300, made.text
    pointer = "definitionFrom: {name: shipping, as: robot, source: {Connection: forge, FullRepositoryId: shipping, BranchName: main}}"
    assert world.call("PUT", "/pipelines", json={"document": pointer}).status_code == 404  # nobody is called so
    world.account("robot", "read", "publish", repositories=["default/dev"])
    repository = world.place("shipping")
    repository.commit(world.text("shipping", SHIP))
    world.poll_definition("shipping")
    assert (world.state("shipping")["fault"], world.version("shipping")) == ("", 1)
    # The same text in the rights of another account is another version: it acts as that one from now on.
    assert world.call("PUT", "/pipelines", json={"document": pointer}).status_code == 200
    world.work(builds=False)
    assert "robot may not deploy in domain default" in world.state("shipping")["fault"]
    assert world.state("shipping")["configuredBy"] == "robot"
    rights("read", "publish", "promote")
    world.poll_definition("shipping")
    assert (world.state("shipping")["fault"], world.version("shipping")) == ("", 2)
    world.poll_definition("shipping")
    assert world.version("shipping") == 2
    allowed = shipped()
    assert "may not" not in allowed["summary"], allowed
    assert allowed["deploymentId"], allowed
    rights("read", "publish")
    refused = shipped()
    assert (refused["status"], refused["deploymentId"]) == ("Failed", None)
    assert "robot, who wrote the pipeline's definition, may not" in refused["summary"]
    # Control: of a definition that an administrator applied the group's word is enough.
    assert world.call("DELETE", "/pipelines/shipping/definition-source").status_code == 204
    assert shipped()["deploymentId"]


def test_what_is_wrong_with_a_definition_is_for_readers_of_where_it_belongs(world: Located) -> None:
    world.account("outsider", "read", repositories=["default/staging"])
    repository = world.place("quiet")
    repository.commit(world.text("quiet"))
    world.poll_definition("quiet")
    repository.commit({PATH: "pipeline: {name: quiet, colour: red}\n"})
    world.poll_definition("quiet")
    for name, may in (("admin", True), ("reader", True), ("outsider", False)):
        client = world.app.test_client()
        assert client.post("/sign-in", data={"user": name, "password": PASSWORD}).status_code == 303
        page = client.get("/pipelines/quiet")
        assert page.status_code == 200
        assert ("unknown key" in page.text) is may, name
        assert (world.forge.url in page.text) is may, name
        assert "quiet" in page.text
