"""Installing through an external connection: kept, verified, stale when the upstream is away, never confused."""

from pathlib import Path

import pytest
import requests

from tests.fakes.upstream import FaultyUpstream
from tests.harness import packages
from tests.harness.clients import Clients
from tests.harness.server import Server

JSON = {"Accept": "application/vnd.pypi.simple.v1+json"}


@pytest.fixture
def clients(tmp_path: Path) -> Clients:
    return Clients(tmp_path / "home")


@pytest.fixture
def upstream():
    with FaultyUpstream() as running:
        yield running


@pytest.fixture
def proxying(tmp_path: Path, upstream: FaultyUpstream):
    """A server whose external connection is the fake upstream."""
    server = Server(
        tmp_path / "data",
        with_worker=False,
        environment={"ENTREPOT_UPSTREAM_URLS": f"pypi={upstream.url}/simple/"},
    ).start()
    yield server
    server.kill()


def offer(upstream: FaultyUpstream, *distributions: tuple[str, bytes], **options: object) -> None:
    by_name: dict[str, dict[str, bytes]] = {}
    for filename, body in distributions:
        by_name.setdefault(filename.split("-")[0].replace("_", "-"), {})[filename] = body
    for name, files in by_name.items():
        upstream.add_project(name, files, **options)  # type: ignore[arg-type]


def test_pip_installs_through_and_again_without_the_upstream(
    proxying: Server, upstream: FaultyUpstream, clients: Clients
):
    offer(upstream, packages.wheel("far", "1.0", requires=("away",)), packages.wheel("away", "2.0"))
    token = proxying.token("admin", "read")
    clients.pip_install(clients.venv("one"), proxying.index(token=token), "far").ok()
    upstream.refuse()
    clients.pip_install(clients.venv("two"), proxying.index(token=token), "far").ok()
    # What was never asked for is unavailable, not missing: pip must not take an outage for an absence.
    answer = requests.get(f"{proxying.index()}elsewhere/", auth=("x", token), headers=JSON, timeout=60)
    assert answer.status_code == 502
    assert "Retry-After" in answer.headers


def test_a_server_that_the_machines_pip_points_at_is_not_its_own_upstream(tmp_path: Path, upstream: FaultyUpstream):
    offer(upstream, packages.wheel("far", "1.0"))
    settings = tmp_path / "pip.conf"
    settings.write_text(f"[global]\nindex-url = {upstream.url}/simple/\n")
    environment = {"PIP_CONFIG_FILE": str(settings)}
    server = Server(tmp_path / "data", with_worker=False, environment=environment)
    # What "entrepot login --tool pip" writes on the account that serves; the environment is stronger than the file.
    environment["PIP_INDEX_URL"] = f"http://localhost:{server.port}/pypi/default/dev/simple/"
    server.start()
    try:
        asked = {"auth": ("x", server.token("admin", "read")), "headers": JSON, "timeout": 60}
        page = requests.get(f"{server.index()}far/", **asked)
        assert page.status_code == 200, page.text
        assert [file["filename"] for file in page.json()["files"]] == ["far-1.0-py3-none-any.whl"]
        assert requests.get(f"{server.index()}nowhere/", **asked).status_code == 404
    finally:
        server.kill()


def test_files_are_kept_in_the_repository_asked_and_in_the_connected_one(
    proxying: Server, upstream: FaultyUpstream, clients: Clients
):
    filename, body = packages.wheel("kept", "1.0")
    offer(upstream, (filename, body))
    token = proxying.token("admin", "read")
    clients.pip_install(clients.venv(), proxying.index(token=token), "kept").ok()
    upstream.refuse()
    for repository in ("dev", "public"):
        answer = requests.get(
            f"{proxying.url}/pypi/default/{repository}/files/kept/{filename}", auth=("x", token), timeout=30
        )
        assert answer.content == body
    assert requests.get(f"{proxying.index('prod')}kept/", auth=("x", token), timeout=30).status_code == 404


def test_a_name_published_here_is_never_taken_from_outside(
    proxying: Server, upstream: FaultyUpstream, clients: Clients, tmp_path: Path
):
    offer(upstream, packages.wheel("corp-lib", "99.0"))
    token = proxying.token("admin", "read", "publish")
    clients.twine(proxying.index(simple=False), token, *packages.save(tmp_path, packages.wheel("corp-lib", "1.0"))).ok()
    page = requests.get(f"{proxying.index()}corp-lib/", auth=("x", token), headers=JSON, timeout=30).json()
    assert page["versions"] == ["1.0"]
    outside = requests.get(
        f"{proxying.url}/pypi/default/dev/files/corp-lib/{packages.wheel('corp-lib', '99.0')[0]}",
        auth=("x", token),
        timeout=30,
    )
    assert outside.status_code == 404
    # Control: where the name is not published (another repository), the outside is offered.
    control = requests.get(f"{proxying.index('public')}corp-lib/", auth=("x", token), headers=JSON, timeout=30).json()
    assert control["versions"] == ["99.0"]


def test_a_name_that_came_from_outside_cannot_be_published(
    proxying: Server, upstream: FaultyUpstream, clients: Clients, tmp_path: Path
):
    offer(upstream, packages.wheel("theirs", "1.0"))
    token = proxying.token("admin", "read", "publish")
    clients.pip_install(clients.venv(), proxying.index(token=token), "theirs").ok()
    refused = clients.twine(
        proxying.index(simple=False), token, *packages.save(tmp_path, packages.wheel("theirs", "2.0"))
    )
    assert refused.returncode != 0
    assert "403" in refused.output


def test_a_file_with_another_digest_never_reaches_a_client(
    proxying: Server, upstream: FaultyUpstream, clients: Clients
):
    filename, body = packages.wheel("altered", "1.0", files={"altered/big.bin": bytes(300_000)})
    upstream.add_project("altered", {filename: body}, wrong_digests=frozenset({filename}))
    token = proxying.token("admin", "read")
    url = f"{proxying.url}/pypi/default/dev/files/altered/{filename}"
    with pytest.raises(requests.RequestException):
        requests.get(url, auth=("x", token), timeout=30).raise_for_status()
    assert clients.pip_install(clients.venv(), proxying.index(token=token), "altered").returncode != 0
    assert proxying.fsck() == ""


def test_an_unknown_name_is_404_and_asked_upstream_once_a_minute(proxying: Server, upstream: FaultyUpstream):
    token = proxying.token("admin", "read")
    for _ in range(3):
        answer = requests.get(f"{proxying.index()}no-such-name/", auth=("x", token), headers=JSON, timeout=30)
        assert answer.status_code == 404
    assert len([entry for entry in upstream.requests if "no-such-name" in entry.path]) == 1


def test_html_only_upstreams_work(proxying: Server, upstream: FaultyUpstream, clients: Clients):
    offer(upstream, packages.wheel("htmlish", "1.0"), json=False)
    token = proxying.token("admin", "read")
    clients.pip_install(clients.venv(), proxying.index(token=token), "htmlish").ok()
    clients.uv_install(clients.venv("uv"), proxying.index(token=token), "htmlish").ok()


def test_a_range_of_a_cold_file_is_right(proxying: Server, upstream: FaultyUpstream):
    filename, body = packages.wheel("ranged", "1.0", files={"ranged/data.bin": bytes(range(256)) * 1000})
    offer(upstream, (filename, body))
    token = proxying.token("admin", "read")
    url = f"{proxying.url}/pypi/default/dev/files/ranged/{filename}"
    answer = requests.get(url, auth=("x", token), headers={"Range": "bytes=-100"}, timeout=30)
    assert answer.status_code == 206
    assert answer.content == body[-100:]


def test_many_clients_of_one_cold_file_cause_one_upstream_request(proxying: Server, upstream: FaultyUpstream):
    from concurrent.futures import ThreadPoolExecutor

    filename, body = packages.wheel("crowded", "1.0", files={"crowded/data.bin": bytes(2_000_000)})
    offer(upstream, (filename, body))
    token = proxying.token("admin", "read")
    url = f"{proxying.url}/pypi/default/dev/files/crowded/{filename}"

    def get(_: int) -> bytes:
        answer = requests.get(url, auth=("x", token), timeout=60)
        answer.raise_for_status()
        return answer.content

    with ThreadPoolExecutor(24) as pool:
        bodies = list(pool.map(get, range(24)))
    assert all(one == body for one in bodies)
    assert len([entry for entry in upstream.requests if entry.path.endswith(filename)]) == 1
