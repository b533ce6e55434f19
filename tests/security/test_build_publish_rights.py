"""H8, H9: whose right it is that a build publishes. A pipeline's build by its action's word, any build by its start's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hooks.builds import attempts
from tests.functional.test_hooks_api import Hooks, action
from tests.security.test_runners import SPEC, Machine

PIPELINE = """name: {name}
stages:
- name: Source
  actions:
  - name: Package
    actionTypeId: {{category: Source, owner: Entrepot, provider: Package}}
    configuration: {{Repository: dev, Format: pypi, Name: "*"}}
{gate}- name: Make
  actions:
  - name: Make
    actionTypeId: {{category: Build, provider: CodeBuild}}
    configuration: {{ProjectName: maker{more}}}
"""
GATE = """- name: Gate
  actions:
  - name: Ask
    actionTypeId: {category: Approval, provider: Manual}
"""


class Site(Hooks):
    """A project that publishes to ``staging``, which its publisher may not, and a runner that takes its builds."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.account("builds", "read", "publish")
        made = self.call("POST", "/runners", json={"name": "machine"}).json
        said = {"protocol": 2, "host": "h", "version": "1", "environments": ["process"], "slots": 9}
        headers = {"Authorization": f"Bearer {made['registrationToken']}"}
        told = self.http.post("/api/v1/runner/register", json=said, headers=headers)
        self.machine = Machine(self, "machine", told.json["credential"])

    def project(self, **more: Any) -> None:
        document = {"name": "maker", "repository": "dev", "source": {"type": "NO_SOURCE"}, "buildspec": SPEC, **more}
        answer = self.call("PUT", "/build-projects/maker", json={"document": json.dumps(document)})
        assert answer.status_code == 200, answer.text

    def pipeline(self, name: str, more: str = "", gate: str = "") -> Any:
        document = PIPELINE.format(name=name, more=more, gate=gate)
        return self.call("PUT", "/pipelines", json={"document": document})

    def published_by(self, name: str) -> Any:
        """What the build that the pipeline's execution starts may do of publishing, and its log."""
        build_id = action(self.start(name), "Make", "Make")["buildId"]
        return self.given(build_id)

    def given(self, build_id: str) -> tuple[Any, str]:
        build = self.machine.claim()
        assert build is not None
        assert build["id"] == build_id
        assert self.machine.about("finish", body=FAILED).status_code == 204
        return build["publishing"], self.call("GET", f"/builds/{build_id}/log").text


FAILED = {"status": "FAILED", "phases": [{"phaseType": "BUILD", "startTime": "2026-01-01T00:00:00+00:00", "contexts": []}],
          "exportedVariables": {}, "logBytes": 0}  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site") / "data")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def publishing_to_staging(site: Site) -> None:
    site.project(publishRepository="staging")


def test_H8_a_publish_starts_no_build_that_publishes_where_its_publisher_may_not(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert site.pipeline("unnamed").status_code == 200
    given, log = site.published_by("unnamed")
    assert given is None
    assert "Warning: the pipeline's action has no PublishRepository" in log
    # The project's word alone would do.
    monkeypatch.setattr(attempts, "why_not", lambda *_: "")
    given, _ = site.published_by("unnamed")
    assert given["paths"]


def test_H8_what_the_administrator_of_the_pipeline_names_is_published_there_and_only_there(site: Site) -> None:
    assert site.pipeline("named", ", PublishRepository: staging").status_code == 200
    given, log = site.published_by("named")
    assert "/generic/default/staging/" in given["paths"]
    assert "This build may publish to default/staging" in log
    site.project(publishRepository="prod")  # by another administrator, who knows nothing of the pipeline
    refused = action(site.start("named"), "Make", "Make")
    assert refused["status"] == "Failed"
    assert "default/staging is not where build project maker publishes (default/prod)" in refused["summary"]
    # Applying is the server's administrators' business.
    assert site.call("PUT", "/pipelines", as_="publisher", json={"document": "name: x"}).status_code == 403
    assert site.pipeline("named", ", PublishRepository: a/b/c").status_code == 400


def test_H8_an_approval_before_a_build_that_publishes_is_asked_of_approvers_there(site: Site) -> None:
    site.account("staging-only", "read", "approve", repositories=["default/staging"])
    dev_only = site.account("dev-only", "read", "approve", repositories=["default/dev"])
    assert site.pipeline("gated", ", PublishRepository: staging", GATE).status_code == 200
    execution = site.start("gated")
    answer = {"stage": "Gate", "action": "Ask", "verdict": "Approved"}
    path = f"/executions/{execution['id']}/approval"
    refused = site.call("POST", path, token=dev_only, json=answer)
    assert refused.status_code == 403
    assert "staging" in refused.text
    assert site.call("POST", path, token=site.token("staging-only", "read", "approve"), json=answer).status_code == 200
    build_id = action(site.call("GET", f"/executions/{execution['id']}").json, "Make", "Make")["buildId"]
    assert site.given(build_id)[0] is not None


@pytest.mark.parametrize(
    ("before", "batch"),
    [("", False), ("", True), ("open", False), pytest.param("open", True, marks=pytest.mark.long)],
)
def test_H9_a_build_that_waits_when_its_project_begins_to_publish_elsewhere_publishes_nothing(
    site: Site, before: str, batch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.project(**({"publishRepository": before} if before else {}))
    build_id = start(site, batch)
    site.project(publishRepository="staging")  # where who started it may not
    given, log = site.given(build_id)
    assert given is None
    assert f"published to {'default/open' if before else 'nowhere'} when this build was started" in log
    # What the project says now would count.
    monkeypatch.setattr(attempts, "why_not", lambda *_: "")
    site.project(**({"publishRepository": before} if before else {}))
    build_id = start(site, batch)
    site.project(publishRepository="staging")
    assert site.given(build_id)[0] is not None


def start(site: Site, batch: bool, as_: str = "publisher") -> str:
    if not batch:
        answer = site.call("POST", "/build-projects/maker/builds", as_=as_, json={})
        assert answer.status_code == 201, answer.text
        return str(answer.json["id"])
    spec = "version: 0.2\nphases: {build: {commands: ['true']}}\nbatch: {build-list: [{identifier: one}]}"
    answer = site.call("POST", "/build-projects/maker/batches", as_=as_, json={"buildspecOverride": spec})
    assert answer.status_code == 201, answer.text
    return str(answer.json["buildGroups"][0]["currentBuildSummary"]["id"])


def test_H9_repeated_by_somebody_with_the_right_it_publishes_and_by_nobody_else(site: Site) -> None:
    site.project()
    build_id = start(site, batch=False)
    assert site.given(build_id)[0] is None
    site.project(publishRepository="staging")
    assert site.call("POST", f"/builds/{build_id}/retry", as_="publisher").status_code == 403
    again = site.call("POST", f"/builds/{build_id}/retry").json["id"]
    given, _ = site.given(again)
    assert "/generic/default/staging/" in given["paths"]


def test_H9_a_build_that_is_repeated_by_itself_publishes_no_more_than_the_one_before(site: Site) -> None:
    site.project(autoRetryLimit=1)
    build_id = start(site, batch=False)
    site.project(autoRetryLimit=1, publishRepository="staging")
    assert site.given(build_id)[0] is None  # it fails, and is started anew
    build = site.machine.claim()
    assert build is not None
    assert site.call("GET", f"/builds/{build['id']}").json["retryOf"] == build_id
    assert build["publishing"] is None
    assert site.machine.about("finish", body=FAILED).status_code == 204
