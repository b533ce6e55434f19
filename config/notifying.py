"""Webhooks and mails, put together: who is told of events, by which jobs and rounds, under which settings."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy.orm import Session

from config.settings import BadSettings, Settings
from hooks.deployments.parts import HookNotice
from hooks.jobs.context import Handler
from hooks.models import WebhookEndpoint
from hooks.notifications import asked, deliveries, fanout, mail_outbox, mail_subscriptions
from hooks.notifications.audience import Audience
from hooks.notifications.deliver import Deliverer, Told
from hooks.notifications.directed import HookCaller
from hooks.notifications.endpoints import Sealer
from hooks.notifications.fanout import Fanout
from hooks.notifications.mail_server import MailServer
from hooks.notifications.sending import Rules, Sender
from hooks.services import Notifications
from hooks.triggers.dispatch import Consumer
from registry.services import Services
from registry.upstream.guard import AddressPolicy

DUE_SECONDS = 0.5
MAIL_SECONDS = 2.0
PURGE_SECONDS = 3600.0


def notifications(settings: Settings, services: Services, sealer: Sealer) -> Notifications:
    """What routes need."""
    return Notifications(
        fanout=Fanout(settings.base_url, _audience(services)),
        rules=_rules(settings),
        sealer=sealer,
        base_url=settings.base_url,
        sends_mail=bool(settings.mail.host),
    )


def hook_caller(settings: Settings, services: Services) -> Callable[[Session, HookNotice, datetime], None]:
    """How deployments have webhooks told of their hooks."""
    caller = HookCaller(settings.base_url, _audience(services))
    return lambda session, notice, now: caller(session, notice.webhook, notice.data, now)


def consumers(settings: Settings, services: Services) -> Sequence[Consumer]:
    """Who is told of events as they are dispatched."""
    found: list[Consumer] = [Fanout(settings.base_url, _audience(services)).consume]
    if settings.mail.host:
        found.append(functools.partial(mail_subscriptions.consume, _audience(services)))
        found.append(functools.partial(asked.consume, _audience(services), settings.base_url))
    return found


def handlers(settings: Settings, services: Services) -> Mapping[str, Handler]:
    """Job kind → handler. Raises BadSettings for a password file that cannot be read."""
    server = _mail_server(settings)
    found: dict[str, Handler] = {
        fanout.JOB_KIND: Deliverer(
            services.db,
            Sender(_rules(settings), ca_bundle=settings.webhooks.ca_bundle or None),
            services.stores.server_keyring,
            services.clock,
            audience=_audience(services),
            concurrency=settings.webhooks.concurrency,
            tell_owner=_tell_owner(settings),
            base_url=settings.base_url,
        )
    }
    if server is not None:
        found[mail_outbox.JOB_KIND] = mail_outbox.Mailer(services.db, server, services.clock)
    return found


def rounds(settings: Settings, services: Services) -> Sequence[tuple[float, Callable[[], None]]]:
    """What the worker does from time to time beside its jobs."""

    def due() -> None:
        fanout.wake_due(services.db, services.clock())

    def mail() -> None:
        mail_subscriptions.make_mails(services.db, _audience(services), settings.base_url, services.clock())
        mail_outbox.wake_due(services.db, services.clock())

    def purge() -> None:
        deliveries.purge(services.db, services.clock() - timedelta(days=settings.webhooks.retention_days))

    found = [(DUE_SECONDS, due), (PURGE_SECONDS, purge)]
    return [*found, (MAIL_SECONDS, mail)] if settings.mail.host else found


def _audience(services: Services) -> Audience:
    return Audience(services.accounts.rules)


def _rules(settings: Settings) -> Rules:
    networks = tuple(ipaddress.ip_network(text) for text in settings.webhooks.allowed_networks)
    return Rules(AddressPolicy(networks), allow_http=settings.webhooks.allow_http)


def _tell_owner(settings: Settings) -> Told:
    if settings.mail.host:
        return functools.partial(mail_subscriptions.tell_owner, settings.base_url)

    def nobody(session: Session, endpoint: WebhookEndpoint, reason: str, now: datetime) -> None:
        """Without a mail server the page and the event ``webhook.disabled`` tell it."""

    return nobody


def _mail_server(settings: Settings) -> MailServer | None:
    mail = settings.mail
    if not mail.host:
        return None
    password = ""
    if mail.password_file:
        try:
            password = Path(mail.password_file).read_text("utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise BadSettings([f"mail.password_file cannot be read: {error}"]) from error
    return MailServer(
        host=mail.host,
        port=mail.port,
        security=mail.security,
        user=mail.user,
        sender=mail.sender,
        base_url=settings.base_url,
        password=password,
        ca_bundle=mail.ca_bundle or None,
    )
