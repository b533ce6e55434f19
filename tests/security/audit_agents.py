"""Drivers of the routes of agents: those of administrators, and what agents themselves say."""

from sqlalchemy import update

from hooks.models.deployment import DeploymentAgent
from tests.agent_world import FACTS, AgentMachine, deploy_to, encoded, machine
from tests.security.audit_stage import API, NO_CHANGE, Ask, Stage, drive

EVENT = f"{API}/agent/events/<id:event>"
NO_CHANGE.update(
    {
        f"POST {API}/agent/challenge": "a question",
        f"POST {API}/agent/session": "proves who an agent is; that somebody else holds its key is an entry",
        f"POST {API}/agent/poll": "a question; what is offered was decided by the deployment, which is an entry",
        f"POST {EVENT}/begin": "the event's own record; that the deployment was made and that the event ended are entries",
        f"POST {API}/agent/installed": "what the agent sees, beside what the server knows",
    }
)


def _added(stage: Stage) -> tuple[str, str]:
    name = stage.name("agent")
    token = stage.done("POST", "/agents", {"name": name})["enrolmentToken"]
    stage.secrets.add(token)
    return name, token


def _enrolment(stage: Stage) -> Ask:
    made = AgentMachine(stage, "")
    told = {"protocol": 1, "publicKey": encoded(made.key.public_key().public_bytes_raw()), "facts": FACTS}
    return Ask(f"{API}/agent/enrol", _added(stage)[1], options={"json": told})


def _alarmed(stage: Stage) -> str:
    name, _ = _added(stage)
    with stage.db.write() as session:
        session.execute(update(DeploymentAgent).where(DeploymentAgent.name == name).values(alarm="look at it"))
    return name


def _completion(stage: Stage) -> Ask:
    made = machine(stage, stage.name("agent"))
    stage.secrets.add(made.session)
    deploy_to(stage, made)
    event = made.command()["eventId"]
    assert made.begin(event).json["goesOn"]
    told = {
        "lifecycleEventName": "ApplicationStop",
        "status": "Succeeded",
        "diagnostics": {"agentErrorCode": 0, "scriptName": "", "message": "", "logTail": "fine"},
        "durationInMilliseconds": 1,
    }
    return Ask(f"{API}/agent/events/{event}/complete", made.session, options={"json": told})


drive(f"POST {API}/agents", lambda s: s.api("/agents", {"name": s.name("agent")}))
drive(f"PATCH {API}/agents/<agent>", lambda s: s.api(f"/agents/{_added(s)[0]}", {"tags": [{"key": "role"}]}))
drive(f"DELETE {API}/agents/<agent>/alarm", lambda s: s.api(f"/agents/{_alarmed(s)}/alarm"))
for _word in ("enrolment-token", "revoke"):
    drive(f"POST {API}/agents/<agent>/{_word}", lambda s, word=_word: s.api(f"/agents/{_added(s)[0]}/{word}"))
drive(f"DELETE {API}/agents/<agent>", lambda s: s.api(f"/agents/{_added(s)[0]}"))
drive("POST /agents", lambda s: s.form("/agents", name=s.name("agent"), tags="role=web"))
for _word in ("token", "revoke", "delete"):
    drive(f"POST /agents/<agent>/{_word}", lambda s, word=_word: s.form(f"/agents/{_added(s)[0]}/{word}"))
drive("POST /agents/<agent>/tags", lambda s: s.form(f"/agents/{_added(s)[0]}/tags", tags="role=web, stage=prod"))
drive("POST /agents/<agent>/alarm", lambda s: s.form(f"/agents/{_alarmed(s)}/alarm"))
drive(f"POST {API}/agent/enrol", _enrolment)
drive(f"POST {EVENT}/complete", _completion)
