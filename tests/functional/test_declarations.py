"""Declarations through the interface: everything or nothing, planned first, and no change where all is as declared."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select

from registry.models import AuditEntry, Domain, DomainKey, Repository
from tests.functional.test_hooks_api import Hooks

POLICY = """policyDocument:
  Version: "2012-10-17"
  Statement: [{Effect: Allow, Principal: {AWS: user/reader}, Action: "codeartifact:Read*", Resource: "*"}]
"""
REST = f"""domain: acme
{POLICY}---
# what people publish to asks what brings things in from outside
repository: dev
domain: acme
description: what is made here
upstreams: [{{repositoryName: outside}}]
{POLICY}---
repository: outside
domain: acme
externalConnections: [{{format: pypi}}, {{format: npm, name: mirror, url: "https://mirror.example/npm/"}}]
---
applicationName: shop2
domain: acme
---
deploymentConfigName: Slow
minimumHealthyHosts: {{type: HOST_COUNT, value: 2}}
---
name: checks
repository: acme/dev
source: {{type: NO_SOURCE, buildspec: "version: 0.2\\nphases: {{build: {{commands: [echo hi]}}}}"}}
---
name: ship
stages:
- name: Source
  actions:
  - name: Package
    actionTypeId: {{category: Source, owner: Entrepot, provider: Package}}
    configuration: {{Domain: acme, Repository: dev, Format: pypi, Name: "*"}}
- name: Test
  actions:
  - name: Unit
    actionTypeId: {{category: Build, provider: CodeBuild}}
    configuration: {{ProjectName: checks}}
"""
# JSON as tools write it, with tabs; the group comes before what it names, in a file that does.
GROUP = """{"deploymentGroupName": "prod", "applicationName": "shop2", "deploymentConfigName": "Slow",
\t"ec2TagFilters": [{"Key": "role", "Value": "web", "Type": "KEY_AND_VALUE"}]}
"""
ALL = (GROUP, REST)
NAMES = [
    ("domain", "acme"),
    ("repository", "acme/dev"),
    ("repository", "acme/outside"),
    ("deployment configuration", "Slow"),
    ("application", "shop2"),
    ("deployment group", "shop2/prod"),
    ("build project", "checks"),
    ("pipeline", "ship"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hooks]:
    made = Hooks(Path(tmp_path_factory.mktemp("declared")))
    yield made
    made.close()


def apply(world: Hooks, *texts: str, status: int = 200, **more: Any) -> dict[str, Any]:
    files = [{"name": f"{number}.yml", "text": text} for number, text in enumerate(texts)]
    answer = world.call("PUT", "/declarations", json={"files": files, **more})
    assert answer.status_code == status, answer.text
    return answer.json


def changed(plan: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["change"] for each in plan["items"] if each["change"] != "unchanged"}


def repository(world: Hooks, name: str) -> dict[str, Any]:
    return world.call("GET", f"/domains/acme/repositories/{name}").json


def count(world: Hooks, model: type) -> int:
    with world.db.read() as session:
        return session.scalar(select(func.count()).select_from(model)) or 0


def entries(world: Hooks, after: int) -> list[tuple[str, str, str]]:
    return world.audit()[after:]


def test_what_is_declared_is_planned_then_made_and_then_there(world: Hooks) -> None:
    before = [count(world, model) for model in (AuditEntry, Domain, DomainKey, Repository)]
    plan = apply(world, *ALL, dryRun=True)
    assert [(each["kind"], each["name"]) for each in plan["items"]] == NAMES
    assert {each["change"] for each in plan["items"]} == {"created"}
    assert plan["applied"] is False
    assert {"kind": "repository", "name": "default/dev"} in plan["undeclared"]
    # A plan has changed nothing at all.
    assert [count(world, model) for model in (AuditEntry, Domain, DomainKey, Repository)] == before
    assert world.call("GET", "/domains/acme").status_code == 404

    done = apply(world, *ALL, plan=plan["plan"])
    assert done["applied"] is True
    assert done["items"] == plan["items"]
    assert repository(world, "dev")["upstreams"] == ["outside"]
    assert repository(world, "dev")["description"] == "what is made here"
    kept = world.call("GET", "/domains/acme/repositories/outside/connections").json["items"]
    assert [(each["format"], each["name"]) for each in kept] == [("pypi", "public"), ("npm", "mirror")]
    policy = world.call("GET", "/domains/acme/permissions/policy").json["policy"]["document"]
    assert "user/reader" in policy
    assert world.call("GET", "/deployment-applications/shop2/groups/prod").json["deploymentConfigName"] == "Slow"
    assert world.call("GET", "/build-projects/checks").json["repository"] == "acme/dev"
    text = world.call("GET", "/pipelines/ship").json["document"]
    assert text.startswith("name: ship\n")  # its own text, not the file's
    told = entries(world, before[0])
    assert {action for _, action, _ in told} >= {
        "domain.create", "repository.create", "policy.put", "application.create", "deployment_group.create",
        "build_project.create", "pipeline.create",
    }  # fmt: skip
    assert {actor for actor, _, _ in told} == {"admin"}

    # Again: nothing is touched.
    so_far = count(world, AuditEntry)
    again = apply(world, *ALL)
    assert changed(again) == {}
    assert {each["diff"] for each in again["items"]} == {""}
    assert count(world, AuditEntry) == so_far
    # The new domain's key works: what is published there is kept, and comes back.
    with world.db.read() as session:
        domain_id = session.scalar(select(Domain.id).where(Domain.name == "acme"))
    ring = world.services.stores.keyring(domain_id)
    assert ring.unseal(ring.seal(b"kept", "here"), "here") == b"kept"


def test_a_drift_is_shown_and_mended(world: Hooks) -> None:
    apply(world, *ALL)
    world.call("PATCH", "/domains/acme/repositories/dev", json={"description": "somebody's", "upstreams": []})
    plan = apply(world, *ALL, dryRun=True)
    assert changed(plan) == {"acme/dev": "updated"}
    (drift,) = [each["diff"] for each in plan["items"] if each["diff"]]
    assert "-description: somebody's" in drift
    assert "+description: what is made here" in drift
    apply(world, *ALL)
    assert repository(world, "dev")["upstreams"] == ["outside"]


def test_a_plan_that_is_out_of_date_is_not_done(world: Hooks) -> None:
    apply(world, *ALL)
    text = "repository: dev\ndomain: acme\ndescription: anew"
    plan = apply(world, text, dryRun=True)
    world.call("PATCH", "/domains/acme/repositories/dev", json={"description": "meanwhile"})
    refused = apply(world, text, status=409, plan=plan["plan"])
    assert "look at it again" in refused["detail"]
    assert repository(world, "dev")["description"] == "meanwhile"


def test_all_faults_of_all_files_come_at_once_and_nothing_is_done(world: Hooks) -> None:
    before = count(world, AuditEntry)
    refused = apply(
        world,
        "domain: Acme!\n---\n\nrepository: dev\nbogus: 1\n",
        "# a comment\n---\nname: p\nstages: []\n",
        "what: ever",
        "a: [",
        "repository: one\n---\nrepository: one\n",
        status=400,
    )
    assert refused["code"] == "invalid_document"
    faults = refused["faults"]
    for place in ("0.yml: line 1: domain", "0.yml: line 5: bogus", "1.yml: line 4:", "2.yml: line 1:", "3.yml: line "):
        assert any(fault.startswith(place) for fault in faults), (place, faults)
    assert any(
        fault.startswith("4.yml: line 3: repository default/one: is declared in 4.yml, line 1") for fault in faults
    )
    assert count(world, AuditEntry) == before


def test_faults_that_only_the_database_knows_come_at_once_as_well(world: Hooks) -> None:
    apply(world, *ALL)
    before = count(world, AuditEntry)
    refused = apply(
        world,
        "repository: good\ndomain: acme",
        "repository: one\ndomain: acme\nupstreams: [nowhere]",
        "deploymentConfigName: Slow\nminimumHealthyHosts: {type: HOST_COUNT, value: 3}",
        "applicationName: shop2\ndomain: default",
        f"repository: two\ndomain: acme\n{POLICY.replace('reader', 'nobody-at-all')}",
        "repository: lost\ndomain: no-such-domain",
        "applicationName: shop9\ndeploymentGroupName: prod",
        status=400,
    )
    places = [fault.split(": ")[0] for fault in refused["faults"]]
    assert sorted(places) == [f"{number}.yml" for number in (1, 2, 3, 4, 5, 6)]
    assert count(world, AuditEntry) == before
    assert world.call("GET", "/domains/acme/repositories/good").status_code == 404


def test_repositories_may_change_places(world: Hooks) -> None:
    down = "repository: upper\ndomain: acme\nupstreams: [lower]\n---\nrepository: lower\ndomain: acme\nupstreams: []\n"
    up = "repository: upper\ndomain: acme\nupstreams: []\n---\nrepository: lower\ndomain: acme\nupstreams: [upper]\n"
    for text in (down, up, down):
        apply(world, text)
    assert repository(world, "upper")["upstreams"] == ["lower"]
    circle = "repository: lower\ndomain: acme\nupstreams: [upper]"
    assert "its own upstream" in apply(world, circle, status=400)["detail"]
    assert repository(world, "lower")["upstreams"] == []


def test_what_a_document_does_not_say_stays(world: Hooks) -> None:
    head = "repository: kept\ndomain: acme\n"
    one = "{format: pypi, name: one, url: 'https://one.example/'}"
    two = "{format: pypi, name: two, url: 'https://two.example/'}"
    apply(world, f"{head}description: mine\nanonymousRead: yes\nexternalConnections: [{one}, {two}]\n{POLICY}")
    place = "/domains/acme/repositories/kept/connections"
    secret = {"credential": {"token": "of-two"}}
    assert world.call("PATCH", f"{place}/pypi/two", json=secret).status_code == 200
    assert changed(apply(world, head)) == {}
    apply(world, f"{head}externalConnections: [{two}]")
    (left,) = world.call("GET", place).json["items"]
    assert (left["name"], left["hasCredential"]) == ("two", True)
    assert repository(world, "kept")["description"] == "mine"
    assert repository(world, "kept")["anonymousRead"] is True
    # The order of a list is the order in which they are asked.
    apply(world, f"{head}externalConnections: [{one}, {two}]")
    assert [each["name"] for each in world.call("GET", place).json["items"]] == ["one", "two"]
    # A credential does not follow to another place, and an empty policy is none.
    moved = two.replace("two.example", "elsewhere.example")
    assert "credential" in apply(world, f"{head}externalConnections: [{moved}]", status=400)["detail"]
    apply(world, f"{head}policyDocument: {{}}")
    assert world.call("GET", "/domains/acme/repositories/kept/permissions/policy").status_code == 404


def test_documents_hold_no_secrets(world: Hooks) -> None:
    text = "repository: kept\nexternalConnections: [{format: pypi, credential: {token: x}}]"
    assert "documents hold no secrets" in apply(world, text, status=400)["detail"]


def test_upstreams_that_go_are_audited_as_by_the_ordinary_way(world: Hooks) -> None:
    head = "repository: less\n"
    apply(
        world,
        f"{head}upstreams: [one-up, two-up]\n---\nrepository: one-up\n---\nrepository: two-up",
    )
    before = count(world, AuditEntry)
    apply(world, f"{head}upstreams: [two-up]")
    assert entries(world, before) == [("admin", "repository.change", "default/less")]
    apply(world, f"{head}upstreams: []")
    assert entries(world, before + 1) == [("admin", "repository.change", "default/less")]


def test_a_file_without_a_word_is_passed_over(world: Hooks) -> None:
    empty = "# repository: not-yet\n---\n"
    assert [each["name"] for each in apply(world, empty, "repository: there", "", dryRun=True)["items"]] == [
        "default/there"
    ]
    assert "nothing is declared" in apply(world, empty, status=400, dryRun=True)["detail"]


def test_hundreds_of_repositories_read_the_domain_no_more_than_once_each(world: Hooks) -> None:
    """Making one loaded the whole domain twice: five hundred held the writers' lock for half a minute."""
    text = "\n---\n".join(f"repository: many-{number}\nupstreams: [beyond]" for number in range(60))
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    apply(world, "repository: beyond")
    event.listen(world.db.engine, "before_cursor_execute", note)
    try:
        apply(world, text, dryRun=True)
    finally:
        event.remove(world.db.engine, "before_cursor_execute", note)
    whole = [statement for statement in asked if "FROM external_connection JOIN repository" in statement]
    assert whole == []
    assert len(asked) < 60 * 60


def test_names_in_pipelines_that_are_nowhere_are_told_and_no_fault(world: Hooks) -> None:
    def released(project: str, target: str, group: str) -> str:
        return f"""name: lacks
stages:
- name: Source
  actions:
  - name: Package
    actionTypeId: {{category: Source, owner: Entrepot, provider: Package}}
    configuration: {{Repository: "dev*", Format: pypi, Name: "*"}}
- name: Prod
  actions:
  - name: Unit
    actionTypeId: {{category: Build, provider: CodeBuild}}
    configuration: {{ProjectName: {project}}}
  - name: Promote
    actionTypeId: {{category: Deploy, owner: Entrepot, provider: Promote}}
    configuration: {{TargetRepository: {target}}}
  - name: Ship
    actionTypeId: {{category: Deploy, owner: AWS, provider: CodeDeploy, version: "1"}}
    configuration: {{ApplicationName: fair, DeploymentGroupName: {group}, SourceRepository: later}}
"""

    plan = apply(world, released("nobodys", "nowhere", "prod"), dryRun=True)
    assert [each["text"] for each in plan["warnings"]] == [
        "Prod/Unit: there is no build project nobodys",
        "Prod/Promote: there is no repository default/nowhere",
        "Prod/Ship: there is no repository default/later",
        "Prod/Ship: there is no application fair",
        "Prod/Ship: there is no deployment group fair/prod",
    ]
    assert {(each["kind"], each["name"], each["file"]) for each in plan["warnings"]} == {("pipeline", "lacks", "0.yml")}
    # What has no effect is told with its line in the file.
    moved = "---\n" + released("nobodys", "nowhere", "prod").replace(
        "\nstages:", "\nroleArn: arn:aws:iam::1:role/x\nstages:", 1
    )
    told = [each["text"] for each in apply(world, "repository: later\n" + moved, dryRun=True)["warnings"]]
    line = ("repository: later\n" + moved).splitlines().index("roleArn: arn:aws:iam::1:role/x") + 1
    assert told[0].startswith(f"line {line}: roleArn has no effect"), told
    # What the same files declare is there, and so is what was there before.
    beside = """applicationName: fair
---
deploymentGroupName: prod
applicationName: fair
ec2TagFilters: [{Key: role, Value: web, Type: KEY_AND_VALUE}]
---
repository: later
---
name: mine
repository: dev
source: {type: NO_SOURCE, buildspec: "version: 0.2\\nphases: {build: {commands: [echo]}}"}
"""
    assert apply(world, released("mine", "staging", "prod"), beside)["warnings"] == []
