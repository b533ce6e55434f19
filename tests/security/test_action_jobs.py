"""Attacks on actions that others carry out (J6, J7), each with what shows that the attack would have worked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from config import wiring
from config.settings import load
from hooks.jobs import claims
from hooks.jobs.attempt import Attempt
from hooks.models.action_job import ActionJob
from hooks.notifications import fanout
from tests.fakes.receiver import Receiver
from tests.functional.test_action_jobs import PASSPHRASE, Yard, call, upload, zipped

FAILURE = {"failureDetails": {"type": "JobFailed", "message": "no"}}


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    with Receiver(tmp_path_factory.mktemp("receiver")) as receiver:
        made = Yard(tmp_path_factory.mktemp("yard"), receiver)
        yield made
        made.close()


@pytest.fixture
def executions(yard: Yard) -> Iterator[list[Any]]:
    """Executions of the test, which leave no job behind."""
    started: list[Any] = []
    yield started
    for each in started:
        yard.abandon(each)


def state(yard: Yard, job: Any) -> str:
    with yard.db.read() as session:
        return session.get_one(ActionJob, job["id"]).status


def test_J6_a_nonce_takes_its_own_job_on_and_no_other(yard: Yard, executions: list[Any]) -> None:
    executions += [yard.start("signed"), yard.start("signed")]
    one, other = yard.poll()
    yard.put(one, "acknowledge", {"nonce": other["nonce"]}, status=400)
    yard.put(one, "acknowledge", {"nonce": one["nonce"]}, as_="second", status=400)
    assert (state(yard, one), state(yard, other)) == ("Dispatched", "Dispatched")
    # The control: with its own it is taken on.
    yard.put(one, "acknowledge", {"nonce": one["nonce"]})
    assert (state(yard, one), state(yard, other)) == ("InProgress", "Dispatched")


def test_J6_results_are_told_by_who_holds_the_job(yard: Yard, executions: list[Any]) -> None:
    executions.append(yard.start("signed"))
    (job,) = yard.poll()
    yard.put(job, "failure", FAILURE, status=409)  # nobody has acknowledged it
    yard.put(job, "acknowledge", {"nonce": job["nonce"]})
    yard.put(job, "failure", FAILURE, as_="second", status=409)
    yard.put(job, "success", {"continuationToken": "mine now"}, as_="second", status=409)
    assert state(yard, job) == "InProgress"
    assert PASSPHRASE not in yard.call("GET", f"/jobs/{job['id']}", as_="second").text
    assert PASSPHRASE in yard.call("GET", f"/jobs/{job['id']}", as_="worker").text  # the control
    yard.put(job, "failure", FAILURE)
    yard.put(job, "success", {}, status=409)
    assert state(yard, job) == "Failed"


def test_J6_workers_without_the_right_get_no_jobs(yard: Yard, executions: list[Any]) -> None:
    executions.append(yard.start("signed"))
    deny = {"Effect": "Deny", "Principal": "user/second", "Action": "entrepot:PollForJobs", "Resource": "*"}
    policy = "/domains/default/repositories/dev/permissions/policy"
    document = json.dumps({"Statement": [deny]})
    assert yard.call("PUT", policy, json={"policyDocument": document}).status_code == 200
    try:
        assert yard.poll("blind") == [], "named by the type, and no reader of the package"
        assert yard.poll("second") == [], "named by the type, and denied by the repository's policy"
        for stranger in ("reader", "publisher", "approver"):
            yard.poll(stranger, status=403)
        job = yard.take("worker")  # the control: who is named, reads and is not denied
    finally:
        assert yard.call("DELETE", policy).status_code < 300
    for who, status in (("blind", 404), ("reader", 403), (None, 401)):
        for word, body in (("acknowledge", {"nonce": job["nonce"]}), ("success", {}), ("failure", FAILURE)):
            answer = yard.call("POST", f"/jobs/{job['id']}/{word}", as_=who, json=body)
            assert answer.status_code == status, (who, word)
        assert yard.call("GET", f"/jobs/{job['id']}", as_=who).status_code == status
    # A token that says less than its account may, too.
    narrow = yard.token("worker", "read", repositories=["default/prod"])
    assert yard.call("GET", f"/jobs/{job['id']}", token=narrow).status_code == 404
    assert state(yard, job) == "InProgress"


def test_J6_a_later_account_of_a_workers_name_is_no_worker(yard: Yard) -> None:
    kind = {"category": "Test", "provider": "Passing", "version": "1"}
    counts = {"minimumCount": 0, "maximumCount": 0}
    yard.account("passing", "read")
    made = {**kind, "inputArtifactDetails": counts, "outputArtifactDetails": counts, "workers": ["passing"]}
    assert yard.call("POST", "/action-types", json=made).status_code == 201
    body = {"actionTypeId": {**kind, "owner": "Custom"}}
    before = yard.token("passing", "read")
    assert yard.call("POST", "/jobs/poll", token=before, json=body).status_code == 200  # the control
    assert yard.call("DELETE", "/users/passing").status_code == 204
    after = yard.account("passing", "read")
    assert yard.call("POST", "/jobs/poll", token=after, json=body).status_code == 403


def test_J6_a_jobs_token_opens_that_job_while_it_goes_on(yard: Yard, executions: list[Any]) -> None:
    executions += [yard.start("signed"), yard.start("signed")]
    one, other = yard.poll()
    for job in (one, other):
        yard.put(job, "acknowledge", {"nonce": job["nonce"]})
    mine, theirs = (each["data"]["artifactCredentials"]["sessionToken"] for each in (one, other))
    (file,) = one["data"]["inputArtifacts"][0]["location"]["files"]
    target = one["data"]["outputArtifacts"][0]["location"]["url"]
    packed = zipped(a="b")
    for token in (theirs, yard.tokens["worker"], yard.tokens["admin"], "ent_" + "0" * 49):
        assert yard.fetch(file["url"], token).status_code == 401
        assert yard.fetch(target, token, "PUT", packed).status_code == 401
    for path in ("/pipelines", "/domains", f"/jobs/{one['id']}", "/users"):
        assert yard.call("GET", path, token=mine).status_code == 401, path
    assert yard.http.get("/pypi/default/dev/simple/", headers={"Authorization": f"Bearer {mine}"}).status_code == 401
    # A worker's result is told with its own token: the job's is no call back's.
    answer = yard.call("POST", f"/job-results/{one['id']}/success", token=mine, json={})
    assert answer.status_code == 409
    # Neither another artifact, nor another file, nor a path out of it.
    assert yard.fetch(target.replace("Signature", "App"), mine, "PUT", packed).status_code == 404
    for place in ("inputs/Signature/app", "inputs/App/other.whl", "inputs/App/..%2f..%2fetc%2fpasswd"):
        assert yard.call("GET", f"/job-artifacts/{one['id']}/{place}", token=mine).status_code in {400, 404}, place
    assert yard.fetch(file["url"], mine).status_code == 200  # the control
    assert upload(yard, one, packed).status_code == 200
    yard.put(one, "failure", FAILURE)
    assert yard.fetch(file["url"], mine).status_code == 401
    assert upload(yard, one, packed).status_code == 401


def test_J6_a_call_back_counts_once(yard: Yard, executions: list[Any]) -> None:
    execution, event, _ = call(yard)
    executions.append(execution)
    job = event["CodePipeline.job"]
    token = job["data"]["artifactCredentials"]["sessionToken"]
    assert upload(yard, job, zipped(a="b")).status_code == 200

    def say(word: str, body: Any) -> int:
        return int(yard.call("POST", f"/job-results/{job['id']}/{word}", token=token, json=body).status_code)

    assert say("success", {"outputVariables": {"Said": "first"}}) == 200
    assert say("success", {"outputVariables": {"Said": "second"}}) == 401
    assert say("failure", FAILURE) == 401
    assert yard.action(execution, "Call", "Call")["outputVariables"] == {"Said": "first"}
    # The control: with its token alive again it is the action's end that still stands in the way.
    with yard.db.write() as session:
        digest = yard.services.accounts.digest(token)
        alive = update(ActionJob).where(ActionJob.id == job["id"]).values(token_digest=digest, status="InProgress")
        session.execute(alive)
    assert say("success", {"outputVariables": {"Said": "third"}}) == 409
    with yard.db.write() as session:
        session.execute(
            update(ActionJob).where(ActionJob.id == job["id"]).values(token_digest=None, status="Succeeded")
        )
    assert yard.action(execution, "Call", "Call")["outputVariables"] == {"Said": "first"}


def test_J7_a_token_that_is_found_in_an_artifact_ends(yard: Yard, executions: list[Any]) -> None:
    executions.append(yard.start("signed"))
    job = yard.take()
    token = job["data"]["artifactCredentials"]["sessionToken"]
    (file,) = job["data"]["inputArtifacts"][0]["location"]["files"]
    assert yard.fetch(file["url"], token).status_code == 200  # the control
    answer = upload(yard, job, zipped(log=f"used {token} for it"))
    assert answer.status_code == 400
    assert "access token" in answer.text
    assert token not in answer.text
    assert yard.fetch(file["url"], token).status_code == 401


def test_J7_nothing_secret_lies_on_the_disk(yard: Yard, executions: list[Any]) -> None:
    execution, event, secret = call(yard)
    executions += [execution, yard.start("signed")]
    job = yard.take()
    hidden = [
        PASSPHRASE,
        secret,
        yard.receiver.url("/ok"),
        job["data"]["artifactCredentials"]["sessionToken"],
        event["CodePipeline.job"]["data"]["artifactCredentials"]["sessionToken"],
    ]
    with yard.db.write() as session:
        session.connection().exec_driver_sql("SELECT 1")
    files = [path for path in Path(yard.settings.data).rglob("*") if path.is_file()]
    whole = b"".join(path.read_bytes() for path in files)
    assert b"Passphrase" in whole, "the control: the document lies there in clear"
    assert [text for text in hidden if text.encode() in whole] == []


def test_C1_J1_a_webhook_that_leads_inside_is_refused_when_it_is_connected(
    yard: Yard, executions: list[Any], tmp_path: Path
) -> None:
    calls = len(yard.receiver.got())
    made = yard.call("PUT", "/action-webhooks/robot", json={"url": yard.receiver.url()})
    assert made.status_code == 200, "it was allowed when it was saved"
    execution = yard.start("called") if "called" in yard.call("GET", "/pipelines").text else call(yard)[0]
    executions.append(execution)
    strict = load(yard.settings.data, {"ENTREPOT_WEBHOOKS_ALLOW_HTTP": "true"})
    table = wiring.notification_jobs(strict, yard.services, yard.hooks.actions)
    with yard.db.write() as session:
        claimed = claims.claim(
            session, owner="w", queues=[fanout.QUEUE], kinds=["call_webhook"], free=1, lease_seconds=600
        )
    for job in claimed:
        Attempt(
            yard.db, job, handler=table.handlers[job.kind], settle=None, lease_seconds=600, first_retry_seconds=600
        ).run()
    assert len(yard.receiver.got()) == calls
    summary = yard.action(execution, "Call", "Call")["summary"]
    assert "an address that webhooks may not go to" in summary
    assert str(yard.receiver.port) not in summary
    yard.hasten("call_webhook")
    assert len(yard.receiver.got()) == calls + 1  # the control: by the rules that allow it, it goes there
