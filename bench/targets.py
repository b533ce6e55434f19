"""What is measured: a server with its URLs, whoever made it. Peers and the bare stack are in ``bench.peers``."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from html import unescape
from pathlib import Path
from urllib.parse import urljoin

import requests

from bench.fixtures import Distribution
from bench.load import Ask, Door, Unusable, upload
from bench.processes import Running, free_port, loopback_session, running

ROOT = Path(__file__).resolve().parents[1]
HTML = "text/html"
JSON = "application/vnd.pypi.simple.v1+json"
ACCEPT = {HTML: "text/html", JSON: f"{JSON}, {HTML};q=0.01"}


@dataclass(frozen=True)
class Target:
    """One column of the tables. ``pages`` has the simple index's URL by media type; None is not offered.

    ``base`` is the repository's URL for formats without such an index, ending in a slash.
    """

    name: str
    server: Running
    pages: dict[str, str | None]
    headers: dict[str, str] = field(default_factory=dict)
    door: Door | None = None
    base: str = ""

    def page(self, project: str, media: str) -> Ask:
        """The request of an index page as pip makes it, tried once. Raises Unusable."""
        base = self.pages.get(media)
        if base is None:
            raise Unusable("not offered")
        headers = {**self.headers, "Accept": ACCEPT[media], "Accept-Encoding": "gzip, deflate"}
        ask = Ask(f"{base}{project}/", headers)
        answer = get(ask)
        if not answer.headers["Content-Type"].startswith(media):
            raise Unusable("not offered")
        return ask

    def known_page(self, project: str, media: str) -> Ask:
        """The request of a page the client has already: answered 304. Raises Unusable."""
        ask = self.page(project, media)
        tag = get(ask).headers.get("ETag")
        if tag is None:
            raise Unusable("no ETag")
        conditional = replace(ask, headers={**ask.headers, "If-None-Match": tag})
        if get(conditional).status_code != 304:
            raise Unusable("no 304")
        return conditional

    def file(self, project: str, size_bytes: int) -> Ask:
        """The request of the one file of a project, found through its page. Raises Unusable."""
        page = self.page(project, HTML)
        links = re.findall(r'href="([^"]+)"', get(page).text)
        (link,) = [link for link in links if ".whl" in link and ".metadata" not in link]
        ask = Ask(urljoin(page.url, unescape(link).partition("#")[0]), {**self.headers, "Accept-Encoding": "identity"})
        answer = get(ask)
        if len(answer.content) != size_bytes:
            raise Unusable(f"{len(answer.content)} bytes for a file of {size_bytes}")
        return ask


def get(ask: Ask) -> requests.Response:
    """One answer. Raises Unusable for an error status."""
    with loopback_session() as session:
        answer = session.get(ask.url, headers=ask.headers, timeout=60)
    if answer.status_code >= 400:
        raise Unusable(f"{answer.status_code} {answer.reason}")
    return answer


@dataclass(frozen=True)
class Entrepot:
    """A server of this checkout, as ``entrepot serve`` starts it, worker process and encryption included."""

    url: str
    server: Running
    token: str
    administrator: str

    def repository(self, package_format: str, name: str = "dev") -> str:
        """The address that a client of the format is given."""
        return f"{self.url}/{package_format}/default/{name}/" + ("simple/" if package_format == "pypi" else "")

    def targets(self, package_format: str = "pypi") -> list[Target]:
        """With a token on a private repository; and anonymous on one that strangers may read."""
        basic = base64.b64encode(f"bench:{self.token}".encode()).decode()
        door = Door(f"{self.url}/pypi/default/dev/", "__token__", self.token) if package_format == "pypi" else None
        private, public = self.repository(package_format), self.repository(package_format, "open")
        return [
            Target(
                "entrepot, token",
                self.server,
                {HTML: private, JSON: private},
                {"Authorization": f"Basic {basic}"},
                door,
                private,
            ),
            Target("entrepot, anonymous", self.server, {HTML: public, JSON: public}, base=public),
        ]


@contextmanager
def entrepot(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Entrepot]:
    """A server with its data in ``folder``, fresh or started again; ``settings`` are variables of its environment.

    ``dev`` takes the uploads; ``open`` has it as upstream and lets strangers read.
    """
    port = free_port()
    data, url = folder / "data", f"http://127.0.0.1:{port}"
    is_new = not data.exists()
    folder.mkdir(parents=True, exist_ok=True)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ENTREPOT_")}
    environment["ENTREPOT_SERVER_PUBLIC_URL"] = url  # as on any server that is more than tried out
    environment |= settings or {}
    command = [sys.executable, "-m", "config.cli.main", "serve", "--data", str(data), "--bind", f"127.0.0.1:{port}"]
    with running(command, f"{url}/readyz", folder / "log", environment=environment, cwd=ROOT) as server:
        administrator = _token(data, environment)
        if is_new:
            _open_to_strangers(url, administrator)
        yield Entrepot(url, server, _token(data, environment, "read", "publish"), administrator)


def _open_to_strangers(url: str, administrator: str) -> None:
    with loopback_session() as session:
        session.post(
            f"{url}/api/v1/domains/default/repositories",
            json={"name": "open", "upstreams": ["dev"], "anonymousRead": True},
            headers={"Authorization": f"Bearer {administrator}"},
            timeout=30,
        ).raise_for_status()


def _token(data: Path, environment: dict[str, str], *scope: str) -> str:
    command = [sys.executable, "-m", "config.cli.main", "token", "new", "--data", str(data), "--user", "admin"]
    for action in scope:
        command += ["--scope", action]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise Unusable(f"no token: {done.stderr}")
    return done.stdout.strip()


def fill(target: Target, files: list[Distribution]) -> None:
    """Upload the fixtures through the target's own door, file by file."""
    assert target.door is not None
    upload(target.door, target.server, files, writers=1)
