"""Files of any kind with the real curl: published, listed, fetched, verified, found upstream, taken out for good."""

import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.fakes.upstream import FaultyUpstream
from tests.harness.server import ROOT, Server

BODY = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def upstream() -> Iterator[FaultyUpstream]:
    with FaultyUpstream() as running:
        yield running


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, upstream: FaultyUpstream) -> Iterator["Site"]:
    server = Server(tmp_path_factory.mktemp("generic") / "data", with_worker=False).start()
    yield Site(server, upstream)
    server.kill()


class Site:
    """A server with a repository ``mirror`` whose external connection is the upstream, and curl with a login."""

    def __init__(self, server: Server, upstream: FaultyUpstream) -> None:
        self.server = server
        self.token = server.token("admin", "admin")
        self.reader = server.token("admin", "read")
        self.home = server.data.parent / "home"
        self.home.mkdir()
        made = {"name": "mirror", "externalConnections": {"generic": f"{upstream.url}/files/"}}
        answer = self.ask("POST", f"{server.url}/api/v1/domains/default/repositories", json=made)
        assert answer.status_code == 201, answer.text
        arguments = ["login", "--tool", "curl", "--repository", "dev", "--url", server.url]
        environment = {**server.child_environment(), "HOME": str(self.home), "ENTREPOT_TOKEN": self.token}
        done = _login(arguments, environment)
        assert done.returncode == 0, done.stderr

    def url(self, path: str = "", repository: str = "dev") -> str:
        return f"{self.server.url}/generic/default/{repository}/{path}"

    def ask(self, method: str, url: str, *, token: str | None = "", **options: object) -> requests.Response:
        headers = dict(options.pop("headers", {}))  # type: ignore[call-overload]
        if token is not None:
            headers["Authorization"] = f"Bearer {token or self.token}"
        return requests.request(method, url, headers=headers, timeout=60, **options)  # type: ignore[arg-type]

    def curl(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = ["curl", "--netrc", "-sS", "-f", *arguments]
        return subprocess.run(command, env={"HOME": str(self.home)}, capture_output=True, timeout=60, check=False)

    def refused(self, method: str, path: str, status: int, **options: object) -> str:
        answer = self.ask(method, self.url(path), **options)  # type: ignore[arg-type]
        assert answer.status_code == status, answer.text
        return answer.text


def _login(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "config.cli.main", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_curl_publishes_and_fetches(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "Read me (ü).bin"
    file.write_bytes(BODY)
    done = site.curl("-T", str(file), site.url("tool/2.0/"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sha256"] == hashlib.sha256(BODY).hexdigest()
    listed = json.loads(site.curl(site.url("tool/2.0/")).stdout)
    (asset,) = listed["versions"][0]["assets"]
    assert (asset["path"], asset["sizeBytes"]) == (file.name, len(BODY))
    fetched = site.curl(
        "-O", "-J", "--output-dir", str(tmp_path / "out"), "--create-dirs", site.url(f"tool/{asset['url']}")
    )
    assert fetched.returncode == 0, fetched.stderr
    (kept,) = (tmp_path / "out").iterdir()
    assert kept.read_bytes() == BODY
    assert site.curl("-r", "100-199", site.url(f"tool/{asset['url']}")).stdout == BODY[100:200]
    head = site.ask("HEAD", site.url(f"tool/{asset['url']}"))
    assert head.headers["Content-Length"] == str(len(BODY))
    assert head.headers["X-Checksum-Sha256"] == hashlib.sha256(BODY).hexdigest()
    digest = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
    assert head.headers["Repr-Digest"] == f"sha-256=:{digest}:"
    assert {"name": "tool"} in site.ask("GET", site.url()).json()["packages"]


def test_a_file_never_changes(site: Site) -> None:
    put = {"data": b"one"}
    assert site.ask("PUT", site.url("fixed/1.0/a/b.txt"), **put).json()["isNew"] is True
    assert site.ask("PUT", site.url("fixed/1.0/a/b.txt"), **put).json()["isNew"] is False
    assert "never changes" in site.refused("PUT", "fixed/1.0/a/b.txt", 409, data=b"two")
    site.refused("PUT", "fixed/1.0/a/b.txt", 412, data=b"one", headers={"If-None-Match": "*"})
    assert site.ask("GET", site.url("fixed/1.0/a/b.txt")).content == b"one"
    assert site.ask("DELETE", site.url("fixed/1.0/")).status_code == 204
    site.refused("GET", "fixed/1.0/a/b.txt", 404)
    assert "already been used" in site.refused("PUT", "fixed/1.0/a/b.txt", 400, data=b"two")


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Checksum-Sha256": "0" * 64},
        {"X-Checksum-Md5": "0" * 32},
        {"Content-Digest": "sha-256=:AAAA:"},
        {"Repr-Digest": "sha-256=nonsense"},
    ],
)
def test_a_wrong_digest_keeps_nothing(site: Site, headers: dict[str, str]) -> None:
    site.refused("PUT", "wrong/1.0/file", 400, data=b"bytes", headers=headers)
    site.refused("GET", "wrong/", 404)


@pytest.mark.parametrize(
    "path",
    ["up/1.0/..%2f..%2fx", "up/1.0/a//b", "up/1.0/%5cx", "up/..%2f1/x", "-up/1.0/x", "up/1.0/x%00", "up/1.0/a%3cb"],
)
def test_odd_paths_are_refused(site: Site, path: str) -> None:
    request = requests.Request(
        "PUT", site.url(), data=b"x", headers={"Authorization": f"Bearer {site.token}"}
    ).prepare()
    request.url = site.url(path)
    assert requests.Session().send(request, timeout=30).status_code in {400, 404}
    site.refused("GET", "up/", 404)


def test_a_version_is_seen_when_it_is_whole(site: Site) -> None:
    for part in ("one", "two"):
        assert site.ask("PUT", site.url(f"set/1/{part}?status=unfinished"), data=part).status_code == 201
    for path in ("set/", "set/1/"):
        site.refused("GET", path, 404)
    site.refused("GET", "set/1/one", 404, token=site.reader)
    assert site.ask("GET", site.url("set/1/one")).text == "one"
    assert site.ask("POST", site.url("set/1/?status=published")).json()["isNew"] is True
    assert site.ask("GET", site.url("set/1/one"), token=site.reader).text == "one"
    assert [asset["path"] for asset in site.ask("GET", site.url("set/")).json()["versions"][0]["assets"]] == [
        "one",
        "two",
    ]
    site.refused("POST", "set/1/?status=gone", 400)


def test_rights(site: Site) -> None:
    site.refused("PUT", "mine/1.0/x", 403, data=b"x", token=site.reader)
    site.refused("DELETE", "mine/1.0/", 403, token=site.reader)
    for path in ("", "mine/", "mine/1.0/x"):
        answer = site.ask("GET", site.url(path), token=None)
        assert (answer.status_code, answer.headers["WWW-Authenticate"][:5]) == (401, "Basic")


def test_any_web_server_can_be_an_upstream(site: Site, upstream: FaultyUpstream) -> None:
    upstream.serve("/files/far/1.0/lib/x.so", BODY)
    url = site.url("far/1.0/lib/x.so", "mirror")
    assert site.ask("GET", url).content == BODY
    assert site.ask("GET", url).content == BODY
    assert upstream.count("/files/far/1.0/lib/x.so") == 1
    assert site.ask("GET", site.url("far/1.0/other", "mirror")).status_code == 404
    # A name published here is never taken from outside.
    upstream.serve("/files/ours/9.9/x", b"theirs")
    assert site.ask("PUT", site.url("ours/1.0/x", "mirror"), data=b"ours").status_code == 201
    assert site.ask("GET", site.url("ours/9.9/x", "mirror")).status_code == 404
