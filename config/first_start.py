"""The first start: directories, keys, database, the default domain, and a one-time sign-in for its administrator.

Every step looks before it acts, so that a start that was killed half-way is finished by the next.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from config import migrate, wiring
from config.settings import Settings
from hooks.builds.access import ACCOUNT as BUILD_ACCOUNT
from registry import audit, formats
from registry.access import Action
from registry.accounts import Accounts
from registry.clock import Clock, system_clock
from registry.db import Database
from registry.models import Account, Domain, DomainKey
from registry.names import DomainName, RepositoryName
from registry.repos import topology
from registry.stores import DomainStores, context_of, keys_of
from storage.disk import make_directories
from storage.errors import KeyUnavailable
from storage.keyfile import LocalKeyFile

log = logging.getLogger("entrepot.keys")
ADMINISTRATOR = "admin"
# The number of the advisory lock; any other program's in the same database must only be another one.
PREPARE_LOCK = 0x656E7472
DEFAULT_DOMAIN = DomainName("default")
# Each repository with its upstreams: a version reaches staging and prod by promotion only, so they have no route out.
DEFAULT_REPOSITORIES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("public", "What the public indexes offer, kept as it is used", ()),
    ("dev", "Where developers and builds publish", ("public",)),
    ("staging", "Promoted from dev, under test", ()),
    ("prod", "Approved for production", ()),
)


def prepare(settings: Settings, clock: Clock = system_clock) -> str | None:
    """Make the data directory ready; returns the secret of a one-time sign-in when nobody could sign in yet.

    Raises KeyUnavailable when the keys are not the ones the data was written with, NewerDatabase for data of a later
    release, Unavailable and SQLAlchemy's DBAPIError when the database cannot be used.
    """
    with _alone(settings):
        _directories(settings)
        migrate.upgrade(settings)
        db = wiring.database(settings)
        try:
            _keys(settings, db)
            stores = wiring.domain_stores(settings, db)
            wiring.body_store(settings).probe()
            with db.write() as session:
                _default_domain(session, stores, clock())
                if not keys_of(session, None):
                    stores.new_key(session, None, clock())
                _build_account(session, wiring.accounts(settings), clock())
                secret = _administrator(session, wiring.accounts(settings), clock())
            with db.read() as session:
                domain_ids = session.scalars(select(Domain.id)).all()
            for owner in (None, *domain_ids):
                _check_keys(stores, owner)
            return secret
        finally:
            db.close()


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Wait for other starts: of this data directory, and on PostgreSQL of every machine that uses the database."""
    run = settings.data / "run"
    make_directories(run)
    db = wiring.database(settings)
    try:
        with (run / "prepare.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if db.is_sqlite:
                yield
                return
            with db.engine.begin() as connection:
                connection.execute(select(func.pg_advisory_xact_lock(PREPARE_LOCK)))
                yield
    finally:
        db.close()


def _directories(settings: Settings) -> None:
    # Durably: a synced file is lost with the name of a directory above it that is not.
    for path in (settings.data, settings.blobs_path, settings.keys_path, settings.locks_path):
        make_directories(path)


def _keys(settings: Settings, db: Database) -> None:
    """Make the keys of new data. Raises KeyUnavailable when data is there and its keys are not: new ones fit nothing."""
    with db.read() as session:
        local = LocalKeyFile(settings.keys_path / wiring.MASTER_KEY_FILE)
        # Its keys are needed where it wrapped one, whichever provider wraps from now on.
        wrapped = session.scalars(select(DomainKey.wrapped))
        is_encrypted = any(local.master_of(each) is not None for each in wrapped if each)
        has_accounts = session.scalar(select(func.count()).select_from(Account)) != 0
    master = settings.keys_path / wiring.MASTER_KEY_FILE
    if not master.exists():
        if is_encrypted:
            raise KeyUnavailable(
                f"the master key {master} is missing, and everything stored is encrypted under it: "
                "put it back from your copy of the keys"
            )
        if settings.keys.provider == LocalKeyFile.name:
            LocalKeyFile.create(master)
    pepper = settings.keys_path / wiring.PEPPER_FILE
    if not pepper.exists():
        if has_accounts:
            raise KeyUnavailable(
                f"the token pepper {pepper} is missing, and no token can be checked without it: put it back from your "
                f"copy of the keys, or write {wiring.PEPPER_BYTES} random bytes to it, which voids every token"
            )
        _write_secret(pepper, secrets.token_bytes(wiring.PEPPER_BYTES))


def _check_keys(stores: DomainStores, owner: int | None) -> None:
    """Refuse to start without the current key: what is written then could never be read. Say which old ones fail."""
    for key_id, reason in stores.keyring(owner).check().items():
        log.error("what key %s of %s encrypts cannot be read: %s", key_id, context_of(owner), reason)


def _write_secret(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _default_domain(session: Session, stores: DomainStores, now: datetime) -> None:
    if session.scalar(select(func.count()).select_from(Domain)):
        return
    domain = topology.create_domain(session, DEFAULT_DOMAIN, now)
    stores.new_key(session, domain.id, now)
    for name, description, upstreams in DEFAULT_REPOSITORIES:
        topology.create_repository(
            session,
            domain.id,
            RepositoryName(name),
            description=description,
            upstreams=upstreams,
            external_formats=dict.fromkeys(_public_formats()) if name == "public" else None,
            now=now,
        )
    audit.record(session, now, "first start", "domain.create", DEFAULT_DOMAIN)


def _public_formats() -> list[str]:
    known = formats.all_formats().items()
    return [name for name, each in known if each.default_upstream_url(lambda _: False) is not None]


def _build_account(session: Session, people: Accounts, now: datetime) -> None:
    # Each token of a build has the one repository that its project reads or publishes to; see hooks.builds.access.
    if session.scalar(select(Account.id).where(Account.name == BUILD_ACCOUNT)) is None:
        people.create(session, BUILD_ACCOUNT, actions=[Action.READ, Action.PUBLISH], is_service=True, now=now)
        audit.record(session, now, "first start", "user.create", BUILD_ACCOUNT)


def _administrator(session: Session, people: Accounts, now: datetime) -> str | None:
    """A one-time sign-in while the administrator has no password; each start makes a new one until then."""
    account = session.scalar(select(Account).where(Account.name == ADMINISTRATOR))
    if account is None:
        account = people.create(session, ADMINISTRATOR, actions=[Action.ADMIN], now=now)
        audit.record(session, now, "first start", "user.create", ADMINISTRATOR)
    if account.password_hash is not None:
        return None
    return people.new_setup_login(session, account.id, now)
