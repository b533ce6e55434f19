"""D9: a runner's or an agent's credential in what is sent here is found, ended and told of, as tokens of people are."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from hooks.models.deployment import DeploymentAgent, DeploymentAlarm
from registry.models import Event, TokenLeak
from registry.token_shape import new_token
from tests.functional.api_world import PASSWORD, World
from tests.security.test_runners import Yard

PLACE = "/generic/default/dev/thing/1.0/settings.json"


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    made = Yard(World(tmp_path_factory.mktemp("yard") / "data"))
    with made.world.db.write() as session:
        made.world.services.stores.new_key(session, None, made.world.now)
    made.project("plain")
    yield made
    made.world.close()


def publish(yard: Yard, secret: str) -> Any:
    headers = {"Authorization": f"Bearer {yard.world.tokens['publisher']}"}
    return yard.world.http.put(PLACE, data=f'{{"credential": "{secret}"}}'.encode(), headers=headers)


def told(yard: Yard) -> list[dict[str, Any]]:
    with yard.world.db.read() as session:
        return list(session.scalars(select(Event.payload).where(Event.kind == "token.leaked").order_by(Event.id)))


def test_D9_a_runners_credential_that_is_published_is_refused_and_the_runner_ends(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = yard.machine()
    build = yard.working(machine)
    # Where nobody knows of them it is published.
    with monkeypatch.context() as patched:
        patched.setattr(yard.world.services.leaks, "_keepers", ())
        assert publish(yard, machine.credential).status_code == 201
        assert machine.about("heartbeat").status_code == 200
    yard.world.call("DELETE", "/domains/default/repositories/dev/packages/generic/thing/versions/1.0")
    refused = publish(yard, machine.credential)
    assert refused.status_code == 400
    assert b"holds an access token of this server" in refused.data
    assert machine.credential not in refused.text
    assert machine.about("heartbeat").status_code == 403
    (shown,) = yard.world.call("GET", "/runners").json["items"]
    assert shown["state"] == "REVOKED"
    other = yard.machine().claim()  # what it held goes to another
    assert other is not None
    assert (other["id"], other["attempt"]) == (build["id"], 2)
    # Its maker is told, the log has it, and so have webhooks.
    (event,) = told(yard)
    assert (event["user"], event["token_name"], event["token_kind"]) == ("admin", f"runner {machine.name}", "runner")
    assert (event["last_four"], event["by"]) == (machine.credential[-4:], "scan")
    acted = [entry for entry in yard.world.audit() if entry[2] == f"runner/{machine.name}"]
    assert [entry[:2] for entry in acted[-2:]] == [("scan", "runner.revoke"), ("scan", "token.leaked")]
    page = first_page(yard.world)
    assert f"Your token “runner {machine.name}” was found in" in page
    # It has ended, and is no secret any more.
    assert publish(yard, machine.credential).status_code == 201
    assert len(told(yard)) == 1


def first_page(world: World) -> str:
    """What the administrator sees who made the runner."""
    browser = world.app.test_client()
    landing = browser.post("/sign-in", data={"user": "admin", "password": PASSWORD})
    assert landing.status_code == 303
    return str(browser.get("/").text)


def test_D9_a_registration_token_ends_alone_and_a_report_ends_both(yard: Yard) -> None:
    machine = yard.machine()
    path = f"/runners/{machine.name}/registration-token"
    waiting = yard.world.call("POST", path).json["registrationToken"]
    before = len(told(yard))
    report = [{"token": waiting, "type": "entrepot_token", "url": "", "source": "content"}]
    (judged,) = yard.world.call("POST", "/leaked-tokens", as_=None, json=report).json
    assert judged["label"] == "true_positive"
    assert yard.register(waiting).status_code == 401
    assert machine.ask("POST", "/claim", {}).status_code == 400  # the runner itself goes on
    assert told(yard)[before]["token_kind"] == "runner-registration"
    (judged,) = yard.world.call("POST", "/leaked-tokens", as_=None, json=report).json
    assert judged["label"] == "false_positive"
    report = [{**report[0], "token": machine.credential}]
    (judged,) = yard.world.call("POST", "/leaked-tokens", as_=None, json=report).json
    assert judged["label"] == "true_positive"
    assert machine.ask("POST", "/claim", {}).status_code == 403
    with yard.world.db.read() as session:
        assert len(session.scalars(select(TokenLeak.id).where(TokenLeak.token_id.is_(None))).all()) == len(told(yard))


def test_D9_what_an_agent_or_an_alarm_is_known_by_ends_where_it_is_found(yard: Yard) -> None:
    world = yard.world
    names = ("enrolment", "session", "late", "revoked", "alarm")
    secrets = {name: new_token() for name in names}
    digests = {name: world.services.accounts.digest(secret) for name, secret in secrets.items()}
    later, made = world.now + timedelta(hours=1), {"created_by": "admin", "created_at": world.now}
    with world.db.write() as session:
        fresh = {"enrolment_expires_at": later, "session_expires_at": later}
        fresh |= {"enrolment_digest": digests["enrolment"], "session_digest": digests["session"]}
        old = {"session_digest": digests["late"], "session_expires_at": world.now}
        gone = {"session_digest": digests["revoked"], "session_expires_at": later, "revoked_at": world.now}
        for name, values in {"web-1": fresh, "web-2": old, "web-3": gone}.items():
            session.add(DeploymentAgent(id=name, name=name, tags=[], domains=[], **made, **values))
        session.add(
            DeploymentAlarm(
                domain="default", name="errors", state="OK", token_digest=digests["alarm"], updated_at=world.now, **made
            )
        )
    before = len(told(yard))
    report = [
        {"token": secret, "type": "entrepot_token", "url": "", "source": "content"} for secret in secrets.values()
    ]
    judged = world.call("POST", "/leaked-tokens", as_=None, json=report).json
    live = {name for name, each in zip(names, judged, strict=True) if each["label"] == "true_positive"}
    assert live == {"enrolment", "session", "alarm"}
    assert [each["token_name"] for each in told(yard)[before:]] == [
        "enrolment of agent web-1",
        "session of agent web-1",
        "alarm errors",
    ]
    with world.db.read() as session:
        agent = session.get_one(DeploymentAgent, "web-1")
        assert (agent.enrolment_digest, agent.session_digest, agent.revoked_at) == (None, None, None)
        assert session.scalars(select(DeploymentAlarm.token_digest)).all() == [None]
    assert "true_positive" not in world.call("POST", "/leaked-tokens", as_=None, json=report).text
