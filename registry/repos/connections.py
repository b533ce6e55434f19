"""External connections as things of their own: added, changed, removed, and their credentials sealed.

A credential belongs to exactly one origin (scheme, host and port). That is in the seal itself: moved to a row with
another URL it does not open, so that whoever may change a connection cannot have its password sent elsewhere.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from registry.errors import Conflict, Invalid, NotFound
from registry.models import ExternalConnection, Repository, UpstreamPage
from registry.names import connection_name
from registry.repos import topology
from registry.upstream.guard import AddressPolicy, check_url, parse_url

LONGEST_URL = 2000
LONGEST_SECRET = 4000
LONGEST_BUNDLE = 256 * 1024
MOST_CONNECTIONS = 50
LAST_POSITION = 999


class Sealer(Protocol):
    """Seals small secrets under a domain's key (``storage.keyring.Keyring``)."""

    def seal(self, plain: bytes, context: str) -> bytes:
        """``plain`` encrypted, bound to ``context``."""

    def unseal(self, sealed: bytes, context: str) -> bytes:
        """What ``seal`` was given. Raises StorageError."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What an upstream wants to see: ``user`` and ``password`` (sent as Basic) or ``token`` (sent as Bearer)."""

    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Wish:
    """A connection as it is to be. ``credential`` None means none; ``position`` None means behind the others."""

    url: str | None = None
    credential: Credential | None = None
    ca_bundle: str | None = None
    position: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What changes; None stays as it is. ``url`` "" means the tools' own default, ``ca_bundle`` "" none."""

    url: str | None = None
    credential: Credential | None = None
    remove_credential: bool = False
    ca_bundle: str | None = None
    position: int | None = None


class Connections:
    """Changes the external connections of repositories, in the caller's transaction. Stateless."""

    def __init__(self, policy: AddressPolicy, formats: Collection[str]) -> None:
        """``policy`` judges a URL already when it is saved; ``formats`` are the words of the known formats."""
        self._policy = policy
        self._formats = formats

    def check_url(self, url: str) -> None:
        """Refuse a URL that would never be asked. Raises Invalid."""
        if len(url) > LONGEST_URL:
            raise Invalid(f"an external connection's URL has at most {LONGEST_URL} characters")
        check_url(url, self._policy)

    def check_format(self, format_name: str) -> None:
        """Raises Invalid for a format that is not known."""
        if format_name not in self._formats:
            raise Invalid(f"format {format_name!r} is not known; known are {', '.join(sorted(self._formats))}")

    def add(
        self,
        session: Session,
        repository: Repository,
        format_name: str,
        name: str,
        wish: Wish,
        sealer: Sealer,
        now: datetime,
    ) -> ExternalConnection:
        """Add a connection. Raises Conflict for a taken name, Invalid for what cannot be."""
        self.check_format(format_name)
        of_this = ExternalConnection.repository_id == repository.id
        if _row(session, repository.id, format_name, connection_name(name)) is not None:
            raise Conflict(f"{repository.name} has an external connection {name} for {format_name} already")
        if (
            session.scalar(select(func.count()).select_from(ExternalConnection).where(of_this)) or 0
        ) >= MOST_CONNECTIONS:
            raise Invalid(f"a repository has at most {MOST_CONNECTIONS} external connections")
        last = session.scalar(select(func.max(ExternalConnection.position)).where(of_this))
        row = ExternalConnection(
            repository_id=repository.id,
            format=format_name,
            name=name,
            url=wish.url or None,
            position=min((last or 0) + 1, LAST_POSITION) if wish.position is None else wish.position,
            created_at=now,
        )
        self._fill(row, wish.credential, wish.ca_bundle, sealer)
        session.add(row)
        session.flush()
        topology.bump(session, repository.domain_id)
        return row

    def change(
        self, session: Session, repository: Repository, format_name: str, name: str, change: Change, sealer: Sealer
    ) -> ExternalConnection:
        """Change a connection; its kept pages go when its URL changes. Raises NotFound, or Invalid.

        A credential never follows a URL to another origin: it has to be given again, or removed.
        """
        row = find(session, repository, format_name, name)
        before = row.url
        if change.url is not None:
            row.url = change.url or None
        if change.position is not None:
            row.position = change.position
        if change.remove_credential:
            row.sealed_credential = None
        moved = row.url != before
        if (
            moved
            and row.sealed_credential is not None
            and change.credential is None
            and not _same_origin(before, row.url)
        ):
            raise Invalid("the credential was given for another origin: give it again, or remove it")
        self._fill(row, change.credential, change.ca_bundle, sealer)
        if moved:
            # What another index said of a name is no answer of this one, not even a stale one.
            session.execute(delete(UpstreamPage).where(UpstreamPage.connection_id == row.id))
        session.flush()
        topology.bump(session, repository.domain_id)
        return row

    def remove(self, session: Session, repository: Repository, format_name: str, name: str) -> None:
        """Remove a connection. What was kept of it stays in its repositories. Raises NotFound."""
        session.delete(find(session, repository, format_name, name))
        session.flush()
        topology.bump(session, repository.domain_id)

    def _fill(
        self, row: ExternalConnection, credential: Credential | None, ca_bundle: str | None, sealer: Sealer
    ) -> None:
        if row.url is not None:
            self.check_url(row.url)
        if not 0 <= row.position <= LAST_POSITION:
            raise Invalid(f"a position is from 0 to {LAST_POSITION}")
        if ca_bundle is not None:
            row.ca_bundle = _checked_bundle(ca_bundle) if ca_bundle.strip() else None
        if credential is not None:
            if row.url is None:
                raise Invalid("a credential needs a connection with a URL of its own, to which alone it is sent")
            row.sealed_credential = sealer.seal(
                json.dumps(_checked_credential(credential)).encode(),
                credential_context(row.repository_id, row.format, row.name, row.url),
            )


def find(session: Session, repository: Repository, format_name: str, name: str) -> ExternalConnection:
    """A repository's connection. Raises NotFound."""
    row = _row(session, repository.id, format_name, name)
    if row is None:
        raise NotFound("external connection", f"{format_name}/{name}")
    return row


def open_credential(connection: topology.Connection, sealer: Sealer) -> Credential | None:
    """The credential of a connection, for its own origin. Raises StorageError where it does not open."""
    if connection.sealed_credential is None or connection.url is None:
        return None
    context = credential_context(connection.repository_id, connection.format, connection.name, connection.url)
    return Credential(**json.loads(sealer.unseal(connection.sealed_credential, context)))


def _row(session: Session, repository_id: int, format_name: str, name: str) -> ExternalConnection | None:
    return session.scalar(
        select(ExternalConnection).where(
            ExternalConnection.repository_id == repository_id,
            ExternalConnection.format == format_name,
            ExternalConnection.name == name,
        )
    )


def credential_context(repository_id: int, format_name: str, name: str, url: str) -> str:
    """What a credential's box is bound to: its connection, and the origin it is sent to."""
    origin = parse_url(url).origin
    return f"external-connection/{repository_id}/{format_name}/{name}/{origin.scheme}://{origin.host}:{origin.port}"


def _same_origin(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and parse_url(one).origin == parse_url(other).origin


def _checked_credential(credential: Credential) -> dict[str, Any]:
    values = {"user": credential.user, "password": credential.password, "token": credential.token}
    given = {name: value for name, value in values.items() if value}
    if set(given) not in ({"token"}, {"user", "password"}, {"password"}):
        raise Invalid("a credential is a user and a password, or a token")
    if any(len(value) > LONGEST_SECRET or not value.isprintable() for value in given.values()):
        raise Invalid(f"a credential has at most {LONGEST_SECRET} printable characters")
    if ":" in credential.user:
        raise Invalid("a user name holds no colon (RFC 7617 section 2)")
    if credential.token and not (credential.token.isascii() and " " not in credential.token):
        raise Invalid("a token is ASCII without blanks (RFC 6750 section 2.1)")
    return given


def _checked_bundle(text: str) -> str:
    if len(text) > LONGEST_BUNDLE:
        raise Invalid(f"a CA bundle has at most {LONGEST_BUNDLE} characters")
    if "PRIVATE KEY" in text:
        raise Invalid("the CA bundle holds a private key; send certificates only")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError, UnicodeError):
        raise Invalid("the CA bundle is no list of PEM certificates") from None
    return text
