"""A shop that is deployed: its bundle, the machines that it runs on, and a load balancer before them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner, Result

from config.cli.main import main
from hooks.deployments.traffic.routers.haproxy import HaproxyRouter
from hooks.deployments.traffic.runtime_api import RuntimeApi
from tests.agent_bench import Crew
from tests.build_bench import eventually
from tests.harness.server import Server
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

VERSION = pathlib.Path(__file__).with_name("version").read_text()

class Shop(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(VERSION)))
        self.end_headers()
        self.wfile.write(VERSION.encode())

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
START = """#!/bin/sh -e
/usr/bin/python3 -IS {srv}/shop/server.py "$(cat {srv}/address)" >/dev/null 2>&1 </dev/null &
echo $! > {srv}/pid
"""
STOP = """#!/bin/sh
kill "$(cat {srv}/pid)" || true
"""
VALIDATE = """#!/bin/sh
until test "$(curl -s http://$(cat {srv}/address)/)" = "$(cat {srv}/shop/version)"; do sleep 0.1; done
"""


@dataclass
class Shop:
    """A server that deploys, HAProxy at ``port``, and machines. Commands are those of the documentation.

    A machine is an agent's process with a directory ``srv`` of its own at a path that all of them have.
    """

    folder: Path
    crew: Crew
    port: int

    def run(self, *words: str, status: int = 0) -> Result:
        environment = {"ENTREPOT_URL": self.crew.server.url, "ENTREPOT_TOKEN": self.crew.token}
        done = CliRunner(env=environment).invoke(main, list(words))
        assert done.exit_code == status, (words, done.output, done.exception, self.logs())
        return done

    def deploy(self, group: str, bundle: Path, *words: str, status: int = 0) -> str:
        """Deploy, and wait for the end; the deployment's id."""
        return self.run(
            "deploy", "create", "shop", group, "--bundle", str(bundle), "--wait", *words, status=status
        ).stdout.strip()

    def bundle(self, version: str, *, is_broken: bool = False) -> Path:
        place, srv = self.folder / f"release-{version}", self.folder / "srv"
        files = {
            "appspec.yml": APPSPEC.format(srv=srv),
            "site/version": f"shop {version}",
            "site/server.py": APPLICATION,
            "scripts/start.sh": START.format(srv=srv),
            "scripts/stop.sh": STOP.format(srv=srv),
            "scripts/validate.sh": "#!/bin/sh\necho it sells nothing\nexit 1\n"
            if is_broken
            else VALIDATE.format(srv=srv),
        }
        for name, text in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(text)
        return place

    def own(self, name: str) -> Path:
        return self.folder / f"srv-of-{name}"

    def add(self, *names: str, tags: Sequence[str]) -> None:
        """Add machines, and let their agents run."""
        for name in names:
            address = f"127.0.0.1:{free_port()}"
            self.own(name).mkdir()
            (self.own(name) / "address").write_text(address)
            options = [word for tag in tags for word in ("--tag", tag)]
            token = self.run("agent", "add", name, "--address", address, *options).stdout.strip()
            done = self.crew.enrol(name, token)
            assert done.returncode == 0, done.stderr
            own = ("bwrap", "--die-with-parent", "--dev-bind", "/", "/", "--bind", str(self.own(name)), str(self.srv))
            self.crew.run(name, prefix=own)
        eventually(lambda: all(self.crew.agent(name)["state"] == "ONLINE" for name in names))

    @property
    def srv(self) -> Path:
        return self.folder / "srv"

    def group(self, name: str, document: str) -> None:
        file = self.folder / f"{name}.yml"
        file.write_text(document)
        self.run("deploy", "group", "apply", str(file), "--application", "shop", "--name", name)

    def serving(self) -> set[str]:
        """The machines that HAProxy sends requests to."""
        members = HaproxyRouter(RuntimeApi(str(self.folder / "admin.sock")), listeners={}).members("shop")
        return {member.name for member in members if not member.is_drained and member.is_healthy is not False}

    def logs(self) -> str:
        return "\n".join(self.crew.log(name) for name in self.crew.agents) + self.crew.server.log_text()[-4000:]

    def close(self) -> None:
        self.crew.close()
        for name in self.crew.agents:
            with contextlib.suppress(OSError):
                os.kill(int((self.own(name) / "pid").read_text()), signal.SIGTERM)


@contextmanager
def shop(folder: Path) -> Iterator[Shop]:
    """The server with its worker, and HAProxy, as the documentation has them."""
    port, data, admin = free_port(), folder / "data", str(folder / "admin.sock")
    (folder / "srv").mkdir()
    data.mkdir()
    (data / "entrepot.toml").write_text(SETTINGS.format(folder=folder))
    server = Server(data, web_processes=1)
    (folder / "haproxy.cfg").write_text(CONFIGURATION.format(folder=folder, port=port))
    balancer = Processes([HAPROXY, "-db", "-q", "-f", str(folder / "haproxy.cfg")], lambda: is_listening(port, admin))
    balancer.start()
    try:
        server.start()
        made = Shop(folder, Crew(server, folder), port)
        try:
            yield made
        finally:
            made.close()
    finally:
        server.kill()
        balancer.stop()
