"""Buildbot as it is installed from the index: a master with a worker on the same machine, and one build of a command.

A change is sent to the master's hook; what is measured lasts until its API says that the build is complete. Its workers
are ordinary processes: nothing confines a build.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import requests

from bench.processes import die_with_parent, free_port, loopback_session
from bench.toolbox import PythonTool

BUILDBOT = PythonTool("buildbot", ("buildbot", "buildbot-worker", "buildbot-www"))
START_SECONDS = 90.0
_MASTER = """
from buildbot.plugins import schedulers, steps, util, worker
c = BuildmasterConfig = {{}}
c["workers"] = [worker.Worker("here", "on-loopback")]
c["protocols"] = {{"pb": {{"port": "tcp:{pb}:interface=127.0.0.1"}}}}
c["change_source"] = []
c["schedulers"] = [schedulers.AnyBranchScheduler(name="any", treeStableTimer=None, builderNames=["bench"])]
factory = util.BuildFactory([steps.ShellCommand(command={command!r})])
c["builders"] = [util.BuilderConfig(name="bench", workernames=["here"], factory=factory)]
c["www"] = {{"port": "tcp:{web}:interface=127.0.0.1", "change_hook_dialects": {{"base": True}}, "plugins": {{}}}}
c["buildbotURL"] = "http://127.0.0.1:{web}/"
c["db"] = {{"db_url": "sqlite:///state.sqlite"}}
c["buildbotNetUsageData"] = None
"""


@contextlib.contextmanager
def buildbot(folder: Path, cache: Path, command: list[str]) -> Iterator[Callable[[], float]]:
    """Master and worker; each call has ``command`` built once and gives the seconds. Raises NotInstalled."""
    BUILDBOT.install(cache)
    master, worker, pb, web = folder / "master", folder / "worker", free_port(), free_port()
    folder.mkdir(parents=True)
    program, worker_program = BUILDBOT.program(cache, "buildbot"), BUILDBOT.program(cache, "buildbot-worker")
    _run(program, "create-master", master)
    (master / "master.cfg").write_text(_MASTER.format(pb=pb, web=web, command=command))
    _run(worker_program, "create-worker", worker, f"127.0.0.1:{pb}", "here", "on-loopback")
    with contextlib.ExitStack() as stack, loopback_session() as session:
        for name, started in ((program, master), (worker_program, worker)):
            stack.enter_context(_running([str(name), "start", "--nodaemon", str(started)], folder))
        url = f"http://127.0.0.1:{web}"
        _await(lambda: bool(_ask(session, f"{url}/api/v2/workers")["workers"][0]["connected_to"]))
        counted = [0]

        def once() -> float:
            started = time.monotonic()
            change = {"author": "bench", "comments": "a change", "revision": str(counted[0])}
            session.post(f"{url}/change_hook/base", data=change, timeout=30).raise_for_status()
            counted[0] += 1
            _await(lambda: _ended(session, url) >= counted[0])
            return time.monotonic() - started

        yield once


def _ended(session: requests.Session, url: str) -> int:
    return int(_ask(session, f"{url}/api/v2/builds?complete=true")["meta"]["total"])


def _ask(session: requests.Session, url: str) -> dict[str, dict[str, object]]:
    answer: dict[str, dict[str, object]] = session.get(url, timeout=30).json()
    return answer


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(requests.RequestException, LookupError):
            if condition():
                return
        time.sleep(0.02)
    raise RuntimeError("Buildbot does not get on")


@contextlib.contextmanager
def _running(command: list[str], folder: Path) -> Iterator[None]:
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509  (as bench.processes has it)
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _run(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True, capture_output=True, timeout=120, env=dict(os.environ))
