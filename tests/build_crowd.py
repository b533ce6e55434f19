"""Many builds at once on a real server, and what people notice of it meanwhile: for a campaign and for ``bench.builds``."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.build_bench import work_directory
from tests.harness.publishing import publish
from tests.harness.server import Server

# Ids that belong to nobody: systemd leaves these unassigned, and there are more of them than builds here.
FIRST_USER_ID, USER_IDS = 60514, 60
END_SECONDS = 600.0
WORK = """
import hashlib, os
me, lines, rounds = os.environ["CODEBUILD_BUILD_NUMBER"], int(os.environ["LINES"]), int(os.environ["ROUNDS"])
for number in range(lines):
    word = hashlib.sha256(f"{me} {number}".encode() * rounds).hexdigest()
    print(f"<{me}|{number}|{word}>", flush=number % 50 == 0)
"""
SPEC = json.dumps({"version": "0.2", "phases": {"build": {"commands": [f"python3 -c '{WORK}'"]}}})


class Builder:
    """A client of a server's builds. ``token`` may manage build projects."""

    def __init__(self, server: Server, token: str) -> None:
        self.server = server
        self.headers = {"Authorization": f"Bearer {token}"}

    def call(self, method: str, path: str, **request: Any) -> requests.Response:
        answer = requests.request(
            method, f"{self.server.url}/api/v1{path}", headers=self.headers, timeout=120, **request
        )
        answer.raise_for_status()
        return answer

    def put_project(self, name: str, buildspec: str, **more: Any) -> None:
        document = {
            "name": name,
            "repository": "dev",
            "source": {"type": "NO_SOURCE"},
            "environment": {"network": "none"},
            "buildspec": buildspec,
            **more,
        }
        self.call("PUT", f"/build-projects/{name}", json={"document": json.dumps(document)})

    def start(self, project: str, variables: Mapping[str, str] | None = None) -> str:
        asked = {
            "environmentVariablesOverride": [
                {"name": name, "value": value} for name, value in (variables or {}).items()
            ]
        }
        found = self.call("POST", f"/build-projects/{project}/builds", json=asked if variables else {}).json()
        return str(found["id"])

    def build(self, build_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"/builds/{build_id}").json()
        return found

    def log(self, build_id: str) -> str:
        return self.call("GET", f"/builds/{build_id}/log", params={"download": "1"}).text

    def ended(self, build_ids: Sequence[str], seconds: float = END_SECONDS) -> list[dict[str, Any]]:
        """The builds, once all have ended. Raises AssertionError."""
        deadline, waiting, found = time.monotonic() + seconds, list(build_ids), {}
        while waiting:
            for build_id in list(waiting):
                build = self.build(build_id)
                if build["status"] != "IN_PROGRESS":
                    found[build_id] = build
                    waiting.remove(build_id)
            assert not waiting or time.monotonic() < deadline, f"{len(waiting)} builds never ended"
            time.sleep(0.2)
        return [found[build_id] for build_id in build_ids]


def lines_of(number: int, lines: int, rounds: int) -> list[str]:
    """What build ``number`` has to print."""
    return [f"<{number}|{at}|{hashlib.sha256(f'{number} {at}'.encode() * rounds).hexdigest()}>" for at in range(lines)]


@dataclass
class Watch:
    """One kind of request, asked every ``every_seconds``: the answers' statuses and how long each took (seconds)."""

    name: str
    ask: Callable[[], int]
    every_seconds: float
    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    def run(self, until: threading.Event) -> None:
        due = time.monotonic()
        while not until.is_set():
            started = time.monotonic()
            self.statuses[self.ask()] += 1
            self.seconds.append(time.monotonic() - started)
            due = max(due + self.every_seconds, time.monotonic())
            until.wait(max(0.0, due - time.monotonic()))

    def percentile(self, share: float) -> float:
        """Milliseconds that ``share`` of the requests took at the most."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


@contextmanager
def watching(watches: Sequence[Watch]) -> Iterator[None]:
    """Ask all the time while the block runs."""
    until = threading.Event()
    threads = [threading.Thread(target=watch.run, args=(until,), daemon=True) for watch in watches]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        until.set()
        for thread in threads:
            thread.join(60)


class Bystander:
    """Somebody who reads while others build: pages of the index, files, the table of builds."""

    def __init__(self, server: Server, token: str) -> None:
        self._server = server
        self._headers = {"Authorization": f"Bearer {token}"}
        self._files: dict[str, str] = {}
        for name in ("by-one", "by-two"):
            assert publish(server, token, name).status_code == 200
        self._local = threading.local()

    def _get(self, url: str) -> int:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.trust_env = False
            self._local.session.headers.update(self._headers)
        try:
            answer = self._local.session.get(url, timeout=60)
        except requests.RequestException:
            return 0
        return int(answer.status_code)

    def watches(self) -> list[Watch]:
        index = self._server.index()
        file = f"{self._server.url}/pypi/default/dev/files/by-one/by_one-1.0-py3-none-any.whl"
        return [
            Watch("cached index page", lambda: self._get(f"{index}by-one/"), 0.05),
            Watch("file", lambda: self._get(file), 0.2),
            Watch("list of builds", lambda: self._get(f"{self._server.url}/api/v1/builds"), 0.5),
        ]


@dataclass
class Crowd:
    """What came of a crowd of builds."""

    builds: list[dict[str, Any]]
    faults: list[str]
    seconds: float
    watches: list[Watch]


def run_crowd(builder: Builder, watches: list[Watch], *, builds: int, lines: int, rounds: int) -> Crowd:
    """Start so many builds at once, look on until all have ended, and read every line of every log."""
    builder.put_project("crowd", SPEC)
    started = time.monotonic()
    with watching(watches):
        ids = [builder.start("crowd", {"LINES": str(lines), "ROUNDS": str(rounds)}) for _ in range(builds)]
        ended = builder.ended(ids)
        seconds = time.monotonic() - started
    faults = []
    for build in ended:
        # On a machine too busy for its leases an attempt may break off; then the last one's log counts.
        log = builder.log(build["id"]).rpartition(" broke off; the build starts anew\n")[2]
        said = [line for line in log.splitlines() if line.startswith("<")]
        if build["status"] != "SUCCEEDED" or said != lines_of(build["number"], lines, rounds):
            faults.append(f"build {build['number']}: {build['status']}, {len(said)} lines of {lines}")
    return Crowd(ended, faults, seconds, watches)


@contextmanager
def building_server(folder: Path, *, slots: int, **environment: str) -> Iterator[Server]:
    """A whole server that runs ``slots`` builds at a time."""
    with work_directory() as place:
        settings = {
            "ENTREPOT_BUILDS_WORKSPACE_PATH": str(place),
            "ENTREPOT_BUILDS_SLOTS": str(slots),
            "ENTREPOT_BUILDS_FIRST_USER_ID": str(FIRST_USER_ID),
            "ENTREPOT_BUILDS_USER_IDS": str(USER_IDS),
            **environment,
        }
        server = Server(folder / "data", environment=settings)
        server.start()
        try:
            yield server
        finally:
            server.stop()
