"""A server that is told to end, and one whose processes are killed: what is running finishes, nothing is left behind."""

import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.harness import packages, processes
from tests.harness.processes import wait_until
from tests.harness.publishing import connect, file_url, publish, read_answer, request_head, upload_request
from tests.harness.server import ROOT, Server, free_port

LARGE_BYTES = 24 * 1024 * 1024
RECEIVE_BUFFER_BYTES = 16 * 1024

PROMOTE_ALL = """
pipeline:
  name: straight
  stages:
    - name: Source
      actions:
        - name: Package
          actionTypeId: {category: Source, owner: Entrepot, provider: Package, version: "1"}
          configuration: {Repository: dev, Format: pypi, Name: "*", SettleSeconds: "0"}
    - name: Promote
      actions:
        - name: ToProd
          actionTypeId: {category: Deploy, owner: Entrepot, provider: Promote, version: "1"}
          configuration: {TargetRepository: prod}
"""
BUILD = """
buildProject:
  name: waiting
  environment: {network: NETWORK}
  buildspec: |
    version: 0.2
    phases:
      build:
        commands:
          - COMMAND
---
pipeline:
  name: built
  stages:
    - name: Source
      actions:
        - name: Package
          actionTypeId: {category: Source, owner: Entrepot, provider: Package, version: "1"}
          configuration: {Repository: dev, Format: pypi, Name: "builds-*", SettleSeconds: "0"}
    - name: Build
      actions:
        - name: Wait
          actionTypeId: {category: Build, owner: AWS, provider: CodeBuild, version: "1"}
          configuration: {ProjectName: waiting}
"""

needs_bwrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bwrap is not installed: no builds run here")


def large_wheel(name: str) -> tuple[str, bytes]:
    return packages.wheel(name, "1.0", files={f"{name}/data.bin": os.urandom(LARGE_BYTES)})


def refuses_connections(server: Server) -> bool:
    try:
        connect(server).close()
    except ConnectionRefusedError:
        return True
    return False


def begin_download(server: Server, token: str, path: str) -> socket.socket:
    """A download by a client that reads so slowly that the server waits for it; its head has arrived."""
    connection = connect(server, receive_buffer_bytes=RECEIVE_BUFFER_BYTES)
    connection.sendall(request_head("GET", path, {"Host": "localhost", "Authorization": f"Bearer {token}"}))
    assert connection.recv(8, socket.MSG_PEEK) == b"HTTP/1.1"
    return connection


def apply(server: Server, token: str, document: str) -> None:
    answer = requests.put(
        f"{server.url}/api/v1/pipelines",
        json={"document": document},
        headers={"Authorization": f"Bearer {token}"},
        timeout=10,
    )
    assert answer.status_code < 300, answer.text


def is_promoted(server: Server, token: str, name: str, filename: str) -> bool:
    with contextlib.suppress(requests.ConnectionError):
        url = file_url(server, "prod", name, filename)
        return requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=60).status_code == 200
    return False


def builds(server: Server, token: str) -> list[dict[str, object]]:
    headers = {"Authorization": f"Bearer {token}"}
    found = requests.get(f"{server.url}/api/v1/builds", headers=headers, timeout=10).json()["items"]
    return [
        requests.get(f"{server.url}/api/v1/builds/{each['id']}", headers=headers, timeout=10).json() for each in found
    ]


def test_sigterm_waits_for_slow_uploads_and_downloads(registry_server: Server):
    server = registry_server
    token = server.token("admin")
    stored = large_wheel("stored")
    assert publish(server, token, "stored", wheel=stored).status_code == 200
    arriving = large_wheel("arriving")
    head, body = upload_request(server, token, "arriving", arriving)
    with (
        connect(server) as upload,
        begin_download(server, token, f"/pypi/default/dev/files/stored/{stored[0]}") as download,
    ):
        upload.sendall(head + body[: len(body) // 2])
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses_connections(server))
        assert server.process.poll() is None
        upload.sendall(body[len(body) // 2 :])
        assert read_answer(upload)[::2] == (200, b"arriving-1.0-py3-none-any.whl is published in default/dev\n")
        assert server.process.poll() is None  # the download is not over
        status, _, content = read_answer(download)
    assert (status, packages.sha256(content)) == (200, packages.sha256(stored[1]))
    assert server.process.wait(60) == 0
    assert "Traceback" not in server.log_text()

    server.start()
    url = file_url(server, "dev", "arriving", arriving[0])
    kept = requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=60)
    assert packages.sha256(kept.content) == packages.sha256(arriving[1])


def test_a_second_signal_ends_at_once_and_nothing_half_is_stored(registry_server: Server):
    server = registry_server
    token = server.token("admin")
    head, body = upload_request(server, token, "half", large_wheel("half"))
    with connect(server) as upload:
        upload.sendall(head + body[: len(body) // 2])
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses_connections(server))
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        with contextlib.suppress(ConnectionResetError):
            assert upload.recv(1) == b""
    wait_until(lambda: processes.running(str(server.data)) == [])
    server.start()
    page = requests.get(f"{server.index()}half/", headers={"Authorization": f"Bearer {token}"}, timeout=10)
    assert page.status_code in {404, 502}  # the upstream of this test is not there
    assert server.stop() == 0
    assert server.fsck() == ""


def test_each_process_that_is_killed_is_started_again(server: Server):
    token = server.token("admin")
    apply(server, token, PROMOTE_ALL)
    assert server.process is not None
    supervisor = server.process.pid
    gunicorn, worker = (processes.child(supervisor, marker) for marker in ("gunicorn", " worker"))
    cut: list[str] = []
    victims = [processes.descendants(gunicorn)[0], worker, gunicorn]
    for number, victim in enumerate(victims):
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda v=victim: not processes.is_alive(v))
        name = f"survivor-{number}"
        wheel = packages.wheel(name, "1.0")

        def is_published(name: str = name, wheel: tuple[str, bytes] = wheel) -> bool:
            # The socket is the supervisor's: a request may be cut with its process, but none is refused.
            try:
                return publish(server, token, name, wheel=wheel).status_code == 200
            except requests.ConnectionError as error:
                cut.append(str(error))
                return False

        wait_until(is_published)
        wait_until(lambda n=name, w=wheel: is_promoted(server, token, n, w[0]))
    assert not [text for text in cut if "refused" in text]
    assert server.process.poll() is None
    assert server.process.pid == supervisor
    wait_until(lambda: len(processes.descendants(processes.child(supervisor, "gunicorn"))) == 2)
    assert server.stop() == 0
    assert server.fsck() == ""


def test_children_of_a_killed_supervisor_end_and_the_next_start_works(server: Server):
    assert server.process is not None
    supervisor = server.process.pid
    # Gunicorn with two workers, and the job worker; the last one's probe of the sandbox comes and goes at the start.
    below = wait_until(lambda: found if len(found := processes.descendants(supervisor)) == 4 else [])
    server.process.send_signal(signal.SIGKILL)
    server.process.wait(10)
    wait_until(lambda: not any(map(processes.is_alive, below)))
    assert refuses_connections(server)
    server.start()
    assert requests.get(f"{server.url}/readyz", timeout=10).status_code == 200
    assert server.stop() == 0


def test_a_web_process_that_is_told_to_end_right_at_its_start_ends(server: Server):
    assert server.process is not None
    gunicorn = processes.child(server.process.pid, "gunicorn")
    for _ in range(4):
        known = wait_until(lambda: two if len(two := processes.children(gunicorn)) == 2 else set())
        os.kill(min(known), signal.SIGKILL)
        (new,) = wait_until(lambda k=known: processes.children(gunicorn) - k, pause_seconds=0)
        os.kill(new, signal.SIGTERM)
        wait_until(lambda n=new: not processes.is_alive(n))
    assert server.stop() == 0


def test_sigterm_in_the_middle_of_a_start_leaves_nothing(tmp_path: Path):
    server = Server(tmp_path / "data")
    command = [sys.executable, "-m", "config.cli.main", "serve", "--data", str(server.data)]
    with subprocess.Popen(
        [*command, "--bind", f"127.0.0.1:{server.port}"],
        cwd=ROOT,
        env=server.child_environment(),
        stdout=subprocess.PIPE,
    ) as starting:
        below = wait_until(lambda: processes.descendants(starting.pid))
        starting.terminate()
        assert starting.wait(60) == 0
        assert starting.stdout is not None
        assert starting.stdout.read() == b""  # it was never said to serve
    assert not any(map(processes.is_alive, below))


@contextlib.contextmanager
def building(data: Path, *, network: str, command: str, drain_seconds: int) -> Iterator[tuple[Server, str]]:
    """A server with a build that has come to its command, and a token."""
    server = Server(data, environment={"ENTREPOT_WORKER_DRAIN_SECONDS": str(drain_seconds)}).start()
    try:
        token = server.token("admin")
        apply(server, token, BUILD.replace("COMMAND", command).replace("NETWORK", network))
        assert publish(server, token, "builds-something").status_code == 200
        wait_until(lambda: [build["phase"] for build in builds(server, token)] == ["BUILD"])
        yield server, token
    finally:
        server.kill()


@needs_bwrap
def test_sigterm_ends_a_build_with_all_its_processes_and_it_is_done_again(tmp_path: Path):
    sleep = f"sleep 99{os.getpid()}"
    command = f"(trap '' TERM; setsid {sleep}) & while :; do sleep 0.1; done"
    with building(tmp_path / "data", network="none", command=command, drain_seconds=1) as (server, token):
        wait_until(lambda: processes.running(sleep))
        assert server.stop() == 0
        wait_until(lambda: processes.running(sleep) == [])
        assert server.fsck() == ""
        server.start()
        wait_until(lambda: processes.running(sleep))
        (build,) = builds(server, token)
        assert (build["status"], build["attempt"]) == ("IN_PROGRESS", 2)
        headers = {"Authorization": f"Bearer {token}"}
        requests.post(f"{server.url}/api/v1/builds/{build['id']}/stop", headers=headers, timeout=10).raise_for_status()
        wait_until(lambda: builds(server, token)[0]["status"] == "STOPPED")
        assert processes.running(sleep) == []


@needs_bwrap
def test_a_build_that_is_running_at_sigterm_still_reaches_the_registry(tmp_path: Path):
    """The web server ends after the worker: a build would fail for want of it, and that would be its result."""
    command = "until python3 -m pip download -q --no-deps -d . go-ahead; do sleep 0.2; done"
    with building(tmp_path / "data", network="registry", command=command, drain_seconds=100) as (server, token):
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "drain" in worker_states(server))
        assert publish(server, token, "go-ahead").status_code == 200
        assert server.process.wait(90) == 0
        server.start()
        (build,) = builds(server, token)
        assert (build["status"], build["attempt"]) == ("SUCCEEDED", 1), server.log_text()[-2000:]


@needs_bwrap
def test_a_worker_that_still_drains_keeps_neither_data_nor_port_of_a_killed_supervisor(tmp_path: Path):
    command = "while [ ! -e /tmp/never ]; do sleep 0.1; done"
    with building(tmp_path / "data", network="none", command=command, drain_seconds=30) as (server, _token):
        assert server.process is not None
        worker = processes.child(server.process.pid, " worker")
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(10)
        server.process = None
        server.start()
        assert processes.is_alive(worker)
        assert requests.get(f"{server.url}/readyz", timeout=10).status_code == 200
        os.kill(worker, signal.SIGKILL)


def worker_states(server: Server) -> set[str]:
    with sqlite3.connect(f"file:{server.data}/entrepot.db?mode=ro", uri=True, timeout=30) as connection:
        rows = connection.execute("select is_draining from worker_process").fetchall()
    return {"drain" if draining else "work" for (draining,) in rows}


SUPERVISE = """
import signal
import sys
from pathlib import Path
from config import serve
from config.settings import load

settings = load(Path(sys.argv[1]), server={"bind": sys.argv[2]})
listener = serve.listen(settings.server.bind)
children = [serve.web(settings, listener), serve.Child("worker", signal.pause)]
next(child for child in children if child.name == sys.argv[3]).main = lambda: sys.exit(7)
sys.exit(serve.Supervisor(settings, listener, children).run(lambda: print("announced", flush=True)))
"""


@pytest.mark.parametrize(
    ("child", "announced", "reason"),
    [
        ("web", "", "the web server could not start"),
        ("worker", "announced\n", "the worker process ended 5 times within half a minute"),
    ],
)
def test_a_child_that_cannot_start_ends_the_server(tmp_path: Path, child: str, announced: str, reason: str):
    server = Server(tmp_path / "data")
    assert server.command("migrate", "--data", str(server.data)).returncode == 0
    done = subprocess.run(
        [sys.executable, "-c", SUPERVISE, str(server.data), f"127.0.0.1:{free_port()}", child],
        cwd=ROOT,
        env=server.child_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, announced), done.stderr
    assert reason in done.stderr
    assert processes.running(str(server.data)) == []
