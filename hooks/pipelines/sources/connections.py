"""Connections: forges as pipelines reach them, each with what its repositories are fetched with. Told to nobody again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.builds.credentials import check_credential
from hooks.builds.git_address import parse_address
from hooks.builds.git_fetch import GitCredential
from hooks.builds.logs import Sealer
from hooks.models.pipeline_source import GitConnection
from hooks.pipelines.sources.git_settings import GitSettings, connection_name
from registry.db import table_of
from registry.errors import Invalid, NotFound
from registry.repos.sealed_fields import SealedField
from registry.repos.topology import find_repository

PROVIDERS = ("github", "gitlab", "gitea", "generic")
_COMMITS = {"github": "/commit/", "gitea": "/commit/", "gitlab": "/-/commit/"}


@dataclass(frozen=True, slots=True)
class Located:
    """Where a git source is, and whose readers may see what comes from there. ``commits`` + a commit is its page, if known."""

    url: str
    domain: str
    repository: str
    commits: str = ""


def put_connection(
    session: Session,
    sealer: Sealer,
    name: str,
    *,
    provider: str,
    url: str,
    place: tuple[str, str],
    credential: GitCredential | None,
    now: datetime,
) -> tuple[GitConnection, bool]:
    """Make or change a connection; gives it, and whether it is new. Raises Invalid, and NotFound for the repository.

    What was fetched with before goes with a change that brings nothing, and never to another address.
    """
    if connection_name(name) != name or not name:
        raise Invalid("a connection's name has 1 to 100 letters, digits, '.', '_' and '-'")
    if provider not in PROVIDERS:
        raise Invalid(f"provider: one of {', '.join(PROVIDERS)}")
    base = url.rstrip("/")
    scheme = parse_address(f"{base}/x").scheme
    if credential is not None:
        check_credential(credential, scheme)
    find_repository(session, *place)
    row = session.scalar(select(GitConnection).where(GitConnection.name == name).with_for_update())
    is_new = row is None
    if row is None:
        row = GitConnection(name=name, created_at=now)
        session.add(row)
    elif row.url != base and credential is None:
        row.auth_type = row.sealed = None
    row.provider, row.url, (row.domain, row.repository) = provider, base, place
    if credential is not None:
        secret = {"username": credential.username, "secret": credential.secret, "known_hosts": credential.known_hosts}
        row.auth_type = credential.auth_type
        row.sealed = sealer.seal(json.dumps(secret).encode(), box_context(name, base))
    session.flush()
    return row, is_new


def find_connection(session: Session, name: str) -> GitConnection:
    """A connection. Raises NotFound."""
    row = session.scalar(select(GitConnection).where(GitConnection.name == name))
    if row is None:
        raise NotFound("connection", name)
    return row


def locate(session: Session, settings: GitSettings) -> Located:
    """Where a source is now. Raises NotFound for its connection, and Invalid for an address that is not below it."""
    if not settings.connection:
        return Located(settings.url, settings.domain, settings.repository)
    row = find_connection(session, settings.connection)
    url = settings.url or f"{row.url}/{settings.full_name}.git"
    if not url.startswith(f"{row.url}/"):
        raise Invalid(f"{url} is not below connection {row.name} ({row.url})")
    place = (settings.domain, settings.repository) if settings.repository else (row.domain, row.repository)
    word = _COMMITS.get(row.provider, "")
    is_web = row.url.startswith(("https://", "http://"))
    return Located(url, *place, commits=f"{url.removesuffix('.git')}{word}" if word and is_web else "")


def open_connection(session: Session, sealer: Sealer, settings: GitSettings) -> GitCredential | None:
    """What a source is fetched with; None without anything. Raises NotFound, storage.errors.Damaged, KeyUnavailable."""
    if not settings.connection:
        return None
    row = find_connection(session, settings.connection)
    if row.sealed is None or row.auth_type is None:
        return None
    return GitCredential(row.auth_type, **json.loads(sealer.unseal(row.sealed, box_context(row.name, row.url))))


def box_context(name: str, url: str) -> str:
    """What the box of a connection's credential is bound to."""
    return f"git-connection:{name}:{url}"


def sealed_connections() -> SealedField:
    """Where the credentials lie, for whoever rotates the server's keys."""
    table = table_of(GitConnection)
    rows = select(table.c.id, table.c.name, table.c.url, table.c.sealed).where(table.c.sealed.is_not(None))
    return SealedField(
        "credentials of git connections", table, "sealed", rows, lambda row: box_context(row.name, row.url)
    )
