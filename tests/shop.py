"""A shop that is deployed: its bundle, the machines that it runs on, and a load balancer before them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from click.testing import CliRunner, Result

from config.cli.main import main
from hooks.deployments.traffic.runtime_api import RuntimeApi
from tests.agent_bench import Crew
from tests.build_bench import eventually
from tests.harness import packages
from tests.harness.publishing import form
from tests.harness.server import Server
from tests.machines import Network, network
from tests.routing import HAPROXY, Processes, free_port, is_listening

SETTINGS = """
[deployments.routers.edge]
type = "haproxy"
socket = "{folder}/admin.sock"
server_options = ["check", "inter", "1s"]
"""
CONFIGURATION = """
global
    stats socket {folder}/admin.sock mode 660 level admin
    hard-stop-after 5s
defaults
    mode http
    retries 0
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend web
    bind 127.0.0.1:{port}
    default_backend shop
backend shop
    balance roundrobin
"""
APPLICATION = """
import pathlib, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PARTS = [pathlib.Path(__file__).with_name(name) for name in ("version", "shelf", "till")]

class Shop(BaseHTTPRequestHandler):
    def do_GET(self):
        # What is there now, whole or not.
        body = b", ".join(part.read_bytes() for part in PARTS)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

host, port = sys.argv[1].split(":")
ThreadingHTTPServer((host, int(port)), Shop).serve_forever()
"""
APPSPEC = """\
version: 0.0
os: linux
files: [{{source: site, destination: {srv}/shop}}]
hooks:
  ApplicationStop: [{{location: scripts/stop.sh}}]
  ApplicationStart: [{{location: scripts/start.sh}}]
  ValidateService: [{{location: scripts/validate.sh, timeout: 60}}]
"""
START = """#!/bin/sh
at=$(cat {srv}/address)
sh -c 'echo $$ > {srv}/pid; exec /usr/bin/python3 -IS {srv}/shop/server.py "$1"' sh "$at" >/dev/null 2>&1 </dev/null &
"""
STOP = """#!/bin/sh
# The number may be another program's by now.
pid=$(cat {srv}/pid) && tr '\\0' ' ' < /proc/$pid/cmdline | grep -q {srv}/shop/server.py || exit 0
kill $pid
while kill -0 $pid; do sleep 0.02; done 2>/dev/null
rm {srv}/pid
"""
VALIDATE = """#!/bin/sh
until curl -s "http://$(cat {srv}/address)/" | grep -q "^$(cat {srv}/shop/version),"; do sleep 0.1; done
"""


def whole(version: str) -> str:
    """What a whole release of the shop answers."""
    return ", ".join([f"shop {version}"] * 3)


@dataclass
class Shop:
    """A server that deploys, HAProxy at ``port``, and machines in network namespaces. Commands are the documentation's.

    The shop is a package that was published here; its source distribution is the bundle.
    """

    folder: Path
    network: Network
    crew: Crew
    port: int

    def run(self, *words: str, status: int = 0) -> Result:
        environment = {"ENTREPOT_URL": self.crew.server.url, "ENTREPOT_TOKEN": self.crew.token}
        done = CliRunner(env=environment).invoke(main, list(words))
        assert done.exit_code == status, (words, done.output, done.exception, self.logs())
        return done

    def deploy(self, group: str, version: str, *words: str, status: int = 0) -> str:
        """Deploy a published version, and wait for the end; the deployment's id."""
        asset = ("--package", f"shop@{version}", "--repository", "dev", "--asset", f"shop-{version}.tar.gz")
        return self.run("deploy", "create", "shop", group, *asset, "--wait", *words, status=status).stdout.strip()

    def publish(self, version: str, *, is_broken: bool = False) -> None:
        srv = self.network.seen_at
        texts = {
            "appspec.yml": APPSPEC.format(srv=srv),
            **{f"site/{part}": f"shop {version}" for part in ("version", "shelf", "till")},
            "site/server.py": APPLICATION,
            "scripts/start.sh": START.format(srv=srv),
            "scripts/stop.sh": STOP.format(srv=srv),
            "scripts/validate.sh": "#!/bin/sh\necho it sells nothing\nexit 1\n"
            if is_broken
            else VALIDATE.format(srv=srv),
        }
        filename, body = packages.sdist("shop", version, files={name: text.encode() for name, text in texts.items()})
        fields = {**form("shop", version, body), "filetype": "sdist", "pyversion": "source"}
        server = self.crew.server
        answer = requests.post(
            server.index(simple=False),
            data=fields,
            files={"content": (filename, body)},
            headers={"Authorization": f"Bearer {self.crew.token}"},
            timeout=60,
        )
        assert answer.status_code == 200, answer.text

    def add(self, *names: str, tags: Sequence[str]) -> None:
        """Add machines, and let their agents run."""
        for name in names:
            machine = self.network.add(name)
            address = f"{machine.address}:8000"
            (machine.own / "address").write_text(address)
            options = [word for tag in tags for word in ("--tag", tag)]
            token = self.run("agent", "add", name, "--address", address, *options).stdout.strip()
            home = str(self.crew.home(name))
            done = CliRunner().invoke(
                main, ["agent", "enrol", "--url", self.crew.server.url, "--data", home, "--token", "-"], input=token
            )
            assert done.exit_code == 0, done.output
            self.crew.run(name, machine.prefix())
        eventually(lambda: all(self.crew.agent(name)["state"] == "ONLINE" for name in names))

    def group(self, name: str, document: str) -> None:
        file = self.folder / f"{name}.yml"
        file.write_text(document)
        self.run("deploy", "group", "apply", str(file), "--application", "shop", "--name", name)

    def counted(self, name: str) -> list[dict[str, str]]:
        """What HAProxy itself says of each row of its proxy ``name``."""
        said = RuntimeApi(str(self.folder / "admin.sock")).ask("show", "stat")
        rows = csv.DictReader(io.StringIO(said.removeprefix("# ")))
        return [row for row in rows if row["pxname"] == name]

    def serving(self) -> set[str]:
        """The machines that HAProxy has found well and sends requests to."""
        rows = self.counted("shop")
        return {row["svname"] for row in rows if row["svname"] != "BACKEND" and row["status"] == "UP"}

    def taken(self) -> dict[str, int]:
        """How many requests HAProxy has taken, and answered with which class of status."""
        (row,) = [each for each in self.counted("web") if each["svname"] == "FRONTEND"]
        return {name: int(row[name]) for name in ("req_tot", "hrsp_2xx", "hrsp_4xx", "hrsp_5xx")}

    def logs(self) -> str:
        return "\n".join(self.crew.log(name) for name in self.crew.agents) + self.crew.server.log_text()[-4000:]

    def close(self) -> None:
        self.crew.close()


@contextmanager
def shop(folder: Path) -> Iterator[Shop]:
    """The server with its worker, and HAProxy, as the documentation has them."""
    port, data, admin = free_port(), folder / "data", str(folder / "admin.sock")
    data.mkdir()
    (data / "entrepot.toml").write_text(SETTINGS.format(folder=folder))
    (folder / "haproxy.cfg").write_text(CONFIGURATION.format(folder=folder, port=port))
    balancer = Processes([HAPROXY, "-db", "-q", "-f", str(folder / "haproxy.cfg")], lambda: is_listening(port, admin))
    with network(folder) as machines:
        server = Server(data, web_processes=1, host=machines.address)
        balancer.start()
        try:
            server.start()
            made = Shop(folder, machines, Crew(server, folder), port)
            try:
                yield made
            finally:
                made.close()
        finally:
            server.kill()
            balancer.stop()
