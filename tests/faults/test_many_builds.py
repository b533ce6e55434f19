"""Twenty builds at a time on a machine of two cores: nothing of their logs is lost or mixed, and the server answers."""

import os
from pathlib import Path

import pytest

from tests.build_bench import MISSING_SANDBOX
from tests.build_crowd import Builder, Bystander, building_server, run_crowd

BUILDS, LINES, ROUNDS = 20, 4000, 20_000


@pytest.mark.long
@pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX)
def test_twenty_builds_at_once_end_whole_while_the_server_answers(tmp_path: Path) -> None:
    with building_server(tmp_path, slots=BUILDS) as server:
        token = server.token("admin")
        watches = Bystander(server, token).watches()
        crowd = run_crowd(Builder(server, token), watches, builds=BUILDS, lines=LINES, rounds=ROUNDS)
    again = sum(build["attempt"] - 1 for build in crowd.builds)
    print(f"{BUILDS} builds of {LINES} lines: {crowd.seconds:.0f} s, {again} begun anew; load {os.getloadavg()[0]:.0f}")
    assert crowd.faults == []
    for watch in watches:
        print(
            f"{watch.name}: {len(watch.seconds)} times, p50 {watch.percentile(0.5):.0f} ms, p99 {watch.percentile(0.99):.0f} ms"
        )
        # How long they took is told by bench/builds.py: no test may hang on a neighbour's load.
        assert set(watch.statuses) == {200}, watch
        assert len(watch.seconds) > 10
