"""Programs that are measured or measure, installed once into the cache folder from the machine's own indexes.

Each has a folder of its own, so that one that cannot be had keeps none of the others away; remove the folder to get a
newer one.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

INSTALL_SECONDS = 900
VERDACCIO_NODE = 22
_DONE = ".installed"
_NODE_PLATFORMS = {"x86_64": "x64", "aarch64": "arm64"}


class NotInstalled(Exception):
    """A program could not be had; the message is the installer's last word."""


@dataclass(frozen=True)
class PythonTool:
    """Distributions in a virtual environment; ``requirements[0]`` is the one that is named."""

    name: str
    requirements: tuple[str, ...]

    def python(self, cache: Path) -> Path:
        return cache / self.name / "bin" / "python"

    def program(self, cache: Path, name: str) -> Path:
        return cache / self.name / "bin" / name

    def is_installed(self, cache: Path) -> bool:
        return (cache / self.name / _DONE).exists()

    def install(self, cache: Path) -> None:
        """Install it unless it is there. Raises NotInstalled."""
        if not self.is_installed(cache):
            shutil.rmtree(cache / self.name, ignore_errors=True)
            _run([sys.executable, "-m", "venv", cache / self.name])
            pip: list[str | Path] = [
                self.python(cache),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--upgrade",
            ]
            _run([*pip, *self.requirements])
            (cache / self.name / _DONE).touch()

    def version(self, cache: Path) -> str:
        script = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))"
        return _run([self.python(cache), "-c", script, self.name]).strip()


@dataclass(frozen=True)
class NodeTool:
    """A package of npm, and the node that runs it: the machine's, or one from npm where that is too old."""

    name: str
    least_node: int
    overrides: Mapping[str, str] = field(default_factory=dict)

    def command(self, cache: Path) -> list[str | Path]:
        folder = cache / self.name
        own = self._own_node(folder)
        package = folder / "node_modules" / self.name
        programs = json.loads((package / "package.json").read_text())["bin"]
        program = programs if isinstance(programs, str) else programs[self.name]
        return [own if own.exists() else "node", package / program]

    def _own_node(self, folder: Path) -> Path:
        return folder / "node_modules" / f"node-linux-{_platform()}" / "bin" / "node"

    def is_installed(self, cache: Path) -> bool:
        return (cache / self.name / _DONE).exists()

    def install(self, cache: Path) -> None:
        """Install it unless it is there. Raises NotInstalled."""
        folder = cache / self.name
        if not self.is_installed(cache):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            (folder / "package.json").write_text(json.dumps({"overrides": self.overrides}))
            npm = ["npm", "install", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
            npm.append("--ignore-scripts")
            if self._is_node_too_old():
                # First, and by itself: npm takes the newest release that suits the node it runs on.
                _run([*npm, f"node-linux-{_platform()}@{self.least_node}"], folder)
            path = f"{self._own_node(folder).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
            _run([*npm, self.name], folder, environment={**os.environ, "PATH": path})
            (folder / _DONE).touch()

    def _is_node_too_old(self) -> bool:
        found = _run(["node", "--version"]).strip().removeprefix("v").partition(".")[0]
        return int(found) < self.least_node

    def version(self, cache: Path) -> str:
        manifest = json.loads((cache / self.name / "node_modules" / self.name / "package.json").read_text())
        return f"{manifest['version']} on node {_run([self.command(cache)[0], '--version']).strip().removeprefix('v')}"


@dataclass(frozen=True)
class SystemTool:
    """A program of Debian's packages."""

    name: str
    package: str
    version_flag: str

    def is_installed(self, _cache: Path) -> bool:
        return shutil.which(self.name) is not None

    def install(self, cache: Path) -> None:
        """Install it unless it is there. Raises NotInstalled."""
        if self.is_installed(cache):
            return
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise NotInstalled(f"please install {self.package}")
        # Runlevel 1 keeps the package from starting a web server of its own on port 80.
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        _run(["apt-get", "update", "-qq"], environment=environment)
        _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", self.package], environment=environment)

    def version(self, _cache: Path) -> str:
        # Some say it on the other stream, and wrk with an exit status of 1.
        done = subprocess.run(
            [self.name, self.version_flag],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
        return found.group() if found else "?"


def _platform() -> str:
    return _NODE_PLATFORMS.get(platform.machine(), platform.machine())


def _run(
    command: Sequence[str | Path], cwd: Path | None = None, *, environment: Mapping[str, str] | None = None
) -> str:
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(str(error)) from error
    if done.returncode != 0:
        raise NotInstalled((done.stderr or done.stdout).strip()[-500:])
    return done.stdout


Tool = PythonTool | NodeTool | SystemTool
_GUNICORN = f"gunicorn=={version('gunicorn')}"
WRK = SystemTool("wrk", "wrk", "--version")
NGINX = SystemTool("nginx", "nginx-light", "-v")
NODE, NPM = SystemTool("node", "nodejs", "--version"), SystemTool("npm", "npm", "--version")
MAVEN = SystemTool("mvn", "maven", "--version")
PIP = PythonTool("pip", ("pip",))
PYPISERVER = PythonTool("pypiserver", ("pypiserver[cache,passlib]", _GUNICORN))
DEVPI = PythonTool("devpi-server", ("devpi-server",))
PROXPI = PythonTool("proxpi", ("proxpi", _GUNICORN))
# It asks for a tag of node-fetch, which mirrors that carry versions only do not have.
VERDACCIO = NodeTool("verdaccio", VERDACCIO_NODE, {"node-fetch": "2"})
