"""Builds on a runner: a server that builds nothing itself, and a real ``entrepot runner`` beside it, which has no SQLAlchemy."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.build_bench import MISSING_SANDBOX, eventually, work_directory
from tests.fakes.forge import Repository, forge
from tests.harness.server import ROOT, Server
from tests.harness.tls_front import Front, tls_front

pytestmark = pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX)

# What serves has them; what only runs builds must do without.
COMMAND = (
    "import sys; sys.modules['sqlalchemy'] = sys.modules['flask'] = None; from config.cli.main import main; main()"
)
SECRET = "correct-horse-battery"
FETCH = """
import base64, netrc, urllib.request
login, _, password = netrc.netrc().authenticators("127.0.0.1")
request = urllib.request.Request("http://127.0.0.1:7979/pypi/default/dev/simple/")
request.add_header("Authorization", "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode())
print("the registry says", urllib.request.urlopen(request).status)

import os
address = os.environ["ENTREPOT_PUBLISH_GENERIC_URL"] + "made/1.0/made.txt"
print("published:", urllib.request.urlopen(urllib.request.Request(address, b"made elsewhere", method="PUT")).status)
print("somebody's token:", os.environ["LEAK"] + os.environ["ED"])
"""
SPEC = """
version: 0.2
env:
  parameter-store:
    PASSWORD: /team/password
  exported-variables: [SAID]
phases:
  build:
    commands:
      - python3 fetch.py
      - echo "the password is $PASSWORD"
      - seq 1 20000
      - export SAID=hello
      - mkdir -p out cached && echo content > out/file.txt && date > cached/when
      - |
        echo '<testsuite name="s"><testcase name="passes"/><testcase name="fails"><failure message="no"/></testcase></testsuite>' > report.xml
artifacts:
  files: ['out/**/*']
cache:
  key: the-key
  paths: ['cached/**/*']
reports:
  unit:
    files: [report.xml]
"""
STANDING = """version: 0.2
phases: {build: {commands: [codebuild-breakpoint, 'mkdir -p had && echo it >had/it']}}
cache: {paths: ['had/**/*']}
"""
ENDLESS = "version: 0.2\nphases:\n  build:\n    commands: ['echo it has begun', 'sleep 1234.5']\n"


@dataclass
class Site:
    server: Server
    token: str
    front: Front
    places: list[Path] = field(default_factory=list)
    runners: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def call(self, method: str, path: str, status: int = 200, **more: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = requests.request(method, f"{self.server.url}/api/v1{path}", headers=headers, timeout=30, **more)
        assert answer.status_code == status, answer.text
        return answer

    def add(self, name: str, **limits: Any) -> str:
        return str(self.call("POST", "/runners", 201, json={"name": name, **limits}).json()["registrationToken"])

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-c", COMMAND, "runner", *arguments]

    def register(
        self, place: Path, token: str, *options: str, url: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        to = ("--url", url or self.server.url, "--data", str(place), "--token", "-")
        command = self.command("register", *to, *options)
        return subprocess.run(
            command,
            cwd=ROOT,
            input=token,
            env=self.server.child_environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    def run(self, place: Path, *options: str) -> subprocess.Popen[bytes]:
        with (place.parent / f"{place.name}.log").open("ab") as log:
            process = subprocess.Popen(
                self.command("run", "--data", str(place), *options),
                cwd=ROOT,
                env={**self.server.child_environment(), "ENTREPOT_BUILDS_WORKSPACE_PATH": str(place / "work")},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.runners.append(process)
        return process

    def project(self, name: str, source: str, spec: str | None, network: str, **more: Any) -> None:
        document = {
            "name": name,
            "repository": "dev",
            "source": {"type": source},
            "environment": {"type": "process", "network": network},
            **({"buildspec": spec} if spec else {}),
            **more,
        }
        self.call("PUT", f"/build-projects/{name}", json={"document": json.dumps(document)})

    def upload(self, project: str, files: dict[str, str]) -> str:
        """Send a source; its id."""
        return str(self.call("POST", f"/build-sources?project={project}", 201, data=zipped(files)).json()["id"])

    def publish(self, url: str, body: bytes) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        assert requests.put(url, data=body, headers=headers, timeout=30).status_code == 201

    def status(self, token: str) -> int:
        """What somebody with ``token`` is answered."""
        headers = {"Authorization": f"Bearer {token}"}
        return requests.get(f"{self.server.url}/api/v1/whoami", headers=headers, timeout=30).status_code

    def build(self, build_id: str) -> dict[str, Any]:
        return dict(self.call("GET", f"/builds/{build_id}").json())

    def log(self, build_id: str) -> str:
        return self.call("GET", f"/builds/{build_id}/log").text


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    environment = {"ENTREPOT_WORKER_LEASE_SECONDS": "6"}
    server = Server(
        tmp_path_factory.mktemp("site") / "data", with_worker=False, environment=environment, web_processes=1
    )
    server.start()
    with work_directory() as place, tls_front(server.port, tmp_path_factory.mktemp("front")) as front:
        made = Site(server, server.token(), front)
        made.places.append(place / "runner")
        yield made
        for process in made.runners:
            if process.poll() is None:
                process.kill()
            process.wait(10)
    server.kill()


@pytest.fixture(scope="module")
def runner(site: Site) -> subprocess.Popen[bytes]:
    """A runner that finds the server behind a TLS front; the one that comes later goes to it in the clear."""
    (place,) = site.places
    token = site.add("first")
    front, trust = site.front.url, ("--ca-bundle", str(site.front.authority))
    stranger = site.register(place, token, url=front)
    assert stranger.returncode == 1
    assert "SSLError" in stranger.stderr  # nothing was sent to whom nobody vouches for: the token is still good
    done = site.register(place, token, *trust, url=front)
    assert done.returncode == 0, done.stderr
    assert (place / "runner.json").stat().st_mode & 0o777 == 0o600
    again = site.register(place.with_name("thief"), token)
    assert again.returncode == 1
    assert "unknown, used or too old" in again.stderr
    return site.run(place, *trust)


def zipped(files: dict[str, str]) -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return body.getvalue()


def test_a_build_runs_on_a_runner_with_all_that_a_build_has(site: Site, runner: subprocess.Popen[bytes]) -> None:
    site.project("whole", "UPLOAD", None, "registry", publishRepository="staging")
    site.call("PUT", "/parameters/team/password", json={"value": SECRET, "projects": ["whole"]})
    upload = site.upload("whole", {"buildspec.yml": SPEC, "fetch.py": FETCH})
    leak = site.call("POST", "/tokens", 201, json={"name": "leak", "actions": ["read"], "ttlSeconds": 3600}).json()
    assert site.status(leak["secret"]) == 200
    halves = {"LEAK": leak["secret"][:20], "ED": leak["secret"][20:]}  # in one piece the server would not take it
    leaks = [{"name": name, "value": half, "type": "PLAINTEXT"} for name, half in halves.items()]
    started = {"sourceUpload": upload, "environmentVariablesOverride": leaks}
    build_id = site.call("POST", "/build-projects/whole/builds", 201, json=started).json()["id"]
    eventually(lambda: site.build(build_id)["status"] != "IN_PROGRESS", "the build never ended")
    log, build = site.log(build_id), site.build(build_id)
    assert (build["status"], build["attempt"]) == ("SUCCEEDED", 1), log
    assert runner.poll() is None

    assert "Running on runner first" in log
    assert "the registry says 200" in log  # with a token of its own, and through the runner alone
    assert "published: 201" in log
    (by,) = site.call("GET", "/domains/default/repositories/staging/packages/generic/made/versions/1.0").json()[
        "builtBy"
    ]
    assert (by["buildId"], by["runner"]) == (build_id, "runner first")
    assert "somebody's token: " in log
    assert leak["secret"] not in log
    assert site.status(leak["secret"]) == 401  # what a log shows is ended
    assert "the password is ***" in log
    assert SECRET not in log
    lines = log.splitlines()
    first = lines.index("1")
    assert lines[first : first + 20000] == [str(number) for number in range(1, 20001)]  # nothing lost, doubled or mixed
    assert [phase["phaseType"] for phase in build["phases"]][-1] == "COMPLETED"
    assert build["exportedVariables"] == {"SAID": "hello"}

    (artifact,) = site.call("GET", f"/builds/{build_id}/artifacts").json()["items"]
    body = site.call("GET", f"/builds/{build_id}/artifacts/{artifact['artifactIdentifier']}").content
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.read("out/file.txt") == b"content\n"
    (report,) = site.call("GET", f"/builds/{build_id}/reports").json()["items"]
    assert (report["status"], report["testSummary"]["total"]) == ("FAILED", 2)

    again = site.call("POST", "/build-projects/whole/builds", 201, json=started).json()["id"]
    eventually(lambda: site.build(again)["status"] != "IN_PROGRESS", "the second build never ended")
    assert "Restoring cache the-key, scope" in site.log(again)


@pytest.mark.long
def test_builds_stand_on_a_runner_and_find_its_machines_caches(site: Site, runner: subprocess.Popen[bytes]) -> None:
    site.project("standing", "NO_SOURCE", STANDING, "none", cache={"type": "LOCAL"})

    def ended(**body: Any) -> str:
        build_id = str(site.call("POST", "/build-projects/standing/builds", 201, json=body).json()["id"])
        if body:
            eventually(lambda: site.build(build_id)["debugSession"]["pausedAt"], "it never stood")
            site.call("POST", f"/builds/{build_id}/resume")
        eventually(lambda: site.build(build_id)["status"] == "SUCCEEDED", "it never ended")
        return site.log(build_id)

    first = ended(debugSessionEnabled=True)
    assert "Build is paused at a breakpoint" in first
    assert "No cache found" in first
    second = ended()
    assert "has no debug session" in second
    assert "Restoring cache of the project, scope protected" in second


BATCH = """
version: 0.2
env:
  exported-variables: [NAMES]
phases:
  build:
    commands: ['eval "$(python3 make.py)"']
batch:
  build-list:
    - {identifier: one, env: {variables: {WHO: one}}}
    - {identifier: two, env: {variables: {WHO: two}}}
""".replace("NAMES", ", ".join(f"V{number}" for number in range(150)))
MAKE = "for number in range(150): print(f'export V{number}=' + 'x' * 9000)"


def test_a_batch_is_found_and_built_on_a_runner_however_much_its_builds_export(
    site: Site, runner: subprocess.Popen[bytes]
) -> None:
    site.project("batched", "UPLOAD", None, "none")
    files = {"buildspec.yml": BATCH, "make.py": MAKE}
    upload = site.upload("batched", files)
    started = {"sourceUpload": upload}
    batch = f"/build-batches/{site.call('POST', '/build-projects/batched/batches', 201, json=started).json()['id']}"
    eventually(lambda: site.call("GET", batch).json()["complete"], "the batch never ended")
    shown = site.call("GET", batch).json()
    assert shown["buildBatchStatus"] == "SUCCEEDED", shown
    groups = {group["identifier"]: group["currentBuildSummary"]["id"] for group in shown["buildGroups"]}
    assert set(groups) == {"DOWNLOAD_SOURCE", "one", "two"}
    for build_id in groups.values():
        assert "Running on runner first" in site.log(build_id)
    exported = site.build(groups["one"])["exportedVariables"]
    assert len(exported) == 13  # 120 KiB of them, as a pipeline's action puts out
    assert exported["V12"] == "x" * 9000
    assert "Warning: V13 and 136 more not exported" in site.log(groups["one"])
    # What is wrong with a batch is told before anything is built.
    faulty = BATCH.replace("identifier: two", "identifier: two, depend-on: [nobody]").replace(
        "build-list", "build-graph"
    )
    started = {"sourceUpload": site.upload("batched", {**files, "buildspec.yml": faulty})}
    batch = f"/build-batches/{site.call('POST', '/build-projects/batched/batches', 201, json=started).json()['id']}"
    eventually(lambda: site.call("GET", batch).json()["complete"], "the batch never ended")
    shown = site.call("GET", batch).json()
    assert shown["buildBatchStatus"] == "FAILED"
    assert [group["identifier"] for group in shown["buildGroups"]] == ["DOWNLOAD_SOURCE"]
    assert "nobody" in shown["message"]
    assert runner.poll() is None


def test_a_git_source_is_fetched_by_the_runner_with_the_projects_credential(
    site: Site, runner: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    repository = Repository(tmp_path, "one")
    spec = "version: 0.2\nphases: {build: {commands: ['cat part.txt', 'echo commit $CODEBUILD_RESOLVED_SOURCE_VERSION']}}\n"
    commit = repository.commit({"buildspec.yml": spec, "part.txt": "the part\n"})
    with forge(tmp_path) as running:
        running.credentials["one.git"] = ("joe", SECRET)
        source = {"type": "GIT", "location": f"{running.url}/one.git"}
        document = {"name": "sourced", "repository": "dev", "source": source, "environment": {"network": "none"}}
        site.call("PUT", "/build-projects/sourced", json={"document": json.dumps(document)})
        given = {"authType": "BASIC_AUTH", "username": "joe", "token": SECRET}
        site.call("PUT", "/build-projects/sourced/source-credential", json=given)
        build_id = site.call("POST", "/build-projects/sourced/builds", 201, json={}).json()["id"]
        eventually(lambda: site.build(build_id)["status"] != "IN_PROGRESS", "the build never ended")
    log, build = site.log(build_id), site.build(build_id)
    assert build["status"] == "SUCCEEDED", log
    assert "Running on runner first" in log
    assert "the part" in log
    assert f"commit {commit}" in log
    assert build["resolvedSourceVersion"] == commit
    assert ("/one.git/info/refs", f"joe:{SECRET}") in running.sent
    assert SECRET not in log
    assert runner.poll() is None


def test_kill_9_of_the_runner_starts_the_build_anew_elsewhere(site: Site, runner: subprocess.Popen[bytes]) -> None:
    site.project("endless", "NO_SOURCE", ENDLESS, "none")
    build_id = site.call("POST", "/build-projects/endless/builds", 201, json={}).json()["id"]
    eventually(lambda: "it has begun" in site.log(build_id), "it never began")
    eventually(sleepers, "nothing sleeps")
    (shown,) = site.call("GET", "/runners").json()["items"]
    assert (shown["state"], [each["id"] for each in shown["builds"]]) == ("ONLINE", [build_id])

    os.kill(runner.pid, signal.SIGKILL)
    eventually(lambda: not sleepers(), "the build outlived its runner")
    place = site.places[0].with_name("second")
    assert site.register(place, site.add("second", projects=["endless"])).returncode == 0
    other = site.run(place)
    eventually(lambda: "Attempt 1 broke off" in site.log(build_id), "nobody noticed")
    eventually(lambda: "Running on runner second" in site.log(build_id), "nobody took it over")
    eventually(sleepers, "the second attempt does not run")
    assert site.build(build_id)["attempt"] == 2

    site.call("POST", f"/builds/{build_id}/stop")
    eventually(lambda: site.build(build_id)["status"] == "STOPPED", "it was not stopped")
    eventually(lambda: not sleepers(), "the build outlived its end")
    other.send_signal(signal.SIGTERM)
    assert other.wait(30) == 0


def sleepers() -> list[str]:
    """Processes of the endless build."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] == [b"sleep", b"1234.5"]:
            found.append(path.parent.name)
    return found
