"""The real npm, pnpm and yarn (both kinds) against a real server: publish, install, and everything between."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.fakes.upstream import FaultyUpstream
from tests.harness import npm_packages as packages
from tests.harness.npm_clients import BUN, DENO, NPM_10, NPM_12, NpmClients
from tests.harness.server import ROOT, Server


@pytest.fixture(scope="module")
def upstream() -> Iterator[FaultyUpstream]:
    with FaultyUpstream() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, upstream: FaultyUpstream) -> Iterator[Server]:
    """One for all tests of this module, each of which has package names of its own."""
    running = Server(
        tmp_path_factory.mktemp("npm-clients") / "data",
        with_worker=False,
        environment={"ENTREPOT_UPSTREAM_URLS": f"npm={upstream.url}/npm/"},
    ).start()
    yield running
    running.kill()


@pytest.fixture(scope="module")
def token(server: Server) -> str:
    return server.token("admin")


def url(server: Server, repository: str = "dev") -> str:
    return f"{server.url}/npm/default/{repository}/"


@pytest.fixture
def clients(tmp_path: Path, server: Server, token: str) -> NpmClients:
    return NpmClients(tmp_path / "home", url(server), token)


def new_repository(server: Server, token: str, name: str, **options: object) -> None:
    requests.post(
        f"{server.url}/api/v1/domains/default/repositories",
        json={"name": name, **options},
        headers={"Authorization": f"Bearer {token}"},
        timeout=30,
    ).raise_for_status()


def test_publish_install_and_install_again_from_the_lock(clients: NpmClients):
    clients.npm("publish", cwd=clients.project("@story/base", "1.0.0")).ok()
    clients.npm("publish", cwd=clients.project("@story/top", "1.0.0", dependencies={"@story/base": "^1.0.0"})).ok()
    again = clients.npm("publish", cwd=clients.project("@story/top", "1.0.0", keywords=["other"]))
    assert "You cannot publish over the previously published versions: 1.0.0" in again.output
    app = clients.project("app", private=True)
    clients.npm("install", "@story/top", cwd=app).ok()
    assert clients.loads(app, "@story/base") == "@story/base 1.0.0"
    lock = json.loads((app / "package-lock.json").read_text())
    resolved = lock["packages"]["node_modules/@story/base"]["resolved"]
    assert resolved == f"{clients.registry}@story/base/-/base-1.0.0.tgz"
    shutil.rmtree(app / "node_modules")
    clients.forget()
    clients.npm("ci", cwd=app).ok()
    assert clients.loads(app, "@story/top") == "@story/top 1.0.0"
    assert "found 0 vulnerabilities" in clients.npm("audit", cwd=app).ok().output
    signatures = clients.npm("audit", "signatures", cwd=app, **clients.without_trust_root()).ok()
    assert "2 packages have verified registry signatures" in signatures.output


def test_who_and_what(clients: NpmClients):
    assert clients.npm("whoami").ok().output.strip() == "admin"
    assert "PONG" in clients.npm("ping").ok().output
    clients.npm("publish", cwd=clients.project("viewed", "1.0.0")).ok()
    shown = json.loads(clients.npm("view", "viewed", "--json").ok().output)
    assert (shown["version"], shown["license"], shown["readmeFilename"]) == ("1.0.0", "MIT", "README.md")
    assert "viewed" in clients.npm("search", "viewed").ok().output
    assert clients.npm("owner", "ls", "viewed").ok().output.startswith("admin")
    assert "viewed: read-write" in clients.npm("access", "list", "packages").ok().output
    assert "promote the version to the next" in clients.npm("stage", "list").output
    assert "admin" in clients.npm("profile", "get").ok().output
    assert re.search(r"with id 1 name .+ created 20", clients.npm("token", "list").ok().output)
    assert clients.npm("view", "never-published").returncode != 0
    assert "E404" in clients.npm("view", "never-published").output


def test_tags_deprecation_and_withdrawal(clients: NpmClients):
    clients.npm("publish", cwd=clients.project("moved", "1.0.0")).ok()
    clients.npm("publish", "--tag", "beta", cwd=clients.project("moved", "2.0.0-beta.1")).ok()
    assert clients.npm("dist-tag", "ls", "moved").ok().output.split() == ["beta:", "2.0.0-beta.1", "latest:", "1.0.0"]
    clients.npm("dist-tag", "add", "moved@1.0.0", "stable").ok()
    clients.npm("dist-tag", "rm", "moved", "beta").ok()
    app = clients.project("tag-app", private=True)
    clients.npm("install", "moved@stable", cwd=app).ok()
    assert clients.loads(app, "moved") == "moved 1.0.0"
    clients.npm("deprecate", "moved@1.0.0", "moved away").ok()
    clients.forget()
    shutil.rmtree(app)
    app = clients.project("tag-app", private=True)
    assert "moved away" in clients.npm("install", "moved", cwd=app).ok().output
    clients.npm("deprecate", "moved@1.0.0", "").ok()
    assert clients.npm("view", "moved@1.0.0", "deprecated").ok().output.strip() == ""
    clients.npm("unpublish", "moved@2.0.0-beta.1", "--force").ok()
    assert json.loads(clients.npm("view", "moved", "versions", "--json").ok().output) == ["1.0.0"]
    clients.npm("unpublish", "moved", "--force").ok()
    assert "E404" in clients.npm("view", "moved").output


def test_private_and_open_repositories(server: Server, token: str, tmp_path: Path, clients: NpmClients):
    new_repository(server, token, "open", upstreams=["dev"], anonymousRead=True)
    clients.npm("publish", cwd=clients.project("@shown/demo", "1.0.0")).ok()
    stranger = NpmClients(tmp_path / "stranger", url(server), None)
    app = stranger.project("app", private=True)
    refused = stranger.npm("install", "@shown/demo", cwd=app)
    assert (refused.returncode != 0, "E401" in refused.output) == (True, True)
    stranger.point_at(url(server, "open"), None)
    stranger.npm("install", "@shown/demo", cwd=app).ok()
    assert stranger.loads(app, "@shown/demo") == "@shown/demo 1.0.0"
    assert "ENEEDAUTH" in stranger.npm("publish", cwd=stranger.project("@shown/other")).output
    stranger.point_at(url(server, "open"), server.token("admin", "read"))
    assert "E403" in stranger.npm("publish", cwd=stranger.project("@shown/other")).output


def test_npm_login_with_a_browser(server: Server, tmp_path: Path):
    stranger = NpmClients(tmp_path / "home", url(server), None)
    with subprocess.Popen(
        ["npm", "login", "--auth-type=web"],
        cwd=stranger.home,
        env=stranger.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as login:
        assert login.stdout is not None
        printed = ""
        while not (found := re.search(r"http://\S+/sign-in/client\?code=\S+", printed)):
            line = login.stdout.readline()
            assert line, printed
            printed += line
        approve(server, found[0])
        rest = login.communicate(timeout=60)[0]
    assert login.returncode == 0, printed + rest
    assert stranger.npm("whoami").ok().output.strip() == "admin"
    stranger.npm("logout").ok()
    assert "ENEEDAUTH" in stranger.npm("whoami").output


def approve(server: Server, address: str) -> None:
    """What a person does in the browser."""
    link = server.command("user", "login-link", "admin", "--data", str(server.data)).stdout
    with requests.Session() as browser:
        browser.get(f"{server.url}/setup", params={"code": link.strip().rpartition("code=")[2]}, timeout=30)
        browser.post(f"{server.url}/setup", timeout=30).raise_for_status()
        page = browser.get(address, timeout=30).text
        form = dict(re.findall(r'name="(csrf_token|code)" value="([^"]+)"', page))
        browser.post(address.partition("?")[0], data=form, timeout=30).raise_for_status()


def test_entrepot_login_writes_what_the_clients_read(server: Server, token: str, tmp_path: Path):
    stranger = NpmClients(tmp_path / "home", url(server), None)
    mine = "# mine\nsave-exact=true\n"
    for tool in ("npm", "pnpm", "yarn"):
        (stranger.home / ".npmrc").write_text(mine)
        command = [sys.executable, "-m", "config.cli.main", "login", "--tool", tool, "--repository", "dev"]
        environment = {
            **server.child_environment(),
            "HOME": str(stranger.home),
            "ENTREPOT_URL": server.url,
            "ENTREPOT_TOKEN": token,
        }
        looked = subprocess.run(
            [*command, "--dry-run"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        assert f"registry={url(server)}" in looked.stdout
        assert (stranger.home / ".npmrc").read_text() == mine
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        assert "ent_" not in done.stdout + done.stderr
        assert (stranger.home / ".npmrc").read_text().startswith(mine)
        assert (stranger.home / ".npmrc").stat().st_mode & 0o777 == 0o600
        assert stranger.npm("whoami").ok().output.strip() == "admin"


def test_through_chains_and_without_the_upstream(
    server: Server, token: str, upstream: FaultyUpstream, clients: NpmClients, tmp_path: Path
):
    new_repository(server, token, "team", upstreams=["dev"])
    names = {"@far/leaf": {}, "far-root": {"@far/leaf": "^1.0.0"}}
    for name, dependencies in names.items():
        tarball = packages.tarball(name, "1.0.0", dependencies=dependencies)
        upstream.add_npm_package(name, {"1.0.0": tarball})
    app = clients.project("app", private=True)
    clients.npm("install", "far-root", cwd=app).ok()
    far = NpmClients(tmp_path / "far", url(server, "team"), token)  # team → dev → public → outside
    other = far.project("app", private=True)
    far.npm("install", "far-root", cwd=other).ok()
    assert far.loads(other, "@far/leaf") == "1.0.0"
    assert upstream.count("/npm/far-root/-/far-root-1.0.0.tgz") == 1
    upstream.refuse()
    try:
        far.forget()
        shutil.rmtree(other)
        other = far.project("app", private=True)
        far.npm("install", "far-root", cwd=other).ok()
        missing = far.npm("install", "never-asked-for", "--fetch-retries=0", cwd=other)
        assert "E502" in missing.output
        assert "E404" not in missing.output
    finally:
        upstream.accept()


# How each client adds packages to a project, and how it installs just what the lock names. The other tests of npm are
# run with the machine's own.
FURTHER = {
    **dict.fromkeys((NPM_10, NPM_12), (["install"], ["ci"])),
    BUN: (["add"], ["install", "--frozen-lockfile"]),
    DENO: (["add", "--npm", "--min-dep-age=0"], ["install", "--frozen"]),
}


@pytest.mark.network
@pytest.mark.parametrize(
    "client", [pytest.param(each, marks=pytest.mark.long) if each in {NPM_10, DENO} else each for each in FURTHER]
)
def test_further_clients(
    client: str, server: Server, token: str, upstream: FaultyUpstream, clients: NpmClients, tmp_path: Path
):
    word = client.partition("@")[0] + client.rpartition("@")[2]
    ours, theirs = f"@walk-{word}/ours", f"walk-{word}-theirs"
    native = f"@walk-{word}/native"
    parts = {system: packages.tarball(f"{native}-{system}", "1.0.0", os=[system]) for system in ("linux", "win32")}
    for system, body in parts.items():
        upstream.add_npm_package(f"{native}-{system}", {"1.0.0": body})
    optional = {f"{native}-{system}": "1.0.0" for system in parts}
    upstream.add_npm_package(theirs, {"1.0.0": packages.tarball(theirs, "1.0.0", optionalDependencies=optional)})
    add, install = FURTHER[client]

    # Published with it where it can publish, and installed with what is behind one upstream.
    made = clients.project(ours, "1.0.0", dependencies={theirs: "^1.0.0"})
    if client == DENO:
        clients.npm("publish", cwd=made).ok()
    else:
        clients.program(client, "publish", cwd=made).ok()
    app = clients.project("app", private=True)
    clients.program(client, *add, ours, cwd=app).ok()
    assert clients.loads(app, ours) == f"{ours} 1.0.0"

    # Through three, and again from the lock, with nothing left of the first time and nobody outside.
    new_repository(server, token, f"walk-{word}", upstreams=["dev"])
    far = NpmClients(tmp_path / "far", url(server, f"walk-{word}"), token)  # → dev → public → outside
    app = far.project("app", private=True)
    far.program(client, *add, ours, theirs, cwd=app).ok()
    far.forget()
    shutil.rmtree(app / "node_modules")
    upstream.refuse()
    try:
        far.program(client, *install, cwd=app).ok()
    finally:
        upstream.accept()
    assert (far.loads(app, ours), far.loads(app, theirs)) == (f"{ours} 1.0.0", "1.0.0")
    assert upstream.count(f"/npm/{native}-linux/-/native-linux-1.0.0.tgz") == 1
    assert upstream.count(f"/npm/{native}-win32/-/native-win32-1.0.0.tgz") == 0

    # Nobody reads a private repository without a token, and anybody an open one.
    new_repository(server, token, f"open-{word}", upstreams=["dev"], anonymousRead=True)
    stranger = NpmClients(tmp_path / "stranger", url(server), None)
    app = stranger.project("app", private=True)
    refused = stranger.program(client, *add, ours, cwd=app)
    says = "was not found" if client == DENO else "401"  # to deno all refusals are one
    assert (refused.returncode != 0, says in refused.output) == (True, True), refused.output
    stranger.point_at(url(server, f"open-{word}"), None)
    stranger.program(client, *add, ours, cwd=app).ok()
    assert stranger.loads(app, ours) == f"{ours} 1.0.0"


@pytest.mark.network
def test_pnpm(clients: NpmClients):
    clients.pnpm("publish", "--no-git-checks", cwd=clients.project("@pnpm-made/base", "1.0.0")).ok()
    clients.pnpm(
        "publish", "--no-git-checks", cwd=clients.project("pnpm-made", dependencies={"@pnpm-made/base": "1.0.0"})
    ).ok()
    app = clients.project("app", private=True)
    clients.pnpm("add", "pnpm-made", cwd=app).ok()
    assert clients.loads(app, "pnpm-made") == "pnpm-made 1.0.0"
    clients.forget()
    shutil.rmtree(app / "node_modules")
    clients.pnpm("install", "--frozen-lockfile", cwd=app).ok()
    assert "No known vulnerabilities" in clients.pnpm("audit", cwd=app).ok().output


@pytest.mark.network
def test_yarn_classic(clients: NpmClients):
    made = clients.project("@yarn-made/base", "1.0.0")
    clients.yarn_classic(
        "publish", "--non-interactive", "--new-version", "1.0.0", "--registry", clients.registry, cwd=made
    ).ok()
    app = clients.project("app", private=True)
    clients.yarn_classic("add", "@yarn-made/base", cwd=app).ok()
    assert clients.loads(app, "@yarn-made/base") == "@yarn-made/base 1.0.0"
    clients.forget()
    shutil.rmtree(app / "node_modules")
    clients.yarn_classic("install", "--frozen-lockfile", cwd=app).ok()


@pytest.mark.network
def test_yarn_of_today(clients: NpmClients):
    made = clients.project("@berry-made/base", "1.0.0")
    (made / "yarn.lock").write_text("")
    clients.yarn("install", cwd=made).ok()
    clients.yarn("npm", "publish", cwd=made).ok()
    app = clients.project("app", private=True)
    (app / "yarn.lock").write_text("")
    clients.yarn("add", "@berry-made/base", cwd=app).ok()
    assert clients.loads(app, "@berry-made/base") == "@berry-made/base 1.0.0"
    clients.forget()
    shutil.rmtree(app / "node_modules")
    clients.yarn("install", "--immutable", cwd=app).ok()
    assert "No audit suggestions" in clients.yarn("npm", "audit", cwd=app).ok().output


@pytest.mark.network
def test_a_real_package_through_the_default_connection(tmp_path: Path):
    """The default external connection is what this machine's own npm uses."""
    server = Server(tmp_path / "data", with_worker=False).start()
    try:
        clients = NpmClients(tmp_path / "home", url(server), server.token("admin", "read"))
        app = clients.project("app", private=True)
        clients.npm("install", "chalk", cwd=app).ok()
        lock = json.loads((app / "package-lock.json").read_text())
        assert lock["packages"]["node_modules/chalk"]["resolved"].startswith(clients.registry)
    finally:
        server.kill()
