"""Destinations: the registries elsewhere that versions are published to, for administrators."""

from __future__ import annotations

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue

from hooks.destinations import store
from hooks.destinations.store import DestinationSecret, Wanted
from hooks.pages.forms import sentence
from hooks.services import HookServices
from registry.access import Action, check
from registry.errors import Conflict, Invalid
from registry.http import context
from registry.http.auth import page
from registry.http.problems import status_of
from registry.pages.appearance import redirect_with
from registry.pages.panels import AdministrationEntry
from registry.pages.proof import proved

ENTRY = AdministrationEntry(
    "Destinations",
    "globe",
    "hook_pages.destinations",
    ("/destinations",),
    "Registries elsewhere that pipelines publish to, and what each is sent with.",
    lambda who: who.may(Action.ADMIN),
)


class DestinationPages:
    """The page of destinations."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self, pages: Blueprint) -> None:
        """Add the routes."""
        pages.add_url_rule("/destinations", "destinations", page(self.show))
        # Who sets one says where packages go and what is sent with them: as for tokens, the person is asked again.
        pages.add_url_rule("/destinations", "set_destination", page(proved()(self.put)), methods=["POST"])
        pages.add_url_rule(
            "/destinations/<destination>/delete", "delete_destination", page(self.delete), methods=["POST"]
        )

    def show(self) -> str:
        """All destinations, and a form to set one (``?name=`` fills it with one that there is)."""
        return self._shown()

    def _shown(self, message: str = "") -> str:
        check(context.caller(), Action.ADMIN)
        with self._services.db.read() as session:
            found = store.listed(session)
        chosen = next((each for each in found if each.name == request.args.get("name")), None)
        form = dict(request.form) if message else _form_of(chosen) if chosen is not None else {}
        form.pop("secret", None)
        return render_template(
            "destinations.html",
            destinations=found,
            chosen=chosen,
            formats=self._services.destinations.formats,
            form=form,
            message=message,
        )

    def put(self) -> ResponseReturnValue:
        """Make a destination, or change it."""
        check(context.caller(), Action.ADMIN)
        form = request.form
        secret, user = form.get("secret", "").strip(), form.get("user", "").strip()
        wanted = Wanted(
            name=form.get("name", "").strip(),
            format=form.get("format", ""),
            url=form.get("url", "").strip(),
            repositories=tuple(form.get("repositories", "").replace(",", " ").split()),
            index_url=form.get("index_url", "").strip(),
            credential=DestinationSecret(user, secret) if secret else None,
            no_credential="no_credential" in form,
        )
        if user and not secret:
            return self._shown("A user goes with a secret."), 400
        try:
            with self._services.db.write() as session:
                sealer, now = self._services.stores.server_keyring(), self._services.clock()
                self._services.destinations.put(session, sealer, wanted, actor=context.caller().name, now=now)
        except (Invalid, Conflict) as error:
            return self._shown(sentence(error)), status_of(error)
        return redirect_with("destination-set", url_for("hook_pages.destinations"))

    def delete(self, destination: str) -> ResponseReturnValue:
        """Forget one."""
        check(context.caller(), Action.ADMIN)
        with self._services.db.write() as session:
            store.delete(session, destination, actor=context.caller().name, now=self._services.clock())
        return redirect_with("destination-deleted", url_for("hook_pages.destinations"))


def _form_of(view: store.DestinationView) -> dict[str, str]:
    return {
        "name": view.name,
        "format": view.format,
        "url": view.url,
        "index_url": view.index_url,
        "repositories": " ".join(view.repositories),
    }
