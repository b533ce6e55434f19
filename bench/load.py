"""Load: wrk for reading, requests and twine for writing. Each gives requests per second and the server's CPU time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import requests

from bench.fixtures import MIB, Distribution
from bench.processes import CouldNotStart, Running, loopback_session

TWINE = Path(sys.executable).parent / "twine"


class Unusable(Exception):
    """A server did not do what a workload asks of it; its cell says so."""


# What a server, or a client at it, can do wrong without that the rest could not be measured. Those of requests are OSErrors.
FAULTS = (Unusable, CouldNotStart, OSError, subprocess.SubprocessError)


@dataclass(frozen=True)
class Ask:
    """One GET request."""

    url: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Door:
    """Where and as whom files are uploaded."""

    url: str
    user: str = "bench"
    password: str = "bench"


@dataclass(frozen=True)
class Sample:
    """One measurement. ``value`` is in the workload's unit; CPU per request is the server's, of all its processes.

    Of an install, the request is the whole of it; ``client_cpu_seconds`` is what the client itself has used.
    """

    value: float
    cpu_us_per_request: float | None = None
    resident_mib: float | None = None
    client_cpu_seconds: float | None = None

    def as_json(self) -> dict[str, float | None]:
        return asdict(self)


def wrk(ask: Ask, server: Running, *, seconds: int, connections: int, as_mb_per_second: bool) -> Sample:
    """Load one URL. Raises Unusable when answers fail."""
    command = ["wrk", f"-t{min(2, connections)}", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s"]
    for name, value in ask.headers.items():
        command += ["-H", f"{name}: {value}"]
    before = server.usage()
    done = subprocess.run([*command, ask.url], capture_output=True, text=True, timeout=seconds + 60, check=False)
    after = server.usage()
    text = done.stdout
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    total = re.search(r"(\d+) requests in ", text)
    if done.returncode != 0 or failed or not total:
        raise Unusable(f"wrk: {failed.group(0) if failed else done.stderr.strip() or text.strip()}")
    count = int(total.group(1))
    if count == 0:
        raise Unusable(f"wrk: no answer was whole within {seconds} s")
    rate = _figure(text, r"Transfer/sec:\s+([\d.]+)([KMGT]?)B") / 1e6 if as_mb_per_second else _rate(text)
    cpu = (after.cpu_seconds - before.cpu_seconds) / count * 1e6
    return Sample(rate, cpu, after.resident_bytes / MIB)


def _rate(text: str) -> float:
    return _figure(text, r"Requests/sec:\s+([\d.]+)()")


def _figure(text: str, pattern: str) -> float:
    match = re.search(pattern, text)
    if match is None:
        raise Unusable(f"wrk printed no figure: {text.strip()}")
    return float(match.group(1)) * 1024.0 ** " KMGT".index(match.group(2) or " ")


def measured(server: Running, count: int, act: Callable[[], None]) -> Sample:
    """``act`` does ``count`` requests; gives requests per second."""
    before, start = server.usage(), time.perf_counter()
    act()
    elapsed = time.perf_counter() - start
    after = server.usage()
    cpu = (after.cpu_seconds - before.cpu_seconds) / count * 1e6
    return Sample(count / elapsed, cpu, after.resident_bytes / MIB)


def upload(door: Door, server: Running, files: list[Distribution], *, writers: int) -> Sample:
    """Multipart uploads as twine sends them, encoded beforehand so that the client's work does not count."""
    prepared = [_prepare(door, file) for file in files]
    local = threading.local()

    def send(request: requests.PreparedRequest) -> None:
        if not hasattr(local, "session"):
            local.session = loopback_session()
        answer = local.session.send(request, timeout=120)
        if answer.status_code not in {200, 201}:
            raise Unusable(f"upload: {answer.status_code} {answer.reason}: {answer.text[:200]}")

    def act() -> None:
        with ThreadPoolExecutor(writers) as pool:
            _exhaust(pool.map(send, prepared))

    return measured(server, len(files), act)


def _prepare(door: Door, file: Distribution) -> requests.PreparedRequest:
    content = {"content": (file.filename, file.body, "application/octet-stream")}
    auth = (door.user, door.password)
    return requests.Request("POST", door.url, data=file.form(), files=content, auth=auth).prepare()


def _exhaust(items: Iterable[None]) -> None:
    for _ in items:
        pass


def twine(door: Door, server: Running, files: list[Distribution]) -> Sample:
    """One run of twine with several files, its start included."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / file.filename for file in files]
        for path, file in zip(paths, files, strict=True):
            path.write_bytes(file.body)
        kept = {key: value for key, value in os.environ.items() if key in {"PATH", "LANG", "LC_ALL", "TMPDIR"}}
        environment = {
            **kept,
            "HOME": folder,
            "TWINE_USERNAME": door.user,
            "TWINE_PASSWORD": door.password,
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
        }
        command = [str(TWINE), "upload", "--non-interactive", "--disable-progress-bar", "--repository-url", door.url]

        def act() -> None:
            done = subprocess.run(
                [*command, *map(str, paths)], env=environment, capture_output=True, text=True, timeout=300, check=False
            )
            if done.returncode != 0:
                raise Unusable(f"twine: {(done.stdout + done.stderr)[-300:]}")

        return measured(server, len(files), act)
