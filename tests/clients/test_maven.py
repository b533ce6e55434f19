"""The real mvn against a running server: deploy, snapshots, several modules, through the chain, with the outside gone."""

import shutil
import tarfile
from pathlib import Path

import pytest
import requests

from tests.harness.maven import Mvn, Repository, pom
from tests.harness.server import Server

NEWER = "3.9.16"
NOWHERE = {"ENTREPOT_UPSTREAM_URLS": "maven=http://127.0.0.1:9/"}

pytestmark = [pytest.mark.network, pytest.mark.slow]


def distribution(url: str) -> str:
    place = f"<id>entrepot</id><url>{url}</url>"
    return (
        f"<distributionManagement><repository>{place}</repository><snapshotRepository>{place}</snapshotRepository>"
        "</distributionManagement>"
    )


def modules(mvn: Mvn, url: str) -> Path:
    """A parent with a library and an application that uses it, and something from outside."""
    parent = "<parent><groupId>com.acme</groupId><artifactId>suite</artifactId><version>1.0</version></parent>"

    def child(name: str, *dependencies: str) -> str:
        entries = "".join(
            "<dependency>"
            + "".join(
                f"<{tag}>{value}</{tag}>"
                for tag, value in zip(("groupId", "artifactId", "version"), dependency.split(":"), strict=True)
            )
            + "</dependency>"
            for dependency in dependencies
        )
        return f"<project><modelVersion>4.0.0</modelVersion>{parent}<artifactId>{name}</artifactId><dependencies>{entries}</dependencies></project>"

    listed = "<modules><module>lib</module><module>app</module></modules>"
    return mvn.project(
        "suite",
        pom("suite", "1.0", packaging="pom", more=distribution(url) + listed),
        **{
            "lib/pom.xml": child("lib", "org.slf4j:slf4j-api:2.0.16"),
            "lib/src/main/java/acme/Lib.java": 'package acme; public class Lib { public static final String NAME = "one"; }',
            "app/pom.xml": child("app", "com.acme:lib:1.0"),
            "app/src/main/java/acme/App.java": "package acme; public class App { String name = Lib.NAME; }",
        },
    )  # fmt: skip


def builds(server: Server, token: str) -> list[str]:
    url = f"{server.url}/api/v1/domains/default/repositories/dev/packages/maven/com.acme:snap"
    found = requests.get(url, auth=("x", token), timeout=30).json()
    return [version["status"] for version in found["versions"]]


def newer_maven(archive: Path, folder: Path) -> str:
    """Unpack a Maven that came through the server; gives its program."""
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    return str(folder / f"apache-maven-{NEWER}" / "bin" / "mvn")


def test_mvn_from_deploy_to_a_dead_upstream(tmp_path: Path):
    if shutil.which("mvn") is None:
        pytest.skip("there is no mvn on this machine")
    server = Server(tmp_path / "data", with_worker=False).start()
    try:
        token = server.token("admin", "read", "publish")
        dev = Repository(server, token)
        mvn = Mvn(tmp_path / "home").use(dev.url, token)
        suite = modules(mvn, dev.url)

        # Plugins and libraries come through dev, public and the public repository; what is built goes to dev.
        mvn.run("deploy", cwd=suite).ok()
        assert [dev.versions(name) for name in ("suite", "lib", "app")] == [["1.0"]] * 3
        assert dev.get("com/acme/lib/1.0/lib-1.0.jar.sha256").status_code == 200

        # The same version with other content: refused, and mvn says why.
        (suite / "lib/src/main/java/acme/Lib.java").write_text("package acme; public class Lib { int other; }")
        again = mvn.run("deploy", "-pl", "lib", cwd=suite)
        assert again.returncode != 0
        assert "409" in again.output
        assert "never changes" in again.output

        # Each build of a snapshot is a version of its own.
        snapshot = mvn.project("snap", pom("snap", "1.1-SNAPSHOT", packaging="pom", more=distribution(dev.url)))
        for _ in range(2):
            mvn.run("deploy", cwd=snapshot).ok()
        assert builds(server, token) == ["Published", "Published"]
        assert dev.versions("snap") == ["1.1-SNAPSHOT"]

        # A newer Maven, fetched by the older one.
        mvn.run(
            "dependency:get", f"-Dartifact=org.apache.maven:apache-maven:{NEWER}:tar.gz:bin", "-Dtransitive=false"
        ).ok()
        name = f"org/apache/maven/apache-maven/{NEWER}/apache-maven-{NEWER}-bin.tar.gz"
        newer = newer_maven(mvn.home / "repository" / name, tmp_path)

        # Nothing outside answers any more, and a new machine starts from nothing.
        server.stop()
        server.environment = NOWHERE
        server.start()
        # By its full name: each Maven would look for another version of the plugin by default.
        plugins = mvn.home / "repository/org/apache/maven/plugins/maven-dependency-plugin"
        (plugin,) = plugins.glob("*/*.jar")
        get = f"org.apache.maven.plugins:maven-dependency-plugin:{plugin.parent.name}:get"
        wanted = {
            "mvn": ("com.acme:app:1.0", "lib/1.0/lib-1.0.jar"),
            newer: ("com.acme:snap:1.1-SNAPSHOT:pom", "snap/*/snap-1.1-*-2.pom"),
        }
        for number, (program, (artifact, kept)) in enumerate(wanted.items()):
            fresh = Mvn(tmp_path / f"home{number}", program=program).use(dev.url, token)
            fresh.run(get, f"-Dartifact={artifact}").ok()
            assert list((fresh.home / "repository/com/acme").glob(kept)), program

        # What was never asked for cannot be had now, and that is not taken for an absence.
        missing = mvn.run("dependency:get", "-Dartifact=org.example:never-asked-for:1.0")
        assert missing.returncode != 0
        assert "502" in missing.output

        # Without a token there is nothing: mvn asks without one first, and is told to send it.
        stranger = Mvn(tmp_path / "stranger").use(dev.url, "")
        refused = stranger.run("dependency:get", "-Dartifact=com.acme:app:1.0")
        assert refused.returncode != 0
        assert "401" in refused.output or "authorization failed" in refused.output.lower()
        assert server.fsck() == ""
    finally:
        server.kill()
