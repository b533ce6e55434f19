"""Destinations as rows: set, listed, deleted; their credentials sealed and told to nobody again."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from hooks.models.destination import PublishDestination
from registry import audit
from registry.db import table_of
from registry.errors import Conflict, Invalid, NotFound
from registry.policy.wildcards import matches
from registry.repos.sealed_fields import SealedField
from registry.upstream.guard import AddressPolicy, check_url, parse_url

LONGEST_URL = 2000
LONGEST_SECRET = 4000
LONGEST_BUNDLE = 256 * 1024
MOST_DESTINATIONS = 200
MOST_PATTERNS = 50
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_PATTERN = re.compile(r"[A-Za-z0-9._*?-]{1,100}/[A-Za-z0-9._*?-]{1,100}\Z")


class Sealer(Protocol):
    """Encrypts small things at rest, bound to ``context``."""

    def seal(self, data: bytes, context: str) -> bytes:
        """Encrypt and authenticate."""
        ...

    def unseal(self, sealed: bytes, context: str) -> bytes:
        """Undo ``seal``. Raises storage.errors.Damaged or KeyUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class DestinationSecret:
    """What a destination wants to see: ``user`` with ``secret`` (Basic), or without a user ``secret`` alone (Bearer)."""

    user: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A destination as it is to be. ``credential`` None keeps the one there is, ``no_credential`` takes it away."""

    name: str
    format: str
    url: str
    repositories: Sequence[str]
    index_url: str = ""
    credential: DestinationSecret | None = None
    no_credential: bool = False
    ca_pem: str | None = None


@dataclass(frozen=True, slots=True)
class DestinationView:
    """A destination, without its credential: ``has_credential`` and ``user`` are all that is told of it."""

    name: str
    format: str
    url: str
    index_url: str
    repositories: tuple[str, ...]
    has_credential: bool
    has_own_certificates: bool
    updated_at: datetime
    updated_by: str


class Destinations:
    """Checks and keeps destinations, in the caller's transaction. ``policy`` judges URLs already when they are saved."""

    def __init__(self, policy: AddressPolicy, formats: Collection[str]) -> None:
        self._policy = policy
        self.formats = tuple(formats)

    def put(self, session: Session, sealer: Sealer, wanted: Wanted, *, actor: str, now: datetime) -> PublishDestination:
        """Make a destination, or change it. Raises Invalid, and Conflict for a URL of another origin without a secret.

        A credential never follows a URL to another scheme, host or port: it has to be given again, or taken away.
        """
        self._check(wanted)
        row = session.scalar(_named(wanted.name).with_for_update())
        is_new = row is None
        if row is None:
            _check_room(session)
            row = PublishDestination(name=wanted.name, format=wanted.format, url=wanted.url, created_at=now)
            session.add(row)
        moved = not is_new and parse_url(row.url).origin != parse_url(wanted.url).origin
        if moved and row.sealed_credential is not None and wanted.credential is None and not wanted.no_credential:
            raise Conflict("the URL leads to another host now: give the secret again, or say that there is none")
        row.format, row.url, row.index_url = wanted.format, wanted.url, wanted.index_url
        row.repositories = sorted(set(wanted.repositories))
        row.ca_pem = wanted.ca_pem if wanted.ca_pem is not None else row.ca_pem
        row.ca_pem = row.ca_pem or None
        row.updated_at, row.updated_by = now, actor
        session.flush()
        if wanted.credential is not None:
            told = json.dumps({"user": wanted.credential.user, "secret": wanted.credential.secret})
            row.sealed_credential = sealer.seal(told.encode(), box_context(row.id, row.url))
        elif wanted.no_credential:
            row.sealed_credential = None
        session.flush()
        audit.record(
            session, now, actor, "destination.create" if is_new else "destination.update", path(row.name),
            url=row.url, format=row.format, repositories=list(row.repositories),
            credential="given" if wanted.credential else "removed" if wanted.no_credential else "kept",
        )  # fmt: skip
        return row

    def _check(self, wanted: Wanted) -> None:
        if not _NAME.match(wanted.name):
            raise Invalid(
                "a destination's name has 1 to 100 of letters, digits, '.', '_' and '-', a letter or digit first"
            )
        if wanted.format not in self.formats:
            raise Invalid(
                f"versions of {wanted.format[:40]!a} are not published outside; {', '.join(self.formats)} are"
            )
        for url in (wanted.url, *filter(None, (wanted.index_url,))):
            if len(url) > LONGEST_URL:
                raise Invalid(f"a destination's URL has at most {LONGEST_URL} characters")
            if "?" in url or "#" in url:
                raise Invalid("a destination's URL has no query and no fragment")
            check_url(url, self._policy)
        if not 1 <= len(wanted.repositories) <= MOST_PATTERNS:
            raise Invalid(f"name 1 to {MOST_PATTERNS} repositories that may publish there, like default/prod")
        wrong = next((each for each in wanted.repositories if not _PATTERN.match(each)), None)
        if wrong is not None:
            raise Invalid(f"{wrong[:80]!a} is no repository like default/prod, or a pattern of such")
        if wanted.credential is not None:
            _check_credential(wanted.credential, wanted.url)
        _check_certificates(wanted.ca_pem)


def _check_credential(given: DestinationSecret, url: str) -> None:
    if not given.secret or len(given.secret) > LONGEST_SECRET or not given.secret.isprintable():
        raise Invalid(f"the secret is one line of 1 to {LONGEST_SECRET} characters")
    if not given.user.isprintable() or len(given.user) > 255 or ":" in given.user:
        raise Invalid("the user is one line of at most 255 characters without a colon")
    if not given.user and not given.secret.isascii():
        raise Invalid("a token without a user is of ASCII characters")
    parse_url(url)


def _check_certificates(pem: str | None) -> None:
    if not pem:
        return
    if len(pem) > LONGEST_BUNDLE:
        raise Invalid(f"the certificates have at most {LONGEST_BUNDLE} characters")
    try:
        ssl.create_default_context(cadata=pem)
    except (ssl.SSLError, ValueError) as error:
        raise Invalid("the certificates are no PEM file") from error


def find(session: Session, name: str) -> PublishDestination:
    """The destination of that name. Raises NotFound."""
    row = session.scalar(_named(name))
    if row is None:
        raise NotFound("destination", name)
    return row


def listed(session: Session) -> list[DestinationView]:
    """All of them by name."""
    return [view(row) for row in session.scalars(select(PublishDestination).order_by(PublishDestination.name))]


def delete(session: Session, name: str, *, actor: str, now: datetime) -> None:
    """Forget a destination with its credential. Raises NotFound."""
    row = find(session, name)
    session.delete(row)
    audit.record(session, now, actor, "destination.delete", path(name), url=row.url)


def view(row: PublishDestination) -> DestinationView:
    """A destination to be shown."""
    return DestinationView(
        row.name, row.format, row.url, row.index_url, tuple(row.repositories), row.sealed_credential is not None,
        row.ca_pem is not None, row.updated_at, row.updated_by,
    )  # fmt: skip


def check_use(row: PublishDestination, format_name: str, repository: str) -> None:
    """Raise Conflict unless versions of this format may be published there from ``repository`` (``domain/name``)."""
    if row.format != format_name:
        raise Conflict(f"destination {row.name} takes {row.format}, and not {format_name}")
    if not any(matches(pattern, repository) for pattern in row.repositories):
        raise Conflict(f"destination {row.name} is not for {repository}: {', '.join(row.repositories)} may use it")


def opened(sealer: Sealer, row: PublishDestination) -> DestinationSecret | None:
    """The credential. Raises storage.errors.Damaged or KeyUnavailable."""
    if row.sealed_credential is None:
        return None
    return DestinationSecret(**json.loads(sealer.unseal(row.sealed_credential, box_context(row.id, row.url))))


def path(name: str) -> str:
    """What an audit entry calls it."""
    return f"destination/{name}"


def box_context(destination_id: int, url: str) -> str:
    """What the box of a credential is bound to: the row, and the origin that the credential goes to."""
    origin = parse_url(url).origin
    return f"publish-destination:{destination_id}:{origin.scheme}://{origin.authority}"


def sealed_destinations() -> SealedField:
    """Where the credentials lie, for whoever rotates the server's keys."""
    table = table_of(PublishDestination)
    rows = select(table.c.id, table.c.url, table.c.sealed_credential)
    return SealedField(
        "credentials of destinations", table, "sealed_credential", rows, lambda row: box_context(row.id, row.url)
    )


def _named(name: str) -> Select[PublishDestination]:
    return select(PublishDestination).where(PublishDestination.name == name)


def _check_room(session: Session) -> None:
    if len(session.scalars(select(PublishDestination.id).limit(MOST_DESTINATIONS)).all()) >= MOST_DESTINATIONS:
        raise Conflict(f"there are {MOST_DESTINATIONS} destinations already")
