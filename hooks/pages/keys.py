"""Keys of the server and of each domain: which there are, what is under old ones, rotated and verified with a button."""

from __future__ import annotations

from flask import Blueprint, render_template, url_for
from flask.typing import ResponseReturnValue

from hooks import key_rotation
from hooks.key_rotation import DomainKeys, KeyVerification
from hooks.services import HookServices
from registry.access import Action, Identity, check
from registry.errors import Denied
from registry.http import context
from registry.http.auth import page
from registry.pages.appearance import redirect_with
from registry.pages.panels import AdministrationEntry
from registry.pages.proof import proved
from registry.repos import key_use
from registry.repos.key_use import SERVER_NAME, Owner

MANAGE_KEYS = "entrepot:ManageKeys"
ENTRY = AdministrationEntry(
    "Keys",
    "key",
    "hook_pages.keys",
    ("/keys",),
    "What files and secrets are encrypted under: rotated, and verified.",
    lambda who: who.could(Action.ADMIN),
)


def _manages(who: Identity, owner: Owner) -> bool:
    # The server's own are not in a place of that name: no domain can be called so.
    return who.may(Action.ADMIN, domain="" if owner.domain_id is None else owner.name, permission=MANAGE_KEYS)


class KeyPages:
    """The page of keys."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self, pages: Blueprint) -> None:
        """Add the routes."""
        pages.add_url_rule("/keys", "keys", page(self.show))
        for at, rotate, verify in (
            ("/keys/server", self.rotate_server, self.verify_server),
            ("/keys/domains/<domain>", self.rotate_domain, self.verify_domain),
        ):
            word = "domain" if "<domain>" in at else "server"
            pages.add_url_rule(f"{at}/rotate", f"rotate_{word}_keys", page(proved()(rotate)), methods=["POST"])
            pages.add_url_rule(f"{at}/verify", f"verify_{word}_keys", page(verify), methods=["POST"])

    def show(self) -> str:
        """The keys that one may manage."""
        return self._shown(None)

    def _shown(self, verified: KeyVerification | None) -> str:
        who, services = context.caller(), self._services
        if not who.could(Action.ADMIN):
            raise Denied(f"{who.name} may not manage keys")
        with services.db.read() as session:
            owners = [owner for owner in key_use.owners(session) if _manages(who, owner)]
            found = [key_rotation.shown(session, services.stores, services.sealed_fields, owner) for owner in owners]
        return render_template(
            "keys.html",
            owners=[(keys, _address(keys), _progress(keys)) for keys in found],
            server=SERVER_NAME,
            verified=verified,
        )

    def rotate_domain(self, domain: str) -> ResponseReturnValue:
        """Ask the worker for new keys of a domain."""
        check(context.caller(), Action.ADMIN, domain=domain, permission=MANAGE_KEYS)
        with self._services.db.read() as session:
            owner = key_use.owner_named(session, domain)
        return self._rotate(owner)

    def rotate_server(self) -> ResponseReturnValue:
        """Ask the worker for a new key of the server."""
        check(context.caller(), Action.ADMIN, permission=MANAGE_KEYS)
        with self._services.db.read() as session:
            owner = key_rotation.server(session)
        return self._rotate(owner)

    def _rotate(self, owner: Owner) -> ResponseReturnValue:
        with self._services.db.write() as session:
            job = key_rotation.ask(session, owner, context.caller().name, self._services.clock())
        return redirect_with(
            "keys-rotating" if job is not None else "keys-rotating-already", url_for("hook_pages.keys")
        )

    def verify_domain(self, domain: str) -> ResponseReturnValue:
        """Try whether the keys of a domain open. Changes nothing."""
        check(context.caller(), Action.ADMIN, domain=domain, permission=MANAGE_KEYS)
        with self._services.db.read() as session:
            owner = key_use.owner_named(session, domain)
        return self._verify(owner)

    def verify_server(self) -> ResponseReturnValue:
        """Try whether the server's own keys open. Changes nothing."""
        check(context.caller(), Action.ADMIN, permission=MANAGE_KEYS)
        with self._services.db.read() as session:
            owner = key_rotation.server(session)
        return self._verify(owner)

    def _verify(self, owner: Owner) -> str:
        services = self._services
        return self._shown(key_rotation.verified(services.db, services.stores, services.sealed_fields, owner))


def _address(keys: DomainKeys) -> dict[str, str]:
    """Where the forms of an owner go: by what they do."""
    if keys.domain == SERVER_NAME:
        return {act: url_for(f"hook_pages.{act}_server_keys") for act in ("rotate", "verify")}
    return {act: url_for(f"hook_pages.{act}_domain_keys", domain=keys.domain) for act in ("rotate", "verify")}


def _progress(keys: DomainKeys) -> tuple[int, int]:
    """How many rows are under the present key, of how many."""
    total = sum(use.blobs + use.fields for use in keys.keys)
    return total - keys.remaining, total
