"""The whole server on PostgreSQL: publish, build, approve, promote, install; and killed in the middle of it."""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import requests

from tests import postgres
from tests.faults.test_kill_campaign import LONG, campaign
from tests.harness import packages
from tests.harness.clients import Clients
from tests.harness.processes import wait_until
from tests.harness.publishing import file_url
from tests.harness.server import Server

KILLS = 30 if LONG else 2

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(postgres.find_binaries() is None, reason="there is no PostgreSQL on this machine"),
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="bwrap is not installed: no builds run here"),
]

PIPELINE = """
buildProject:
  name: import-test
  buildspec: |
    version: 0.2
    phases:
      build:
        commands:
          - python3 -m pip install --quiet --target site "$PACKAGE==$VERSION"
          - PYTHONPATH=site python3 -c "import elephant; print(elephant.__version__)"
---
pipeline:
  name: release
  stages:
    - name: Source
      actions:
        - name: Package
          actionTypeId: {category: Source, owner: Entrepot, provider: Package, version: "1"}
          configuration: {Repository: dev, Format: pypi, Name: "*", SettleSeconds: "0"}
          namespace: source
    - name: Test
      actions:
        - name: ImportTest
          actionTypeId: {category: Test, owner: AWS, provider: CodeBuild, version: "1"}
          configuration:
            ProjectName: import-test
            EnvironmentVariables: '[{"name":"PACKAGE","value":"#{source.Name}"},{"name":"VERSION","value":"#{source.Version}"}]'
    - name: Approve
      actions:
        - name: Ask
          actionTypeId: {category: Approval, owner: AWS, provider: Manual, version: "1"}
    - name: Promote
      actions:
        - name: ToProd
          actionTypeId: {category: Deploy, owner: Entrepot, provider: Promote, version: "1"}
          configuration: {TargetRepository: prod}
"""


def at_once(*calls: Callable[[], requests.Response]) -> list[requests.Response]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [done.result() for done in [pool.submit(call) for call in calls]]


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    with postgres.shared().fresh_database() as url:
        yield {"ENTREPOT_DATABASE_URL": url, "ENTREPOT_WORKER_LEASE_SECONDS": "4"}


def test_publish_build_approve_promote_install(tmp_path: Path, environment: dict[str, str]):
    server = Server(tmp_path / "data", environment=environment).start()
    try:
        token = server.token("admin")
        headers = {"Authorization": f"Bearer {token}"}
        api = f"{server.url}/api/v1"
        applied = requests.put(f"{api}/pipelines", json={"document": PIPELINE}, headers=headers, timeout=10)
        assert applied.status_code < 300, applied.text
        filename, body = packages.wheel("elephant", "1.0")
        clients = Clients(tmp_path / "home")
        clients.twine(server.index(simple=False), token, *packages.save(tmp_path / "dist", (filename, body))).ok()

        def execution() -> dict[str, object]:
            page = requests.get(f"{api}/pipelines/release/executions", headers=headers, timeout=10).json()
            if not page["items"]:
                return {"stages": []}
            answer = requests.get(f"{api}/executions/{page['items'][0]['id']}", headers=headers, timeout=10)
            return dict(answer.json())

        def stages() -> dict[str, str]:
            return {stage["name"]: stage["status"] for stage in execution()["stages"]}

        wait_until(lambda: stages().get("Approve") == "InProgress" or "Failed" in stages().values(), seconds=120)
        assert stages()["Test"] == "Succeeded", server.log_text()[-2000:]
        promoted = file_url(server, "prod", "elephant", filename)
        assert requests.get(promoted, headers=headers, timeout=10).status_code == 404
        answer = requests.post(
            f"{api}/executions/{execution()['id']}/approval",
            json={"stage": "Approve", "action": "Ask", "verdict": "Approved", "comment": "seen"},
            headers=headers,
            timeout=10,
        )
        assert answer.status_code < 300, answer.text
        wait_until(lambda: execution()["status"] == "Succeeded")
        assert requests.get(promoted, headers=headers, timeout=10).content == body
        python = clients.venv()
        clients.pip_install(python, server.index("prod", token=token), "elephant").ok()
        assert clients.run(str(python), "-c", "import elephant; print(elephant.__version__)").ok().output == "1.0\n"
        assert server.stop() == 0
        assert server.fsck() == ""
        assert not (server.data / "entrepot.db").exists()
    finally:
        server.kill()


@pytest.mark.campaign
@pytest.mark.long
def test_nothing_is_lost_or_done_twice_under_kill_9(tmp_path: Path, environment: dict[str, str]):
    server = Server(tmp_path / "data", environment=environment)
    try:
        campaign(server, KILLS)
    finally:
        server.kill()


def test_of_two_plans_of_one_thing_one_is_done(tmp_path: Path, environment: dict[str, str]) -> None:
    """The other one is told that things have changed since: whoever looked at the first does not undo the second."""
    server = Server(tmp_path / "data", with_worker=False, environment=environment).start()
    try:
        headers = {"Authorization": f"Bearer {server.token()}"}

        def declare(text: str, **more: object) -> requests.Response:
            body = {"files": [{"name": "a.yml", "text": text}], **more}
            return requests.put(f"{server.url}/api/v1/declarations", json=body, headers=headers, timeout=60)

        policy = 'policyDocument: {Version: "2012-10-17", Statement: [{Effect: Allow, Principal: "*", Action: "%s", Resource: "*"}]}'
        things = {
            "repository": ("repository: dev\ndescription: one", "repository: dev\ndescription: other"),
            "policy": (
                "repository: dev\n" + policy % "codeartifact:List*",
                "repository: dev\n" + policy % "codeartifact:Get*",
            ),
            "project": tuple(
                f"name: unit\nrepository: dev\nsource: {{type: NO_SOURCE, buildspec: 'version: 0.2'}}\ntimeoutInMinutes: {minutes}"
                for minutes in (10, 20)
            ),
        }
        for what, (one, other) in things.items():
            for _ in range(3):
                looked = [declare(text, dryRun=True) for text in (one, other)]
                assert [answer.status_code for answer in looked] == [200, 200], [answer.text for answer in looked]
                plans = [answer.json() for answer in looked]
                if any(item["change"] == "unchanged" for plan in plans for item in plan["items"]):
                    assert declare(one if plans[1]["items"][0]["change"] == "unchanged" else other).status_code == 200
                    continue
                answers = at_once(
                    *(partial(declare, text, plan=plan["plan"]) for text, plan in zip((one, other), plans, strict=True))
                )
                assert sorted(answer.status_code for answer in answers) == [200, 409], (what, [a.text for a in answers])
        # What is not there yet is made once, and nobody is told of an error of ours.
        new = (
            "repository: fresh",
            "domain: fresh",
            "name: fresh\nrepository: dev\nsource: {type: NO_SOURCE, buildspec: 'version: 0.2'}",
        )
        for text in new:
            answers = at_once(*[partial(declare, text)] * 4)
            assert [answer.status_code for answer in answers] == [200] * 4, (text, [a.text for a in answers])
            changes = sorted(answer.json()["items"][0]["change"] for answer in answers)
            assert changes == ["created", "unchanged", "unchanged", "unchanged"]
    finally:
        server.kill()
