"""``entrepot health``: whether what runs here works, for whoever restarts what does not."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import requests
from sqlalchemy.exc import DBAPIError

from config import data_lock, logs, wiring
from config.cli.server import data_option, settings_of
from config.settings import Settings, local_address
from hooks.jobs import processes
from registry.errors import Unavailable

ANSWER_SECONDS = 5.0
# A worker says that it lives once in a lease; one that has not for longer is gone, or stuck.
SILENT_LEASES = 3

Finding = tuple[str, bool, str]
"""(part, whether it works, what there is to say)."""


@click.command("health")
@data_option
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON.")
def health(data: Path, as_json: bool) -> None:
    """Say whether the server or worker of this host works. Exit status 0: all that runs does, 1: it does not.

    A server works when /readyz answers on the address it listens on, a worker when its row in the database is fresh.

    Example: entrepot health --data /var/lib/entrepot
    """
    settings = settings_of(data)
    found = list(findings(settings))
    if as_json:
        click.echo(json.dumps([{"part": part, "ok": ok, "detail": detail} for part, ok, detail in found], indent=2))
    else:
        for part, ok, detail in found:
            click.echo(f"{part}\t{'ok' if ok else 'failed'}\t{detail}")
    sys.exit(0 if all(ok for _, ok, _ in found) else 1)


def findings(settings: Settings) -> Iterator[Finding]:
    """One for each part that runs here; one that failed when nothing does."""
    bind = data_lock.serving_at(settings.data)
    if bind is not None:
        yield _web(bind)
    worker = _worker(settings, is_served=bind is not None)
    if worker is not None:
        yield worker


def _web(bind: str) -> Finding:
    host, port = local_address(bind)
    address = f"http://[{host}]:{port}/readyz" if ":" in host else f"http://{host}:{port}/readyz"
    session = requests.Session()
    session.trust_env = False  # a proxy of the environment is for what is outside
    try:
        answer = session.get(address, timeout=ANSWER_SECONDS)
    except requests.RequestException as error:
        return "web", False, f"{address} does not answer: {type(error).__name__}"
    finally:
        session.close()
    return "web", answer.status_code == 200, " ".join(answer.text.split())


def _worker(settings: Settings, *, is_served: bool) -> Finding | None:
    """None where a server may well run without a worker."""
    if not settings.keys_path.exists():
        return None if is_served else ("worker", False, f"nothing has run on {settings.data} yet")
    db = wiring.database(settings)
    try:
        with db.read() as session:
            silent = processes.silence_seconds(session, socket.gethostname())
    except (Unavailable, DBAPIError) as error:
        return "worker", False, logs.redact(" ".join(str(error).split()))
    finally:
        db.close()
    if silent is None:
        return None if is_served else ("worker", False, "neither a server nor a worker runs here")
    is_fresh = silent < settings.worker.lease_seconds * SILENT_LEASES
    return "worker", is_fresh, f"seen {max(0.0, silent):.0f} s ago"
