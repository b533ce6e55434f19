"""The main job, end to end, as the README tells it: publish, build, approve in a browser, install the same bytes."""

import hashlib
import json
import time
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser, expect

from tests.harness.clients import Clients
from tests.harness.server import ROOT, Server

EXAMPLE = ROOT / "docs" / "examples" / "release.yml"


def download_idna(clients: Clients, folder: Path) -> list[Path]:
    """The newest sdist and wheel of a small real package, from the public index through pip as it is set up here."""
    python = clients.venv("downloader")
    environment = {"PIP_CONFIG_FILE": "", **_machine_index()}
    for kind in (["--only-binary", ":all:"], ["--no-binary", ":all:"]):
        clients.run(
            str(python), "-m", "pip", "download", "--no-deps", "-d", str(folder), *kind, "idna==3.10", **environment
        ).ok()
    return sorted(folder.iterdir())


def _machine_index() -> dict[str, str]:
    import os

    return {
        name: os.environ[name] for name in ("PIP_INDEX_URL", "PIP_CERT", "REQUESTS_CA_BUNDLE") if name in os.environ
    }


def wait_for_approval(server: Server, headers: dict[str, str]) -> dict[str, object]:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        page = requests.get(f"{server.url}/api/v1/pipelines/release/executions", headers=headers, timeout=10).json()
        if page["items"]:
            execution = requests.get(
                f"{server.url}/api/v1/executions/{page['items'][0]['id']}", headers=headers, timeout=10
            ).json()
            statuses = {stage["name"]: stage["status"] for stage in execution["stages"]}
            if statuses.get("Approve") == "InProgress":
                return dict(execution)
            assert execution["status"] == "InProgress", json.dumps(execution, indent=1)
        time.sleep(0.3)
    raise AssertionError(f"nothing waits for approval\n{server.log_text()[-3000:]}")


def approve_in_browser(chromium: Browser, server: Server, execution_id: object) -> None:
    link = server.command("user", "login-link", "admin", "--data", str(server.data)).stdout.strip()
    code = link.rpartition("code=")[2]
    with chromium.new_context() as profile:
        page = profile.new_page()
        page.goto(f"{server.url}/setup?code={code}")
        page.get_by_role("button").filter(has_text="Sign in").first.click()
        page.goto(f"{server.url}/executions/{execution_id}")
        page.get_by_label("Comment").first.fill("import test is green")
        page.get_by_role("button", name="Approve").click()
        expect(page.get_by_text("import test is green").first).to_be_visible()


@pytest.mark.network
@pytest.mark.browser
@pytest.mark.slow
def test_publish_build_approve_install(server: Server, chromium: Browser, tmp_path: Path):
    clients = Clients(tmp_path / "home")
    token = server.token("admin")
    headers = {"Authorization": f"Bearer {token}"}
    files = download_idna(clients, tmp_path / "idna")
    applied = server.command("pipeline", "apply", "-f", str(EXAMPLE), "--url", server.url, input=None)
    assert applied.returncode != 0  # no credential: told, not ignored
    applied = requests.put(
        f"{server.url}/api/v1/pipelines", json={"document": EXAMPLE.read_text()}, headers=headers, timeout=10
    )
    assert applied.status_code < 300, applied.text

    clients.twine(server.index(simple=False), token, *files).ok()
    execution = wait_for_approval(server, headers)
    uploaded = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    assert execution["assets"] == uploaded
    prod = f"{server.index('prod')}idna/"
    assert requests.get(prod, headers=headers, timeout=10).status_code == 404

    approve_in_browser(chromium, server, execution["id"])
    deadline = time.monotonic() + 60
    while requests.get(prod, headers=headers, timeout=10).status_code != 200:
        assert time.monotonic() < deadline, server.log_text()[-3000:]
        time.sleep(0.2)

    python = clients.venv()
    clients.pip_install(python, server.index("prod", token=token), "idna").ok()
    report = tmp_path / "report.json"
    clients.pip_install(
        python, server.index("prod", token=token), "idna", "--force-reinstall", "--dry-run", "--report", str(report)
    ).ok()
    (installed,) = json.loads(report.read_text())["install"]
    filename = installed["download_info"]["url"].rpartition("/")[2]
    assert installed["download_info"]["archive_info"]["hashes"]["sha256"] == uploaded[filename]
    assert server.stop() == 0
    assert server.fsck() == ""


@pytest.mark.network
@pytest.mark.slow
def test_flask_through_the_external_connection_and_again_without_it(tmp_path: Path):
    """The default external connection is what this machine's own pip uses; the second install asks nobody outside."""
    data = tmp_path / "data"
    server = Server(data, with_worker=False, environment=_machine_index(), by_command=True).start()
    try:
        clients = Clients(tmp_path / "home")
        token = server.token("admin", "read")
        clients.pip_install(clients.venv("one"), server.index(token=token), "flask").ok()
        server.stop()
        # The same data, with an upstream that nobody answers at.
        server.environment = {"ENTREPOT_UPSTREAM_URLS": "pypi=http://127.0.0.1:9/simple/"}
        server.start()
        python = clients.venv("two")
        clients.pip_install(python, server.index(token=token), "flask").ok()
        assert "flask" in clients.run(str(python), "-c", "import flask; print(flask.__name__)").ok().output
        clients.uv_install(clients.venv("three"), server.index(token=token), "flask").ok()
    finally:
        server.kill()
