"""``entrepot runner``: a runner's own commands, beside those that manage runners on the server."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from registry.commands.client import Failed
from registry.commands.options import example
from registry.commands.output import json_option, print_json, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from config.settings import Settings
    from hooks.builds.executor import Executor
    from hooks.builds.remote.work import Bench

IDENTITY_FILE = "runner.json"
_data = click.option(
    "--data",
    required=True,
    envvar="ENTREPOT_RUNNER_DATA",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="The runner's own directory: its identity, entrepot.toml if any, workspaces [ENTREPOT_RUNNER_DATA].",
)
_authorities = click.option(
    "--ca-bundle",
    type=click.Path(dir_okay=False),
    envvar="REQUESTS_CA_BUNDLE",
    help="Authorities of the server's certificate.",
)


@example("entrepot runner register --url https://packages.example.com --data /var/lib/entrepot-runner --token -")
@click.command()
@click.option("--url", required=True, envvar="ENTREPOT_URL", metavar="URL", help="The server's address [ENTREPOT_URL].")
@_data
@click.option(
    "--token",
    required=True,
    envvar="ENTREPOT_REGISTRATION_TOKEN",
    metavar="TOKEN",
    help="What `entrepot runner add` has printed; - reads it from stdin [ENTREPOT_REGISTRATION_TOKEN].",
)
@_authorities
@json_option
def register(url: str, data: Path, token: str, ca_bundle: str | None, *, as_json: bool) -> None:
    """Register this machine's runner, once: its identity goes into DIR/runner.json, which only you can read."""
    from hooks.builds.remote.link import PROTOCOL, Away, Link, NotAdmitted, Rejected
    from registry.commands.client import Client

    if ca_bundle:
        os.environ["REQUESTS_CA_BUNDLE"] = ca_bundle
    address = Client(url, None).url  # which says what is wrong with it
    path = data / IDENTITY_FILE
    if path.exists():
        raise Failed(f"{path} is there: this runner is registered. Remove it to register anew")
    secret = sys.stdin.readline().strip() if token == "-" else token  # noqa: S105  (the word for stdin)
    said = {
        "protocol": PROTOCOL,
        "host": socket.gethostname(),
        "version": version("entrepot"),
        "environments": [],
        "slots": 0,
    }
    try:
        data.mkdir(parents=True, exist_ok=True)
        data.chmod(0o711 if os.geteuid() == 0 else 0o700)
        told = Link(address, secret).ask("POST", "register", json=said).json()
        _write(path, {"url": address, "name": told["name"], "credential": told["credential"]})
    except (Away, NotAdmitted, Rejected) as error:
        raise Failed(f"the runner is not registered: {error}") from error
    except OSError as error:
        raise Failed(f"{data} cannot be written to: {error.strerror}") from error
    say(f"runner {told['name']} is registered; start it with: entrepot runner run --data {data}")
    if as_json:
        print_json({"name": told["name"], "url": address, "data": str(data)})


def _write(path: Path, identity: Mapping[str, str]) -> None:
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(identity, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


@example("entrepot runner run --data /var/lib/entrepot-runner --slots 4")
@click.command()
@_data
@click.option("--slots", type=click.IntRange(1, 200), help="How many builds at a time (default: builds.slots, 2).")
@_authorities
@json_option
def run(data: Path, slots: int | None, ca_bundle: str | None, *, as_json: bool) -> None:
    """Run builds of the server until TERM; then running builds have a while to end, and the others go elsewhere.

    What builds may use of this machine is said in DIR/entrepot.toml ([builds], [builds.container], [worker], [log]).
    """
    from config import data_lock
    from hooks.builds.remote.link import Link, NotAdmitted, Rejected
    from hooks.builds.remote.runner import Runner

    identity, settings = _identity(data), _settings(data)
    if ca_bundle:
        os.environ["REQUESTS_CA_BUNDLE"] = ca_bundle
    try:
        held = data_lock.lock(settings.data, "runner")
    except data_lock.AlreadyServed as error:
        raise Failed(f"another process uses {data}") from error
    with held:
        bench = _bench(settings, identity["url"], ca_bundle)
        runner = Runner(
            Link(identity["url"], identity["credential"]),
            bench,
            host=socket.gethostname(),
            version=version("entrepot"),
            slots=slots or settings.builds.slots,
        )
        told = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: told.set())
        say(f"runner {identity['name']} asks {identity['url']} for builds ({', '.join(bench.executors)})")
        try:
            runner.run(told, settings.worker.drain_seconds)
            if as_json:
                print_json({"name": identity["name"], "ended": True})
        except (NotAdmitted, Rejected) as error:
            raise Failed(f"{identity['url']} takes nothing from this runner: {error}") from error


def _identity(data: Path) -> dict[str, str]:
    path = data / IDENTITY_FILE
    try:
        found: Any = json.loads(path.read_text("utf-8"))
        return {name: str(found[name]) for name in ("url", "name", "credential")}
    except FileNotFoundError:
        raise Failed(f"{path} is missing: register the runner first") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Failed(f"{path} cannot be read: {error}") from error


def _settings(data: Path) -> Settings:
    from config import logs
    from config.settings import BadSettings, load

    try:
        settings = load(data.resolve())
    except BadSettings as error:
        for fault in error.faults:
            say(f"entrepot: {fault}")
        sys.exit(2)
    logs.configure(settings.log)
    os.umask(0o077)
    return settings


def _bench(settings: Settings, url: str, ca_bundle: str | None) -> Bench:
    """What runs builds here, after it was attacked. Raises Failed where nothing holds a build back."""
    from config import executors, git_sources
    from hooks.builds.remote.registry_line import line_to
    from hooks.builds.remote.work import Bench
    from registry.clock import system_clock

    registry = settings.registry_address if settings.builds.registry_address else line_to(url, ca_bundle)
    table: dict[str, Executor] = {}
    for name, executor in executors.executors(settings, registry).items():
        found = executor.available()
        say(f"builds {'' if found.ok else 'do not '}run here ({name}): {found.reason}")
        if found.ok:
            table[name] = executor
    if not table:
        raise Failed("no build can run here: this runner takes none")
    spool = settings.data / "spool"
    spool.mkdir(mode=0o700, exist_ok=True)
    git = git_sources.git_fetcher(settings, executors.process_settings(settings))
    return Bench(table, git, spool, system_clock, executors.local_caches(settings))
