"""Webhook endpoints, their deliveries, and the kinds of events there are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

from hooks.notifications import deliveries, endpoints
from hooks.notifications.filters import Filter
from hooks.notifications.payloads import CLOUD_EVENTS
from hooks.services import HookServices
from registry import events
from registry.api.routes import Route
from registry.api.shapes import Between, Length
from registry.errors import Invalid
from registry.http import context
from registry.http.auth import signed_in_api

Kinds = Annotated[tuple[Annotated[str, Length(1, 64)], ...], Length(1, 50)]
Url = Annotated[str, Length(1, 2000)]
Text = Annotated[str, Length(0, 255)]


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """A webhook to make. ``kinds`` are patterns of event kinds; ``domain`` null: of the whole server.

    ``repository``, ``format`` and ``package`` (behind its namespace) are patterns, null for all. ``payload`` is the shape of
    what is sent: CloudEvents, EventBridge (as CodePipeline, CodeBuild and CodeDeploy tell of themselves) or Chat (a text).
    """

    url: Url
    payload: Annotated[str, Length(1, 16)] = CLOUD_EVENTS
    kinds: Kinds = ("*",)
    description: Text = ""
    domain: Text | None = None
    repository: Text | None = None
    format: Text | None = None
    package: Text | None = None


@dataclass(frozen=True, slots=True)
class WebhookChange:
    """What to change; a field that is not there (or null) stays, "" takes a filter away."""

    url: Url | None = None
    payload: Annotated[str, Length(1, 16)] | None = None
    kinds: Kinds | None = None
    description: Text | None = None
    domain: Text | None = None
    repository: Text | None = None
    format: Text | None = None
    package: Text | None = None


@dataclass(frozen=True, slots=True)
class MadeWebhook:
    """A webhook with its secret, which is shown this once: it verifies what comes (Standard Webhooks)."""

    webhook: endpoints.EndpointView
    secret: str


@dataclass(frozen=True, slots=True)
class Rotation:
    """For how long the secret before signs as well."""

    overlap_hours: Annotated[int, Between(0, 168)] = 24


@dataclass(frozen=True, slots=True)
class WebhookList:
    """The webhooks the caller may see, oldest first."""

    items: tuple[endpoints.EndpointView, ...]


@dataclass(frozen=True, slots=True)
class EventKind:
    """A kind of event, and what it tells."""

    kind: str
    tells: str


@dataclass(frozen=True, slots=True)
class EventKindList:
    """All kinds by name."""

    items: tuple[EventKind, ...]


@dataclass(frozen=True, slots=True)
class DeliveryQuery:
    """Which deliveries: of one ``state``, from behind the delivery ``after`` on."""

    state: Annotated[str, Length(0, 16)] = ""
    after: Annotated[str, Length(0, 40)] = ""
    limit: Annotated[int, Between(1, 200)] = 50


@dataclass(frozen=True, slots=True)
class DeliveryList:
    """Deliveries, newest first; ``next`` goes into ``after`` for the following ones, null at the end."""

    items: tuple[deliveries.DeliveryView, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class Redelivery:
    """Deliver again all that failed and came up since this moment (RFC 3339, with its time zone)."""

    since: Annotated[str, Length(1, 40)]


@dataclass(frozen=True, slots=True)
class Ping:
    """The delivery that tries the endpoint out."""

    delivery: str


@dataclass(frozen=True, slots=True)
class Redelivered:
    """How many deliveries are tried again."""

    deliveries: int


class WebhookViews:
    """The operations on webhooks. Who may: the owner, and the server's administrators (``endpoints.find``)."""

    def __init__(self, services: HookServices) -> None:
        self._services = services
        self._parts = services.notifications

    def routes(self) -> tuple[Route, ...]:
        """The part of the table."""
        view = endpoints.EndpointView
        return (
            Route("GET", "/event-kinds", signed_in_api, self.list_event_kinds, answer=EventKindList),
            Route("GET", "/webhooks", signed_in_api, self.list_webhooks, answer=WebhookList),
            Route(
                "POST", "/webhooks", signed_in_api, self.create_webhook, body=NewWebhook, answer=MadeWebhook, status=201
            ),
            Route("GET", _ONE, signed_in_api, self.show_webhook, answer=view),
            Route("PATCH", _ONE, signed_in_api, self.change_webhook, body=WebhookChange, answer=view),
            Route("DELETE", _ONE, signed_in_api, self.delete_webhook, status=204),
            Route("POST", f"{_ONE}/enable", signed_in_api, self.enable_webhook, answer=view),
            Route("POST", f"{_ONE}/disable", signed_in_api, self.disable_webhook, answer=view),
            Route("POST", f"{_ONE}/ping", signed_in_api, self.ping_webhook, answer=Ping, status=202),
            Route("POST", f"{_ONE}/secret", signed_in_api, self.rotate_secret, body=Rotation, answer=MadeWebhook),
            Route(
                "GET",
                f"{_ONE}/deliveries",
                signed_in_api,
                self.list_deliveries,
                query=DeliveryQuery,
                answer=DeliveryList,
            ),
            Route(
                "POST",
                f"{_ONE}/deliveries",
                signed_in_api,
                self.redeliver_failed,
                body=Redelivery,
                answer=Redelivered,
                status=202,
            ),
            Route(
                "GET",
                f"{_ONE}/deliveries/<delivery>",
                signed_in_api,
                self.show_delivery,
                answer=deliveries.DeliveryDetail,
            ),
            Route(
                "POST",
                f"{_ONE}/deliveries/<delivery>",
                signed_in_api,
                self.redeliver,
                answer=Redelivered,
                status=202,
            ),
        )

    def list_event_kinds(self) -> EventKindList:
        """What webhooks and subscriptions can be told of."""
        return EventKindList(tuple(EventKind(kind, tells) for kind, tells in sorted(events.CATALOGUE.items())))

    def list_webhooks(self) -> WebhookList:
        """One's own webhooks; all of them for administrators of the server."""
        with self._services.db.read() as session:
            return WebhookList(tuple(endpoints.visible(session, context.caller())))

    def create_webhook(self, body: NewWebhook) -> MadeWebhook:
        """Make a webhook. Needs the right to administer what it hears of: a domain, or repositories of it."""
        wanted = Filter(body.kinds, body.domain, body.repository, body.format, body.package)
        with self._services.db.write() as session:
            row, secret = endpoints.create(
                session,
                self._parts.sealer,
                self._parts.rules,
                context.caller(),
                url=body.url,
                wanted=wanted,
                description=body.description,
                payload=body.payload,
                now=self._services.clock(),
            )
            return MadeWebhook(endpoints.view(session, row), secret)

    def show_webhook(self, webhook: int) -> endpoints.EndpointView:
        """One webhook. Of its secret only the fingerprint is told."""
        with self._services.db.read() as session:
            return endpoints.view(session, endpoints.find(session, context.caller(), webhook))

    def change_webhook(self, webhook: int, body: WebhookChange) -> endpoints.EndpointView:
        """Change a webhook's URL, filter or description."""
        who = context.caller()
        with self._services.db.write() as session:
            row = endpoints.find(session, who, webhook)
            before = endpoints.filter_of(row)
            wanted = Filter(
                before.kinds if body.kinds is None else body.kinds,
                before.domain if body.domain is None else body.domain,
                before.repository if body.repository is None else body.repository,
                before.format if body.format is None else body.format,
                before.package if body.package is None else body.package,
            )
            endpoints.change(
                session,
                self._parts.rules,
                who,
                row,
                url=body.url,
                wanted=None if wanted == before else wanted,
                description=body.description,
                payload=body.payload,
                now=self._services.clock(),
            )
            return endpoints.view(session, row)

    def delete_webhook(self, webhook: int) -> None:
        """Remove a webhook with the records of its deliveries."""
        who = context.caller()
        with self._services.db.write() as session:
            endpoints.delete(session, who, endpoints.find(session, who, webhook), self._services.clock())

    def enable_webhook(self, webhook: int) -> endpoints.EndpointView:
        """Switch a webhook on again."""
        who = context.caller()
        with self._services.db.write() as session:
            row = endpoints.find(session, who, webhook)
            endpoints.enable(session, who, row, self._services.clock())
            return endpoints.view(session, row)

    def disable_webhook(self, webhook: int) -> endpoints.EndpointView:
        """Switch a webhook off: nothing more is sent, and what waits has failed."""
        who = context.caller()
        with self._services.db.write() as session:
            row = endpoints.find(session, who, webhook)
            endpoints.disable(session, who.name, row, f"{who.name} disabled it", self._services.clock())
            return endpoints.view(session, row)

    def ping_webhook(self, webhook: int) -> Ping:
        """Try a webhook out: it is sent an event of the kind webhook.ping, whatever its filter."""
        who = context.caller()
        with self._services.db.write() as session:
            row = endpoints.find(session, who, webhook)
            return Ping(self._parts.fanout.ping(session, row, who.name, self._services.clock()))

    def rotate_secret(self, webhook: int, body: Rotation) -> MadeWebhook:
        """Give a webhook a new secret; for some hours both sign, so that the receiver can change over."""
        who = context.caller()
        with self._services.db.write() as session:
            row = endpoints.find(session, who, webhook)
            overlap = timedelta(hours=body.overlap_hours)
            secret = endpoints.rotate(session, self._parts.sealer, who, row, overlap, self._services.clock())
            return MadeWebhook(endpoints.view(session, row), secret)

    def list_deliveries(self, webhook: int, query: DeliveryQuery) -> DeliveryList:
        """A webhook's deliveries."""
        with self._services.db.read() as session:
            row = endpoints.find(session, context.caller(), webhook)
            found = deliveries.listed(
                session, row, state=query.state or None, before=query.after or None, limit=query.limit + 1
            )
        shown = tuple(found[: query.limit])
        return DeliveryList(shown, shown[-1].id if len(found) > len(shown) else None)

    def show_delivery(self, webhook: int, delivery: str) -> deliveries.DeliveryDetail:
        """What was sent, and how each attempt went. Answers are told to the webhook's owner only."""
        who = context.caller()
        with self._services.db.read() as session:
            return deliveries.detail(
                session, endpoints.find(session, who, webhook), delivery, who, self._parts.base_url
            )

    def redeliver(self, webhook: int, delivery: str) -> Redelivered:
        """Send one delivery again, under the same webhook-id."""
        who = context.caller()
        with self._services.db.write() as session:
            row = endpoints.find(session, who, webhook)
            deliveries.redeliver(session, who, row, delivery, self._services.clock())
        return Redelivered(1)

    def redeliver_failed(self, webhook: int, body: Redelivery) -> Redelivered:
        """Send again all deliveries that failed since a moment."""
        who, since = context.caller(), _moment(body.since)
        with self._services.db.write() as session:
            row = endpoints.find(session, who, webhook)
            return Redelivered(deliveries.redeliver_failed(session, who, row, since, self._services.clock()))


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(f"{text!a} is no moment; write it like 2026-01-31T12:00:00Z") from None
    if moment.tzinfo is None:
        raise Invalid("the moment needs its time zone, like 2026-01-31T12:00:00Z")
    return moment


_ONE = "/webhooks/<id:webhook>"
