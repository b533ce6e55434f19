"""``entrepot agent`` on a machine: enrolled once, then run. Needs neither the server's web framework nor its database."""

from __future__ import annotations

import fcntl
import getpass
import json
import logging
import os
import platform
import shutil
import signal
import socket
import sys
import threading
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from registry.commands.client import Client, Failed
from registry.commands.options import example
from registry.commands.output import json_option, print_json, say

if TYPE_CHECKING:
    from hooks.deployments.agent.identity import Identity
    from hooks.deployments.agent.settings import AgentSettings

PROTOCOL = 1
_LOCK = "agent.lock"
_data = click.option(
    "--data",
    required=True,
    envvar="ENTREPOT_AGENT_DATA",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="The agent's own directory: its key, agent.toml if any, its deployments [ENTREPOT_AGENT_DATA].",
)
_authorities = click.option(
    "--ca-bundle",
    type=click.Path(dir_okay=False),
    envvar="REQUESTS_CA_BUNDLE",
    help="Authorities of the server's certificate.",
)


@example("entrepot agent enrol --url https://packages.example.com --data /var/lib/entrepot-agent --token -")
@click.command()
@click.option("--url", required=True, envvar="ENTREPOT_URL", metavar="URL", help="The server's address [ENTREPOT_URL].")
@_data
@click.option(
    "--token",
    required=True,
    envvar="ENTREPOT_ENROLMENT_TOKEN",
    metavar="TOKEN",
    help="What `entrepot agent add` has printed; - reads it from stdin [ENTREPOT_ENROLMENT_TOKEN].",
)
@click.option(
    "--server-key",
    metavar="SHA256:…",
    help="The fingerprint that `entrepot agent add` has printed; others are refused.",
)
@_authorities
@json_option
def enrol(url: str, data: Path, token: str, server_key: str | None, ca_bundle: str | None, *, as_json: bool) -> None:
    """Enrol this machine, once: a key is made here, of which the server gets the public half."""
    from hooks.builds.remote.link import Away, Link, NotAdmitted, Rejected
    from hooks.deployments.agent import identity
    from hooks.deployments.agent.line import bounded_json
    from hooks.deployments.agent.settings import AgentFault

    address = Client(url, None).url  # which says what is wrong with it
    if (data / identity.IDENTITY_FILE).exists():
        raise Failed(f"{data / identity.IDENTITY_FILE} is there: this agent has enrolled. Remove it to enrol anew")
    secret = sys.stdin.readline().strip() if token == "-" else token  # noqa: S105  (the word for stdin)
    if ca_bundle:
        os.environ["REQUESTS_CA_BUNDLE"] = ca_bundle
    try:
        identity.prepare(data)
        key = identity.make_key(data)
        told = {"protocol": PROTOCOL, "publicKey": identity.public_half(key), "facts": _facts()}
        found = bounded_json(Link(address, secret, "agent").ask("POST", "enrol", json=told, is_streamed=True))
        made = identity.Identity(address, *(str(found[name]) for name in ("agentId", "name", "serverKey")))
        _check_key(made, server_key)
        identity.save(data, made)
    except (Away, NotAdmitted, Rejected, AgentFault, KeyError) as error:
        raise Failed(f"the agent has not enrolled: {error}") from error
    except OSError as error:
        raise Failed(f"{data} cannot be written to: {error.strerror}") from error
    say(f"agent {made.name} has enrolled; start it with: entrepot agent run --data {data}")
    if as_json:
        print_json({"name": made.name, "url": address, "data": str(data)})


def _facts() -> dict[str, str]:
    told = {
        "host": socket.gethostname(),
        "version": version("entrepot"),
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "user": getpass.getuser(),
    }
    return {name: text[:255] for name, text in told.items()}


def _check_key(made: Identity, wanted: str | None) -> None:
    """Refuse a server whose key has another fingerprint than the administrator was told."""
    import base64
    import hashlib

    _ = made.trusted_key
    digest = hashlib.sha256(base64.b64decode(made.server_key)).digest()
    found = "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")
    if wanted is not None and found != wanted:
        raise Failed(f"the server's key is {found}, not {wanted}: this is another server, or somebody in between")


@example("entrepot agent run --data /var/lib/entrepot-agent")
@click.command()
@_data
@_authorities
@json_option
def run(data: Path, ca_bundle: str | None, *, as_json: bool) -> None:
    """Carry out this machine's deployments until TERM, which waits for the event that is running; a second one does not.

    What the server may have done here is said in DIR/agent.toml (docs/agents.md).
    """
    from hooks.builds.remote.link import NotAdmitted
    from hooks.deployments.agent import identity
    from hooks.deployments.agent.agent import Agent
    from hooks.deployments.agent.line import Line
    from hooks.deployments.agent.settings import AgentFault

    data = data.resolve()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    if ca_bundle:
        os.environ["REQUESTS_CA_BUNDLE"] = ca_bundle
    try:
        who, settings = identity.load(data), _settings(data)
        key, memory = identity.load_key(data), identity.Memory(data, who.agent_id)
        agent = Agent(who, Line(who, key, memory), memory, settings, data / identity.DEPLOYMENTS)
    except AgentFault as error:
        raise Failed(str(error)) from error
    with _locked(data):
        told, told_again = _signals()
        say(f"agent {who.name} asks {who.url} for deployments")
        try:
            agent.run(told, told_again)
        except NotAdmitted as error:
            raise Failed(f"{who.url} takes nothing from this agent: {error}") from error
    if as_json:
        print_json({"name": who.name, "ended": True})


def _signals() -> tuple[threading.Event, threading.Event]:
    """Set at the first TERM or INT, and at the second."""
    told, told_again = threading.Event(), threading.Event()

    def note(*_: object) -> None:
        (told_again if told.is_set() else told).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, note)
    return told, told_again


def _settings(data: Path) -> AgentSettings:
    from hooks.deployments.agent.settings import load

    return load(data)


def _locked(data: Path) -> IO[str]:
    """One process for a directory. Raises Failed."""
    try:
        file = (data / _LOCK).open("a")
    except OSError as error:
        raise Failed(f"{data} cannot be written to: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise Failed(f"another agent runs in {data}") from None
    return file


@example("entrepot agent status --data /var/lib/entrepot-agent")
@click.command()
@_data
@json_option
def status(data: Path, *, as_json: bool) -> None:
    """Say who this machine's agent is, whether it runs, what it may do, and what it has installed."""
    from hooks.deployments.agent import drift, identity
    from hooks.deployments.agent.settings import AgentFault

    try:
        who, settings = identity.load(data), _settings(data)
        memory = identity.Memory(data, who.agent_id)
        found = drift.look(data / identity.DEPLOYMENTS)
    except AgentFault as error:
        raise Failed(str(error)) from error
    try:
        _locked(data).close()
        is_running = False
    except Failed:
        is_running = True
    told = {
        "name": who.name,
        "url": who.url,
        "running": is_running,
        "lastCommand": memory.sequence,
        "runas": settings.runas,
        "destinations": settings.destinations,
        "revisions": settings.revisions,
        "scripts": settings.scripts,
        "atOnce": settings.at_once,
        "installed": [each.as_json() for each in found],
    }
    if as_json:
        print_json(told)
        return
    click.echo(f"agent {who.name} of {who.url}, {'running' if is_running else 'not running'}")
    click.echo(f"last command: {memory.sequence}")
    click.echo(f"revisions: {', '.join(settings.revisions)}")
    click.echo(f"scripts: {'yes' if settings.scripts else 'no'}, as: {', '.join(settings.runas) or 'nobody else'}")
    click.echo(f"destinations: {', '.join(settings.destinations) or 'anywhere'}")
    for each in found:
        click.echo(
            f"group {each.group_id}: {each.deployment_id}, {each.files} files, {each.changed_count} changed, "
            f"{each.missing_count} missing" + ("" if each.is_complete else ", and an installation that is not whole")
        )


@example("entrepot agent systemd-unit --data /var/lib/entrepot-agent > /etc/systemd/system/entrepot-agent.service")
@click.command("systemd-unit")
@_data
@click.option("--user", default="", metavar="NAME", help="Run as this user (default: root).")
@json_option
def systemd_unit(data: Path, user: str, *, as_json: bool) -> None:
    """Print a unit for systemd, hardened as far as DIR/agent.toml lets it be."""
    from hooks.deployments.agent.settings import AgentFault
    from hooks.deployments.agent.systemd import unit

    if user and not all(character.isalnum() or character in "._-" for character in user):
        raise click.UsageError(f"--user {user}: this is no name of a user")
    try:
        text = unit(_program(), data.resolve(), user, _settings(data))
    except AgentFault as error:
        raise Failed(str(error)) from error
    if as_json:
        print_json(json.loads(json.dumps({"unit": text})))
    else:
        click.echo(text, nl=False)


def _program() -> list[str]:
    """How this command is called, by absolute paths."""
    beside = Path(sys.executable).with_name("entrepot")
    found = str(beside) if beside.is_file() else shutil.which("entrepot")
    return [found] if found else [sys.executable, "-m", "config.cli.main"]
