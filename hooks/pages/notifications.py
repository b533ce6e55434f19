"""Notifications by e-mail: one's own address and subscriptions."""

from __future__ import annotations

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue

from hooks.notifications import mail_addresses, mail_subscriptions
from hooks.pages.forms import filter_sent, kinds_known, number, sentence
from hooks.services import HookServices
from registry.errors import Conflict, Invalid, NotFound, RateLimited
from registry.http import context
from registry.http.auth import page
from registry.http.problems import status_of
from registry.pages.appearance import redirect_with

_LONGEST_CODE = 100


class NotificationPages:
    """The pages under the account."""

    def __init__(self, services: HookServices) -> None:
        self._services = services
        self._parts = services.notifications

    def routes(self, pages: Blueprint) -> None:
        """Add the routes."""
        base = "/account/notifications"
        pages.add_url_rule(base, "notifications", page(self.show))
        pages.add_url_rule(base, "subscribe", page(self.subscribe), methods=["POST"])
        pages.add_url_rule(f"{base}/<int:subscription_id>/remove", "unsubscribe", page(self.remove), methods=["POST"])
        pages.add_url_rule(f"{base}/address", "set_address", page(self.set_address), methods=["POST"])
        pages.add_url_rule(f"{base}/address/remove", "remove_address", page(self.remove_address), methods=["POST"])
        pages.add_url_rule(f"{base}/confirm", "show_confirm", page(self.show_confirm))
        pages.add_url_rule(f"{base}/confirm", "confirm_address", page(self.confirm), methods=["POST"])

    def show(self) -> str:
        """The own address and subscriptions."""
        return self._show()

    def _show(self, message: str = "") -> str:
        who = context.caller()
        with self._services.db.read() as session:
            address = mail_addresses.show(session, who)
            subscriptions = mail_subscriptions.listed(session, who)
        return render_template(
            "notifications/account.html",
            sends_mail=self._parts.sends_mail,
            address=address,
            subscriptions=subscriptions,
            message=message,
            form=request.form,
            kinds=kinds_known(),
        )

    def subscribe(self) -> ResponseReturnValue:
        """Add a subscription."""
        try:
            with self._services.db.write() as session:
                mail_subscriptions.subscribe(session, context.caller(), filter_sent(), self._services.clock())
        except (Invalid, Conflict) as error:
            return self._show(sentence(error)), status_of(error)
        return self._done("subscribed")

    def remove(self, subscription_id: int) -> ResponseReturnValue:
        """Remove one."""
        with self._services.db.write() as session:
            chosen = number(subscription_id)
            mail_subscriptions.unsubscribe(session, context.caller(), chosen, self._services.clock())
        return self._done("unsubscribed")

    def set_address(self) -> ResponseReturnValue:
        """Set the own address; a link goes there."""
        try:
            self._parts.require_mail()
            with self._services.db.write() as session:
                mail_addresses.ask(
                    session,
                    context.services().accounts.digest,
                    context.caller(),
                    request.form.get("address", ""),
                    self._parts.base_url,
                    self._services.clock(),
                )
        except (Invalid, Conflict, RateLimited) as error:
            return self._show(sentence(error)), status_of(error)
        return self._done("address-asked")

    def remove_address(self) -> ResponseReturnValue:
        """Forget the own address."""
        try:
            with self._services.db.write() as session:
                mail_addresses.remove(session, context.caller(), self._services.clock())
        except RateLimited as error:
            return self._show(sentence(error)), status_of(error)
        return self._done("address-removed")

    def show_confirm(self) -> str:
        """Where the link in the mail leads: a button, so that no mail scanner confirms by looking."""
        return self._confirm_page()

    def _confirm_page(self, message: str = "") -> str:
        code = request.values.get("code", "")[:_LONGEST_CODE]
        with self._services.db.read() as session:
            address = mail_addresses.show(session, context.caller())
        return render_template("notifications/confirm.html", code=code, address=address, message=message)

    def confirm(self) -> ResponseReturnValue:
        """Use the code."""
        try:
            with self._services.db.write() as session:
                mail_addresses.confirm(
                    session,
                    context.services().accounts.digest,
                    context.caller(),
                    request.form.get("code", ""),
                    self._services.clock(),
                )
        except NotFound:
            return self._confirm_page("This link is over, or it was sent to another account. Ask for a new one."), 404
        return self._done("address-confirmed")

    @staticmethod
    def _done(notice: str) -> ResponseReturnValue:
        return redirect_with(notice, url_for("hook_pages.notifications"))
