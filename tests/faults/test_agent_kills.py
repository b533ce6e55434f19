"""Agents that are killed two hundred times."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent_bench import Crew
from tests.agent_kills import campaign
from tests.harness.server import Server

NAME = "web-1"


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    place = tmp_path_factory.mktemp("kills")
    server = Server(place / "data", with_worker=False, web_processes=1)
    server.start()
    made = Crew(server, place)
    assert made.enrol(NAME).returncode == 0
    made.run(NAME)
    yield made
    made.close()
    server.kill()


@pytest.mark.long
def test_two_hundred_kills(crew: Crew, tmp_path: Path) -> None:
    campaign(crew, NAME, tmp_path, 200, seed=2)
