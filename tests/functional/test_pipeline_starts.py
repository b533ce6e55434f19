"""What starts pipelines beside pushes: objects that are kept here, schedules, webhooks of anything, and by hand."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from hooks import care
from hooks.models.pipeline import ActionExecution, Execution, StageExecution
from hooks.models.pipeline_source import PipelineSchedule, SourceRevision
from hooks.triggers.scheduling import run_due
from tests.build_bench import MISSING_SANDBOX
from tests.pipeline_sources import SourceWorld, action, source_world

pytestmark = pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX)
OBJECT = """
name: {name}
{triggers}
stages:
- name: Source
  actions:
  - name: Zip
    namespace: zip
    actionTypeId: {{category: Source, owner: AWS, provider: S3, version: "1"}}
    configuration: {{S3Bucket: releases, S3ObjectKey: site/app.zip{more}}}
    outputArtifacts: [{{name: Zip}}]
{stages}
"""
LOOK = """
- name: Look
  actions:
  - name: Look
    actionTypeId: {category: Compute, owner: AWS, provider: Commands, version: "1"}
    environmentVariables: [{name: SEEN, value: "#{zip.VersionId} #{zip.ETag}"}]
    outputVariables: [SEEN, TEXT]
    commands: ["export TEXT=$(cat top/text)", "export SEEN"]
"""
GATE = """
- name: Gate
  actions:
  - {name: Ask, actionTypeId: {category: Approval, owner: AWS, provider: Manual, version: "1"}}
"""
PACKAGE = """
name: {name}
{triggers}
stages:
- name: Source
  actions:
  - name: Source
    actionTypeId: {{category: Source, owner: Entrepot, provider: Package, version: "1"}}
    configuration: {{Repository: dev, Format: pypi, Name: "acme-*"}}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SourceWorld]:
    with source_world(tmp_path_factory.mktemp("starts")) as made:
        done = made.call("PUT", "/source-buckets/releases", json={"repository": "dev"})
        assert done.status_code == 200, done.text
        yield made


def zipped(text: str) -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr("top/text", text)
    return body.getvalue()


def apply(world: SourceWorld, document: str, expected: int = 200) -> str:
    done = world.call("PUT", "/pipelines", json={"document": document})
    assert done.status_code == expected, done.text
    return str(done.text)


def put(world: SourceWorld, key: str, body: bytes, as_: str = "publisher") -> Any:
    return world.call("PUT", f"/source-buckets/releases/objects/{key}", as_=as_, data=body)


def test_a_new_version_of_an_object_starts_the_pipeline_that_takes_it(world: SourceWorld) -> None:
    apply(world, OBJECT.format(name="zipped", triggers="", more="", stages=LOOK))
    apply(world, OBJECT.format(name="quiet", triggers="", more=', PollForSourceChanges: "false"', stages=GATE))
    assert world.start("zipped").status_code == 404  # there is no such object yet
    for who, status in (("reader", 403), ("stranger", 404)):
        assert put(world, "site/app.zip", b"x", who).status_code == status
    for key in ("site/app.exe", "a/../b.zip", "site//app.zip", "-.txt"):
        assert put(world, key, b"x").status_code in {400, 404, 308}
    body = zipped("one")
    stored = put(world, "site/app.zip", body)
    assert stored.status_code == 201, stored.text
    assert put(world, "other.zip", body).json["executions"] == []
    (started,) = stored.json["executions"]
    world.work()
    execution = world.call("GET", f"/executions/{started}").json
    assert execution["status"] == "Succeeded", execution
    version = stored.json["versionId"]
    assert (execution["revisionType"], execution["name"], execution["version"]) == (
        "OBJECT", "releases/site/app.zip", version,
    )  # fmt: skip
    assert execution["digest"] == hashlib.sha256(body).hexdigest() == execution["assets"]["source.zip"]
    seen = action(execution, "Look")["outputVariables"]
    assert seen == {"SEEN": f"{version} {hashlib.md5(body).hexdigest()}", "TEXT": "one"}
    assert world.executions("quiet") == []
    # Whose work it is may not approve it.
    assert execution["publishers"] == ["publisher"]
    # An older version by hand, and another key where that is allowed alone.
    put(world, "site/app.zip", zipped("two"))
    older = {"actionName": "Zip", "revisionType": "S3_OBJECT_VERSION_ID", "revisionValue": version}
    assert world.start("quiet", sourceRevisions=[older]).json["version"] == version
    assert world.start("quiet", sourceRevisions=[{**older, "revisionType": "COMMIT_ID"}]).status_code == 400
    other = {"actionName": "Zip", "revisionType": "S3_OBJECT_KEY", "revisionValue": "other.zip"}
    assert world.start("quiet", sourceRevisions=[other]).status_code == 400
    more = ', PollForSourceChanges: "false", AllowOverrideForS3ObjectKey: "true"'
    apply(world, OBJECT.format(name="quiet", triggers="", more=more, stages=GATE))
    assert world.start("quiet", sourceRevisions=[other]).json["name"] == "releases/other.zip"
    assert care.check(world.db) == []
    # A retry, after the archive was let go of, has it from the bucket again, as long as that has this very version.
    assert retried(world, started)["status"] == "Succeeded"
    with world.db.read() as session:
        assert session.get_one(SourceRevision, (started, "Zip")).blob_id is not None
    # What was pinned stays when the bucket goes.
    assert world.call("DELETE", "/source-buckets/releases").status_code == 204
    assert world.call("GET", f"/executions/{started}").json["digest"] == execution["digest"]
    assert world.call("PUT", "/source-buckets/releases", json={"repository": "dev"}).status_code == 200
    assert "the bucket does not have it any more" in action(retried(world, started), "Zip")["summary"]


def retried(world: SourceWorld, started: int) -> Any:
    """The execution after its source stage, whose archive was let go of, was tried again."""
    with world.db.write() as session:
        session.get_one(SourceRevision, (started, "Zip")).blob_id = None
        session.get_one(Execution, started).status = "Failed"
        stages = session.query(StageExecution).filter(StageExecution.execution_id == started)
        for row in stages:
            row.status = "Failed" if row.name == "Source" else row.status
            session.query(ActionExecution).filter(
                ActionExecution.stage_execution_id == row.id, ActionExecution.name == "Zip"
            ).update({"status": "Failed"})
    done = world.call("POST", f"/executions/{started}/retry", json={"stage": "Source"})
    assert done.status_code == 200, done.text
    world.work()
    return world.call("GET", f"/executions/{started}").json


def test_a_schedule_starts_with_what_is_newest_once(world: SourceWorld) -> None:
    schedule = "triggers: [{providerType: Schedule, scheduleConfiguration: {expression: '0 3 * * *', timeZone: Europe/Berlin}}]"
    assert "is none of" in apply(
        world, PACKAGE.format(name="x", triggers=schedule.replace("0 3 * * *", "@daily")) + GATE, expected=400
    )
    apply(world, PACKAGE.format(name="nightly", triggers=schedule) + GATE)

    def due() -> PipelineSchedule:
        with world.db.read() as session:
            return session.query(PipelineSchedule).one()

    first = due().next_at
    assert first is not None
    assert (first.hour, first > world.now) == (2, True)  # three o'clock there in winter
    assert run_due(world.db, world.hooks.actions) == 0
    world.now = first + timedelta(seconds=1)
    assert run_due(world.db, world.hooks.actions) == 1
    assert "was not found" in due().fault  # nothing was published yet
    assert world.executions("nightly") == []
    world.publish("dev", "acme-one", "1.0")
    world.publish("dev", "acme-two", "2.0")
    world.publish("dev", "other", "3.0")
    # Three nights in which nobody looked are one start.
    world.now += timedelta(days=3)
    assert [run_due(world.db, world.hooks.actions) for _ in range(3)] == [1, 0, 0]
    (execution,) = world.executions("nightly")
    assert (execution["name"], execution["version"], execution["triggerKind"]) == ("acme-two", "2.0", "schedule")
    assert (due().fault, due().next_at > world.now) == ("", True)
    # By hand without a version it is the newest as well; a definition without the schedule ends it.
    assert world.start("nightly").json["name"] == "acme-two"
    apply(world, PACKAGE.format(name="nightly", triggers="") + GATE)
    world.now += timedelta(days=3)
    assert run_due(world.db, world.hooks.actions) == 0


def test_a_webhook_of_anything_starts_it_when_all_filters_hold(world: SourceWorld) -> None:
    world.publish("dev", "acme-hook", "1.0")
    apply(world, PACKAGE.format(name="hooked", triggers="") + GATE)
    filters = [
        {"jsonPath": "$.ref", "matchEquals": "refs/heads/{Repository}"},
        {"jsonPath": "$.jobs[0]['done']", "matchEquals": "true"},
    ]
    path = "/pipelines/hooked/webhooks"
    for wrong in ({"filters": [{"jsonPath": "ref", "matchEquals": "x"}]}, {"provider": "github"}, {"provider": "none"}):
        assert world.call("POST", path, json={"provider": "hmac", "filters": filters, **wrong}).status_code in {
            400,
            404,
            422,
        }
    signed = world.call("POST", path, json={"provider": "hmac", "filters": filters}).json
    plain = world.call("POST", path, json={"provider": "token"}).json

    def send(hook: dict[str, Any], payload: Any, **headers: str) -> Any:
        body = json.dumps(payload).encode()
        mac = hmac.new(hook["secret"].encode(), body, hashlib.sha256).hexdigest()
        proof = {"X-Hub-Signature-256": f"sha256={mac}", "Content-Type": "application/json"}
        return world.http.post(f"/hooks/v1/pipelines/{hook['id']}", data=body, headers={**proof, **headers})

    good = {"ref": "refs/heads/dev", "jobs": [{"done": True}]}
    assert send({**signed, "secret": "other"}, good).status_code == 401
    assert send(plain, good).status_code == 401  # a signature is no token
    for held_back in (
        {**good, "ref": "refs/heads/x"},
        {"ref": "refs/heads/dev"},
        {**good, "jobs": {"0": 1}},
        [],
        "text",
    ):
        assert send(signed, held_back).json["outcome"] == "not all filters hold"
    assert world.executions("hooked") == []
    started = send(signed, good)
    assert started.json["outcome"] == "started", started.text
    assert send(signed, good).json["duplicate"]
    assert len(world.executions("hooked")) == 1
    token = {"X-Entrepot-Token": plain["secret"], "Idempotency-Key": "one"}
    first = send(plain, {}, **token)
    assert (first.json["outcome"], send(plain, {}, **token).json["duplicate"]) == ("started", True)
    assert send(plain, {}, **{**token, "Idempotency-Key": "two"}).json["outcome"] == "started"
    assert len(world.executions("hooked")) == 3
