"""What the states of versions mean to real clients: by range, by exact pin, from a lock, by URL, and in the index.

One story for each format: the newer of two versions goes through the states, and a lock made before names it.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.fakes.upstream import FaultyUpstream
from tests.harness import packages, python_clients
from tests.harness.clients import Clients, Done
from tests.harness.maven import Mvn, Repository, pom
from tests.harness.npm_clients import NpmClients
from tests.harness.server import Server

REASON = "this version is unlisted"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, upstream: FaultyUpstream) -> Iterator[Server]:
    """Outside there is nothing of these names; mvn has its plugins from where this machine has them."""
    outside = f"npm={upstream.url}/npm/,pypi={upstream.url}/simple/"
    folder = tmp_path_factory.mktemp("states") / "data"
    running = Server(folder, with_worker=False, environment={"ENTREPOT_UPSTREAM_URLS": outside}).start()
    yield running
    running.kill()


@pytest.fixture(scope="module")
def token(server: Server) -> str:
    return server.token("admin")


class Stated:
    """A package of which the newer version is set to one state after the other."""

    def __init__(self, server: Server, token: str, package: str, version: str, format_name: str) -> None:
        self.server, self.token, self.package, self.version = server, token, package, version
        self.format_name = format_name

    def set_to(self, status: str) -> None:
        """By the command line, as people do."""
        environment = {"ENTREPOT_URL": self.server.url, "ENTREPOT_TOKEN": self.token}
        words = ["dispose", "dev", self.package, self.version, "--yes"]
        if status != "Disposed":
            words = ["status", "dev", self.package, status, "--version", self.version]
        done = self.server.command("package", *words, "--format", self.format_name, environment=environment)
        assert done.returncode == 0, done.stdout + done.stderr

    def get(self, url: str, **headers: str) -> requests.Response:
        return requests.get(url, auth=("x", self.token), headers=headers, timeout=30)


def command(server: Server, token: str, *words: str, status: int = 0) -> str:
    environment = {"ENTREPOT_URL": server.url, "ENTREPOT_TOKEN": token}
    done = server.command("package", *words, "--format", "generic", environment=environment)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def refused(done: Done, *said: str) -> None:
    assert done.returncode != 0, done.output
    assert [text for text in said if text not in done.output] == [], done.output


def test_pip(server: Server, token: str, home: Clients, tmp_path: Path) -> None:
    wheels = {version: packages.wheel("stated", version) for version in ("1.0", "1.1")}
    for version, (filename, body) in wheels.items():
        python_clients.post(server, token, filename, body, "stated", version).raise_for_status()
    stated = Stated(server, token, "stated", "1.1", "pypi")
    python, index = home.venv(), server.index(token=token)
    lock = tmp_path / "requirements.txt"
    lock.write_text(f"stated==1.1 --hash=sha256:{packages.sha256(wheels['1.1'][1])}\n")
    url = f"{server.index(simple=False)}files/stated/{wheels['1.1'][0]}"

    def locked() -> Done:
        return home.pip_install(python, index, "--force-reinstall", "-r", str(lock))

    def listed() -> dict[str, object]:
        page = stated.get(f"{server.index()}stated/", Accept="application/vnd.pypi.simple.v1+json")
        return {file["filename"]: file["yanked"] for file in page.json()["files"]}

    stated.set_to("Unlisted")
    assert listed() == {wheels["1.0"][0]: False, wheels["1.1"][0]: REASON}
    assert "stated-1.0" in home.pip_install(python, index, "stated>=1.0").ok().output
    assert REASON in locked().ok().output  # pip tells who pins it
    assert stated.get(url).content == wheels["1.1"][1]

    stated.set_to("Archived")
    assert list(listed()) == [wheels["1.0"][0]]
    refused(locked(), "No matching distribution found for stated==1.1")
    refused(home.pip_install(python, index, url.replace("://", f"://x:{token}@")), "1.1 is Archived")
    assert stated.get(f"{url}.metadata").status_code == 403

    stated.set_to("Published")
    assert listed() == {wheels["1.0"][0]: False, wheels["1.1"][0]: False}
    locked().ok()

    stated.set_to("Disposed")
    refused(locked(), "No matching distribution found for stated==1.1")
    assert stated.get(url).status_code == 404


def test_npm(server: Server, token: str, tmp_path: Path) -> None:
    registry = f"{server.url}/npm/default/dev/"
    npm = NpmClients(tmp_path / "home", registry, token)
    for version in ("1.0.0", "1.1.0"):
        npm.npm("publish", cwd=npm.project("stated", version)).ok()
    stated = Stated(server, token, "stated", "1.1.0", "npm")
    app = npm.project("locked", private=True)
    npm.npm("install", "stated@^1.0.0", cwd=app).ok()  # makes the lock
    url = f"{registry}stated/-/stated-1.1.0.tgz"

    def locked() -> Done:
        shutil.rmtree(app / "node_modules", ignore_errors=True)
        npm.forget()
        return npm.npm("ci", cwd=app)

    def listed() -> tuple[list[str], str]:
        document = stated.get(f"{registry}stated").json()
        return list(document["versions"]), document["dist-tags"]["latest"]

    assert listed() == (["1.0.0", "1.1.0"], "1.1.0")
    stated.set_to("Unlisted")
    assert listed() == (["1.0.0"], "1.0.0")
    locked().ok()
    assert npm.loads(app, "stated") == "stated 1.1.0"
    ranged = npm.project("ranged", private=True)
    npm.npm("install", "stated@^1.0.0", cwd=ranged).ok()
    assert npm.loads(ranged, "stated") == "stated 1.0.0"
    refused(npm.npm("install", "stated@1.1.0", cwd=ranged), "ETARGET")
    assert json.loads(npm.npm("view", "stated", "versions", "--json").ok().output) in ("1.0.0", ["1.0.0"])

    stated.set_to("Archived")
    refused(locked(), "E403", "1.1.0 is Archived")
    assert stated.get(url).status_code == 403

    stated.set_to("Published")
    assert listed() == (["1.0.0", "1.1.0"], "1.1.0")  # the tag was waiting
    locked().ok()

    stated.set_to("Disposed")
    refused(locked(), "E404")
    assert listed() == (["1.0.0"], "1.0.0")
    refused(npm.npm("publish", cwd=npm.project("stated", "1.1.0", description="again")), "E403")


@pytest.mark.long
@pytest.mark.network
@pytest.mark.slow
def test_mvn(server: Server, token: str, tmp_path: Path) -> None:
    if shutil.which("mvn") is None:
        pytest.skip("there is no mvn on this machine")
    dev, mvn = Repository(server, token), Mvn(tmp_path / "home")
    for version in ("1.0", "1.1"):
        dev.deploy("stated", version)
    stated = Stated(server, token, "com.acme:stated", "1.1", "maven")
    mvn.login(server, token)
    jar = f"{dev.url}com/acme/stated/1.1/stated-1.1.jar"

    def resolve(wanted: str) -> Done:
        shutil.rmtree(mvn.local / "com" / "acme", ignore_errors=True)
        needs = "<groupId>com.acme</groupId><artifactId>stated</artifactId>"
        more = f"<dependencies><dependency>{needs}<version>{wanted}</version></dependency></dependencies>"
        return mvn.run("dependency:resolve", cwd=mvn.project("app", pom("app", "1", more=more)))

    stated.set_to("Unlisted")
    assert dev.versions("stated") == ["1.0"]
    assert "com.acme:stated:jar:1.0:" in resolve("[1.0,2.0)").ok().output
    assert "com.acme:stated:jar:1.1:" in resolve("1.1").ok().output
    assert stated.get(jar).status_code == stated.get(f"{jar}.sha1").status_code == 200

    stated.set_to("Archived")
    refused(resolve("1.1"), "403", "1.1 is Archived")
    assert (dev.versions("stated"), stated.get(jar).status_code) == (["1.0"], 403)
    assert "1.1/" not in stated.get(f"{dev.url}com/acme/stated/").text

    stated.set_to("Published")
    assert dev.versions("stated") == ["1.0", "1.1"]
    assert "com.acme:stated:jar:1.1:" in resolve("[1.0,2.0)").ok().output

    stated.set_to("Disposed")
    refused(resolve("1.1"), "com.acme:stated:jar:1.1")
    assert (dev.versions("stated"), stated.get(jar).status_code) == (["1.0"], 404)
    other = dev.put("com/acme/stated/1.1/stated-1.1.jar", b"other")
    assert (other.status_code, "already been used" in other.text) == (400, True)


def test_files_of_any_kind(server: Server, token: str) -> None:
    url = f"{server.url}/generic/default/dev/stated/"
    for version in ("1.0", "1.1"):
        sent = requests.put(f"{url}{version}/a.bin", data=version.encode(), auth=("x", token), timeout=30)
        assert sent.json()["versionRevision"]
    stated = Stated(server, token, "stated", "1.1", "generic")

    def seen() -> tuple[bool, int]:
        versions = [entry["version"] for entry in stated.get(url).json()["versions"]]
        return "1.1" in versions, stated.get(f"{url}1.1/a.bin").status_code

    def set_to(status: str) -> None:
        there = f"{server.url}/api/v1/domains/default/repositories/dev/packages/generic/stated/versions"
        what = {"Disposed": "dispose"}.get(status, "update_status")
        body = {"versions": ["1.1"], **({} if status == "Disposed" else {"targetStatus": status})}
        answer = requests.post(f"{there}/{what}", json=body, auth=("x", token), timeout=30)
        assert answer.json()["failedVersions"] == {}, answer.text

    states = ("Published", "Unlisted", "Archived", "Published", "Disposed")
    found = []
    for status in states:
        set_to(status)
        found.append(seen())
    assert found == [(True, 200), (False, 200), (False, 403), (True, 200), (False, 404)]
    assert command(server, token, "copy", "dev", "stated", "1.0", "--to", "staging").startswith("1.0\tPublished\t")
    refused_copy = command(server, token, "copy", "dev", "stated", "1.0", "1.1", "--to", "staging", status=1)
    assert "1.1: NOT_ALLOWED: stated 1.1 is Disposed" in refused_copy
    listed = json.loads(command(server, token, "versions", "dev", "stated", "--json"))
    assert [(entry["version"], entry["status"]) for entry in listed] == [("1.1", "Disposed"), ("1.0", "Published")]
    assert "open until" in command(server, token, "reopen", "dev", "stated", "1.0", "--hours", "2")
    assert command(server, token, "status", "dev", "stated", "Unlisted", "--version", "1.0")
    unlisted = stated.get(url)
    assert (unlisted.status_code, unlisted.text.strip()) == (404, "package 'stated' was not found")
    assert "say which --version" in command(server, token, "status", "dev", "stated", "Archived", status=2)
    assert server.fsck() == ""
