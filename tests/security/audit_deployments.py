"""Drivers of the routes of deployments."""

import hashlib

from hooks.deployments import engine, hook_answers
from hooks.deployments.outcomes import EventStatus
from hooks.deployments.phases import Phase
from hooks.models.deployment import Deployment
from tests.functional.test_deployments_api import bundle, machine, step
from tests.security.audit_stage import API, Ask, Stage, drive, drives

APPS = "/deployment-applications"
GROUP = "deploymentConfigName: CodeDeployDefault.AllAtOnce\ntargets: "


def _application(stage: Stage) -> str:
    name = stage.name("app")
    stage.done("POST", APPS, {"applicationName": name})
    return name


def _group(stage: Stage) -> tuple[str, str]:
    """An application with the group ``prod``, and its only machine."""
    application, agent = _application(stage), stage.name("machine")
    with stage.db.write() as session:
        session.add(machine(agent, "web", stage.now))
    stage.done("PUT", f"{APPS}/{application}/groups/prod", {"document": f"{GROUP}[{agent}]"})
    return application, agent


def _wanted(application: str, **more: object) -> dict[str, object]:
    package = {"repository": "dev", "format": "pypi", "name": "my-pkg", "version": "1.0"}
    revision = {"revisionType": "Package", "package": package}
    return {"applicationName": application, "deploymentGroupName": "prod", "revision": revision, **more}


def _running(stage: Stage, **more: object) -> tuple[str, str]:
    """The path of a deployment that goes on, and its machine."""
    application, agent = _group(stage)
    made = stage.done("POST", "/deployments", _wanted(application, **more))
    return f"/deployments/{made['deploymentId']}", agent


def _failed(stage: Stage, **more: object) -> tuple[str, int]:
    """The path of a deployment whose target has failed, and that target."""
    one, agent = _running(stage, **more)
    step(stage, agent, EventStatus.FAILED)
    return one, int(stage.done("GET", f"{one}/targets")["items"][0]["targetId"])


drive(f"POST {API}{APPS}", lambda s: s.api(APPS, {"applicationName": s.name("app")}))
drive(
    f"PATCH {API}{APPS}/<application>",
    lambda s: s.api(f"{APPS}/{_application(s)}", {"newApplicationName": s.name("app")}),
)
drive(f"DELETE {API}{APPS}/<application>", lambda s: s.api(f"{APPS}/{_application(s)}"))
drive(
    f"POST {API}{APPS}/<application>/uploads",
    lambda s: s.client(f"{API}{APPS}/{_application(s)}/uploads", data=bundle()),
)
drive(
    f"PUT {API}{APPS}/<application>/groups/<group>",
    lambda s: s.api(f"{APPS}/{_application(s)}/groups/prod", {"document": f"{GROUP}[nobody]"}),
)
drive(f"DELETE {API}{APPS}/<application>/groups/<group>", lambda s: s.api(f"{APPS}/{_group(s)[0]}/groups/prod"))


def _config(stage: Stage) -> dict[str, str]:
    minimum = "minimumHealthyHosts: {type: HOST_COUNT, value: 1}"
    return {"document": f"deploymentConfigName: {stage.name('config')}\n{minimum}"}


drive(f"POST {API}/deployment-configs", lambda s: s.api("/deployment-configs", _config(s)))


@drives(f"DELETE {API}/deployment-configs/<config>")
def _delete_config(stage: Stage) -> Ask:
    made = stage.done("POST", "/deployment-configs", _config(stage))
    return stage.api(f"/deployment-configs/{made['deploymentConfigName']}")


drive(
    f"PUT {API}/domains/<domain>/deployment-alarms/<alarm>",
    lambda s: s.api("/domains/default/deployment-alarms/" + s.name("alarm"), {"state": "ALARM"}),
)


@drives(f"DELETE {API}/domains/<domain>/deployment-alarms/<alarm>")
def _forget_alarm(stage: Stage) -> Ask:
    path = "/domains/default/deployment-alarms/" + stage.name("alarm")
    stage.done("PUT", path, {"state": "OK"})
    return stage.api(path)


ONE = f"POST {API}/deployments/<deployment_id>"
drive(f"POST {API}/deployments", lambda s: s.api("/deployments", _wanted(_group(s)[0])))
drive(f"{ONE}/stop", lambda s: s.api(f"{_running(s)[0]}/stop"))
drive(f"{ONE}/pause", lambda s: s.api(f"{_running(s)[0]}/pause"))
drive(f"{ONE}/retry", lambda s: s.api(f"{_failed(s)[0]}/retry"))


@drives(f"{ONE}/resume")
def _resume(stage: Stage) -> Ask:
    one, _ = _running(stage)
    stage.done("POST", f"{one}/pause")
    return stage.api(f"{one}/resume")


drive(f"{ONE}/rollback", lambda s: s.api(f"{_running(s)[0]}/rollback"))


@drives(f"{ONE}/targets/<id:target_id>/skip")
def _skip(stage: Stage) -> Ask:
    one, _ = _running(stage)
    target = stage.done("GET", f"{one}/targets")["items"][0]["targetId"]
    return stage.api(f"{one}/targets/{target}/skip", {"lifecycleEventName": "ApplicationStop"})


@drives(f"{ONE}/targets/<id:target_id>/answer")
def _answer(stage: Stage) -> Ask:
    one, target = _failed(stage, guidedFailure=True)
    return stage.api(f"{one}/targets/{target}/answer", {"answer": "fail"})


@drives(f"PUT {API}/deployments/<deployment_id>/hook-status")
def _hook_status(stage: Stage) -> Ask:
    """One with an execution of a hook, which no platform without containers has: its row says so."""
    one, agent = _running(stage)
    with stage.db.write() as session:
        event = engine.next_for_agent(session, agent, stage.now)[2]
        row = session.get_one(Deployment, one.rpartition("/")[2])
        kept = {"digest": hashlib.sha256(b"told").hexdigest(), "event": event.id, "status": "Pending"}
        row.details = {**row.details, hook_answers.KEY: {"shop/BeforeInstall/0": kept}}
    return stage.api(f"{one}/hook-status", {"lifecycleEventHookExecutionId": "told", "status": "Succeeded"})


@drives(f"{ONE}/continue")
def _continue(stage: Stage) -> Ask:
    """One that waits before the traffic is sent: its row says so, since there is no router here to reach that by."""
    one, _ = _running(stage)
    with stage.db.write() as session:
        row = session.get_one(Deployment, one.rpartition("/")[2])
        row.phase, row.status = Phase.READY_WAIT.value, "Ready"
    return stage.api(f"{one}/continue", {"deploymentWaitType": "READY_WAIT"})


# --- pages

PAGE = "POST /deployments/<deployment_id>"
FIELDS = {
    "kind": "package",
    "group": "prod",
    "repository": "dev",
    "format": "pypi",
    "package": "my-pkg",
    "version": "1.0",
}
drive(
    "POST /applications/<application>/deploy",
    lambda s: s.form(f"/applications/{_group(s)[0]}/deploy", do="create", **FIELDS),
)
drive(f"{PAGE}/stop", lambda s: s.form(f"{_running(s)[0]}/stop"))
drive(f"{PAGE}/pause", lambda s: s.form(f"{_running(s)[0]}/pause"))
drive(f"{PAGE}/retry", lambda s: s.form(f"{_failed(s)[0]}/retry"))
drive(f"{PAGE}/rollback", lambda s: s.form(f"{_running(s)[0]}/rollback"))


@drives(f"{PAGE}/resume")
def _resume_by_form(stage: Stage) -> Ask:
    return stage.form(_resume(stage).path.removeprefix(API))


@drives(f"{PAGE}/continue")
def _continue_by_form(stage: Stage) -> Ask:
    return stage.form(_continue(stage).path.removeprefix(API), wait="READY_WAIT")


@drives(f"{PAGE}/targets/<int:target_id>/skip")
def _skip_by_form(stage: Stage) -> Ask:
    return stage.form(_skip(stage).path.removeprefix(API), event="ApplicationStop")


@drives(f"{PAGE}/targets/<int:target_id>/answer")
def _answer_by_form(stage: Stage) -> Ask:
    return stage.form(_answer(stage).path.removeprefix(API), answer="fail")
