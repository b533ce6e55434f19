"""Where sealed boxes lie in rows: whoever seals into a column says so here, so that a rotation finds all of them.

``tests/unit/registry/test_sealed_fields.py`` holds every column of bytes to a table of these.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, LargeBinary, Row, Select, Table, func, literal_column, select
from sqlalchemy.orm import Session

from registry.db import table_of
from registry.idempotency import box_context as answer_context
from registry.models import ExternalConnection, IdempotencyKey, Package, PackageVersion, Repository, SigningKey, Totp
from registry.names import PackageKey, PackageName
from registry.repos import topology
from registry.repos.connections import credential_context
from registry.repos.descriptions import box_context as description_context
from registry.repos.signing import box_context as signing_context
from registry.second_factor import box_context as seed_context
from storage.sealing import KEY_ID_AT, KEY_ID_CHARACTERS


@dataclass(frozen=True, slots=True)
class SealedField:
    """A column of sealed boxes. ``what`` names it for people, in the plural.

    ``rows`` selects the primary key, the box under its column's name, and what ``context`` makes the box's context of.
    ``domain`` is the column in it that tells whose keys seal; None: the server's. ``changed`` is called, in the
    transaction, with the domain whose boxes were sealed anew.
    """

    what: str
    table: Table
    box: str
    rows: Select[Any]
    context: Callable[[Row[Any]], str]
    domain: ColumnElement[Any] | None = None
    changed: Callable[[Session, int], None] | None = None

    @property
    def column(self) -> ColumnElement[Any]:
        """The column of the boxes."""
        return self.table.c[self.box]

    @property
    def key(self) -> tuple[ColumnElement[Any], ...]:
        """The columns of the primary key."""
        return tuple(self.table.primary_key.columns)

    def of(self, domain_id: int | None) -> Select[Any]:
        """The rows that have a box of this domain; None: of the server."""
        found = self.rows.where(self.column.is_not(None))
        return found if self.domain is None else found.where(self.domain == domain_id)


def key_id_in(box: ColumnElement[Any], start: int = 0) -> ColumnElement[bytes]:
    """SQL for the id of the key that sealed the box at byte ``start`` of a column, as bytes."""
    # Numbers in the text: PostgreSQL picks substr by the types of its parameters.
    at: ColumnElement[int] = literal_column(str(start + KEY_ID_AT + 1))
    length: ColumnElement[int] = literal_column(str(KEY_ID_CHARACTERS))
    return func.substr(box, at, length, type_=LargeBinary)


def sealed_under(box: ColumnElement[Any], keys: Collection[str], start: int = 0) -> ColumnElement[bool]:
    """SQL for whether one of ``keys`` sealed the box."""
    return key_id_in(box, start).in_([key.encode("ascii") for key in keys])


def _descriptions() -> SealedField:
    version, package, repository = (table_of(each) for each in (PackageVersion, Package, Repository))
    rows = (
        select(version.c.id, version.c.description, version.c.version)
        .add_columns(package.c.format, package.c.namespace, package.c.name)
        .join(package, package.c.id == version.c.package_id)
        .join(repository, repository.c.id == package.c.repository_id)
    )

    def context(row: Row[Any]) -> str:
        return description_context(PackageKey(row.format, row.namespace, PackageName(row.name)), row.version)

    return SealedField("descriptions of versions", version, "description", rows, context, repository.c.domain_id)


def _credentials() -> SealedField:
    connection, repository = table_of(ExternalConnection), table_of(Repository)
    rows = (
        select(connection.c.id, connection.c.sealed_credential, connection.c.url)
        .add_columns(connection.c.repository_id, connection.c.format, connection.c.name)
        .join(repository, repository.c.id == connection.c.repository_id)
        .where(connection.c.url.is_not(None))
    )

    def context(row: Row[Any]) -> str:
        return credential_context(row.repository_id, row.format, row.name, row.url)

    # Processes keep a domain's connections, credentials with them, until its topology changes.
    return SealedField(
        "credentials of external connections",
        connection,
        "sealed_credential",
        rows,
        context,
        repository.c.domain_id,
        topology.bump,
    )


def _signing_keys() -> SealedField:
    table = table_of(SigningKey)
    return SealedField(
        "signing keys",
        table,
        "sealed",
        select(table.c.purpose, table.c.sealed),
        lambda row: signing_context(row.purpose),
    )


def _seeds() -> SealedField:
    table = table_of(Totp)
    rows = select(table.c.account_id, table.c.sealed)
    return SealedField("seeds of authenticator apps", table, "sealed", rows, lambda row: seed_context(row.account_id))


def _repeated_answers() -> SealedField:
    table = table_of(IdempotencyKey)
    rows = select(table.c.account_id, table.c.key, table.c.sealed_body)
    return SealedField(
        "answers kept for requests that are repeated",
        table,
        "sealed_body",
        rows,
        lambda row: answer_context(row.account_id, row.key),
    )


def registry_fields() -> Sequence[SealedField]:
    """The sealed fields of the registry; ``hooks`` adds its own."""
    return (_descriptions(), _credentials(), _signing_keys(), _seeds(), _repeated_answers())
