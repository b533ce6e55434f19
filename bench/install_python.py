"""pip, and uv beside it: one small application, and a pinned list of requirements, resolved each time."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bench import clients, proxies, toolbox
from bench.clients import SETS, Source
from bench.installs import Client, Install, Step, row
from registry.formats.pypi.default_upstream import default_upstream_url

REQUIREMENTS = SETS / "requirements.txt"
COUNT = len(REQUIREMENTS.read_text().split())
UV = Path(sys.executable).parent / "uv"
FORMAT = "pypi"


def upstream() -> str:
    return default_upstream_url(lambda _: False)


def pip(*wanted: str | Path) -> Client:
    """pip into an empty folder, without a cache."""

    def install(source: Source, _place: Path, cache: Path) -> float:
        with clients.scratch() as folder:
            quiet = {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
            command: list[str | Path] = [
                toolbox.PIP.python(cache),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-cache-dir",
                "--no-compile",
            ]
            command += ["--only-binary", ":all:", "--ignore-installed", "--target", folder / "target"]
            return clients.run([*command, "--index-url", source.address, *wanted], folder, cwd=folder, more=quiet)

    return install


def uv(source: Source, _place: Path, _cache: Path) -> float:
    """The same list by uv."""
    with clients.scratch() as folder:
        quiet = {"UV_NO_CONFIG": "1", "UV_PYTHON_DOWNLOADS": "never", "UV_SYSTEM_CERTS": "1", "UV_NO_PROGRESS": "1"}
        command: list[str | Path] = [UV, "pip", "install", "--quiet", "--no-cache", "--only-binary", ":all:"]
        command += ["--python", sys.executable, "--target", folder / "target", "--default-index", source.address]
        return clients.run([*command, "-r", REQUIREMENTS], folder, cwd=folder, more=quiet)


def _install(name: str, title: str, client: Client, warm_times: int) -> Install:
    steps = (
        Step(row(f"{name}-cold", f"{title}, cold proxy"), client),
        Step(row(f"{name}-warm", f"{title}, warm proxy"), client, warm_times),
    )
    return Install(FORMAT, (toolbox.PIP,), upstream, {"devpi": proxies.devpi, "proxpi": proxies.proxpi}, steps)


FLASK = _install("install", "pip install flask", pip("flask"), 3)
SET = _install("pyset", f"pip install, {COUNT} packages", pip("-r", REQUIREMENTS), 2)
SET_BY_UV = _install("pyset-uv", f"uv pip install, {COUNT} packages", uv, 3)
