"""A real server whose pipelines a test drives by its interface."""

import time
from dataclasses import dataclass
from typing import Any

import requests

from tests.harness.server import Server


@dataclass
class House:
    """A server with its worker, from which pipelines publish."""

    server: Server
    token: str

    def ask(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = requests.request(method, f"{self.server.url}/api/v1{path}", headers=headers, json=body, timeout=30)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def destination(self, name: str, format_name: str, url: str, **more: Any) -> dict[str, Any]:
        body = {"format": format_name, "url": url, "repositories": ["default/dev"], **more}
        return self.ask("PUT", f"/destinations/{name}", body)

    def pipeline(self, name: str, format_name: str, destination: str, package: str = "*", more: str = "") -> None:
        document = f"""
name: {name}
stages:
- name: Source
  actions:
  - name: Package
    actionTypeId: {{category: Source, owner: Entrepot, provider: Package}}
    configuration: {{Repository: dev, Format: {format_name}, Name: "{package}", SettleSeconds: "0"}}
- name: Out
  actions:
  - name: Publish
    actionTypeId: {{category: Deploy, owner: Entrepot, provider: Publish}}
    namespace: out
    configuration: {{Destination: {destination}{more}}}
"""
        self.ask("PUT", "/pipelines", {"document": document})

    def run(self, pipeline: str, format_name: str, name: str, version: str, namespace: str = "") -> dict[str, Any]:
        """Start it by hand, or find it started; its action, ended."""
        body = {"domain": "default", "repository": "dev", "format": format_name, "name": name, "version": version}
        started = self.ask("POST", f"/pipelines/{pipeline}/executions", {**body, "namespace": namespace}, 201)
        return self.ended(started["id"])

    def ended(self, execution: int, seconds: float = 60) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while (found := self.ask("GET", f"/executions/{execution}"))["status"] == "InProgress":
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
        return found["stages"][-1]["actions"][0]

    def waiting(self, pipeline: str, seconds: float = 60) -> int:
        """The number of a pipeline's newest execution, once it waits for an approval."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.ask("GET", f"/pipelines/{pipeline}/executions")["items"]
            if found and self.ask("GET", f"/executions/{found[0]['id']}")["approvals"]:
                return int(found[0]["id"])
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
