"""The platform of machines: which ones a deployment goes to, and what the router and the checks are asked for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hooks.deployments import agents, engine
from hooks.deployments.health.probing import Answer
from hooks.deployments.outcomes import EventResult, EventStatus
from hooks.deployments.platform import Actor, AgentsPart, DeploymentFacts, Later, PlatformUnavailable, TargetPlan
from hooks.deployments.platforms.server import ServerPlatform
from hooks.deployments.traffic.routers.record import RecordRouter
from hooks.models.deployment import (
    Deployment,
    DeploymentAgent,
    DeploymentApplication,
    DeploymentGroup,
    DeploymentTarget,
)
from registry.db import Base, Database
from registry.errors import Invalid
from tests.fakes.deployments import World, new_world

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def tagged(key: str, value: str) -> dict[str, str]:
    return {"Key": key, "Value": value, "Type": "KEY_AND_VALUE"}


GROUP = {
    "onPremisesInstanceTagFilters": [tagged("app", "shop")],
    "deploymentStyle": {"deploymentType": "IN_PLACE", "deploymentOption": "WITH_TRAFFIC_CONTROL"},
    "loadBalancerInfo": {"targetGroupInfoList": [{"name": "edge/web"}]},
}
BLUE_GREEN = GROUP | {"deploymentStyle": {"deploymentType": "BLUE_GREEN", "deploymentOption": "WITH_TRAFFIC_CONTROL"}}
CHECK = {"name": "up", "type": "TCP", "healthyThresholdCount": 2, "unhealthyThresholdCount": 3, "intervalSeconds": 7}


class Edge:
    """A platform over a recording router, whose file says what each machine still has under way and how it is."""

    def __init__(self, folder: Path) -> None:
        self.file, self.now, self.answers = folder / "router.json", NOW, []
        self.clock: Callable[[], datetime] = lambda: self.now
        self.router = RecordRouter(str(self.file), pools=["web"], listeners={})
        self.platform = ServerPlatform({"edge": self.router}, check=self._check, clock=lambda: self.clock())

    def _check(self, _check: object, host: str, port: int | None) -> Answer:
        assert (host, port) == ("10.0.0.1", 8080)
        return Answer(self.answers.pop(0), "HTTP 503", 1)

    def change(self, name: str, **values: object) -> None:
        kept = json.loads(self.file.read_text())
        kept["pools"]["web"][name].update(values)
        self.file.write_text(json.dumps(kept))

    def states(self) -> dict[str, bool]:
        return {each.name: not each.is_drained for each in self.router.members("web")}

    def act(self, event: str, target: TargetPlan, group: dict = GROUP) -> EventResult | Later | AgentsPart:
        return self.platform.carry_out(facts(group), target, event, lambda: False)


def facts(group: dict, *, is_rollback: bool = False, **options: object) -> DeploymentFacts:
    return DeploymentFacts(
        "d-ABCDEFGHI", "shop", "default", "f" * 32, "web", group, {}, {}, options=options, is_rollback=is_rollback
    )


WEB = TargetPlan("web-1", "1" * 32, details={"address": "10.0.0.1:8080"})


@pytest.fixture
def edge(tmp_path: Path) -> Edge:
    made = Edge(tmp_path)
    assert isinstance(made.act("AllowTraffic", WEB), EventResult)
    return made


def test_requests_under_way_come_to_their_end_but_not_for_ever(edge: Edge) -> None:
    edge.change("web-1", sessions=3)
    first = edge.act("BlockTraffic", WEB)
    assert isinstance(first, Later)
    assert edge.states() == {"web-1": False}
    waiting = TargetPlan("web-1", details=first.details)
    edge.now += timedelta(seconds=299)
    assert isinstance(edge.act("BlockTraffic", waiting), Later)
    edge.now += timedelta(seconds=2)
    ended = edge.act("BlockTraffic", waiting)
    assert isinstance(ended, EventResult)
    assert (ended.status, ended.message) == (EventStatus.SUCCEEDED, "some requests had not ended after 300 seconds")
    edge.change("web-1", sessions=0)
    assert isinstance(edge.act("BlockTraffic", WEB), EventResult)


def test_traffic_is_given_to_who_is_found_well_in_time(edge: Edge) -> None:
    edge.change("web-1", healthy=False)
    first = edge.act("AllowTraffic", WEB)
    assert isinstance(first, Later)
    waiting = TargetPlan("web-1", details=first.details)
    edge.now += timedelta(seconds=301)
    ended = edge.act("AllowTraffic", waiting)
    assert isinstance(ended, EventResult)
    assert ended.status is EventStatus.FAILED
    edge.change("web-1", healthy=True)
    assert edge.act("AllowTraffic", waiting).status is EventStatus.SUCCEEDED


def test_without_an_address_there_is_no_traffic(edge: Edge) -> None:
    ended = edge.act("AllowTraffic", TargetPlan("web-2"))
    assert isinstance(ended, EventResult)
    assert (ended.status, "has no address" in ended.message) == (EventStatus.FAILED, True)


@pytest.mark.parametrize(
    ("answers", "status"),
    [
        ([True, True], "Succeeded"),
        ([False, True, False, True, True], "Succeeded"),
        ([True, False, False, False], "Failed"),
    ],
)
def test_checks_decide_after_as_many_in_a_row_as_they_say(edge: Edge, answers: list[bool], status: str) -> None:
    group = GROUP | {"healthChecks": [CHECK]}
    names = [each.name for each in edge.platform.events(facts(group), WEB)]
    assert names[names.index("ValidateService") + 1] == "CheckHealth"
    edge.answers, target = list(answers), WEB
    while isinstance(answer := edge.act("CheckHealth", target, group), Later):
        assert answer.seconds == 7
        target = TargetPlan("web-1", details=json.loads(json.dumps(answer.details)))
    assert (answer.status.value, edge.answers) == (status, [])


def test_a_machine_that_may_be_broken_gets_its_traffic_back_when_it_is_well(edge: Edge) -> None:
    edge.act("BlockTraffic", WEB)
    broken = TargetPlan("web-1", details={**WEB.details, "brokenAt": "ApplicationStart"})
    with pytest.raises(PlatformUnavailable, match="no health checks"):
        edge.platform.undo(facts(GROUP), broken)
    checked = facts(GROUP | {"healthChecks": [CHECK]})
    edge.answers = [False, True]
    with pytest.raises(PlatformUnavailable, match="HTTP 503"):
        edge.platform.undo(checked, broken)
    assert edge.states() == {"web-1": False}
    assert edge.platform.undo(checked, broken) is None
    assert edge.states() == {"web-1": True}


def test_one_on_which_nothing_was_installed_gets_it_back_at_once(edge: Edge) -> None:
    edge.act("BlockTraffic", WEB)
    untouched = TargetPlan("web-1", details={**WEB.details, "brokenAt": "DownloadBundle"})
    assert edge.platform.undo(facts(GROUP), untouched) is None
    assert edge.states() == {"web-1": True}


SCRIPT = {"name": "smoke", "type": "COMMAND", "location": "scripts/smoke.sh", "intervalSeconds": 20}


def test_commands_are_the_agents_behind_what_is_asked_from_here(edge: Edge) -> None:
    group = GROUP | {"healthChecks": [CHECK, SCRIPT]}
    assert edge.platform.check_group(group) == []
    plans = edge.platform.events(facts(group), WEB)
    actors = {each.name: each.actor.value for each in plans}
    names = list(actors)
    at = names.index("ValidateService")
    assert names[at + 1 : at + 3] == ["CheckHealth", "CheckCommands"]
    assert (actors["CheckCommands"], "MonitorHealth" in names) == ("agent", False)
    baking = edge.platform.events(facts(group | {"bakeTimeInMinutes": 5}), WEB)
    assert (baking[-1].name, baking[-1].actor.value) == ("MonitorHealth", "engine")


def test_what_bakes_is_asked_until_enough_in_a_row_are_wrong_and_its_agent_in_between(edge: Edge) -> None:
    group, target = GROUP | {"healthChecks": [CHECK, SCRIPT]}, TargetPlan("web-1", "a-1", details=WEB.details)
    edge.answers, done = [True, False, True, True, False, False, False], []
    while not isinstance(answer := edge.act("MonitorHealth", target, group), EventResult):
        done.append("agent" if isinstance(answer, AgentsPart) else answer.seconds)
        target = TargetPlan("web-1", "a-1", details=json.loads(json.dumps(answer.details)))
        edge.now += timedelta(seconds=7)
    # The pause is from the moment on at which the agent is back: what is asked from here has its turns.
    assert done == ["agent", 7, 7, 7, "agent", 7]
    assert (answer.status, edge.answers) == (EventStatus.FAILED, [])
    assert "HTTP 503" in answer.message


@pytest.mark.parametrize(
    "address", ["10.0.0.4:8080", "[fd00::4]:8080", "web-1.internal:8080", "10.0.0.4", "10.0.0.4:0"]
)
def test_an_agent_s_address_is_one_that_a_router_takes(edge: Edge, address: str) -> None:
    ended = edge.act("AllowTraffic", TargetPlan("web-9", details={"address": address}))
    assert isinstance(ended, EventResult)
    is_taken = address in {"10.0.0.4:8080", "[fd00::4]:8080"}
    assert (ended.status is EventStatus.SUCCEEDED) is is_taken
    with nullcontext() if is_taken else pytest.raises(Invalid, match="IP address and a port"):
        agents.Place(address=address).check()


# --- with the engine


@pytest.fixture
def fleet(edge: Edge, tmp_path: Path) -> Iterator[World]:
    """A group of two machines behind the router, both with an earlier success; agents are driven by hand."""
    with new_world("sqlite", tmp_path) as world:
        world.parts = replace(world.parts, platforms={"Server": edge.platform})
        edge.clock = lambda: world.now
        with world.db.write() as session:
            for number in (1, 2):
                tags = [{"Key": "app", "Value": "shop"}, {"Key": "n", "Value": str(number)}]
                place = {"address": f"10.0.0.{number}:8080", "created_by": "ada", "created_at": NOW, "enrolled_at": NOW}
                place["seen_at"] = world.now
                session.add(DeploymentAgent(id=str(number) * 32, name=f"web-{number}", tags=tags, domains=[], **place))
        with world.db.write() as session:
            session.get_one(DeploymentGroup, world.group_id).document = GROUP
        first = world.deploy("1")
        drive(world, "web-1", "web-2")
        assert world.status(first) == "Succeeded"
        yield world


def drive(world: World, *names: str, fails: str = "") -> None:
    """Let workers and machines do all that there is; ``fails`` is the event that fails there."""
    for _ in range(30):
        world.work()
        for name in names:
            if (coming := world.next_for(name[-1] * 32)) is not None:
                status = EventStatus.FAILED if coming == fails else EventStatus.SUCCEEDED
                assert (event := world.begin(name[-1] * 32)) is not None
                assert world.end(event, status)


def test_a_stop_while_requests_end_gives_the_machine_its_traffic_back(edge: Edge, fleet: World) -> None:
    for name in ("web-1", "web-2"):
        edge.change(name, sessions=3)
    second = fleet.deploy("2")
    for _ in range(3):
        fleet.work()
        fleet.hasten()
        for name in ("web-1", "web-2"):
            if fleet.next_for(name[-1] * 32) == "BeforeBlockTraffic":
                assert fleet.end(fleet.begin(name[-1] * 32))
    assert edge.states() == {"web-1": False, "web-2": False}
    fleet.do(engine.stop, second)
    for _ in range(3):
        fleet.work()
        fleet.hasten()
    assert fleet.status(second) == "Stopped"
    assert edge.states() == {"web-1": True, "web-2": True}


def test_a_rollback_goes_to_those_machines_alone_that_were_deployed_to(fleet: World) -> None:
    chosen = {"tagFilters": [tagged("n", "2")]}
    bad = fleet.deploy(
        "2", targetInstances=chosen, autoRollbackConfiguration={"enabled": True, "events": ["DEPLOYMENT_FAILURE"]}
    )
    assert list(fleet.targets(bad)) == ["web-2"]
    drive(fleet, "web-2", fails="ApplicationStart")
    undoing = fleet.deployment(bad).rolled_back_by
    assert undoing is not None
    assert list(fleet.targets(undoing)) == ["web-2"]


def test_blue_green_is_undone_by_changing_back(edge: Edge) -> None:
    green = TargetPlan("web-2", fleet="Green", details={"address": "10.0.0.2:8080"})
    blue = TargetPlan("web-1", fleet="Blue", details=WEB.details)
    edge.act("AllowTraffic", green, BLUE_GREEN)
    edge.act("BlockTraffic", blue, BLUE_GREEN)
    assert edge.states() == {"web-1": False, "web-2": True}
    for each in (blue, green):
        assert edge.platform.undo(facts(BLUE_GREEN), each) is None
    assert edge.states() == {"web-1": True}
    edge.act("TerminateOriginal", blue, BLUE_GREEN)
    assert edge.states() == {}


def test_courses_of_machines() -> None:
    platform = ServerPlatform({}, check=lambda *_: Answer(True, "", 0), clock=lambda: NOW)

    def engines(group: dict, fleet: str = "", *, is_rollback: bool = False) -> list[str]:
        planned = platform.events(facts(group, is_rollback=is_rollback), TargetPlan("a", fleet=fleet))
        return [each.name for each in planned if each.actor is Actor.ENGINE]

    assert engines({}) == []
    assert engines(GROUP) == ["BlockTraffic", "AllowTraffic"]
    assert engines(BLUE_GREEN, "Green") == ["AllowTraffic"]
    assert engines(BLUE_GREEN, "Blue") == ["BlockTraffic", "TerminateOriginal"]
    assert engines(BLUE_GREEN, "Blue", is_rollback=True) == ["AllowTraffic"]
    assert engines(BLUE_GREEN, "Green", is_rollback=True) == ["BlockTraffic"]


def test_machines_are_found_by_tags_among_those_that_may_be_deployed_to(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'a.db'}")
    kinds = (DeploymentAgent, DeploymentApplication, DeploymentGroup, Deployment, DeploymentTarget)
    Base.metadata.create_all(database.engine, tables=[kind.__table__ for kind in kinds])

    def add(name: str, *, slot: str = "one", app: str = "shop", **more: object) -> None:
        with database.write() as session:
            tags = [{"Key": "app", "Value": app}, {"Key": "slot", "Value": slot}]
            values = {"enrolled_at": NOW, "domains": [], **more}
            session.add(DeploymentAgent(id=name * 8, name=name, tags=tags, created_by="a", created_at=NOW, **values))

    add("a1")
    add("a2", slot="two", zone="z2", address="10.0.0.2:80")
    add("mine", domains=["default"])
    add("theirs", domains=["other"])
    add("new", enrolled_at=None)
    add("gone", revoked_at=NOW)
    add("else", app="mail")
    platform = ServerPlatform({}, check=lambda *_: Answer(True, "", 0), clock=lambda: NOW)

    def found(group: dict, **options: object) -> list[tuple[str, str]]:
        with database.read() as session:
            return sorted((each.name, each.fleet) for each in platform.find_targets(session, facts(group, **options)))

    assert found(GROUP) == [("a1", ""), ("a2", ""), ("mine", "")]
    chosen = {"tagFilters": [tagged("slot", "two")]}
    assert found(GROUP, targetInstances=chosen) == [("a2", "")]
    # The two slots change places from one deployment to the next.
    assert found(BLUE_GREEN, targetInstances=chosen) == [("a1", "Blue"), ("a2", "Green"), ("mine", "Blue")]
    with database.read() as session:
        plan = next(each for each in platform.find_targets(session, facts(GROUP)) if each.name == "a2")
    assert (plan.zone, plan.details) == ("z2", {"address": "10.0.0.2:80"})

    # What serves since the last time is no replacement, whatever the group says: the sides change places.
    option = {"action": "DISCOVER_EXISTING", **chosen}
    changing = BLUE_GREEN | {"blueGreenDeploymentConfiguration": {"greenFleetProvisioningOption": option}}
    first = [("a1", "Blue"), ("a2", "Green"), ("mine", "Blue")]
    second = [("a1", "Green"), ("a2", "Blue"), ("mine", "Green")]
    assert found(changing) == first
    _succeed(database, "user", a1="Blue", a2="Green")
    assert found(changing) == second
    assert found(BLUE_GREEN, targetInstances=chosen) == [("a1", "Blue"), ("a2", "Blue"), ("mine", "Blue")]
    _succeed(database, "codeDeployRollback", a1="Blue", a2="Green")
    assert found(changing) == first
    database.close()


def _succeed(database: Database, creator: str, **fleets: str) -> None:
    """A deployment of the group of ``facts`` has succeeded with these machines."""
    by = {"created_by": "a", "created_at": NOW, "updated_at": NOW}
    group_id, deployment_id = "f" * 32, f"d-{creator[:9].upper()}"
    with database.write() as session:
        if session.get(DeploymentGroup, group_id) is None:
            application = DeploymentApplication(name="shop", domain="default", compute_platform="Server", **by)
            session.add(application)
            session.flush()
            session.add(DeploymentGroup(id=group_id, application_id=application.id, name="web", document={}, **by))
            session.flush()
        group = session.get_one(DeploymentGroup, group_id)
        group.last_successful_id = deployment_id
        session.add(
            Deployment(
                id=deployment_id,
                application_id=group.application_id,
                group_id=group_id,
                status="Succeeded",
                creator=creator,
                initiator="a",
                revision={},
                group_document={},
                config_name="c",
                config_document={},
                created_at=NOW,
            )
        )
        session.flush()
        session.add_all(
            DeploymentTarget(
                deployment_id=deployment_id,
                name=name,
                fleet=fleet,
                position=0,
                status="Succeeded",
                updated_at=NOW,
            )
            for name, fleet in fleets.items()
        )
