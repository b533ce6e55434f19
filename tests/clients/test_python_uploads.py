"""Every tool that uploads, in every spelling of the address, and uploads of unusual size."""

import json
from pathlib import Path

import pytest
import requests

from tests.harness import packages, python_clients
from tests.harness.clients import Clients
from tests.harness.packages import METADATA_25
from tests.harness.python_clients import UPLOADERS
from tests.harness.server import Server

JSON = {"Accept": "application/vnd.pypi.simple.v1+json"}


def listed(server: Server, token: str, name: str) -> dict[str, str]:
    answer = requests.get(f"{server.index()}{name}/", auth=("x", token), headers=JSON, timeout=10)
    answer.raise_for_status()
    return {file["filename"]: file["hashes"]["sha256"] for file in answer.json()["files"]}


@pytest.mark.parametrize("tool", ["twine", "uv", "poetry", "hatch", "flit", "pdm"])
def test_each_tool_uploads_twice_and_what_it_built_is_served(
    shared_server: Server, token: str, home: Clients, tmp_path: Path, tool: str
):
    name = f"by-{tool}"
    project = python_clients.project(tmp_path / "project", name, "1.0", METADATA_25)
    for _ in range(2):  # the same bytes again change nothing, and no tool takes the answer for a failure
        UPLOADERS[tool](home, project, shared_server.index(simple=False), token).ok()
    files = {path.name: packages.sha256(path.read_bytes()) for path in (project / "dist").iterdir()}
    assert listed(shared_server, token, name) == files


@pytest.mark.parametrize(
    ("tool", "path"),
    [("twine", "legacy"), ("twine", "simple/"), ("hatch", "legacy/"), ("hatch", "simple/"), ("uv", "simple")],
)
def test_every_spelling_of_the_address_takes_uploads(
    shared_server: Server, token: str, home: Clients, tmp_path: Path, tool: str, path: str
):
    """hatch looks for ``+simple/`` beside each of them, because it takes the server for another product's."""
    name = f"at-{tool}-{path.replace('/', '-x')}z"
    project = python_clients.project(tmp_path / "project", name, "1.0", METADATA_25)
    UPLOADERS[tool](home, project, shared_server.index(simple=False) + path, token).ok()
    assert set(listed(shared_server, token, name)) == {path.name for path in (project / "dist").iterdir()}


@pytest.mark.parametrize("path", ["", "legacy/", "simple/"])
def test_hatch_sees_what_is_there_already(shared_server: Server, token: str, path: str):
    name = f"looked-at-{path.strip('/')}z"
    filename, body = packages.wheel(name, "1.0")
    python_clients.post(shared_server, token, filename, body, name, "1.0").raise_for_status()
    for plus in ("+simple", "%2Bsimple"):
        answer = requests.get(f"{shared_server.index(simple=False)}{path}{plus}/{name}/", auth=("x", token), timeout=10)
        assert answer.status_code == 200
        assert filename in answer.text


@pytest.mark.parametrize("spelling", ["import_name", "import_names"])
def test_import_names_are_taken_in_both_spellings_and_shown(shared_server: Server, token: str, spelling: str):
    name = f"spelt-{spelling.replace('_', '-')}"
    module = name.replace("-", "_")
    filename, body = packages.wheel(name, "1.0", metadata_version="2.5", fields=(f"Import-Name: {module}",))
    python_clients.post(shared_server, token, filename, body, name, "1.0", {spelling: module}).raise_for_status()
    assert kept_metadata(shared_server, token, name)["import_names"] == [module]


@pytest.mark.parametrize("version", ["2.6", "2.17"])
def test_a_minor_version_of_tomorrow_is_taken_with_a_word_about_it(shared_server: Server, token: str, version: str):
    name = f"tomorrow-{version.replace('.', '-')}"
    filename, body = packages.wheel(name, "1.0", metadata_version=version, fields=("Colour: green",))
    answer = python_clients.post(shared_server, token, filename, body, name, "1.0", {"metadata_version": version})
    assert answer.status_code == 200
    assert f"Metadata-Version {version} is newer" in answer.text
    # Known versions are not remarked upon.
    filename, body = packages.wheel(name, "1.1", metadata_version="2.5")
    answer = python_clients.post(shared_server, token, filename, body, name, "1.1")
    assert "newer" not in answer.text


@pytest.mark.parametrize("kib", [600, 2048])
def test_huge_readmes_arrive_through_twine_and_uv(
    shared_server: Server, token: str, home: Clients, tmp_path: Path, kib: int
):
    readme = "# Long\n\n" + "All work and no play makes a dull README.\n" * (kib * 1024 // 42)
    for tool in ("twine", "uv"):
        name = f"wordy-{tool}-{kib}"
        wheel = packages.wheel(name, "1.0", description=readme)
        (path,) = packages.save(tmp_path / tool / "dist", wheel)
        upload = home.twine if tool == "twine" else home.uv_publish
        upload(shared_server.index(simple=False), token, path).ok()
        document = requests.get(
            f"{shared_server.index(simple=False)}files/{name}/{wheel[0]}.metadata", auth=("x", token), timeout=30
        )
        assert document.text.endswith(f"{readme}\n")


def test_eleven_hundred_classifiers_arrive(shared_server: Server, token: str, home: Clients, tmp_path: Path):
    classifiers = tuple(f"Classifier: Topic :: Number {number}" for number in range(1100))
    wheel = packages.wheel("classy", "1.0", fields=classifiers)
    home.twine(shared_server.index(simple=False), token, *packages.save(tmp_path, wheel)).ok()
    assert len(kept_metadata(shared_server, token, "classy")["classifiers"]) == 1100


def kept_metadata(server: Server, token: str, name: str) -> dict[str, object]:
    answer = requests.get(
        f"{server.url}/api/v1/domains/default/repositories/dev/packages/pypi/{name}/versions/1.0",
        auth=("x", token),
        timeout=10,
    )
    return json.loads(answer.text)["metadata"]
