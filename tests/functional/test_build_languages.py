"""Projects as they are in the world, built through the registry by both kinds of environment: the same comes of both.

Python with requirements, pytest and its report; Node.js with a lock, ``npm ci`` and ``npm test``; Maven with ``package``. The
first builds fill this registry from the outside; for the second nobody outside answers any more.
"""

from __future__ import annotations

import io
import json
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.build_bench import MISSING_SANDBOX, work_directory
from tests.build_crowd import Builder
from tests.clients.test_tour import _machine_index
from tests.harness.maven import pom
from tests.harness.podman import Podman
from tests.harness.server import Server

pytestmark = [
    pytest.mark.network,
    pytest.mark.long,
    pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX),
]

NOWHERE = "pypi=http://127.0.0.1:9/simple/,npm=http://127.0.0.1:9/,maven=http://127.0.0.1:9/"
IMAGE = "localhost/entrepot/build-standard:languages"

PYTHON = {
    "requirements.txt": "pytest==8.4.2\n",
    "shop/__init__.py": "def total(prices):\n    return sum(prices)\n",
    "tests/test_total.py": "from shop import total\n\n\ndef test_total():\n    assert total([1, 2]) == 3\n",
    "buildspec.yml": """version: 0.2
env:
  variables:
    REPORTS: reports
  exported-variables: [TESTED]
phases:
  install:
    runtime-versions:
      python: 3.x
    commands:
      - python -m venv .venv
      - . .venv/bin/activate
      - pip install --quiet --disable-pip-version-check -r requirements.txt
  build:
    commands:
      - python -m pytest -q -p no:cacheprovider --junitxml=$REPORTS/unit.xml
      - pytest --version
  post_build:
    commands:
      - TESTED=$CODEBUILD_BUILD_SUCCEEDING
      - zip -q -r shop.zip shop -x '*.pyc' || python -c 'import shutil; shutil.make_archive("shop", "zip", ".", "shop")'
reports:
  unit:
    files: ['*.xml']
    base-directory: $REPORTS
artifacts:
  files: shop.zip
cache:
  paths:
    - '/root/.cache/pip/**/*'
""",
}
NODE = {
    "package.json": json.dumps(
        {
            "name": "shop",
            "version": "1.0.0",
            "dependencies": {"left-pad": "1.3.0"},
            "scripts": {"test": "node test.js", "build": "mkdir -p dist && cp index.js dist/"},
        }
    ),
    "index.js": "module.exports = (text) => require('left-pad')(text, 4, '0')\n",
    "test.js": "require('assert').strictEqual(require('./index')('7'), '0007'); console.log('padded it is')\n",
    "buildspec.yml": """version: 0.2
phases:
  install:
    runtime-versions:
      nodejs: latest
    commands:
      - test -f package-lock.json || npm install --package-lock-only --no-audit --no-fund
      - npm ci --no-audit --no-fund
  build:
    commands:
      - npm test
      - npm run build
artifacts:
  base-directory: dist
  files:
    - '**/*'
""",
}
MAVEN = {
    "pom.xml": pom("shop", "1.0"),
    "src/main/java/shop/Shop.java": "package shop;\n\npublic class Shop {\n  public int one() { return 1; }\n}\n",
    "buildspec.yml": """version: 0.2
phases:
  install:
    runtime-versions:
      java: latest
  build:
    commands:
      - echo Build started on `date`
      - mvn -B -ntp package
artifacts:
  files:
    - target/*.jar
  discard-paths: yes
cache:
  paths:
    - '/root/.m2/**/*'
""",
}


@dataclass
class Site:
    server: Server
    builder: Builder

    def build(self, name: str, files: dict[str, str], environment: str, folder: Path) -> dict[str, Any]:
        """What people see of one build: phases, status, exported variables, reports, members of its artifacts."""
        image = {"image": IMAGE} if environment == "container" else {}
        document = {"type": environment, "network": "registry", **image}
        self.builder.put_project(f"{name}-{environment}", files["buildspec.yml"], environment=document)
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        token = self.builder.headers["Authorization"].removeprefix("Bearer ")
        started = self.server.command(
            "build", "start", f"{name}-{environment}", "--source", str(folder),
            environment={"ENTREPOT_URL": self.server.url, "ENTREPOT_TOKEN": token},
        )  # fmt: skip
        assert started.returncode == 0, started.stdout + started.stderr
        build_id = started.stdout.strip().splitlines()[-1]
        (build,) = self.builder.ended([build_id])
        log = self.builder.log(build_id)
        assert build["status"] == "SUCCEEDED", log
        reports = self.builder.call("GET", f"/builds/{build_id}/reports").json()["items"]
        return {
            "phases": [(phase["phaseType"], phase.get("phaseStatus")) for phase in build["phases"]],
            "exported": build["exportedVariables"],
            "reports": [(each["status"], each["testSummary"]["total"]) for each in reports],
            "files": self._files(build_id),
            "commands": [
                line.partition(" Running command ")[2] for line in log.splitlines() if " Running command " in line
            ],
        }

    def _files(self, build_id: str) -> list[str]:
        listed = self.builder.call("GET", f"/builds/{build_id}/artifacts").json()["items"]
        names: list[str] = []
        for each in listed:
            body = self.builder.call("GET", f"/builds/{build_id}/artifacts/{each['artifactIdentifier']}").content
            with zipfile.ZipFile(io.BytesIO(body)) as archive:
                names += archive.namelist()
        return sorted(names)


@pytest.fixture(scope="module")
def site(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with work_directory() as place:
        environment = {
            **_machine_index(),
            "ENTREPOT_BUILDS_WORKSPACE_PATH": str(place),
            "ENTREPOT_BUILDS_CONTAINER_SOCKET": podman.socket,
            "ENTREPOT_BUILDS_CONTAINER_IMAGE": IMAGE,
        }
        server = Server(tmp_path_factory.mktemp("languages") / "data", environment=environment)
        made = server.command(
            "build", "images", "build", "--from", "installed", "--tag", "languages", "--socket", podman.socket
        )
        assert made.returncode == 0, made.stdout + made.stderr
        server.start()
        try:
            yield Site(server, Builder(server, server.token("admin")))
        finally:
            server.stop()
            subprocess.run(["podman", "rmi", "-f", IMAGE], env=podman.environment, capture_output=True, check=False)


@pytest.mark.parametrize(("name", "files"), [("python", PYTHON), ("node", NODE), ("maven", MAVEN)])
def test_both_environments_make_the_same_of_it(site: Site, tmp_path: Path, name: str, files: dict[str, str]) -> None:
    process = site.build(name, files, "process", tmp_path / "one")
    # From here on nobody outside answers: what the second needs is in this registry.
    before = dict(site.server.environment)
    site.server.stop()
    site.server.environment["ENTREPOT_UPSTREAM_URLS"] = NOWHERE
    site.server.start()
    try:
        container = site.build(name, files, "container", tmp_path / "two")
    finally:
        site.server.stop()
        site.server.environment = before
        site.server.start()
    assert container == process
    assert [status for _, status in process["phases"][:-1]] == ["SUCCEEDED"] * (len(process["phases"]) - 1)
    assert process["files"]
    if name == "python":
        assert process["reports"] == [("SUCCEEDED", 1)]
        assert process["exported"] == {"TESTED": "1"}
