"""Pages past their freshness: answered at once, refreshed once behind the answer, and never a lie about what exists."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from config import wiring
from registry.names import PackageKey, PackageName
from registry.repos.admission import Admission
from registry.repos.refresh import Refresher
from tests.fakes.upstream import Fault, FaultyUpstream
from tests.functional.outside_world import JSON_INDEX, OutsideWorld
from tests.harness.packages import wheel

PAST_FRESHNESS = timedelta(minutes=11)  # the fake index says max-age=600
PAST_LAG = timedelta(minutes=16)
PAGE = "/simple/moving/"
KEY = PackageKey("pypi", "", PackageName("moving"))


@pytest.fixture
def upstream() -> Iterator[FaultyUpstream]:
    with FaultyUpstream() as running:
        yield running


@pytest.fixture
def world(tmp_path: Path, upstream: FaultyUpstream) -> Iterator[OutsideWorld]:
    made = OutsideWorld(tmp_path)
    made.disconnect()
    made.connect(upstream)
    yield made
    made.close()


def offer(upstream: FaultyUpstream, *versions: str) -> None:
    upstream.add_project("moving", dict(wheel("moving", version) for version in versions))


def soon(condition: Callable[[], bool]) -> None:
    """Waits for something that happens in the background; a minute is for a machine that is busy."""
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def test_an_old_page_is_answered_at_once_and_refreshed(world: OutsideWorld, upstream) -> None:
    offer(upstream, "1.0")
    assert world.versions("moving") == ["1.0"]
    offer(upstream, "1.0", "2.0")
    world.now += PAST_FRESHNESS
    assert world.versions("moving") == ["1.0"]
    soon(lambda: world.versions("moving") == ["1.0", "2.0"])
    assert upstream.count(PAGE) == 2


class AtOnce(Refresher):
    """Has done its work before the answer that it began behind is put together."""

    def start(self, key: str, work: Callable[[], object]) -> bool:
        work()
        return False


def test_the_old_page_is_not_taken_for_the_new_one_that_came_meanwhile(world: OutsideWorld, upstream) -> None:
    offer(upstream, "1.0")
    assert world.versions("moving") == ["1.0"]
    offer(upstream, "1.0", "2.0")
    world.now += PAST_FRESHNESS
    world.services.upstreams._refresher = AtOnce()
    assert world.versions("moving") == ["1.0"]
    assert world.versions("moving") == ["1.0", "2.0"]  # the clock stands: not because the old answer ran out


def test_the_answer_does_not_wait_for_the_upstream(world: OutsideWorld, upstream) -> None:
    offer(upstream, "1.0")
    assert world.versions("moving") == ["1.0"]
    upstream.serve(PAGE, b"", fault=Fault.SILENCE)
    world.now += PAST_FRESHNESS
    assert world.versions("moving") == ["1.0"]  # the upstream would be waited for longer than the test runs
    soon(lambda: upstream.count(PAGE) == 2)


def test_a_page_that_is_older_is_asked_for_first(world: OutsideWorld, upstream) -> None:
    offer(upstream, "1.0")
    assert world.versions("moving") == ["1.0"]
    offer(upstream, "1.0", "2.0")
    world.now += PAST_LAG
    assert world.versions("moving") == ["1.0", "2.0"]


def test_it_can_be_turned_off(tmp_path: Path, upstream) -> None:
    world = OutsideWorld(tmp_path / "off", {"ENTREPOT_UPSTREAM_STALE_WHILE_REVALIDATE_SECONDS": "0"})
    world.disconnect()
    world.connect(upstream)
    offer(upstream, "1.0")
    assert world.versions("moving") == ["1.0"]
    offer(upstream, "1.0", "2.0")
    world.now += PAST_FRESHNESS
    assert world.versions("moving") == ["1.0", "2.0"]
    world.close()


def test_many_threads_of_two_processes_refresh_once(world: OutsideWorld, upstream) -> None:
    offer(upstream, "1.0")
    assert world.versions("moving") == ["1.0"]
    offer(upstream, "1.0", "2.0")
    world.now += PAST_FRESHNESS
    twin = wiring.services(world.settings, lambda: world.now)
    with twin.db.read() as session:
        from registry.repos import topology

        domain, repository = topology.find_repository(session, "default", "dev")
    admission = Admission(None, domain.id, "default", repository.id, "dev", domain.topology_revision, 0)

    def ask(number: int) -> int:
        services = (world.services, twin)[number % 2]
        return len(services.resolver.offer(admission, KEY).files)

    with ThreadPoolExecutor(32) as pool:
        assert set(pool.map(ask, range(200))) <= {1, 2}
    soon(lambda: {ask(0), ask(1)} == {2})
    assert upstream.count(PAGE) == 2
    twin.db.close()


def test_an_outage_meanwhile_is_never_an_absence(world: OutsideWorld, upstream) -> None:
    offer(upstream, "1.0")
    assert world.versions("moving") == ["1.0"]
    upstream.serve(PAGE, b"", status=503, headers={"Retry-After": "1000"})
    for _ in range(60):
        world.now += timedelta(minutes=4)
        assert world.versions("moving") == ["1.0"]
    answer = world.get("pypi/default/dev/simple/moving/", Accept=JSON_INDEX)
    assert "stale" in " ".join(f"{name}: {value}" for name, value in answer.headers).lower()


def test_a_package_that_went_away_is_gone_after_one_request(world: OutsideWorld, upstream) -> None:
    offer(upstream, "1.0")
    assert world.versions("moving") == ["1.0"]
    upstream.remove_project("moving")
    world.now += PAST_FRESHNESS
    assert world.versions("moving") == ["1.0"]
    soon(lambda: world.get("pypi/default/dev/simple/moving/").status_code == 404)


def test_an_absence_is_never_answered_while_it_is_refreshed(world: OutsideWorld, upstream) -> None:
    """A cached 404 hides a new package for a minute at most, and then no request more."""
    assert world.get("pypi/default/dev/simple/moving/").status_code == 404
    offer(upstream, "1.0")
    world.now += timedelta(seconds=60)
    assert world.versions("moving") == ["1.0"]


def test_an_absence_of_which_nobody_can_tell_is_an_outage(world: OutsideWorld, upstream) -> None:
    assert world.get("pypi/default/dev/simple/moving/").status_code == 404
    upstream.refuse()
    world.now += timedelta(seconds=60)
    assert world.get("pypi/default/dev/simple/moving/").status_code == 502


def test_what_is_published_here_hides_the_old_page_at_once(world: OutsideWorld, upstream) -> None:
    offer(upstream, "9.0")
    assert world.versions("moving") == ["9.0"]
    world.now += PAST_FRESHNESS
    world.publish("dev", "moving", "1.0")
    assert world.versions("moving") == ["1.0"]


def test_publishing_a_name_that_was_missing_shows_at_once(world: OutsideWorld, upstream) -> None:
    assert world.get("pypi/default/dev/simple/moving/").status_code == 404
    world.publish("dev", "moving", "1.0")
    assert world.versions("moving") == ["1.0"]
    assert upstream.count(PAGE) == 1


def test_a_refresh_that_fails_rests() -> None:
    now = [0.0]
    asked: list[int] = []
    refresher = Refresher(monotonic=lambda: now[0])

    def fail() -> None:
        asked.append(1)
        raise ValueError("no")

    assert refresher.start("key", fail) is False
    soon(lambda: refresher.start("key", fail) is True)
    assert len(asked) == 1
    now[0] = 30.0
    assert refresher.start("key", lambda: asked.append(2)) is True
    soon(lambda: len(asked) == 2)
    soon(lambda: refresher.start("key", lambda: None) is False)


def test_refreshes_are_bounded() -> None:
    import threading

    go = threading.Event()
    refresher = Refresher(threads=2)
    begun: list[str] = []

    def work(key: str) -> Callable[[], object]:
        return lambda: (begun.append(key), go.wait(60))

    for key in ("a", "a", "b", "c", "d"):
        refresher.start(key, work(key))
    soon(lambda: len(begun) == 2)
    go.set()
    assert begun == ["a", "b"]
