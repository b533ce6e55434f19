"""Approvals by several people through a real server: the command line, the interface, groups and tokens (I4)."""

import json
from collections.abc import Iterator

import pytest

from tests.harness.house import House
from tests.harness.publishing import publish
from tests.harness.server import Server

DOCUMENT = """
name: careful
stages:
- name: Source
  actions:
  - name: Package
    actionTypeId: {category: Source, owner: Entrepot, provider: Package}
    configuration: {Repository: dev, Format: pypi, Name: careful, SettleSeconds: "0"}
- name: Gate
  actions:
  - name: Managers
    actionTypeId: {category: Approval, provider: Manual}
    configuration: {RequiredApprovals: "2", Approvers: "managers", NotByPublisher: "true"}
- name: Ship
  actions:
  - name: Promote
    actionTypeId: {category: Deploy, owner: Entrepot, provider: Promote}
    configuration: {TargetRepository: prod}
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    running = Server(tmp_path_factory.mktemp("approving") / "data", web_processes=1).start()
    made = House(running, running.token("admin"))
    made.ask("POST", "/groups", {"name": "managers"}, 201)
    for name in ("anna", "ben", "cora", "dirk"):
        made.ask("POST", "/users", {"name": name, "actions": ["read", "approve"]}, 201)
        if name != "dirk":
            made.ask("PUT", f"/groups/managers/members/{name}", status=204)
    made.ask("PUT", "/pipelines", {"document": DOCUMENT})
    yield made
    running.kill()


def test_two_managers_approve_over_the_command_line_and_a_removed_one_does_not(house: House) -> None:
    server = house.server
    assert publish(server, house.token, "careful", "1.0").status_code == 200

    def run(who: str, *words: str, status: int = 0) -> str:
        environment = {"ENTREPOT_URL": server.url, "ENTREPOT_TOKEN": server.token(who)}
        done = server.command("pipeline", *words, environment=environment)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    started = str(house.waiting("careful"))
    shown = run("dirk", "status", started)
    assert "Gate/Managers waits: 0 of 2 have approved; it asks managers" in shown
    assert "Gate/Managers lets through: promotion to prod" in shown
    assert "Only these are asked: managers." in shown
    assert "not among those who may answer" in run("dirk", "approve", started, status=1)
    assert "1 of 2 have approved; it waits for the others" in run("anna", "approve", started, "--comment", "tried")
    assert "anna has answered" in run("anna", "approve", started, status=1)
    house.ask("DELETE", "/groups/managers/members/anna", status=204)
    assert "not among those" in run("anna", "reject", started, status=1)
    assert "1 of 2 have approved" in run("ben", "approve", started), "hers does not count any more"
    (asked,) = house.ask("GET", f"/executions/{started}")["approvals"]
    assert (asked["given"], asked["required"], asked["mayAnswer"], asked["letsThrough"]) == (
        1,
        2,
        False,
        ["promotion to prod"],
    )
    narrow = server.token("cora", "read")
    answer = {"stage": "Gate", "action": "Managers", "verdict": "Approved", "token": asked["token"]}
    refused = House(server, narrow).ask("POST", f"/executions/{started}/approval", answer, 403)
    assert "with this token" in json.dumps(refused)
    assert "is approved" in run("cora", "approve", started)
    house.ended(int(started))
    results = house.ask("GET", f"/executions/{started}")["stages"][1]["actions"][0]["results"]
    assert [(each["account"], each["verdict"], each["comment"]) for each in results] == [
        ("anna", "Approved", "tried"),
        ("ben", "Approved", ""),
        ("cora", "Approved", ""),
    ]
    found = house.ask("GET", "/domains/default/repositories/prod/packages?format=pypi")["items"]
    assert [each["name"] for each in found] == ["careful"]


def test_a_name_that_nobody_has_is_refused_when_it_is_applied(house: House) -> None:
    wrong = DOCUMENT.replace('Approvers: "managers"', 'Approvers: "mangers"')
    assert "no user or group mangers" in json.dumps(house.ask("PUT", "/pipelines", {"document": wrong}, 400))
