"""Publishing to a registry elsewhere: a second real server stands for it, and real clients install from there (I10)."""

import contextlib
import http.server
import json
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.harness import packages
from tests.harness.attest import attestation, statement
from tests.harness.clients import Clients
from tests.harness.house import House
from tests.harness.maven import Repository, digest
from tests.harness.npm_clients import NpmClients
from tests.harness.npm_packages import publish_document, tarball
from tests.harness.server import Server

SECRET = "s3cret-of-the-destination"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    running = Server(tmp_path_factory.mktemp("here") / "data", web_processes=1).start()
    yield House(running, running.token("admin"))
    running.kill()


@dataclass
class Odd:
    """A registry that answers as a test says, and remembers what it was sent."""

    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
def odd() -> Iterator[Odd]:
    said = Odd()

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            said.asked.append((self.command, self.path, self.headers.get("Authorization", "")))
            status, headers, body = said.answers.pop(0) if said.answers else (404, {}, b"")
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = answer

        def log_message(self, *_: Any) -> None:
            """Nothing on the test's output."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    said.port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield said
    server.shutdown()
    server.server_close()


class Gate:
    """Passes connections on to a port of this host until a jar is sent; then it lets nothing through until it is opened."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.reached, self._opened = threading.Event(), threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def open(self) -> None:
        self._opened.set()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            head = client.recv(65536)
            if head.startswith(b"PUT ") and b".jar HTTP" in head and not self._opened.is_set():
                self.reached.set()
                return
            with socket.create_connection(("127.0.0.1", self._target)) as target:
                target.sendall(head)
                threading.Thread(target=_pump, args=(client, target), daemon=True).start()
                while piece := target.recv(65536):
                    client.sendall(piece)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)


def test_python_files_go_out_byte_for_byte_and_pip_installs_them_there(
    here: House, shared_server: Server, token: str, home: Clients, tmp_path: Path
) -> None:
    there = shared_server
    files = [packages.wheel("outward-lib", "1.0", requires=["odd-name>=1"]), packages.sdist("outward-lib", "1.0")]
    home.twine(here.server.index(simple=False), here.token, *packages.save(tmp_path / "files", *files)).ok()
    here.destination(
        "there-py", "pypi", there.index(simple=False), indexUrl=there.index(), user="__token__", secret=token
    )
    here.pipeline("out-py", "pypi", "there-py", "outward-lib")
    done = here.run("out-py", "pypi", "outward-lib", "1.0")
    assert done["status"] == "Succeeded", done["summary"]
    expected = {filename: packages.sha256(body) for filename, body in files}
    assert {each["filename"]: each["sha256"] for each in done["published"]} == expected
    assert [each["wasThere"] for each in done["published"]] == [False, False]
    assert done["summary"].startswith("published to there-py: 2 sent, 0 there already; http://127.0.0.1:")
    for filename, body in files:
        path = f"{there.url}/pypi/default/dev/files/outward-lib/{filename}"
        got = requests.get(path, headers={"Authorization": f"Bearer {token}"}, timeout=30)
        assert got.content == body
    python = home.venv()
    home.pip_install(python, there.index(token=token), "--no-deps", "outward-lib==1.0").ok()
    assert home.run(str(python), "-c", "import outward_lib").ok()
    # again: nothing is sent, and it has succeeded
    again = here.run("out-py", "pypi", "outward-lib", "1.0")
    assert again["status"] == "Succeeded"
    assert [each["wasThere"] for each in again["published"]] == [True, True]
    assert again["outputVariables"]["FilesSent"] == "0"
    assert all(each["url"].endswith(each["filename"]) for each in again["published"])


def test_other_bytes_under_the_name_are_a_clear_failure(
    here: House, shared_server: Server, token: str, home: Clients, tmp_path: Path
) -> None:
    there = shared_server
    mine, theirs = packages.wheel("taken", "1.0"), packages.wheel("taken", "1.0", requires=["another"])
    assert mine[0] == theirs[0]
    home.twine(here.server.index(simple=False), here.token, *packages.save(tmp_path / "mine", mine)).ok()
    home.twine(there.index(simple=False), token, *packages.save(tmp_path / "theirs", theirs)).ok()
    secret = {"user": "__token__", "secret": token}
    here.destination("there-taken", "pypi", there.index(simple=False), indexUrl=there.index(), **secret)
    here.pipeline("out-taken", "pypi", "there-taken", "taken")
    done = here.run("out-taken", "pypi", "taken", "1.0")
    assert done["status"] == "Failed"
    assert f"{mine[0]} is at {there.index().rstrip('/')} already, with other bytes" in done["summary"]
    # the same without an index to look into: the upload itself is refused
    here.destination("there-taken", "pypi", there.index(simple=False), **secret)
    done = here.run("out-taken", "pypi", "taken", "1.0")
    assert (done["status"], "HTTP 4" in done["summary"]) == ("Failed", True), done["summary"]


@pytest.mark.parametrize("name", ["outward-js", "@outward/scoped"])
def test_npm_packages_go_out_and_npm_installs_them_there(
    here: House, shared_server: Server, token: str, tmp_path: Path, name: str
) -> None:
    there, body = shared_server, tarball(name, "1.0.0")
    sent = requests.put(
        f"{here.server.url}/npm/default/dev/{name.replace('/', '%2f')}",
        json=publish_document(name, "1.0.0", body),
        headers={"Authorization": f"Bearer {here.token}"},
        timeout=30,
    )
    assert sent.status_code == 201, sent.text
    here.destination("there-npm", "npm", f"{there.url}/npm/default/dev/", secret=token)
    pipeline = f"out-{name.rpartition('/')[2]}"
    here.pipeline(pipeline, "npm", "there-npm", name.removeprefix("@"), ", Tag: next")
    namespace, _, short = name.removeprefix("@").rpartition("/")
    done = here.run(pipeline, "npm", short, "1.0.0", namespace)
    assert done["status"] == "Succeeded", done["summary"]
    clients = NpmClients(tmp_path / "home", f"{there.url}/npm/default/dev/", token)
    project = tmp_path / "project"
    project.mkdir()
    (project / "package.json").write_text('{"name": "p", "version": "1.0.0"}')
    clients.npm("install", "--no-audit", f"{name}@next", cwd=project).ok()
    lock = json.loads((project / "package-lock.json").read_text())["packages"][f"node_modules/{name}"]
    got = requests.get(lock["resolved"], headers={"Authorization": f"Bearer {token}"}, timeout=30)
    assert got.content == body
    again = here.run(pipeline, "npm", short, "1.0.0", namespace)
    assert [each["wasThere"] for each in again["published"]] == [True]
    # an advisory that was brought in there is what npm's own audit tells of a name that no upstream hears of
    assert "found 0 vulnerabilities" in clients.npm("audit", cwd=project).ok().output
    package = {"package": {"ecosystem": "npm", "name": name}, "ranges": [
        {"type": "SEMVER", "events": [{"introduced": "0"}, {"fixed": "1.0.1"}]}]}  # fmt: skip
    document = {"id": f"IN-HOUSE-{short}", "modified": "2026-01-01T00:00:00Z", "summary": "leaks", "affected": [package],
                "database_specific": {"severity": "CRITICAL"}}  # fmt: skip
    House(there, token).ask("POST", "/advisories", {"documents": [document]})
    told = clients.npm("audit", cwd=project)
    assert (told.returncode, f"IN-HOUSE-{short}: leaks" in told.output) == (1, True), told.output


def test_maven_artifacts_go_out_with_their_checksums_and_metadata(
    here: House, shared_server: Server, token: str
) -> None:
    mine, there = Repository(here.server, here.token), Repository(shared_server, token)
    mine.deploy("outward", "1.0")
    here.destination("there-mvn", "maven", there.url, user="bot", secret=token)
    here.pipeline("out-mvn", "maven", "there-mvn")
    at = here.ask("GET", "/domains/default/repositories/dev/packages?format=maven")["items"][0]
    done = here.run("out-mvn", "maven", at["name"], "1.0", at["namespace"])
    assert done["status"] == "Succeeded", done["summary"]
    assert {each["filename"] for each in done["published"]} == {"1.0/outward-1.0.jar", "1.0/outward-1.0.pom"}
    folder = f"{at['namespace'].replace('.', '/')}/outward/1.0"
    for ending in ("jar", "pom"):
        path = f"{folder}/outward-1.0.{ending}"
        assert there.get(path).content == mine.get(path).content
        assert there.get(f"{path}.sha1").text == digest(mine.get(path).content)
    assert there.versions("outward", group=at["namespace"]) == ["1.0"]
    mine.deploy("outward", "1.1")
    here.run("out-mvn", "maven", at["name"], "1.1", at["namespace"])
    assert there.versions("outward", group=at["namespace"]) == ["1.0", "1.1"]
    again = here.run("out-mvn", "maven", at["name"], "1.0", at["namespace"])
    assert [each["wasThere"] for each in again["published"]] == [True, True]


# --- what goes wrong, and what must never happen


@pytest.fixture(scope="module")
def prey(here: House) -> str:
    """A package that is there to be published, and whose own event has been dealt with: what runs then was asked for."""
    here.pipeline("seen", "pypi", "nowhere", "prey")
    filename, body = packages.wheel("prey", "1.0")
    sent = requests.post(
        here.server.index(simple=False),
        data={":action": "file_upload", "protocol_version": "1", "name": "prey", "version": "1.0",
              "filetype": "bdist_wheel", "pyversion": "py3", "sha256_digest": packages.sha256(body)},
        files={"content": (filename, body)},
        headers={"Authorization": f"Bearer {here.token}"},
        timeout=30,
    )  # fmt: skip
    assert sent.status_code == 200, sent.text
    deadline = time.monotonic() + 30
    while not (found := here.ask("GET", "/pipelines/seen/executions")["items"]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    here.ended(found[0]["id"])
    return filename


def test_what_may_pass_is_tried_again_and_what_will_not_is_told(here: House, odd: Odd, prey: str) -> None:
    here.destination("odd", "pypi", f"{odd.url}/up/", user="bot", secret=SECRET)
    here.pipeline("out-odd", "pypi", "odd", "prey")
    odd.answers = [(503, {"Retry-After": "1"}, b""), (200, {}, b"")]
    done = here.run("out-odd", "pypi", "prey", "1.0")
    assert done["status"] == "Succeeded", done["summary"]
    assert [method for method, _, _ in odd.asked] == ["POST", "POST"]
    odd.answers = [(401, {}, f"bad password {SECRET} for bot".encode())]
    done = here.run("out-odd", "pypi", "prey", "1.0")
    assert done["summary"] == (
        "not published to odd: 127.0.0.1 answered HTTP 401: (what it says repeats the credential, and is not shown)"
    )
    odd.answers = [(400, {}, b"the name is reserved\r\n\x1b[31m")]
    done = here.run("out-odd", "pypi", "prey", "1.0")
    assert done["summary"] == "not published to odd: 127.0.0.1 answered HTTP 400: the name is reserved [31m"


def test_a_redirect_is_not_followed_and_no_credential_goes_anywhere_else(here: House, odd: Odd, prey: str) -> None:
    other = Odd()

    class Trap(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            other.asked.append((self.command, self.path, self.headers.get("Authorization", "")))
            self.send_error(404)

        do_POST = do_PUT = do_GET

        def log_message(self, *_: Any) -> None:
            """Nothing on the test's output."""

    trap = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Trap)
    threading.Thread(target=trap.serve_forever, daemon=True).start()
    elsewhere = f"http://localhost:{trap.server_port}/simple/"
    try:
        here.destination("odd", "pypi", f"{odd.url}/up/", user="bot", secret=SECRET)
        here.pipeline("out-odd", "pypi", "odd", "prey")
        for status in (301, 307, 308):
            odd.answers = [(status, {"Location": elsewhere}, b"")]
            done = here.run("out-odd", "pypi", "prey", "1.0")
            assert done["status"] == "Failed"
            assert f"HTTP {status}: it redirects" in done["summary"]
        assert other.asked == []
        # an index at another origin is asked, and without the credential
        here.destination("odd", "pypi", f"{odd.url}/up/", indexUrl=elsewhere, user="bot", secret=SECRET)
        odd.answers = [(200, {}, b"")]
        assert here.run("out-odd", "pypi", "prey", "1.0")["status"] == "Succeeded"
        assert [(method, sent) for method, _, sent in other.asked] == [("GET", "")]
        assert odd.asked[-1][2].startswith("Basic "), "the control: its own origin gets it"
    finally:
        trap.shutdown()
        trap.server_close()


def test_a_credential_does_not_follow_a_url_to_another_host(here: House, odd: Odd) -> None:
    here.destination("kept", "pypi", f"{odd.url}/up/", user="bot", secret=SECRET)
    moved = {"format": "pypi", "url": "https://registry.example/up/", "repositories": ["default/dev"]}
    assert "another host" in here.ask("PUT", "/destinations/kept", moved, 409)["detail"]
    assert here.destination("kept", "pypi", f"{odd.url}/elsewhere/")["hasCredential"] is True
    assert here.ask("PUT", "/destinations/kept", {**moved, "noCredential": True})["hasCredential"] is False


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"url": "http://169.254.169.254/up/"}, "forbidden address"),
        ({"url": "http://10.0.0.7/up/"}, "private address"),
        ({"url": "https://bot:pw@registry.example/"}, "user name or password"),
        ({"url": "ftp://registry.example/"}, "http"),
        ({"url": "https://registry.example/?token=1"}, "no query"),
        ({"indexUrl": "http://169.254.169.254/"}, "forbidden address"),
        ({"format": "generic"}, "not published outside"),
        ({"repositories": ["prod"]}, "default/prod"),
        ({"secret": "two\nlines"}, "one line"),
        ({"caBundle": "no certificate"}, "PEM"),
    ],
)
def test_what_cannot_be_a_destination_is_refused(here: House, change: dict[str, Any], told: str) -> None:
    body = {"format": "pypi", "url": "https://registry.example/up/", "repositories": ["default/dev"], **change}
    answer = here.ask("PUT", "/destinations/wrong", body, 400)
    assert told in json.dumps(answer)
    assert here.ask("GET", "/destinations/wrong", status=404)


def test_a_name_that_leads_inside_is_refused_when_it_is_dialled(tmp_path: Path) -> None:
    """A server without permission for this network; the control are all the tests above, whose servers have it."""
    server = Server(
        tmp_path / "data", web_processes=1, environment={"ENTREPOT_UPSTREAM_ALLOWED_NETWORKS": "192.0.2.0/24"}
    )
    server.start()
    try:
        house = House(server, server.token("admin"))
        filename, body = packages.wheel("prey", "1.0")
        form = {":action": "file_upload", "protocol_version": "1", "name": "prey", "version": "1.0",
                "filetype": "bdist_wheel", "pyversion": "py3", "sha256_digest": packages.sha256(body)}  # fmt: skip
        headers = {"Authorization": f"Bearer {house.token}"}
        place, files = server.index(simple=False), {"content": (filename, body)}
        requests.post(place, data=form, files=files, headers=headers, timeout=30).raise_for_status()
        house.destination(
            "inside", "pypi", f"http://localhost:{server.port}/pypi/default/dev/", user="a", secret=SECRET
        )
        house.pipeline("out", "pypi", "inside", "prey")
        assert (
            house.run("out", "pypi", "prey", "1.0")["summary"] == "not published to inside: localhost cannot be reached"
        )
    finally:
        server.kill()


def test_killed_while_it_sends_it_goes_on_when_it_is_there_again(
    tmp_path: Path, shared_server: Server, token: str
) -> None:
    """kill -9 between two files: what had arrived is left alone, the rest is sent, and the action ends once."""
    server = Server(tmp_path / "data", web_processes=1, environment={"ENTREPOT_WORKER_LEASE_SECONDS": "2"}).start()
    try:
        house = House(server, server.token("admin"))
        repository = Repository(server, house.token)
        repository.deploy("killed", "1.0")
        there = Repository(shared_server, token)
        gate = Gate(shared_server.port)
        house.destination(
            "gate", "maven", there.url.replace(str(shared_server.port), str(gate.port)), user="a", secret=token
        )
        house.pipeline("out", "maven", "gate")
        at = house.ask("GET", "/domains/default/repositories/dev/packages?format=maven")["items"][0]
        body = {"domain": "default", "repository": "dev", "format": "maven", "name": at["name"], "version": "1.0",
                "namespace": at["namespace"]}  # fmt: skip
        started = house.ask("POST", "/pipelines/out/executions", body, 201)["id"]
        assert gate.reached.wait(30)
        server.kill()
        gate.open()
        server.start()
        done = house.ended(started)
        assert done["status"] == "Succeeded", done["summary"]
        assert {each["filename"]: each["wasThere"] for each in done["published"]} == {
            "1.0/killed-1.0.pom": True,
            "1.0/killed-1.0.jar": False,
        }
        assert there.versions("killed", group=at["namespace"]) == ["1.0"]
    finally:
        server.kill()


def test_only_the_repositories_that_are_named_and_only_this_format(here: House, odd: Odd, prey: str) -> None:
    here.destination("narrow", "pypi", f"{odd.url}/up/", repositories=["default/prod*", "other/*"])
    here.pipeline("out-narrow", "pypi", "narrow", "prey")
    done = here.run("out-narrow", "pypi", "prey", "1.0")
    assert "destination narrow is not for default/dev" in done["summary"]
    here.destination("narrow", "npm", f"{odd.url}/up/")
    assert "takes npm, and not pypi" in here.run("out-narrow", "pypi", "prey", "1.0")["summary"]
    here.ask("DELETE", "/destinations/narrow", status=204)
    assert "destination 'narrow' was not found" in here.run("out-narrow", "pypi", "prey", "1.0")["summary"]
    assert odd.asked == []


def test_advisories_are_brought_in_shown_and_hold_a_promotion_up(here: House, prey: str, tmp_path: Path) -> None:
    """The whole way: files, the command, the page of the version, and the gate."""
    who = {"ENTREPOT_URL": here.server.url, "ENTREPOT_TOKEN": here.token}

    def advisory(number: int, *events: dict[str, str], modified: str = "2026-01-01", **more: Any) -> dict[str, Any]:
        package = {
            "package": {"ecosystem": "PyPI", "name": "Prey"},
            "ranges": [{"type": "ECOSYSTEM", "events": events}],
        }
        return {"id": f"OSV-{number}", "modified": f"{modified}T00:00:00Z", "affected": [package], **more}

    def run(*words: str) -> Any:
        done = here.server.command("advisory", *words, environment=who)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    high = {"summary": "<b>Reads</b> too far", "database_specific": {"severity": "HIGH"}}
    folder = tmp_path / "osv"
    folder.mkdir()
    (folder / "one.json").write_text(json.dumps(advisory(1, {"introduced": "0"}, {"fixed": "1.0.1"}, **high)))
    (folder / "two.json").write_text(json.dumps([advisory(2, {"introduced": "1.1"}), {**advisory(3), "affected": []}]))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(folder / "one.json", "one.json")
    counts = {"created": 2, "updated": 0, "unchanged": 0, "foreign": 1}
    assert run("import", str(folder), "--json") == counts
    assert run("import", str(tmp_path / "all.zip"), "--json") == {**counts, "created": 0, "unchanged": 1, "foreign": 0}
    (found,) = run("show", "dev", "prey", "1.0", "--json")
    assert (found["id"], found["severity"], found["fixed"]) == ("OSV-1", "high", ["1.0.1"])

    document = """
name: gated
stages:
- name: Source
  actions:
  - name: Package
    actionTypeId: {category: Source, owner: Entrepot, provider: Package}
    configuration: {Repository: dev, Format: pypi, Name: prey, SettleSeconds: "0"}
- name: Ship
  actions:
  - name: Promote
    actionTypeId: {category: Deploy, owner: Entrepot, provider: Promote}
    configuration: {TargetRepository: staging, BlockAdvisories: moderate, RequireAttestations: "Entrepot:*"}
"""
    here.ask("PUT", "/pipelines", {"document": document})
    done = here.run("gated", "pypi", "prey", "1.0")
    assert done["summary"] == (
        f"not promoted from dev to staging: attestations: none of Entrepot:* for {prey}; "
        "advisories: 1 of moderate or above: OSV-1 (high)"
    )
    # withdrawn, it holds nothing up; an older copy does not bring it back
    (folder / "one.json").write_text(
        json.dumps(advisory(1, {"introduced": "0"}, modified="2026-02-01", withdrawn="2026-02-01T00:00:00Z", **high))
    )
    assert run("import", str(folder / "one.json"), "--json")["updated"] == 1
    assert run("import", str(tmp_path / "all.zip"), "--json")["unchanged"] == 1
    assert run("show", "dev", "prey", "1.0", "--json") == []
    here.ask("PUT", "/pipelines", {"document": document.replace(', RequireAttestations: "Entrepot:*"', "")})
    assert here.run("gated", "pypi", "prey", "1.0")["status"] == "Succeeded"
    wrong = here.ask("POST", "/advisories", {"documents": [advisory(9), {"id": "no time"}]}, 400)
    assert "1 to 100 characters" in wrong["detail"]
    assert here.server.command("advisory", "delete", "OSV-9", environment=who).returncode == 1, "nothing of it was kept"


def test_an_attested_file_is_promoted_by_who_published_it(here: House) -> None:
    filename, body = packages.wheel("attested", "1.0")
    form = {":action": "file_upload", "protocol_version": "1", "name": "attested", "version": "1.0",
            "filetype": "bdist_wheel", "pyversion": "py3", "sha256_digest": packages.sha256(body),
            "attestations": json.dumps([attestation(statement(filename, body))])}  # fmt: skip
    headers = {"Authorization": f"Bearer {here.token}"}
    sent = requests.post(
        here.server.index(simple=False), data=form, files={"content": (filename, body)}, headers=headers, timeout=30
    )
    assert sent.status_code == 200, sent.text
    for publisher, status in (("Entrepot:somebody", "Failed"), ("GitHub:*", "Failed"), ("Entrepot:adm*", "Succeeded")):
        document = f"""
name: attested
stages:
- name: Source
  actions:
  - name: Package
    actionTypeId: {{category: Source, owner: Entrepot, provider: Package}}
    configuration: {{Repository: dev, Format: pypi, Name: attested, SettleSeconds: "0"}}
- name: Ship
  actions:
  - name: Promote
    actionTypeId: {{category: Deploy, owner: Entrepot, provider: Promote}}
    configuration: {{TargetRepository: prod, RequireAttestations: "{publisher}"}}
"""
        here.ask("PUT", "/pipelines", {"document": document})
        done = here.run("attested", "pypi", "attested", "1.0")
        assert done["status"] == status, done["summary"]


def test_destinations_over_the_command_line(here: House, odd: Odd) -> None:
    who = {"ENTREPOT_URL": here.server.url, "ENTREPOT_TOKEN": here.token}

    def run(*words: str, **more: str) -> str:
        done = here.server.command("destination", *words, environment=who, **more)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    place = (f"{odd.url}/up/", "--format", "npm", "--repository", "default/prod")
    assert "default/prod may publish there" in run("set", "typed", *place, "--user", "bot", input=f"{SECRET}\n")
    assert here.ask("GET", "/destinations/typed")["hasCredential"] is True
    assert "default/staging" in run("set", "typed", *place, "--repository", "default/staging")
    shown = run("list") + run("show", "typed")
    assert ("typed" in shown, SECRET in shown, here.ask("GET", "/destinations/typed")["hasCredential"]) == (
        True,
        False,
        True,
    )
    run("set", "typed", *place, "--no-credential")
    assert here.ask("GET", "/destinations/typed")["hasCredential"] is False
    run("delete", "typed")
    refused = here.server.command("destination", "set", "typed", *place, "--token", environment=who, input="")
    assert (refused.returncode, "read from stdin" in refused.stderr) == (2, True)


def test_the_credential_is_nowhere(here: House, odd: Odd, prey: str) -> None:
    """Not in answers, logs, rows, errors and pages; the control is the destination, which got it."""
    here.destination("odd", "pypi", f"{odd.url}/up/", user="bot", secret=SECRET)
    here.pipeline("out-odd", "pypi", "odd", "prey")
    odd.answers = [(500, {}, SECRET.encode())] * 2 + [(403, {}, SECRET.encode())]
    here.run("out-odd", "pypi", "prey", "1.0")
    import base64

    sent = base64.b64encode(f"bot:{SECRET}".encode()).decode()
    assert {auth for _, _, auth in odd.asked} == {f"Basic {sent}"}
    told = [here.ask("GET", path) for path in ("/destinations", "/destinations/odd", "/pipelines/out-odd/executions")]
    told += [here.ask("GET", f"/executions/{each['id']}") for each in told[-1]["items"]]
    everything = json.dumps(told).encode() + here.server.log_text().encode()
    for path in here.server.data.rglob("*"):
        if path.is_file():
            everything += path.read_bytes()
    for secret in (SECRET, sent):
        assert secret.encode() not in everything
