"""Idle agents: what a poll costs, that the short answer is the route's, and who is there all the same."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import delete, event, insert
from werkzeug.test import EnvironBuilder, TestResponse

from hooks.api.idle_polls import IdlePolls
from hooks.deployments import presence
from hooks.deployments.parts import Patience
from hooks.deployments.request import ONE_AT_A_TIME
from hooks.models.deployment import DeploymentAgent
from tests import agent_world
from tests.agent_world import AgentMachine, deploy_to, machine
from tests.functional.api_world import World

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

IDLE = b'{"running": [], "free": 4}'
ODD = b'{ "free": 4, "running": [] }'  # the same to JSON, and not what agents write: the route answers it


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("idle") / "world")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def nobody_else(world: World) -> None:
    """Each test begins with a fleet of its own, in a process that knows of none."""
    with world.db.write() as session:
        session.execute(delete(DeploymentAgent))
    world.hooks.agents.presence = presence.Presence(world.db)
    world.now += timedelta(minutes=5)


def agent(world: World) -> AgentMachine:
    """An agent in a session that it has used."""
    made = machine(world, f"web-{uuid.uuid4().hex[:8]}")
    assert poll(made).status_code == 200
    return made


def poll(made: AgentMachine, body: bytes = IDLE, **headers: str) -> TestResponse:
    sent = {"Authorization": f"Bearer {made.session}", **headers}
    return made.world.http.post("/api/v1/agent/poll", data=body, content_type="application/json", headers=sent)


@contextmanager
def statements(world: World) -> Iterator[list[str]]:
    """The first words of all statements that the database is sent."""
    found: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        found.append(statement.split(maxsplit=1)[0])

    event.listen(world.db.engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(world.db.engine, "before_cursor_execute", note)


def test_an_idle_poll_is_one_query_and_no_write(world: World) -> None:
    fleet = [agent(world) for _ in range(3)]
    with statements(world) as sent:
        for _ in range(3):
            world.now += timedelta(seconds=5)
            for each in fleet:
                assert poll(each).json == {"command": None, "stoppedEvents": [], "pollAfterSeconds": 5.0}
    assert [word for word in sent if word != "BEGIN"] == ["SELECT"] * 9


def test_a_fleet_is_seen_with_a_few_writes(world: World) -> None:
    fleet = [agent(world) for _ in range(6)]
    with statements(world) as sent:
        for number in range(36):  # three minutes
            world.now += timedelta(seconds=5)
            for each in fleet:
                assert poll(each).status_code == 200
            if number % 5 == 4:
                shown = world.call("GET", "/agents").json["items"]
                assert {each["state"] for each in shown} == {"ONLINE"}
    # One for many agents, at most every ten seconds; one for each agent and poll would be 216.
    assert 3 <= sent.count("UPDATE") <= 18
    world.now += timedelta(seconds=Patience().silent)
    assert {each["state"] for each in world.call("GET", "/agents").json["items"]} == {"OFFLINE"}


def test_the_short_answer_is_that_of_the_route(world: World) -> None:
    made = agent(world)
    with statements(world) as short:
        one = poll(made)
    with statements(world) as long:
        other = poll(made, ODD)
    assert len(long) > len(short)  # the route was reached by the second alone
    assert (one.status_code, one.data) == (other.status_code, other.data)
    assert sorted(one.headers) == sorted(other.headers)
    secure = {"base_url": "https://packages.example.com", "content_type": "application/json"}
    headers = {"Authorization": f"Bearer {made.session}"}
    found = [world.http.post("/api/v1/agent/poll", data=body, headers=headers, **secure) for body in (IDLE, ODD)]
    assert sorted(found[0].headers) == sorted(found[1].headers)
    assert "Strict-Transport-Security" in found[0].headers


def test_the_body_of_who_has_no_credential_is_not_waited_for(world: World) -> None:
    class Unread(io.BytesIO):
        def read(self, *_: object) -> bytes:
            raise AssertionError("the body is read")

    passed_on: list[str] = []

    def app(environ: WSGIEnvironment, _: object) -> list[bytes]:
        passed_on.append(environ["HTTP_AUTHORIZATION"])
        return []

    polls = IdlePolls(app, world.services, world.hooks)
    asked = EnvironBuilder(
        "/api/v1/agent/poll", method="POST", data=IDLE, content_type="application/json"
    ).get_environ()
    asked |= {"HTTP_AUTHORIZATION": "Bearer none", "wsgi.input": Unread(IDLE)}
    assert polls(asked, pytest.fail) == []
    assert passed_on == ["Bearer none"]
    made = agent(world)
    with pytest.raises(AssertionError, match="is read"):
        polls({**asked, "HTTP_AUTHORIZATION": f"Bearer {made.session}"}, pytest.fail)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"running": [], "free": 17}', 400),
        (b'{"running": [], "free": 4, "x": 1}', 400),
        (b'{"running": [], "free": 4}}', 400),
        (b'{"running": [1], "free": 4}', 200),
        (b"", 400),
    ],
)
def test_what_is_not_the_usual_question_is_the_route_s(world: World, body: bytes, status: int) -> None:
    made = agent(world)
    assert poll(made, body).status_code == status
    assert poll(made, IDLE, **{"Content-Encoding": "gzip"}).status_code == 400
    assert world.http.post("/api/v1/agent/poll", data=IDLE, content_type="application/json").status_code == 401
    reader = {"Authorization": f"Bearer {world.tokens['admin']}"}
    assert world.http.post("/api/v1/agent/poll", data=IDLE, headers=reader).status_code == 401


def test_more_polls_than_one_agent_may_make_are_refused(tmp_path: Path) -> None:
    world = World(tmp_path / "world", {"ENTREPOT_LIMITS_MANAGEMENT_PER_MINUTE": "30"})
    made = agent(world)
    found = [poll(made).status_code for _ in range(40)]
    assert (found.count(200), found.count(429)) == (29, 11)
    world.close()


def test_who_a_deployment_is_still_to_come_to_asks_sooner_and_gets_its_command(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = agent(world), agent(world)
    one_at_a_time = (ONE_AT_A_TIME, {"minimumHealthyHosts": {"type": "FLEET_PERCENT", "value": 99}})
    monkeypatch.setattr(agent_world, "ALL_AT_ONCE", one_at_a_time)
    deploy_to(world, first, second)
    answers = {each.name: poll(each).json for each in (first, second)}
    (waiting,) = [name for name, answer in answers.items() if answer["command"] is None]
    (told,) = [name for name, answer in answers.items() if answer["command"] is not None]
    assert {waiting, told} == {first.name, second.name}
    assert answers[waiting]["pollAfterSeconds"] == presence.WAITING_SECONDS
    third = agent(world)
    assert poll(third).json["pollAfterSeconds"] == presence.IDLE_SECONDS
    assert poll(third, ODD).json["pollAfterSeconds"] == presence.IDLE_SECONDS


@pytest.mark.parametrize(("fleet", "seconds"), [(100, 5.0), (400, 10.0), (2000, 15.0)])
def test_many_agents_ask_less_often_each(world: World, fleet: int, seconds: float) -> None:
    made = agent(world)
    now = world.now
    others = [
        {"id": f"{number}", "name": f"other-{number}", "tags": [], "domains": [], "seen_at": now, "created_by": "ada"}
        | {"created_at": now, "facts": {}, "sequence": 0, "alarm": "", "zone": "", "address": ""}
        for number in range(fleet - 1)
    ]
    with world.db.write() as session:
        session.execute(insert(DeploymentAgent), others)
    for _ in range(7):
        world.now += timedelta(seconds=5)
        told = poll(made).json["pollAfterSeconds"]
    assert told == seconds
