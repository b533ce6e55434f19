"""One server for the tests of all files: they ask for what must be refused, or name what they make themselves.

In it belong ``demo`` in dev to the hostile uploads, and ``demo`` in staging to the paths and the permissions.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.clients import Clients
from tests.harness.server import Server
from tests.security.attack import House


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder: Path = tmp_path_factory.mktemp("house")
    # Nobody answers there: what is asked for here must not depend on what some index holds.
    environment = {"ENTREPOT_UPSTREAM_URLS": "pypi=http://127.0.0.1:9/simple/"}
    server = Server(folder / "data", with_worker=False, environment=environment).start()
    made = House(server, server.token("admin"), Clients(folder / "home"))
    try:
        yield made
    finally:
        made.close()
