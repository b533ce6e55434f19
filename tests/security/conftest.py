"""One server for the tests of all files: they ask for what must be refused, or name what they make themselves.

In it belong ``demo`` in dev to the hostile uploads, and ``demo`` in staging to the paths and the permissions.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import postgres
from tests.harness.clients import Clients
from tests.harness.server import Server
from tests.security.attack import House

# Nobody answers there: what is asked for here must not depend on what some index holds.
CLOSED_UPSTREAM = {"ENTREPOT_UPSTREAM_URLS": "pypi=http://127.0.0.1:9/simple/"}


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder: Path = tmp_path_factory.mktemp("house")
    # What a process shows of its environment is looked at, too: a fork would show its parent's.
    server = Server(folder / "data", with_worker=False, environment=dict(CLOSED_UPSTREAM), by_command=True).start()
    made = House(server, server.token("admin"), Clients(folder / "home"))
    try:
        yield made
    finally:
        made.close()


needs_postgres = pytest.mark.skipif(postgres.find_binaries() is None, reason="there is no PostgreSQL on this machine")


@pytest.fixture(scope="session", params=["sqlite", pytest.param("postgresql", marks=needs_postgres)])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """A server on each database, with a token of its administrator."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    with contextlib.ExitStack() as ending:
        environment = dict(CLOSED_UPSTREAM)
        if request.param == "postgresql":
            environment["ENTREPOT_DATABASE_URL"] = ending.enter_context(postgres.shared().fresh_database())
        server = Server(folder / "data", with_worker=False, environment=environment).start()
        ending.callback(server.kill)
        yield server, server.token()
