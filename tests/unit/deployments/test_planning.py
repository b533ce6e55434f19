"""Which targets go next, and how a deployment ends: each rule of CodeDeploy, and any fleet against a simple oracle."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hooks.deployments.planning import (
    Age,
    DeploymentStatus,
    End,
    GiveUp,
    LetGo,
    Minimum,
    Monitor,
    Rules,
    TargetStatus,
    TargetView,
    View,
    Zonal,
    plan,
)

OK, BAD = TargetStatus.SUCCEEDED, TargetStatus.FAILED
ALL = Rules()
ONE = Rules.of("CodeDeployDefault.OneAtATime", {"minimumHealthyHosts": {"type": "FLEET_PERCENT", "value": 99}})
HALF = Rules.of("CodeDeployDefault.HalfAtATime", {"minimumHealthyHosts": {"type": "FLEET_PERCENT", "value": 50}})


def hosts(count: int) -> Rules:
    return Rules(Minimum("HOST_COUNT", count))


def percent(value: int, **more) -> Rules:
    return Rules(Minimum("FLEET_PERCENT", value), **more)


def fleet(count: int, rules: Rules = ALL) -> View:
    return View(tuple(TargetView(f"t{number}") for number in range(count)), rules)


def having(view: View, **statuses: TargetStatus) -> View:
    return replace(
        view, targets=tuple(replace(each, status=statuses.get(each.name, each.status)) for each in view.targets)
    )


def run(view: View, *bad: str) -> tuple[End, list[tuple[str, ...]]]:
    """Play a deployment: what is let go together ends together. The end, and the groups that were let go."""
    groups: list[tuple[str, ...]] = []
    while True:
        step = plan(view)
        match step:
            case LetGo(names):
                groups.append(names)
                view = having(view, **{name: BAD if name in bad else OK for name in names})
            case Monitor(zone):
                view = replace(view, monitored=view.monitored | {zone})
            case End():
                return step, groups
            case None:
                raise AssertionError("it waits for nothing")


def sizes(view: View, *bad: str) -> list[int]:
    return [len(group) for group in run(view, *bad)[1]]


# --- the rules, one by one


def test_a_percentage_is_rounded_up_and_the_rest_goes_at_once() -> None:
    assert sizes(fleet(10, hosts(8))) == [2] * 5
    assert sizes(fleet(9, HALF)) == [4, 4, 1]
    assert [Minimum("FLEET_PERCENT", 95).among(count) for count in (2, 10, 20, 100)] == [2, 10, 19, 95]


def test_unhealthy_ones_first_then_unknown_then_old_then_current() -> None:
    mixed = [
        TargetView("current", age=Age.CURRENT),
        TargetView("old", age=Age.OLD),
        TargetView("unknown", age=Age.UNKNOWN),
        TargetView("ill-and-current", was_healthy=False, age=Age.CURRENT),
        TargetView("ill-and-old", was_healthy=False, age=Age.OLD),
    ]
    order = [name for group in run(View(tuple(mixed), ONE))[1] for name in group]
    # Two of five are ill: both are healed before the first healthy one is taken away.
    assert order == ["ill-and-old", "ill-and-current", "unknown", "old", "current"]


def test_a_failure_at_the_minimum_fails_the_deployment() -> None:
    end, groups = run(fleet(10, hosts(8)), "t0", "t1")
    assert (end.status, end.code, groups) == (DeploymentStatus.FAILED, "HEALTH_CONSTRAINTS", [("t0", "t1")])
    assert "8 targets were left" in end.message
    end, groups = run(fleet(3, ONE), "t1")
    assert (end.status, len(groups)) == (DeploymentStatus.FAILED, 2)


def test_above_the_minimum_a_failure_only_takes_room() -> None:
    end, groups = run(fleet(10, hosts(7)), "t0")
    assert end.status is DeploymentStatus.SUCCEEDED
    assert [len(group) for group in groups] == [3, 2, 2, 2, 1]


def test_a_failure_of_the_very_last_one_is_a_success_all_the_same() -> None:
    end, _ = run(fleet(3, ONE), "t2")
    assert (end.status, end.message) == (DeploymentStatus.SUCCEEDED, "2 of 3 targets succeeded")


def test_ninety_five_percent_of_ten_touches_nobody() -> None:
    end, groups = run(fleet(10, percent(95)))
    assert (end.status, end.code, groups) == (DeploymentStatus.FAILED, "HEALTH_CONSTRAINTS", [])


def test_a_single_target_succeeds_when_it_does() -> None:
    for rules in (ALL, HALF, ONE, percent(95)):
        assert run(fleet(1, rules))[0].status is DeploymentStatus.SUCCEEDED
        assert run(fleet(1, rules), "t0")[0].status is DeploymentStatus.FAILED


def test_all_at_once_says_how_many_succeeded() -> None:
    end, groups = run(fleet(9), "t3", "t4")
    assert (end.status, end.message, len(groups)) == (DeploymentStatus.SUCCEEDED, "7 of 9 targets succeeded", 1)


def test_a_success_needs_a_success() -> None:
    end, _ = run(fleet(3), "t0", "t1", "t2")
    assert (end.status, end.code) == (DeploymentStatus.FAILED, "HEALTH_CONSTRAINTS")


def test_under_the_minimum_only_unhealthy_ones_are_tried_first() -> None:
    view = fleet(4, hosts(3))
    ill = replace(view, targets=tuple(replace(each, was_healthy=each.name > "t1") for each in view.targets))
    assert plan(ill) == LetGo(("t0", "t1"))
    assert run(ill)[1] == [("t0", "t1"), ("t2",), ("t3",)]
    end, groups = run(ill, "t0", "t1")
    assert (end.status, groups) == (DeploymentStatus.FAILED, [("t0", "t1")])
    # Healed to the minimum and not above it: no healthy one can be taken.
    assert run(ill, "t0")[1] == [("t0", "t1")]


def test_one_at_a_time_is_one_however_many_there_are() -> None:
    assert sizes(fleet(120, ONE)) == [1] * 120
    assert run(fleet(120, ONE), "t7")[0].status is DeploymentStatus.FAILED


def test_a_minimum_above_the_fleet_is_invalid() -> None:
    end, groups = run(fleet(3, hosts(4)))
    assert (end.code, groups) == ("HEALTH_CONSTRAINTS_INVALID", [])


def test_at_most_so_many_at_a_time() -> None:
    assert sizes(fleet(7, Rules(max_concurrent=3))) == [3, 3, 1]
    under_way = having(fleet(7, Rules(max_concurrent=3)), t0=TargetStatus.IN_PROGRESS, t1=TargetStatus.IN_PROGRESS)
    assert plan(under_way) == LetGo(("t2",))


def test_what_is_under_way_does_not_serve() -> None:
    view = having(fleet(10, hosts(8)), t0=TargetStatus.IN_PROGRESS, t1=TargetStatus.IN_PROGRESS)
    assert plan(view) is None
    assert plan(having(view, t0=BAD)) is None
    assert plan(having(view, t0=OK)) == LetGo(("t2",))


def test_those_left_out_count_as_they_were() -> None:
    rest = tuple(TargetView("", TargetStatus.SKIPPED, was_healthy=healthy) for healthy in (True, True, False))
    view = View((TargetView("ill", was_healthy=False), *rest), hosts(2))
    assert run(view)[0].status is DeploymentStatus.SUCCEEDED
    assert run(replace(view, rules=hosts(4)))[0].status is DeploymentStatus.FAILED
    assert run(View(rest, ALL))[0].message == "all targets have this revision already"


ZONES = tuple(TargetView(f"{zone}{number}", zone=zone) for zone in "cab" for number in range(3))


def test_zones_are_taken_one_after_the_other_and_watched() -> None:
    rules = Rules(zonal=Zonal(Minimum("HOST_COUNT", 1), first_seconds=600, seconds=60))
    view, order = View(ZONES, rules), []
    while not isinstance(step := plan(view), End):
        match step:
            case LetGo(names):
                order.append(names)
                view = having(view, **dict.fromkeys(names, OK))
            case Monitor(zone, seconds):
                order.append((zone, seconds))
                view = replace(view, monitored=view.monitored | {zone})
    assert order == [
        ("a0", "a1"), ("a2",), ("a", 600), ("b0", "b1"), ("b2",), ("b", 60), ("c0", "c1"), ("c2",),
    ]  # fmt: skip
    assert step.status is DeploymentStatus.SUCCEEDED


def test_a_zone_under_its_minimum_ends_it_before_the_next_zone() -> None:
    rules = Rules(zonal=Zonal(Minimum("HOST_COUNT", 1)))
    end, groups = run(View(ZONES, rules), "a0", "a1")
    assert (end.status, end.code) == (DeploymentStatus.FAILED, "HEALTH_CONSTRAINTS")
    assert groups == [("a0", "a1")]
    assert "zone 'a'" in end.message


def test_the_document_of_a_configuration() -> None:
    document = {
        "minimumHealthyHosts": {"type": "HOST_COUNT", "value": 2},
        "zonalConfig": {
            "monitorDurationInSeconds": 5,
            "minimumHealthyHostsPerZone": {"type": "FLEET_PERCENT", "value": 40},
        },
    }
    assert Rules.of("mine", document, 4) == Rules(
        Minimum("HOST_COUNT", 2), False, 4, Zonal(Minimum("FLEET_PERCENT", 40), 5, 5)
    )
    assert Rules.of("mine", {"maxConcurrent": 2}, 4).most == 2


# --- any fleet

targets = st.lists(
    st.tuples(st.booleans(), st.sampled_from(Age), st.sampled_from("abc"), st.booleans()), min_size=1, max_size=12
)
minima = st.one_of(
    st.builds(Minimum, st.just("HOST_COUNT"), st.integers(0, 13)),
    st.builds(Minimum, st.just("FLEET_PERCENT"), st.integers(0, 100)),
)
rules = st.builds(
    Rules,
    minima,
    st.booleans(),
    st.none() | st.integers(1, 5),
    st.none() | st.builds(Zonal, minima, st.integers(0, 9), st.integers(0, 9)),
)


@settings(max_examples=120, deadline=None)
@given(targets, rules, st.randoms(use_true_random=False))
def test_the_minimum_is_never_broken_by_us_and_it_always_ends(listed, wanted, chance) -> None:
    """Targets end in any order, some badly. No healthy one is ever taken from what has to stay."""
    view = View(
        tuple(TargetView(f"t{number}", was_healthy=well, age=age, zone=zone)
              for number, (well, age, zone, _) in enumerate(listed)),
        wanted,
    )  # fmt: skip
    bad = {f"t{number}" for number, each in enumerate(listed) if each[3]}
    at_least = len(listed) - 1 if wanted.is_one_at_a_time else wanted.minimum.among(len(listed))
    for _ in range(4 * len(listed) + 4):
        step = plan(view)
        assert plan(view) == step
        under_way = [each.name for each in view.targets if each.status is TargetStatus.IN_PROGRESS]
        if isinstance(step, End):
            break
        if isinstance(step, Monitor):
            assert not under_way
            view = replace(view, monitored=view.monitored | {step.zone})
            continue
        if isinstance(step, LetGo):
            before = sum(each.is_healthy for each in view.targets)
            view = having(view, **dict.fromkeys(step.names, TargetStatus.IN_PROGRESS))
            after = sum(each.is_healthy for each in view.targets)
            assert after == before or after >= at_least
            if wanted.most is not None:
                assert len(under_way) + len(step.names) <= wanted.most
            continue
        assert under_way, "it waits for nothing"
        name = chance.choice(under_way)
        view = having(view, **{name: BAD if name in bad else OK})
    assert isinstance(step, End)
    assert not under_way
    succeeded = sum(each.status is OK for each in view.targets)
    if step.status is DeploymentStatus.SUCCEEDED:
        assert succeeded >= 1
        assert not any(each.status is TargetStatus.PENDING for each in view.targets)
        assert sum(each.is_healthy for each in view.targets) >= at_least
    else:
        assert step.code in {"HEALTH_CONSTRAINTS", "HEALTH_CONSTRAINTS_INVALID"}


@settings(max_examples=120, deadline=None)
@given(targets, rules, st.randoms(use_true_random=False))
def test_silent_ones_are_neither_counted_on_nor_begun_on_and_it_always_ends(listed, wanted, chance) -> None:
    """Agents become silent and are heard of again, as it happens; what has to stay is what is heard of."""
    view = View(
        tuple(TargetView(f"t{number}", was_healthy=well, age=age, zone=zone)
              for number, (well, age, zone, _) in enumerate(listed)),
        wanted,
    )  # fmt: skip
    at_least = len(listed) - 1 if wanted.is_one_at_a_time else wanted.minimum.among(len(listed))
    for turn in range(200):
        is_silent = [turn < 40 and chance.random() < 0.3 for _ in view.targets]
        view = replace(view, targets=tuple(
            replace(each, is_silent=silent, is_lost=silent and chance.random() < 0.3)
            for each, silent in zip(view.targets, is_silent, strict=True)
        ))  # fmt: skip
        silent = {each.name for each in view.targets if each.is_silent}
        step = plan(view)
        if isinstance(step, End):
            break
        if isinstance(step, Monitor):
            view = replace(view, monitored=view.monitored | {step.zone})
        elif isinstance(step, GiveUp):
            assert all(each.is_lost for each in view.targets if each.name in step.names)
            view = having(view, **dict.fromkeys(step.names, BAD))
        elif isinstance(step, LetGo):
            assert silent.isdisjoint(step.names)
            before = sum(each.counts for each in view.targets)
            view = having(view, **dict.fromkeys(step.names, TargetStatus.IN_PROGRESS))
            after = sum(each.counts for each in view.targets)
            assert after == before or after >= at_least
        else:
            under_way = [each.name for each in view.targets if each.status is TargetStatus.IN_PROGRESS]
            assert under_way or silent, "it waits for nothing"
            if under_way:
                view = having(view, **{chance.choice(under_way): chance.choice([OK, OK, BAD])})
    assert isinstance(step, End)


def test_who_waits_for_a_silent_one_ends_when_it_is_lost() -> None:
    away = TargetView("away", is_silent=True)
    view = View((away, TargetView("b"), TargetView("c")), Rules(is_one_at_a_time=True))
    assert plan(view) is None
    lost = replace(view, targets=(replace(away, is_lost=True), *view.targets[1:]))
    assert plan(lost) == GiveUp(("away",))
    end = plan(having(lost, away=BAD))
    assert isinstance(end, End)
    assert end.code == "HEALTH_CONSTRAINTS"


def oracle(healthy: int, ill: int, minimum: int, failures: list[bool]) -> bool:
    """One after the other as CodeDeploy's guide tells it, in words: whether the deployment succeeds."""
    failures = list(failures)
    serving, successes = healthy, 0
    for number in range(healthy + ill):
        was_ill = number < ill
        if not was_ill:
            if serving - 1 < minimum:
                return False
            serving -= 1
        if not failures.pop(0):
            serving += 1
            successes += 1
    return successes >= 1 and serving >= minimum


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 8), st.integers(0, 4), st.integers(0, 100), st.data())
def test_one_at_a_time_ends_as_the_guide_says(healthy, ill, share, data) -> None:
    if healthy + ill < 2:
        return
    count = healthy + ill
    failures = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    view = View(
        tuple(TargetView(f"t{number}", was_healthy=number >= ill) for number in range(count)),
        percent(share, max_concurrent=1),
    )
    bad = [f"t{number}" for number, fails in enumerate(failures) if fails]
    end, groups = run(view, *bad)
    assert (end.status is DeploymentStatus.SUCCEEDED) == oracle(healthy, ill, math.ceil(count * share / 100), failures)
    assert all(len(group) == 1 for group in groups)


@pytest.mark.parametrize("count", [2, 3, 10, 101])
def test_all_fail_is_a_failure_in_every_configuration(count: int) -> None:
    for wanted in (ALL, ONE, HALF):
        view = fleet(count, wanted)
        assert run(view, *(each.name for each in view.targets))[0].status is DeploymentStatus.FAILED
