"""Destinations: the registries elsewhere that versions may be published to. Credentials go in, and never come out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from hooks.destinations import store
from hooks.destinations.store import DestinationSecret, DestinationView, Wanted
from hooks.services import HookServices
from registry.access import Action
from registry.api.routes import Route
from registry.api.shapes import Length
from registry.errors import Invalid
from registry.http import context
from registry.http.auth import requires

Url = Annotated[str, Length(0, store.LONGEST_URL)]


@dataclass(frozen=True, slots=True)
class DestinationList:
    """All destinations by name."""

    items: tuple[DestinationView, ...]


@dataclass(frozen=True, slots=True)
class DestinationChange:
    """A destination as it is to be.

    `url` is where things are sent, `index_url` where it is looked up what is there (a simple index's root, where the
    format uploads elsewhere). `repositories` (`domain/name`, with `*`) may publish to it. `secret` goes as Basic with
    `user`, without one as Bearer; null keeps the one there is, `no_credential` takes it away. `ca_bundle` (PEM) replaces
    the usual certificates, "" brings them back.
    """

    format: Annotated[str, Length(1, 32)]
    url: Annotated[str, Length(1, store.LONGEST_URL)]
    repositories: Annotated[tuple[Annotated[str, Length(1, 201)], ...], Length(1, store.MOST_PATTERNS)]
    index_url: Url = ""
    user: Annotated[str, Length(0, 255)] = ""
    secret: Annotated[str, Length(1, store.LONGEST_SECRET)] | None = None
    no_credential: bool = False
    ca_bundle: Annotated[str, Length(0, store.LONGEST_BUNDLE)] | None = None


class DestinationViews:
    """The operations on destinations, for administrators."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self) -> tuple[Route, ...]:
        """The part of the table."""
        door, one = requires(Action.ADMIN), "/destinations/<destination>"
        return (
            Route("GET", "/destinations", door, self.list_destinations, answer=DestinationList),
            Route("GET", one, door, self.show_destination, answer=DestinationView),
            Route("PUT", one, door, self.put_destination, body=DestinationChange, answer=DestinationView,
                  holds_secrets=True),
            Route("DELETE", one, door, self.delete_destination, status=204),
        )  # fmt: skip

    def list_destinations(self) -> DestinationList:
        """All destinations, without their credentials."""
        with self._services.db.read() as session:
            return DestinationList(tuple(store.listed(session)))

    def show_destination(self, destination: str) -> DestinationView:
        """A destination, without its credential."""
        with self._services.db.read() as session:
            return store.view(store.find(session, destination))

    def put_destination(self, destination: str, body: DestinationChange) -> DestinationView:
        """Make a destination, or change it. A credential never follows a URL to another host (409)."""
        if body.secret is not None and body.no_credential:
            raise Invalid("secret and no_credential exclude each other")
        if body.user and body.secret is None:
            raise Invalid("a user goes with a secret")
        credential = DestinationSecret(body.user, body.secret) if body.secret is not None else None
        wanted = Wanted(
            destination, body.format, body.url, body.repositories, body.index_url, credential, body.no_credential,
            body.ca_bundle,
        )  # fmt: skip
        sealer, who, now = self._services.stores.server_keyring(), context.caller().name, self._services.clock()
        with self._services.db.write() as session:
            return store.view(self._services.destinations.put(session, sealer, wanted, actor=who, now=now))

    def delete_destination(self, destination: str) -> None:
        """Forget a destination with its credential. Pipelines that name it fail there from now on."""
        who, now = context.caller().name, self._services.clock()
        with self._services.db.write() as session:
            store.delete(session, destination, actor=who, now=now)
