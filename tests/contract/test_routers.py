"""One contract for all routers: what ``hooks.deployments.traffic.router`` promises, over each, with real ones under load."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator

import pytest

from hooks.deployments.traffic.router import Member, MemberState, RoutingError, TrafficRouter
from tests.routing import ROUTERS, Load, Subject, Target, ask, until


@pytest.fixture(scope="module")
def targets() -> Iterator[dict[str, Target]]:
    made = {name: Target(name) for name in ("a", "b", "c")}
    yield made
    for target in made.values():
        target.close()


@pytest.fixture(scope="module", params=ROUTERS)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    with ROUTERS[request.param](tmp_path_factory.mktemp(request.param)) as subject:
        yield subject


@pytest.fixture
def subject(running: Subject, targets: dict[str, Target]) -> Subject:
    """``a`` and ``b`` in the pool blue, ``c`` in green; all requests go to blue."""
    router = running.router
    for pool, names in (("blue", "ab"), ("green", "c")):
        for member in router.members(pool):
            if member.name not in names:
                router.deregister(pool, member.name)
        for name in names:
            router.register(pool, targets[name].member)
        router.set_weights(pool, dict.fromkeys(names, 1))
    router.shift("web", {"blue": 100, "green": 0})
    return running


def names(subject: Subject, count: int = 12) -> set[str]:
    """Who answers; what is expected where nothing listens."""
    return {ask(subject.port) for _ in range(count)}


def by_name(router: TrafficRouter, pool: str) -> dict[str, MemberState]:
    return {member.name: member for member in router.members(pool)}


def test_who_is_registered_is_in_the_pool_and_takes_requests(subject: Subject, targets: dict[str, Target]):
    found = by_name(subject.router, "blue")
    assert set(found) == {"a", "b"}
    for name, member in found.items():
        assert (member.address, member.is_drained, member.weight) == (targets[name].member.address, False, 1)
        assert (member.sessions is not None) or not subject.shows_sessions
    if subject.port:
        assert names(subject) == {"a", "b"}


def test_what_is_said_twice_changes_nothing(subject: Subject, targets: dict[str, Target]):
    router = subject.router
    said = (
        lambda: router.register("blue", targets["a"].member),
        lambda: router.drain("blue", "a"),
        lambda: router.set_weights("blue", {"a": 7, "b": 2}),
        lambda: router.shift("web", {"blue": 30, "green": 70}),
        lambda: router.deregister("blue", "a"),
        lambda: router.drain("blue", "a"),
    )
    for say in said:
        say()
        once = (router.members("blue"), router.shares("web"))
        say()
        assert (router.members("blue"), router.shares("web")) == once
    assert router.is_drained("blue", "a")
    assert router.healthy("blue", "a") is False
    assert router.shares("web") == {"blue": 30, "green": 70}


def test_who_was_drained_takes_requests_again_at_another_address_too(subject: Subject, targets: dict[str, Target]):
    router = subject.router
    router.drain("blue", "a")
    assert by_name(router, "blue")["a"].is_drained
    router.register("blue", targets["a"].member)
    assert not by_name(router, "blue")["a"].is_drained
    assert not router.is_drained("blue", "a")
    router.drain("blue", "b")
    router.register("blue", Member("a", targets["c"].member.address))
    assert by_name(router, "blue")["a"].address == targets["c"].member.address
    if subject.port:
        assert names(subject) == {"c"}


def test_one_address_may_be_spelled_in_several_ways(subject: Subject):
    for address in ("[FD00:0::7]:80", "[fd00::7]:80"):
        subject.router.register("green", Member("v6", address))
        assert by_name(subject.router, "green")["v6"].address == "[fd00::7]:80"


def test_weights_and_a_weight_of_none(subject: Subject):
    router = subject.router
    router.set_weights("blue", {"a": 0})
    assert {name: member.weight for name, member in by_name(router, "blue").items()} == {"a": 0, "b": 1}
    if subject.port:
        assert names(subject) == {"b"}
    router.set_weights("blue", {"a": 3})
    router.drain("blue", "a")
    router.register("blue", Member("a", by_name(router, "blue")["a"].address))
    assert by_name(router, "blue")["a"].weight == 3
    if subject.port:
        found = [ask(subject.port) for _ in range(40)]
        assert found.count("a") > found.count("b") > 0


def test_a_drained_member_ends_what_it_has_begun(subject: Subject, targets: dict[str, Target]):
    if not subject.port:
        pytest.skip("nothing listens")
    router, target = subject.router, Target("slow")
    router.register("green", target.member)
    router.drain("green", "c")
    router.shift("web", {"blue": 0, "green": 100})
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(ask(subject.port, "/slow")))
    asking.start()
    assert target.slow.acquire(timeout=10)
    try:
        router.register("green", targets["c"].member)
        router.drain("green", "slow")
        assert not router.is_drained("green", "slow")
        if subject.shows_sessions:
            assert by_name(router, "green")["slow"].sessions == 1
        assert names(subject) == {"c"}
        router.deregister("green", "slow")
        assert "slow" not in by_name(router, "green")
        assert not router.is_drained("green", "slow")
    finally:
        target.let_go()
        asking.join()
        target.close()
    assert answers == ["slow"]
    until(lambda: router.is_drained("green", "slow"))


def test_nothing_is_lost_while_targets_and_pools_change_under_load(subject: Subject, targets: dict[str, Target]):
    if not subject.port:
        pytest.skip("nothing listens")
    router = subject.router
    with Load(subject.port) as load:
        assert set(load.next()) == {"a", "b"}
        for name, other in (("a", "b"), ("b", "a")):
            router.drain("blue", name)
            assert set(load.next()) == {other}
            until(lambda name=name: router.is_drained("blue", name))
            router.deregister("blue", name)
            router.register("blue", targets[name].member)
            assert set(load.next()) == {"a", "b"}
        found = {}
        for share in (10, 50, 100):
            router.shift("web", {"blue": 100 - share, "green": share})
            found[share] = load.next(50)["c"]
        assert found[10] < found[50] < found[100]
        assert set(load.next()) == {"c"}
        for name in "ab":
            router.deregister("blue", name)
        assert set(load.next()) == {"c"}
        router.register("blue", targets["a"].member)
        router.shift("web", {"blue": 100, "green": 0})
        assert set(load.next()) == {"a"}
    assert load.failures == []
    assert load.answered.total() > 150


def test_after_a_restart_what_is_said_again_holds(subject: Subject, targets: dict[str, Target]):
    """The engine comes back to a member that it had drained, and the router has forgotten everything, or nothing."""
    router = subject.router
    router.drain("blue", "a")
    subject.restart()
    router.register("blue", targets["a"].member)
    router.register("blue", targets["b"].member)
    router.register("green", targets["c"].member)
    router.drain("blue", "b")
    router.shift("web", {"blue": 100, "green": 0})
    assert {name: member.is_drained for name, member in by_name(router, "blue").items()} == {"a": False, "b": True}
    if subject.port:
        assert names(subject) == {"a"}


def test_shares_outlive_a_restart(subject: Subject):
    subject.router.shift("web", {"blue": 40, "green": 60})
    subject.restart()
    assert subject.router.shares("web") == {"blue": 40, "green": 60}


def test_two_at_once_do_not_undo_each_other(subject: Subject, targets: dict[str, Target]):
    router = subject.router
    address = targets["a"].member.address
    wanted = [f"m{number}" for number in range(4)]
    errors: list[RoutingError] = []

    def bring(name: str) -> None:
        try:
            router.register("blue", Member(name, address))
        except RoutingError as error:
            errors.append(error)

    threads = [threading.Thread(target=bring, args=(name,)) for name in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert set(by_name(router, "blue")) == {"a", "b", *wanted}


REFUSED = {
    "unknown pool": lambda router: router.drain("nowhere", "a"),
    "unknown pool to look at": lambda router: router.members("nowhere"),
    "unknown listener": lambda router: router.shift("nowhere", {"blue": 100, "green": 0}),
    "unknown listener to look at": lambda router: router.shares("nowhere"),
    "shares of others": lambda router: router.shift("web", {"blue": 50, "red": 50}),
    "shares of one": lambda router: router.shift("web", {"blue": 100}),
    "shares over 100": lambda router: router.shift("web", {"blue": 100, "green": 1}),
    "shares below 0": lambda router: router.shift("web", {"blue": 101, "green": -1}),
    "a weight too large": lambda router: router.set_weights("blue", {"a": 257}),
    "a weight below 0": lambda router: router.set_weights("blue", {"a": -1}),
    "a weight of nobody": lambda router: router.set_weights("blue", {"nobody": 1}),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_is_refused_and_changes_nothing(subject: Subject, what: str):
    before = (subject.router.members("blue"), subject.router.shares("web"))
    with pytest.raises(RoutingError) as caught:
        REFUSED[what](subject.router)
    assert not caught.value.may_pass
    assert (subject.router.members("blue"), subject.router.shares("web")) == before


def test_a_pool_in_which_nobody_takes_requests_gets_no_share(subject: Subject, targets: dict[str, Target]):
    router = subject.router
    shares = {"blue": 90, "green": 10}
    for take_out, bring_back in (
        (lambda: router.drain("green", "c"), lambda: router.register("green", targets["c"].member)),
        (lambda: router.set_weights("green", {"c": 0}), lambda: router.set_weights("green", {"c": 1})),
        (lambda: router.deregister("green", "c"), lambda: router.register("green", targets["c"].member)),
    ):
        take_out()
        with pytest.raises(RoutingError, match="nobody in pool green"):
            router.shift("web", shares)
        assert router.shares("web") == {"blue": 100, "green": 0}
        bring_back()
    router.shift("web", shares)
    assert router.shares("web") == shares


def test_a_router_that_is_away_is_told_apart_from_one_that_refuses(subject: Subject, targets: dict[str, Target]):
    router = subject.router
    subject.stop()
    try:
        with pytest.raises(RoutingError) as caught:
            router.drain("blue", "a")
        assert caught.value.may_pass
    finally:
        subject.start()
    router.register("blue", targets["b"].member)
    router.drain("blue", "a")
    assert router.is_drained("blue", "a")
    assert dataclasses.replace(by_name(router, "blue")["b"], sessions=None, is_healthy=None) == MemberState(
        "b", targets["b"].member.address, is_drained=False, weight=1, sessions=None, is_healthy=None
    )
