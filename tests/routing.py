"""Routers as processes on loopback, targets behind them, and a client that asks all the time."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from hooks.deployments.traffic.nginx_process import NginxProcess
from hooks.deployments.traffic.router import Member, TrafficRouter
from hooks.deployments.traffic.routers.haproxy import HaproxyRouter
from hooks.deployments.traffic.routers.nginx import NginxRouter
from hooks.deployments.traffic.routers.record import RecordRouter
from hooks.deployments.traffic.runtime_api import RuntimeApi

HAPROXY = shutil.which("haproxy") or "/usr/sbin/haproxy"
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """What the condition says once it is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come to be in time"
        time.sleep(0.01)
    return found


class Target:
    """An application: says its name; at ``/slow`` not before ``let_go`` was called."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.slow = threading.Semaphore(0)
        self._go = threading.Event()
        target = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/slow":
                    target.slow.release()
                    target._go.wait(20)
                body = target.name.encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        class Server(ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.member = Member(name, f"127.0.0.1:{self._server.server_address[1]}")
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def let_go(self) -> None:
        self._go.set()

    def close(self) -> None:
        self._go.set()
        self._server.shutdown()
        self._server.server_close()


def ask(port: int, path: str = "/") -> str:
    """One request on a connection of its own: who answered. Raises for anything but 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        body = answer.read().decode()
    finally:
        connection.close()
    if answer.status != 200:
        raise ConnectionError(f"HTTP {answer.status}")
    return body


@dataclass
class Load:
    """Requests without a pause, until it is closed."""

    port: int
    clients: int = 3
    failures: list[str] = field(default_factory=list)
    _answers: list[tuple[float, str]] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=self._run) for _ in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            begun = time.monotonic()
            try:
                self._answers.append((begun, ask(self.port)))
            except Exception as failure:
                self.failures.append(repr(failure))
            # A hundred a second from all of them show a gap as well as two thousand, for a twentieth of the work.
            time.sleep(0.03)

    def next(self, count: int = 12) -> Counter[str]:
        """Who answered the next ``count`` requests: those that begin now, whatever is still on its way."""
        now = time.monotonic()
        until(lambda: self._since(now).total() >= count)
        return self._since(now)

    @property
    def answered(self) -> Counter[str]:
        """Who answered how many."""
        return self._since(0.0)

    def _since(self, moment: float) -> Counter[str]:
        return Counter(name for begun, name in self._answers if begun >= moment)


@dataclass
class Subject:
    """A router, and how it is run. ``port`` is where its listener is; 0: nothing listens."""

    router: TrafficRouter
    folder: Path
    port: int
    start: Callable[[], None]
    stop: Callable[[], None]
    shows_sessions: bool

    def restart(self) -> None:
        self.stop()
        self.start()


@contextmanager
def record(folder: Path) -> Iterator[Subject]:
    file = folder / "record.json"
    router = RecordRouter(str(file), pools=["blue", "green"], listeners={"web": ["blue", "green"]})
    hidden = folder / "hidden"

    def stop() -> None:
        if file.exists():
            file.rename(hidden)
        file.write_text('{"unreachable": true}')

    def start() -> None:
        file.unlink(missing_ok=True)
        if hidden.exists():
            hidden.rename(file)

    yield Subject(router, folder, 0, start, stop, shows_sessions=False)


HAPROXY_CONFIGURATION = """
global
    stats socket {folder}/admin.sock level admin
    {state}
    hard-stop-after 5s
defaults
    mode http
    retries 0
    timeout connect 2s
    timeout client 20s
    timeout server 20s
    timeout queue 2s
    {load_state}
frontend web
    bind 127.0.0.1:{port}
    http-request set-var(txn.green) str(green),map_str_int({folder}/web.map,0)
    http-request set-var(txn.dice) rand(100)
    use_backend green if {{ var(txn.dice),sub(txn.green) lt 0 }}
    default_backend blue
backend blue
    balance roundrobin
    {slots}
backend green
    balance roundrobin
"""


class Processes:
    """A program that is started, stopped and started again."""

    def __init__(self, command: list[str], is_up: Callable[[], bool]) -> None:
        self._command = command
        self._is_up = is_up
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._is_up)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _listens_at(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


@contextmanager
def haproxy(folder: Path, *, slots: str = "", keeps_state: bool = False, **options: Any) -> Iterator[Subject]:
    port, state = free_port(), folder / "state"
    configuration = folder / "haproxy.cfg"
    configuration.write_text(
        HAPROXY_CONFIGURATION.format(
            folder=folder,
            port=port,
            slots=slots,
            state=f"server-state-file {state}" if keeps_state else "",
            load_state="load-server-state-from-file global" if keeps_state else "",
        )
    )
    (folder / "web.map").write_text("blue 100\ngreen 0\n")
    router = HaproxyRouter(
        RuntimeApi(str(folder / "admin.sock")),
        listeners={"web": str(folder / "web.map")},
        state_file=str(state) if keeps_state else "",
        **options,
    )
    admin = str(folder / "admin.sock")
    running = Processes([HAPROXY, "-db", "-q", "-f", str(configuration)], lambda: _listens(port) and _listens_at(admin))
    running.start()
    try:
        yield Subject(router, folder, port, running.start, running.stop, shows_sessions=True)
    finally:
        running.stop()


NGINX_CONFIGURATION = """
pid {folder}/nginx.pid;
error_log {folder}/error.log;
{user}
worker_processes 2;
events {{ worker_connections 256; }}
http {{
    access_log off;
    proxy_next_upstream off;
    proxy_temp_path {folder}/proxy; client_body_temp_path {folder}/body;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    include {folder}/entrepot.conf;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://$entrepot_web; }}
    }}
}}
"""


@contextmanager
def nginx(folder: Path) -> Iterator[Subject]:
    port = free_port()
    configuration = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    configuration.write_text(NGINX_CONFIGURATION.format(folder=folder, port=port, user=user))
    command = [NGINX, "-c", str(configuration), "-p", str(folder), "-e", str(folder / "error.log")]
    process = NginxProcess(pid_file=str(folder / "nginx.pid"), test=[*command, "-t", "-q"])
    router = NginxRouter(
        process,
        file=str(folder / "entrepot.conf"),
        pools=["blue", "green"],
        listeners={"web": ["blue", "green"]},
    )
    router.prepare()
    running = Processes([*command, "-g", "daemon off;"], lambda: _listens(port))
    running.start()
    try:
        yield Subject(router, folder, port, running.start, running.stop, shows_sessions=False)
    finally:
        running.stop()


ROUTERS = {"record": record, "haproxy": haproxy, "nginx": nginx}
