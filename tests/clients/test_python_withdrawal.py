"""Versions and packages that are taken back: yanked, deleted, closed, and what the clients make of it."""

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path

import pytest
import requests

from tests.fakes.upstream import FaultyUpstream
from tests.harness import packages, python_clients
from tests.harness.clients import Clients
from tests.harness.server import Server

JSON = {"Accept": "application/vnd.pypi.simple.v1+json"}


@pytest.fixture(scope="module")
def token(proxy: Server) -> str:
    return proxy.token("admin")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One environment for all tests of the file; each installs packages of its own."""
    return Clients(tmp_path_factory.mktemp("python")).venv()


def upload(server: Server, token: str, name: str, *versions: str) -> None:
    for version in versions:
        filename, body = packages.wheel(name, version)
        python_clients.post(server, token, filename, body, name, version).raise_for_status()


def command(server: Server, token: str, *words: str, status: int = 0, stdin: str = "") -> str:
    there = {"ENTREPOT_URL": server.url, "ENTREPOT_TOKEN": token}
    done = server.command("package", *words, environment=there, input=stdin)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def page(server: Server, token: str, name: str) -> requests.Response:
    return requests.get(f"{server.index()}{name}/", auth=("x", token), headers=JSON, timeout=10)


def installed(home: Clients, python: Path) -> Mapping[str, str]:
    listed = json.loads(home.run(str(python), "-m", "pip", "list", "--format", "json").ok().output)
    return {entry["name"]: entry["version"] for entry in listed}


def test_pip_skips_a_yanked_version_unless_it_is_pinned_and_says_why(
    proxy: Server, token: str, home: Clients, python: Path
):
    upload(proxy, token, "fruit", "1.0", "1.1")
    command(proxy, token, "yank", "dev", "fruit", "1.1", "--reason", "tastes odd")
    index = proxy.index(token=token)
    home.pip_install(python, index, "fruit").ok()
    assert installed(home, python)["fruit"] == "1.0"
    pinned = home.pip_install(python, index, "fruit==1.1").ok()
    assert "tastes odd" in pinned.output
    assert installed(home, python)["fruit"] == "1.1"
    command(proxy, token, "unyank", "dev", "fruit", "1.1")
    home.run(str(python), "-m", "pip", "uninstall", "-y", "fruit").ok()
    assert "tastes odd" not in home.pip_install(python, index, "fruit").ok().output
    assert installed(home, python)["fruit"] == "1.1"


def test_uv_skips_a_yanked_version_and_warns_where_it_is_pinned(proxy: Server, token: str, home: Clients, python: Path):
    upload(proxy, token, "herb", "1.0", "1.1")
    command(proxy, token, "yank", "dev", "herb", "1.1", "--reason", "wilted")
    index = proxy.index(token=token)
    home.uv_install(python, index, "herb").ok()
    assert installed(home, python)["herb"] == "1.0"
    assert "wilted" in home.uv_install(python, index, "herb==1.1").ok().output


def test_a_deleted_version_is_gone_and_its_file_name_used_up(
    proxy: Server, token: str, home: Clients, python: Path, tmp_path: Path
):
    upload(proxy, token, "regretted", "1.0", "1.1")
    said = command(proxy, token, "delete", "dev", "regretted", "1.1", stdin="n\n", status=1)
    assert "regretted-1.1-py3-none-any.whl" in said  # what would be lost is named in the question
    assert "1.1" in page(proxy, token, "regretted").json()["versions"]
    command(proxy, token, "delete", "dev", "regretted", "1.1", "--yes")
    assert page(proxy, token, "regretted").json()["versions"] == ["1.0"]
    assert home.pip_install(python, proxy.index(token=token), "regretted==1.1").returncode != 0
    other = packages.wheel("regretted", "1.1", files={"regretted/new.py": b"x = 1\n"})
    refused = home.twine(proxy.index(simple=False), token, *packages.save(tmp_path, other))
    assert refused.returncode != 0
    assert "This filename has already been used, use a different version" in refused.output
    # The same content may come back: a deletion by mistake can be undone, and locks that name the digest hold again.
    upload(proxy, token, "regretted", "1.1")
    assert page(proxy, token, "regretted").json()["versions"] == ["1.0", "1.1"]


def test_the_last_version_deleted_leaves_a_name_that_stays_ours(proxy: Server, token: str, upstream: FaultyUpstream):
    upstream.add_project("lonely", dict([packages.wheel("lonely", "99.0")]))
    upload(proxy, token, "lonely", "1.0")
    command(proxy, token, "delete", "dev", "lonely", "1.0", "--yes")
    assert page(proxy, token, "lonely").status_code == 404
    upload(proxy, token, "lonely", "1.1")
    assert page(proxy, token, "lonely").json()["versions"] == ["1.1"]


# --- what state a package is in (PEP 792) ----------------------------------------------------------------------------


def html(server: Server, token: str, name: str) -> str:
    return requests.get(f"{server.index()}{name}/", auth=("x", token), timeout=10).text


@pytest.mark.parametrize("status", ["archived", "deprecated"])
def test_a_status_is_told_in_both_representations_and_files_stay(
    proxy: Server, token: str, home: Clients, tmp_path: Path, status: str
):
    name = f"old-{status}"
    upload(proxy, token, name, "1.0")
    assert page(proxy, token, name).json()["project-status"] == {"status": "active"}
    command(proxy, token, "status", "dev", name, status, "--reason", 'see <new> & "better"')
    told = page(proxy, token, name).json()
    assert told["project-status"] == {"status": status, "reason": 'see <new> & "better"'}
    assert len(told["files"]) == 1
    text = html(proxy, token, name)
    assert f'<meta name="pypi:project-status" content="{status}">' in text
    assert 'content="see &lt;new&gt; &amp; &quot;better&quot;"' in text
    refused = home.twine(proxy.index(simple=False), token, *packages.save(tmp_path, packages.wheel(name, "2.0")))
    if status == "deprecated":
        refused.ok()
    else:
        assert refused.returncode != 0
        assert "403" in refused.output
        assert f"{name} is archived in default/dev" in refused.output
        command(proxy, token, "status", "dev", name, "active")
        upload(proxy, token, name, "2.0")


def test_a_quarantined_package_lists_and_serves_nothing_and_takes_nothing(
    proxy: Server, token: str, home: Clients, python: Path, tmp_path: Path
):
    upload(proxy, token, "suspect", "1.0")
    filename, _ = packages.wheel("suspect", "1.0")
    url = f"{proxy.index(simple=False)}files/suspect/{filename}"
    assert requests.get(url, auth=("x", token), timeout=10).status_code == 200
    command(proxy, token, "status", "dev", "suspect", "quarantined", "--reason", "reported")
    told = page(proxy, token, "suspect").json()
    assert (told["files"], told["project-status"]) == ([], {"status": "quarantined", "reason": "reported"})
    assert "<a " not in html(proxy, token, "suspect")
    for path in ("", ".metadata"):
        refused = requests.get(url + path, auth=("x", token), timeout=10)
        assert (refused.status_code, "quarantined" in refused.text) == (403, True)
    assert home.pip_install(python, proxy.index(token=token), "suspect").returncode != 0
    refused_upload = home.uv_publish(
        proxy.index(simple=False), token, *packages.save(tmp_path, packages.wheel("suspect", "2.0"))
    )
    assert refused_upload.returncode != 0
    assert "suspect is quarantined" in refused_upload.output
    command(proxy, token, "status", "dev", "suspect", "active")
    home.pip_install(python, proxy.index(token=token), "suspect").ok()


def test_an_upstreams_status_is_passed_on_and_a_quarantine_here_comes_before_it(
    proxy: Server, token: str, upstream: FaultyUpstream, home: Clients, python: Path
):
    wheel = packages.wheel("distant", "1.0")
    upstream.add_project("distant", dict([wheel]), status=("deprecated", "use near"))
    assert page(proxy, token, "distant").json()["project-status"] == {"status": "deprecated", "reason": "use near"}
    home.pip_install(python, proxy.index(token=token), "distant").ok()
    command(proxy, token, "status", "public", "distant", "quarantined")  # counts for those who look through it
    told = page(proxy, token, "distant").json()
    assert (told["files"], told["project-status"]) == ([], {"status": "quarantined"})
    kept = requests.get(f"{proxy.index(simple=False)}files/distant/{wheel[0]}", auth=("x", token), timeout=10)
    assert kept.status_code == 403


def test_what_is_quarantined_upstream_is_not_listed_here_though_it_is_kept(
    proxy: Server, token: str, upstream: FaultyUpstream
):
    wheel = packages.wheel("rotten", "1.0")
    upstream.add_project("rotten", dict([wheel]))
    url = f"{proxy.index(simple=False)}files/rotten/{wheel[0]}"
    assert requests.get(url, auth=("x", token), timeout=10).content == wheel[1]
    upstream.add_project("rotten", dict([wheel]), status=("quarantined", "reported"))
    with sqlite3.connect(proxy.data / "entrepot.db", timeout=30) as database:  # as if the page's time were over
        database.execute("DELETE FROM upstream_page WHERE path = 'rotten/'")
    told = page(proxy, token, "rotten").json()
    assert (told["files"], told["project-status"]) == ([], {"status": "quarantined", "reason": "reported"})
