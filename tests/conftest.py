"""Fixtures everybody uses: a real server on a fresh data directory."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.server import Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A running server with its worker."""
    running = Server(tmp_path / "data").start()
    yield running
    running.kill()


@pytest.fixture
def registry_server(tmp_path: Path) -> Iterator[Server]:
    """A running server without a worker: the registry alone."""
    running = Server(tmp_path / "data", with_worker=False).start()
    yield running
    running.kill()
