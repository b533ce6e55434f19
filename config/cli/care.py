"""Commands that work on the data directory itself, for the machine's administrator: fsck, sweep, user."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import click
from sqlalchemy.orm import Session

from config import addresses, wiring
from config.cli.server import data_option, prepared, settings_of
from config.settings import Settings
from registry import audit, formats, second_factor
from registry.access import place_of
from registry.accounts import Accounts, end_sessions, find_account
from registry.clock import system_clock
from registry.db import Database
from registry.errors import Problem
from registry.existence import check_there
from registry.repos import care, evict
from registry.scopes import checked_networks, checked_packages
from storage.errors import StorageError

T = TypeVar("T")
ACTOR = "machine administrator"
RECOVERY_LIFE = timedelta(minutes=30)


def opened(data: Path) -> tuple[Settings, Database]:
    """A prepared data directory's settings and database."""
    settings = settings_of(data)
    if not (settings.keys_path / wiring.PEPPER_FILE).exists():
        click.echo(f"entrepot: {settings.data} is not a data directory; 'entrepot serve' makes one", err=True)
        sys.exit(2)
    return settings, wiring.database(settings)


def attempt(unit: Callable[[], T]) -> T:
    """Run ``unit``; what the product refuses becomes one line and exit status 1."""
    try:
        return unit()
    except (Problem, StorageError) as error:
        click.echo(f"entrepot: {error}", err=True)
        sys.exit(1)


@click.command("fsck")
@data_option
@click.option("--deep", is_flag=True, help="Decrypt and hash every body.")
@click.option("--json", "as_json", is_flag=True, help="Faults as JSON.")
def fsck_command(data: Path, deep: bool, as_json: bool) -> None:
    """Check that everything promised is there. Exit status 0: clean, 1: faults, 2: could not run.

    What was shredded on purpose ('entrepot keys destroy') is told as such, and is no fault.

    Example: entrepot fsck --data /var/lib/entrepot --deep
    """
    from hooks import care as hooks_care

    settings, db = opened(data)

    def run() -> list[tuple[str, str]]:
        stores = wiring.domain_stores(settings, db)
        found = [(fault.invariant, fault.what) for fault in care.check(db, stores, deep=deep)]
        return found + hooks_care.check(db)

    told = attempt(run)
    faults = [each for each in told if each[0] != care.SHREDDED]
    if as_json:
        click.echo(json.dumps([{"invariant": invariant, "what": what} for invariant, what in told], indent=2))
    else:
        for invariant, what in told:
            click.echo(f"{invariant}\t{what}")
        click.echo(f"{len(faults)} faults" if faults else "clean", err=True)
    sys.exit(1 if faults else 0)


@click.command("sweep")
@data_option
@click.option("--grace-hours", type=float, help="Only what is older (default: the setting, 24).")
@click.option("--dry-run", is_flag=True, help="Say what would go.")
def sweep_command(data: Path, grace_hours: float | None, dry_run: bool) -> None:
    """Remove bodies that nothing refers to any more. The worker does this by itself every hour.

    Example: entrepot sweep --data /var/lib/entrepot --dry-run
    """
    from hooks.builds import output_care

    settings, db = opened(data)
    hours = settings.storage.sweep_grace_hours if grace_hours is None else grace_hours
    stores = wiring.domain_stores(settings, db)
    retention = wiring.retention(settings)
    artifacts, caches = attempt(lambda: output_care.expire(db, retention, system_clock(), dry_run=dry_run))
    before = system_clock() - timedelta(hours=hours)
    report = attempt(lambda: care.sweep(db, stores, older_than=before, dry_run=dry_run))
    if settings.storage.cache_limit_bytes:
        limit_bytes = settings.storage.cache_limit_bytes
        cache = attempt(lambda: evict.evict(db, limit_bytes, system_clock(), dry_run=dry_run))
        verb = "would be forgotten" if dry_run else "forgotten"
        click.echo(f"{cache.files} of the upstreams' files ({cache.freed_bytes} of {cache.cached_bytes} bytes) {verb}")
    if artifacts or caches:
        verb = "would be forgotten" if dry_run else "forgotten"
        click.echo(f"{artifacts} artifacts and {caches} caches of builds are over their time and {verb}")
    verb = "would be removed" if dry_run else "removed"
    click.echo(f"{report.deleted} bodies ({report.deleted_bytes} bytes) {verb}, {report.examined} looked at")


@click.command("create")
@click.argument("name")
@data_option
@click.option(
    "--action",
    "actions",
    multiple=True,
    default=("read",),
    show_default=True,
    help="read, publish, promote, approve or admin; repeatable.",
)
@click.option("--repository", "repositories", multiple=True, help="domain/repository pattern; none: everywhere.")
@click.option("--password-stdin", is_flag=True, help="Read a password from standard input.")
def user_create(
    name: str, data: Path, actions: tuple[str, ...], repositories: tuple[str, ...], password_stdin: bool
) -> None:
    """Add a user.

    Example: entrepot user create alice --data /var/lib/entrepot --action read --action publish
    """
    password = sys.stdin.readline().rstrip("\n") if password_stdin else None

    def unit(session: Session, people: Accounts) -> None:
        now = system_clock()
        people.create(
            session, name, actions=actions, repositories=list(repositories) or None, password=password, now=now
        )
        audit.record(session, now, ACTOR, "user.create", name, actions=list(actions))

    _with_accounts(data, unit)
    click.echo(f"user {name} may {', '.join(actions)}")


@click.command("password")
@click.argument("name")
@data_option
def user_password(name: str, data: Path) -> None:
    """Set a user's password, read from standard input.

    Example: entrepot user password alice --data /var/lib/entrepot < password.txt
    """
    password = sys.stdin.readline().rstrip("\n")

    def unit(session: Session, people: Accounts) -> None:
        account = find_account(session, name)
        account.password_hash = people.hash_password(password)
        end_sessions(session, account.id)
        audit.record(session, system_clock(), ACTOR, "user.password", name)

    _with_accounts(data, unit)
    click.echo(f"the password of {name} is set")


@click.command("login-link")
@click.argument("name")
@data_option
def user_login_link(name: str, data: Path) -> None:
    """Print a one-time sign-in for a user who cannot sign in otherwise; valid for a day.

    Example: entrepot user login-link admin --data /var/lib/entrepot
    """
    secret = _with_accounts(data, lambda session, people: _login_link(session, people, name))
    click.echo(f"{addresses.served_at(settings_of(data))}/setup?code={secret}")


def _login_link(session: Session, people: Accounts, name: str) -> str:
    now = system_clock()
    audit.record(session, now, ACTOR, "user.login_link", name)
    return people.new_setup_login(session, find_account(session, name).id, now)


@click.command("recover")
@click.argument("name")
@data_option
@click.option("--reset-second-factor", is_flag=True, help="Take the second factor off as well: app and codes are lost.")
def user_recover(name: str, data: Path, reset_second_factor: bool) -> None:
    """Print a sign-in for a user who is locked out: it counts once and for half an hour, also where passwords are off.

    A second factor is still asked for unless it is reset. All browsers of the user are signed out.

    Example: entrepot user recover alice --data /var/lib/entrepot --reset-second-factor
    """

    def unit(session: Session, people: Accounts) -> str:
        now = system_clock()
        account = find_account(session, name)
        if reset_second_factor:
            second_factor.remove(session, account, ACTOR, now, action="second-factor.reset")
        end_sessions(session, account.id)
        audit.record(session, now, ACTOR, "user.recover", f"user/{name}", reset_second_factor=reset_second_factor)
        return people.new_setup_login(session, account.id, now, RECOVERY_LIFE)

    click.echo(f"{addresses.served_at(settings_of(data))}/setup?code={_with_accounts(data, unit)}")


def new_token(
    data: Path,
    name: str,
    *,
    actions: tuple[str, ...],
    repositories: tuple[str, ...],
    packages: tuple[str, ...],
    networks: tuple[str, ...],
    life: timedelta,
    label: str,
) -> tuple[str, str]:
    """A token for a user, made on the data directory itself: (secret, expiry as ISO 8601)."""
    settings = settings_of(data)
    if not (settings.keys_path / wiring.PEPPER_FILE).exists():
        prepared(settings)  # a script may ask for its first token before the first start

    def unit(session: Session, people: Accounts) -> tuple[str, str]:
        now = system_clock()
        account = find_account(session, name)
        for path in repositories:
            if "*" not in path:
                check_there(session, place_of(path))
        issued = people.issue_token(
            session,
            account.id,
            label or f"made on the server {secrets.token_hex(2)}",
            actions=actions or account.actions,
            repositories=list(repositories) or None,
            packages=checked_packages(packages or None, formats.all_formats()),
            networks=checked_networks(networks or None),
            life=life,
            now=now,
            created_by=ACTOR,
        )
        audit.record(session, now, ACTOR, "token.create", f"{name}/{issued.id}", actions=list(actions))
        return issued.secret, issued.expires_at.isoformat()

    return _with_accounts(data, unit)


def _with_accounts(data: Path, unit: Callable[[Session, Accounts], T]) -> T:
    settings, db = opened(data)

    def run() -> T:
        people = wiring.accounts(settings)
        with db.write() as session:
            return unit(session, people)

    return attempt(run)
