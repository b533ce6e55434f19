"""The keys of the server and of a domain: which there are, what still uses them, their rotation, whether they open."""

from __future__ import annotations

from sqlalchemy.orm import Session

from hooks import key_rotation
from hooks.key_rotation import DomainKeys, KeyVerification
from hooks.services import HookServices
from registry.access import Action
from registry.api.routes import Route
from registry.http import context
from registry.http.auth import requires
from registry.repos.key_use import Owner, owner_named


class KeyViews:
    """The operations on keys."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self) -> tuple[Route, ...]:
        """The part of the table: for administrators."""
        door, place = requires(Action.ADMIN, domain=True, permission="entrepot:ManageKeys"), "/domains/<domain>/keys"
        whole = requires(Action.ADMIN, permission="entrepot:ManageKeys")
        return (
            Route("GET", place, door, self.list_domain_keys, answer=DomainKeys),
            Route("POST", f"{place}/rotate", door, self.rotate_domain_keys, answer=DomainKeys, status=202),
            Route("GET", f"{place}/verification", door, self.verify_domain_keys, answer=KeyVerification),
            Route("GET", "/keys", whole, self.list_server_keys, answer=DomainKeys),
            Route("POST", "/keys/rotate", whole, self.rotate_server_keys, answer=DomainKeys, status=202),
            Route("GET", "/keys/verification", whole, self.verify_server_keys, answer=KeyVerification),
        )

    def list_domain_keys(self, domain: str) -> DomainKeys:
        """The keys of a domain with their state, what each still wraps, and the newest rotation."""
        with self._services.db.read() as session:
            return self._shown(session, owner_named(session, domain))

    def rotate_domain_keys(self, domain: str) -> DomainKeys:
        """Have the worker make a new key and wrap anew what the older ones wrap; nothing stored is rewritten.

        While one is waiting or running, this asks for no other. An unfinished one is finished first.
        """
        with self._services.db.write() as session:
            return self._rotate(session, owner_named(session, domain))

    def verify_domain_keys(self, domain: str) -> KeyVerification:
        """Whether the keys of a domain open, with a sample of what they wrap. `entrepot keys verify --all` tries all."""
        with self._services.db.read() as session:
            owner = owner_named(session, domain)
        return self._verified(owner)

    def list_server_keys(self) -> DomainKeys:
        """The server's own keys, for its signing keys and the logs of builds, as those of a domain are listed."""
        with self._services.db.read() as session:
            return self._shown(session, key_rotation.server(session))

    def rotate_server_keys(self) -> DomainKeys:
        """Have the worker make a new key for the server and seal anew what the older ones seal."""
        with self._services.db.write() as session:
            return self._rotate(session, key_rotation.server(session))

    def verify_server_keys(self) -> KeyVerification:
        """Whether the server's own keys open, with a sample of what they seal."""
        with self._services.db.read() as session:
            owner = key_rotation.server(session)
        return self._verified(owner)

    def _shown(self, session: Session, owner: Owner) -> DomainKeys:
        return key_rotation.shown(session, self._services.stores, self._services.sealed_fields, owner)

    def _rotate(self, session: Session, owner: Owner) -> DomainKeys:
        key_rotation.ask(session, owner, context.caller().name, self._services.clock())
        session.flush()
        return self._shown(session, owner)

    def _verified(self, owner: Owner) -> KeyVerification:
        return key_rotation.verified(self._services.db, self._services.stores, self._services.sealed_fields, owner)
