"""J1 to J5 and B5: what an endpoint's owner, its receiver or a name server could do to the server through a webhook."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session
from standardwebhooks import Webhook, WebhookVerificationError

from hooks.models import WebhookDelivery
from hooks.notifications import deliver, endpoints, sending, signing
from hooks.notifications.filters import Filter
from registry import events, granting, policies
from registry.db import Database
from registry.errors import Denied, Invalid, NotFound
from registry.models import Account, Domain
from registry.names import RepositoryName
from registry.repos import topology
from registry.upstream import dial, guard
from registry.upstream.guard import BlockedAddress
from storage.errors import Damaged
from tests.fakes.notifying import START, Office, office_database, rules
from tests.fakes.receiver import Receiver
from tests.functional.api_world import World

INSIDE = [
    "https://127.0.0.1/",
    "https://127.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://169.254.169.254/latest/meta-data/",
    "https://metadata.google.internal/",
    "https://10.0.0.1/",
    "https://192.168.1.1/",
    "https://100.64.0.1/",
    "https://0.0.0.0/",
    "https://localhost/",
    "https://localhost./",
    "https://db.internal/",
    "https://printer.local/",
    "https://\u2460\u2461\u2466.0.0.1/",
]
NO_URL = [
    "http://hooks.example/",  # without TLS
    "https://user:password@hooks.example/",
    "ftp://hooks.example/",
    "file:///etc/passwd",
    "https:\\\\hooks.example\\",
    "https://hooks.example/a b",
    "https://hooks.example/\r\nX-Evil: 1",
    "https://hooks.example:99999/",
    "https://" + "h" * 2000,
    "",
]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with Receiver(tmp_path_factory.mktemp("receiver")) as receiver:
        yield receiver


@pytest.fixture
def receiver(running: Receiver) -> Receiver:
    running.forget()
    return running


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with office_database("sqlite", tmp_path_factory.mktemp("office")) as db:
        yield db


@pytest.fixture
def house(database: Database, tmp_path: Path) -> Office:
    return Office(database, tmp_path)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def made(world: World, url: str = "https://hooks.example/", *, as_: str = "admin", **more: object) -> dict:
    answer = world.call("POST", "/webhooks", as_=as_, json={"url": url, **more})
    assert answer.status_code == 201, answer.text
    return answer.json


# --- J1: where it goes -----------------------------------------------------------------------------------------------


def test_J1_addresses_of_the_inside_are_refused_when_a_webhook_is_made_and_changed(world: World) -> None:
    there = made(world)["webhook"]["id"]
    for url in [*INSIDE, *NO_URL]:
        for method, path in (("POST", "/webhooks"), ("PATCH", f"/webhooks/{there}")):
            answer = world.call(method, path, json={"url": url})
            assert answer.status_code == 400, (method, url, answer.text)
    assert [entry["url"] for entry in world.call("GET", "/webhooks").json["items"]] == ["https://hooks.example/"]


def test_J1_without_the_check_they_would_be_taken(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard.AddressPolicy, "check_host", lambda *_: None)
    assert world.call("POST", "/webhooks", json={"url": "https://10.0.0.1/"}).status_code == 201


def _rebound(house: Office, receiver: Receiver, _: object) -> tuple[int, str]:
    """An endpoint whose name was harmless when it was made, and whose name server now gives the inside."""
    house.rules = rules(allow_http=True)
    endpoint, _ = house.endpoint(receiver.url("/inside", host="hooks.example"))
    house.resolver = lambda _host: ["127.0.0.1"]
    house.publish()
    house.send()
    return endpoint, house.deliveries(endpoint)[0].id


def test_J1_a_name_that_turns_inwards_is_not_followed(
    house: Office, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, delivery = _rebound(house, receiver, monkeypatch)
    assert receiver.got() == []
    (attempt,) = house.attempts(delivery)
    assert (attempt.status, attempt.error) == (None, "the URL leads to an address that webhooks may not go to")
    for answer in (["10.1.2.3"], ["93.184.216.34", "127.0.0.1"], ["::ffff:127.0.0.1"], ["169.254.169.254"]):
        house.resolver = lambda _host, answer=answer: answer
        house.later(86_400)
        house.deliver()
    assert receiver.got() == []
    assert {one.error for one in house.attempts(delivery)} == {attempt.error}


def test_J1_a_name_that_turns_inwards_would_be_followed_without_the_check(
    house: Office, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial.Dialer, "_check", lambda *_: None)
    _rebound(house, receiver, monkeypatch)
    assert [entry.path for entry in receiver.got()] == ["/inside"]


def test_J1_an_own_host_in_a_private_network_is_adopted_by_nobody(house: Office, receiver: Receiver) -> None:
    """What an upstream's own host may vouch for (a site's transparent proxy) a webhook's may not."""
    house.rules = rules(allow_http=True)
    adopting = dial.Dialer("hooks.example", house.rules.policy, resolver=lambda _host: ["198.18.0.7"])
    assert adopting._vetted("hooks.example", time.monotonic() + 5)  # the control: an upstream's is
    endpoint, _ = house.endpoint("http://hooks.example/")
    house.resolver = lambda _host: ["198.18.0.7"]
    house.publish()
    house.send()
    (attempt,) = house.attempts(house.deliveries(endpoint)[0].id)
    assert attempt.error == "the URL leads to an address that webhooks may not go to"


def test_J1_a_private_network_is_open_only_by_the_setting(house: Office, receiver: Receiver) -> None:
    house.rules = rules("127.0.0.0/8")
    endpoint, _ = house.endpoint(receiver.url())
    house.rules = rules(allow_http=True)  # the administrator closed it again after the webhook was made
    house.publish()
    house.send()
    assert receiver.got() == []
    house.rules = rules("127.0.0.0/8", allow_http=False)  # … or wants TLS now
    house.later(7)
    house.deliver()
    assert receiver.got() == []
    house.rules = rules("127.0.0.0/8")
    house.later(400)
    house.deliver()
    assert [row.state for row in house.deliveries(endpoint)] == ["Succeeded"]


@pytest.mark.parametrize("target", ["http://127.0.0.1:{port}/canary", "http://169.254.169.254/", "/canary"])
def test_J1_a_redirect_is_a_failure_and_is_not_followed(house: Office, receiver: Receiver, target: str) -> None:
    endpoint, _ = house.endpoint(receiver.url("/to?" + target.format(port=receiver.port)))
    house.publish()
    house.send()
    assert [entry.path.partition("?")[0] for entry in receiver.got()] == ["/to"]
    (attempt,) = house.attempts(house.deliveries(endpoint)[0].id)
    assert (attempt.status, attempt.error) == (302, "it answered 302: redirects are not followed")
    assert house.deliveries(endpoint)[0].state == "Pending"


def _taken(house: Office, receiver: Receiver) -> int:
    """How many bytes of ten gigabytes went out before the sender hung up."""
    taken = receiver.folder / "receiver.taken"
    taken.unlink(missing_ok=True)
    house.endpoint(receiver.url("/huge"))
    house.publish()
    house.send()
    receiver.wait(lambda _got: taken.exists())
    return int(taken.read_text().split()[0])


def test_J1_of_a_huge_answer_16_KiB_are_read(house: Office, receiver: Receiver) -> None:
    # What was sent and not read lies in the buffers of two sockets: some megabytes at most.
    assert _taken(house, receiver) < 20_000_000
    row = house.deliveries()[0]
    assert row.state == "Succeeded"
    assert house.attempts(row.id)[0].answer == "x" * 1024


def test_J1_without_the_limit_it_would_be_read_on(
    house: Office, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "MOST_ANSWER_BYTES", 60_000_000)
    assert _taken(house, receiver) > 50_000_000


@pytest.mark.parametrize("path", ["/slow/60", "/drip"])
def test_J1_a_receiver_that_takes_its_time_is_left_in_the_end(
    house: Office, receiver: Receiver, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it dawdles: before its answer, or a byte at a time in it."""
    assert sending.WHOLE_SECONDS == 15.0
    monkeypatch.setattr(sending, "WHOLE_SECONDS", 1.0)
    house.endpoint(receiver.url(path))
    house.publish()
    house.send()
    (attempt,) = house.attempts(house.deliveries()[0].id)
    assert (attempt.status, attempt.error) == (None, "no answer in time")
    assert attempt.took_ms >= 1000


HOSTILE = "<script>alert(1)</script>{{7*7}}${7*7}"


def test_J1_an_answer_is_shown_to_the_owner_alone_and_as_text(world: World, receiver: Receiver) -> None:
    webhook = made(world)["webhook"]["id"]
    with world.db.write() as session:
        row = WebhookDelivery(
            id="msg_1", endpoint_id=webhook, kind="asset.published", body='{"subject":"x"}', due_at=START,
            created_at=START, state="Failed", attempts=1,
        )  # fmt: skip
        session.add(row)
        session.flush()
        answer = sending.Answer(500, "", sending._shown(HOSTILE.encode()), None, 3)
        endpoint = session.get_one(endpoints.WebhookEndpoint, webhook)
        deliver.Deliverer._record_one(
            _Recorder(), session, endpoint, row, deliver._Tried("msg_1", START, answer), START
        )
    world.account("other", "admin")
    path = f"/webhooks/{webhook}/deliveries/msg_1"
    assert world.call("GET", path).json["attempts"][0]["answer"] == HOSTILE
    other = world.call("GET", path, as_=None, token=world.token("other", "admin"))
    assert other.json["attempts"][0]["answer"] is None
    assert other.json["attempts"][0]["status"] == 500
    browser = world.app.test_client()
    assert browser.post("/sign-in", data={"user": "admin", "password": "correct horse battery"}).status_code == 303
    page = browser.get(path).get_data(as_text=True)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;{{7*7}}${7*7}" in page
    assert "<script>alert(1)" not in page
    assert "49" not in page.partition("<main")[2].partition("Attempts")[2].partition("What is sent")[0]


class _Recorder:
    _tell_owner = staticmethod(lambda *_: None)


def test_J1_headers_are_fixed_and_hold_nothing_of_a_user(house: Office, receiver: Receiver) -> None:
    house.endpoint(receiver.url("/ok?a=1"))
    house.publish("evil\r\nX-Injected: 1")
    house.happen(events.SIGN_IN_LOCKED, domain="default", who="x\r\nwebhook-id: forged")
    house.send()
    names = {
        "host", "content-type", "content-length", "user-agent", "webhook-id", "webhook-timestamp", "webhook-signature",
    }  # fmt: skip
    assert len(receiver.got()) == 2
    for got in receiver.got():
        assert set(got.headers) == names
        assert got.id.startswith("msg_")


# --- J2: signatures --------------------------------------------------------------------------------------------------


def test_J2_two_secrets_sign_while_one_takes_over_from_the_other(house: Office, receiver: Receiver) -> None:
    endpoint, old = house.endpoint(receiver.url())
    house.now = _now()
    with house.db.write() as session:
        row = endpoints.find(session, house.admin, endpoint)
        new = endpoints.rotate(session, house.sealer, house.admin, row, endpoints.OVERLAP, house.now)
    house.forget()
    house.publish("пакет", "1.0.0")
    house.send()
    (got,) = receiver.got()
    assert len(got.headers["webhook-signature"].split(" ")) == 2
    for secret in (old, new):
        assert Webhook(secret).verify(got.body, dict(got.headers))["subject"] == "default/dev/pypi/пакет/1.0.0"
    assert "." not in got.id
    receiver.forget()
    house.later(86_401)
    house.publish(version="2.0")
    house.send()
    (later,) = receiver.got()
    assert len(later.headers["webhook-signature"].split(" ")) == 1
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(later.body, {**later.headers, "webhook-timestamp": got.headers["webhook-timestamp"]})


def test_J2_a_changed_id_moment_or_body_does_not_verify(house: Office, receiver: Receiver) -> None:
    _, secret = house.endpoint(receiver.url())
    house.now = _now()
    house.publish()
    house.send()
    (got,) = receiver.got()
    headers = dict(got.headers)
    Webhook(secret).verify(got.body, headers)
    stamp = int(headers["webhook-timestamp"])
    for changed in ({"webhook-id": "msg_0"}, {"webhook-timestamp": str(stamp + 1)}):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(got.body, {**headers, **changed})
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(got.body + b" ", headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(signing.new_secret()).verify(got.body, headers)


def _now() -> datetime:
    return datetime.now(UTC)


# --- J4: who may know ------------------------------------------------------------------------------------------------


def _lost(house: Office, receiver: Receiver, *, before_dispatch: bool, **values: object) -> list[str]:
    who = house.account("dora", "admin", repositories=["default/*"])
    house.endpoint(receiver.url("/private"), who=who, domain="default")
    house.publish()
    if not before_dispatch:
        house.dispatch()
    house.change_account("dora", **values)
    house.send()
    return [row.state for row in house.deliveries()]


@pytest.mark.parametrize(
    "values",
    [{"is_disabled": True}, {"repositories": ["other/*"]}, {"actions": ["publish"]}],
    ids=["disabled", "moved", "demoted"],
)
def test_J4_an_owner_who_lost_the_right_is_told_nothing(house: Office, receiver: Receiver, values: dict) -> None:
    assert _lost(house, receiver, before_dispatch=True, **values) == []
    assert receiver.got() == []


def test_J4_the_right_counts_at_the_moment_of_delivery(house: Office, receiver: Receiver) -> None:
    assert _lost(house, receiver, before_dispatch=False, repositories=["other/*"]) == ["Discarded"]
    assert receiver.got() == []


def test_J4_without_the_check_it_would_be_told(
    house: Office, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "is_entitled", lambda *_: True)
    assert _lost(house, receiver, before_dispatch=False, repositories=["other/*"]) == ["Succeeded"]
    assert len(receiver.got()) == 1


def _states(house: Office) -> list[str]:
    return sorted(row.state for row in house.deliveries())


def _change_rules(house: Office, change: Callable[[Session], object]) -> None:
    with house.db.write() as session:
        change(session)


def _dora_by_role(house: Office, receiver: Receiver) -> Callable[[], list[str]]:
    """A webhook of somebody whose only right is a role; gives what became of the deliveries of one more event."""
    who = house.account("dora")
    _change_rules(
        house, lambda session: granting.grant(session, "admin", "user/dora", "default", actor="a", now=house.now)
    )
    with house.db.read() as session:
        who = house.audience.member(session, session.get_one(Account, who.account_id), house.now)
    # The change of the policy is an event as well, which she may know of as long as she reads the repository.
    endpoint, _ = house.endpoint(receiver.url("/dora"), who=who, domain="default", kinds=("asset.*",))

    def happens() -> list[str]:
        known = {row.id for row in house.deliveries(endpoint)}
        house.publish()
        house.send()
        return [row.state for row in house.deliveries(endpoint) if row.id not in known]

    return happens


def test_J4_a_role_tells_and_a_revoked_role_does_not(house: Office, receiver: Receiver) -> None:
    happens = _dora_by_role(house, receiver)
    assert happens() == ["Succeeded"]
    house.publish()
    house.dispatch()
    with house.db.write() as session:
        (given,) = granting.listed(session)
        granting.revoke(session, given.id, actor="admin", now=house.now)
    house.deliver()
    assert _states(house) == ["Discarded", "Succeeded"], "it counts at the delivery"
    assert happens() == [], "and at the dispatch"
    assert len(receiver.got()) == 1


@pytest.mark.parametrize(
    "resource", ["repository/default/dev", "package/default/dev/pypi//acme", "*"], ids=["repository", "package", "all"]
)
def test_J4_a_policy_that_denies_reading_silences_it(house: Office, receiver: Receiver, resource: str) -> None:
    with house.db.write() as session:
        domain = session.scalars(select(Domain)).one()
        topology.create_repository(
            session, domain.id, RepositoryName("dev"), upstreams=(), external_formats=None, now=house.now
        )
    happens = _dora_by_role(house, receiver)
    assert happens() == ["Succeeded"]
    house.publish()
    house.dispatch()
    denial = {"Effect": "Deny", "Principal": "user/dora", "Action": "*", "Resource": resource}
    text_ = json.dumps({"Version": "2012-10-17", "Statement": [denial]})
    _change_rules(
        house,
        lambda session: policies.put(session, "default", "dev", text_, expected=None, actor="admin", now=house.now),
    )
    house.deliver()
    assert _states(house) == ["Discarded", "Succeeded"]
    assert happens() == []
    assert len(receiver.got()) == 1


def test_J4_a_ping_reaches_who_administers_a_domain_only(house: Office, receiver: Receiver) -> None:
    who = house.account("dora", "admin", repositories=["default/*"])
    endpoint, _ = house.endpoint(receiver.url("/dora"), who=who, domain="default")
    with house.db.write() as session:
        house.fanout.ping(session, endpoints.find(session, who, endpoint), "dora", house.now)
    house.deliver()
    assert [row.state for row in house.deliveries()] == ["Succeeded"]


def test_J4_events_of_the_server_go_to_its_administrators_only(house: Office, receiver: Receiver) -> None:
    who = house.account("dora", "admin", repositories=["default/*"])
    house.endpoint(receiver.url("/dora"), who=who, domain="default")
    house.endpoint(receiver.url("/admin"))
    house.happen("user.created", user="mel", by="admin")
    house.happen("repository.created", domain="default", repository="x", by="admin")
    house.happen("repository.created", domain="other", repository="x", by="admin")
    house.send()
    told = sorted((entry.path, entry.event["type"]) for entry in receiver.got())
    assert [path for path, _ in told] == ["/admin", "/admin", "/admin", "/dora"]
    assert told[-1][1] == "org.entrepot.repository.created.v1"


def test_J4_a_webhook_needs_the_right_to_administer_what_it_hears_of(house: Office) -> None:
    dora = house.account("dora", "admin", repositories=["default/team-*"])
    reader = house.account("rob", "read")
    for who, wanted in (
        (reader, {"domain": "default", "repository": "dev"}),
        (dora, {}),
        (dora, {"domain": "default"}),
        (dora, {"domain": "default", "repository": "dev"}),
        (dora, {"domain": "default", "repository": "*"}),
    ):
        with pytest.raises(Denied):
            house.endpoint("http://hooks.example/", who=who, **wanted)
    eve = house.account("eve", "publish")
    own, _ = house.endpoint("http://hooks.example/", who=dora, domain="default", repository="team-a")
    with house.db.write() as session:
        row = endpoints.find(session, dora, own)
        with pytest.raises(Denied):
            endpoints.change(
                session, house.rules, dora, row, url=None, wanted=Filter(("*",)), description=None, now=house.now
            )
        for stranger in (reader, eve):
            with pytest.raises(NotFound):
                endpoints.find(session, stranger, own)


# --- J5: secrets -----------------------------------------------------------------------------------------------------


def test_J5_the_secret_is_told_once_and_lies_sealed(world: World) -> None:
    answer = made(world)
    secret, webhook = answer["secret"], answer["webhook"]["id"]
    raw = base64.b64decode(secret.removeprefix("whsec_"))
    assert len(raw) == 32
    rotated = world.call("POST", f"/webhooks/{webhook}/secret", json={}).json["secret"]
    assert rotated != secret
    world.call("POST", f"/webhooks/{webhook}/ping")
    browser = world.app.test_client()
    browser.post("/sign-in", data={"user": "admin", "password": "correct horse battery"})
    shown = [
        world.call("GET", "/webhooks").text,
        world.call("GET", f"/webhooks/{webhook}").text,
        world.call("GET", f"/webhooks/{webhook}/deliveries").text,
        browser.get(f"/webhooks/{webhook}").get_data(as_text=True),
        browser.get("/webhooks").get_data(as_text=True),
    ]
    for found in shown:
        assert secret not in found
        assert rotated not in found
        assert "whsec_" not in found
    with world.db.read() as session:
        tables = session.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars().all()
        dump = repr([session.execute(text(f'SELECT * FROM "{table}"')).all() for table in tables])
    for one in (secret, rotated):
        key = base64.b64decode(one.removeprefix("whsec_"))
        assert one not in dump
        assert repr(key)[2:-1] not in dump
        assert key.hex() not in dump
    assert signing.fingerprint(rotated) == world.call("GET", f"/webhooks/{webhook}").json["secretFingerprint"]


def test_J5_a_sealed_secret_opens_in_its_own_row_only(house: Office, receiver: Receiver) -> None:
    first, _ = house.endpoint(receiver.url("/a"))
    second, _ = house.endpoint(receiver.url("/b"))
    stolen = house.row(first)
    stolen.id = second
    with pytest.raises(Damaged):
        endpoints.secrets_of(house.sealer, stolen, house.now)


# --- B5: templates ---------------------------------------------------------------------------------------------------


def test_B5_what_users_write_is_carried_as_it_is(house: Office, receiver: Receiver) -> None:
    house.endpoint(receiver.url())
    hostile = "{{7*7}} ${7*7} #set($x=1) {% import os %} %s {0.__class__}"
    house.happen("package.status-changed", domain="default", repository="dev", name=hostile, reason=hostile)
    house.send()
    data = receiver.got()[0].event["data"]
    assert (data["name"], data["reason"]) == (hostile, hostile)


def test_filters_that_are_none_are_refused(house: Office) -> None:
    for wanted in (
        {"kinds": ()},
        {"kinds": ("nothing.such",)},
        {"kinds": ("*",), "repository": "dev"},
        {"package": "a b"},
    ):
        with pytest.raises(Invalid):
            house.endpoint("http://hooks.example/", **wanted)
    with pytest.raises(BlockedAddress):
        house.endpoint("http://[::1]:25/")
