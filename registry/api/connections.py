"""The external connections of a repository: where it asks outside, with what credential, and how that goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from registry import audit
from registry.access import Action
from registry.api.routes import Route
from registry.api.shapes import Between, Length
from registry.http import context
from registry.http.auth import requires
from registry.models import Repository
from registry.repos import connections, health, topology

Secret = Annotated[str, Length(0, connections.LONGEST_SECRET)]
Position = Annotated[int, Between(0, connections.LAST_POSITION)]
Url = Annotated[str, Length(0, connections.LONGEST_URL)]
Bundle = Annotated[str, Length(0, connections.LONGEST_BUNDLE)]


@dataclass(frozen=True, slots=True)
class CredentialSent:
    """What the upstream wants to see: ``user`` and ``password`` (Basic), or ``token`` (Bearer). Never shown again."""

    user: Annotated[str, Length(0, 200)] = ""
    password: Secret = field(default="", repr=False)
    token: Secret = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class NewConnection:
    """An external connection to make.

    ``url`` null is the index that the format's own tools point at. A ``credential`` is sent to exactly the scheme, host
    and port of ``url``. ``ca_bundle`` is PEM text that replaces the usual certificate authorities. Connections are
    asked by ``position``, lower ones first; null puts it behind the others.
    """

    format: str
    name: str
    url: Url | None = None
    credential: CredentialSent | None = None
    ca_bundle: Bundle | None = None
    position: Position | None = None


@dataclass(frozen=True, slots=True)
class ConnectionChange:
    """What to change; a field that is not there (or null) stays.

    ``url`` "" is the tools' own default, ``ca_bundle`` "" removes it. A URL of another origin needs the credential
    again, or ``removeCredential``.
    """

    url: Url | None = None
    credential: CredentialSent | None = None
    remove_credential: bool = False
    ca_bundle: Bundle | None = None
    position: Position | None = None


@dataclass(frozen=True, slots=True)
class ConnectionList:
    """A repository's own external connections, in the order in which they are asked."""

    items: tuple[health.ConnectionDetail, ...]


def list_connections() -> ConnectionList:
    """A repository's external connections, with how each of them does."""
    services = context.services()
    with services.db.read() as session:
        return ConnectionList(tuple(health.details(session, context.admission().repository_id, services.clock())))


def create_connection(domain: str, repository: str, body: NewConnection) -> health.ConnectionDetail:
    """Add an external connection to a repository."""
    services, caller, now = context.services(), context.caller(), context.services().clock()
    wish = connections.Wish(body.url or None, _credential(body.credential), body.ca_bundle, body.position)
    sealer = services.stores.keyring(context.admission().domain_id)
    with services.db.write() as session:
        _, row = topology.find_repository(session, domain, repository)
        services.connections.add(session, row, body.format, body.name, wish, sealer, now)
        audit.record(
            session,
            now,
            caller.name,
            "connection.create",
            f"{domain}/{repository}/{body.format}/{body.name}",
            url=wish.url,
            credential=body.credential is not None,
            ca_bundle=bool(body.ca_bundle),
        )
    return _shown(row, body.format, body.name)


def change_connection(
    domain: str, repository: str, format_name: str, name: str, body: ConnectionChange
) -> health.ConnectionDetail:
    """Change an external connection's URL, credential, certificate authorities or position."""
    services, caller, now = context.services(), context.caller(), context.services().clock()
    change = connections.Change(
        body.url, _credential(body.credential), body.remove_credential, body.ca_bundle, body.position
    )
    sealer = services.stores.keyring(context.admission().domain_id)
    with services.db.write() as session:
        _, row = topology.find_repository(session, domain, repository)
        services.connections.change(session, row, format_name, name, change, sealer)
        changed = {key: value for key, value in (("url", body.url), ("position", body.position)) if value is not None}
        if body.credential is not None or body.remove_credential:
            changed["credential"] = body.credential is not None
        if body.ca_bundle is not None:
            changed["ca_bundle"] = bool(body.ca_bundle)
        place = f"{domain}/{repository}/{format_name}/{name}"
        audit.record(session, now, caller.name, "connection.change", place, **changed)
    return _shown(row, format_name, name)


def remove_connection(domain: str, repository: str, format_name: str, name: str) -> None:
    """Remove an external connection. What it brought stays in the repositories that keep it."""
    services, caller, now = context.services(), context.caller(), context.services().clock()
    with services.db.write() as session:
        _, row = topology.find_repository(session, domain, repository)
        services.connections.remove(session, row, format_name, name)
        audit.record(session, now, caller.name, "connection.remove", f"{domain}/{repository}/{format_name}/{name}")


def _credential(sent: CredentialSent | None) -> connections.Credential | None:
    return None if sent is None else connections.Credential(sent.user, sent.password, sent.token)


def _shown(repository: Repository, format_name: str, name: str) -> health.ConnectionDetail:
    services = context.services()
    with services.db.read() as session:
        found = health.details(session, repository.id, services.clock())
    return next(entry for entry in found if (entry.format, entry.name) == (format_name, name))


_ALL = "/domains/<domain>/repositories/<repository>/connections"
_ONE = f"{_ALL}/<format_name>/<name>"
ROUTES = (
    Route("GET", _ALL, requires(Action.READ, repository=True), list_connections, answer=ConnectionList),
    Route(
        "POST",
        _ALL,
        requires(Action.ADMIN, repository=True, permission="codeartifact:AssociateExternalConnection"),
        create_connection,
        body=NewConnection,
        answer=health.ConnectionDetail,
        status=201,
        holds_secrets=True,
    ),
    Route(
        "PATCH",
        _ONE,
        requires(Action.ADMIN, repository=True, permission="codeartifact:AssociateExternalConnection"),
        change_connection,
        body=ConnectionChange,
        answer=health.ConnectionDetail,
        holds_secrets=True,
    ),
    Route(
        "DELETE",
        _ONE,
        requires(Action.ADMIN, repository=True, permission="codeartifact:DisassociateExternalConnection"),
        remove_connection,
        status=204,
    ),
)
