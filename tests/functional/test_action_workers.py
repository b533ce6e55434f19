"""Actions that others carry out, on a real server: the worker's command, the documents' example, a receiver that calls back."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.build_bench import eventually
from tests.functional.test_action_jobs import SIGNER
from tests.harness.publishing import publish
from tests.harness.server import ROOT, Server

SECRET = "a-passphrase-of-the-signer"
LOOPBACK = {"ENTREPOT_WEBHOOKS_ALLOWED_NETWORKS": "127.0.0.0/8", "ENTREPOT_WEBHOOKS_ALLOW_HTTP": "true"}
DOCUMENT = f"""name: real
stages:
- name: Source
  actions:
  - name: Package
    actionTypeId: {{category: Source, owner: Entrepot, provider: Package}}
    configuration: {{Repository: dev, Format: pypi, Name: "*", SettleSeconds: "0"}}
    outputArtifacts: [{{name: App}}]
- name: Sign
  actions:
  - name: Sign
    actionTypeId: {{category: Build, owner: Custom, provider: Signer, version: "1"}}
    namespace: sign
    configuration: {{Pool: big, Passphrase: {SECRET}}}
    inputArtifacts: [{{name: App}}]
    outputArtifacts: [{{name: Signature}}]
- name: Look
  actions:
  - name: Look
    actionTypeId: {{category: Compute, owner: AWS, provider: Commands, version: "1"}}
    namespace: look
    inputArtifacts: [{{name: Signature}}]
    commands: ["export SEEN=$(ls) LENGTH=$(cat *.sig | wc -c)"]
    outputVariables: [SEEN, LENGTH]
- name: Verify
  actions:
  - name: Verify
    actionTypeId: {{category: Build, owner: Custom, provider: Signer, version: "1"}}
    configuration: {{Pool: "#{{sign.By}}", Passphrase: other-{SECRET}}}
    inputArtifacts: [{{name: Signature}}]
- name: Call
  actions:
  - name: Call
    actionTypeId: {{category: Invoke, owner: Entrepot, provider: Webhook}}
    configuration: {{WebhookName: robot}}
    inputArtifacts: [{{name: Signature}}]
"""
SIGN = """set -e
test -z "$ENTREPOT_TOKEN"
for file in "$ENTREPOT_INPUTS"/App/*; do
  sha256sum < "$file" > "$ENTREPOT_OUTPUTS/Signature/$(basename "$file").sig"
done
if [ -z "$ENTREPOT_CONTINUATION_TOKEN" ]; then
  echo '{"continuationToken": "once more", "executionDetails": {"percentComplete": 40}}' > "$ENTREPOT_RESULT"
else
  echo "by $ENTREPOT_CONFIG_Passphrase for $ENTREPOT_PACKAGE $ENTREPOT_VERSION" > "$OUT"
  echo '{"outputVariables": {"By": "small"}}' > "$ENTREPOT_RESULT"
fi
"""


class Site:
    """A server with its worker, and clients of it as processes."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.server = Server(place / "data", environment=LOOPBACK).start()
        self.admin = self.server.token("admin")
        self.done("POST", "users", {"name": "signer-bot", "actions": ["read"], "isService": True})
        self.bot = self.server.token("signer-bot", "read")
        self.started: list[subprocess.Popen[bytes]] = []

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()
        self.server.kill()

    def done(self, method: str, path: str, body: Any = None) -> Any:
        answer = requests.request(
            method,
            f"{self.server.url}/api/v1/{path}",
            json=body,
            headers={"Authorization": f"Bearer {self.admin}"},
            timeout=60,
        )
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    def environment(self, **more: str) -> dict[str, str]:
        return {**os.environ, "ENTREPOT_URL": self.server.url, "ENTREPOT_TOKEN": self.bot, **more}

    def command(self, *arguments: str, **more: str) -> str:
        """What an administrator's command prints."""
        asked = {"ENTREPOT_URL": self.server.url, "ENTREPOT_TOKEN": self.admin}
        done = self.server.command(*arguments, environment=asked, **more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def worker(self, *arguments: str, **more: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "config.cli.main", "worker", "run", "--poll-seconds", "0.2", *arguments]
        started = subprocess.Popen(command, cwd=ROOT, env=self.environment(**more), stderr=subprocess.PIPE)
        self.started.append(started)
        return started

    def execution(self) -> Any:
        found = self.done("GET", "pipelines/real/executions")["items"]
        return self.done("GET", f"executions/{found[0]['id']}") if found else None

    def action(self, name: str) -> Any:
        found = self.execution()
        return next(a for s in found["stages"] for a in s["actions"] if a["name"] == name) if found else {}

    def publish(self, version: str) -> None:
        answer = publish(self.server, self.admin, "acme", version)
        assert answer.status_code == 200, answer.text
        assert eventually(lambda: (self.execution() or {}).get("version") == version)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("workers"))
    yield made
    made.close()


class Robot:
    """A receiver that does its work and calls back, as its document says."""

    def __init__(self) -> None:
        robot = self
        self.got: list[dict[str, Any]] = []
        self.answers: list[int] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                robot.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(202)
                self.end_headers()
                threading.Thread(target=robot.work, args=(robot.got[-1],)).start()

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def work(self, sent: dict[str, Any]) -> None:
        data = sent["CodePipeline.job"]["data"]
        credential = {"Authorization": f"Bearer {data['artifactCredentials']['sessionToken']}"}
        (file,) = data["inputArtifacts"][0]["location"]["files"]
        read = requests.get(file["url"], headers=credential, timeout=10)
        self.answers.append(read.status_code)
        for _ in range(2):  # the second time it is said again, and counts no more
            told = requests.post(
                sent["callback"]["successUrl"], json={"outputVariables": {"A": "b"}}, headers=credential, timeout=10
            )
            self.answers.append(told.status_code)

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def test_a_command_the_documents_example_and_a_webhook_carry_a_pipeline_out(site: Site) -> None:
    robot = Robot()
    try:
        kind = json.dumps({key: value for key, value in SIGNER.items() if key != "workers"})
        site.command("pipeline", "action-type", "create", "-f", "-", "--worker", "signer-bot", input=kind)
        url = f"http://127.0.0.1:{robot.server.server_port}/jobs"
        secret = site.command("pipeline", "action-webhook", "put", "robot", url).strip()
        assert secret.startswith("whsec_")
        site.done("PUT", "pipelines", {"document": DOCUMENT})
        site.publish("1.0")
        written = site.place / "written"
        arguments = ("--action-type", "Build/Signer/1", "--query", "Pool=big", "--", "sh", "-c", SIGN)
        worker = site.worker(*arguments, OUT=str(written))
        assert eventually(lambda: site.action("Sign").get("status") == "Succeeded")
        assert written.read_text() == f"by {SECRET} for acme 1.0\n"
        assert site.action("Sign")["outputVariables"] == {"By": "small"}
        # A build has what the worker left as its source.
        assert eventually(lambda: site.action("Look").get("status") in {"Succeeded", "Failed"})
        seen = {"SEEN": "acme-1.0-py3-none-any.whl.sig", "LENGTH": "68"}
        assert site.action("Look")["outputVariables"] == seen, site.action("Look")["summary"]
        # The next one is the example of the documents, word for word.
        (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/pipeline-actions.md").read_text(), re.DOTALL)
        assert len(example.strip().splitlines()) <= 40
        started = subprocess.Popen([sys.executable, "-c", example], env=site.environment())
        site.started.append(started)
        assert eventually(lambda: site.action("Verify").get("status") == "Succeeded")
        assert site.action("Verify")["summary"] == "signed"
        assert eventually(lambda: site.execution()["status"] == "Succeeded")
        assert eventually(lambda: len(robot.answers) == 3)
        assert robot.answers == [200, 200, 401]
        worker.send_signal(signal.SIGTERM)
        _, said = worker.communicate(timeout=20)
        token = robot.got[0]["CodePipeline.job"]["data"]["artifactCredentials"]["sessionToken"]
        # No log says what is secret: neither the server's nor the worker's.
        for text in (site.server.log_text(), said.decode(), json.dumps(site.execution())):
            for hidden in (SECRET, token, secret, url, site.bot):
                assert hidden not in text
        assert "GET" in site.server.log_text() or site.server.log_text(), "there is a log that could have told"
        started.kill()
    finally:
        robot.close()


def test_a_command_that_fails_is_told_and_one_that_nobody_waits_for_is_stopped(site: Site) -> None:
    site.publish("2.0")
    failing = site.worker("--action-type", "Build/Signer", "--once", "--", "sh", "-c", "exit 7")
    assert failing.wait(30) == 1
    assert eventually(lambda: site.execution()["status"] == "Failed")
    assert site.action("Sign")["summary"] == "JobFailed: the command ended with 7"
    site.publish("3.0")
    mark = site.place / "began"
    slow = site.worker("--action-type", "Build/Signer", "--", "sh", "-c", f"echo $$ > {mark}; sleep 600")
    assert eventually(lambda: mark.exists() and mark.read_text().strip() != "")
    number = site.execution()["id"]
    site.done("POST", f"executions/{number}/stop", {"reason": "not wanted", "abandon": True})
    assert eventually(lambda: not Path(f"/proc/{int(mark.read_text())}").exists())
    assert slow.poll() is None, "it waits for the next job"
    # Whoever stops the worker has its job fail at once.
    mark.unlink()
    site.publish("4.0")
    assert eventually(mark.exists)
    slow.send_signal(signal.SIGTERM)
    slow.communicate(timeout=20)
    assert eventually(lambda: site.action("Sign").get("summary") == "JobFailed: the worker was stopped")


def test_commands_make_list_and_delete_types_and_webhooks(site: Site) -> None:
    counts = {"minimumCount": 0, "maximumCount": 1}
    made = {"category": "Test", "provider": "Passing", "version": "3", "tags": []}
    document = json.dumps({**made, "inputArtifactDetails": counts, "outputArtifactDetails": counts})
    told = site.command("pipeline", "action-type", "create", "-f", "-", "--json", input=document)
    assert json.loads(told)["id"] == {"category": "Test", "owner": "Custom", "provider": "Passing", "version": "3"}
    listed = site.command("pipeline", "action-type", "list", "--owner", "Custom")
    assert "Passing" in listed
    assert "CodeBuild" not in listed
    assert "CodeBuild" in site.command("pipeline", "action-type", "list")
    site.command("pipeline", "action-type", "delete", "Test/Passing/3")
    assert "Passing" not in site.command("pipeline", "action-type", "list")
    secret_file = site.place / "secret"
    secret_file.write_text("whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n")
    url = "http://127.0.0.1:9/jobs"
    assert not site.command("pipeline", "action-webhook", "put", "mine", url, "--secret-file", str(secret_file))
    assert "mine" in site.command("pipeline", "action-webhook", "list")
    site.command("pipeline", "action-webhook", "delete", "mine")
    assert "mine" not in site.command("pipeline", "action-webhook", "list")
    outside = {"ENTREPOT_URL": site.server.url, "ENTREPOT_TOKEN": site.admin}
    refused = site.server.command(
        "pipeline", "action-webhook", "put", "mine", "http://169.254.169.254/latest", environment=outside
    )
    assert refused.returncode == 1
