from __future__ import annotations

from registry.upstream.breaker import Breaker


class Monotonic:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def opened(monotonic: Monotonic) -> Breaker:
    breaker = Breaker(monotonic, threshold=5, probe_seconds=15.0)
    for _ in range(5):
        assert breaker.admit()
        breaker.failed()
    return breaker


def test_opens_after_five_failures_in_a_row() -> None:
    breaker = opened(Monotonic())
    assert not breaker.admit()
    assert breaker.wait_seconds() == 15.0


def test_a_success_in_between_starts_the_count_anew() -> None:
    breaker = Breaker(Monotonic(), threshold=5, probe_seconds=15.0)
    for _ in range(4):
        breaker.failed()
    breaker.succeeded()
    for _ in range(4):
        breaker.failed()
    assert breaker.admit()
    assert breaker.wait_seconds() == 0.0


def test_lets_one_probe_through_per_period() -> None:
    monotonic = Monotonic()
    breaker = opened(monotonic)
    monotonic.now += 14.9
    assert not breaker.admit()
    monotonic.now += 0.1
    assert [breaker.admit() for _ in range(3)] == [True, False, False]
    monotonic.now += 15  # the probe never reported: the next one goes all the same
    assert [breaker.admit() for _ in range(3)] == [True, False, False]


def test_a_probe_that_succeeds_closes_it_and_one_that_fails_does_not() -> None:
    monotonic = Monotonic()
    breaker = opened(monotonic)
    monotonic.now += 15
    assert breaker.admit()
    breaker.failed()
    monotonic.now += 14
    assert not breaker.admit()
    monotonic.now += 1
    assert breaker.admit()
    breaker.succeeded()
    assert all(breaker.admit() for _ in range(10))


def test_a_hold_keeps_everybody_out_however_well_it_went() -> None:
    monotonic = Monotonic()
    breaker = Breaker(monotonic, threshold=5, probe_seconds=15.0)
    breaker.hold(120)
    breaker.hold(60)
    breaker.succeeded()
    assert not breaker.admit()
    assert breaker.wait_seconds() == 120
    monotonic.now += 120
    assert breaker.admit()
