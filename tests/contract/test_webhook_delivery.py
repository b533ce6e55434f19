"""Deliveries of webhooks: one contract, both databases, a real receiver in a process of its own."""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from standardwebhooks import Webhook, WebhookVerificationError

from hooks.errors import LeaseLost
from hooks.jobs.worker import Worker
from hooks.models import WebhookDelivery
from hooks.notifications import deliveries, endpoints, fanout, schedule
from hooks.pipelines import happenings
from registry import events
from registry.db import Database
from registry.errors import Conflict
from registry.models import Event
from tests.fakes.notifying import SOURCE, START, Office, office_database
from tests.fakes.receiver import Receiver
from tests.job_bench import BACKENDS, eventually


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with Receiver(tmp_path_factory.mktemp("receiver")) as receiver:
        yield receiver


@pytest.fixture
def receiver(running: Receiver) -> Receiver:
    running.forget()
    return running


@pytest.fixture(scope="module", params=BACKENDS)
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with office_database(request.param, tmp_path_factory.mktemp("office")) as db:
        yield db


@pytest.fixture
def house(database: Database, tmp_path: Path) -> Office:
    return Office(database, tmp_path)


def state(house: Office) -> list[str]:
    return [row.state for row in house.deliveries()]


class TestWhatArrives:
    def test_an_event_in_its_envelope_signed(self, house: Office, receiver: Receiver, monkeypatch) -> None:
        _, secret = house.endpoint(receiver.url("/ok/é"), domain="default", kinds=("asset.*",))
        house.now = datetime.now(UTC)  # the library refuses what is older than five minutes
        house.publish("naïve-päckage")
        house.send()
        got = receiver.got()[-1]
        told = Webhook(secret).verify(got.body, dict(got.headers))
        assert told == {
            "specversion": "1.0",
            "id": told["id"],
            "source": SOURCE,
            "type": "org.entrepot.asset.published.v1",
            "subject": "default/dev/pypi/naïve-päckage/1.0",
            "time": house.now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "datacontenttype": "application/json",
            "data": told["data"],
        }
        assert told["data"]["sha256"] == "0" * 64
        assert got.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(got.body.replace(b"1.0", b"1.1"), dict(got.headers))
        assert state(house) == ["Succeeded"]

    def test_a_chat_gets_a_text_that_calls_nobody_and_is_signed_all_the_same(
        self, house: Office, receiver: Receiver
    ) -> None:
        _, secret = house.endpoint(receiver.url("/chat"), kinds=("action.*",), payload="Chat")
        house.now = datetime.now(UTC)
        house.happen(
            "action.failed", domain="default", repository="dev", format="npm", namespace="@all", name="x", version="1.0",
            pipeline="release", execution=7, stage="Gate", action="Ask", summary="rejected by <!channel> & @here\n",
        )  # fmt: skip
        house.send()
        got = receiver.got()[-1]
        text = Webhook(secret).verify(got.body, dict(got.headers))["text"]
        assert text == (
            "action.failed: default/dev/npm/@\u200ball/x/1.0 (pipeline release, execution 7, stage Gate, action Ask): "
            f"rejected by &lt;!channel&gt; &amp; @\u200bhere\n{SOURCE}/executions/7"
        )
        assert got.headers["content-type"] == "application/json; charset=utf-8"

    def test_what_aws_tells_is_told_in_its_shape(self, house: Office, receiver: Receiver) -> None:
        house.endpoint(receiver.url("/bridge"), payload="EventBridge", kinds=("action.*", "deployment.*", "asset.*"))
        house.happen(
            "action.started", domain="default", repository="dev", format="pypi", namespace="", name="acme", version="1.0",
            pipeline="release", execution=7, pipeline_version=3, start_time="2026-01-01T00:00:00+00:00", trigger="manual",
            started_by="ada", stage="Prod", action="Ship", attempt=2, category="Deploy", owner="AWS",
            provider="CodeDeploy", deployment="d-ABCDEFGHI", summary="deployment to shop/prod",
        )  # fmt: skip
        house.happen(
            "deployment.failed", domain="default", application="shop", deployment_group="prod",
            deployment="d-ABCDEFGHI", error="HEALTH_CONSTRAINTS", message="web-1: it did not start",
        )  # fmt: skip
        house.publish()
        house.send()
        action, deployment, asset = sorted(
            (json.loads(got.body) for got in receiver.got()[-3:]), key=lambda each: int(each["id"])
        )
        assert (action["detail-type"], action["source"], action["version"]) == (
            "CodePipeline Action Execution State Change", "aws.codepipeline", "0",
        )  # fmt: skip
        detail = action["detail"]
        assert (detail["pipeline"], detail["execution-id"], detail["state"], detail["version"]) == (
            "release",
            "7",
            "STARTED",
            3,
        )
        assert detail["type"] == {"owner": "AWS", "category": "Deploy", "provider": "CodeDeploy", "version": "1"}
        assert detail["execution-trigger"] == {"trigger-type": "StartPipelineExecution", "trigger-detail": "ada"}
        assert (detail["pipeline-execution-attempt"], detail["url"]) == (2, f"{SOURCE}/executions/7")
        assert detail["execution-result"]["external-execution-id"] == "d-ABCDEFGHI"
        told = deployment["detail"]
        assert (told["deploymentId"], told["state"], told["errorInformation"]["message"]) == (
            "d-ABCDEFGHI", "FAILURE", "web-1: it did not start",
        )  # fmt: skip
        assert told["url"] == f"{SOURCE}/deployments/d-ABCDEFGHI"
        assert (asset["detail-type"], asset["source"], asset["detail"]["name"]) == (
            "asset.published",
            "entrepot",
            "acme",
        )

    def test_only_what_the_filter_takes(self, house: Office, receiver: Receiver) -> None:
        house.endpoint(receiver.url(), domain="default", repository="st*", package="acme-*", kinds=("asset.published",))
        for repository, name in (("dev", "acme-a"), ("staging", "acme-b"), ("staging", "other"), ("stable", "acme-c")):
            house.publish(name, repository=repository)
        house.happen("repository.created", domain="default", repository="staging", by="alice")
        house.dispatch()
        subjects = [json.loads(row.body)["subject"].split("/")[3] for row in house.deliveries()]
        assert sorted(subjects) == ["acme-b", "acme-c"]

    def test_an_event_of_a_kind_that_is_declared_in_one_line(self, house: Office, receiver: Receiver) -> None:
        kind = events.declare("moon.full", "The moon is full.")
        house.endpoint(receiver.url(), kinds=("moon.*",))
        house.happen(kind, domain="default", brightness=3)
        house.send()
        assert receiver.got()[-1].event["type"] == "org.entrepot.moon.full.v1"
        assert receiver.got()[-1].event["data"] == {"domain": "default", "brightness": 3}

    def test_a_large_event_keeps_within_its_bounds(self, house: Office, receiver: Receiver) -> None:
        house.endpoint(receiver.url())
        house.happen(events.SIGN_IN_LOCKED, domain="default", long="ü" * 30_000, lists=["x" * 100] * 1000)
        house.send()
        body = receiver.got()[-1].body
        assert len(body) <= 20 * 1024
        assert json.loads(body)["data"] == {"domain": "default", "truncated": True}

    def test_all_that_wait_arrive_each_once(self, house: Office, receiver: Receiver) -> None:
        house.endpoint(receiver.url("/many"))
        for number in range(60):
            house.publish(version=str(number))
        house.send()
        ids = Counter(entry.id for entry in receiver.got() if entry.path == "/many")
        assert len(ids) == 60
        assert set(ids.values()) == {1}


class TestTrouble:
    def test_500_then_200_comes_under_the_same_id(self, house: Office, receiver: Receiver) -> None:
        house.endpoint(receiver.url("/flaky/2"))
        house.publish()
        house.send()
        row = house.deliveries()[0]
        assert (row.state, row.reason) == ("Pending", "it answered 500")
        assert timedelta(seconds=5) <= row.due_at - house.now <= timedelta(seconds=6)
        house.later(4)
        house.deliver()
        assert house.deliveries()[0].attempts == 1, "it came before its time"
        house.later(3)
        house.deliver()
        house.later(400)
        house.deliver()
        got = [entry for entry in receiver.got() if entry.id == row.id]
        assert len(got) == 3
        assert len({entry.body for entry in got}) == 1
        stamps = [int(entry.headers["webhook-timestamp"]) for entry in got]
        assert stamps == sorted(set(stamps)), "each attempt has its own moment"
        assert state(house) == ["Succeeded"]
        assert [attempt.status for attempt in house.attempts(row.id)] == [500, 500, 200]
        assert [attempt.answer for attempt in house.attempts(row.id)] == ["said"] * 3

    def test_after_the_last_attempt_the_endpoint_is_disabled_and_its_owner_told(
        self, house: Office, receiver: Receiver
    ) -> None:
        endpoint, _ = house.endpoint(receiver.url("/status/500"))
        house.publish()
        house.dispatch()
        for delay_seconds in schedule.DELAYS_SECONDS:
            house.later(delay_seconds * 1.25)
            house.deliver()
        first, *rest = house.deliveries(endpoint)
        assert (first.state, first.attempts) == ("Failed", 10)
        assert not house.row(endpoint).is_enabled
        assert "10 attempts" in house.row(endpoint).disabled_reason
        assert house.told == [f"{endpoint}: {house.row(endpoint).disabled_reason}"]
        assert house.audit()[-1] == "webhook.disable"
        assert house.events()[-1] == "webhook.disabled"
        house.publish(version="2.0")
        house.send()
        assert len(house.deliveries(endpoint)) == 1 + len(rest)

    def test_410_disables_at_once(self, house: Office, receiver: Receiver) -> None:
        endpoint, _ = house.endpoint(receiver.url("/gone"))
        house.publish()
        house.send()
        assert state(house) == ["Failed"]
        assert house.row(endpoint).disabled_reason == "it answered 410 Gone"

    def test_retry_after_holds_for_the_whole_endpoint(self, house: Office, receiver: Receiver) -> None:
        endpoint, _ = house.endpoint(receiver.url("/busy/90"))
        house.publish()
        house.send()
        before = len(receiver.got())
        house.publish(version="2.0")
        house.later(60)
        house.send()
        assert len(receiver.got()) == before, "it asked for 90 seconds"
        assert house.row(endpoint).quiet_until == START + timedelta(seconds=90)
        house.later(31)
        house.deliver()
        assert len(receiver.got()) > before

    def test_a_receiver_that_is_down_gets_it_when_it_is_back(self, house: Office, tmp_path: Path) -> None:
        late = Receiver(tmp_path, "late")
        late.start()
        url = late.url()
        late.stop()
        house.endpoint(url)
        house.publish()
        house.send()
        row = house.deliveries()[0]
        assert [(one.status, one.error) for one in house.attempts(row.id)] == [(None, "the connection was refused")]
        with late:
            house.later(7)
            house.deliver()
            assert [entry.id for entry in late.got()] == [row.id]

    def test_a_reset_is_a_failure_that_is_tried_again(self, house: Office, receiver: Receiver) -> None:
        house.endpoint(receiver.url("/reset"))
        house.publish()
        house.send()
        (attempt,) = house.attempts(house.deliveries()[0].id)
        assert (attempt.status, attempt.error) == (None, "the connection was broken off")
        assert state(house) == ["Pending"]

    def test_one_endpoint_that_hangs_keeps_no_other_waiting(
        self, house: Office, receiver: Receiver, tmp_path: Path
    ) -> None:
        with Receiver(tmp_path, "hanging") as hanging:
            slow, _ = house.endpoint(hanging.url("/hold"))
            fast, _ = house.endpoint(receiver.url("/beside"))
            for number in range(20):
                house.publish(version=str(number))
            house.dispatch()
            worker = Worker(
                house.db, {fanout.JOB_KIND: house.deliverer()}, slots=2, queues=(fanout.QUEUE,), poll_seconds=0.01
            )
            worker.start()
            try:
                eventually(lambda: {row.state for row in house.deliveries(fast)} == {"Succeeded"})
                assert {row.state for row in house.deliveries(slow)} == {"Pending"}
                assert len(hanging.got()) <= 4, "so many at a time, and no more"
                hanging.release.touch()
                eventually(lambda: {row.state for row in house.deliveries(slow)} == {"Succeeded"})
            finally:
                worker.drain(5)
                assert worker.join(30)


class TestPeople:
    def test_what_failed_is_delivered_again_under_its_id(self, house: Office, receiver: Receiver) -> None:
        endpoint, _ = house.endpoint(receiver.url("/gone"))
        for number in range(3):
            house.publish(version=str(number))
            house.later(1)
        house.send()
        failed = {row.id for row in house.deliveries()}
        assert state(house) == ["Failed"] * 3
        with house.db.write() as session:
            row = endpoints.find(session, house.admin, endpoint)
            with pytest.raises(Conflict, match="enable"):
                deliveries.redeliver(session, house.admin, row, row_id := next(iter(failed)), house.now)
            endpoints.enable(session, house.admin, row, house.now)
            row.url = receiver.url("/again")
            deliveries.redeliver(session, house.admin, row, row_id, house.now)
        house.deliver()
        assert [entry.id for entry in receiver.got() if entry.path == "/again"] == [row_id]
        with house.db.write() as session:
            row = endpoints.find(session, house.admin, endpoint)
            assert deliveries.redeliver_failed(session, house.admin, row, START, house.now) == 2
        house.deliver()
        assert {entry.id for entry in receiver.got() if entry.path == "/again"} == failed
        assert state(house) == ["Succeeded"] * 3

    def test_a_disabled_endpoint_gets_nothing_more_even_of_what_waited(self, house: Office, receiver: Receiver) -> None:
        endpoint, _ = house.endpoint(receiver.url("/off"))
        house.publish()
        house.dispatch()
        with house.db.write() as session:
            endpoints.disable(session, "admin", endpoints.find(session, house.admin, endpoint), "enough", house.now)
        house.publish(version="2.0")
        house.send()
        assert state(house) == ["Failed"]
        assert not [entry for entry in receiver.got() if entry.path == "/off"]

    def test_records_and_events_are_kept_for_a_time(self, house: Office, receiver: Receiver) -> None:
        house.endpoint(receiver.url())
        house.publish()
        house.send()
        house.later(100)
        house.publish(version="2.0")
        house.send()
        newest = house.deliveries()[-1].id
        deliveries.purge(house.db, house.now - timedelta(seconds=50))
        assert [row.id for row in house.deliveries()] == [newest]
        with house.db.read() as session:
            assert len(session.scalars(select(Event.id)).all()) == 1

    def test_the_list_goes_on_where_it_ended(self, house: Office, receiver: Receiver) -> None:
        endpoint, _ = house.endpoint(receiver.url())
        for number in range(7):
            house.publish(version=str(number))  # all of one moment
        house.dispatch()
        seen: list[str] = []
        with house.db.read() as session:
            row = endpoints.find(session, house.admin, endpoint)
            while page := deliveries.listed(session, row, state=None, before=seen[-1] if seen else None, limit=3):
                seen += [entry.id for entry in page]
        assert sorted(seen) == sorted(entry.id for entry in house.deliveries())


class TestClaims:
    def test_two_workers_send_each_delivery_once(self, house: Office, receiver: Receiver) -> None:
        """Without a crash exactly once: one job for each endpoint, whoever holds it."""
        numbers = [house.endpoint(receiver.url(f"/both/{number}"))[0] for number in range(3)]
        workers = [
            Worker(
                house.db,
                {fanout.JOB_KIND: house.deliverer()},
                slots=3,
                queues=(fanout.QUEUE,),
                poll_seconds=0.01,
                periodic=[(0.01, lambda: fanout.wake_due(house.db, house.now) and None)],
            )
            for _ in range(2)
        ]
        for worker in workers:
            worker.start()
        try:
            for number in range(10):
                house.publish(version=str(number))
                house.dispatch()
            eventually(lambda: set(state(house)) == {"Succeeded"})
        finally:
            for worker in workers:
                worker.drain(5)
            assert all(worker.join(30) for worker in workers)
        got = Counter(entry.id for entry in receiver.got() if entry.path.startswith("/both"))
        assert len(got) == 10 * len(numbers)
        assert set(got.values()) == {1}

    def test_events_that_two_dispatchers_look_at_become_one_delivery_each(
        self, house: Office, receiver: Receiver
    ) -> None:
        house.endpoint(receiver.url())
        for number in range(40):
            house.publish(version=str(number))
        gate = threading.Barrier(3)

        def run() -> None:
            gate.wait()
            house.dispatch()

        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        subjects = Counter(json.loads(row.body)["subject"] for row in house.deliveries())
        assert len(subjects) == 40
        assert set(subjects.values()) == {1}

    def test_a_delivery_whose_record_got_lost_is_sent_again(self, house: Office, receiver: Receiver) -> None:
        """What a kill between the answer and its record leaves: the row as it was before."""
        house.endpoint(receiver.url("/twice"))
        house.publish()
        house.dispatch()
        before = {row.id: (row.state, row.step, row.attempts) for row in house.deliveries()}
        with pytest.raises(LeaseLost):
            house.deliverer()(_Cut(house.db))
        assert {row.id: (row.state, row.step, row.attempts) for row in house.deliveries()} == before
        house.deliver()
        assert [entry.id for entry in receiver.got() if entry.path == "/twice"] == list(before) * 2
        assert state(house) == ["Succeeded"]


class _Cut:
    """A job whose worker loses everything that it wanted to write."""

    def __init__(self, db: Database) -> None:
        with db.read() as session:
            self.payload = {"endpoint_id": session.scalars(select(WebhookDelivery.endpoint_id)).first()}

    def should_stop(self) -> bool:
        return False

    def step(self, _unit: object) -> bool:
        raise LeaseLost(1, 1)


def test_the_waits_are_those_that_are_promised() -> None:
    waits = [schedule.wait_seconds(made, 0.0) for made in range(11)]
    assert waits == [0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400, None]
    for low, high in itertools.pairwise([schedule.wait_seconds(3, part) for part in (0.0, 0.5, 1.0)]):
        assert low < high <= 1800 * 1.2


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        ("Thu, 01 Jan 2026 12:01:00 GMT", 60),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0),
        ("999999999999", 86400),
        ("-5", 0),
        ("soon", 0),
        (None, 0),
        ("٣", 0),
    ],
)
def test_retry_after(value: str | None, seconds: float) -> None:
    assert schedule.retry_after_seconds(value, START) == seconds


def test_every_kind_says_what_it_tells() -> None:
    assert happenings.APPROVAL_NEEDED in events.CATALOGUE
    for kind, tells in events.CATALOGUE.items():
        assert len(kind) <= 64, kind
        assert tells.strip().endswith("."), kind
