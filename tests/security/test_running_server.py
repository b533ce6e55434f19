"""A12, L4 on a server with four web processes: what is taken out stays away in each; no secret is written anywhere."""

import http.client
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from registry.token_shape import new_token
from tests.fakes.receiver import Receiver
from tests.harness import packages, processes
from tests.harness.server import Server
from tests.security.attack import BOUNDARY, form_fields, multipart

FILENAME, BODY = packages.wheel("demo", "1.0")
REPOSITORIES = "/api/v1/domains/default/repositories"
WEB_PROCESSES = 4


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(
        tmp_path_factory.mktemp("running") / "data",
        web_processes=WEB_PROCESSES,
        by_command=True,
        environment={
            "ENTREPOT_UPSTREAM_URLS": "pypi=http://127.0.0.1:9/simple/",
            "ENTREPOT_WEBHOOKS_ALLOWED_NETWORKS": "127.0.0.0/8",
            "ENTREPOT_WEBHOOKS_ALLOW_HTTP": "true",
        },
    ).start()
    yield running
    running.kill()


@pytest.fixture(scope="module")
def token(server: Server) -> str:
    return server.token("admin")


# --- A12 -------------------------------------------------------------------------------------------------------------


class Line:
    """A connection that one web process has taken, and keeps."""

    def __init__(self, server: Server, token: str) -> None:
        self._server, self._headers = server, {"Authorization": f"Bearer {token}"}
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        self.get("/healthz")
        assert self._connection.sock is not None
        self.process = _holder(server, self._connection.sock.getsockname()[1])

    def get(self, path: str) -> tuple[int, bytes]:
        self._connection.request("GET", path, headers=self._headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def close(self) -> None:
        self._connection.close()


def _holder(server: Server, port: int) -> int:
    """The process at the server's end of a connection, by the kernel's tables."""
    ends = f":{server.port:04X}", f":{port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inode = next(row[9] for row in rows if row[1].endswith(ends[0]) and row[2].endswith(ends[1]))
    assert server.process is not None
    for pid in processes.descendants(server.process.pid):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if entry.readlink().name == f"socket:[{inode}]":
                    return pid
            except OSError:
                continue  # closed meanwhile
    raise AssertionError("nobody holds the connection")


@pytest.fixture
def lines(server: Server, token: str) -> Iterator[list[Line]]:
    """A connection to each of the web processes."""
    found: dict[int, Line] = {}
    others = []
    deadline = time.monotonic() + 60
    while len(found) < WEB_PROCESSES:
        assert time.monotonic() < deadline, f"only {len(found)} processes answer"
        line = Line(server, token)
        if line.process in found:
            others.append(line)  # kept open: a process that is busy leaves the next one to another
        found.setdefault(line.process, line)
    yield list(found.values())
    for line in (*found.values(), *others):
        line.close()


def test_A12_what_is_taken_out_stays_away_in_every_process_whoever_reads_it_elsewhere(
    server: Server, token: str, lines: list[Line]
) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    form = multipart(form_fields(FILENAME, BODY), [("content", FILENAME.encode(), BODY)])
    sent = {**headers, "Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    assert requests.post(f"{server.url}/pypi/default/dev/", data=form, headers=sent, timeout=30).status_code == 200
    version = f"{REPOSITORIES}/dev/packages/pypi/demo/versions/1.0"
    promoted = requests.post(f"{server.url}{version}/promote", json={"target": "staging"}, headers=headers, timeout=30)
    assert promoted.status_code == 200, promoted.text
    file, page = "/pypi/default/{}/files/demo/" + FILENAME, "/pypi/default/{}/simple/demo/"

    def reads(repository: str) -> set[tuple[int, bool, int]]:
        """What each process answers for file, page and version: several times, so that what it remembers is asked."""
        return {
            (line.get(file.format(repository))[0], FILENAME.encode() in line.get(page.format(repository))[1],
             line.get(version.replace("/dev/", f"/{repository}/"))[0])
            for _ in range(2)
            for line in lines
        }  # fmt: skip

    here, gone = {(200, True, 200)}, {(404, False, 404)}
    assert (reads("dev"), reads("staging")) == (here, here), "the control: all processes have it, and remember it"
    deleted = requests.delete(f"{server.url}{version}", headers=headers, timeout=30)
    assert deleted.status_code == 204
    for _ in range(2):
        assert reads("staging") == here
        assert reads("dev") == gone
    # Other bytes under the old name do not come either, and the same ones come back only by being sent.
    other_name, other = packages.wheel("demo", "1.0", files={"demo/other.py": b"x = 1\n"})
    assert other_name == FILENAME
    form = multipart(form_fields(FILENAME, other), [("content", FILENAME.encode(), other)])
    refused = requests.post(f"{server.url}/pypi/default/dev/", data=form, headers=sent, timeout=30)
    assert refused.status_code in {400, 409}, refused.text
    assert (reads("dev"), reads("staging")) == (gone, here)


# --- L4 --------------------------------------------------------------------------------------------------------------

PASSWORD, NEXT, WRONG = "canary-password-8d1f", "canary-next-password-77c2", "canary-wrong-password-3e90"
OUTSIDE = "canary-outside-secret-51ab"


class Canaries:
    """Secrets that are used all over, and everything that anybody gets to read of it."""

    def __init__(self, server: Server, token: str, receiver: Receiver) -> None:
        self.server, self.admin, self.receiver = server, token, receiver
        self.secrets = {"token": token, "password": PASSWORD, "next": NEXT, "wrong": WRONG, "outside": OUTSIDE}
        self.shown: list[tuple[str, str]] = []

    def call(
        self, method: str, path: str, *, secret: str | None = None, once: str = "", **more: object
    ) -> requests.Response:
        """Ask the API; ``once`` names a field of the answer that shows a secret for the one time that it may."""
        headers = {"Authorization": f"Bearer {secret or self.admin}", **more.pop("headers", {})}  # type: ignore[dict-item]
        answer = requests.request(method, self.server.url + path, headers=headers, timeout=30, **more)  # type: ignore[arg-type]
        if once:
            self.secrets[f"{path} {once}"] = answer.json()[once]
        self.note(f"{method} {path}", answer, "" if not once else self.secrets[f"{path} {once}"])
        return answer

    def note(self, what: str, answer: requests.Response, but: str = "") -> None:
        text = "\n".join(
            [*(f"{name}: {value}" for name, value in answer.headers.items() if name != "Set-Cookie"), answer.text]
        )
        self.shown.append((what, text.replace(but, "") if but else text))

    def found(self, places: dict[str, str]) -> list[tuple[str, str]]:
        return [
            (where, name) for where, text in places.items() for name, secret in self.secrets.items() if secret in text
        ]


class Person:
    """A browser with its cookie."""

    def __init__(self, canaries: Canaries) -> None:
        self._canaries, self._session = canaries, requests.Session()

    def get(self, path: str) -> str:
        answer = self._session.get(self._canaries.server.url + path, headers={"Accept": "text/html"}, timeout=30)
        self._canaries.note(f"page {path}", answer)
        return answer.text

    def post(self, path: str, *, once: str = "", **data: str) -> requests.Response:
        found = re.search(r'name="csrf_token" value="([^"]+)"', self.get("/account/password"))
        data |= {"csrf_token": found[1]} if found else {}
        url = self._canaries.server.url + path
        answer = self._session.post(url, data=data, headers={"Accept": "text/html"}, timeout=30, allow_redirects=False)
        shown = re.search(once, answer.text) if once else None
        if shown is not None:
            self._canaries.secrets[f"form {path}"] = shown[0]
        self._canaries.note(f"form {path}", answer, shown[0] if shown else "")
        return answer

    @property
    def cookie(self) -> str:
        return self._session.cookies["entrepot_session"]


def act(canaries: Canaries) -> None:
    """What people, clients and scripts do with secrets, and do wrong with them."""
    call, server = canaries.call, canaries.server
    person = {"name": "eve", "actions": ["read", "publish"], "password": PASSWORD}
    assert call("POST", "/api/v1/users", json=person).status_code == 201
    made = call("POST", "/api/v1/tokens", once="secret", json={"name": "ci", "actions": ["read", "publish"]})
    assert made.status_code == 201
    secret = canaries.secrets["/api/v1/tokens secret"]
    hook = {"url": canaries.receiver.url("/ok"), "kinds": ["*"]}
    assert call("POST", "/api/v1/webhooks", once="secret", json=hook).status_code == 201
    number = call("GET", "/api/v1/webhooks").json()["items"][0]["id"]
    assert call("POST", f"/api/v1/webhooks/{number}/ping").ok
    connection = {
        "format": "pypi", "name": "vault", "url": "https://packages.example/simple/",
        "credential": {"user": "us", "password": OUTSIDE},
    }  # fmt: skip
    assert call("POST", f"{REPOSITORIES}/dev/connections", json=connection).status_code == 201
    call("GET", f"{REPOSITORIES}/dev/connections")
    # Refused: a secret has no place in an address, and is not repeated.
    asked = {**connection, "name": "two", "url": f"https://us:{OUTSIDE}@packages.example/"}
    assert call("POST", f"{REPOSITORIES}/dev/connections", json=asked).status_code == 400
    # Secrets where they do not belong.
    for path in (f"/api/v1/whoami?token={secret}", f"/npm/default/dev/{secret}", f"/pypi/default/dev/simple/{secret}/"):
        requests.get(server.url + path, timeout=30)
    call("PUT", "/generic/default/dev/leak/1.0/readme.txt", data=f"token {new_token()}".encode())
    for auth in (("eve", WRONG), ("eve", PASSWORD)):
        canaries.note("npm", requests.get(f"{server.url}/npm/default/dev/-/whoami", auth=auth, timeout=30))
    login = {"name": "eve", "password": PASSWORD, "type": "user"}
    path = "/npm/default/dev/-/user/org.couchdb.user:eve"
    answer = requests.put(server.url + path, json=login, timeout=30)
    canaries.secrets["npm login"] = answer.json()["token"]
    canaries.note(path, answer, canaries.secrets["npm login"])
    canaries.note(path, requests.put(server.url + path, json={**login, "password": WRONG}, timeout=30))
    call("POST", "/api/v1/users", json={"name": "eve2", "actions": ["nothing"], "password": WRONG})
    call("GET", "/api/v1/authorization-token", once="authorizationToken")
    _pages(canaries)


def _pages(canaries: Canaries) -> None:
    person = Person(canaries)
    assert person.post("/sign-in", user="eve", password=WRONG).status_code == 403
    assert person.post("/sign-in", user="eve", password=PASSWORD).status_code == 303
    canaries.secrets["session"] = person.cookie
    person.post("/account/password", present=WRONG, password=NEXT, again=NEXT)
    person.post("/account/prove", proof_password=WRONG)
    assert (
        "ent_"
        in person.post(
            "/account/tokens", once=r"\bent_[0-9A-Za-z]{49}\b", name="mine", actions="read", life_days="30"
        ).text
    )
    person.post("/account/second-factor/confirm", code="123456")
    for path in (
        "/",
        "/account",
        "/account/tokens",
        "/account/password",
        "/account/notifications",
        "/search?q=x",
        "/nowhere",
    ):
        person.get(path)
    person.post("/webhooks", url="https://hooks.example/x", events="*")
    person.post("/sign-out")


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with Receiver(tmp_path_factory.mktemp("receiver")) as running:
        yield running


def test_L4_no_secret_is_in_any_log_answer_page_entry_event_or_process_list(
    server: Server, token: str, receiver: Receiver
) -> None:
    canaries = Canaries(server, token, receiver)
    act(canaries)
    entries = canaries.call("GET", "/api/v1/audit", params={"limit": "200"}).json()["items"]
    assert 10 < len(entries) < 200
    processes.wait_until(lambda: len(receiver.got()) >= 2)  # the ping, and what happened since
    assert server.process is not None
    ours = [server.process.pid, *processes.descendants(server.process.pid)]
    assert len(ours) >= WEB_PROCESSES + 2
    places = {
        "log": server.log_text(),
        "audit": json.dumps(entries),
        "webhooks": "\n".join(f"{each.path} {each.headers} {each.body!r}" for each in receiver.got()),
        **{f"process {pid}": processes.command_line(pid) + _environment(pid) for pid in ours},
        **{f"{index} {what}": text for index, (what, text) in enumerate(canaries.shown)},
    }
    assert len(canaries.secrets) >= 9
    assert canaries.found(places) == []
    # The control: what does hold one is found.
    told = requests.get(
        f"{server.url}/api/v1/authorization-token", headers={"Authorization": f"Bearer {token}"}, timeout=30
    )
    canaries.secrets["last"] = told.json()["authorizationToken"]
    assert canaries.found({"answer": told.text, "log": server.log_text()}) == [("answer", "last")]


def _environment(pid: int) -> str:
    return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
