"""Servers and clients that the tests of one file share: a server takes a second to start, a test with it less."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.upstream import FaultyUpstream
from tests.harness.clients import Clients
from tests.harness.server import Server


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The registry alone, for all tests of a file: each uses package names of its own.

    It knows the address that clients use, as one that is not only tried out does: links to files are in full then.
    """
    running = Server(tmp_path_factory.mktemp("shared") / "data", with_worker=False)
    running.environment["ENTREPOT_SERVER_PUBLIC_URL"] = running.url
    running.start()
    yield running
    running.kill()


@pytest.fixture(scope="module")
def token(shared_server: Server) -> str:
    """Everything is allowed with it."""
    return shared_server.token("admin")


@pytest.fixture(scope="module")
def upstream() -> Iterator[FaultyUpstream]:
    with FaultyUpstream() as running:
        yield running


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory, upstream: FaultyUpstream) -> Iterator[Server]:
    """A server whose external connection is the fake upstream, for all tests of a file."""
    running = Server(
        tmp_path_factory.mktemp("proxy") / "data",
        with_worker=False,
        environment={"ENTREPOT_UPSTREAM_URLS": f"pypi={upstream.url}/simple/"},
    ).start()
    yield running
    running.kill()


@pytest.fixture
def home(tmp_path: Path) -> Clients:
    """Clients in a home of this test's own."""
    return Clients(tmp_path / "home")
