"""The commands against a real server: gunicorn in its own process, the database shared with this test."""

import fcntl
import hashlib
import io
import json
import os
import pty
import re
import socket
import struct
import subprocess
import sys
import termios
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner, Result
from sqlalchemy import select, update

from config import wiring
from config.cli.client import (
    apply,
    build,
    domain,
    explain,
    group,
    login,
    package,
    parameter,
    pipeline,
    policy,
    repo,
    role,
    secret,
    token,
    user,
    webhook,
)
from config.settings import load
from hooks.builds.keeping import ArtifactName
from hooks.builds.phases import BuildStatus
from hooks.builds.records import finish_build
from hooks.builds.reports.model import FileCoverage
from hooks.builds.stored_outputs import BuildPlace, OutputLimits, StoredOutputs
from hooks.commands import following
from hooks.commands import pipeline as pipeline_commands
from hooks.models import Build, BuildArtifact
from hooks.pipelines.engine import on_build_finished
from registry.clock import system_clock
from tests.build_bench import eventually
from tests.functional.test_hooks_api import BUILT, GATED
from tests.harness.packages import wheel
from tests.harness.server import Server
from tests.report_bench import case, hand_in, result

COMMANDS = {
    "apply": apply,
    "domain": domain,
    "explain": explain,
    "group": group,
    "policy": policy,
    "role": role,
    "login": login,
    "token": token,
    "user": user,
    "webhook": webhook,
    "repo": repo,
    "package": package,
    "pipeline": pipeline,
    "build": build,
    "secret": secret,
    "parameter": parameter,
}


class Site:
    """A running server with a package in ``dev``, and this process's own view of its database."""

    def __init__(self, folder: Path) -> None:
        self.server = Server(folder / "data", with_worker=False)

    def open(self) -> None:
        self.server.start()
        self.admin = self.server.token()
        settings = load(self.server.data, {})
        services = wiring.services(settings)
        self.db = services.db
        self.hooks = wiring.hook_services(services, settings)
        self.upload("acme-client", "1.0")
        self.upload("acme-client", "1.1")

    def close(self) -> None:
        self.server.kill()

    def upload(self, name: str, version: str) -> None:
        filename, body = wheel(name, version)
        answer = requests.post(
            self.server.index("dev", simple=False),
            data={
                ":action": "file_upload",
                "protocol_version": "1",
                "metadata_version": "2.1",
                "name": name,
                "version": version,
                "filetype": "bdist_wheel",
                "pyversion": "py3",
                "sha256_digest": hashlib.sha256(body).hexdigest(),
            },
            files={"content": (filename, io.BytesIO(body))},
            auth=("admin", self.admin),
            timeout=30,
        )
        assert answer.status_code == 200, answer.text

    def run(
        self, *words: str, status: int = 0, url: str | None = None, stdin: str | None = None, **environment: str | None
    ) -> Result:
        settings = {"ENTREPOT_URL": url or self.server.url, "ENTREPOT_TOKEN": self.admin, **environment}
        done = CliRunner(env=settings).invoke(COMMANDS[words[0]], list(words[1:]), input=stdin)
        assert done.exit_code == status, (words, done.output, done.exception)
        return done

    def json(self, *words: str, **environment: str) -> object:
        return json.loads(self.run(*words, "--json", **environment).stdout)

    def end_next(self, status: BuildStatus) -> threading.Thread:
        """End the next build that is started, whichever it is."""
        waiting = select(Build.id).where(Build.status == BuildStatus.IN_PROGRESS)
        with self.db.read() as session:
            before = set(session.scalars(waiting))

        def running() -> str | None:
            with self.db.read() as session:
                return next((build for build in session.scalars(waiting) if build not in before), None)

        def end() -> None:
            self.end_build(eventually(running, "nothing was started"), status)

        thread = threading.Thread(target=end)
        thread.start()
        return thread

    def end_build(self, build_id: str, status: BuildStatus = BuildStatus.SUCCEEDED) -> None:
        def ended(session, build_id: str) -> None:
            on_build_finished(session, self.hooks.actions, build_id)

        with self.db.write() as session:
            finish_build(session, build_id, status, now=system_clock(), on_finished=ended)

    def log(self, build_id: str, data: bytes) -> None:
        with self.db.write() as session:
            self.hooks.logs.append_now(session, build_id, data)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"))
    try:
        made.open()
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_commands, "WATCH_SECONDS", 0.05)
    monkeypatch.setattr(following, "FOLLOW_SECONDS", 0.05)


def test_gunicorn_hands_a_cut_body_over_and_it_is_refused(site: Site) -> None:
    """What arrived is sound JSON by itself: only the announced length tells that something is missing."""

    def post(name: str, missing: int) -> int:
        body = json.dumps({"name": name}).encode()
        head = (
            "POST /api/v1/domains/default/repositories HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Authorization: Bearer {site.admin}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body) + missing}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", site.server.port), timeout=60) as connection:
            connection.sendall(head.encode() + body)
            connection.shutdown(socket.SHUT_WR)
            return int(connection.makefile("rb").readline().split()[1])

    assert (post("cut-short", 10), post("whole", 0)) == (400, 201)
    names = [item["name"] for item in site.json("repo", "list")]
    assert "whole" in names
    assert "cut-short" not in names


# --- errors ----------------------------------------------------------------------------------------------------------


def test_errors_are_one_line_with_an_exit_code(site: Site) -> None:
    for words, status, told in (
        (("repo", "show", "absent"), 1, "Error: repository 'default/absent' was not found\n"),
        (
            ("package", "show", "dev", "absent"),
            1,
            "Error: default/dev itself holds no package absent under this spelling; with --format it need not hold it",
        ),
        (("repo", "show"), 2, "Missing argument"),
        (("token", "new", "--ttl", "soon"), 2, "write a number and s, m, h or d"),
        (("token", "new", "--scope", "fly"), 1, "actions are read, publish"),
    ):
        done = site.run(*words, status=status)
        assert told in done.stderr
        assert done.stdout == ""
    assert "no token" in site.run("repo", "list", status=2, ENTREPOT_TOKEN="").stderr
    assert "Set ENTREPOT_URL" in site.run("repo", "list", status=2, ENTREPOT_URL="").stderr
    refused = site.run("repo", "list", status=1, ENTREPOT_TOKEN="ent_wrong")
    assert refused.stderr.count("\n") == 1
    assert "ent_wrong" not in refused.output


# --- registry --------------------------------------------------------------------------------------------------------


def test_repositories(site: Site) -> None:
    made = site.json(
        "repo", "create", "tools", "--description", "What builds use", "--upstream", "dev", "--external", "pypi"
    )
    assert made["upstreams"] == ["dev"]
    assert made["connections"] == [{"format": "pypi", "name": "public", "url": None}]
    assert site.json("repo", "show", "default/tools") == made
    assert "tools" in [item["name"] for item in site.json("repo", "list")]
    lines = site.run("repo", "list").stdout.splitlines()
    assert "default\tdev\tpublic\t1\t" in "\n".join(lines)
    assert "external connections\tpypi=default" in site.run("repo", "show", "tools").stdout
    assert "exists already" in site.run("repo", "create", "tools", status=1).stderr


def test_connections(site: Site, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter22\n")
    where = ("repo", "connection")
    made = site.json(
        *(*where, "add", "dev", "pypi", "partner", "--index", "https://packages.example/simple/"),
        *("--user", "we", "--secret-file", str(tmp_path / "secret")),
    )
    assert (made["hasCredential"], made["health"]["state"]) == (True, "Unknown")
    listed = site.run(*where, "list", "dev").stdout
    assert "pypi\tpartner\thttps://packages.example/simple/\t1\tyes\tUnknown" in listed
    assert "hunter22" not in listed
    refused = site.run(*where, "change", "dev", "pypi", "partner", "--index", "https://other.example/", status=1)
    assert "another origin" in refused.stderr
    changed = site.json(*where, "change", "dev", "pypi", "partner", "--no-credential", "--position", "7")
    assert (changed["hasCredential"], changed["position"]) == (False, 7)
    assert "say what it holds" in site.run(*where, "add", "dev", "pypi", "x", "--secret-file", "f", status=2).stderr
    site.run(*where, "remove", "dev", "pypi", "partner")
    assert site.json(*where, "list", "dev") == []
    assert "was not found" in site.run(*where, "remove", "dev", "pypi", "partner", status=1).stderr


def test_packages(site: Site) -> None:
    assert [item["name"] for item in site.json("package", "list", "dev")] == ["acme-client"]
    assert site.run("package", "list", "dev", "--search", "nothing").stdout == ""
    shown = site.json("package", "show", "dev", "Acme-Client")
    assert [entry["version"] for entry in shown["versions"]] == ["1.1", "1.0"]
    version = site.json("package", "show", "dev", "acme-client", "1.0")
    assert version["assets"][0]["filename"] == "acme_client-1.0-py3-none-any.whl"
    assert "sha256:" + version["assets"][0]["sha256"] in site.run("package", "show", "dev", "acme-client", "1.0").stdout
    filename = version["assets"][0]["filename"]
    promoted = site.json("package", "promote", "dev", "acme-client", "1.0", "--to", "staging", "--asset", filename)
    assert promoted["assets"] == {filename: version["assets"][0]["sha256"]}
    assert site.json("package", "show", "staging", "acme-client", "1.0", "--format", "pypi")["promotedFrom"] == "dev"
    assert (
        "has no file"
        in site.run("package", "promote", "dev", "acme-client", "1.0", "--to", "prod", "--asset", "x", status=1).stderr
    )
    assert site.run("package", "yank", "staging", "acme-client", "1.0", "--reason", "bad").stdout == ""
    assert site.json("package", "show", "staging", "acme-client", "1.0")["yankedReason"] == "bad"
    assert site.json("package", "yank", "staging", "acme-client", "1.0", "--undo")["yankedReason"] is None


def test_accounts_are_listed_shut_out_let_in_and_deleted(site: Site) -> None:
    body = {"name": "temp", "actions": ["read"]}
    call = {"headers": {"Authorization": f"Bearer {site.admin}"}, "timeout": 30}
    assert requests.post(f"{site.server.url}/api/v1/users", json=body, **call).status_code == 201
    made = requests.post(
        f"{site.server.url}/api/v1/tokens", json={"name": "t", "actions": ["read"], "user": "temp"}, **call
    )
    secret = made.json()["secret"]
    assert [user["name"] for user in site.json("user", "list", "--search", "temp")] == ["temp"]
    assert site.run("repo", "list", ENTREPOT_TOKEN=secret).exit_code == 0
    assert "user temp is disabled" in site.run("user", "disable", "temp").stderr
    site.run("repo", "list", status=1, ENTREPOT_TOKEN=secret)
    assert [user["name"] for user in site.json("user", "list", "--state", "disabled")] == ["temp"]
    assert site.json("user", "enable", "temp")["isDisabled"] is False
    assert site.run("repo", "list", ENTREPOT_TOKEN=secret).exit_code == 0
    assert "entrepot:ManageUsers" in site.run("user", "list", status=1, ENTREPOT_TOKEN=secret).stderr
    assert "with 1 tokens" in site.run("user", "delete", "temp", stdin="n\n", status=1).stderr
    assert site.json("user", "delete", "temp", "--yes") == {"name": "temp", "deleted": True}
    assert "temp" not in [user["name"] for user in site.json("user", "list")]
    assert "was not found" in site.run("user", "delete", "temp", "--yes", status=1).stderr


def test_one_asset_is_downloaded(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name, body = wheel("acme-client", "1.0")
    asked = ("package", "get-asset", "dev", "acme-client", "1.0")
    told = site.json(*asked, name)
    assert told == {
        "asset": name, "file": name, "sizeBytes": len(body), "sha256": hashlib.sha256(body).hexdigest()
    }  # fmt: skip
    assert (tmp_path / name).read_bytes() == body
    site.run(*asked, name, "-o", "sub/copy.whl")
    assert (tmp_path / "sub" / "copy.whl").read_bytes() == body
    assert site.run(*asked, name, "-o", "-").stdout_bytes == body
    assert "was not found" in site.run(*asked, "absent.whl", status=1).stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, "sub"], "nothing is left of what failed"


def test_a_repositorys_address_for_a_format(site: Site) -> None:
    shown = site.run("repo", "endpoint", "dev", "--format", "pypi").stdout
    assert shown == site.server.index("dev", simple=False) + "\n"


def test_lists_are_read_on_a_terminal_of_80_columns(site: Site) -> None:
    site.run("token", "new", "--name", "the release machine's token", "--scope", "read", "--repository", "dev")
    for words in (("token", "list"), ("repo", "list"), ("package", "list", "dev"), ("package", "show", "dev", "acme-client"),
                  ("user", "list"), ("repo", "connection", "list", "public"), ("role", "list")):  # fmt: skip
        lines = on_terminal(site, *words)
        assert max(map(len, lines)) <= 80, lines
    tokens = on_terminal(site, "token", "list")
    assert tokens[0].split()[:3] == ["ID", "NAME", "RIGHTS"]
    (row,) = [line for line in tokens if "release" in line]
    assert re.search(r"read +\d{4}-\d\d-\d\d \d\d:\d\d", row), "nothing that matters is broken in its middle"
    assert any(line.startswith("not shown here: ") for line in tokens)


def on_terminal(site: Site, *words: str) -> list[str]:
    """What a command writes on a terminal of 80 columns and 24 lines."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    settings = {**os.environ, "ENTREPOT_URL": site.server.url, "ENTREPOT_TOKEN": site.admin, "TERM": "dumb"}
    for name in ("COLUMNS", "LINES"):
        settings.pop(name, None)
    run = subprocess.Popen(
        [sys.executable, "-m", "config.cli.main", *words], env=settings, stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    written = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        written += piece
    os.close(master)
    assert run.wait(30) == 0, written
    return [line.rstrip() for line in written.decode().splitlines()]


def test_a_webhook_is_deleted_once_somebody_said_yes(site: Site) -> None:
    site.run("webhook", "create", "https://ci.example/hooks", "--kind", "*")
    (made,) = site.json("webhook", "list")
    number = str(made["id"])
    assert "https://ci.example/hooks" in site.run("webhook", "delete", number, stdin="n\n", status=1).stderr
    assert len(site.json("webhook", "list")) == 1
    assert site.json("webhook", "delete", number, "--yes") == {"id": made["id"], "deleted": True}
    assert site.json("webhook", "list") == []


def test_a_token_that_ends_early_says_so(site: Site) -> None:
    short = site.run("token", "new", "--ttl", "1h").stdout.strip()
    told = site.run("token", "new", "--ttl", "90d", ENTREPOT_TOKEN=short).stderr
    assert "it ends with the token it was made with, on 20" in told
    assert "ends with the token" not in site.run("token", "new", "--ttl", "30m", ENTREPOT_TOKEN=short).stderr
    absent = site.run("token", "new", "--repository", "absent", "--scope", "read", status=1).stderr
    assert "repository 'default/absent' was not found" in absent
    first = site.json("token", "list")[0]
    assert site.json("token", "show", str(first["id"])) == first


def test_tokens(site: Site, tmp_path: Path) -> None:
    made = site.run("token", "new", "--name", "ci", "--scope", "read", "--repository", "dev", "--ttl", "1h")
    secret = made.stdout.strip()
    assert secret.startswith("ent_")
    assert secret not in made.stderr
    assert [item["name"] for item in site.json("repo", "list", ENTREPOT_TOKEN=secret)] == ["dev"]
    file = tmp_path / "token"
    file.write_text(secret + "\n")
    refused = site.run("repo", "create", "x1", "--token-file", str(file), status=1).stderr
    assert "may not create a repository (codeartifact:CreateRepository on default) with this token" in refused
    (listed,) = [item for item in site.json("token", "list") if item["name"] == "ci"]
    assert site.json("token", "revoke", str(listed["id"])) == [{"id": listed["id"], "revoked": True}]
    assert "revoked" in site.run("repo", "list", status=1, ENTREPOT_TOKEN=secret).stderr


def test_tokens_have_limits_and_many_end_at_once(site: Site) -> None:
    limits = (
        "--package",
        "pypi/Acme_Client",
        "--package",
        "npm/acme/*",
        "--network",
        "127.0.0.0/8",
        "--network",
        "::1",
    )
    made = site.json("token", "new", "--name", "narrow", "--scope", "read", *limits, "--ttl", "90d")
    assert (made["packages"], made["networks"]) == (["pypi/acme-client", "npm/acme/*"], ["127.0.0.0/8", "::1/128"])
    narrow = {"ENTREPOT_TOKEN": made["secret"]}
    short = site.json("token", "new", **narrow)
    assert (short["packages"], short["networks"], short["actions"]) == (made["packages"], made["networks"], ["read"])
    assert {item["name"] for item in site.json("package", "list", "dev", **narrow)} == {"acme-client"}
    elsewhere = site.json("token", "new", "--network", "192.0.2.0/24")
    assert "192.0.2.0/24" not in site.run("repo", "list", status=1, ENTREPOT_TOKEN=elsewhere["secret"]).stderr
    data = ("token", "new", "--data", str(site.server.data), "--user", "admin", "--package", "pypi/acme*")
    by_machine = site.run(*data, ENTREPOT_URL="", ENTREPOT_TOKEN="").stdout.strip()
    assert site.json("token", "list", ENTREPOT_TOKEN=by_machine)[0]["packages"] == ["pypi/acme*"]
    assert "--all" in site.run("token", "revoke", status=2).stderr
    assert "ids of tokens" in site.run("token", "revoke", "1", "--kind", "login", status=2).stderr
    assert site.json("token", "revoke", "--all", "--kind", "authorization")["count"] >= 2
    assert "revoked" in site.run("repo", "list", status=1, ENTREPOT_TOKEN=short["secret"]).stderr
    assert site.json("repo", "list", **narrow)


def test_a_token_without_scope_has_ones_own_rights(site: Site) -> None:
    secret = site.run("token", "new").stdout.strip()
    assert site.json("token", "list", ENTREPOT_TOKEN=secret)[0]["actions"] == ["admin"]
    limited = site.run("token", "new", "--scope", "read", "--scope", "publish").stdout.strip()
    again = site.json("token", "new", ENTREPOT_TOKEN=limited)
    assert again["actions"] == ["publish", "read"]


def test_a_token_on_the_data_directory_needs_no_server(site: Site) -> None:
    done = site.run(
        "token", "new", "--data", str(site.server.data), "--user", "admin", ENTREPOT_URL="", ENTREPOT_TOKEN=""
    )
    assert site.json("repo", "list", ENTREPOT_TOKEN=done.stdout.strip())
    assert "--user" in site.run("token", "new", "--data", str(site.server.data), status=2).stderr


@pytest.mark.parametrize("tool", ["pip", "uv", "twine"])
def test_login(site: Site, tmp_path: Path, tool: str) -> None:
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": "", "PIP_CONFIG_FILE": "", "UV_CONFIG_FILE": "", "NETRC": ""}
    before = len(site.json("token", "list"))
    dry = site.run("login", "--tool", tool, "--repository", "dev", "--dry-run", **home)
    assert f"{site.server.url}/pypi/default/dev/" in dry.stdout
    assert list(tmp_path.rglob("*")) == []
    assert len(site.json("token", "list")) == before
    done = site.run("login", "--tool", tool, "--repository", "dev", "--ttl", "1h", **home)
    assert "ent_" not in done.output
    written = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    (secret,) = {
        word.strip('"') for text in written.values() for word in text.split() if word.strip('"').startswith("ent_")
    }
    assert all(path.stat().st_mode & 0o077 == 0 for path, text in written.items() if secret in text)
    answer = requests.get(site.server.index("dev") + "acme-client/", auth=("admin", secret), timeout=30)
    assert answer.status_code == 200
    assert site.json("token", "list", ENTREPOT_TOKEN=secret)[0]["actions"] == ["publish", "read"]
    site.run("login", "--tool", tool, "--repository", "dev", **home)  # again, over what is there
    assert "was not found" in site.run("login", "--tool", tool, "--repository", "absent", status=1, **home).stderr


def test_login_tells_programs_what_it_did_and_no_secret(site: Site, tmp_path: Path) -> None:
    words = ("login", "--tool", "twine", "--repository", "dev")
    dry = site.json(*words, "--dry-run", HOME=str(tmp_path))
    assert (dry["tool"], dry["url"], dry["user"]) == ("twine", f"{site.server.url}/pypi/default/dev/", "admin")
    (planned,) = dry["files"]
    assert planned["path"] == str(tmp_path / ".pypirc")
    assert any("ent_(a-new-token)" in line for line in planned["added"])
    assert not (tmp_path / ".pypirc").exists()
    done = site.json(*words, HOME=str(tmp_path))
    assert {**done, **dry} == done
    assert done["tokenId"] in {item["id"] for item in site.json("token", "list")}
    (secret,) = [word for word in (tmp_path / ".pypirc").read_text().split() if word.startswith("ent_")]
    assert secret not in json.dumps(done)


def test_login_with_a_password(site: Site, tmp_path: Path) -> None:
    body = {"name": "pat", "actions": ["read"], "password": "a long password"}
    made = requests.post(f"{site.server.url}/api/v1/users", json=body, auth=("admin", site.admin), timeout=30)
    assert made.status_code == 201
    environment = {
        "HOME": str(tmp_path),
        "ENTREPOT_URL": site.server.url,
        "ENTREPOT_TOKEN": "",
        "NETRC": "",
        "PIP_CONFIG_FILE": "",
    }
    words = ["--tool", "pip", "--repository", "dev", "--user", "pat"]
    done = CliRunner(env=environment).invoke(login, words, input="a long password\n")
    assert done.exit_code == 0, done.output
    assert "a long password" not in done.output
    assert "login pat" in (tmp_path / ".netrc").read_text()
    wrong = CliRunner(env=environment).invoke(login, words, input="another password\n")
    assert wrong.exit_code == 1


def test_login_leaves_no_token_where_it_cannot_write(site: Site, tmp_path: Path) -> None:
    (tmp_path / ".pypirc").write_bytes(b"\xff\xfe")
    before = len(site.json("token", "list"))
    site.run("login", "--tool", "twine", "--repository", "dev", status=1, HOME=str(tmp_path))
    assert len(site.json("token", "list")) == before
    assert (tmp_path / ".pypirc").read_bytes() == b"\xff\xfe"


# --- pipelines and builds --------------------------------------------------------------------------------------------


@pytest.fixture
def applied(site: Site, tmp_path: Path) -> Site:
    for document in (GATED, BUILT):
        file = tmp_path / "pipeline.yml"
        file.write_text(document)
        site.run("pipeline", "apply", "-f", str(file))
    return site


def start(site: Site, name: str = "release") -> str:
    return site.run("pipeline", "start", name, "acme-client", "1.0", "--repository", "dev").stdout.strip()


def test_a_document_with_faults_is_told_of(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "pipeline.yml"
    file.write_text(GATED.replace("Manual", "Psychic"))
    assert "Psychic" in site.run("pipeline", "apply", "-f", str(file), status=1).stderr


def test_pipelines_are_applied_and_listed(applied: Site, tmp_path: Path) -> None:
    assert {"built", "release"} <= {item["name"] for item in applied.json("pipeline", "list")}
    file = tmp_path / "again.yml"
    file.write_text(GATED)
    assert applied.run("pipeline", "apply", "-f", str(file)).stdout == "pipeline\trelease\tunchanged\t1\n"


def test_documents_are_looked_at_and_nothing_is_changed(applied: Site, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yml", tmp_path / "bad.yml"
    good.write_text(GATED.replace("name: release", "name: not-there"))
    bad.write_text(GATED.replace("provider: Manual", "provider: Nobody").replace("name: Gate", "name: ''"))
    assert f"{good}: pipeline not-there: no faults" in applied.run("pipeline", "lint", str(good)).stdout
    done = applied.run("pipeline", "lint", str(good), str(bad), status=1)
    assert done.stderr.count("line ") >= 2
    assert "Nobody" in done.stderr
    assert "no faults" in done.stdout
    assert "not-there" not in {item["name"] for item in applied.json("pipeline", "list")}


def test_an_execution_is_started_answered_stopped(applied: Site) -> None:
    execution = start(applied)
    assert "Gate\tAsk\tWaiting" in applied.run("pipeline", "status", execution).stdout
    assert applied.json("pipeline", "status", "release")[0]["id"] == int(execution)
    applied.run("pipeline", "reject", execution, "--comment", "no")
    failed = applied.run("pipeline", "status", execution, "--watch", "--exit-status", status=1)
    assert "Gate/Ask Failed: rejected by admin" in failed.stderr
    applied.run("pipeline", "retry", execution)
    applied.run("pipeline", "approve", execution, "--stage", "Gate", "--comment", "yes")
    assert "no such approval" in applied.run("pipeline", "approve", execution, status=1).stderr
    stopped = applied.json("pipeline", "stop", execution, "--reason", "enough", "--abandon")
    assert stopped["stopReason"] == "enough"
    assert applied.json("pipeline", "status", execution, "--watch")["status"] == "Stopped"
    assert "has ended" in applied.run("pipeline", "stop", execution, status=1).stderr
    late = applied.run("pipeline", "status", "release", "--watch", "--within", "1s", status=1)
    assert "no execution of release has begun" in late.stderr


CONDITIONS = """  beforeEntry: {conditions: [{result: FAIL, rules: [{name: Never, configuration: {Cron: "0 0 0 30 2 ?"},
    ruleTypeId: {category: Rule, owner: AWS, provider: DeploymentWindow}}]}]}
"""


def test_what_keeps_executions_before_stages_is_steered(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "gated.yml"
    gated = GATED.replace("name: release", "name: kept\nexecutionMode: QUEUED", 1)
    file.write_text(gated.replace("- name: Gate\n", f"- name: Gate\n{CONDITIONS}", 1))
    site.run("pipeline", "apply", "-f", str(file))
    first = start(site, "kept")
    shown = site.run("pipeline", "status", first)
    assert "Gate\tBEFORE_ENTRY\tFailed\tFAIL\tNever: the window 0 0 0 30 2 ? (UTC) opens never again" in shown.stdout
    assert "--reason" in site.run("pipeline", "override", first, "Gate", status=2).stderr
    assert "BEFORE_ENTRY" in site.run("pipeline", "override", first, "Gate", "--reason", "agreed").stderr
    assert "say which" in site.run("pipeline", "override", first, "Gate", "--reason", "agreed", status=2).stderr
    site.run("pipeline", "approve", first)

    add = ("pipeline", "freeze", "add", "holidays", "--reason", "nobody is here")
    assert "--until" in site.run(*add, status=2).stderr
    assert "--until" in site.run(*add, "--cron", "0 0 18 ? * FRI", status=2).stderr
    assert "offset" in site.run(*add, "--until", "2999-01-01T00:00:00", status=1).stderr
    site.run(*add, "--pipeline", "kept", "--stage", "Gate", "--until", "2999-01-01T00:00:00Z")
    site.run(*add[:3], "nights", "--cron", "0 0 20 * * ?", "--minutes", "600", "--stage", "No", "--reason", "x")
    assert [item["name"] for item in site.json("pipeline", "freeze", "list", "--pipeline", "kept")] == [
        "holidays",
        "nights",
    ]
    second = start(site, "kept")
    state = site.run("pipeline", "status", "kept", "--stages").stdout
    assert (
        f"Gate\t{first}\tSucceeded\t{second}\tfrozen until 2999-01-01T00:00:00.000Z by holidays: nobody is here"
        in state
    )
    assert "it goes on" in site.run("pipeline", "pass", second, "--reason", "urgent").stderr
    third = start(site, "kept")
    for name in ("holidays", "nights"):
        site.run("pipeline", "freeze", "delete", name)
    site.run("pipeline", "stop", third)

    assert site.run("pipeline", "release", "kept", "Gate", status=1).stderr.startswith("Error: nothing is held")
    back = site.run("pipeline", "rollback", first, "Gate").stdout.strip()
    site.run("pipeline", "approve", back)
    assert "is held: rolled back by admin" in site.run("pipeline", "status", "kept", "--stages").stdout
    released = site.run("pipeline", "release", "kept", "Gate", "--reason", "fixed")
    assert "released" in released.stderr
    assert "is held" not in released.stdout


def built(site: Site) -> tuple[str, str]:
    execution = start(site, "built")
    detail = site.json("pipeline", "status", execution)
    return execution, detail["stages"][1]["actions"][0]["buildId"]


def test_watching_ends_with_the_execution(applied: Site) -> None:
    execution, build_id = built(applied)
    later = threading.Timer(0.3, applied.end_build, (build_id,))
    later.start()
    done = applied.run("pipeline", "status", execution, "--watch", "--exit-status")
    later.join()
    assert f"execution {execution} is Succeeded" in done.stderr


def test_artifacts_are_listed_and_downloaded_whole_or_not_at_all(applied: Site, tmp_path: Path) -> None:
    _, build_id = built(applied)
    bodies = {"primary": zip_of({"one": b"1"}), "docs": zip_of({"a.txt": b"a" * 300_000})}
    outputs = StoredOutputs(applied.db, applied.hooks.stores, system_clock, OutputLimits(), lambda *_: ())
    keeper = outputs.keeper(BuildPlace(build_id, "default", "project/1"), applied.db.retry)
    for identifier, body in bodies.items():
        incoming = keeper.begin_artifact(ArtifactName(identifier, f"out/{identifier}"))
        incoming.write(body)
        incoming.keep(1)
    listed = applied.json("build", "artifacts", build_id)
    assert [item["name"] for item in listed] == ["out/primary", "out/docs"]
    folder = tmp_path / "got"
    applied.run("build", "artifacts", build_id, "--download", str(folder))
    got = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert got == {f"out/{identifier}.zip": body for identifier, body in bodies.items()}
    with applied.db.write() as session:
        session.execute(update(BuildArtifact).where(BuildArtifact.identifier == "docs").values(sha256="0" * 64))
    (folder / "out/docs.zip").write_bytes(b"before")
    done = applied.run("build", "artifacts", build_id, "--download", str(folder), status=1)
    assert "another SHA-256" in done.stderr
    assert (folder / "out/docs.zip").read_bytes() == b"before"
    assert len(list(folder.rglob("*"))) == 3


def zip_of(files: dict[str, bytes]) -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return body.getvalue()


PROJECT = "name: cli\nrepository: dev\nsource: {type: UPLOAD}\nserviceRole: x\n"
LISTS = "version: 0.2\nphases: {build: {commands: [ls]}}\n"


def test_a_project_is_applied_and_a_directory_is_built(site: Site, tmp_path: Path) -> None:
    file, folder = tmp_path / "project.yml", tmp_path / "code"
    file.write_text(PROJECT)
    (folder / ".git").mkdir(parents=True)
    (folder / ".git/config").write_text("secret")
    (folder / "buildspec.yml").write_text(LISTS)
    (folder / "away").symlink_to("/etc/passwd")
    applied = site.run("build", "project", "apply", str(file))
    assert (applied.stdout, "serviceRole" in applied.stderr) == ("cli\tcreated\n", True)
    assert "cli" in [each["name"] for each in site.json("build", "project", "list")]
    assert json.loads(site.run("build", "project", "show", "cli").stdout)["source"] == {"type": "UPLOAD"}
    assert "NAME=VALUE" in site.run("build", "start", "cli", "-e", "A", status=2).stderr
    assert "sourceUpload" in site.run("build", "start", "cli", status=1).stderr
    started = site.run("build", "start", "cli", "--source", str(folder), "-e", "A=b=c")
    assert "sending 1 file(s)" in started.stderr
    assert "left out" in started.stderr
    first = started.stdout.strip()
    site.end_build(first, BuildStatus.FAILED)
    for status, code in ((BuildStatus.SUCCEEDED, 0), (BuildStatus.FAILED, 1)):
        ending = site.end_next(status)
        done = site.run("build", "retry", first, "--wait", status=code)
        ending.join()
        assert f"of cli: {status.value}" in done.stderr
        assert done.stdout.strip() not in {"", first}


MANY = r"""name: many
repository: dev
source: {type: NO_SOURCE, buildspec: "version: 0.2\nbatch: {build-list: [{identifier: a}]}"}
"""


def test_a_batch_is_started_watched_retried_and_stopped(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "project.yml"
    file.write_text(MANY)
    site.run("build", "project", "apply", str(file))
    batch = site.run("build", "batch", "start", "many", "-e", "A=b", "--batch-timeout", "9", "--debug-session")
    batch = batch.stdout.strip()
    shown = site.json("build", "batch", "show", batch)
    assert shown["debugSessionEnabled"]
    assert (shown["buildBatchStatus"], shown["buildBatchConfig"]) == ("IN_PROGRESS", {"timeoutInMins": 9})
    assert batch in site.run("build", "batch", "list", "--project", "many").stdout
    assert "DOWNLOAD_SOURCE" in site.run("build", "batch", "show", batch).stdout
    site.end_build(shown["buildGroups"][0]["currentBuildSummary"]["id"], BuildStatus.FAILED)
    ending = site.end_next(BuildStatus.FAULT)
    done = site.run("build", "batch", "retry", batch, "--wait", status=1)
    ending.join()
    assert "DOWNLOAD_SOURCE: FAULT" in done.stderr
    assert "batch 1 of many: FAILED" in done.stderr
    site.run("build", "batch", "retry", batch, "--all")
    assert site.json("build", "batch", "stop", batch)["endingAs"] == "STOPPED"


def test_a_hook_is_made_changed_and_deleted(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "project.yml"
    file.write_text(
        "name: hooked\nrepository: dev\nsource: {type: GITHUB, location: 'https://forge.example/one.git'}\n"
    )
    site.run("build", "project", "apply", str(file))
    filters = tmp_path / "filters.json"
    filters.write_text('[[{"type": "EVENT", "pattern": "PUSH"}]]')
    address, secret = site.run(
        "build", "project", "hook", "create", "hooked", "--provider", "gitea", "--filters", str(filters)
    ).stdout.split()
    assert "/hooks/v1/" in address
    hook = address.rpartition("/")[2]
    renewed = site.json("build", "project", "hook", "change", "hooked", hook, "--rotate-secret")
    assert renewed["secret"] not in {None, secret}
    assert site.json("build", "project", "hook", "list", "hooked")[0]["id"] == hook
    site.run("build", "project", "hook", "delete", "hooked", hook)
    token = tmp_path / "token"
    token.write_text("forge-token\n")
    given = site.json("build", "project", "credential", "hooked", "--token-from", str(token))
    assert given["credentials"] == {"": "PERSONAL_ACCESS_TOKEN"}
    site.run("build", "project", "credential", "hooked", "--remove")
    site.run("build", "project", "delete", "hooked")
    assert "was not found" in site.run("build", "project", "show", "hooked", status=1).stderr


def test_builds_are_listed_shown_stopped(applied: Site) -> None:
    _, build_id = built(applied)
    assert build_id in [item["id"] for item in applied.json("build", "list", "--limit", "5")]
    assert len(applied.run("build", "list", "--limit", "1").stdout.splitlines()) == 1
    assert applied.run("build", "list", "--project", "none-of-that-name").stdout == ""
    assert "status\tIN_PROGRESS" in applied.run("build", "show", build_id).stdout
    assert applied.json("build", "stop", build_id)["status"] == "STOPPED"
    assert "has ended" in applied.run("build", "stop", build_id, status=1).stderr


def test_reports_of_a_build_are_shown_and_end_with_what_they_say(applied: Site) -> None:
    _, build_id = built(applied)
    assert applied.json("build", "reports", build_id) == []
    sealer = applied.hooks.stores.server_keyring()
    good = result("fine", [case("a")])
    hand_in(applied.db, sealer, build_id, good, system_clock())
    assert applied.run("build", "reports", build_id).stdout.startswith("unit-fine\tSUCCEEDED\t1\t1\t0")
    bad = result("tests", [case("a"), case("b", "FAILED", "one\x1b[2J\ntwo")])
    hand_in(applied.db, sealer, build_id, bad, system_clock())
    hand_in(applied.db, sealer, build_id, result("cover", [FileCoverage("a.py", 3, 1)]), system_clock())
    shown = applied.run("build", "reports", build_id, status=1)
    assert [line.split("\t")[:2] for line in shown.stdout.splitlines()] == [
        ["unit-cover", "SUCCEEDED"],
        ["unit-fine", "SUCCEEDED"],
        ["unit-tests", "FAILED"],
    ]
    assert "FAILED tests.test_calc b\n    one" in shown.stderr
    assert "\x1b" not in shown.stderr
    assert "not found" in applied.run("build", "reports", "absent", status=1).stderr


class Cutter:
    """A proxy that ends every other connection in the middle of the answer."""

    def __init__(self, port: int) -> None:
        self._goal = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.cut = 0
        self.passed = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, socket.create_connection(("127.0.0.1", self._goal)) as server:
                asked = b""
                while b"\r\n\r\n" not in asked:
                    asked += client.recv(65536)
                server.sendall(asked.replace(b"Connection: keep-alive", b"Connection: close"))
                answer = b""
                while piece := server.recv(65536):
                    answer += piece
                head, _, body = answer.partition(b"\r\n\r\n")
                if body and self.cut <= self.passed:
                    self.cut += 1
                    client.sendall(head + b"\r\n\r\n" + body[: len(body) // 2])
                else:
                    self.passed += 1
                    client.sendall(answer)


def test_a_followed_log_is_whole_after_cut_connections(applied: Site) -> None:
    _, build_id = built(applied)
    pieces = [f"line {number} {'x' * 200}\n".encode() for number in range(30)]
    proxy = Cutter(applied.server.port)

    def write() -> None:
        for piece in pieces:
            applied.log(build_id, piece)
        applied.end_build(build_id)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        done = applied.run("build", "logs", build_id, "-f", url=proxy.url)
    finally:
        writer.join()
        proxy.close()
    assert proxy.cut > 0
    assert "going on at byte" in done.stderr
    assert done.stdout_bytes == b"".join(pieces)


def streams(site: Site, build_id: str, **headers: str) -> requests.Response:
    return requests.get(
        f"http://127.0.0.1:{site.server.port}/api/v1/builds/{build_id}/log/stream",
        headers={"Authorization": f"Bearer {site.admin}", "Connection": "close", **headers},
        stream=True,
        timeout=60,
    )


def test_a_log_comes_as_it_is_written_and_ends_with_the_build(applied: Site) -> None:
    """Each event is waited for before the next piece is written: nothing of it is held back until the end."""
    _, build_id = built(applied)
    applied.log(build_id, b"before\n")
    with streams(applied, build_id) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        lines = answer.iter_lines(chunk_size=None)
        assert event(lines)[2] == {"text": "before\n", "offset": 0, "next": 7}
        applied.log(build_id, "half a ä".encode()[:-1])
        assert event(lines)[2] == {"text": "half a ", "offset": 7, "next": 14}
        applied.log(build_id, "ä".encode()[1:] + b"\xff\n")
        name, stopped_at, told = event(lines)
        assert (name, told["text"]) == ("log", "ä\udcff\n")
    applied.log(build_id, b"after\n")
    applied.end_build(build_id)
    with streams(applied, build_id, **{"Last-Event-ID": stopped_at}) as answer:
        lines = answer.iter_lines(chunk_size=None)
        assert event(lines)[2]["text"] == "after\n"
        assert event(lines) == ("end", "24", {"next": 24, "status": "SUCCEEDED"})
    for odd in ("x", "-1", "9" * 30, "1 2"):
        with streams(applied, build_id, **{"Last-Event-ID": odd}) as answer:
            assert answer.status_code == 400, odd


def event(lines: Iterator[bytes]) -> tuple[str, str, dict[str, Any]]:
    """The next event: name, id, data."""
    found: dict[str, str] = {}
    for line in lines:
        if line:
            field, _, value = line.decode().partition(": ")
            found[field] = value
        elif "event" in found:
            return found["event"], found.get("id", ""), json.loads(found["data"])
    raise AssertionError("the stream ended")


def test_a_crowd_of_followers_leaves_threads_for_others_and_the_command_asks_instead(applied: Site) -> None:
    _, build_id = built(applied)
    held: list[requests.Response] = []
    try:
        while len(held) < 64 and (answer := streams(applied, build_id)).status_code == 200:
            held.append(answer)
        refused = answer
        assert 0 < len(held) <= 8
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "15")
        assert applied.json("build", "show", build_id)["status"] == "IN_PROGRESS"
        applied.log(build_id, b"all of it\n")
        applied.end_build(build_id)
        assert applied.run("build", "logs", build_id, "-f").stdout_bytes == b"all of it\n"
    finally:
        for each in held:
            each.close()


def test_a_secret_is_put_from_stdin_and_never_printed(applied: Site) -> None:
    value = "s3cret from stdin"
    shown = applied.run("secret", "put", "cli/db", "--description", "of a test", "--json", stdin=f"{value}\n")
    assert value not in shown.output
    assert json.loads(shown.stdout)["name"] == "cli/db"
    again = applied.run("secret", "put", "cli/db", "--no-overwrite", stdin="x", status=1)
    assert "exists already" in again.stderr
    for words in (("secret", "list"), ("secret", "show", "cli/db"), ("secret", "show", "/cli/db", "--json")):
        assert value not in applied.run(*words).output
    assert "no value" in applied.run("secret", "put", "cli/db", stdin="\n", status=1).stderr
    assert applied.json("secret", "change", "cli/db", "--project", "unit")["projects"] == ["unit"]
    assert applied.json("secret", "change", "cli/db", "--project", "")["projects"] == []
    applied.run("parameter", "put", "/cli/url", "--type", "String", stdin="https://shop.example/")
    assert [entry["name"] for entry in applied.json("parameter", "list", "--path", "/cli/")] == ["/cli/url"]
    assert applied.json("parameter", "change", "cli/url", "--description", "where")["description"] == "where"
    assert applied.json("parameter", "show", "/cli/url")["version"] == 1
    applied.run("parameter", "delete", "/cli/url")
    applied.run("secret", "delete", "cli/db")
    assert applied.json("secret", "list") == []


def test_a_log_is_printed_as_far_as_it_goes(applied: Site) -> None:
    _, build_id = built(applied)
    applied.log(build_id, b"one\ntwo \xff\x1b[31m\n")
    assert applied.run("build", "logs", build_id).stdout_bytes == b"one\ntwo \xff\x1b[31m\n"
    assert applied.run("build", "logs", build_id, "--from", "4").stdout_bytes == b"two \xff\x1b[31m\n"


def test_a_log_for_programs_says_where_each_line_starts_and_where_to_go_on(applied: Site) -> None:
    def lines(*options: str) -> list[dict[str, object]]:
        done = applied.run("build", "logs", build_id, "--json", *options)
        return [json.loads(line) for line in done.stdout.splitlines()]

    _, build_id = built(applied)
    applied.log(build_id, b"one\ntwo \xff\x1b[31m\nhal")
    first = [{"offset": 0, "line": "one"}, {"offset": 4, "line": "two \ufffd\x1b[31m"}]
    assert lines() == [*first, {"next": 15, "ended": False, "status": "IN_PROGRESS"}]
    applied.log(build_id, b"f, and the end")
    applied.end_build(build_id)
    last = [{"offset": 15, "line": "half, and the end"}, {"next": 32, "ended": True, "status": "SUCCEEDED"}]
    assert lines("--from", "15") == last
    assert lines("--follow") == first + last


# --- domains, policies, roles, groups --------------------------------------------------------------------------------


def test_a_domain_comes_and_goes(site):
    made = json.loads(site.run("domain", "create", "payments", "--json").stdout)
    assert made["repositoryCount"] == 0
    site.run("repo", "create", "payments/dev")
    assert site.json("domain", "describe", "payments")["repositoryCount"] == 1
    assert "payments" in [item["name"] for item in site.json("domain", "list")]
    site.run("repo", "delete", "payments/dev")
    assert "holds" in site.run("domain", "delete", "default", status=1).stderr
    site.run("domain", "delete", "payments")
    assert "not found" in site.run("domain", "describe", "payments", status=1).stderr


def test_roles_groups_policies_and_why(site, tmp_path):
    site.run("group", "create", "team")
    site.run("group", "add", "team", "admin")
    assert site.json("group", "show", "team")["members"] == [{"user": "admin", "sources": ["local"]}]
    site.run("role", "grant", "publisher", "group/team", "default/st*")
    assert [item["where"] for item in site.json("role", "list")] == ["default/st*"]
    asked = ("explain", "access", "group/team", "PublishPackageVersion")
    allowed = site.json(*asked, "default/staging")
    assert allowed["decidedBy"] == "Allow by the role publisher of group/team on default/st*"
    assert "implicitDeny" in site.run(*asked, "default/prod", status=1).stdout
    file = tmp_path / "policy.json"
    file.write_text(
        json.dumps(
            {
                "Statement": [
                    {
                        "Sid": "Never",
                        "Effect": "Deny",
                        "Principal": "group/team",
                        "Action": "*",
                        "Resource": "repository/default/staging",
                    }
                ]
            }
        )
    )
    revision = site.run("policy", "put", "default/staging", str(file)).stdout.strip()
    assert site.json("policy", "get", "default/staging")["revision"] == revision
    assert "Deny 'Never'" in site.run(*asked, "default/staging", status=1).stdout
    assert "changed" in site.run("policy", "delete", "default/staging", "--revision", "other", status=1).stderr
    site.run("policy", "delete", "default/staging", "--revision", revision)
    file.write_text('{"Statement": [{"Effect": "Perhaps"}]}')
    refused = site.run("policy", "put", "default/staging", str(file), status=1).stderr
    assert "Effect must be Allow or Deny" in refused
    assert "needs either Principal or NotPrincipal" in refused
    site.run("role", "revoke", "publisher", "group/team", "default/st*")
    assert "has not been granted" in site.run("role", "revoke", "publisher", "group/team", "default", status=1).stderr
    site.run("group", "remove", "team", "admin")
    site.run("group", "delete", "team")
    assert "team" not in [item["name"] for item in site.json("group", "list")]


# --- apply -----------------------------------------------------------------------------------------------------------


def test_a_directory_of_declarations_is_planned_and_applied(site: Site, tmp_path: Path) -> None:
    place = tmp_path / "registry"
    (place / "teams").mkdir(parents=True)
    (place / ".git").mkdir()
    (place / ".git" / "config.yml").write_text("what: ever")  # of a tool, not ours
    (place / "notes.md").write_text("no declaration")
    (place / "teams" / "web.yaml").write_text("repository: web\nupstreams: [shared]\n")
    (place / "shared.json").write_text('{"repository": "shared", "description": "\\u001b[31mred"}')
    assert "0 to 500 are allowed" not in (refused := site.run("apply", "-f", str(place), "--plan", status=1).output)
    assert "control characters" in refused
    (place / "shared.json").write_text('{"repository": "shared"}')
    words = ("apply", "-f", str(place))

    planned = site.run(*words, "--plan")
    assert "+ repository default/shared" in planned.stdout
    assert "+ repository default/web" in planned.stdout
    assert "    +- shared" in planned.stdout
    assert re.search("not declared, and left alone: .*domain default", planned.stderr)
    assert site.run(*words, "--check", status=3).stdout == planned.stdout
    assert "--yes" in site.run(*words, status=2).output  # nobody is there to ask
    site.run("repo", "show", "web", status=1)

    assert "done: 2 created, 0 updated, 0 unchanged" in site.run(*words, "--yes").stderr
    assert "upstreams\tshared" in site.run("repo", "show", "web").stdout
    again = site.run(*words, "--check")
    assert (again.stdout, "nothing to change: all 2 are as declared" in again.stderr) == ("", True)

    read = site.run("apply", "-f", "-", "--plan", "--json", stdin="repository: web\ndescription: mine\n").stdout
    (item,) = json.loads(read)["items"]
    assert (item["change"], item["file"], "+description: mine" in item["diff"]) == ("updated", "stdin", True)
    many = site.run("apply", "-f", "-", "--plan", stdin="repository: a b\n---\nnothing: here\n", status=1).output
    assert "\n  stdin: line 1: " in many  # each fault on its own line
    assert "\n  stdin: line 3: " in many
    site.run("apply", "-f", str(tmp_path / "registry" / ".git"), "--plan", status=1)
    (tmp_path / "empty").mkdir()
    assert "no file that ends in" in site.run("apply", "-f", str(tmp_path / "empty"), "--plan", status=1).output
