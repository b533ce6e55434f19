#!/usr/bin/env python3
"""The grand tour's demo: a server, HAProxy, six machines and a git repository, all below one directory.

``tools/demo.py up`` sets it up, ``tools/demo.py down`` ends every program that it started and removes the directory. Nothing
is written elsewhere, and nobody has to be root. The machines are programs in mount namespaces: each has a /srv of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "docs" / "examples" / "tour"
ENTREPOT = ROOT / ".venv" / "bin" / "entrepot"
MACHINES = {
    "staging-1": "stage=staging",
    "staging-2": "stage=staging",
    "prod-1": "fleet=one",
    "prod-2": "fleet=one",
    "prod-3": "fleet=two",
    "prod-4": "fleet=two",
}
FIRST_PORT = 18080
SETTINGS = """\
[builds]
git_directories = ["{home}"]

[deployments.routers.edge]
type = "haproxy"
socket = "{home}/haproxy.sock"
server_options = ["check", "inter", "1s"]
"""
HAPROXY = """\
global
    stats socket {home}/haproxy.sock mode 600 level admin
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend web
    bind 127.0.0.1:{port}
    default_backend shop
backend shop
    balance roundrobin
"""
POST_RECEIVE = """\
#!{python}
# Tell Entrepot of each push, as a forge would: signed, by the Standard Webhooks specification.
import base64, hashlib, hmac, json, sys, time, urllib.request, uuid

for line in sys.stdin:
    before, after, reference = line.split()
    body = json.dumps({{"ref": reference, "before": before, "after": after, "actorAccountId": "dana"}})
    identifier, moment = str(uuid.uuid4()), str(int(time.time()))
    key = base64.b64decode("{secret}".removeprefix("whsec_"))
    signature = hmac.digest(key, f"{{identifier}}.{{moment}}.{{body}}".encode(), hashlib.sha256)
    request = urllib.request.Request("{url}", body.encode(), {{
        "Content-Type": "application/json", "webhook-id": identifier, "webhook-timestamp": moment,
        "webhook-signature": "v1," + base64.b64encode(signature).decode()}})
    with urllib.request.urlopen(request, timeout=30) as answer:
        print("Entrepot:", json.load(answer)["outcome"])
"""
ENVIRONMENT = """\
export PATH={bin}:$PATH ENTREPOT_URL={url} ENTREPOT_TOKEN={dana}
export ALEX={home}/alex.token SHOP=http://127.0.0.1:{shop}/
"""
TOLD = """\
{page}   Entrepot's pages
http://127.0.0.1:{shop}/   the shop, as soon as its first version is deployed

Now, as dana, who writes the shop:

  . {home}/environment && cd {home}/shop
  git push
"""


class Failed(Exception):
    """Something that the demo needs did not come to be; says what, and where to look."""


class Demo:
    """What is below ``home``; every program that was started is in ``home/pids``."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.data = home / "data"
        self.port, self.shop, *self.applications = free_ports(2 + len(MACHINES))
        self.url = f"http://127.0.0.1:{self.port}"
        self.admin = ""

    # --- programs

    def start(self, name: str, *words: str | Path) -> None:
        """Start a program that goes on; its output is in ``home/log``."""
        (self.home / "log").mkdir(exist_ok=True)
        with (self.home / "log" / name).open("ab") as log:
            started = subprocess.Popen(
                [str(word) for word in words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.home,
            )
        with (self.home / "pids").open("a") as pids:
            pids.write(f"{started.pid} {beginning_of(started.pid)}\n")

    def run(self, *words: str | Path, given: str | None = None, token: str | None = None, **more: str) -> str:
        """Run a program to its end; what it printed. Raises Failed with what it said."""
        named = {"ENTREPOT_URL": self.url, "ENTREPOT_TOKEN": token or self.admin, **more}
        done = subprocess.run(
            [str(word) for word in words],
            input=given,
            capture_output=True,
            text=True,
            env={**os.environ, **named},
            check=False,
        )
        if done.returncode != 0:
            raise Failed(f"{' '.join(str(word) for word in words)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout.strip()

    def entrepot(self, *words: str | Path, **more: str) -> str:
        """Run one of the product's own commands, as its administrator."""
        return self.run(ENTREPOT, *words, **more)

    # --- what the demo consists of

    def up(self) -> None:
        """Set everything up, and say what comes next. Raises Failed."""
        for program in ("git", "haproxy", "bwrap", "curl"):
            if shutil.which(program) is None:
                raise Failed(f"{program} is missing: install it with your system's packages")
        if self.home.exists():
            raise Failed(f"{self.home} is there already: tools/demo.py down --home {self.home}")
        closed = [path for path in self.home.parents if path.exists() and not path.stat().st_mode & 0o001]
        if os.geteuid() == 0 and closed:
            # Of root's server git and builds run as another user.
            raise Failed(f"{closed[0]} is closed to other users than root: name another place with --home")
        self.home.mkdir(parents=True)
        self.serve()
        self.declare()
        self.people()
        self.repository()
        for number, (name, tag) in enumerate(MACHINES.items()):
            self.machine(name, tag, self.applications[number])
        wait(lambda: self.entrepot("agent", "list").count("ONLINE") == len(MACHINES), "the agents do not come")
        link = self.entrepot("user", "login-link", "admin", "--data", self.data)
        page = f"{self.url}{link[link.index('/setup') :]}" if "/setup" in link else link
        print(TOLD.format(page=page, shop=self.shop, home=self.home))

    def serve(self) -> None:
        """The server with its worker, and HAProxy before the shop."""
        print("starting the server and HAProxy …")
        self.data.mkdir()
        (self.data / "entrepot.toml").write_text(SETTINGS.format(home=self.home))
        (self.home / "haproxy.cfg").write_text(HAPROXY.format(home=self.home, port=self.shop))
        self.start("haproxy", "haproxy", "-db", "-f", self.home / "haproxy.cfg")
        self.start("server", ENTREPOT, "serve", "--data", self.data, "--bind", f"127.0.0.1:{self.port}")
        wait(lambda: answers(self.port) and (self.home / "haproxy.sock").exists(), f"see {self.home}/log/server")
        self.admin = self.entrepot("token", "new", "--user", "admin", "--data", self.data)

    def declare(self) -> None:
        """Repositories, build projects, deployment groups and the pipeline, as files."""
        print("applying docs/examples/tour/server …")
        declared = self.home / "server"
        shutil.copytree(EXAMPLE / "server", declared)
        builds = declared / "builds.yml"
        builds.write_text(builds.read_text().replace("@HOME@", str(self.home)))
        self.entrepot("apply", "-f", declared, "--yes")

    def people(self) -> None:
        """Dana writes, alex answers for what goes to people."""
        may = {"dana": ("read", "publish"), "alex": ("read", "approve")}
        tokens = {}
        for name, actions in may.items():
            options = [word for action in actions for word in ("--action", action)]
            self.entrepot("user", "create", name, "--data", self.data, *options, given="")
            tokens[name] = self.entrepot("token", "new", "--user", name, "--data", self.data)
            file = self.home / f"{name}.token"
            file.touch(mode=0o600)
            file.write_text(tokens[name] + "\n")
        text = ENVIRONMENT.format(
            bin=ENTREPOT.parent, url=self.url, dana=tokens["dana"], home=self.home, shop=self.shop
        )
        (self.home / "environment").touch(mode=0o600)
        (self.home / "environment").write_text(text)

    def repository(self) -> None:
        """A repository of the shop, whose pushes are told to the build project, and a clone with a first commit."""
        print("making the git repository of the shop …")
        bare, clone = self.home / "shop.git", self.home / "shop"
        self.run("git", "init", "-q", "--bare", "-b", "main", bare)
        address, secret = self.entrepot("build", "project", "hook", "create", "shop", "--provider", "generic").split()[
            :2
        ]
        hook = bare / "hooks" / "post-receive"
        hook.touch(mode=0o700)
        hook.write_text(POST_RECEIVE.format(python=sys.executable, url=address, secret=secret))
        shutil.copytree(EXAMPLE / "shop", clone)
        shutil.copy(EXAMPLE / "currency.patch", self.home)
        git = ("git", "-C", clone, "-c", "init.defaultBranch=main")
        self.run(*git, "init", "-q")
        for key, value in {"user.name": "dana", "user.email": "dana@shop.example", "push.default": "current"}.items():
            self.run(*git, "config", key, value)
        self.run(*git, "remote", "add", "origin", bare)
        self.run(*git, "add", "-A")
        self.run(*git, "commit", "-q", "-m", "A shop")

    def machine(self, name: str, tag: str, port: int) -> None:
        """A machine: an agent that finds a directory of its own at /srv."""
        print(f"adding the machine {name} …")
        own, agent = self.home / "machines" / name, self.home / "agents" / name
        own.mkdir(parents=True)
        address = f"127.0.0.1:{port}"
        (own / "address").write_text(address)
        if tag == "stage=staging":
            (own / "currency").write_text("EUR")  # which no machine of prod has
        token = self.entrepot("agent", "add", name, "--tag", tag, "--address", address)
        words = ("agent", "enrol", "--url", self.url, "--data", agent, "--token", "-")
        self.entrepot(*words, given=token.splitlines()[0])
        program = (ENTREPOT, "agent", "run", "--data", agent)
        self.start(name, "bwrap", "--dev-bind", "/", "/", "--bind", own, "/srv", "--chdir", "/srv", *program)


def down(home: Path) -> None:
    """End what ``up`` has started below ``home``, and the shops that agents have started; remove it."""
    ended = []
    for line in read(home / "pids").splitlines():
        pid, began = line.split()
        # The number may be another program's by now: ours has begun when it is written. Each is a session of its own.
        if beginning_of(int(pid)) == began:
            ended += [int(pid), *(each for each in processes() if session_of(each) == int(pid) != each)]
    shops = (read(file).strip() for file in home.glob("machines/*/pid"))
    ended += [int(pid) for pid in shops if pid and is_shop(int(pid), home)]
    for each in dict.fromkeys(ended):
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGTERM)
    wait(lambda: not any(beginning_of(pid) for pid in ended), f"{ended} do not end")
    shutil.rmtree(home)
    print(f"{len(ended)} processes were ended, {home} was removed")


def processes() -> list[int]:
    """The numbers of all processes."""
    return [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]


def session_of(pid: int) -> int:
    """The session that a process belongs to (proc(5), field 6); 0 when there is none."""
    fields = read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return int(fields[3]) if fields else 0


def is_shop(pid: int, home: Path) -> bool:
    """Whether a process is a shop that serves at the address of one of this demo's machines."""
    words = read(Path(f"/proc/{pid}/cmdline")).split("\0")
    return words[1:3] == ["-m", "shop"] and words[3] in {read(file) for file in home.glob("machines/*/address")}


def beginning_of(pid: int) -> str:
    """When a process began, in ticks since the machine did (proc(5), field 22); "" when there is none, or it has ended."""
    fields = read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return fields[19] if fields and fields[0] != "Z" else ""


def read(file: Path) -> str:
    """A file's text; "" if it is not there."""
    try:
        return file.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def free_ports(count: int) -> list[int]:
    """So many free ports of the loopback."""
    found: list[int] = []
    port = FIRST_PORT
    while len(found) < count:
        if not answers(port):
            found.append(port)
        port += 1
    return found


def answers(port: int) -> bool:
    """Whether somebody listens at a port."""
    with socket.socket() as asking:
        asking.settimeout(2)
        return asking.connect_ex(("127.0.0.1", port)) == 0


def wait(condition: Callable[[], object], told: str) -> None:
    """Wait until it is true; after a minute Failed."""
    end = time.monotonic() + 60
    while not condition():
        if time.monotonic() > end:
            raise Failed(told)
        time.sleep(0.2)


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=["up", "down"])
    parser.add_argument("--home", type=Path, default=ROOT / ".demo", help="the demo's directory (.demo)")
    given = parser.parse_args()
    home = given.home.resolve()
    try:
        if given.what == "down":
            down(home)
        else:
            Demo(home).up()
    except Failed as failed:
        print(f"the demo: {failed}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
