"""Drivers of the routes of actions that others carry out."""

import io
import zipfile
from typing import Any

from tests.security.audit_stage import API, NO_CHANGE, Ask, Stage, drive, drives

NO_CHANGE[f"POST {API}/jobs/poll"] = "offers a job for a minute; that somebody takes it on is an entry"
FAILURE = {"failureDetails": {"type": "JobFailed", "message": "no"}}
COUNTS = {"minimumCount": 0, "maximumCount": 1}


def _type(stage: Stage) -> dict[str, str]:
    provider = stage.name("Provider")
    body = {"category": "Test", "provider": provider, "version": "1"}
    stage.done("POST", "/action-types", {**body, "inputArtifactDetails": COUNTS, "outputArtifactDetails": COUNTS})
    return {**body, "owner": "Custom"}


def _job(stage: Stage, *, acknowledge: bool = True) -> dict[str, Any]:
    """A job that was handed out, and taken on."""
    kind = _type(stage)
    document = f"""name: {kind["provider"]}
stages:
- name: Source
  actions:
  - name: Package
    actionTypeId: {{category: Source, owner: Entrepot, provider: Package}}
    configuration: {{Repository: dev, Format: pypi, Name: "*"}}
- name: Try
  actions:
  - name: Try
    actionTypeId: {{category: Test, owner: Custom, provider: {kind["provider"]}, version: "1"}}
    outputArtifacts: [{{name: Out-{kind["provider"]}}}]
"""
    stage.done("PUT", "/pipelines", {"document": document})
    stage.start(kind["provider"])
    (job,) = stage.done("POST", "/jobs/poll", {"actionTypeId": kind})["jobs"]
    stage.secrets |= {job["data"]["artifactCredentials"]["sessionToken"], job["nonce"]}
    if acknowledge:
        stage.done("POST", f"/jobs/{job['id']}/acknowledge", {"nonce": job["nonce"]})
    return dict(job)


def _upload(job: dict[str, Any]) -> Ask:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a", "b")
    (wanted,) = job["data"]["outputArtifacts"]
    path = f"{API}/job-artifacts/{job['id']}/outputs/{wanted['name']}"
    options = {"data": packed.getvalue(), "content_type": "application/zip"}
    return Ask(path, job["data"]["artifactCredentials"]["sessionToken"], options=options)


def _made(stage: Stage) -> dict[str, Any]:
    """A job in progress that has left what it is to leave."""
    job = _job(stage)
    assert stage.do("PUT", _upload(job)).status_code == 200
    return job


def _called(stage: Stage, word: str, body: object) -> Ask:
    """A job that a webhook was called with: its row says so, since nothing is sent here."""
    from hooks.models import ActionJob

    job = _made(stage)
    with stage.db.write() as session:
        row = session.get_one(ActionJob, job["id"])
        row.action_type_id, row.webhook, row.held_by = None, "robot", "webhook:robot"
    token = job["data"]["artifactCredentials"]["sessionToken"]
    return Ask(f"{API}/job-results/{job['id']}/{word}", token, options={"json": body})


@drives(f"POST {API}/action-types")
def _create(stage: Stage) -> Ask:
    body = {"category": "Test", "provider": stage.name("Provider"), "version": "1"}
    return stage.api("/action-types", {**body, "inputArtifactDetails": COUNTS, "outputArtifactDetails": COUNTS})


drive(
    f"DELETE {API}/action-types/<category>/<provider>/<type_version>",
    lambda s: s.api(f"/action-types/Test/{_type(s)['provider']}/1"),
)


@drives(f"PUT {API}/action-webhooks/<webhook_name>")
def _put_webhook(stage: Stage) -> Ask:
    secret = "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
    stage.secrets |= {secret, "robot.example"}
    body = {"url": "https://robot.example/jobs", "secret": secret}
    return stage.api(f"/action-webhooks/{stage.name('robot')}", body)


@drives(f"DELETE {API}/action-webhooks/<webhook_name>")
def _delete_webhook(stage: Stage) -> Ask:
    ask = _put_webhook(stage)
    assert stage.do("PUT", ask).status_code == 200
    return Ask(ask.path, ask.token)


@drives(f"POST {API}/jobs/<job>/acknowledge")
def _acknowledge(stage: Stage) -> Ask:
    job = _job(stage, acknowledge=False)
    return stage.api(f"/jobs/{job['id']}/acknowledge", {"nonce": job["nonce"]})


drive(f"POST {API}/jobs/<job>/success", lambda s: s.api(f"/jobs/{_made(s)['id']}/success", {}))
drive(f"POST {API}/jobs/<job>/failure", lambda s: s.api(f"/jobs/{_job(s)['id']}/failure", FAILURE))
drive(f"PUT {API}/job-artifacts/<job>/outputs/<artifact>", lambda s: _upload(_job(s)))
drive(f"POST {API}/job-results/<job>/success", lambda s: _called(s, "success", {}))
drive(f"POST {API}/job-results/<job>/failure", lambda s: _called(s, "failure", FAILURE))
