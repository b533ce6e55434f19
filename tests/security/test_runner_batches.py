"""H11: what a runner says of a batch is read as a stranger's: the server finds the builds itself, and only at the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hooks.builds import runner_work
from tests.functional.api_world import World
from tests.security.test_runners import Machine, Yard, ending

PHASES = "phases: {build: {commands: ['true']}}"
DOCUMENT = f"version: 0.2\n{PHASES}\nbatch: {{build-list: [{{identifier: one}}, {{identifier: two}}]}}\n"
REFUSED = {
    "it is no document": "version: [",
    "no batch section": f"version: 0.2\n{PHASES}\n",
    "depends on nobody": f"version: 0.2\n{PHASES}\nbatch: {{build-graph: [{{identifier: one, depend-on: [two]}}]}}\n",
    "an environment that projects cannot have": DOCUMENT.replace("one}", "one, env: {type: toaster}}"),
    "more builds than its project allows": DOCUMENT,
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    made = Yard(World(tmp_path_factory.mktemp("yard") / "data"))
    made.project("plain")
    made.project("small", buildBatchConfig={"restrictions": {"maximumBuildsAllowed": 1}})
    yield made
    made.world.close()


@pytest.fixture
def yard(shared: Yard) -> Iterator[Yard]:
    yield shared
    shared.rest()


def begun(yard: Yard, project: str = "plain") -> tuple[Machine, str]:
    """A runner that has the first build of a batch, and the batch."""
    answer = yard.world.call("POST", f"/build-projects/{project}/batches", json={})
    assert answer.status_code == 201, answer.text
    machine = yard.machine()
    build = machine.claim()
    assert build is not None
    assert build["readsBatch"]
    return machine, answer.json["id"]


def shown(yard: Yard, batch: str) -> Any:
    return yard.world.call("GET", f"/build-batches/{batch}").json


def identifiers(yard: Yard, batch: str) -> list[str]:
    return [group["identifier"] for group in shown(yard, batch)["buildGroups"]]


def test_the_builds_of_a_batch_start_when_the_first_has_ended_with_its_document(yard: Yard) -> None:
    machine, batch = begun(yard)
    assert machine.about("batch", body={"document": DOCUMENT}).json == {"faults": []}
    assert identifiers(yard, batch) == ["DOWNLOAD_SOURCE"]  # a question changes nothing
    assert machine.about("finish", body={**ending(), "batchDocument": DOCUMENT}).status_code == 204
    assert identifiers(yard, batch) == ["DOWNLOAD_SOURCE", "one", "two"]
    first, second = machine.claim(), machine.claim(machine.build["leaseId"])
    assert first is not None
    assert second is not None
    assert [first["readsBatch"], second["readsBatch"]] == [False, False]
    assert first["reserved"]["CODEBUILD_BATCH_BUILD_IDENTIFIER"] == "one"


@pytest.mark.parametrize("wrong", REFUSED)
def test_H11_a_batch_that_is_none_starts_nothing(yard: Yard, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, batch = begun(yard, "small" if "allows" in wrong else "plain")
    asked = machine.about("batch", body={"document": REFUSED[wrong]})
    assert asked.status_code == 400 or asked.json["faults"]
    # The runner says that it has succeeded all the same, with this document or with none.
    for lie in ({"batchDocument": REFUSED[wrong]}, {}):
        assert machine.about("finish", body={**ending(), **lie}).status_code == 400
    assert shown(yard, batch)["buildBatchStatus"] == "IN_PROGRESS"
    assert machine.about("finish", body=ending("FAILED")).status_code == 204
    assert identifiers(yard, batch) == ["DOWNLOAD_SOURCE"]
    assert shown(yard, batch)["buildBatchStatus"] == "FAILED"
    if wrong in {"it is no document", "depends on nobody"}:
        return  # there is nothing in it that could be believed
    # Believed, it would.
    machine, batch = begun(yard, "small" if "allows" in wrong else "plain")
    real = runner_work.RunnerWork._reading
    monkeypatch.setattr(runner_work.RunnerWork, "_reading", lambda *given: (real(*given)[0], ()))
    assert machine.about("finish", body={**ending(), "batchDocument": REFUSED[wrong]}).status_code == 204
    assert shown(yard, batch)["buildBatchStatus"] != "FAILED"


def test_H11_no_other_build_brings_a_batch(yard: Yard) -> None:
    machine = yard.machine()
    build = yard.working(machine)
    assert not build["readsBatch"]
    assert machine.about("batch", body={"document": DOCUMENT}).status_code == 400
    assert machine.about("finish", body={**ending(), "batchDocument": DOCUMENT}).status_code == 400
    assert machine.about("finish").status_code == 204
