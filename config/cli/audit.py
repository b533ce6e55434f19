"""Commands of the audit log, on the data directory itself or on exported files: verify, export, checkpoint, public-key."""

from __future__ import annotations

import base64
import json
import sys
import textwrap
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from config import wiring
from config.cli.care import attempt, opened
from config.cli.server import data_option
from config.settings import Settings
from registry import audit_chain
from registry.audit_chain import Link, Verdict
from registry.clock import system_clock
from registry.db import Database
from registry.errors import Invalid
from registry.repos import audit_log, checkpoints
from registry.repos.checkpoints import Checkpoint, Checkpointer
from registry.repos.signing import Signer

_FILE = click.Path(dir_okay=False, exists=True, path_type=Path)


@click.group()
def audit() -> None:
    """The audit log: verify, export, checkpoint, public-key.

    Example: entrepot audit verify --data /var/lib/entrepot
    """


@audit.command("verify")
@data_option
@click.option("--file", "exported", type=_FILE, help="Check an exported file instead; needs no data directory.")
@click.option("--checkpoints", "pushed", type=_FILE, help="Pushed checkpoints: one a line, or the server's log output.")
@click.option("--public-key", "key_file", type=_FILE, help="Public key (PEM) kept apart; else the server's own.")
@click.option("--json", "as_json", is_flag=True, help="The verdict as JSON.")
def verify_command(
    data: Path, exported: Path | None, pushed: Path | None, key_file: Path | None, as_json: bool
) -> None:
    """Check that no entry was changed, moved, added or taken away. Exit status 0: sound, 1: not, 2: could not run.

    Names the first entry that is wrong. Entries that were taken off the end, and a log that was written anew as a
    whole, show only against checkpoints that were kept elsewhere.

    Example: entrepot audit verify --data /var/lib/entrepot --checkpoints checkpoints.jsonl --public-key audit.pem
    """
    try:
        key = checkpoints.load_public_key(key_file.read_bytes()) if key_file is not None else None
        given = _given(pushed)
    except Invalid as error:
        _stop(str(error))
    if exported is not None:
        if given and key is None:
            _stop("--public-key is needed to believe checkpoints; 'entrepot audit public-key' prints it")
        _tell(_verdict_of_file(exported, given, key), len(given), as_json=as_json)
    settings, db = opened(data)
    with db.read() as session:
        own = checkpoints.kept(session)
    if key is None and (own or given):
        key = _own_key(settings, db)
    every = own + given
    _tell(_judged(every, key) or attempt(lambda: audit_log.check(db, _vouched(every))), len(every), as_json=as_json)


def _given(pushed: Path | None) -> list[Checkpoint]:
    if pushed is None:
        return []
    found = checkpoints.read_lines(pushed.read_text("utf-8", "replace").splitlines())
    if not found:
        raise Invalid(f"{pushed} holds no checkpoint")
    return found


def _judged(every: Iterable[Checkpoint], key: Ed25519PublicKey | None) -> Verdict | None:
    """A verdict about the first checkpoint that the key's holder did not sign, or None."""
    for point in every:
        if key is None or not checkpoints.is_signed_by(point, key):
            fault = f"the checkpoint of entry {point.seq} was not signed with this server's key: it is forged"
            return Verdict(0, 0, "", bad_seq=point.seq, fault=fault)
    return None


def _vouched(every: Iterable[Checkpoint]) -> list[audit_chain.Vouched]:
    return [point.vouched for point in every]


def _verdict_of_file(exported: Path, given: list[Checkpoint], key: Ed25519PublicKey | None) -> Verdict:
    progress = [0]

    def links() -> Iterator[Link]:
        with exported.open(encoding="utf-8", errors="replace", newline="\n") as lines:
            for number, text in enumerate(lines, start=1):
                progress[0] = number
                yield audit_chain.parse_line(text)

    try:
        return _judged(given, key) or audit_chain.verify(links(), _vouched(given), is_part=True)
    except Invalid as error:
        return Verdict(0, 0, "", bad_seq=progress[0], fault=f"line {progress[0]}: {error}")


def _tell(verdict: Verdict, count: int, *, as_json: bool) -> NoReturn:
    if as_json:
        click.echo(
            json.dumps(
                {
                    "isSound": verdict.fault is None,
                    "first": verdict.first,
                    "last": verdict.last,
                    "head": verdict.head,
                    "checkpoints": count,
                    "badEntry": verdict.bad_seq or None,
                    "fault": verdict.fault,
                }
            )
        )
    elif verdict.fault is not None:
        click.echo(f"entry {verdict.bad_seq} is bad: {verdict.fault}")
    else:
        click.echo(f"entries {verdict.first} to {verdict.last} are sound; the head is {verdict.head}")
        agree = f"{count - verdict.outside} checkpoints agree"
        click.echo(f"{agree}, {verdict.outside} are about other entries" if verdict.outside else agree)
    sys.exit(0 if verdict.fault is None else 1)


@audit.command("export")
@data_option
@click.option("--since", help="Only entries from this moment on (ISO 8601; without a zone: UTC).")
@click.option("--until", help="Only entries before this moment.")
def export_command(data: Path, since: str | None, until: str | None) -> None:
    """Print entries as JSON lines, oldest first, each with its hashes: what 'audit verify --file' checks.

    Example: entrepot audit export --data /var/lib/entrepot --since 2026-01-01 > audit.jsonl
    """
    wanted = audit_log.Wanted(since=_moment("--since", since), until=_moment("--until", until))
    _, db = opened(data)

    def run() -> None:
        for link in audit_log.export(db, wanted):
            click.echo(audit_chain.line(link))

    try:
        attempt(run)
    except audit_log.Unreadable as error:
        click.echo(f"entrepot: {error}", err=True)
        sys.exit(1)


def _moment(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no moment, as 2026-01-31T12:00:00Z is one", param_hint=option) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


@audit.command("public-key")
@data_option
def public_key_command(data: Path) -> None:
    """Print the public key of the audit log's checkpoints, as PEM. Keep it apart from the server.

    Example: entrepot audit public-key --data /var/lib/entrepot > audit.pem
    """
    settings, db = opened(data)
    der = attempt(lambda: _checkpointer(settings, db).public_key())
    text = "\n".join(textwrap.wrap(base64.b64encode(der).decode("ascii"), 64))
    click.echo(f"-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----")


@audit.command("checkpoint")
@data_option
def checkpoint_command(data: Path) -> None:
    """Sign the log's head now, push that out as the settings say, and print it. The worker does so by itself.

    Example: entrepot audit checkpoint --data /var/lib/entrepot >> /mnt/elsewhere/checkpoints.jsonl
    """
    settings, db = opened(data)
    made = _checkpointer(settings, db)

    def run() -> Checkpoint | None:
        made.make()
        made.push()
        with db.read() as session:
            every = checkpoints.kept(session)
        return every[-1] if every else None

    newest = attempt(run)
    if newest is None:
        click.echo("entrepot: the audit log is empty", err=True)
        sys.exit(1)
    click.echo(newest.line)


def _checkpointer(settings: Settings, db: Database) -> Checkpointer:
    signer = Signer(db, wiring.domain_stores(settings, db), system_clock)
    return wiring.checkpointer(settings, db, signer)


def _own_key(settings: Settings, db: Database) -> Ed25519PublicKey:
    key = load_der_public_key(attempt(lambda: _checkpointer(settings, db).public_key()))
    assert isinstance(key, Ed25519PublicKey)
    return key


def _stop(reason: str) -> NoReturn:
    click.echo(f"entrepot: {reason}", err=True)
    sys.exit(2)
