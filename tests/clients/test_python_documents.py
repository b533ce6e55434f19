"""Documents beside the index: provenance (PEP 740), the metadata of kept wheels, the JSON description of a project."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.fakes.upstream import FaultyUpstream
from tests.harness import attest, packages, python_clients
from tests.harness.clients import Clients
from tests.harness.server import Server

JSON = {"Accept": "application/vnd.pypi.simple.v1+json"}
INTEGRITY = "application/vnd.pypi.integrity.v1+json"


@pytest.fixture(scope="module")
def token(proxy: Server) -> str:
    return proxy.token("admin")


def get(server: Server, token: str, path: str, repository: str = "dev", **headers: str) -> requests.Response:
    return requests.get(server.index(repository, simple=False) + path, auth=("x", token), headers=headers, timeout=30)


def listed(server: Server, token: str, name: str, repository: str = "dev") -> dict[str, Any]:
    answer = get(server, token, f"simple/{name}/", repository, **JSON)
    answer.raise_for_status()
    return {file["filename"]: file for file in answer.json()["files"]}


# --- provenance ------------------------------------------------------------------------------------------------------


def test_uv_uploads_attestations_and_they_are_served_here_and_where_the_file_is_promoted_to(
    proxy: Server, token: str, home: Clients, tmp_path: Path
):
    filename, body = packages.wheel("vouched", "1.0")
    (path,) = packages.save(tmp_path, (filename, body))
    sent = attest.attestation(attest.statement(filename, body))
    beside = path.with_name(f"{filename}.publish.attestation")
    beside.write_text(json.dumps(sent))
    home.uv_publish(proxy.index(simple=False), token, path, beside).ok()
    there = {"ENTREPOT_URL": proxy.url, "ENTREPOT_TOKEN": token}
    done = proxy.command("package", "promote", "dev", "vouched", "1.0", "--to", "staging", environment=there)
    assert done.returncode == 0, done.stderr
    for repository in ("dev", "staging"):
        url = listed(proxy, token, "vouched", repository)[filename]["provenance"]
        assert url == f"{proxy.index(repository, simple=False)}integrity/vouched/1.0/{filename}/provenance"
        assert f'data-provenance="{url}"' in get(proxy, token, "simple/vouched/", repository).text
        answer = requests.get(url, auth=("x", token), timeout=10)
        assert answer.headers["Content-Type"] == INTEGRITY
        (bundle,) = answer.json()["attestation_bundles"]
        assert bundle == {"publisher": {"kind": "Entrepot", "claims": {"account": "admin"}}, "attestations": [sent]}
    stored = b"".join(file.read_bytes() for file in (proxy.data / "blobs").rglob("*") if file.is_file())
    assert sent["envelope"]["signature"].encode() not in stored  # encrypted like everything


def test_the_link_is_under_the_address_the_page_was_asked_at_and_of_nobody_elses(proxy: Server, token: str):
    filename, body = packages.wheel("addressed", "1.0")
    said = json.dumps([attest.attestation(attest.statement(filename, body))])
    python_clients.post(proxy, token, filename, body, "addressed", "1.0", {"attestations": said}).raise_for_status()
    for host in ("one.example", "two.example", "one.example"):
        page = get(proxy, token, "simple/addressed/", Host=host, **JSON).json()
        assert page["files"][0]["provenance"].startswith(f"http://{host}/pypi/default/dev/integrity/")


def test_an_attestation_of_another_file_is_refused_and_nothing_is_kept(proxy: Server, token: str):
    filename, body = packages.wheel("borrowed", "1.0")
    other = attest.attestation(attest.statement(filename, b"other bytes"))
    answer = python_clients.post(proxy, token, filename, body, "borrowed", "1.0", {"attestations": json.dumps([other])})
    assert (answer.status_code, "digest" in answer.text) == (400, True)
    assert get(proxy, token, "simple/borrowed/").status_code == 404


def test_an_upstreams_provenance_is_fetched_once_and_served_under_our_own_address(
    proxy: Server, token: str, upstream: FaultyUpstream
):
    filename, body = packages.wheel("vouched-afar", "1.0")
    document = attest.provenance(filename, body)
    upstream.add_project("vouched-afar", {filename: body}, provenance={filename: document})
    url = listed(proxy, token, "vouched-afar")[filename]["provenance"]
    assert url.startswith(proxy.url)
    get(proxy, token, f"files/vouched-afar/{filename}").raise_for_status()  # kept or not, the document is the same
    for _ in range(2):
        answer = requests.get(url, auth=("x", token), timeout=10)
        assert (answer.status_code, answer.content, answer.headers["Content-Type"]) == (200, document, INTEGRITY)
    assert upstream.count(f"/integrity/vouched-afar/{filename}/provenance") == 1


def test_an_upstreams_provenance_of_another_file_is_not_passed_on(proxy: Server, token: str, upstream: FaultyUpstream):
    filename, body = packages.wheel("misvouched", "1.0")
    upstream.add_project("misvouched", {filename: body}, provenance={filename: attest.provenance(filename, b"x")})
    url = listed(proxy, token, "misvouched")[filename]["provenance"]
    assert requests.get(url, auth=("x", token), timeout=10).status_code == 502


def test_what_has_no_provenance_says_so(proxy: Server, token: str):
    filename, body = packages.wheel("plain", "1.0")
    python_clients.post(proxy, token, filename, body, "plain", "1.0").raise_for_status()
    assert listed(proxy, token, "plain")[filename]["provenance"] is None
    for path in (f"plain/1.0/{filename}", f"plain/2.0/{filename}", "plain/1.0/absent.whl", "absent/1.0/absent.whl"):
        assert get(proxy, token, f"integrity/{path}/provenance").status_code == 404


# --- metadata --------------------------------------------------------------------------------------------------------


def test_the_metadata_of_a_kept_wheel_is_there_while_the_upstream_is_not(
    proxy: Server, token: str, upstream: FaultyUpstream
):
    filename, body = packages.wheel("lasting", "1.0")
    document = packages.metadata("lasting", "1.0").encode()
    upstream.add_project("lasting", {filename: body}, metadata={filename: document})
    # Without a look at the page, which would have the document read ahead.
    get(proxy, token, f"files/lasting/{filename}").raise_for_status()
    upstream.refuse()
    try:
        answer = get(proxy, token, f"files/lasting/{filename}.metadata")
    finally:
        upstream.accept()
    assert (answer.status_code, answer.content) == (200, document)
    assert upstream.count(f"/files/lasting/{filename}.metadata") == 0


# --- the JSON description --------------------------------------------------------------------------------------------

FIELDS = (
    "License-Expression: MIT",
    "Author-Email: A <a@example.org>",
    "Classifier: Typing :: Typed",
    "Project-URL: Source, https://code.example/described",
    "Keywords: one,two",
)


@pytest.fixture(scope="module")
def described(proxy: Server, token: str) -> str:
    for version in ("1.0", "1.5", "2.0rc1"):
        wheel = packages.wheel("Described", version, requires=("plain>=1",), fields=FIELDS)
        for filename, body in (wheel, packages.sdist("described", version)):
            python_clients.post(proxy, token, filename, body, "Described", version).raise_for_status()
    return "described"


def test_a_project_is_described_by_its_latest_release(proxy: Server, token: str, described: str):
    document = get(proxy, token, f"{described}/json").json()
    info = document["info"]
    assert (info["name"], info["version"], info["summary"]) == ("described", "1.5", "The Described package")
    assert info["description"] == "# Described\n\nA package for tests.\n"
    assert info["description_content_type"] == "text/markdown"
    assert info["requires_dist"] == ["plain>=1"]
    assert (info["requires_python"], info["license_expression"], info["keywords"]) == (">=3.8", "MIT", "one,two")
    assert info["classifiers"] == ["Typing :: Typed"]
    assert info["project_urls"] == {"Source": "https://code.example/described"}
    assert (info["yanked"], info["yanked_reason"], info["downloads"]["last_day"]) == (False, None, -1)
    assert list(document["releases"]) == ["1.0", "1.5", "2.0rc1"]
    assert [file["packagetype"] for file in document["urls"]] == ["bdist_wheel", "sdist"]
    for file in document["urls"]:
        assert set(file["digests"]) == {"sha256", "md5", "blake2b_256"}
        assert file["md5_digest"] == file["digests"]["md5"]
        body = requests.get(file["url"], auth=("x", token), timeout=10).content
        assert (packages.sha256(body), len(body)) == (file["digests"]["sha256"], file["size"])
        moment = datetime.fromisoformat(file["upload_time_iso_8601"])
        assert abs((datetime.now(UTC) - moment).total_seconds()) < 3600
    assert document["vulnerabilities"] == []
    assert isinstance(document["last_serial"], int)


def test_every_address_of_the_description_answers(proxy: Server, token: str, described: str):
    whole = get(proxy, token, f"{described}/json").json()
    for path in (f"{described}/json/", f"pypi/{described}/json", f"pypi/{described}/json/", "Described/json"):
        assert get(proxy, token, path).json() == whole, path
    release = get(proxy, token, f"{described}/1.0/json").json()
    assert "releases" not in release
    assert (release["info"]["version"], len(release["urls"])) == ("1.0", 2)
    for path in (f"{described}/1.0/json/", f"{described}/1.0.0/json", f"pypi/{described}/1.0/json"):
        assert get(proxy, token, path).json() == release, path
    for path in (f"{described}/9.0/json", "no-such-thing/json", f"{described}/not-a-version/json"):
        assert get(proxy, token, path).status_code == 404, path
    again = get(
        proxy, token, f"{described}/json", **{"If-None-Match": get(proxy, token, f"{described}/json").headers["ETag"]}
    )
    assert again.status_code == 304


def test_a_yank_changes_the_description_at_once(proxy: Server, token: str):
    for version in ("1.0", "1.1"):
        filename, body = packages.wheel("wavering", version)
        python_clients.post(proxy, token, filename, body, "wavering", version).raise_for_status()
    assert get(proxy, token, "wavering/json").json()["info"]["version"] == "1.1"
    there = {"ENTREPOT_URL": proxy.url, "ENTREPOT_TOKEN": token}
    done = proxy.command("package", "yank", "dev", "wavering", "1.1", "--reason", "odd", environment=there)
    assert done.returncode == 0, done.stderr
    assert get(proxy, token, "wavering/json").json()["info"]["version"] == "1.0"
    info = get(proxy, token, "wavering/1.1/json").json()["info"]
    assert (info["yanked"], info["yanked_reason"]) == (True, "odd")


@pytest.mark.parametrize("kept", [False, True])
def test_an_upstreams_package_is_described_out_of_its_wheels_metadata(
    proxy: Server, token: str, upstream: FaultyUpstream, kept: bool
):
    name = f"far-off-{'kept' if kept else 'listed'}"
    filename, body = packages.wheel(name, "3.0", requires=("away",), fields=FIELDS)
    document = packages.metadata(name, "3.0", requires=("away",), fields=FIELDS).encode()
    upstream.add_project(name, {filename: body}, metadata={} if kept else {filename: document})
    if kept:  # the index of this one offers no metadata: it is read out of the wheel
        get(proxy, token, f"files/{name}/{filename}").raise_for_status()
    info = get(proxy, token, f"{name}/json").json()["info"]
    assert (info["version"], info["requires_dist"], info["license_expression"]) == ("3.0", ["away"], "MIT")


def test_an_upstreams_archive_that_says_nothing_is_described_by_its_page(
    proxy: Server, token: str, upstream: FaultyUpstream
):
    upstream.add_project("bare", dict([packages.sdist("bare", "1.0")]))
    document = get(proxy, token, "bare/json").json()
    assert (document["info"]["version"], document["info"]["summary"]) == ("1.0", "")
    assert document["urls"][0]["packagetype"] == "sdist"
