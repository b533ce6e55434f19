"""Drivers of the routes of runners: those of administrators, and what runners themselves say."""

import io
import json
import zipfile
from typing import Any

from tests.security.audit_stage import API, NO_CHANGE, Ask, Stage, drive

AT = "2026-01-01T00:00:00+00:00"
PHASES = [{"phaseType": "BUILD", "startTime": AT, "phaseStatus": "SUCCEEDED", "endTime": AT, "contexts": []}]
LEASE = f"{API}/runner/leases/<lease>"

NO_CHANGE.update(
    {
        f"POST {LEASE}/heartbeat": "prolongs what is held; that it was given is an entry",
        f"PUT {LEASE}/log": "the build's own record, as it comes; that it began and ended are entries",
        f"PUT {LEASE}/phases": "the build's own record, as the log",
        f"PUT {LEASE}/reports": "the build's own record, as the log",
        f"PUT {LEASE}/cache": "makes later builds faster, and is theirs alone",
        f"POST {LEASE}/cache": "a question",
        f"POST {LEASE}/batch": "a question, too; what counts is told with the end",
    }
)


def _added(stage: Stage, **limits: Any) -> tuple[str, str]:
    name = stage.name("runner")
    token = stage.done("POST", "/runners", {"name": name, **limits})["registrationToken"]
    stage.secrets.add(token)
    return name, token


def _registered(stage: Stage, **limits: Any) -> str:
    """A runner's credential."""
    _, token = _added(stage, **limits)
    answer = stage.do("POST", _registration(token))
    assert answer.status_code == 201, answer.text
    stage.secrets.add(answer.json["credential"])
    return str(answer.json["credential"])


SAID = {"protocol": 2, "host": "h", "version": "1", "environments": ["process"], "slots": 1}


def _registration(token: str) -> Ask:
    return Ask(f"{API}/runner/register", token, options={"json": SAID})


def _waiting(stage: Stage) -> Ask:
    """The claim of a runner for which a build waits."""
    project = stage.name("project")
    document = {
        "name": project,
        "repository": "dev",
        "source": {"type": "NO_SOURCE"},
        "buildspec": "version: 0.2\nphases:\n  build:\n    commands: ['true']\n",
        "environment": {"type": "process", "network": "none"},
    }
    stage.done("PUT", f"/build-projects/{project}", {"document": json.dumps(document)})
    stage.done("PUT", f"/parameters/of/{project}", {"value": "correct-horse-battery", "projects": [project]})
    stage.done("POST", f"/build-projects/{project}/builds", {})
    credential = _registered(stage, projects=[project])
    return Ask(f"{API}/runner/claim", credential, options={"json": {**SAID, "leases": []}})


def _about(stage: Stage, path: str, body: Any) -> Ask:
    """Something that a runner says about the build it has."""
    claim = _waiting(stage)
    build = stage.do("POST", claim).json["build"]
    stage.secrets.add(build["leaseToken"])
    body = body(build) if callable(body) else body
    sent = {"data": body} if isinstance(body, bytes) else {"json": body}
    at = f"{API}/runner/leases/{build['leaseId']}/{path}"
    return Ask(at, claim.token, options={**sent, "headers": {"Entrepot-Lease": build["leaseToken"]}})


def _zip() -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr("file.txt", "content")
    return body.getvalue()


def _wanted(build: dict[str, Any]) -> dict[str, Any]:
    return {"references": [{"variable": "P", "type": "PARAMETER_STORE", "value": f"/of/{build['project']}"}]}


drive(f"POST {API}/runners", lambda s: s.api("/runners", {"name": s.name("runner")}))
drive(f"POST {API}/runners/<runner>/registration-token", lambda s: s.api(f"/runners/{_added(s)[0]}/registration-token"))
drive(f"POST {API}/runners/<runner>/revoke", lambda s: s.api(f"/runners/{_added(s)[0]}/revoke"))
drive(f"DELETE {API}/runners/<runner>", lambda s: s.api(f"/runners/{_added(s)[0]}"))
drive("POST /runners", lambda s: s.form("/runners", name=s.name("runner")))
for _word in ("token", "revoke", "delete"):
    drive(f"POST /runners/<runner>/{_word}", lambda s, word=_word: s.form(f"/runners/{_added(s)[0]}/{word}"))
drive(f"POST {API}/runner/register", lambda s: _registration(_added(s)[1]))
drive(f"POST {API}/runner/claim", _waiting)
drive(f"POST {LEASE}/facts", lambda s: _about(s, "facts", {"imageDigest": f"sha256:{'0' * 64}"}))
drive(f"POST {LEASE}/values", lambda s: _about(s, "values", _wanted))
drive(
    f"PUT {LEASE}/artifacts/<identifier>",
    lambda s: _about(s, "artifacts/primary?name=out&packaging=ZIP&files=1", _zip()),
)
drive(f"POST {LEASE}/give-back", lambda s: _about(s, "give-back", {"error": "no room"}))
drive(
    f"POST {LEASE}/finish",
    lambda s: _about(s, "finish", {"status": "SUCCEEDED", "phases": PHASES, "exportedVariables": {}, "logBytes": 0}),
)
