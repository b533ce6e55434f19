"""What every deployment platform promises: events that may be done twice, undo that puts right, and away is not failed.

A platform joins by one entry in ``CASES``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hooks.deployments.health.probing import Answer
from hooks.deployments.outcomes import EventResult, EventStatus
from hooks.deployments.platform import (
    Actor,
    DeploymentFacts,
    DeploymentPlatform,
    Later,
    PlatformUnavailable,
    TargetPlan,
)
from hooks.deployments.platforms.dummy import DummyPlatform
from hooks.deployments.platforms.server import CHECK_HEALTH, ServerPlatform
from hooks.deployments.traffic.routers.record import RecordRouter
from hooks.models.deployment import DeploymentAgent
from registry.db import Base, Database

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
UPLOAD = {"revisionType": "Upload", "upload": {"id": "1", "sha256": "0" * 64}}


@dataclass
class Case:
    """A platform with a group that is right for it. ``serves``: whether a target gets requests, None where nobody can say.

    ``away`` makes what stands behind the platform unreachable, if anything does. ``pass_time`` moves its clock.
    """

    platform: DeploymentPlatform
    group: Mapping[str, Any]
    bad_group: Mapping[str, Any]
    bad_revision: Mapping[str, Any]
    revision: Mapping[str, Any]
    serves: Callable[[str], bool | None] = lambda _: None
    away: Callable[[bool], None] | None = None
    pass_time: Callable[[float], None] = lambda _: None
    agents: list[DeploymentAgent] = field(default_factory=list)

    def facts(self, **more: Any) -> DeploymentFacts:
        return DeploymentFacts("d-ABCDEFGHI", "shop", "default", "f" * 32, "web", self.group, {}, self.revision, **more)


@contextmanager
def dummy(_folder: Path) -> Iterator[Case]:
    yield Case(
        DummyPlatform(), {"dummyTargets": ["a", "b"]}, {}, {}, UPLOAD,
    )  # fmt: skip


def agent(name: str, tag: str = "web", **more: Any) -> DeploymentAgent:
    return DeploymentAgent(
        id=name * 4, name=name, tags=[{"Key": "role", "Value": tag}], domains=[], zone="z1", address="127.0.0.1:81",
        created_by="ada", created_at=NOW, **{"enrolled_at": NOW, **more},
    )  # fmt: skip


@contextmanager
def server(folder: Path) -> Iterator[Case]:
    file, clock = folder / "router.json", [NOW]

    def kept() -> dict[str, Any]:
        return json.loads(file.read_text()) if file.exists() else {}

    def change(**values: Any) -> None:
        file.write_text(json.dumps(kept() | values))

    router = RecordRouter(str(file), pools=["web"], listeners={})
    platform = ServerPlatform(
        {"edge": router}, check=lambda *_: Answer(passed=True, detail="", took_ms=1), clock=lambda: clock[0]
    )
    yield Case(
        platform,
        {
            "onPremisesInstanceTagFilters": [{"Key": "role", "Value": "web", "Type": "KEY_AND_VALUE"}],
            "deploymentStyle": {"deploymentType": "IN_PLACE", "deploymentOption": "WITH_TRAFFIC_CONTROL"},
            "loadBalancerInfo": {"targetGroupInfoList": [{"name": "edge/web"}]},
            "healthChecks": [{"name": "up", "type": "TCP"}],
        },
        {
            "deploymentStyle": {"deploymentType": "BLUE_GREEN", "deploymentOption": "WITHOUT_TRAFFIC_CONTROL"},
            "loadBalancerInfo": {"targetGroupInfoList": [{"name": "nowhere/web"}]},
        },
        {"revisionType": "AppSpecContent", "appSpecContent": {"content": "{}", "sha256": "0" * 64}},
        UPLOAD,
        serves=lambda name: any(each.name == name and not each.is_drained for each in router.members("web")),
        away=lambda is_away: change(unreachable=is_away),
        pass_time=lambda seconds: clock.__setitem__(0, clock[0] + timedelta(seconds=seconds)),
        agents=[agent("a"), agent("b"), agent("other", "db"), agent("gone", revoked_at=NOW)],
    )


CASES = {"dummy": dummy, "server": server}


@pytest.fixture(params=sorted(CASES))
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    with CASES[request.param](tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path_factory.mktemp('platforms') / 'p.db'}")
    Base.metadata.create_all(made.engine, tables=[DeploymentAgent.__table__])
    yield made
    made.close()


@pytest.fixture
def targets(case: Case, database: Database) -> list[TargetPlan]:
    with database.write() as session:
        session.query(DeploymentAgent).delete()
        session.add_all(case.agents)
        session.flush()
        found = case.platform.find_targets(session, case.facts())
        assert list(found) == list(case.platform.find_targets(session, case.facts()))
    return list(found)


def carry_out(case: Case, target: TargetPlan, event: str) -> tuple[EventResult, TargetPlan]:
    """Do an event to its end, as the engine does: again after each ``Later``, with the details that it left."""
    for _ in range(2000):
        answer = case.platform.carry_out(case.facts(), target, event, lambda: False)
        if isinstance(answer, EventResult):
            return answer, target
        assert answer.seconds > 0
        case.pass_time(answer.seconds)
        target = TargetPlan(target.name, target.agent_id, target.fleet, target.zone, answer.details or target.details)
    raise AssertionError(f"{event} never ends")


def engine_events(case: Case, target: TargetPlan) -> list[str]:
    return [each.name for each in case.platform.events(case.facts(), target) if each.actor is Actor.ENGINE]


def test_documents_are_judged_before_anything_is_done(case: Case) -> None:
    assert list(case.platform.check_group(case.group)) == []
    assert list(case.platform.check_revision(case.revision)) == []
    assert case.platform.check_group(case.bad_group)
    assert all(isinstance(each, str) and each for each in case.platform.check_group(case.bad_group))
    assert case.platform.check_revision(case.bad_revision)


def test_targets_have_names_of_their_own(targets: list[TargetPlan]) -> None:
    assert targets
    assert len({(each.name, each.fleet) for each in targets}) == len(targets)
    assert {each.fleet for each in targets} <= {"", "Blue", "Green"}
    json.dumps([dict(each.details) for each in targets])


def test_events_are_the_same_each_time_and_install_something(case: Case, targets: list[TargetPlan]) -> None:
    for target in targets:
        planned = [each.name for each in case.platform.events(case.facts(), target)]
        assert planned == [each.name for each in case.platform.events(case.facts(), target)]
        assert "Install" in planned
        assert len(set(planned)) == len(planned)
        assert all(target.agent_id for each in case.platform.events(case.facts(), target) if each.actor is Actor.AGENT)


def test_events_done_twice_are_done_once(case: Case, targets: list[TargetPlan]) -> None:
    for target in targets:
        for event in engine_events(case, target):
            first, after = carry_out(case, target, event)
            serves = case.serves(target.name)
            second, _ = carry_out(case, after, event)
            assert (first.status, second.status) == (EventStatus.SUCCEEDED, EventStatus.SUCCEEDED), event
            assert first.event == second.event == event
            assert case.serves(target.name) == serves
        assert case.serves(target.name) in {True, None}


def test_undo_gives_back_what_a_deployment_took(case: Case, targets: list[TargetPlan]) -> None:
    for target in targets:
        for count in range(len(engine_events(case, target)) + 1):
            after = target
            for event in engine_events(case, target)[:count]:
                _, after = carry_out(case, after, event)
            for _ in range(2):
                answer: Later | None = Later(1)
                while answer is not None:
                    answer = case.platform.undo(case.facts(), after)
            assert case.serves(target.name) in {True, None}


def test_what_cannot_be_reached_has_not_failed(case: Case, targets: list[TargetPlan]) -> None:
    if case.away is None:
        return
    case.away(True)
    for event in engine_events(case, targets[0]):
        if event == CHECK_HEALTH:
            continue
        with pytest.raises(PlatformUnavailable):
            case.platform.carry_out(case.facts(), targets[0], event, lambda: False)
    with pytest.raises(PlatformUnavailable):
        case.platform.undo(case.facts(), targets[0])
    case.away(False)
    for event in engine_events(case, targets[0]):
        assert carry_out(case, targets[0], event)[0].status is EventStatus.SUCCEEDED
