"""What the real mvn deploys to a repository, deployed to a machine: it runs with what mvn itself resolves."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from hooks.deployments.outcomes import EventStatus
from tests.clients.test_maven import distribution
from tests.harness.maven import Mvn, Repository, pom
from tests.harness.server import Server
from tests.native import Place

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.long]

SPRING = "org.springframework.boot"
PARENT = f"<parent><groupId>{SPRING}</groupId><artifactId>spring-boot-starter-parent</artifactId><version>3.3.5</version></parent>"
SHOP = """package acme;
public class Shop {
    public static void main(String[] words) {
        System.out.println("spring " + org.springframework.core.SpringVersion.getVersion());
    }
}
"""


def _dependency(group: str, artifact: str, more: str = "") -> str:
    return f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>{more}</dependency>"


def _shop(url: str) -> str:
    """Versions managed by the parent's imports, scopes of every kind, exclusions."""
    no_tomcat = "<exclusions><exclusion><groupId>org.apache.tomcat.embed</groupId><artifactId>*</artifactId></exclusion></exclusions>"
    needs = [
        _dependency(SPRING, "spring-boot-starter-web", no_tomcat),
        _dependency(SPRING, "spring-boot-starter-test", "<scope>test</scope>"),
        _dependency("com.h2database", "h2", "<scope>runtime</scope>"),
        _dependency("jakarta.servlet", "jakarta.servlet-api", "<scope>provided</scope>"),
        _dependency("org.projectlombok", "lombok", "<optional>true</optional>"),
    ]
    more = f"{distribution(url)}<dependencies>{''.join(needs)}</dependencies>"
    text = pom("shop", "1.0", more=more)
    text = text.replace("<properties>", "<properties><start-class>acme.Shop</start-class>")
    text = text.replace("source>8<", "source>17<").replace("target>8<", "target>17<")
    return text.replace("<modelVersion>4.0.0</modelVersion>", f"<modelVersion>4.0.0</modelVersion>{PARENT}")


def test_an_application_of_mvn_runs_with_the_class_path_of_mvn(tmp_path: Path) -> None:
    if shutil.which("mvn") is None:
        pytest.skip("there is no mvn on this machine")
    server = Server(tmp_path / "data", with_worker=False).start()
    try:
        token = server.token("admin", "admin")
        dev, mvn = Repository(server, token), Mvn(tmp_path / "home")
        mvn.login(server, token)
        folder = mvn.project("shop", _shop(dev.url), **{"src/main/java/acme/Shop.java": SHOP})
        class_path = folder / "class-path"
        mvn.run("deploy", cwd=folder).ok()
        told = ("-DincludeScope=runtime", f"-Dmdep.outputFile={class_path}")
        mvn.run("dependency:build-classpath", *told, cwd=folder).ok()
        files = []
        for ending in ("jar", "pom"):
            answer = dev.get(f"com/acme/shop/1.0/shop-1.0.{ending}")
            assert answer.status_code == 200
            files.append((f"1.0/shop-1.0.{ending}", answer.content))

        (tmp_path / "app").mkdir()
        link = tmp_path / "app" / "current"
        place = Place(tmp_path, server.url, token, "maven", {"link": str(link)})
        done = place.deploy("d-1", place.package("shop", "1.0", *files, namespace="com.acme"))
        assert {result.status for result in done.values()} == {EventStatus.SUCCEEDED}, done
        wanted = {Path(each).name for each in class_path.read_text().strip().split(":")}
        assert {path.name for path in (link / "lib").iterdir()} == wanted
        assert len(wanted) > 20
        said = subprocess.run([str(link / "bin" / "shop")], capture_output=True, text=True, check=True)
        assert said.stdout == "spring 6.1.14\n"
    finally:
        server.kill()
