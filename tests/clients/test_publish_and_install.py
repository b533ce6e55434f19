"""twine and uv publish; pip and uv install: real clients against a real server."""

import hashlib
from pathlib import Path

import pytest
import requests

from tests.harness import packages
from tests.harness.clients import Clients
from tests.harness.server import Server


@pytest.fixture
def clients(tmp_path: Path) -> Clients:
    return Clients(tmp_path / "home")


def published(server: Server, token: str, repository: str, name: str) -> dict[str, str]:
    answer = requests.get(
        f"{server.index(repository)}{name}/",
        auth=("x", token),
        headers={"Accept": "application/vnd.pypi.simple.v1+json"},
        timeout=10,
    )
    answer.raise_for_status()
    return {file["filename"]: file["hashes"]["sha256"] for file in answer.json()["files"]}


def test_twine_publishes_and_pip_installs_the_same_bytes(registry_server: Server, clients: Clients, tmp_path: Path):
    token = registry_server.token("admin", "read", "publish")
    files = [packages.wheel("Demo-Pkg", "1.0"), packages.sdist("demo-pkg", "1.0")]
    paths = packages.save(tmp_path / "dist", *files)
    clients.twine(registry_server.index(simple=False), token, *paths).ok()

    listed = published(registry_server, token, "dev", "demo-pkg")
    assert listed == {name: hashlib.sha256(body).hexdigest() for name, body in files}

    python = clients.venv()
    clients.pip_install(python, registry_server.index(token=token), "demo-pkg").ok()
    assert clients.run(str(python), "-c", "import demo_pkg; print(demo_pkg.__version__)").ok().output == "1.0\n"


def test_pip_checks_hashes_of_a_requirements_file(registry_server: Server, clients: Clients, tmp_path: Path):
    token = registry_server.token("admin", "read", "publish")
    filename, body = packages.wheel("hashed", "2.0")
    clients.twine(registry_server.index(simple=False), token, *packages.save(tmp_path, (filename, body))).ok()
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"hashed==2.0 --hash=sha256:{packages.sha256(body)}\n")
    python = clients.venv()
    clients.pip_install(python, registry_server.index(token=token), "--require-hashes", "-r", str(requirements)).ok()


def test_uv_publishes_and_installs(registry_server: Server, clients: Clients, tmp_path: Path):
    token = registry_server.token("admin", "read", "publish")
    paths = packages.save(
        tmp_path / "dist",
        packages.wheel("base-lib", "1.0"),
        packages.wheel("top-app", "0.1", requires=("base-lib>=1",)),
    )
    clients.uv_publish(registry_server.index(simple=False), token, *paths).ok()
    python = clients.venv()
    clients.uv_install(python, registry_server.index(token=token), "top-app").ok()
    assert "base-lib" in clients.run(str(python), "-m", "pip", "list").ok().output


def test_publishing_again_is_harmless_with_the_same_bytes_and_refused_with_others(
    registry_server: Server, clients: Clients, tmp_path: Path
):
    token = registry_server.token("admin", "read", "publish")
    url = registry_server.index(simple=False)
    first = packages.save(tmp_path / "one", packages.wheel("twice", "1.0"))
    clients.twine(url, token, *first).ok()
    clients.twine(url, token, *first).ok()
    other = packages.save(tmp_path / "two", packages.wheel("twice", "1.0", files={"twice/more.py": b"x = 1\n"}))
    refused = clients.twine(url, token, *other)
    assert refused.returncode != 0
    assert "File already exists" in refused.output
    assert published(registry_server, token, "dev", "twice") == {first[0].name: packages.sha256(first[0].read_bytes())}


def test_wrong_and_missing_credentials_are_told(registry_server: Server, clients: Clients, tmp_path: Path):
    paths = packages.save(tmp_path, packages.wheel("private", "1.0"))
    url = registry_server.index(simple=False)
    refused = clients.twine(url, "ent_" + "0" * 49, *paths)
    assert refused.returncode != 0
    assert "401" in refused.output
    reader = registry_server.token("admin", "read")
    denied = clients.twine(url, reader, *paths)
    assert denied.returncode != 0
    assert "403" in denied.output
    assert "may not publish" in denied.output
    python = clients.venv()
    assert clients.pip_install(python, registry_server.index(), "private").returncode != 0


@pytest.mark.parametrize("client", ["twine", "uv"])
def test_the_reason_of_a_refusal_is_in_the_clients_own_output(
    registry_server: Server, clients: Clients, tmp_path: Path, client: str
):
    token = registry_server.token("admin", "read", "publish")
    url = registry_server.index(simple=False)
    filename, body = packages.wheel("honest", "1.0")
    lying = packages.save(tmp_path, ("dishonest-1.0-py3-none-any.whl", body))
    done = clients.twine(url, token, *lying) if client == "twine" else clients.uv_publish(url, token, *lying)
    assert done.returncode != 0
    assert filename.split("-")[0] in done.output


def test_an_old_pip_and_html_see_the_same_files(registry_server: Server, clients: Clients, tmp_path: Path):
    token = registry_server.token("admin", "read", "publish")
    clients.twine(
        registry_server.index(simple=False),
        token,
        *packages.save(tmp_path, packages.wheel("plain", "1.0"), packages.sdist("plain", "1.0")),
    ).ok()
    page = requests.get(f"{registry_server.index()}plain/", auth=("x", token), timeout=10)
    assert page.headers["Content-Type"].startswith("text/html")
    assert page.text.count("<a ") == 2
    assert 'data-requires-python="&gt;=3.8"' in page.text
