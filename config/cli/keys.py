"""``entrepot keys``: the encryption keys of domains and of the server, on the data directory itself."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click
from sqlalchemy.orm import Session

from config import wiring
from config.cli.care import ACTOR, attempt, opened
from config.cli.server import data_option, settings_of
from config.settings import KEY_PROVIDERS, Settings
from registry import audit
from registry.clock import system_clock
from registry.db import Database
from registry.repos import key_destruction, key_use
from registry.repos.key_use import KeyUse, Owner
from registry.repos.master_keys import MasterRotated, masters_in_use, rotate_master
from registry.repos.rotation import Rotated, Work
from registry.stores import DomainStores, keys_of
from storage.keyfile import LocalKeyFile

SAMPLE = 1000


@click.group()
def keys() -> None:
    """Encryption keys: list, verify, rotate, destroy.

    Example: entrepot keys rotate --data /var/lib/entrepot
    """


@keys.command("list")
@data_option
@click.option("--domain", "name", help="Of one domain only.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_command(data: Path, name: str | None, as_json: bool) -> None:
    """List keys: when made, in what state, and how many blobs and sealed fields still use each.

    Example: entrepot keys list --data /var/lib/entrepot --json
    """
    settings, db = opened(data)

    def unit() -> list[KeyUse]:
        stores, fields = wiring.domain_stores(settings, db), wiring.sealed_fields()
        with db.read() as session:
            chosen = _owners(session, name)
            return [use for owner in chosen for use in key_use.key_uses(session, stores, fields, owner)]

    found = attempt(unit)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(use) for use in found], indent=2, default=lambda at: at.isoformat()))
        return
    click.echo(f"{'DOMAIN':20} {'KEY':16} {'CREATED':16} {'STATE':9} {'BLOBS':>9} {'FIELDS':>9}  MASTER KEY")
    for use in found:
        made = f"{use.created_at:%Y-%m-%d %H:%M}"
        counted = f"{use.blobs:9} {use.fields:9}"
        click.echo(f"{use.domain:20} {use.id:16} {made:16} {use.state:9} {counted}  {use.master_key or '-'}")


@keys.command("verify")
@data_option
@click.option("--domain", "name", help="Of one domain only.")
@click.option("--all", "everything", is_flag=True, help="Every blob's envelope, and not a sample.")
@click.option("--sample", type=click.IntRange(1), default=SAMPLE, show_default=True, help="Envelopes of each domain.")
def verify_command(data: Path, name: str | None, everything: bool, sample: int) -> None:
    """Check that every key opens and is the one its name says, and that envelopes and sealed fields open.

    Bodies are not read; 'entrepot fsck --deep' does that. Exit status 0: all open, 1: not.

    Example: entrepot keys verify --data /var/lib/entrepot --all
    """
    settings, db = opened(data)

    def unit() -> list[str]:
        stores, fields = wiring.domain_stores(settings, db), wiring.sealed_fields()
        with db.read() as session:
            chosen = _owners(session, name)
        looked_at = None if everything else sample
        return [line for owner in chosen for line in key_use.verify(db, stores, fields, owner, sample=looked_at)]

    faults = attempt(unit)
    for line in faults:
        click.echo(line)
    click.echo(f"{len(faults)} do not open" if faults else "everything opens", err=True)
    sys.exit(1 if faults else 0)


@keys.command("rotate")
@data_option
@click.option("--domain", "name", help="The keys of one domain.")
@click.option("--all", "everything", is_flag=True, help="The keys of all domains and of the server (the default).")
@click.option("--master", is_flag=True, help="The master key: the domains' keys are wrapped anew. Alone: only this.")
@click.option("--to-provider", type=click.Choice(KEY_PROVIDERS), help="With --master: wrap under another provider.")
def rotate_command(data: Path, name: str | None, everything: bool, master: bool, to_provider: str | None) -> None:
    """Make new keys and wrap anew what the old ones wrap. Nothing stored is rewritten, and the server goes on.

    Killed or failed, run it again: it goes on where it was. Old keys are retired when nothing uses them, and stay until
    'entrepot keys destroy --retired', since older copies of the database need them.

    Example: entrepot keys rotate --data /var/lib/entrepot --domain default
    """
    if name and everything:
        _usage("give --domain or --all, not both")
    if to_provider and not master:
        _usage("--to-provider goes with --master")
    settings, db = opened(data)
    if master:
        _rotate_master(settings, db, data, to_provider)
    if not master or name or everything:
        _rotate_domains(settings, db, name)


def _rotate_domains(settings: Settings, db: Database, name: str | None) -> None:
    def unit() -> list[Rotated]:
        stores = wiring.domain_stores(settings, db)
        with db.read() as session:
            chosen = [owner for owner in _owners(session, name) if name or not _is_shredded(session, owner)]
        work = Work(ACTOR, told=lambda owner, count: _tell(f"{owner.name}: {count} wrapped anew"))
        return wiring.rotator(stores, db, system_clock).rotate(chosen, work)

    failed = 0
    for one in attempt(unit):
        begun = "an unfinished rotation was finished" if one.is_resumed else "a new key was made"
        click.echo(f"{one.owner.name}: {begun}; {one.moved} wrapped anew under {one.key_id}")
        for line in one.failed:
            click.echo(f"{one.owner.name}: not wrapped anew, it does not open: {line}", err=True)
        failed += len(one.failed)
    if failed:
        click.echo("the keys of these stay; 'entrepot fsck --deep' says what is damaged", err=True)
        sys.exit(1)


def _rotate_master(settings: Settings, db: Database, data: Path, to_provider: str | None) -> None:
    if to_provider is not None and to_provider != settings.keys.provider:
        target = settings_of(data, keys={"provider": to_provider})
    else:
        target = settings

    def unit() -> MasterRotated:
        if target.keys.provider == LocalKeyFile.name:
            local = target.keys_path / wiring.MASTER_KEY_FILE
            if not local.exists() and not _wrapped_by_file(target, db):
                LocalKeyFile.create(local)
        stores = wiring.domain_stores(target, db)
        return rotate_master(db, stores, system_clock, ACTOR, lambda key_id: _tell(f"key {key_id} wrapped anew"))

    done = attempt(unit)
    kind = "a new master key" if done.is_new else "the master key"
    click.echo(f"{done.moved} keys were wrapped anew under {kind}: {done.provider} {done.master_key}")
    if target is not settings:
        click.echo(f'now set keys.provider = "{done.provider}" in the settings and restart: else new keys are wrapped by '
                   f"{settings.keys.provider}")  # fmt: skip
    click.echo("keep a new copy of the keys directory apart from the data")


def _wrapped_by_file(settings: Settings, db: Database) -> bool:
    local = LocalKeyFile(settings.keys_path / wiring.MASTER_KEY_FILE)
    with db.read() as session:
        chosen = key_use.owners(session)
        rows = [row for owner in chosen for row in keys_of(session, owner.domain_id)]
    return any(local.master_of(row.wrapped) is not None for row in rows if row.wrapped)


@keys.command("destroy")
@data_option
@click.option("--domain", "name", help="Destroy all keys of this domain: nothing in it can ever be read again.")
@click.option("--confirm", metavar="NAME", help="The domain's name once more, for scripts; else it is asked for.")
@click.option("--retired", is_flag=True, help="Destroy keys that nothing uses any more, master keys included.")
@click.option("--at-once", is_flag=True, help="With --retired: also those retired within the last 24 hours.")
def destroy_command(data: Path, name: str | None, confirm: str | None, retired: bool, at_once: bool) -> None:
    """Destroy keys for good: those that rotations left behind (--retired), or all of a domain (--domain).

    Copies of the database from before are not changed by it; docs/operations.md says what to do about them.

    Example: entrepot keys destroy --data /var/lib/entrepot --domain old-team
    """
    if bool(name) == retired:
        _usage("give either --domain NAME or --retired")
    settings, db = opened(data)
    if name:
        _shred(settings, db, name, confirm)
    else:
        _destroy_retired(settings, db, at_once=at_once)


def _shred(settings: Settings, db: Database, name: str, confirm: str | None) -> None:
    def find() -> Owner:
        with db.read() as session:
            return key_use.owner_named(session, name)

    owner = attempt(find)
    if confirm is None:
        click.echo(
            f"Every file and description of domain {name} will be unreadable for good, here and in the body store."
        )
        confirm = click.prompt("Type the domain's name to destroy its keys")
    if confirm != name:
        click.echo("entrepot: that is not the domain's name; nothing was destroyed", err=True)
        sys.exit(1)
    stores, fields = wiring.domain_stores(settings, db), wiring.sealed_fields()
    blobs = attempt(lambda: key_destruction.shred(db, stores, fields, owner, system_clock, actor=ACTOR))
    click.echo(f"the keys of {name} are destroyed; {blobs} blobs are unreadable for good")


def _destroy_retired(settings: Settings, db: Database, *, at_once: bool) -> None:
    stores, fields = wiring.domain_stores(settings, db), wiring.sealed_fields()
    rest = key_destruction.REST * (0 if at_once else 1)

    def unit() -> list[str]:
        with db.read() as session:
            chosen = key_use.owners(session)
        gone = []
        for owner in chosen:
            ids = key_destruction.destroy_retired(db, stores, fields, owner, system_clock, actor=ACTOR, rest=rest)
            gone += [f"{owner.name}: key {key_id} is destroyed" for key_id in ids]
        return gone + _forget_masters(settings, db, stores)

    lines = attempt(unit)
    for line in lines:
        click.echo(line)
    if not lines:
        click.echo("no key is ready to be destroyed")


def _forget_masters(settings: Settings, db: Database, stores: DomainStores) -> list[str]:
    """Take the master keys that wrap nothing out of the key file. Other providers' are destroyed with their own tools."""
    local = LocalKeyFile(settings.keys_path / wiring.MASTER_KEY_FILE)
    if settings.keys.provider != local.name:
        return []
    unused = sorted(local.known() - masters_in_use(db, stores) - {local.current_id()})
    for master in unused:
        local.forget(master)
        with db.write() as session:
            audit.record(session, system_clock(), ACTOR, "keys.destroy", "master key", key=master)
    return [f"master key {master} is destroyed" for master in unused]


def _owners(session: Session, name: str | None) -> Sequence[Owner]:
    return key_use.owners(session) if name is None else [key_use.owner_named(session, name)]


def _is_shredded(session: Session, owner: Owner) -> bool:
    rows = keys_of(session, owner.domain_id)
    return bool(rows) and all(row.destroyed_at is not None for row in rows)


def _tell(line: str) -> None:
    click.echo(line, err=True)


def _usage(reason: str) -> NoReturn:
    click.echo(f"entrepot: {reason}", err=True)
    sys.exit(2)
