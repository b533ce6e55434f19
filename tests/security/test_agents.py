"""Agents: their enrolment, sessions and commands in the hands of others (I1, I2, I5, I7)."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import select
from werkzeug.serving import make_server

from hooks.builds.remote.link import NotAdmitted, Rejected
from hooks.deployments import agent_work, agents, presence, signed_commands
from hooks.deployments.agent import line as line_module
from hooks.deployments.agent import settings as settings_module
from hooks.deployments.agent.identity import Identity, Memory
from hooks.deployments.agent.line import Line, bounded_json
from hooks.deployments.agent.settings import AgentSettings
from hooks.deployments.appspec import parse_appspec
from hooks.deployments.signed_commands import CommandRefused, Trust
from registry.errors import InvalidDocument
from registry.models import AuditEntry, Event
from tests.agent_world import (
    BUNDLE,
    AgentMachine,
    agent_row,
    deploy_to,
    deployment_row,
    event_row,
    machine,
)
from tests.functional.api_world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("agents") / "world")
    yield made
    made.close()


def names() -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield f"web-{number}"


NAMES = names()


def token_of(world: World) -> tuple[str, str]:
    name = next(NAMES)
    return name, world.call("POST", "/agents", as_="admin", json={"name": name}).json["enrolmentToken"]


# --- I1: enrolment and identity


def test_I1_an_enrolment_token_is_good_once(world: World) -> None:
    name, token = token_of(world)
    first, thief = AgentMachine(world, name), AgentMachine(world, name)
    assert first.enrol(token).status_code == 201
    assert thief.enrol(token).status_code == 401
    assert thief.enrol(token[:-1] + "x").status_code == 401
    assert first.open().status_code == 201
    thief.agent_id = first.agent_id
    assert thief.open().status_code == 401  # who has not the key has no session


def test_I1_an_enrolment_token_is_good_for_a_quarter_of_an_hour(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _, token = token_of(world)
    world.now += timedelta(minutes=15)
    assert AgentMachine(world, "late").enrol(token).status_code == 401
    monkeypatch.setattr(agents, "ENROLMENT_LIFE", timedelta(days=1))  # the negative control
    _, token = token_of(world)
    world.now += timedelta(minutes=15)
    assert AgentMachine(world, "late").enrol(token).status_code == 201


def test_I1_a_new_token_ends_the_old_key_when_it_is_used(world: World) -> None:
    made = machine(world, next(NAMES))
    token = world.call("POST", f"/agents/{made.name}/enrolment-token", as_="admin").json["enrolmentToken"]
    assert made.poll()["command"] is None
    other = AgentMachine(world, made.name)
    assert other.enrol(token).status_code == 201
    assert made.ask("POST", "/poll", {"running": [], "free": 1}).status_code == 401
    assert made.open().status_code == 401
    assert other.open().status_code == 201


def test_I1_a_copied_key_raises_an_alarm_when_both_holders_are_there(world: World) -> None:
    made = machine(world, next(NAMES))
    made.poll()
    copy = replace(made, boot_id="another machine", memory=made.memory)
    world.now += timedelta(minutes=1)
    assert copy.open().status_code == 201  # it knows all that there is to know, as after a restart
    copy.poll()
    assert agent_row(world, made.name).alarm == ""
    world.now += timedelta(minutes=1)
    assert made.ask("POST", "/poll", {"running": [], "free": 1}).status_code == 401
    assert made.open().status_code == 201
    assert agent_row(world, made.name).alarm == agents.TWO_HOLDERS
    made.poll()
    with world.db.read() as session:
        obj = f"agent/{made.name}"
        entries = session.scalars(select(AuditEntry.action).where(AuditEntry.object == obj)).all()
        events = session.scalars(select(Event).where(Event.kind == "agent.alarmed")).all()
    assert entries.count("agent.alarm") == 1
    assert [each.payload["agent"] for each in events] == [made.name]
    shown = world.call("GET", f"/agents/{made.name}", as_="admin").json
    assert (shown["alarm"], shown["state"]) == (agents.TWO_HOLDERS, "ONLINE")
    for _ in range(3):  # they go on taking it from each other: that is no news
        for each in (copy, made):
            world.now += timedelta(minutes=1)
            assert each.open().status_code == 201
            each.poll()
    with world.db.read() as session:
        entries = session.scalars(select(AuditEntry.action).where(AuditEntry.object == obj)).all()
    assert entries.count("agent.alarm") == 1
    assert world.call("DELETE", f"/agents/{made.name}/alarm", as_="admin").json["alarm"] == ""


def test_I1_restarts_reboots_and_lost_answers_raise_none(world: World) -> None:
    made = machine(world, next(NAMES))
    made.poll()
    world.now += timedelta(seconds=30)
    made.boot_id = "after a restart"
    assert made.open().status_code == 201
    made.poll()
    world.now += timedelta(seconds=30)
    known = made.memory
    assert made.open().status_code == 201  # the answer gets lost, nobody uses that session
    made.memory, made.boot_id = known, "after another one"
    world.now += timedelta(seconds=30)
    assert made.open().status_code == 201
    made.poll()
    assert agent_row(world, made.name).alarm == ""
    # The negative control: without the memory a restart is a second holder.
    made.memory, made.boot_id = "", "one that has forgotten"
    world.now += timedelta(seconds=30)
    assert made.open().status_code == 201
    assert agent_row(world, made.name).alarm == agents.TWO_HOLDERS


def test_I1_a_proof_is_good_once_and_for_its_agent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made, other = machine(world, next(NAMES), is_open=False), machine(world, next(NAMES), is_open=False)
    challenge = made.challenge()
    world.now += timedelta(seconds=1)
    assert made.prove(challenge).status_code == 201
    world.now += timedelta(seconds=1)
    assert made.prove(challenge).status_code == 401
    assert other.prove(made.challenge()).status_code == 401  # given to another
    assert made.prove("x.y.z").status_code == 401
    old = made.challenge()
    world.now += timedelta(minutes=2)
    assert made.prove(old).status_code == 401
    monkeypatch.setattr(agents, "_started_at", lambda _row: None)  # the negative control
    again = made.challenge()
    world.now += timedelta(seconds=1)
    assert [made.prove(again).status_code, made.prove(again).status_code] == [201, 201]


def test_I1_a_session_opens_nothing_else_and_nothing_else_opens_what_agents_ask(world: World) -> None:
    made = machine(world, next(NAMES))
    assert world.call("GET", "/whoami", token=made.session).status_code == 401
    assert (
        world.http.get("/pypi/default/dev/simple/", headers={"Authorization": f"Bearer {made.session}"}).status_code
        == 401
    )
    for token in (world.tokens["admin"], "", made.session[:-1]):
        assert made.ask("POST", "/poll", {"running": [], "free": 1}, token).status_code == 401
    world.now += agents.SESSION_LIFE
    assert made.ask("POST", "/poll", {"running": [], "free": 1}).status_code == 401


def test_I1_a_revoked_agent_is_given_nothing_from_its_next_request_on(world: World) -> None:
    made = machine(world, next(NAMES))
    deployment = deploy_to(world, made)
    event = made.command()["eventId"]
    assert made.begin(event).json["goesOn"]
    assert world.call("POST", f"/agents/{made.name}/revoke", as_="admin").status_code == 200
    assert made.ask("POST", "/poll", {"running": [], "free": 1}).status_code == 403
    assert made.ask("GET", f"/events/{event}/bundle").status_code == 403
    assert made.complete(event, "ApplicationStop").status_code == 403
    assert made.open().status_code == 403
    row = event_row(world, event)
    assert (row.status, "was revoked" in row.message) == ("Failed", True)
    assert deployment_row(world, deployment).status == "Failed"


def test_I1_idle_agents_are_refused_at_their_next_poll_once_they_do_not_count(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poll(made: AgentMachine, session: str = "") -> int:
        # As agents write it: such a poll is answered before the route is reached, as long as all is well.
        headers = {"Authorization": f"Bearer {session or made.session}", "Content-Type": "application/json"}
        body = b'{"running": [], "free": 4}'
        return int(world.http.post("/api/v1/agent/poll", data=body, headers=headers).status_code)

    revoked, deleted, renewed, late = (machine(world, next(NAMES)) for _ in range(4))
    assert [poll(each) for each in (revoked, deleted, renewed, late) for _ in range(2)] == [200] * 8
    world.call("POST", f"/agents/{revoked.name}/revoke", as_="admin")
    world.call("DELETE", f"/agents/{deleted.name}", as_="admin")
    before = renewed.session
    world.now += timedelta(seconds=1)
    assert renewed.open().status_code == 201
    assert [poll(revoked), poll(deleted), poll(renewed, before), poll(renewed)] == [403, 401, 401, 200]
    assert poll(late, late.session[:-1]) == poll(late, world.tokens["admin"]) == 401
    world.now += agents.SESSION_LIFE
    assert poll(late) == 401
    # The negative control: a query that asks for the session alone lets them in.
    careless = presence._BY_SESSION.with_only_columns(
        *presence._BY_SESSION.selected_columns, maintain_column_froms=True
    )
    careless._where_criteria = presence._BY_SESSION._where_criteria[:1]
    monkeypatch.setattr(presence, "_BY_SESSION", careless)
    assert [poll(revoked), poll(late), poll(deleted)] == [200, 200, 401]


# --- I2: commands


@pytest.fixture
def served(world: World) -> Iterator[str]:
    """The world over HTTP; its clock is many months behind this machine's."""
    server = make_server("127.0.0.1", 0, world.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


def line_of(made: AgentMachine, url: str, folder: Path, server_key: str = "") -> Line:
    who = Identity(url, made.agent_id, made.name, server_key or made.server_key)
    return Line(who, made.key, Memory(folder, made.agent_id))


def test_I2_another_server_than_the_one_of_the_enrolment_is_not_believed(
    world: World, served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = machine(world, next(NAMES), is_open=False)
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    strange = base64.b64encode(Ed25519PrivateKey.generate().public_key().public_bytes(*form)).decode()
    line = line_of(made, served, tmp_path, strange)
    with pytest.raises(Rejected, match="not the server"):
        line.ask("POST", "poll", body={"running": [], "free": 1})
    monkeypatch.setattr(line_module, "is_signed", lambda *_: True)  # the negative control
    assert line.ask("POST", "poll", body={"running": [], "free": 1})["command"] is None


def test_I2_a_command_is_good_once_for_one_agent_under_the_pinned_key(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, other = machine(world, next(NAMES)), machine(world, next(NAMES))
    deploy_to(world, made)
    given = made.poll()["command"]
    payload, signature = base64.b64decode(given["command"]), base64.b64decode(given["signature"])
    key = Identity("", made.agent_id, made.name, made.server_key).trusted_key
    trust = Trust(made.name, made.agent_id, key, 0)
    command = trust.accept(payload, signature, world.now)
    assert command.sequence == 1
    forged = payload.replace(command.deployment_id.encode(), b"d-EVILEVILE")
    attacks = {
        "signature": (trust, forged, signature, world.now),
        "not above": (replace(trust, last_sequence=1), payload, signature, world.now),
        "for the agent": (replace(trust, agent=other.name, agent_id=other.agent_id), payload, signature, world.now),
        "counted until": (trust, payload, signature, world.now + agent_work.COMMAND_LIFE),
    }
    for reason, (who, text, signed, now) in attacks.items():
        with pytest.raises(CommandRefused, match=reason):
            who.accept(text, signed, now)
    again = base64.b64decode(made.poll()["command"]["command"])
    assert b'"sequence":2' in again  # what is offered once more has a number of its own
    monkeypatch.setattr(signed_commands, "is_signed", lambda *_: True)  # the negative control
    assert trust.accept(forged, signature, world.now).deployment_id == "d-EVILEVILE"


def test_I2_what_the_machine_does_not_let_is_refused_whoever_has_signed_it() -> None:
    spec = parse_appspec(
        "version: 0.0\nos: linux\nfiles:\n  - {source: a, destination: /srv/app}\nhooks:\n  AfterInstall: [{location: x}]\n"
    )
    assert AgentSettings().refusal(spec, "") == ""
    assert "switched off" in AgentSettings(scripts=False).refusal(spec, "")
    assert "not below" in AgentSettings(destinations=("/srv/other",)).refusal(spec, "")
    assert AgentSettings(destinations=("/srv",)).refusal(spec, "") == ""
    assert "/opt/link is not below" in AgentSettings(destinations=("/srv",)).refusal(spec, "/opt/link")


# --- I5: destinations


def test_I5_a_destination_is_what_it_leads_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (inside / "link").symlink_to(outside)
    lets = AgentSettings(destinations=(str(inside),))

    def asked(place: str) -> str:
        text = f"version: 0.0\nos: linux\nfiles:\n  - {{source: a, destination: {place}}}\n"
        try:
            return lets.refusal(parse_appspec(text), "")
        except InvalidDocument as error:
            return str(error)

    assert asked(f"{inside}/app") == ""
    refused = [
        f"{inside}/link/app",
        f"{inside}/../outside",
        f"{inside}beside",
        "/",
        str(outside),
        f"{inside}/link/../../x",
    ]
    assert [place for place in refused if not asked(place)] == []
    monkeypatch.setattr(settings_module.os.path, "realpath", lambda path: path)  # the negative control
    assert asked(f"{inside}/link/app") == ""


# --- I7: whose an event is, sizes, clocks


def test_I7_another_agents_events_are_not_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made, thief = machine(world, next(NAMES)), machine(world, next(NAMES))
    deployment = deploy_to(world, made)
    event = made.command()["eventId"]
    assert made.begin(event).json == {"status": "InProgress", "goesOn": True}
    assert thief.poll()["command"] is None
    answers = [
        thief.begin(event),
        thief.ask("GET", f"/events/{event}/bundle"),
        thief.complete(event, "ApplicationStop"),
    ]
    assert [each.status_code for each in answers] == [404, 404, 404]
    assert event_row(world, event).status == "InProgress"
    assert made.ask("GET", f"/events/{event}/bundle").data == BUNDLE
    told = thief.poll(event)
    assert told["stoppedEvents"] == [event]  # nobody waits for the thief's word
    monkeypatch.setattr(agent_work, "is_of", lambda _agent: agent_work.DeploymentTarget.id > 0)  # the negative control
    assert thief.ask("GET", f"/events/{event}/bundle").data == BUNDLE
    assert thief.complete(event, "ApplicationStop", "Failed").status_code == 200
    assert deployment_row(world, deployment).status == "Failed"


def test_I7_what_reads_a_repository_is_given_to_the_agent_of_the_event_while_it_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, thief = machine(world, next(NAMES)), machine(world, next(NAMES))
    deploy_to(world, made, native={"link": "/srv/shop/current"})
    command = made.command()
    assert (command["link"], command["nativePackage"]) == ("/srv/shop/current", {"link": "/srv/shop/current"})
    credential, event = f"/events/{command['eventId']}/credential", command["eventId"]
    assert made.ask("POST", credential).status_code == 409  # not begun
    assert made.begin(event).json["goesOn"]
    given = made.ask("POST", credential)
    assert given.status_code == 201
    places, token = "/domains/default/repositories", given.json["token"]
    assert world.call("GET", f"{places}/dev/packages", token=token).status_code == 200
    assert world.call("POST", places, token=token, json={"name": "x"}).status_code == 403
    assert world.call("GET", f"{places}/release/packages", token=token).status_code in {403, 404}
    assert thief.ask("POST", credential).status_code == 404
    with monkeypatch.context() as changed:  # with the check of whose event it is switched off it would be given
        changed.setattr(agent_work, "is_of", lambda _agent: agent_work.DeploymentTarget.id > 0)
        assert thief.ask("POST", credential).status_code == 201
    assert made.complete(event, command["eventName"]).status_code == 200
    assert made.ask("POST", credential).status_code == 409
    assert world.call("GET", f"{places}/dev/packages", token=token).status_code == 401  # it has ended with the event
    bundled = machine(world, next(NAMES))
    deploy_to(world, bundled)
    event = bundled.command()["eventId"]
    assert bundled.begin(event).json["goesOn"]
    assert bundled.ask("POST", f"/events/{event}/credential").status_code == 409
    assert bundled.ask("GET", f"/events/{event}/files", {}).status_code == 400


def test_I7_events_go_in_their_order_and_end_once(world: World) -> None:
    made = machine(world, next(NAMES))
    deployment = deploy_to(world, made)
    command = made.command()
    first = command["eventId"]
    assert made.complete(first, "ApplicationStop").status_code == 409  # it has not begun
    assert made.begin(first + 3).status_code == 409  # it was not offered
    assert made.ask("GET", f"/events/{first}/bundle").status_code == 409
    assert made.begin(first).json["goesOn"]
    assert made.complete(first, "Install").status_code == 400
    assert made.complete(first, "ApplicationStop").json["status"] == "Succeeded"
    assert (
        made.complete(first, "ApplicationStop", "Failed").json["status"] == "Succeeded"
    )  # what is late changes nothing
    second = made.command()
    assert (second["eventName"], second["sequence"]) == ("DownloadBundle", command["sequence"] + 1)
    assert made.begin(second["eventId"], isNoop=True).json["goesOn"]  # a bundle is never nothing
    assert deployment_row(world, deployment).status == "InProgress"


def test_I7_what_is_huge_or_strange_is_refused(world: World) -> None:
    made = machine(world, next(NAMES))
    deploy_to(world, made)
    event = made.command()["eventId"]
    assert made.begin(event).json["goesOn"]
    assert made.complete(event, "ApplicationStop", log="x" * 2049).status_code == 400
    assert made.ask("POST", "/poll", {"running": list(range(17)), "free": 1}).status_code == 400
    assert made.ask("POST", "/poll", {"running": [], "free": 1, "isAdmin": True}).status_code == 400
    assert made.ask("POST", "/installed", {"groups": [{}] * 201}).status_code == 400
    token = world.token("reader", "read")
    assert made.complete(event, "ApplicationStop", log=f"the token is {token}").status_code == 200
    assert world.call("GET", "/whoami", token=token).status_code == 401  # ended, and not kept
    sealed = event_row(world, event).sealed_log
    assert sealed is not None
    assert token.encode() not in sealed
    opened = world.services.stores.server_keyring().unseal(sealed, f"deployment-event:{event}").decode()
    assert opened == "the token is ***"


class Endless(io.RawIOBase):
    """A body that never ends."""

    given = 0

    def read(self, size: int = -1, **_: object) -> bytes:
        self.given += size
        return b"x" * size


def test_I7_a_huge_answer_is_not_read_to_its_end() -> None:
    response = requests.Response()
    response.status_code = 200
    response.raw = Endless()
    with pytest.raises(Rejected, match="longer than"):
        bounded_json(response)
    assert response.raw.given <= line_module.MOST_ANSWER_BYTES + 64 * 1024


def test_I7_the_time_is_the_servers_whatever_the_machine_thinks(world: World, served: str, tmp_path: Path) -> None:
    """This machine's clock is many months ahead of the server's in this test."""
    made = machine(world, next(NAMES), is_open=False)
    deploy_to(world, made)
    line = line_of(made, served, tmp_path)
    given = line.ask("POST", "poll", body={"running": [], "free": 1})["command"]
    assert abs(line.now() - world.now) < timedelta(minutes=1)
    assert datetime.now(UTC) - world.now > timedelta(days=30)
    trust = Trust(made.name, made.agent_id, Identity("", "", "", made.server_key).trusted_key, 0)
    payload, signature = base64.b64decode(given["command"]), base64.b64decode(given["signature"])
    assert trust.accept(payload, signature, line.now()).event == "ApplicationStop"
    with pytest.raises(CommandRefused, match="counted until"):  # the negative control: by its own clock
        trust.accept(payload, signature, datetime.now(UTC))


def test_I7_a_session_that_has_ended_is_proved_anew(world: World, served: str, tmp_path: Path) -> None:
    made = machine(world, next(NAMES), is_open=False)
    line = line_of(made, served, tmp_path)
    assert line.ask("POST", "poll", body={"running": [], "free": 1})["command"] is None
    world.now += agents.SESSION_LIFE
    assert line.ask("POST", "poll", body={"running": [], "free": 1})["command"] is None
    world.call("POST", f"/agents/{made.name}/revoke", as_="admin")
    with pytest.raises(NotAdmitted):
        line.ask("POST", "poll", body={"running": [], "free": 1})
