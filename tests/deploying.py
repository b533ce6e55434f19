"""What tests of deployments have in common: bundles of a few lines, and ``entrepot deploy run --local`` on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from config.cli.main import main

HEAD = "version: 0.0\nos: linux\n"
EVENTS = "DownloadBundle,Install"


def bundle(place: Path, appspec: str, files: Mapping[str, str | bytes] = {}, *, executable: bool = True) -> Path:
    """Write a bundle; scripts are what begins with ``#!``."""
    for name, content in {"appspec.yml": HEAD + appspec, **files}.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(data)
        if executable and data.startswith(b"#!"):
            path.chmod(0o755)
    return place


def tree(place: Path) -> dict[str, str]:
    """Everything below a directory: files with their text, links with their target, directories with a slash."""
    found = {}
    for path in sorted(place.rglob("*")):
        name = str(path.relative_to(place))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_dir():
            found[f"{name}/"] = ""
        else:
            found[name] = path.read_text()
    return found


@dataclass
class Machine:
    """A machine's deployments in a directory."""

    root: Path

    def arguments(self, source: Path | None, *options: object) -> list[str]:
        local = [] if source is None else ["--local", str(source)]
        return ["deploy", "run", *local, "--root", str(self.root), *map(str, options)]

    def run(self, source: Path | None, *options: object) -> Result:
        return CliRunner().invoke(main, self.arguments(source, *options))

    def deploy(self, source: Path | None, *options: object, fails: bool = False) -> dict[str, dict[str, Any]]:
        """Deploy; the events by name."""
        done = self.run(source, "--json", *options)
        assert done.exit_code == (1 if fails else 0), done.output
        told = json.loads(done.stdout)
        assert told["status"] == ("Failed" if fails else "Succeeded")
        return {event["lifecycleEventName"]: event for event in told["lifecycleEvents"]} | {"id": told["deploymentId"]}

    @contextmanager
    def started(self, source: Path | None, *options: object) -> Iterator[subprocess.Popen[str]]:
        command = [sys.executable, "-m", "config.cli.main", *self.arguments(source, "--json", *options)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            yield process

    def log(self, deployment_id: str, group: str = "default-local-deployment-group") -> str:
        return (self.root / group / deployment_id / "logs" / "scripts.log").read_text()


def said(event: Mapping[str, Any]) -> tuple[str, str]:
    """An event's status and error code."""
    return event["status"], event["diagnostics"]["errorCode"]


IS_ROOT = os.geteuid() == 0
