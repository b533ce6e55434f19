"""Package versions deployed as they are: installed from a real server, switched to, and left alone when they do not work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from hooks.deployments.outcomes import EventStatus
from tests.build_bench import eventually, host_processes
from tests.harness import packages
from tests.harness.clients import Clients
from tests.harness.npm_clients import NpmClients
from tests.harness.server import ROOT, Server
from tests.native import Place, shop

WHEELS = {version: shop(version) for version in ("1.0", "2.0")}
BROKEN = shop("3.0", "import what_is_not_there\n")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("native")
    running = Server(place / "data", with_worker=False, web_processes=1).start()
    clients = Clients(place / "home")
    found = packages.save(place / "dist", *WHEELS.values(), BROKEN, packages.wheel("shop-lib", "1.5"))
    clients.twine(running.index(simple=False), running.token("admin", "read", "publish"), *found).ok()
    yield running
    running.kill()


@pytest.fixture(scope="module")
def token(server: Server) -> str:
    return server.token("admin", "read", repositories=("default/dev",))


@pytest.fixture
def place(tmp_path: Path, server: Server, token: str) -> Place:
    link = tmp_path / "app" / "current"
    link.parent.mkdir()
    marks = tmp_path / "marks"
    return Place(
        tmp_path,
        server.url,
        token,
        "pypi",
        {
            "link": str(link),
            "hooks": {
                "ApplicationStop": f"echo stop $PACKAGE_VERSION in $LINK >> {marks}",
                "ApplicationStart": {"run": f"echo start $PACKAGE_NAME $PACKAGE_VERSION >> {marks}", "timeout": 60},
                "ValidateService": ["${LINK}/bin/python", "-c", "import shop_web.web"],
            },
        },
    )


def answer(link: Path) -> str:
    """What the application says, started by its entry script through the link."""
    with subprocess.Popen([str(link / "bin/shop-web")], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            with urllib.request.urlopen(f"http://127.0.0.1:{process.stdout.readline().strip()}/") as body:
                return str(body.read().decode())
        finally:
            process.kill()


def test_a_python_application_is_installed_replaced_and_kept_when_the_new_one_is_broken(
    place: Place, tmp_path: Path, token: str
) -> None:
    link = tmp_path / "app" / "current"
    for version in ("1.0", "2.0"):
        done = place.deploy(f"d-{version}", place.package("shop-web", version, WHEELS[version]))
        assert {result.status for result in done.values()} == {EventStatus.SUCCEEDED}, done
        told = answer(link)
        assert told.startswith(f"shop {version} with 1.5 from {link}/lib/python3"), told
    assert (tmp_path / "marks").read_text().splitlines() == [
        "start shop-web 1.0",
        f"stop 1.0 in {link}",
        "start shop-web 2.0",
    ]
    # Nothing of the way there is in it, and no credential anywhere.
    for path in tmp_path.rglob("*"):
        if path.is_file() and not path.is_symlink() and "python" not in path.resolve().name:
            content = path.read_bytes()
            assert token.encode() not in content, path
            if link.resolve() in path.parents and path.parent.name != "shop_web-2.0.dist-info":
                assert str(tmp_path / "state").encode() not in content, path
    assert not list((tmp_path / "state").rglob("bundle/environment"))

    failed = place.deploy("d-3.0", place.package("shop-web", "3.0", BROKEN))
    assert failed["ValidateService"].status is EventStatus.FAILED
    assert "what_is_not_there" in failed["ValidateService"].log
    # The release before is there, whole, and the next deployment leads back to it.
    again = place.deploy("d-back", place.package("shop-web", "2.0", WHEELS["2.0"]))
    assert {result.status for result in again.values()} == {EventStatus.SUCCEEDED}
    assert answer(link).startswith("shop 2.0 with 1.5")
