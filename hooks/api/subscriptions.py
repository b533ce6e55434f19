"""What one wants to be told of by e-mail, and at which address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from hooks.notifications import mail_addresses, mail_subscriptions
from hooks.notifications.filters import Filter
from hooks.services import HookServices
from registry.api.routes import Route
from registry.api.shapes import Length
from registry.http import context
from registry.http.auth import signed_in_api

Text = Annotated[str, Length(0, 255)]


@dataclass(frozen=True, slots=True)
class NewSubscription:
    """A subscription to make; patterns as those of a webhook."""

    kinds: Annotated[tuple[Annotated[str, Length(1, 64)], ...], Length(1, 50)]
    domain: Text | None = None
    repository: Text | None = None
    format: Text | None = None
    package: Text | None = None


@dataclass(frozen=True, slots=True)
class NewAddress:
    """Where mails shall go. A link is sent there, and nothing else before it was opened."""

    address: Annotated[str, Length(3, 254)]


@dataclass(frozen=True, slots=True)
class MailState:
    """One's own address (null: none) and subscriptions; ``sends_mail`` says whether the server has a mail server."""

    sends_mail: bool
    address: mail_addresses.AddressView | None
    subscriptions: tuple[mail_subscriptions.SubscriptionView, ...]


class SubscriptionViews:
    """The operations on one's own subscriptions."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self) -> tuple[Route, ...]:
        """The part of the table."""
        return (
            Route("GET", "/subscriptions", signed_in_api, self.show_subscriptions, answer=MailState),
            Route(
                "POST",
                "/subscriptions",
                signed_in_api,
                self.subscribe,
                body=NewSubscription,
                answer=mail_subscriptions.SubscriptionView,
                status=201,
            ),
            Route("DELETE", "/subscriptions/<id:subscription>", signed_in_api, self.unsubscribe, status=204),
            Route("PUT", "/mail-address", signed_in_api, self.set_mail_address, body=NewAddress, status=202),
            Route("DELETE", "/mail-address", signed_in_api, self.remove_mail_address, status=204),
        )

    def show_subscriptions(self) -> MailState:
        """One's own address and subscriptions."""
        who = context.caller()
        with self._services.db.read() as session:
            return MailState(
                self._services.notifications.sends_mail,
                mail_addresses.show(session, who),
                tuple(mail_subscriptions.listed(session, who)),
            )

    def subscribe(self, body: NewSubscription) -> mail_subscriptions.SubscriptionView:
        """Be told of events by e-mail: of those one may read."""
        wanted = Filter(body.kinds, body.domain, body.repository, body.format, body.package)
        with self._services.db.write() as session:
            return mail_subscriptions.subscribe(session, context.caller(), wanted, self._services.clock())

    def unsubscribe(self, subscription: int) -> None:
        """Remove one of one's own subscriptions."""
        with self._services.db.write() as session:
            mail_subscriptions.unsubscribe(session, context.caller(), subscription, self._services.clock())

    def set_mail_address(self, body: NewAddress) -> None:
        """Set one's own address: the link that is sent there has to be opened, signed in."""
        parts = self._services.notifications
        parts.require_mail()
        with self._services.db.write() as session:
            mail_addresses.ask(
                session,
                context.services().accounts.digest,
                context.caller(),
                body.address,
                parts.base_url,
                self._services.clock(),
            )

    def remove_mail_address(self) -> None:
        """Forget one's own address."""
        with self._services.db.write() as session:
            mail_addresses.remove(session, context.caller(), self._services.clock())
