"""Builds that publish: the real twine, npm and mvn in the real sandbox, against a real server."""

import base64
import io
import re
import shutil
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import requests

from config import executors, wiring
from config.settings import load
from hooks.builds.executors.process import ProcessExecutor
from hooks.builds.records import QUEUE
from hooks.jobs.worker import Worker
from tests.build_bench import MISSING_SANDBOX, work_directory
from tests.harness.maven import pom
from tests.harness.packages import wheel
from tests.harness.server import Server

pytestmark = [pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX), pytest.mark.slow]
RUNNER = "runner-of-the-test"
TWINE = 'PYTHONPATH="{tools}" python3 -m twine upload --disable-progress-bar'


@dataclass
class Yard:
    """A server without a worker of its own, and one in this process that gives its builds what twine needs."""

    server: Server
    token: str
    tools: Path

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {options.pop('token', self.token)}"}
        return requests.request(method, f"{self.server.url}/api/v1{path}", headers=headers, timeout=30, **options)

    def project(self, name: str, document: str) -> None:
        done = self.ask(
            "PUT", f"/build-projects/{name}", json={"document": f"name: {name}\nrepository: dev\n{document}"}
        )
        assert done.status_code == 200, done.text

    def build(self, project: str, *commands: str, files: dict[str, bytes] | None = None) -> tuple[dict[str, Any], str]:
        """Build it to the end: the build, and its log."""
        upload = self.ask("POST", f"/build-sources?project={project}", data=zipped(files or {"README": b"hello\n"}))
        assert upload.status_code == 201, upload.text
        lines = "".join(f"    - {base_command(command)}\n" for command in commands)
        start = {
            "sourceUpload": upload.json()["id"],
            "buildspecOverride": f"version: 0.2\nphases:\n  build:\n    commands:\n{lines}",
        }
        started = self.ask("POST", f"/build-projects/{project}/builds", json=start)
        assert started.status_code == 201, started.text
        path = f"/builds/{started.json()['id']}"
        deadline = time.monotonic() + 120
        while (found := self.ask("GET", path).json())["status"] == "IN_PROGRESS":
            assert time.monotonic() < deadline, self.ask("GET", f"{path}/log").text
            time.sleep(0.1)
        return found, self.ask("GET", f"{path}/log").text

    def version(self, repository: str, format_name: str, name: str, version: str) -> dict[str, Any]:
        path = f"/domains/default/repositories/{repository}/packages/{format_name}/{name}/versions/{version}"
        answer = self.ask("GET", path)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


def base_command(command: str) -> str:
    """A command as a YAML scalar, whatever is in it."""
    return f"echo {base64.b64encode(command.encode()).decode()} | base64 -d > /tmp/step && . /tmp/step"


def zipped(files: dict[str, bytes]) -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return body.getvalue()


def tools_in(folder: Path) -> Path:
    """twine with what it needs, where a sandbox can read it: not below /tmp, which is each build's own."""
    target = folder / "tools"
    wanted, seen = ["twine"], set[str]()
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # an extra, or for another system
        wanted += [re.split(r"[^A-Za-z0-9._-]", line)[0] for line in found.requires or () if "extra ==" not in line]
        for file in found.files or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                (target / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(file.locate()), target / file)
    return target


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    with work_directory() as work:
        server = Server(tmp_path_factory.mktemp("giveback") / "data", with_worker=False).start()
        tools = tools_in(work.parent)
        settings = load(server.data, {})
        services = wiring.services(settings)
        chosen = replace(
            executors.process_settings(settings),
            work_dir=work,
            registry_address=("127.0.0.1", server.port),
        )
        chosen = replace(chosen, readonly_paths=(*chosen.readonly_paths, str(tools)))
        parts = wiring.hook_services(services, settings).actions
        table = wiring.build_jobs(settings, services, parts, {"process": ProcessExecutor(chosen)})
        worker = Worker(
            services.db, table.handlers, settle=table.settle, slots=2, queues=(QUEUE,), name=RUNNER, poll_seconds=0.05,
            heartbeat_seconds=0.2,
        )  # fmt: skip
        worker.start()
        try:
            yard = Yard(server, server.token("admin", "admin"), tools)
            yard.project("to-staging", "source: {type: UPLOAD}\npublishRepository: staging\n")
            yard.project("nowhere", "source: {type: UPLOAD}\n")
            yield yard
        finally:
            worker.drain(5)
            services.db.close()
            server.kill()


def test_what_twine_and_npm_publish_in_a_build_is_recorded_with_it(yard: Yard):
    name, body = wheel("made-here", "1.0")
    manifest = b'{"name": "made-there", "version": "2.0.0"}'
    build, log = yard.build(
        "to-staging",
        f"{TWINE.format(tools=yard.tools)} dist/*.whl",
        'cd web && npm publish --registry "$ENTREPOT_PUBLISH_NPM_URL" && cd ..',
        # What is inside never has the token that publishes.
        '! env | grep ent_; ! grep -r ent_ "$HOME" --include=.npmrc -h | grep 7980',
        files={f"dist/{name}": body, "web/package.json": manifest},
    )
    assert build["status"] == "SUCCEEDED", log
    assert [(each["format"], each["name"], each["version"], each["repository"]) for each in build["published"]] == [
        ("pypi", "made-here", "1.0", "staging"),
        ("npm", "made-there", "2.0.0", "staging"),
    ]
    for format_name, package, version in (("pypi", "made-here", "1.0"), ("npm", "made-there", "2.0.0")):
        (made,) = yard.version("staging", format_name, package, version)["builtBy"]
        assert (made["buildId"], made["project"], made["attempt"]) == (build["id"], "to-staging", 1)
        assert made["runner"] == RUNNER
        assert made["source"]["type"] == "UPLOAD"
        assert made["source"]["digest"].startswith("sha256:")
    page = "/domains/default/repositories/staging/packages/pypi/made-here/versions/1.0/provenance"
    statement = yard.ask("GET", page).json()["statements"][0]
    assert statement["subject"][0]["name"] == name
    assert statement["predicate"]["runDetails"]["metadata"]["invocationId"].endswith(build["id"])
    audit = yard.ask("GET", "/audit?limit=200").json()["items"]
    told = [entry["details"] for entry in audit if entry["object"].endswith(name)]
    assert (told[0]["build"], told[0]["runner"]) == (build["id"], RUNNER)
    # A promotion takes the record along.
    done = yard.ask(
        "POST", "/domains/default/repositories/staging/packages/pypi/made-here/versions/1.0/promote",
        json={"target": "prod"},
    )  # fmt: skip
    assert done.status_code == 200, done.text
    (made,) = yard.version("prod", "pypi", "made-here", "1.0")["builtBy"]
    assert made["buildId"] == build["id"]


@pytest.mark.skipif(shutil.which("mvn") is None, reason="there is no mvn on this machine")
@pytest.mark.network
@pytest.mark.long
def test_mvn_deploy_in_a_build_publishes_where_the_project_does(yard: Yard):
    build, log = yard.build(
        "to-staging", "mvn -B -q deploy", files={"pom.xml": pom("made", "3.0", packaging="pom").encode()}
    )
    assert build["status"] == "SUCCEEDED", log
    assert [(each["name"], each["version"]) for each in build["published"]] == [("made", "3.0")]


def test_a_build_publishes_nowhere_else(yard: Yard):
    """By its own token, through the door of another repository, and with no door at all."""
    name, body = wheel("kept-out", "1.0")
    twine = TWINE.format(tools=yard.tools)
    files = {f"dist/{name}": body, "README": b"two things at the top"}
    build, log = yard.build(
        "to-staging", f"{twine} --repository-url http://127.0.0.1:7980/pypi/default/prod/ dist/*.whl", files=files
    )
    assert build["status"] == "FAILED"
    assert "403 Forbidden" in log, log
    reading = "TWINE_USERNAME=x TWINE_PASSWORD=$(sed -n 's/^password //p' ~/.netrc)"
    build, log = yard.build(
        "nowhere",
        f"TWINE_USERNAME=x TWINE_PASSWORD=y {twine} --repository-url http://127.0.0.1:7980/pypi/default/dev/ dist/*.whl || true",
        f"{reading} {twine} --repository-url http://127.0.0.1:7979/pypi/default/dev/ dist/*.whl",
        files=files,
    )
    assert build["status"] == "FAILED"
    assert "Connection refused" in log, log
    assert "403 Forbidden" in log, log
    for repository in ("dev", "prod", "staging"):
        path = f"/domains/default/repositories/{repository}/packages/pypi/kept-out"
        assert yard.ask("GET", path).status_code == 404


def test_who_may_not_publish_there_starts_no_build_that_does(yard: Yard):
    token = yard.server.token("admin", "read", "publish", repositories=("dev",))
    refused = yard.ask("POST", "/build-projects/to-staging/builds", json={}, token=token)
    assert refused.status_code == 403
    assert "staging" in refused.text
