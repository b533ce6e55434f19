"""Webhooks and mails without a web server: real rows, real jobs, real sockets, and a clock to set."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from hooks.jobs import claims
from hooks.jobs.attempt import Attempt
from hooks.jobs.context import Handler
from hooks.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from hooks.notifications import endpoints, fanout
from hooks.notifications.audience import Audience
from hooks.notifications.deliver import Deliverer
from hooks.notifications.fanout import Fanout
from hooks.notifications.filters import Filter
from hooks.notifications.sending import Rules, Sender
from hooks.triggers.dispatch import dispatch
from registry import events
from registry.access import Action, Identity, Scope
from registry.db import Base, Database
from registry.models import Account, AuditEntry, Domain, Event
from registry.rulebook import Rulebooks
from registry.upstream.dial import system_resolver
from registry.upstream.guard import AddressPolicy
from storage.keyfile import LocalKeyFile
from storage.keyring import Keyring
from tests.job_bench import fresh_url

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
LOOPBACK = Rules(AddressPolicy((ip_network("127.0.0.0/8"),)), allow_http=True)
SOURCE = "https://packages.example"


class Office:
    """A database with one domain, an administrator, and the job that delivers."""

    def __init__(self, db: Database, folder: Path) -> None:
        self.db = db
        self.now = START
        self.resolver = system_resolver
        self.rules = LOOPBACK
        self.told: list[str] = []
        keys = folder / "master-keys.json"
        LocalKeyFile.create(keys)
        self.sealer = Keyring(LocalKeyFile(keys), "domain/1")
        self.sealer.add(self.sealer.new_key())
        self.audience = Audience(Rulebooks())
        self.fanout = Fanout(SOURCE, self.audience)
        with db.write() as session:
            for table in reversed(Base.metadata.sorted_tables):
                if table is not AuditEntry.__table__:  # nobody removes entries, a test neither
                    session.execute(table.delete())
            self._first_entry = (session.scalar(select(func.max(AuditEntry.seq))) or 0) + 1
            session.add(Domain(name="default", topology_revision=1, created_at=START))
        self.admin = self.account("admin", "admin")

    def account(self, name: str, *actions: str, repositories: list[str] | None = None) -> Identity:
        with self.db.write() as session:
            row = Account(
                name=name, actions=list(actions), repositories=repositories, is_disabled=False, created_at=START
            )
            session.add(row)
            session.flush()
            scope = Scope(
                frozenset(Action(word) for word in actions), None if repositories is None else tuple(repositories)
            )
            return Identity(name, row.id, (scope,), "internal")

    def change_account(self, name: str, **values: Any) -> None:
        with self.db.write() as session:
            row = session.scalars(select(Account).where(Account.name == name)).one()
            for key, value in values.items():
                setattr(row, key, value)

    def endpoint(
        self, url: str, *, who: Identity | None = None, payload: str = "CloudEvents", **wanted: Any
    ) -> tuple[int, str]:
        """Make one; its number and its secret."""
        chosen = Filter(**{"kinds": ("*",), **wanted})
        with self.db.write() as session:
            row, secret = endpoints.create(
                session,
                self.sealer,
                self.rules,
                who or self.admin,
                url=url,
                wanted=chosen,
                description="",
                payload=payload,
                now=self.now,
            )
            endpoint_id = row.id
        self.forget()  # its own event is not what tests are about
        return endpoint_id, secret

    def forget(self) -> None:
        """Handle what is in the outbox without telling anybody."""
        dispatch(self.db, self.now)

    def publish(self, name: str = "acme", version: str = "1.0", *, repository: str = "dev") -> None:
        event = events.AssetPublished(
            "default", repository, "pypi", "", name, version, f"{name}-{version}.tar.gz", "0" * 64, "alice"
        )
        with self.db.write() as session:
            events.record(session, event, self.now)

    def happen(self, kind: str, **data: Any) -> None:
        with self.db.write() as session:
            events.note(session, kind, self.now, **data)

    def dispatch(self, *consumers: Any) -> None:
        dispatch(self.db, self.now, (self.fanout.consume, *consumers))

    def deliverer(self, concurrency: int = 4) -> Deliverer:
        def tell(_session: Any, endpoint: WebhookEndpoint, reason: str, _now: datetime) -> None:
            self.told.append(f"{endpoint.id}: {reason}")

        sender = Sender(self.rules, resolver=self.resolver)
        return Deliverer(
            self.db,
            sender,
            lambda: self.sealer,
            lambda: self.now,
            audience=self.audience,
            base_url=SOURCE,
            concurrency=concurrency,
            tell_owner=tell,
        )

    def deliver(self, **handlers: Handler) -> int:
        """Do what is due now, as a worker does; how many jobs there were."""
        table: dict[str, Handler] = {fanout.JOB_KIND: self.deliverer(), **handlers}
        count = 0
        while True:
            fanout.wake_due(self.db, self.now)
            with self.db.write() as session:
                claimed = claims.claim(
                    session, owner="w", queues=[fanout.QUEUE], kinds=list(table), free=10, lease_seconds=600
                )
            if not claimed:
                return count
            for job in claimed:
                count += 1
                Attempt(
                    self.db, job, handler=table[job.kind], settle=None, lease_seconds=600, first_retry_seconds=600
                ).run()

    def send(self) -> None:
        """Dispatch and deliver."""
        self.dispatch()
        self.deliver()

    def later(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def deliveries(self, endpoint_id: int | None = None) -> Sequence[WebhookDelivery]:
        with self.db.read() as session:
            found = select(WebhookDelivery).order_by(WebhookDelivery.created_at, WebhookDelivery.id)
            if endpoint_id is not None:
                found = found.where(WebhookDelivery.endpoint_id == endpoint_id)
            return session.scalars(found).all()

    def attempts(self, delivery_id: str) -> Sequence[WebhookAttempt]:
        with self.db.read() as session:
            return session.scalars(
                select(WebhookAttempt).where(WebhookAttempt.delivery_id == delivery_id).order_by(WebhookAttempt.number)
            ).all()

    def row(self, endpoint_id: int) -> WebhookEndpoint:
        with self.db.read() as session:
            return session.get_one(WebhookEndpoint, endpoint_id)

    def events(self) -> list[str]:
        with self.db.read() as session:
            return list(session.scalars(select(Event.kind).order_by(Event.id)))

    def audit(self) -> list[str]:
        with self.db.read() as session:
            of_this_office = select(AuditEntry.action).where(AuditEntry.seq >= self._first_entry)
            return list(session.scalars(of_this_office.order_by(AuditEntry.seq)))


@contextmanager
def office_database(backend: str, folder: Path) -> Iterator[Database]:
    """A database with all tables, for one office after the other."""
    with fresh_url(backend, folder) as url:
        db = Database(url)
        try:
            Base.metadata.create_all(db.engine)
            yield db
        finally:
            db.close()


def rules(*networks: str, allow_http: bool = True) -> Rules:
    return dataclasses.replace(LOOPBACK, policy=AddressPolicy(tuple(map(ip_network, networks))), allow_http=allow_http)
