"""Actions that others carry out: CodePipeline's protocol of job workers, webhooks that call back, other pipelines."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, func, select, update

from config import wiring
from hooks import care
from hooks.builds.output_care import Retention, expire
from hooks.jobs import claims
from hooks.jobs.attempt import Attempt
from hooks.models.action_job import ActionArtifact, ActionJob
from hooks.models.job import Job
from hooks.models.pipeline import ActionExecution, Execution, PipelineDefinitionVersion
from hooks.notifications import fanout, signing
from hooks.pipelines.actions import find_kind, timeouts
from hooks.pipelines.definition import ActionType
from hooks.pipelines.rolling_back import new_rollback
from registry.models import AuditEntry
from tests.fakes.receiver import Receiver
from tests.functional.test_hooks_api import Hooks

LOOPBACK = {"ENTREPOT_WEBHOOKS_ALLOWED_NETWORKS": "127.0.0.0/8", "ENTREPOT_WEBHOOKS_ALLOW_HTTP": "true"}
PASSPHRASE = "correct-horse-battery-staple"
SIGNER = {
    "category": "Build",
    "provider": "Signer",
    "version": "1",
    "inputArtifactDetails": {"minimumCount": 0, "maximumCount": 2},
    "outputArtifactDetails": {"minimumCount": 0, "maximumCount": 2},
    "configurationProperties": [
        {"name": "Pool", "required": True, "key": True, "secret": False, "queryable": True},
        {"name": "Passphrase", "required": True, "key": False, "secret": True},
        {"name": "Level", "required": False, "key": False, "secret": False, "type": "Number"},
    ],
    "settings": {"executionUrlTemplate": "https://signer.example/{Config:Pool}/runs/{ExternalExecutionId}"},
    "workers": ["worker"],
}
SIGNED = f"""name: signed
variables: [{{name: LEVEL, defaultValue: "2"}}]
stages:
- name: Source
  actions:
  - name: Package
    actionTypeId: {{category: Source, owner: Entrepot, provider: Package}}
    configuration: {{Repository: dev, Format: pypi, Name: "*"}}
    outputArtifacts: [{{name: App}}]
- name: Sign
  actions:
  - name: Sign
    actionTypeId: {{category: Build, owner: Custom, provider: Signer, version: "1"}}
    namespace: sign
    configuration:
      Pool: big
      Passphrase: {PASSPHRASE}
      Level: "#{{variables.LEVEL}}"
    inputArtifacts: [{{name: App}}]
    outputArtifacts: [{{name: Signature}}]
  - name: Verify
    runOrder: 2
    actionTypeId: {{category: Build, owner: Custom, provider: Signer, version: "1"}}
    configuration: {{Pool: small, Passphrase: "another-{PASSPHRASE}", Level: "#{{sign.Level}}"}}
    inputArtifacts: [{{name: Signature}}]
"""
TYPE_ID = {"category": "Build", "owner": "Custom", "provider": "Signer", "version": "1"}


class Yard(Hooks):
    """A server with a custom action type, a pipeline that uses it, and workers."""

    def __init__(self, folder: Path, receiver: Receiver) -> None:
        super().__init__(folder, LOOPBACK)
        self.receiver = receiver
        for name in ("worker", "second"):
            self.tokens[name] = self.account(name, "read", repositories=["default/dev"])
        self.tokens["blind"] = self.account("blind", "read", repositories=["default/prod"])
        workers = {"workers": ["worker", "second", "blind"]}
        assert self.call("POST", "/action-types", json={**SIGNER, **workers}).status_code == 201
        self.apply(SIGNED)

    def apply(self, document: str, status: int = 200) -> Any:
        answer = self.call("PUT", "/pipelines", json={"document": document})
        assert answer.status_code == status, answer.text
        return answer.json

    def poll(self, as_: str = "worker", query: Mapping[str, str] | None = None, status: int = 200) -> Any:
        body = {"actionTypeId": TYPE_ID, "maxBatchSize": 10, "queryParam": query or {}}
        answer = self.call("POST", "/jobs/poll", as_=as_, json=body)
        assert answer.status_code == status, answer.text
        return answer.json["jobs"] if status == 200 else answer.json

    def take(self, as_: str = "worker", query: Mapping[str, str] | None = None) -> Any:
        (job,) = self.poll(as_, query)
        self.put(job, "acknowledge", {"nonce": job["nonce"]}, as_=as_)
        return job

    def put(self, job: Any, word: str, body: Any, *, as_: str = "worker", status: int = 200) -> Any:
        answer = self.call("POST", f"/jobs/{job['id']}/{word}", as_=as_, json=body)
        assert answer.status_code == status, answer.text
        return answer.json

    def fetch(self, url: str, token: str, method: str = "GET", data: bytes | None = None) -> Any:
        path = "/" + url.partition("/api/v1/")[2]
        return self.call(method, path, token=token, data=data, content_type="application/zip" if data else None)

    def action(self, execution: Any, stage: str, name: str) -> Any:
        found = self.call("GET", f"/executions/{execution['id']}").json
        (within,) = [each for each in found["stages"] if each["name"] == stage]
        return next(each for each in within["actions"] if each["name"] == name)

    def status(self, execution: Any) -> str:
        return str(self.call("GET", f"/executions/{execution['id']}").json["status"])

    def work(self) -> None:
        """Do what is due, in all queues but that of builds."""
        tables = [
            wiring.general_jobs(self.hooks.actions),
            wiring.notification_jobs(self.settings, self.services, self.hooks.actions),
        ]
        handlers = {kind: handler for table in tables for kind, handler in table.handlers.items()}
        settle = {kind: each for table in tables for kind, each in table.settle.items()}
        while True:
            with self.db.write() as session:
                claimed = claims.claim(
                    session, owner="w", queues=["default", fanout.QUEUE], kinds=list(handlers), free=10,
                    lease_seconds=600,
                )  # fmt: skip
            if not claimed:
                return
            for job in claimed:
                Attempt(
                    self.db, job, handler=handlers[job.kind], settle=settle.get(job.kind), lease_seconds=600,
                    first_retry_seconds=600,
                ).run()  # fmt: skip

    def hasten(self, kind: str) -> None:
        with self.db.write() as session:
            session.execute(update(Job).where(Job.kind == kind, Job.state == "queued").values(run_after=0))
        self.work()

    def abandon(self, execution: Any) -> None:
        answer = self.call("POST", f"/executions/{execution['id']}/stop", json={"reason": "done", "abandon": True})
        assert answer.status_code in {200, 409}, answer.text


class Locks:
    """Watches all transactions: pipeline and execution are locked before a job of an action, or its summary, is written."""

    LOCK, JOB, ACTION = (
        "SELECT execution.pipeline_id, execution.mode",
        "UPDATE action_job SET",
        "UPDATE action_execution SET",
    )

    def __init__(self, engine: Engine) -> None:
        self.seen, self.wrong = 0, []  # type: int, list[str]
        event.listen(engine, "begin", lambda connection: connection.info.update(order=[]))
        event.listen(engine, "before_cursor_execute", self._note)

    def _note(self, connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        order = connection.info.get("order")
        if order is None or not statement.startswith((self.LOCK, self.JOB, self.ACTION)):
            return
        is_locked = any(each.startswith(self.LOCK) for each in order)
        is_wrong = not is_locked and (
            statement.startswith(self.ACTION)
            or (statement.startswith(self.LOCK) and any(each.startswith(self.JOB) for each in order))
        )
        order.append(statement)
        self.seen += 1
        if is_wrong:
            self.wrong += ["\n".join(order)]


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    folder = tmp_path_factory.mktemp("yard")
    with Receiver(tmp_path_factory.mktemp("receiver")) as receiver:
        made = Yard(folder, receiver)
        locks = Locks(made.db.engine)
        yield made
        assert locks.seen
        assert locks.wrong == []
        assert care.check(made.db) == []
        made.close()


def zipped(**files: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return packed.getvalue()


def upload(yard: Yard, job: Any, data: bytes, number: int = 0) -> Any:
    url = job["data"]["outputArtifacts"][number]["location"]["url"]
    return yard.fetch(url, job["data"]["artifactCredentials"]["sessionToken"], "PUT", data)


# --- job workers


def test_a_worker_carries_actions_out_from_poll_to_result(yard: Yard) -> None:
    execution = yard.start("signed")
    assert yard.poll(query={"Pool": "small"}) == [], "the queryable property chooses"
    (job,) = yard.poll(query={"Pool": "big"})
    assert yard.poll() == [], "what was dispatched is nobody else's for a while"
    data = job["data"]
    assert data["actionTypeId"] == TYPE_ID
    assert data["actionConfiguration"]["configuration"] == {"Pool": "big", "Passphrase": PASSPHRASE, "Level": "2"}
    assert data["pipelineContext"]["pipelineName"] == "signed"
    assert data["pipelineContext"]["action"]["name"] == data["pipelineContext"]["stage"]["name"] == "Sign"
    assert data["continuationToken"] is None
    (app,) = data["inputArtifacts"]
    (file,) = app["location"]["files"]
    token = data["artifactCredentials"]["sessionToken"]
    assert yard.fetch(file["url"], token).status_code == 401, "not before it is acknowledged"
    assert yard.put(job, "acknowledge", {"nonce": job["nonce"]}) == {"status": "InProgress"}
    got = yard.fetch(file["url"], token)
    assert got.data == b"bytes of My_Pkg-1.0-py3-none-any.whl"
    assert got.headers["ETag"] == f'"sha256-{file["sha256"]}"'
    # It goes on: the job is handed out again, with what the worker left for itself.
    told = {"summary": "half", "externalExecutionId": "run 7", "percentComplete": 50}
    yard.put(job, "success", {"continuationToken": "page-2", "executionDetails": told})
    state = yard.call("GET", "/pipelines/signed/state").json["stageStates"][1]["actionStates"][0]["latestExecution"]
    assert (state["status"], state["summary"], state["percentComplete"]) == ("InProgress", "half", 50)
    assert state["externalExecutionId"] == "run 7"
    assert state["externalExecutionUrl"] == "https://signer.example/big/runs/run%207"
    yard.put(job, "success", {}, status=409)
    again = yard.take()
    assert (again["id"], again["data"]["continuationToken"]) == (job["id"], "page-2")
    assert again["nonce"] != job["nonce"]
    assert yard.fetch(file["url"], token).status_code == 401, "the token ended with the round it was given for"
    # Not without what it is to leave.
    yard.put(again, "success", {}, status=409)
    assert upload(yard, again, b"no zip").status_code == 400
    kept = upload(yard, again, zipped(**{"app.sig": "signed by it"}))
    assert kept.status_code == 200, kept.text
    yard.put(again, "success", {"outputVariables": {"Level": "3"}})
    assert yard.action(execution, "Sign", "Sign")["outputVariables"] == {"Level": "3"}
    # What it left is the input of the next action, digest for digest.
    after = yard.take(query={"Pool": "small"})
    assert after["data"]["actionConfiguration"]["configuration"]["Level"] == "3"
    (given,) = after["data"]["inputArtifacts"]
    assert given["revision"] == kept.json["sha256"]
    (file,) = given["location"]["files"]
    read = yard.fetch(file["url"], after["data"]["artifactCredentials"]["sessionToken"]).data
    assert zipfile.ZipFile(io.BytesIO(read)).read("app.sig") == b"signed by it"
    details = {"type": "JobFailed", "message": "not a good signature"}
    yard.put(after, "failure", {"failureDetails": details})
    assert yard.action(execution, "Sign", "Verify")["summary"] == "JobFailed: not a good signature"
    assert yard.status(execution) == "Failed"
    # A retry of the stage is another job with the same artifact.
    answer = yard.call("POST", f"/executions/{execution['id']}/retry", json={"stage": "Sign"})
    assert answer.status_code == 200, answer.text
    anew = yard.take(query={"Pool": "small"})
    assert anew["id"] != after["id"]
    yard.put(anew, "success", {"currentRevision": {"revision": "r1", "changeIdentifier": "c1"}})
    assert yard.status(execution) == "Succeeded"


def test_a_dispatched_job_goes_back_and_an_old_nonce_is_worth_nothing(yard: Yard) -> None:
    execution = yard.start("signed")
    (lost,) = yard.poll("worker")
    yard.now += timedelta(seconds=61)
    (found,) = yard.poll("second")
    assert found["id"] == lost["id"]
    yard.put(lost, "acknowledge", {"nonce": lost["nonce"]}, status=400)
    yard.put(found, "acknowledge", {"nonce": found["nonce"]}, as_="worker", status=400)
    yard.put(found, "acknowledge", {"nonce": found["nonce"]}, as_="second")
    assert yard.put(found, "acknowledge", {"nonce": found["nonce"]}, as_="second") == {"status": "InProgress"}
    yard.now += timedelta(seconds=61)
    assert yard.poll("worker") == [], "what was acknowledged stays its worker's"
    yard.abandon(execution)
    yard.put(found, "success", {}, as_="second", status=409)
    assert yard.call("GET", f"/jobs/{found['id']}", as_="second").json["status"] == "Failed"


def test_a_job_whose_artifact_is_gone_fails_and_holds_up_no_others(yard: Yard) -> None:
    first, second = yard.start("signed"), yard.start("signed")
    for _ in range(2):
        (job, *_) = yard.poll(query={"Pool": "big"})
        yard.put(job, "acknowledge", {"nonce": job["nonce"]})
        assert upload(yard, job, zipped(a=job["id"])).status_code == 200
        yard.put(job, "success", {"outputVariables": {"Level": "1"}})
        yard.now += timedelta(seconds=61)  # what was offered beside it is offered again
    with yard.db.write() as session:
        session.delete(session.scalars(select(ActionArtifact).order_by(ActionArtifact.id.desc())).first())
    (job,) = yard.poll(query={"Pool": "small"})
    failed = [each for each in (first, second) if yard.status(each) == "Failed"]
    assert len(failed) == 1
    assert "ConfigurationError: artifact" in yard.action(failed[0], "Sign", "Verify")["summary"]
    yard.put(job, "acknowledge", {"nonce": job["nonce"]})
    yard.put(job, "success", {})
    assert {yard.status(first), yard.status(second)} == {"Failed", "Succeeded"}
    # What jobs have left goes with its time, as artifacts of builds do.
    with yard.db.read() as session:
        kept = session.scalar(select(func.count(ActionArtifact.id)))
        of_first = session.scalar(
            select(func.count(ActionArtifact.id))
            .join(ActionJob, ActionJob.id == ActionArtifact.job_id)
            .where(ActionJob.execution_id == first["id"])
        )
    assert expire(yard.db, Retention(), yard.now + timedelta(days=89))[0] == 0
    # Not what a running rollback hands on, though the execution that made it ended long ago.
    with yard.db.write() as session:
        target = session.get_one(Execution, first["id"])
        rollback = new_rollback(target, "Sign", kind="rollback", identity="r", actor="op", now=yard.now)
        session.add(rollback)
        session.flush()
        number = rollback.id
    assert expire(yard.db, Retention(), yard.now + timedelta(days=91))[0] == kept - of_first > 0
    with yard.db.write() as session:
        session.delete(session.get_one(Execution, number))
    assert expire(yard.db, Retention(), yard.now + timedelta(days=91))[0] == of_first > 0


def test_its_time_is_over_after_a_day(yard: Yard) -> None:
    execution = yard.start("signed")
    job = yard.take()
    yard.now += timedelta(hours=24)
    yard.hasten(timeouts.JOB_KIND)
    assert "1440 minutes" in yard.action(execution, "Sign", "Sign")["summary"]
    assert yard.call("GET", f"/jobs/{job['id']}", as_="worker").json["status"] == "TimedOut"
    assert upload(yard, job, zipped(a="b")).status_code == 401


def test_documents_are_checked_against_the_type(yard: Yard) -> None:
    for change, fault in {
        "Level: high": "configuration Level: it is no number",
        "Level: '1'\n      Colour: red": "does not carry out the setting 'Colour'",
        "Level: '1'\n      Pool: 'a b'": "there twice",
    }.items():
        refused = yard.apply(SIGNED.replace('Level: "#{variables.LEVEL}"', change), 400)
        assert fault in json.dumps(refused), refused
    assert "version: '2'" not in SIGNED
    refused = yard.apply(SIGNED.replace('version: "1"', 'version: "2"'), 400)
    assert "Build / Custom / Signer / 2 is not carried out" in json.dumps(refused)
    assert find_kind(ActionType("Test", "Custom", "Anything")) is not None
    assert find_kind(ActionType("Test", "Elsewhere", "Anything")) is None


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"category": "Source"}, 400),
        ({"category": "Compute"}, 400),
        ({"provider": "CodeBuild"}, 409),
        ({"provider": "Fresh", "workers": ["nobody-known"]}, 404),
        ({"inputArtifactDetails": {"minimumCount": 2, "maximumCount": 1}}, 400),
        ({"settings": {"entityUrlTemplate": "javascript:alert(1)"}}, 400),
        ({"settings": {"entityUrlTemplate": "https://{Config:Pool}/x"}}, 400),
        ({"configurationProperties": [{"name": "A", "required": True, "key": True, "secret": True,
                                       "queryable": True}]}, 400),
        ({}, 409),
    ],
)  # fmt: skip
def test_types_that_cannot_be(yard: Yard, change: Mapping[str, Any], status: int) -> None:
    answer = yard.call("POST", "/action-types", json={**SIGNER, **change})
    assert answer.status_code == status, answer.text


def test_a_deleted_type_is_served_no_more_and_its_version_never_comes_back(yard: Yard) -> None:
    made = {**SIGNER, "provider": "Passing"}
    assert yard.call("POST", "/action-types", json=made).status_code == 201
    assert yard.call("DELETE", "/action-types/Build/Passing/1").status_code == 204
    assert yard.call("POST", "/action-types", json=made).status_code == 409
    body = {"actionTypeId": {**TYPE_ID, "provider": "Passing"}}
    assert yard.call("POST", "/jobs/poll", as_="worker", json=body).status_code == 404
    listed = yard.call("GET", "/action-types?owner=Custom", as_="reader").json["items"]
    assert [each["id"]["provider"] for each in listed] == ["Signer"]


# --- secret properties


def test_secret_properties_are_sealed_masked_and_kept(yard: Yard) -> None:
    shown = yard.call("GET", "/pipelines/signed").json
    assert PASSPHRASE not in json.dumps(shown)
    assert 'Passphrase: "****"' in shown["document"]
    assert yard.apply(SIGNED)["items"][0]["change"] == "unchanged"
    assert yard.apply(shown["document"])["items"][0]["change"] == "unchanged", "the mask stands for what it was"
    other = SIGNED.replace(PASSPHRASE, "some-other-passphrase", 1)
    assert yard.apply(other)["items"][0]["change"] == "updated"
    # A changed document with the mask keeps the value that was there.
    masked = yard.call("GET", "/pipelines/signed").json["document"].replace("Pool: big", "Pool: mid")
    yard.apply(masked)
    execution = yard.start("signed")
    (job,) = yard.poll(query={"Pool": "mid"})
    assert job["data"]["actionConfiguration"]["configuration"]["Passphrase"] == "some-other-passphrase"
    yard.abandon(execution)
    yard.apply(SIGNED)
    refused = yard.apply(masked.replace("name: signed", "name: signed-anew"), 400)
    assert "there is no value of it yet" in json.dumps(refused)
    refused = yard.apply(f"# the passphrase is {PASSPHRASE}\n{SIGNED}", 400)
    assert PASSPHRASE not in json.dumps(refused)
    refused = yard.apply(SIGNED.replace(PASSPHRASE, "12345678901", 1), 400)
    assert "write it in quotes" in json.dumps(refused)
    assert "12345678901" not in json.dumps(refused)


def test_files_that_declare_a_server_keep_their_secrets_too(yard: Yard) -> None:
    def declare(text: str, **more: Any) -> Any:
        body = {"files": [{"name": "signed.yml", "text": text}], **more}
        answer = yard.call("PUT", "/declarations", json=body)
        assert answer.status_code == 200, answer.text
        assert PASSPHRASE not in answer.text
        (change,) = answer.json["items"]
        return change["change"]

    text = SIGNED.replace("name: signed", "name: declared")
    assert declare(text, dryRun=True) == "created"
    assert declare(text) == "created"
    assert declare(text) == "unchanged"
    other = text.replace(PASSPHRASE, "quite-another-passphrase", 1)
    assert [declare(other, dryRun=True), declare(other), declare(other)] == ["updated", "updated", "unchanged"]
    shown = yard.call("GET", "/pipelines/declared").json["document"]
    assert declare(shown) == "unchanged"
    execution = yard.start("declared")
    (job,) = yard.poll(query={"Pool": "big"})
    assert job["data"]["actionConfiguration"]["configuration"]["Passphrase"] == "quite-another-passphrase"
    yard.abandon(execution)


def test_a_secret_property_is_nowhere_but_with_its_worker(yard: Yard) -> None:
    execution = yard.start("signed")
    job = yard.take()
    told = {"summary": f"used {PASSPHRASE}", "externalExecutionId": f"x-{PASSPHRASE}"}
    assert upload(yard, job, zipped(a=f"it is {PASSPHRASE}")).status_code == 400
    assert upload(yard, job, zipped(a="harmless")).status_code == 200
    variables = {"Level": "1", "Seen": f"[{PASSPHRASE}]"}
    yard.put(job, "success", {"executionDetails": told, "outputVariables": variables})
    second = yard.take(query={"Pool": "small"})
    message = f"refused another-{PASSPHRASE}"
    yard.put(second, "failure", {"failureDetails": {"type": "PermissionError", "message": message}})
    assert yard.action(execution, "Sign", "Verify")["summary"] == "PermissionError: refused ****"
    for path in (f"/executions/{execution['id']}", "/pipelines/signed/state", "/pipelines/signed", "/audit"):
        answer = yard.call("GET", path)
        assert answer.status_code == 200, path
        assert PASSPHRASE not in answer.text, path
    assert PASSPHRASE not in yard.call("GET", f"/jobs/{job['id']}", as_="worker").text, "nor when it has ended"
    with yard.db.read() as session:
        kept = [
            *(row.model for row in session.scalars(select(PipelineDefinitionVersion))),
            *(row.document for row in session.scalars(select(PipelineDefinitionVersion))),
            *([row.configuration, row.resolved_configuration, row.output_variables, row.summary]
              for row in session.scalars(select(ActionExecution))),
            *(row.details for row in session.scalars(select(AuditEntry))),
            *(row.details for row in session.scalars(select(ActionJob))),
        ]  # fmt: skip
    assert PASSPHRASE not in json.dumps(kept)


# --- webhooks


CALLED = """name: called
stages:
- name: Source
  actions:
  - name: Package
    actionTypeId: {category: Source, owner: Entrepot, provider: Package}
    configuration: {Repository: dev, Format: pypi, Name: "*"}
    outputArtifacts: [{name: App}]
- name: Call
  actions:
  - name: Call
    actionTypeId: {category: Invoke, owner: Entrepot, provider: Webhook}
    configuration: {WebhookName: robot, UserParameters: "deploy now"}
    inputArtifacts: [{name: App}]
    outputArtifacts: [{name: Report}]
"""


def call(yard: Yard, path: str = "/ok", execution: Any = None) -> tuple[Any, dict[str, Any], str]:
    """Start the pipeline whose action calls ``path``: (execution, what the receiver got, the secret)."""
    made = yard.call("PUT", "/action-webhooks/robot", json={"url": yard.receiver.url(path)})
    assert made.status_code == 200, made.text
    yard.apply(CALLED)
    execution = execution or yard.start("called")
    yard.work()
    return execution, yard.receiver.got()[-1].event, made.json["secret"]


def test_a_webhook_is_called_with_a_signed_job_and_calls_back(yard: Yard) -> None:
    execution, event, secret = call(yard)
    got = yard.receiver.got()[-1]
    expected = signing.headers(got.id, int(got.headers["webhook-timestamp"]), got.body, [secret])
    assert got.headers["webhook-signature"] == expected["webhook-signature"]
    job = event["CodePipeline.job"]
    assert job["data"]["actionConfiguration"]["configuration"]["UserParameters"] == "deploy now"
    assert yard.action(execution, "Call", "Call")["summary"] == "webhook robot has taken it"
    token, callback = job["data"]["artifactCredentials"]["sessionToken"], event["callback"]

    def answer(url: str, body: Any, secret: str = token) -> Any:
        return yard.call("POST", "/" + url.partition("/api/v1/")[2], token=secret, json=body)

    (file,) = job["data"]["inputArtifacts"][0]["location"]["files"]
    assert yard.fetch(file["url"], token).data.startswith(b"bytes of")
    # It goes on, and is called again a little later, with another token.
    assert answer(callback["successUrl"], {"continuationToken": "later"}).json == {"status": "Queued"}
    assert answer(callback["successUrl"], {}).status_code == 401
    calls = len(yard.receiver.got())
    yard.work()
    assert len(yard.receiver.got()) == calls
    yard.hasten("call_webhook")
    again = yard.receiver.got()[-1].event["CodePipeline.job"]
    assert again["data"]["continuationToken"] == "later"
    fresh = again["data"]["artifactCredentials"]["sessionToken"]
    assert fresh != token
    assert upload(yard, again, zipped(report="fine")).status_code == 200
    assert answer(callback["successUrl"], {"outputVariables": {"A": "b"}}, fresh).json == {"status": "Succeeded"}
    assert yard.status(execution) == "Succeeded"
    # A call back that comes again says nothing.
    assert answer(callback["successUrl"], {}, fresh).status_code == 401
    assert (
        answer(callback["failureUrl"], {"failureDetails": {"type": "JobFailed", "message": "no"}}, fresh).status_code
        == 401
    )
    assert yard.status(execution) == "Succeeded"
    # Neither address nor secret nor token is told anywhere else.
    listed = yard.call("GET", "/action-webhooks").text + yard.call("GET", "/audit").text
    shown = yard.call("GET", f"/executions/{execution['id']}").text + yard.call("GET", "/pipelines/called").text
    for secret_text in (token, fresh, secret, str(yard.receiver.port)):
        assert secret_text not in listed + shown


def test_a_webhook_fails_an_action_and_does_not_answer_for_ever(yard: Yard) -> None:
    execution, event, _ = call(yard)
    body = {"failureDetails": {"type": "ConfigurationError", "message": "no such place"}}
    path = "/" + event["callback"]["failureUrl"].partition("/api/v1/")[2]
    token = event["CodePipeline.job"]["data"]["artifactCredentials"]["sessionToken"]
    assert yard.call("POST", path, token=token, json=body).status_code == 200
    assert yard.action(execution, "Call", "Call")["summary"] == "ConfigurationError: no such place"
    # One that does not take the call is called again, with the very same message, until the time is over.
    execution, _, _ = call(yard, "/status/500")
    first = yard.receiver.got()[-1]
    assert "it answered 500; it is called again" in yard.action(execution, "Call", "Call")["summary"]
    yard.hasten("call_webhook")
    second = yard.receiver.got()[-1]
    assert (second.id, second.body) == (first.id, first.body)
    yard.now += timedelta(minutes=20)
    yard.hasten(timeouts.JOB_KIND)
    assert yard.status(execution) == "Failed"
    calls = len(yard.receiver.got())
    yard.hasten("call_webhook")
    assert len(yard.receiver.got()) == calls


def test_webhooks_go_where_webhooks_may_go(yard: Yard) -> None:
    for url in ("http://169.254.169.254/latest", "http://10.0.0.1/", "file:///etc/passwd", "http://[::ffff:10.0.0.1]/"):
        answer = yard.call("PUT", "/action-webhooks/robot", json={"url": url})
        assert answer.status_code == 400, url
    assert yard.call("PUT", "/action-webhooks/robot", json={"url": yard.receiver.url()}).status_code == 200
    yard.apply(CALLED.replace("robot", "missing").replace("name: called", "name: lost"))
    assert yard.status(yard.start("lost")) == "Failed"
    yard.apply(CALLED)
    execution = yard.start("called")
    assert yard.call("DELETE", "/action-webhooks/robot").status_code == 204
    yard.work()
    assert "webhook robot cannot be called" in yard.action(execution, "Call", "Call")["summary"]


# --- other pipelines


def calling(name: str, other: str, *, more: str = "") -> str:
    return f"""name: {name}
stages:
- name: Source
  actions:
  - name: Package
    actionTypeId: {{category: Source, owner: Entrepot, provider: Package}}
    configuration: {{Repository: dev, Format: pypi, Name: "*"}}
- name: Other
  actions:
  - name: Other
    actionTypeId: {{category: Invoke, owner: AWS, provider: CodePipeline, version: "1"}}
    namespace: other
    configuration: {{PipelineName: {other}{more}}}
"""


def invoked(yard: Yard, execution: Any) -> Any:
    yard.work()
    number = yard.action(execution, "Other", "Other")["invokedExecutionId"]
    assert number is not None, yard.action(execution, "Other", "Other")
    return yard.call("GET", f"/executions/{number}").json


def test_a_pipeline_starts_another_with_its_version_and_ends_as_it_ends(yard: Yard) -> None:
    more = """, Variables: '[{"name": "LEVEL", "value": "7"}]'"""
    yard.apply(calling("outer", "signed", more=more))
    outer = yard.start("outer")
    inner = invoked(yard, outer)
    assert (inner["pipeline"], inner["version"], inner["digest"]) == ("signed", "1", outer["digest"])
    assert (inner["variables"], inner["depth"], inner["triggerKind"]) == ({"LEVEL": "7"}, 1, "invoke")
    assert inner["publishers"] == outer["publishers"]
    job = yard.take()
    assert job["data"]["actionConfiguration"]["configuration"]["Level"] == "7"
    yard.put(job, "failure", {"failureDetails": {"type": "JobFailed", "message": "no"}})
    assert yard.status(outer) == "InProgress"
    yard.work()
    assert yard.action(outer, "Other", "Other")["summary"] == f"execution {inner['id']}: Failed"
    assert yard.status(outer) == "Failed"
    # A retry starts another execution, which may do better.
    yard.call("POST", f"/executions/{outer['id']}/retry", json={"stage": "Other"})
    second = invoked(yard, outer)
    assert second["id"] != inner["id"]
    job = yard.take()
    assert upload(yard, job, zipped(a="b")).status_code == 200
    yard.put(job, "success", {"outputVariables": {"Level": "3"}})
    yard.put(yard.take(), "success", {})
    yard.work()
    assert yard.status(outer) == "Succeeded"
    assert yard.action(outer, "Other", "Other")["outputVariables"] == {"PipelineExecutionId": str(second["id"])}


@pytest.mark.parametrize("abandon", [False, True])
def test_stopping_is_passed_on(yard: Yard, *, abandon: bool) -> None:
    yard.apply(calling("outer", "signed"))
    outer = yard.start("outer")
    inner = invoked(yard, outer)
    yard.call("POST", f"/executions/{outer['id']}/stop", json={"reason": "no", "abandon": abandon})
    yard.work()
    if not abandon:
        assert (yard.status(inner), yard.status(outer)) == ("Stopping", "Stopping")
        yard.put(yard.take(), "failure", {"failureDetails": {"type": "JobFailed", "message": "no"}})
        yard.work()
        assert (yard.status(inner), yard.status(outer)) == ("Failed", "Failed")
    else:
        assert (yard.status(inner), yard.status(outer)) == ("Stopped", "Stopped")
        assert yard.poll() == []


def test_a_circle_of_pipelines_ends(yard: Yard) -> None:
    yard.apply(calling("ring", "ring"))
    first = yard.start("ring")
    yard.work()
    assert yard.status(first) == "Failed"
    rings = yard.call("GET", "/pipelines/ring/executions").json["items"]
    assert [each["status"] for each in rings] == ["Failed"] * 4
    deepest = yard.action(rings[0], "Other", "Other")["summary"]
    assert "looks like a loop" in deepest


def test_another_pipeline_is_started_in_the_right_of_who_wrote_the_definition(yard: Yard) -> None:
    for change, told in (
        ("nowhere", "pipeline nowhere was not started"),
        ("release, SourceRepository: prod", "is not what its source action takes"),
    ):
        yard.apply(calling("asks", change))
        execution = yard.start("asks")
        yard.work()
        assert told in yard.action(execution, "Other", "Other")["summary"]
    yard.tokens["writer"] = yard.account("writer", "admin")
    answer = yard.call("PUT", "/pipelines", as_="writer", json={"document": calling("asks", "signed")})
    assert answer.status_code == 200
    yard.disable("writer")
    execution = yard.start("asks")
    yard.work()
    assert (
        "writer, who wrote the pipeline's definition, is not there"
        in yard.action(execution, "Other", "Other")["summary"]
    )
    # An approval before another pipeline stands before whatever that one does.
    gate = "- name: Gate\n  actions:\n  - name: Ask\n    actionTypeId: {category: Approval, provider: Manual}\n"
    yard.apply(calling("asks", "signed").replace("- name: Other\n", f"{gate}- name: Other\n", 1))
    execution = yard.start("asks")
    yard.tokens["narrow"] = yard.account("narrow", "read", "approve", repositories=["default/dev"])
    assert yard.answer(execution, as_="narrow").status_code == 403
    assert yard.answer(execution, as_="admin").status_code == 200
    yard.work()
    yard.abandon(execution)
    yard.work()
