"""The real mvn against a running server: deploy, snapshots, several modules, through the chain, with the outside gone."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest
import requests

from hooks.builds.executor import REGISTRY_BASE_URL, Login, Network
from hooks.builds.executors.process import ProcessExecutor, ProcessSettings
from hooks.builds.phases import BuildStatus
from registry.format import LoginTarget
from registry.formats.maven import FORMAT
from tests.build_bench import MISSING_SANDBOX, build, work_directory
from tests.harness.maven import Mvn, Repository, pom, run
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


def in_a_build(server: Server, token: str, *commands: str) -> str:
    """Run commands as a build does: in a sandbox that reaches this server alone, with the files a build is given."""
    url = f"{REGISTRY_BASE_URL}/maven/default/dev/"
    with work_directory() as place:
        settings = ProcessSettings(place, ("127.0.0.1", server.port), readonly_paths=tuple(FORMAT.build_paths()))
        spec = json.dumps({"version": "0.2", "phases": {"build": {"commands": commands}}})
        outcome, log = build(
            ProcessExecutor(settings), spec, network=Network.REGISTRY, credentials=Login("builds", token),
            home_files=FORMAT.build_files(LoginTarget(url, "builds", token)),
        )  # fmt: skip
    assert outcome.status is BuildStatus.SUCCEEDED, log.text
    return log.text


def resolved_by_gradle(server: Server, token: str, home: Path) -> str:
    """What gradle takes for a range of versions of the library."""
    gradle = Mvn(home)
    gradle.login(server, token, tool="gradle")
    script = "configurations { x }\ndependencies { x('com.acme:lib:[1.0,2.0)') { transitive = false } }\n"
    script += "task show { doLast { configurations.x.each { println it } } }\n"
    project = gradle.project("project", "", **{"build.gradle": script, "settings.gradle": "rootProject.name = 'p'"})
    command = ["gradle", "--no-daemon", "-q", "show"]
    return run(command, home, cwd=project, GRADLE_OPTS=f"-Duser.home={home}").ok().output


def test_mvn_from_deploy_to_a_dead_upstream(tmp_path: Path):
    if shutil.which("mvn") is None:
        pytest.skip("there is no mvn on this machine")
    server = Server(tmp_path / "data", with_worker=False).start()
    try:
        token = server.token("admin", "admin")
        dev = Repository(server, token)
        mvn = Mvn(tmp_path / "home")
        mvn.login(server, token)
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
        newer = newer_maven(mvn.local / name, tmp_path)
        # By its full name: each Maven would look for another version of the plugin by default.
        (plugin,) = (mvn.local / "org/apache/maven/plugins/maven-dependency-plugin").glob("*/*.jar")
        get = f"org.apache.maven.plugins:maven-dependency-plugin:{plugin.parent.name}:get"

        # Nothing outside answers any more, and whoever comes now starts from nothing.
        server.stop()
        server.environment = NOWHERE
        server.start()
        if not MISSING_SANDBOX:
            command = f"mvn -B -ntp {get} -Dartifact=com.acme:snap:1.1-SNAPSHOT:pom"
            said = in_a_build(server, token, command, "cd; find .m2/repository/com/acme -name '*-2.pom'")
            assert ".m2/repository/com/acme/snap/1.1-SNAPSHOT/snap-1.1-" in said
        if shutil.which("gradle") is not None:
            assert "lib-1.0.jar" in resolved_by_gradle(server, token, tmp_path / "gradle")

        # What was never asked for cannot be had now, and that is not taken for an absence.
        missing = mvn.run(get, "-Dartifact=org.example:never-asked-for:1.0")
        assert missing.returncode != 0
        assert "502" in missing.output

        # Without a token there is nothing; where everybody may read, there is everything.
        stranger = Mvn(tmp_path / "stranger", program=newer)
        stranger.mirror(dev.url)
        refused = stranger.run(get, "-Dartifact=com.acme:app:1.0")
        assert refused.returncode != 0
        assert "401" in refused.output
        opened = requests.patch(
            f"{server.url}/api/v1/domains/default/repositories/dev",
            json={"anonymousRead": True},
            auth=dev.auth,
            timeout=30,
        )
        assert opened.status_code == 200, opened.text
        stranger.run("-U", get, "-Dartifact=com.acme:app:1.0").ok()
        assert (stranger.local / "com/acme/lib/1.0/lib-1.0.jar").exists()
        assert server.fsck() == ""
    finally:
        server.kill()
