"""Webhooks: all one may see, one with its deliveries, one delivery with what was sent and what came back."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from hooks.models import WebhookEndpoint
from hooks.notifications import deliveries, endpoints
from hooks.notifications.filters import Filter
from hooks.notifications.payloads import CLOUD_EVENTS
from hooks.pages.forms import filter_sent, kinds_known, number, sentence
from hooks.services import HookServices
from registry.access import Identity
from registry.errors import Conflict, Denied, Invalid, NotFound
from registry.http import context
from registry.http.auth import page
from registry.http.problems import status_of
from registry.pages.appearance import redirect_with
from registry.pages.proof import proved

DELIVERIES_SHOWN = 25
_REDELIVER_DAYS = 30
_USUAL_OVERLAP_HOURS = 24

Change = Callable[[Session, Identity, WebhookEndpoint], None]


class WebhookPages:
    """The pages of webhooks."""

    def __init__(self, services: HookServices) -> None:
        self._services = services
        self._parts = services.notifications

    def routes(self, pages: Blueprint) -> None:
        """Add the routes."""
        one, delivery = "/webhooks/<int:webhook_id>", "/webhooks/<int:webhook_id>/deliveries/<delivery_id>"
        pages.add_url_rule("/webhooks", "webhooks", page(self.list_webhooks))
        pages.add_url_rule("/webhooks", "create_webhook", page(proved()(self.create)), methods=["POST"])
        pages.add_url_rule(one, "webhook", page(self.show))
        pages.add_url_rule(one, "change_webhook", page(proved()(self.change)), methods=["POST"])
        for word, view in (
            ("delete", self.delete),
            ("enable", self.enable),
            ("disable", self.disable),
            ("ping", self.ping),
            ("rotate", proved()(self.rotate)),
            ("redeliver", self.redeliver_failed),
        ):
            pages.add_url_rule(f"{one}/{word}", f"{word}_webhook", page(view), methods=["POST"])
        pages.add_url_rule(delivery, "delivery", page(self.show_delivery))
        pages.add_url_rule(f"{delivery}/redeliver", "redeliver", page(self.redeliver), methods=["POST"])

    def list_webhooks(self) -> str:
        """All webhooks that one may see, and the form for another."""
        return self._list()

    def _list(self, message: str = "") -> str:
        with self._services.db.read() as session:
            found = endpoints.visible(session, context.caller())
        return render_template(
            "notifications/webhooks.html", webhooks=found, message=message, form=request.form, kinds=kinds_known()
        )

    def create(self) -> ResponseReturnValue:
        """Make a webhook; its page then shows the secret, this once."""
        who = context.caller()
        try:
            with self._services.db.write() as session:
                row, secret = endpoints.create(
                    session,
                    self._parts.sealer,
                    self._parts.rules,
                    who,
                    url=request.form.get("url", "").strip(),
                    wanted=filter_sent(),
                    description=request.form.get("description", ""),
                    payload=request.form.get("payload", CLOUD_EVENTS),
                    now=self._services.clock(),
                )
                webhook_id = row.id
        except (Invalid, Denied, NotFound, Conflict) as error:
            return self._list(sentence(error)), status_of(error)
        return self._show(webhook_id, secret=secret)

    def show(self, webhook_id: int) -> str:
        """One webhook."""
        return self._show(webhook_id)

    def _show(self, webhook_id: int, *, secret: str = "", message: str = "") -> str:
        who = context.caller()
        state = request.args.get("state", "")
        state = state if state in deliveries.STATES else ""
        after = request.args.get("after", "")[:40]
        with self._services.db.read() as session:
            row = endpoints.find(session, who, number(webhook_id))
            view = endpoints.view(session, row)
            found = deliveries.listed(
                session, row, state=state or None, before=after or None, limit=DELIVERIES_SHOWN + 1
            )
        return render_template(
            "notifications/webhook.html",
            webhook=view,
            deliveries=found[:DELIVERIES_SHOWN],
            next=found[DELIVERIES_SHOWN - 1].id if len(found) > DELIVERIES_SHOWN else None,
            after=after,
            state=state,
            states=deliveries.STATES,
            secret=secret,
            message=message,
            form=request.form if message else {},
            now=self._services.clock(),
            kinds=kinds_known(),
        )

    def change(self, webhook_id: int) -> ResponseReturnValue:
        """Change URL, filter and description."""
        form = request.form

        def unit(session: Session, who: Identity, row: WebhookEndpoint) -> None:
            wanted: Filter | None = filter_sent()
            endpoints.change(
                session,
                self._parts.rules,
                who,
                row,
                url=form.get("url", "").strip(),
                wanted=None if wanted == endpoints.filter_of(row) else wanted,
                description=form.get("description", ""),
                payload=form.get("payload") or None,
                now=self._services.clock(),
            )

        return self._do(webhook_id, unit, "webhook-changed")

    def delete(self, webhook_id: int) -> ResponseReturnValue:
        """Remove a webhook."""

        def unit(session: Session, who: Identity, row: WebhookEndpoint) -> None:
            endpoints.delete(session, who, row, self._services.clock())

        self._write(webhook_id, unit)
        return redirect_with("webhook-deleted", url_for("hook_pages.webhooks"))

    def enable(self, webhook_id: int) -> ResponseReturnValue:
        """Switch on again."""

        def unit(session: Session, who: Identity, row: WebhookEndpoint) -> None:
            endpoints.enable(session, who, row, self._services.clock())

        return self._do(webhook_id, unit, "webhook-enabled")

    def disable(self, webhook_id: int) -> ResponseReturnValue:
        """Switch off."""

        def unit(session: Session, who: Identity, row: WebhookEndpoint) -> None:
            endpoints.disable(session, who.name, row, f"{who.name} disabled it", self._services.clock())

        return self._do(webhook_id, unit, "webhook-disabled")

    def ping(self, webhook_id: int) -> ResponseReturnValue:
        """Try it out."""

        def unit(session: Session, who: Identity, row: WebhookEndpoint) -> None:
            self._parts.fanout.ping(session, row, who.name, self._services.clock())

        return self._do(webhook_id, unit, "ping-sent")

    def rotate(self, webhook_id: int) -> ResponseReturnValue:
        """A new secret, shown this once; the old one signs for a day as well, or ends now."""
        hours = 0 if request.form.get("overlap") == "none" else _USUAL_OVERLAP_HOURS
        secrets: list[str] = []

        def unit(session: Session, who: Identity, row: WebhookEndpoint) -> None:
            now = self._services.clock()
            secrets.append(endpoints.rotate(session, self._parts.sealer, who, row, timedelta(hours=hours), now))

        self._write(webhook_id, unit)
        return self._show(webhook_id, secret=secrets[-1])

    def redeliver_failed(self, webhook_id: int) -> ResponseReturnValue:
        """Send again all that failed and is still recorded."""

        def unit(session: Session, who: Identity, row: WebhookEndpoint) -> None:
            now = self._services.clock()
            deliveries.redeliver_failed(session, who, row, now - timedelta(days=_REDELIVER_DAYS), now)

        return self._do(webhook_id, unit, "redelivered")

    def show_delivery(self, webhook_id: int, delivery_id: str) -> str:
        """One delivery: what was sent, and how each attempt went."""
        who = context.caller()
        with self._services.db.read() as session:
            row = endpoints.find(session, who, number(webhook_id))
            found = deliveries.detail(session, row, delivery_id, who, self._parts.base_url)
            view = endpoints.view(session, row)
        body = json.dumps(json.loads(found.body), indent=2, ensure_ascii=False)
        return render_template("notifications/delivery.html", webhook=view, found=found, body=body)

    def redeliver(self, webhook_id: int, delivery_id: str) -> ResponseReturnValue:
        """Send one delivery again."""

        def unit(session: Session, who: Identity, row: WebhookEndpoint) -> None:
            deliveries.redeliver(session, who, row, delivery_id, self._services.clock())

        return self._do(webhook_id, unit, "redelivered")

    def _write(self, webhook_id: int, unit: Change) -> None:
        who = context.caller()
        with self._services.db.write() as session:
            unit(session, who, endpoints.find(session, who, number(webhook_id)))

    def _do(self, webhook_id: int, unit: Change, notice: str) -> ResponseReturnValue:
        try:
            self._write(webhook_id, unit)
        except (Invalid, Denied, Conflict) as error:
            return self._show(webhook_id, message=sentence(error)), status_of(error)
        return redirect_with(notice, url_for("hook_pages.webhook", webhook_id=webhook_id))
