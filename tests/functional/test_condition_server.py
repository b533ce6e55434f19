"""Conditions, a freeze and a hold on a real server with its worker: time passes by itself, and commands steer."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.harness.publishing import publish
from tests.harness.server import Server

PIPELINE = """
name: release
executionMode: SUPERSEDED
stages:
- name: Source
  actions:
  - {{name: P, actionTypeId: {{category: Source, owner: Entrepot, provider: Package}}, namespace: src,
     configuration: {{Repository: dev, Format: pypi, Name: "*", SettleSeconds: "0"}}}}
- name: Staging
  beforeEntry:
    conditions:
    - result: FAIL
      rules:
      - name: Window
        ruleTypeId: {{category: Rule, owner: AWS, provider: DeploymentWindow, version: "1"}}
        configuration: {{Cron: "{cron}"}}
  actions:
  - {{name: Promote, actionTypeId: {{category: Deploy, owner: Entrepot, provider: Promote}},
     configuration: {{TargetRepository: staging}}}}
- name: Prod
  onFailure: {{result: ROLLBACK}}
  actions:
  - {{name: Ask, actionTypeId: {{category: Approval, provider: Manual}}}}
"""
TRIES, PAUSE_SECONDS = 300, 0.1


class Line:
    """The pipeline as commands see it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.token = server.token()

    def run(self, *words: str) -> str:
        done = self.server.command(
            "pipeline", *words, environment={"ENTREPOT_URL": self.server.url, "ENTREPOT_TOKEN": self.token}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def execution(self, number: int) -> dict:
        return json.loads(self.run("status", str(number), "--json"))

    def stages(self, number: int) -> dict:
        return {each["name"]: each["status"] for each in self.execution(number)["stages"]}

    def until(self, is_so) -> None:
        for _ in range(TRIES):
            if is_so():
                return
            time.sleep(PAUSE_SECONDS)
        raise AssertionError(self.run("status", "release", "--stages"))

    def publish(self, version: str) -> int:
        before = len(json.loads(self.run("status", "release", "--json")))
        assert publish(self.server, self.token, "acme", version).status_code == 200
        self.until(lambda: len(json.loads(self.run("status", "release", "--json"))) > before)
        return int(json.loads(self.run("status", "release", "--json"))[0]["id"])


def test_time_passes_by_itself_and_people_steer(tmp_path: Path) -> None:
    server = Server(tmp_path / "data").start()
    try:
        line = Line(server)
        opens = datetime.now(UTC) + timedelta(seconds=5)
        document = tmp_path / "pipeline.yml"
        document.write_text(PIPELINE.format(cron=f"{opens.second} {opens.minute} {opens.hour} ? * *"))
        line.run("apply", "-f", str(document))
        first = line.publish("1.0")
        shown = line.execution(first)["stages"][1]["conditions"][0]
        assert (shown["conditionType"], shown["status"], shown["rules"][0]["name"]) == (
            "BEFORE_ENTRY",
            "InProgress",
            "Window",
        )
        line.until(lambda: line.stages(first)["Prod"] == "InProgress")
        assert datetime.now(UTC) >= opens.replace(microsecond=0)
        line.run("approve", str(first))

        # After its second the window is shut until tomorrow, and kill -9 takes nothing of what waits for it.
        line.until(lambda: datetime.now(UTC) >= opens.replace(microsecond=0) + timedelta(seconds=1))
        second = line.publish("1.1")
        server.kill()
        server.start()
        assert line.stages(second)["Staging"] == "InProgress"
        line.run("override", str(second), "Staging", "--reason", "urgent")
        line.until(lambda: line.stages(second)["Prod"] == "InProgress")
        line.run("reject", str(second))
        back = json.loads(line.run("status", "release", "--json"))[0]
        assert (back["triggerKind"], back["rollbackTargetId"], back["version"]) == ("auto-rollback", first, "1.0")
        line.run("approve", str(back["id"]))

        by_hand = line.run("rollback", str(first), "Prod").strip()
        line.run("approve", by_hand)
        third = line.publish("1.2")
        line.run("override", str(third), "Staging", "--reason", "urgent")
        line.until(lambda: line.execution(third)["inboundStage"] == "Prod")
        ends = (datetime.now(UTC) + timedelta(seconds=5)).isoformat()
        line.run(
            "freeze", "add", "lunch", "--pipeline", "release", "--stage", "Prod", "--until", ends, "--reason", "lunch"
        )
        told = line.run("release", "release", "Prod", "--reason", "fixed")
        assert "is held" not in told
        assert line.execution(third)["inboundStage"] == "Prod"  # frozen
        line.until(lambda: line.stages(third)["Prod"] == "InProgress")
        assert datetime.now(UTC) >= datetime.fromisoformat(ends)
        assert server.fsck() == ""
    finally:
        server.stop()
