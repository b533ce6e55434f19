"""Package versions deployed as they are: installed from a real server, switched to, and left alone when they do not work."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import requests
from sqlalchemy import select

from hooks.deployments.outcomes import EventStatus
from registry.models import Token
from tests.agent_bench import Crew
from tests.build_bench import eventually, host_processes
from tests.harness import packages
from tests.harness.clients import Clients
from tests.harness.maven import Repository, pom
from tests.harness.npm_clients import NpmClients
from tests.harness.server import Server
from tests.native import Place, java_shop, shop

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
                "BeforeInstall": ["${ENVIRONMENT}/bin/python", "-c", "import shop_web.web"],
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


def _killed_in_between(place: Place, tmp_path: Path) -> None:
    """kill -9 while 2.0 is being installed: what installs it ends as well."""
    child = os.fork()
    if child == 0:
        place.deploy("d-2.0", place.package("shop-web", "2.0", WHEELS["2.0"]))
        os._exit(0)
    made = tmp_path / "state" / "g" / "d-2.0" / "bundle"
    eventually((made / "environment" / "bin" / "python").exists)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    eventually(lambda: not host_processes(str(made)))


def test_a_python_application_is_replaced_whole_also_after_kill_9_and_kept_where_the_new_one_is_broken(
    place: Place, tmp_path: Path, token: str
) -> None:
    link = tmp_path / "app" / "current"
    for version in ("1.0", "2.0"):
        if version == "2.0":
            _killed_in_between(place, tmp_path)
            assert answer(link).startswith("shop 1.0 with 1.5")
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

    # What cannot even be imported is found before the switch, and the release before goes on.
    failed = place.deploy("d-3.0", place.package("shop-web", "3.0", BROKEN))
    assert failed["BeforeInstall"].status is EventStatus.FAILED
    assert "what_is_not_there" in failed["BeforeInstall"].log
    assert failed["Install"].status is EventStatus.SKIPPED
    assert answer(link).startswith("shop 2.0 with 1.5")


def test_a_file_that_was_swapped_on_the_way_is_not_installed(place: Place, tmp_path: Path) -> None:
    package = place.package("shop-web", "1.0", WHEELS["1.0"])
    place.bodies[WHEELS["1.0"][0]] = shop("1.0", "print('not what was pinned')\n")[1]
    done = place.deploy("d-1", package)
    assert done["DownloadBundle"].status is EventStatus.FAILED
    assert "is not what the deployment names" in done["DownloadBundle"].message
    assert not list((tmp_path / "app").iterdir())
    assert not (tmp_path / "state" / "g" / "d-1" / "bundle").exists()


def test_an_agent_installs_a_package_version_where_its_machine_lets_it(
    server: Server, place: Place, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    crew = Crew(server, tmp_path_factory.mktemp("crew"))
    try:
        assert crew.enrol("web-1").returncode == 0
        crew.run("web-1")
        group = crew.group("native", "web-1", nativePackage=dict(place.document))
        package = {"repository": "dev", "format": "pypi", "name": "shop-web", "version": "1.0"}
        revision = {"revisionType": "Package", "package": package}
        refused = crew.deploy_revision(group, revision)
        assert crew.ended(refused) == "Failed"
        told = [event.message for event in crew.events(refused).values() if event.status == "Failed"]
        assert "takes no revisions of the kind 'NativePackage'" in told[0]

        crew.kill("web-1")
        (crew.home("web-1") / "agent.toml").write_text('revisions = ["NativePackage"]\n')
        crew.run("web-1")
        done = crew.deploy_revision(group, revision)
        assert crew.ended(done) == "Succeeded", crew.log("web-1")
        link = tmp_path / "app" / "current"
        assert answer(link).startswith("shop 1.0 with 1.5")
        # What it was read with ends with the event, reads this repository alone, and lies nowhere on the machine.
        with crew.db.read() as session:
            token = session.scalars(select(Token).where(Token.name.startswith("deployment "))).one()
        assert (token.actions, token.repositories) == (["read"], ["default/dev"])
        assert token.expires_at - token.created_at == timedelta(minutes=30)
        assert token.created_at < token.revoked_at < token.expires_at
        # What is really there is told.
        assert eventually(lambda: crew.found(group, "web-1").get("files", 0) > 5)
        assert crew.found(group, "web-1")["changedCount"] == 0
        if shutil.which("javac") is not None:
            _java_application(server, crew, tmp_path)
    finally:
        crew.close()


def _java_application(server: Server, crew: Crew, tmp_path: Path) -> None:
    """One whose library comes from the repository, installed and exchanged by the same agent."""
    repository = Repository(server, server.token("admin", "read", "publish"))
    (tmp_path / "java").mkdir()
    jar = java_shop(tmp_path / "java")
    wanted = "<dependency><groupId>com.acme</groupId><artifactId>{}</artifactId><version>1.5</version>{}</dependency>"
    needs = wanted.format("words", "") + wanted.format("only-for-tests", "<scope>test</scope>")
    for artifact, version, called, more in (
        ("words", "1.5", "Words:1.5", ""),
        ("shop-web", "1.0", "Shop:1.0", f"<dependencies>{needs}</dependencies>"),
        ("shop-web", "2.0", "Shop:2.0", f"<dependencies>{needs}</dependencies>"),
    ):
        folder = f"com/acme/{artifact}/{version}/{artifact}-{version}"
        assert repository.put(f"{folder}.jar", jar(called)).status_code == 201
        assert repository.put(f"{folder}.pom", pom(artifact, version, more=more)).status_code == 201
        assert repository.finish(artifact, version).status_code == 201
    link = tmp_path / "jvm" / "current"
    link.parent.mkdir()
    hooks = {
        "BeforeInstall": {
            "run": f"JAVA_OPTS=-Dmode=new ${{ENVIRONMENT}}/bin/shop-web $PACKAGE_NAMESPACE >> {tmp_path}/said"
        },
        "ValidateService": {"run": f"${{LINK}}/bin/java -Dmode=live acme.Shop a 'b c' >> {tmp_path}/said"},
    }
    group = crew.group("jvm", "web-1", nativePackage={"link": str(link), "hooks": hooks})
    package = {"repository": "dev", "format": "maven", "namespace": "com.acme", "name": "shop-web"}
    for version in ("1.0", "2.0"):
        done = crew.deploy_revision(group, {"revisionType": "Package", "package": {**package, "version": version}})
        assert crew.ended(done) == "Succeeded", crew.log("web-1")
    assert (tmp_path / "said").read_text().splitlines() == [
        line
        for version in ("1.0", "2.0")
        for line in (f"shop {version} with 1.5 new com.acme", f"shop {version} with 1.5 live a,b c")
    ]
    assert sorted(path.name for path in (link / "lib").iterdir()) == ["words-1.5.jar"]
    record = json.loads((link / "installed.json").read_text())
    assert record["classPath"] == ["shop-web.jar", "lib/words-1.5.jar"]
    assert all(hashlib.sha256((link / name).read_bytes()).hexdigest() == told for name, told in record["files"].items())
    assert set(record["files"]) == {"shop-web.jar", "pom.xml", "lib/words-1.5.jar"}
    assert eventually(lambda: crew.found(group, "web-1").get("files", 0) >= 5)


@pytest.mark.long
def test_an_npm_application_is_installed_with_what_it_depends_on(
    place: Place, tmp_path: Path, server: Server, token: str
) -> None:
    registry = f"{server.url}/npm/default/dev/"
    clients = NpmClients(tmp_path / "home", registry, server.token("admin"))
    clients.npm("publish", cwd=clients.project("shop-words", "1.0.0")).ok()
    more = {"bin": {"shop": "cli.js"}, "dependencies": {"shop-words": "^1.0.0"}}
    folder = clients.project("shop-cli", "1.0.0", scripts={"postinstall": f"touch {tmp_path}/ran"}, **more)
    program = "#!/usr/bin/env node\nconsole.log(require('./package.json').version, require.resolve('shop-words'))\n"
    (folder / "cli.js").write_text(program)
    clients.npm("publish", cwd=folder).ok()
    name = "shop-cli-1.0.0.tgz"
    answered = requests.get(f"{registry}shop-cli/-/{name}", headers={"Authorization": f"Bearer {token}"}, timeout=30)
    place.format, place.document = "npm", {"link": str(tmp_path / "app" / "current")}
    done = place.deploy("n-1", place.package("shop-cli", "1.0.0", (name, answered.content)))
    assert {result.status for result in done.values()} == {EventStatus.SUCCEEDED}, done
    said = subprocess.run([str(tmp_path / "app/current/bin/shop")], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["1.0.0", f"{tmp_path}/app/releases/n-1/node_modules/shop-words/index.js"]
    assert not (tmp_path / "ran").exists()
    for path in (tmp_path / "app").rglob("*"):
        assert not path.is_file() or token.encode() not in path.read_bytes(), path
