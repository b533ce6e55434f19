"""I9: what packages that are deployed as they are depend on comes from their repository, whatever a dependency says."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

import registry.formats.npm.native as npm_native
import registry.formats.pypi.native as pypi_native
from hooks.deployments.outcomes import EventResult, EventStatus
from registry.native import nowhere_else
from tests.harness import npm_packages, packages
from tests.harness.publishing import publish
from tests.harness.server import Server
from tests.native import Place, shop

ROOT = Path(__file__).parents[2]


class _Elsewhere(ThreadingHTTPServer):
    """A place that no repository is: ``files`` by their paths, and what was asked of it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        # Another name than the server's: walls know hosts.
        self.url = f"http://localhost:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        place: Any = self.server
        place.asked.append(self.path)
        body = place.files.get(self.path.partition("#")[0])
        self.send_response(200 if body is not None else 404)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[_Elsewhere]:
    with _Elsewhere() as place:
        threading.Thread(target=place.serve_forever, args=(0.05,), daemon=True).start()
        yield place
        place.shutdown()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("walls") / "data", with_worker=False, web_processes=1).start()
    yield running
    running.kill()


@pytest.fixture
def place(server: Server, tmp_path: Path) -> Place:
    (tmp_path / "app").mkdir()
    token = server.token("admin", "read", repositories=("default/dev",))
    return Place(tmp_path, server.url, token, "", {"link": str(tmp_path / "app" / "current")})


@contextmanager
def no_wall(_url: str) -> Iterator[dict[str, str]]:
    yield {}


def refused(place: Place, deployment_id: str, name: str, version: str, file: tuple[str, bytes]) -> EventResult:
    """The event that a deployment has failed at; nothing is there after it."""
    done = place.deploy(deployment_id, place.package(name, version, file))["DownloadBundle"]
    assert done.status is EventStatus.FAILED
    assert not list((place.root / "app").iterdir())
    return done


def test_I9_a_python_requirement_of_a_requirement_is_not_taken_from_where_it_says(
    server: Server, place: Place, elsewhere: _Elsewhere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, body = packages.wheel("evil", "1.0")
    elsewhere.files[f"/{name}"] = body
    wheel = shop("1.0")
    library = packages.wheel("shop-lib", "1.5", requires=(f"evil @ {elsewhere.url}/{name}",))
    assert publish(server, server.token("admin", "read", "publish"), "shop-lib", "1.5", wheel=library).ok

    place.format = "pypi"
    told = refused(place, "d-1", "shop-web", "1.0", wheel)
    assert "says itself where it lies; requirements are taken from the repository alone" in told.message + told.log
    assert elsewhere.asked == []
    # Without the rule it is fetched, and found when it is too late; without that as well it is deployed.
    monkeypatch.setattr(pypi_native, "_CONFINED_PIP", _free_pip(tmp_path))
    monkeypatch.setattr(pypi_native, "nowhere_else", no_wall)
    told = refused(place, "d-2", "shop-web", "1.0", wheel)
    assert f"pip took evil from {elsewhere.url}" in told.message
    assert elsewhere.asked == [f"/{name}"]


def _free_pip(folder: Path) -> Path:
    """The same program without what it is for."""
    text = Path(pypi_native._CONFINED_PIP).read_text()
    assert text.count("    confine()\n") == 1
    free = folder / "free_pip.py"
    free.write_text(text.replace("    confine()\n", ""))
    return free


@pytest.mark.parametrize("version", ["22.2.2", "newest"])
def test_I9_pips_of_all_ages_can_be_kept_to_one_repository(version: str) -> None:
    newest = next((ROOT / ".venv/clients/lib").glob("python3*/site-packages"))
    folder = newest if version == "newest" else ROOT / ".venv/pips" / version
    program = str(pypi_native._CONFINED_PIP)
    check = f"import sys, runpy; sys.path.insert(0, {str(folder)!r}); runpy.run_path({program!r})['confine']()"
    check += "\nfrom pip._internal.cli.req_command import install_req_from_req_string as take"
    check += "\nof = take('x>1'); take('y>1', of); take('y @ https://elsewhere.invalid/y-1-py3-none-any.whl', None)"
    check += "\ntake('y @ https://elsewhere.invalid/y-1-py3-none-any.whl', of)"
    done = subprocess.run([sys.executable, "-I", "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "of x>1 says itself where it lies" in done.stderr.splitlines()[-1], done.stderr


@pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm")
def test_I9_an_npm_dependency_of_a_dependency_is_not_taken_from_where_it_says(
    server: Server, place: Place, elsewhere: _Elsewhere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = {"dependencies": {"evil": f"{elsewhere.url}/evil.tgz"}}
    elsewhere.files["/evil.tgz"] = npm_packages.tarball("evil", "1.0.0")
    words = npm_packages.publish_document("words", "1.0.0", npm_packages.tarball("words", "1.0.0", **needs), **needs)
    rights = {"Authorization": f"Bearer {server.token('admin')}"}
    assert requests.put(f"{server.url}/npm/default/dev/words", json=words, headers=rights, timeout=30).ok
    file = npm_packages.tarball("shop-cli", "1.0.0", dependencies={"words": "^1.0.0"})
    elsewhere.asked.clear()

    place.format = "npm"
    told = refused(place, "d-1", "shop-cli", "1.0.0", ("shop-cli-1.0.0.tgz", file))
    assert f"packages come from the repository alone - GET {elsewhere.url}/evil.tgz" in told.message
    assert elsewhere.asked == []
    # Where a wall does not hold (a proxy of the machine's) it is asked what it is, and not installed.
    monkeypatch.setattr(npm_native, "nowhere_else", no_wall)
    told = refused(place, "d-2", "shop-cli", "1.0.0", ("shop-cli-1.0.0.tgz", file))
    assert f"node_modules/evil would be taken from {elsewhere.url}/evil.tgz" in told.message
    # And without the look at the lock it would be there.
    monkeypatch.setattr(npm_native, "_check_lock", lambda *_: None)
    done = place.deploy("d-3", place.package("shop-cli", "1.0.0", ("shop-cli-1.0.0.tgz", file)))
    assert {result.status for result in done.values()} == {EventStatus.SUCCEEDED}
    assert (tmp_path / "app/current/node_modules/evil/index.js").exists()


def test_I9_the_wall_lets_programs_reach_one_host(elsewhere: _Elsewhere, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    elsewhere.asked.clear()
    with nowhere_else("http://127.0.0.1:1/npm/") as variables, pytest.MonkeyPatch.context() as changed:
        for name, value in variables.items():
            changed.setenv(name, value)
        assert requests.get(f"{elsewhere.url}/x", timeout=10).status_code == 403
        assert elsewhere.asked == []
        assert requests.get(f"http://127.0.0.1:{elsewhere.server_port}/x", timeout=10).status_code == 404
    assert elsewhere.asked == ["/x"]
    # A site's own proxy decides where it is the only way to the server.
    monkeypatch.setenv("http_proxy", "http://192.0.2.1:3128")
    with nowhere_else("http://packages.example.com/npm/") as variables:
        assert variables == {}
