"""What pipelines take from git repositories: told by hooks, found by asking, started by hand; pinned once, fetched, handed on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from config import wiring
from hooks.jobs import claims
from hooks.jobs.attempt import Attempt
from hooks.models import Build, Execution
from hooks.models.job import Job
from hooks.models.pipeline_source import SourceRevision
from hooks.pipelines.archive_care import expire_archives
from hooks.pipelines.rolling_back import new_rollback
from tests.agent_world import machine
from tests.browser import reading
from tests.build_bench import MISSING_SANDBOX
from tests.deploying import IS_ROOT, Machine
from tests.fakes.forge import Repository, git
from tests.functional.api_world import PASSWORD
from tests.pipeline_sources import SOURCE, SourceWorld, action, source_world

pytestmark = pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX)
TRIGGERS = """triggers:
- providerType: CodeStarSourceConnection
  gitConfiguration:
    sourceActionName: App
    push:
    - {branches: {includes: ["feature/**", main]}, filePaths: {includes: [text]}}
    - {tags: {includes: ["v*"]}}
    pullRequest:
    - {events: [OPEN, UPDATED], branches: {includes: [main]}}
"""


GATE = """
- name: Gate
  actions:
  - {name: Ask, actionTypeId: {category: Approval, owner: AWS, provider: Manual, version: "1"}}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SourceWorld]:
    with source_world(tmp_path_factory.mktemp("sources")) as made:
        made.code.commit({"text": "begin\n"}, "begin")
        yield made


def hub_push(
    commit: str, ref: str = "refs/heads/main", files: tuple[str, ...] = ("text",), before: str = "0" * 40
) -> Any:
    return {
        "ref": ref, "before": before, "after": commit, "sender": {"id": 7},
        "repository": {"full_name": "team/app"}, "commits": [{"modified": list(files), "message": "m"}],
    }  # fmt: skip


def hub_pull(commit: str, head_repository: int, opened: str = "opened") -> Any:
    head = {"sha": commit, "ref": "x", "repo": {"id": head_repository}}
    return {
        "action": opened, "number": 12, "sender": {"id": 7}, "repository": {"full_name": "team/app"},
        "pull_request": {"title": "t", "head": head, "base": {"ref": "main", "repo": {"id": 1}}, "user": {"id": 7}},
    }  # fmt: skip


def test_a_hook_starts_what_its_triggers_take_and_nothing_else(world: SourceWorld) -> None:
    world.apply("told", triggers=TRIGGERS)
    hook = world.hook("told")
    commit = world.code.commit({"text": "told\n"}, "told", branch="feature/a/b")
    push = hub_push(commit, "refs/heads/feature/a/b")
    # The same checks as for builds' hooks: a wrong signature and an unknown hook start nothing.
    assert world.tell({**hook, "secret": "other"}, push).status_code == 401
    assert world.tell({**hook, "id": "0" * 32}, push).status_code == 404
    assert world.tell(hook, push, **{"Content-Type": "text/plain"}).status_code == 400
    for told in (
        hub_push(commit, "refs/heads/other"),
        hub_push(commit, "refs/heads/main", ("docs/x",)),
        hub_push(commit, "refs/tags/w1"),
        hub_push("0" * 40),
    ):
        answer = world.tell(hook, told)
        assert (answer.status_code, answer.json["executionId"]) == (200, None), answer.text
    assert world.executions("told") == []
    started = world.tell(hook, push)
    assert started.json["outcome"] == "started", started.text
    # Sent again: the delivery, and the same push as another delivery.
    repeated = world.tell(hook, push, **{"X-GitHub-Delivery": f"delivery-{world.count}"})
    assert repeated.json["duplicate"]
    assert world.tell(hook, push).json["executionId"] == started.json["executionId"]
    world.work()
    (execution,) = world.executions("told")
    assert execution["status"] == "Succeeded", execution
    assert (execution["version"], action(execution, "Look")["outputVariables"]) == (commit, {"TEXT": "told"})
    assert action(execution, "App")["outputVariables"]["BranchName"] == "feature/a/b"
    assert (execution["triggerKind"], execution["triggeredBy"]) == ("push", "github-webhook")


def test_an_approval_is_bound_to_the_commit_that_was_fetched(world: SourceWorld) -> None:
    world.apply("asked", stages=GATE)
    answer = {"stage": "Gate", "action": "Ask", "comment": ""}
    for verdict, status in (("Approved", "Succeeded"), ("Rejected", "Failed")):
        started = world.start("asked").json["id"]
        world.work()
        told = world.call("GET", f"/executions/{started}").json
        assert told["digest"] == next(iter(told["assets"].values()))
        done = world.call("POST", f"/executions/{started}/approval", json={**answer, "verdict": verdict})
        assert (done.status_code, done.json["status"]) == (200, status), done.text


def test_pull_requests_start_it_but_not_those_of_forks(world: SourceWorld) -> None:
    world.apply("pulls", triggers=TRIGGERS)
    hook = world.hook("pulls")
    commit = world.code.commit({"text": "pulled\n"}, "pulled", branch="x")
    git(world.code.bare, "update-ref", "refs/pull/12/head", commit)
    fork = world.tell(hook, hub_pull(commit, head_repository=2), "pull_request")
    assert fork.json["outcome"] == "pull requests from forks start no pipeline"
    assert world.executions("pulls") == []
    own = world.tell(hook, hub_pull(commit, head_repository=1), "pull_request")
    assert own.json["outcome"] == "started", own.text
    world.work()
    (execution,) = world.executions("pulls")
    assert execution["status"] == "Succeeded", execution
    assert action(execution, "App")["outputVariables"]["BranchName"] == "pr/12"
    build = world.call("GET", f"/builds/{action(execution, 'Look')['buildId']}").json
    assert build["resolvedSourceVersion"] == commit
    with world.db.read() as session:
        assert session.get_one(Build, build["id"]).webhook == {"CODEBUILD_WEBHOOK_TRIGGER": "pr/12"}


def test_sources_are_asked_for_news_and_the_first_answer_starts_nothing(world: SourceWorld) -> None:
    world.apply("polled", ', PollForSourceChanges: "true"')
    world.poll()
    assert world.executions("polled") == []
    before = git(world.code.bare, "rev-parse", "main")
    commit = world.code.commit({"text": "found\n"}, "found")
    hook = world.hook("polled")
    world.poll()
    world.poll()
    world.code.commit({"text": "elsewhere\n"}, "elsewhere", branch="elsewhere")
    git(world.code.work, "reset", "--quiet", "--hard", commit)
    world.poll()
    (execution,) = world.executions("polled")
    assert (execution["version"], execution["triggeredBy"]) == (commit, "poll")
    assert action(execution, "Look")["outputVariables"] == {"TEXT": "found"}
    # Told of by a hook as well, it is the same push.
    assert world.tell(hook, hub_push(commit, before=before)).json["executionId"] == execution["id"]
    (state,) = world.call("GET", "/pipelines/polled/sources").json["items"]
    assert (state["action"], state["fault"]) == ("App", "")


def test_files_that_changed_are_found_by_asking(world: SourceWorld) -> None:
    world.apply("polled")  # it is asked no more
    world.apply("paths", ', PollForSourceChanges: "true"', stages=GATE, triggers=TRIGGERS)
    world.poll()
    world.code.commit({"docs/a": "x"}, "documents")
    world.poll()
    assert world.executions("paths") == []
    commit = world.code.commit({"text": "changed\n"}, "text", tag="v7")
    world.poll()
    assert {each["version"] for each in world.executions("paths")} == {commit}
    assert {action(each, "App")["outputVariables"]["BranchName"] for each in world.executions("paths")} == {
        "main", "tag/v7",
    }  # fmt: skip


def test_a_source_that_cannot_be_asked_says_why(world: SourceWorld) -> None:
    world.apply("paths", stages=GATE)
    lost = Repository(world.forge.root, "lost")
    world.apply("lost", ', PollForSourceChanges: "true"', stages=GATE, repository="lost")
    world.forge.credentials["lost.git"] = ("nobody", "knows")
    world.poll()
    (state,) = world.call("GET", "/pipelines/lost/sources").json["items"]
    assert "could not be asked" in state["fault"]
    started = world.start("lost")
    assert started.status_code == 201, started.text
    world.work()
    (execution,) = world.executions("lost")
    assert execution["status"] == "Failed"
    assert "could not be fetched" in action(execution, "App")["summary"]
    # What was in the way is gone: the stage is tried again, in the same execution.
    del world.forge.credentials["lost.git"]
    commit = lost.commit({"text": "there\n"})
    assert world.call("POST", f"/executions/{execution['id']}/retry", json={"stage": "Source"}).status_code == 200
    world.work()
    (execution,) = world.executions("lost")
    assert (execution["stages"][0]["status"], execution["version"]) == ("Succeeded", commit)
    world.apply("lost", stages=GATE, repository="lost")


def test_a_start_by_hand_brings_a_commit_and_the_commit_stays(world: SourceWorld) -> None:
    world.apply("hand", stages=LOOK_TWICE)
    first = world.code.commit({"text": "one\n"}, "one")
    second = world.code.commit({"text": "two\n"}, "two")
    revision = {"actionName": "App", "revisionType": "COMMIT_ID", "revisionValue": first}
    assert world.start("hand", "reader", sourceRevisions=[revision]).status_code == 403
    for wrong in ({"revisionValue": first[:12]}, {"revisionType": "IMAGE_DIGEST"}, {"actionName": "Other"}):
        assert world.start("hand", sourceRevisions=[{**revision, **wrong}]).status_code in {400, 422}
    body = {"sourceRevisions": [revision], "clientRequestToken": "once"}
    started = world.start("hand", "publisher", **body)
    assert started.status_code == 201, started.text
    assert world.start("hand", "publisher", **body).json["id"] == started.json["id"]
    world.work()
    (execution,) = world.executions("hand")
    assert (execution["status"], execution["version"]) == ("Failed", first)
    assert action(execution, "Look")["outputVariables"] == {"TEXT": "one"}
    # A retry builds what was pinned, whatever the branch has by now.
    assert world.call("POST", f"/executions/{execution['id']}/retry", json={"stage": "Again"}).status_code == 200
    world.work()
    (execution,) = world.executions("hand")
    with world.db.read() as session:
        pinned = session.get_one(SourceRevision, (execution["id"], "App"))
    assert pinned.revision == first
    newest = world.start("hand")
    world.work()
    assert world.call("GET", f"/executions/{newest.json['id']}").json["version"] == second
    assert world.call("GET", f"/executions/{newest.json['id']}", as_="stranger").status_code == 404


def test_a_revision_takes_the_right_where_its_source_belongs(world: SourceWorld) -> None:
    theirs = Repository(world.forge.root, "theirs")
    theirs.commit({"text": "good\n"})
    unmerged = theirs.commit({"text": "bad\n"}, branch="unmerged")
    body = {"url": world.forge.url, "repository": "staging"}
    assert world.call("PUT", "/git-connections/theirs", json=body).status_code == 200
    assert world.call("PUT", "/source-buckets/theirs", json={"repository": "staging"}).status_code == 200
    stored = world.call("PUT", "/source-buckets/theirs/objects/a.zip", data=b"x")
    more = """
  - name: Theirs
    actionTypeId: {category: Source, owner: Entrepot, provider: Git, version: "1"}
    configuration: {Connection: theirs, FullRepositoryId: theirs, BranchName: main}
    outputArtifacts: [{name: Theirs}]
  - name: Kept
    actionTypeId: {category: Source, owner: AWS, provider: S3, version: "1"}
    configuration: {S3Bucket: theirs, S3ObjectKey: a.zip}
    outputArtifacts: [{name: Kept}]
"""
    document = f"name: two\nstages:{SOURCE.format(repository='app', more='').rstrip()}{more}{GATE.lstrip()}"
    applied = world.call("PUT", "/pipelines", json={"document": document})
    assert applied.status_code == 200, applied.text
    commit = {"actionName": "Theirs", "revisionType": "COMMIT_ID", "revisionValue": unmerged}
    kept = {"actionName": "Kept", "revisionType": "S3_OBJECT_VERSION_ID", "revisionValue": stored.json["versionId"]}
    own = {"actionName": "App", "revisionType": "COMMIT_ID", "revisionValue": git(world.code.bare, "rev-parse", "main")}
    for given in (commit, kept):
        answer = world.start("two", "publisher", sourceRevisions=[own, given])
        assert (answer.status_code, "default/staging" in answer.text) == (403, True), answer.text
    client = world.app.test_client()
    assert client.post("/sign-in", data={"user": "publisher", "password": PASSWORD}).status_code == 303
    assert form_sent(client, "two", **{"revision-Theirs": unmerged}).status_code == 403
    assert world.executions("two") == []
    # Controls: the newest of theirs, and what is one's own, take no right there; and whoever has it may.
    for who, given in (("publisher", [own]), ("admin", [own, commit, kept])):
        assert (started := world.start("two", who, sourceRevisions=given)).status_code == 201, started.text


def test_what_another_source_brings_is_for_readers_of_where_it_belongs(world: SourceWorld) -> None:
    theirs = Repository(world.forge.root, "secretive")
    theirs.commit({"text": "x\n"}, "their secret plan")
    body = {"url": world.forge.url, "repository": "staging"}
    assert world.call("PUT", "/git-connections/secretive", json=body).status_code == 200
    detail = {"minimumCount": 0, "maximumCount": 2}
    scan = {"category": "Test", "provider": "Scan", "version": "1"}
    made = world.call(
        "POST",
        "/action-types",
        json={**scan, "inputArtifactDetails": detail, "outputArtifactDetails": detail, "workers": ["publisher"]},
    )
    assert made.status_code == 201, made.text
    kind = "actionTypeId: {category: Test, owner: Custom, provider: Scan, version: '1'}"
    document = f"""name: mixed
stages:{SOURCE.format(repository="app", more="").rstrip()}
  - name: Theirs
    actionTypeId: {{category: Source, owner: Entrepot, provider: Git, version: "1"}}
    configuration: {{Connection: secretive, FullRepositoryId: secretive, BranchName: main}}
    outputArtifacts: [{{name: Theirs}}]
- name: Scan
  actions:
  - {{name: Ours, {kind}, inputArtifacts: [{{name: App}}]}}
  - {{name: Both, {kind}, inputArtifacts: [{{name: App}}, {{name: Theirs}}]}}
"""
    applied = world.call("PUT", "/pipelines", json={"document": document})
    assert applied.status_code == 200, applied.text
    started = world.start("mixed")
    assert started.status_code == 201, started.text
    world.work()
    path = f"/executions/{started.json['id']}"
    for who, may in (("admin", True), ("publisher", False)):
        answer = world.call("GET", path, as_=who)
        assert ("their secret plan" in answer.text) is may, who
        assert "secretive.git" in answer.text if may else f"{world.forge.url}/secretive" not in answer.text
        revisions = {each["action"]: each for each in answer.json["revisions"]}
        assert revisions["App"]["message"]
        assert revisions["Theirs"]["revision"] == git(theirs.bare, "rev-parse", "main")
        client = world.app.test_client()
        assert client.post("/sign-in", data={"user": who, "password": PASSWORD}).status_code == 303
        for shown in (path, "/pipelines/mixed"):
            page = client.get(shown)
            assert page.status_code == 200
            assert (f"{world.forge.url}/secretive" in page.text) is may, (who, shown)
            assert may or "their secret plan" not in page.text
    # A worker gets the jobs whose artifacts it may read, and no others.
    asked = {"actionTypeId": {**scan, "owner": "Custom"}, "maxBatchSize": 10}
    for who, names in (("publisher", ["Ours"]), ("admin", ["Both"])):
        jobs = world.call("POST", "/jobs/poll", as_=who, json=asked).json["jobs"]
        assert [job["data"]["pipelineContext"]["action"]["name"] for job in jobs] == names


def form_sent(client: Any, pipeline: str, **given: str) -> Any:
    form = next(
        each for each in reading.parse(client.get(f"/pipelines/{pipeline}").text).iter("form")
        if each.attrib["action"].endswith("/start")
    )  # fmt: skip
    fields = {each.attrib["name"]: each.attrib.get("value", "") for each in form.iter("input") if "name" in each.attrib}
    return client.post(f"/pipelines/{pipeline}/start", data={**fields, **given})


LOOK_TWICE = """
- name: Look
  actions:
  - name: Look
    actionTypeId: {category: Compute, owner: AWS, provider: Commands, version: "1"}
    outputVariables: [TEXT]
    commands: ["export TEXT=$(cat text)"]
- name: Again
  actions:
  - name: Fail
    actionTypeId: {category: Compute, owner: AWS, provider: Commands, version: "1"}
    inputArtifacts: [{name: App}]
    commands: ["grep two text"]
"""


def test_a_connection_gives_its_credential_to_what_is_below_it_alone(world: SourceWorld) -> None:
    other = world.forge.url.replace("127.0.0.1", "localhost")
    body = {
        "url": f"{world.forge.url}/team", "repository": "dev",
        "credential": {"authType": "PERSONAL_ACCESS_TOKEN", "secret": "token-of-the-team-77"},
    }  # fmt: skip
    made = world.call("PUT", "/git-connections/team", json=body)
    assert made.status_code == 200, made.text
    assert "token-of-the-team-77" not in made.text + world.call("GET", "/git-connections").text
    for url in (f"{other}/team/app.git", f"{world.forge.url}/teamwork/app.git"):
        document = (
            "name: below\nstages:"
            f"""
- name: Source
  actions:
  - name: App
    actionTypeId: {{category: Source, owner: Entrepot, provider: Git, version: "1"}}
    configuration: {{Connection: team, Url: "{url}", BranchName: main}}
    outputArtifacts: [{{name: App}}]
{LOOK_TWICE}"""
        )
        assert world.call("PUT", "/pipelines", json={"document": document}).status_code == 200
        refused = world.start("below")
        assert refused.status_code == 400, refused.text
        assert "is not below connection team" in refused.text
    # At another address it is no longer there.
    moved = world.call("PUT", "/git-connections/team", json={**body, "url": other, "credential": None})
    assert moved.json["authType"] is None


def test_the_archive_is_deployed_as_a_bundle(world: SourceWorld, tmp_path: Path) -> None:
    bundle = Repository(world.forge.root, "bundle")
    spec = f"version: 0.0\nos: linux\nfiles:\n- {{source: index.html, destination: {tmp_path}/www}}\n"
    bundle.commit({"appspec.yml": spec, "index.html": "hello\n"})
    web = machine(world, "web-1")
    group = {"targets": ["web-1"], "pipelines": ["shipped"]}
    made = world.call("POST", "/deployment-applications", json={"applicationName": "shop"})
    assert made.status_code < 300, made.text
    made = world.call("PUT", "/deployment-applications/shop/groups/www", json={"document": json.dumps(group)})
    assert made.status_code < 300, made.text
    world.apply("shipped", stages=SHIP, repository="bundle")
    assert world.start("shipped").status_code == 201
    world.work()
    (execution,) = world.executions("shipped")
    assert action(execution, "Ship")["status"] == "InProgress", action(execution, "Ship")
    command = web.command()
    assert command["revision"]["revisionType"] == "Source"
    assert web.begin(command["eventId"]).status_code == 200
    answer = web.ask("GET", f"/events/{command['eventId']}/bundle")
    assert hashlib.sha256(answer.data).hexdigest() == command["revision"]["source"]["sha256"]
    # What an agent does with such an archive.
    archive = tmp_path / "source.tar"
    archive.write_bytes(answer.data)
    if IS_ROOT:
        Machine(tmp_path / "machine").deploy(archive)
        assert (tmp_path / "www" / "index.html").read_text() == "hello\n"


SHIP = """
- name: Ship
  actions:
  - name: Ship
    actionTypeId: {category: Deploy, owner: AWS, provider: CodeDeploy, version: "1"}
    configuration: {ApplicationName: shop, DeploymentGroupName: www}
    inputArtifacts: [{name: App}]
"""


def test_archives_that_have_had_their_time_are_let_go_of_but_not_what_is_deployed(world: SourceWorld) -> None:
    world.apply("aging", stages=GATE)
    stopped = world.start("aging").json["id"]
    world.work()
    assert world.call("POST", f"/executions/{stopped}/stop", json={"abandon": True}).status_code == 200
    (execution,) = world.executions("aging")
    with world.db.write() as session:
        kept = {(row.execution_id, row.action): row.blob_id for row in session.query(SourceRevision)}
        shipped = [row.execution_id for row in session.query(SourceRevision) if row.location.endswith("/bundle.git")]
        session.get_one(Execution, shipped[0]).status = "Failed"
    assert kept[execution["id"], "App"] is not None
    assert expire_archives(world.db, 0, world.now + timedelta(days=100)) == 0
    assert expire_archives(world.db, 90, world.now) == 0
    with world.db.write() as session:
        target = session.get_one(Execution, execution["id"])
        rollback = new_rollback(target, "Gate", kind="rollback", identity="r", actor="op", now=world.now)
        session.add(rollback)
        session.flush()
        number = rollback.id
    expire_archives(world.db, 90, world.now + timedelta(days=100))
    with world.db.write() as session:
        assert session.get_one(SourceRevision, (execution["id"], "App")).blob_id is not None, "a rollback hands it on"
        session.delete(session.get_one(Execution, number))
    assert expire_archives(world.db, 90, world.now + timedelta(days=100)) > 0
    with world.db.read() as session:
        left = [row.execution_id for row in session.query(SourceRevision) if row.blob_id is not None]
        row = session.get_one(SourceRevision, (execution["id"], "App"))
        assert (row.blob_id, row.revision) == (None, execution["version"])
    # What runs keeps its archive, and so does what is still being deployed.
    assert execution["id"] not in left
    assert shipped[0] in left
    # Fetched again the same commit is the same archive.
    started = world.start("aging", sourceRevisions=[
        {"actionName": "App", "revisionType": "COMMIT_ID", "revisionValue": execution["version"]}
    ])  # fmt: skip
    world.work()
    assert world.call("GET", f"/executions/{started.json['id']}").json["assets"] == execution["assets"]


def test_pages_tell_of_commits_and_objects_as_of_versions(world: SourceWorld) -> None:
    world.apply("seen", ', PollForSourceChanges: "true"', stages=LOOK_TWICE)
    assert world.call("PUT", "/source-buckets/seen-here", json={"repository": "dev"}).status_code == 200
    stored = world.call("PUT", "/source-buckets/seen-here/objects/a.zip", data=b"x")
    assert stored.status_code == 201
    s3 = "{category: Source, owner: AWS, provider: S3, version: '1'}"
    kept = f"name: kept\nstages:\n- name: Source\n  actions:\n  - {{name: Kept, actionTypeId: {s3}, "
    kept += "configuration: {S3Bucket: seen-here, S3ObjectKey: a.zip}}\n"
    kept += "- name: Gate\n  actions:\n"
    kept += "  - {name: Ask, actionTypeId: {category: Approval, owner: AWS, provider: Manual, version: '1'}}\n"
    coming = "definitionFrom: {name: coming, source: {Url: 'https://forge.example/x.git', BranchName: main, Repository: dev}}"
    for document in (kept, coming):
        assert world.call("PUT", "/pipelines", json={"document": document}).status_code == 200
    client = world.app.test_client()
    assert client.post("/sign-in", data={"user": "admin", "password": PASSWORD}).status_code == 303

    start = partial(form_sent, client)
    wrong = start("seen", **{"revision-App": "main"})
    assert (wrong.status_code, "no commit in full" in wrong.text) == (400, True)
    commit = git(world.code.bare, "rev-parse", "main")
    started = start("seen", **{"revision-App": commit})
    assert started.status_code == 303, started.text
    world.work()
    shown = client.get(started.headers["Location"])
    assert (shown.status_code, commit in shown.text, "branch/main" in shown.text) == (200, True, False)
    (execution,) = world.executions("seen")
    assert client.get(f"/builds/{action(execution, 'Look')['buildId']}").status_code == 200
    assert start("kept").status_code == 303
    for path in ("/pipelines", "/pipelines/seen", "/pipelines/kept", "/approvals", "/"):
        assert client.get(path).status_code == 200, path
    assert "seen-here/a.zip" in client.get("/pipelines/kept").text
    assert "coming" in client.get("/pipelines").text


def test_a_rollback_has_the_commit_that_it_goes_back_to(world: SourceWorld) -> None:
    world.apply("back", triggers="executionMode: QUEUED")
    commits = []
    for text in ("old", "new"):
        commits.append(world.code.commit({"text": f"{text}\n"}, text))
        assert world.start("back").status_code == 201
        world.work()
    old, new = world.executions("back")
    assert [each["version"] for each in (old, new)] == commits
    rolled = world.call("POST", f"/executions/{old['id']}/rollback", json={"stage": "Look"})
    assert rolled.status_code == 201, rolled.text
    world.work()
    again = world.call("GET", f"/executions/{rolled.json['id']}").json
    assert (again["status"], again["version"], again["revisionType"]) == ("Succeeded", commits[0], "GIT")
    assert action(again, "Look")["outputVariables"] == {"TEXT": "old"}
    assert [each["revision"] for each in again["revisions"]] == [commits[0]]


def test_a_source_that_nobody_fetches_does_not_wait_for_ever(world: SourceWorld) -> None:
    world.apply("alone", stages=GATE)
    started = world.start("alone").json["id"]
    with world.db.write() as session:  # as where no worker has a sandbox
        newest = session.query(Job).filter_by(kind="expire_action").order_by(Job.id.desc()).first()
        newest.run_after, newest.priority = 0, 10
    general = wiring.general_jobs(world.hooks.actions)
    with world.db.write() as session:
        (job,) = claims.claim(
            session, owner="w", queues=["default"], kinds=["expire_action"], free=1, lease_seconds=600
        )
    Attempt(
        world.db, job, handler=general.handlers[job.kind], settle=None, lease_seconds=600, first_retry_seconds=1
    ).run()
    execution = world.call("GET", f"/executions/{started}").json
    assert execution["status"] == "Failed"
    assert "had not ended after 60 minutes" in action(execution, "App")["summary"]
    world.work()  # the fetch was given up with it
    assert world.call("GET", f"/executions/{started}").json["version"] == ""


def test_a_rule_of_a_stage_looks_at_the_commit(world: SourceWorld) -> None:
    rule = """
  beforeEntry:
    conditions:
    - result: FAIL
      rules:
      - name: Check
        ruleTypeId: {category: Rule, owner: AWS, provider: Commands, version: "1"}
        commands: ["grep good text"]
"""
    world.apply("ruled", stages=GATE.replace("- name: Gate\n", f"- name: Gate{rule}"))
    for text, status in (("bad", "Failed"), ("good", "InProgress")):
        world.code.commit({"text": f"{text}\n"}, text)
        started = world.start("ruled").json["id"]
        world.work()
        assert world.call("GET", f"/executions/{started}").json["status"] == status, text
