"""Notifications by e-mail, through a real SMTP server: addresses, digests, and a mail server that is away."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from email.message import EmailMessage
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.models import MailItem, MailMessage
from hooks.notifications import asked, endpoints, mail_addresses, mail_outbox, mail_subscriptions
from hooks.notifications.filters import Filter
from hooks.notifications.mail_server import MailServer
from registry import groups
from registry.access import Identity
from registry.accounts import find_account
from registry.errors import Invalid, NotFound, RateLimited
from registry.models import Event
from tests.fakes.mailbox import USER, Mailbox
from tests.fakes.notifying import SOURCE, Office, office_database
from tests.fakes.receiver import Receiver
from tests.functional.api_world import World

ADDRESS = "ada@people.example"


class MailOffice(Office):
    """An office whose mails go to a mailbox."""

    server: MailServer

    def consume(self, session: Session, rows: Sequence[Event], now: datetime) -> None:
        mail_subscriptions.consume(self.audience, session, rows, now)
        asked.consume(self.audience, SOURCE, session, rows, now)

    def mail(self) -> None:
        """What the worker's rounds and jobs do now."""
        self.dispatch(self.consume)
        mail_subscriptions.make_mails(self.db, self.audience, SOURCE, self.now)
        mail_outbox.wake_due(self.db, self.now)
        self.deliver(**{mail_outbox.JOB_KIND: mail_outbox.Mailer(self.db, self.server, lambda: self.now)})

    def confirm(self, who: Identity, address: str = ADDRESS) -> None:
        """An address whose link was opened."""
        with self.db.write() as session:
            mail_addresses.ask(session, str, who, address, SOURCE, self.now)
            code = re.search(r"code=(\S+)", session.scalars(select(MailMessage.body)).all()[-1])[1]
            mail_addresses.confirm(session, str, who, code, self.now)
            session.execute(MailMessage.__table__.delete())

    def subscribe(self, who: Identity, **wanted: object) -> None:
        with self.db.write() as session:
            mail_subscriptions.subscribe(session, who, Filter(**{"kinds": ("*",), **wanted}), self.now)
        self.forget()


def mail_server(port: int, security: str = "none", **more: object) -> MailServer:
    plain = {"user": "", "sender": "entrepot@packages.example", "base_url": SOURCE}
    return MailServer(**{"host": "localhost", "port": port, "security": security, **plain, **more})


def text_of(mail: EmailMessage) -> str:
    return mail.get_content().replace("\r\n", "\n")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Mailbox]:
    with Mailbox(tmp_path) as running:
        yield running


@pytest.fixture
def house(tmp_path: Path, box: Mailbox) -> Iterator[MailOffice]:
    with office_database("sqlite", tmp_path) as db:
        made = MailOffice(db, tmp_path)
        made.server = mail_server(box.port)
        yield made


def test_a_burst_is_one_mail_and_the_next_comes_after_five_minutes(house: MailOffice, box: Mailbox) -> None:
    house.confirm(house.admin)
    house.subscribe(house.admin, kinds=("asset.*",), domain="default")
    for number in range(3):
        house.publish(version=f"1.{number}")
    house.mail()
    (mail,) = box.mails()
    assert (mail["To"], mail["From"]) == (ADDRESS, "entrepot@packages.example")
    assert mail["Subject"] == "[Entrepot] 3 events"
    body = text_of(mail)
    assert mail.get_content_type() == "text/plain"
    assert "asset.published: default/dev/pypi/acme/1.2" in body
    assert f"{SOURCE}/packages/default/dev/pypi/acme/-/1.2\n" in body
    house.later(60)
    house.publish(version="2.0")
    house.publish(version="2.1")
    house.mail()
    assert len(box.mails()) == 1, "five minutes are not over"
    house.later(241)
    house.mail()
    assert [mail["Subject"] for mail in box.mails()][1:] == ["[Entrepot] 2 events"]


def test_one_event_is_told_in_the_subject(house: MailOffice, box: Mailbox) -> None:
    house.confirm(house.admin)
    house.subscribe(house.admin)
    house.happen("repository.created", domain="default", repository="new\r\nBcc: all@people.example", by="mel")
    house.mail()
    (mail,) = box.mails()
    assert str(mail["Subject"]).strip() == (
        "[Entrepot] repository.created: default/new Bcc: all@people.example (by mel)"
    )
    assert mail["Bcc"] is None


def test_only_what_the_subscriber_may_read_is_told_even_at_the_last_moment(house: MailOffice, box: Mailbox) -> None:
    rob = house.account("rob", "read", repositories=["default/dev"])
    house.confirm(rob)
    house.subscribe(rob)
    house.publish("seen")
    house.publish("hidden", repository="staging")
    house.happen("user.created", user="mel", by="admin")
    house.mail()
    (mail,) = box.mails()
    assert "seen" in text_of(mail)
    assert "hidden" not in text_of(mail)
    assert "mel" not in text_of(mail)
    house.publish("late")
    house.dispatch(house.consume)
    house.change_account("rob", repositories=["default/other"])
    house.later(301)
    house.mail()
    assert len(box.mails()) == 1


def test_an_approval_is_told_to_whom_it_asks(house: MailOffice, box: Mailbox) -> None:
    may = {"repositories": ["default/prod"]}
    people = {
        name: house.account(name, word, **scope)
        for name, word, scope in (
            ("named", "approve", may),
            ("member", "approve", may),
            ("follower", "approve", may),
            ("reader", "admin", {}),
            ("powerless", "read", may),
            ("bystander", "approve", may),
        )
    }
    for name, who in people.items():
        house.confirm(who, f"{name}@people.example")
    house.subscribe(people["follower"], kinds=("approval.*",))
    house.subscribe(people["reader"], kinds=("approval.*",))
    with house.db.write() as session:
        groups.create(session, "managers", "", "admin", house.now)
        groups.add_member(session, "managers", find_account(session, "member"), "admin", house.now)
    place = {"domain": "default", "repository": "dev", "format": "pypi", "name": "acme", "version": "1.0"}
    told = {**place, "pipeline": "release", "execution": 7, "stage": "Gate", "action": "Ask", "required": 2,
            "approve_on": ["default/prod"], "lets_through": ["promotion to prod", "deployment to shop/prod"]}  # fmt: skip
    house.happen("approval.needed", approvers=["user:named", "managers", "powerless"], **told)
    house.mail()
    assert {mail["To"].partition("@")[0] for mail in box.mails()} == {"named", "member", "reader"}
    mail = next(mail for mail in box.mails() if mail["To"].startswith("named"))
    assert mail["Subject"].startswith(
        "[Entrepot] Your approval is asked for: approval.needed: default/dev/pypi/acme/1.0"
    )
    body = text_of(mail)
    for words in ("Approvals needed: 2", "  - deployment to shop/prod", f"{SOURCE}/executions/7\n"):
        assert words in body
    # nobody named: who follows it and may answer is told, though he reads nothing of the package; nobody else is
    house.later(301)
    house.happen("approval.needed", approvers=[], **told)
    house.mail()
    assert sorted(mail["To"].partition("@")[0] for mail in box.mails()[3:]) == ["follower", "reader"]


def test_nothing_goes_to_an_address_before_its_link_was_opened(house: MailOffice, box: Mailbox) -> None:
    mel = house.account("mel", "read")
    with house.db.write() as session:
        mail_addresses.ask(session, str, house.admin, ADDRESS, SOURCE, house.now)
    house.subscribe(house.admin)
    house.publish()
    house.mail()
    (mail,) = box.mails()
    assert mail["Subject"] == "[Entrepot] Confirm your e-mail address"
    code = re.search(rf"{SOURCE}/account/notifications/confirm\?code=(\S+)", text_of(mail))[1]
    with house.db.write() as session:
        with pytest.raises(NotFound):
            mail_addresses.confirm(session, str, mel, code, house.now)  # somebody else's link
        with pytest.raises(NotFound):
            mail_addresses.confirm(session, str, house.admin, code, house.now + timedelta(hours=24))
        with pytest.raises(NotFound):
            mail_addresses.confirm(session, str, house.admin, "x" + code, house.now)
        with pytest.raises(RateLimited):
            mail_addresses.ask(session, str, house.admin, "other@people.example", SOURCE, house.now)
        mail_addresses.confirm(session, str, house.admin, code, house.now)
        with pytest.raises(NotFound):
            mail_addresses.confirm(session, str, house.admin, code, house.now)  # it was used
    house.publish()
    house.mail()
    assert len(box.mails()) == 2


@pytest.mark.parametrize(
    "address", ["", "ada", "a b@c.example", "ada@", "a@b@c", "ada@people.example\r\nBcc: x@y.z", "<a@b.c>", "é@b.c"]
)
def test_what_is_no_address_is_refused(house: MailOffice, address: str) -> None:
    with house.db.write() as session, pytest.raises(Invalid):
        mail_addresses.ask(session, str, house.admin, address, SOURCE, house.now)


def test_a_mail_server_that_is_away_loses_nothing_and_holds_nothing_up(
    house: MailOffice, box: Mailbox, tmp_path: Path
) -> None:
    house.confirm(house.admin)
    house.subscribe(house.admin)
    box.stop()
    with Receiver(tmp_path) as receiver:
        house.endpoint(receiver.url())
        house.publish()
        house.mail()
        assert len(receiver.got()) == 1, "webhooks go on meanwhile"
    with house.db.read() as session:
        waiting = session.scalars(select(MailMessage)).all()
    assert [(row.attempts, "refused" in row.error) for row in waiting] == [(1, True)]
    house.later(60)
    house.mail()
    box.start()
    house.mail()
    assert box.mails() == [], "it is not asked all the time"
    house.later(60)
    house.mail()
    (mail,) = box.mails()
    assert mail["Message-ID"] == f"<{waiting[0].message_id}@packages.example>"
    with house.db.read() as session:
        assert session.scalars(select(MailMessage)).all() == []
        assert session.scalars(select(MailItem)).all() == []


def test_a_recipient_that_is_refused_for_good_keeps_no_other_waiting(house: MailOffice, box: Mailbox) -> None:
    with house.db.write() as session:
        for recipient in ("nobody@people.example", ADDRESS):
            mail_outbox.queue(session, house.admin.account_id, recipient, "Hello", "Hello\n", house.now)
    house.mail()
    assert [mail["To"] for mail in box.mails()] == [ADDRESS]
    with house.db.read() as session:
        assert session.scalars(select(MailMessage)).all() == []


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_with_tls_and_a_password(house: MailOffice, tmp_path: Path, security: str) -> None:
    folder = tmp_path / security
    folder.mkdir()
    with Mailbox(folder, security=security, password="s3cret") as box:
        right = {"user": USER, "password": "s3cret", "ca_bundle": str(box.certificate)}
        for wrong in ({"password": "guess"}, {"ca_bundle": None}):
            house.server = mail_server(box.port, security, **{**right, **wrong})
            with house.db.write() as session:
                mail_outbox.queue(session, house.admin.account_id, ADDRESS, "Hello", "Grüße\n", house.now)
            house.mail()
            assert box.mails() == []
        house.server = mail_server(box.port, security, **right)
        house.later(60)
        house.mail()
        assert [text_of(mail) for mail in box.mails()] == ["Grüße\n"] * 2
        assert "s3cret" not in repr(house.server)


def test_starttls_that_is_not_offered_is_no_reason_to_go_on_in_clear(house: MailOffice, box: Mailbox) -> None:
    house.server = mail_server(box.port, "starttls")
    with house.db.write() as session:
        mail_outbox.queue(session, house.admin.account_id, ADDRESS, "Hello", "secret\n", house.now)
    house.mail()
    assert box.mails() == []


def test_the_owner_of_a_disabled_webhook_gets_a_mail(house: MailOffice, box: Mailbox) -> None:
    house.confirm(house.admin)
    endpoint, _ = house.endpoint("http://hooks.example/")
    with house.db.write() as session:
        row = session.get_one(endpoints.WebhookEndpoint, endpoint)
        mail_subscriptions.tell_owner(SOURCE, session, row, "it answered 410 Gone", house.now)
    house.mail()
    (mail,) = box.mails()
    assert f"{SOURCE}/webhooks/{endpoint}" in text_of(mail)


def test_over_the_pages_and_the_interface(tmp_path: Path) -> None:
    """From the settings to the link in the mail, as somebody does it who is signed in."""
    (tmp_path / "box").mkdir()
    with Mailbox(tmp_path / "box") as box:
        world = World(
            tmp_path / "data",
            {
                "ENTREPOT_MAIL_HOST": "localhost",
                "ENTREPOT_MAIL_PORT": str(box.port),
                "ENTREPOT_MAIL_SECURITY": "none",
                "ENTREPOT_MAIL_SENDER": "entrepot@packages.example",
            },
        )
        try:
            browser = world.app.test_client()
            browser.post("/sign-in", data={"user": "reader", "password": "correct horse battery"})
            page = browser.get("/account/notifications").get_data(as_text=True)
            token = re.search(r'name="csrf_token" value="([^"]+)"', page)[1]
            sent = browser.post("/account/notifications/address", data={"csrf_token": token, "address": ADDRESS})
            assert sent.status_code == 303
            assert world.call("PUT", "/mail-address", as_="reader", json={"address": ADDRESS}).status_code == 429
            with world.db.read() as session:
                code = re.search(r"code=(\S+)", session.scalars(select(MailMessage.body)).one())[1]
            asked = browser.get(f"/account/notifications/confirm?code={code}").get_data(as_text=True)
            assert ADDRESS in asked
            assert world.call("GET", "/subscriptions", as_="reader").json["address"]["confirmedAt"] is None
            done = browser.post("/account/notifications/confirm", data={"csrf_token": token, "code": code})
            assert done.status_code == 303
            assert world.call("GET", "/subscriptions", as_="reader").json["address"]["confirmedAt"]
            form = {"csrf_token": token, "kinds": "asset.*, *.failed", "domain": "default"}
            assert browser.post("/account/notifications", data=form).status_code == 303
            (held,) = world.call("GET", "/subscriptions", as_="reader").json["subscriptions"]
            assert held["kinds"] == ["asset.*", "*.failed"]
            again = browser.post("/account/notifications", data={**form, "kinds": "nothing.such"})
            assert again.status_code == 400
            assert "No kind of event is called" in again.get_data(as_text=True)
        finally:
            world.close()
