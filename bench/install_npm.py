"""npm: the project of ``sets/package.json``, some 300 packages in its tree."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from bench import clients, proxies, toolbox
from bench.clients import SETS, Source
from bench.installs import Install, Step, row
from bench.load import Unusable
from registry.formats.npm.default_upstream import default_upstream_url

PROJECT = SETS / "package.json"
LOCK = "package-lock.json"
FORMAT = "npm"


def upstream() -> str:
    return default_upstream_url(lambda _: False)


def install(source: Source, place: Path, _cache: Path) -> float:
    """``npm install`` without a lock; the lock it makes is left in ``place``."""
    with clients.scratch() as folder:
        elapsed = _npm("install", source, folder)
        shutil.copy(folder / "project" / LOCK, place / LOCK)
        return elapsed


def clean_install(source: Source, place: Path, _cache: Path) -> float:
    """``npm ci`` with the lock that an earlier install from the same source has made."""
    with clients.scratch() as folder:
        if not (place / LOCK).exists():
            raise Unusable("no lock: npm install failed")
        (folder / "project").mkdir()
        shutil.copy(place / LOCK, folder / "project" / LOCK)
        return _npm("ci", source, folder)


def _npm(verb: str, source: Source, folder: Path) -> float:
    project = folder / "project"
    project.mkdir(exist_ok=True)
    shutil.copy(PROJECT, project)
    (folder / ".npmrc").write_text(npmrc(source))
    command: list[str | Path] = [
        "npm",
        verb,
        "--cache",
        folder / "cache",
        "--no-audit",
        "--no-fund",
        "--no-update-notifier",
    ]
    more = {"npm_config_userconfig": str(folder / ".npmrc"), "npm_config_globalconfig": str(folder / "none")}
    return clients.run([*command, "--ignore-scripts", "--loglevel=error"], folder, cwd=project, more=more)


def npmrc(source: Source) -> str:
    """npm's configuration: the registry, and the credential under its exact path. Without a user, a bearer token."""
    parts = urlsplit(source.url)
    place = f"//{parts.netloc}{parts.path}"
    lines = [f"registry={source.url}"]
    if source.server is not None and source.password:
        lines.append(f"{place}:_authToken={source.password}")
    elif source.password:
        pair = base64.b64encode(f"{source.user}:{source.password}".encode()).decode()
        lines.append(f"{place}:_auth={pair}" if source.user else f"{place}:_authToken={source.password}")
    return "\n".join(lines) + "\n"


SET = Install(
    FORMAT,
    (toolbox.NODE, toolbox.NPM),
    upstream,
    {"verdaccio": proxies.verdaccio},
    (
        Step(row("npmset-cold", "npm install, 300 packages, cold proxy"), install),
        Step(row("npmset-warm", "npm install, 300 packages, warm proxy"), install, 2),
        Step(row("npmset-ci", "npm ci, 300 packages, warm proxy"), clean_install, 2),
    ),
)
