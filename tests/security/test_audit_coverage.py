"""L3, L4: every route that changes something leaves an entry in the audit log, and no entry holds a secret."""

import json
import re
from collections.abc import Iterator

import pytest
from flask import Flask
from sqlalchemy import func, select

from registry import audit, audit_chain
from registry.models import AuditEntry, Event
from registry.repos import audit_log
from tests.security.audit_routes import DRIVERS, NO_CHANGE, Stage

CHANGING = {"POST", "PUT", "PATCH", "DELETE"}
WAYS = {
    "webhook secret",
    "runner credential",
    "agent key",
    "agent session",
    "job token",
    "enrolment token",
    "registration token",
    "token",
    "session",
    "password",
    "one-time link",
    "password and authenticator app",
}
SECRET = re.compile(r"\bent_[0-9A-Za-z]{8,}")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = Stage(tmp_path_factory.mktemp("stage") / "data")
    yield made
    made.close()


def changing_routes(app: Flask) -> set[str]:
    """``METHOD rule`` of everything that is not there for reading."""
    return {
        f"{method} {rule.rule}" for rule in app.url_map.iter_rules() for method in (rule.methods or set()) & CHANGING
    }


def newest(stage: Stage) -> int:
    with stage.db.read() as session:
        return session.scalar(select(func.max(AuditEntry.seq))) or 0


def driven(stage: Stage, route: str) -> list[audit_chain.Link]:
    """Ask the route, and give back the entries it left."""
    method, _, rule = route.partition(" ")
    ask = DRIVERS[route](stage)
    found, _ = stage.app.url_map.bind("localhost").match(ask.path.partition("?")[0], method=method, return_rule=True)
    assert found.rule == rule, "the driver asks another route"
    before = newest(stage)
    answer = stage.do(method, ask)
    assert answer.status_code < 400, answer.text
    stage.secrets |= set(SECRET.findall(answer.text))
    return [link for link in audit_log.export(stage.db) if link.seq > before]


def test_L3_every_changing_route_is_driven_or_reviewed(stage: Stage) -> None:
    """A new route fails here until it has a driver, or somebody has looked at it and says why it changes nothing."""
    assert changing_routes(stage.app) == DRIVERS.keys() | NO_CHANGE.keys()
    assert not DRIVERS.keys() & NO_CHANGE.keys()


@pytest.mark.parametrize("route", sorted(route for route, why in NO_CHANGE.items() if why.startswith("always refused")))
def test_L3_what_is_always_refused_is(stage: Stage, route: str) -> None:
    method, _, rule = route.partition(" ")
    path = rule.replace("<domain>/<repository>", "default/prod").replace("<path:rest>", "-/v1/anything/else")
    before = newest(stage)
    assert 400 <= stage.do(method, stage.client(path, json={})).status_code < 500
    assert newest(stage) == before


@pytest.mark.parametrize("route", sorted(DRIVERS))
def test_L3_the_change_leaves_an_entry(stage: Stage, route: str) -> None:
    entries = driven(stage, route)
    assert entries, f"{route} changes something and says so nowhere"
    (request_id,) = {entry.request_id for entry in entries}
    for entry in entries:
        assert entry.actor
        assert entry.object
        assert entry.address == "127.0.0.1"
        # Whoever reports a leaked token proves nothing, and says so by the token itself.
        assert entry.via in WAYS or (entry.via is None and route.endswith("/leaked-tokens")), entry
    assert request_id


def test_L3_negative_control_a_route_without_an_entry_is_found(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "record", lambda *_, **__: None)
    assert driven(stage, "POST /api/v1/users") == []


def test_L3_no_entry_no_change(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry is written in the transaction of the change: where it cannot be, nothing happens."""

    def full(*_: object) -> None:
        raise OSError("no room for an entry")

    monkeypatch.setattr(audit, "append", full)
    ask = DRIVERS["POST /api/v1/users"](stage)
    assert stage.do("POST", ask).status_code == 500
    monkeypatch.undo()
    assert stage.do("POST", ask).status_code == 201  # the name is still free


def test_L4_entries_hold_no_secret(stage: Stage) -> None:
    """Last, over the entries of all the requests above."""
    lines = [audit_chain.line(link) for link in audit_log.export(stage.db)]
    assert len(lines) > len(DRIVERS)
    assert len(stage.secrets) > len(stage.tokens) + 10
    for line in lines:
        assert not SECRET.search(line), line
        assert not [secret for secret in stage.secrets if secret in line], line
    assert audit_log.check(stage.db).fault is None


def test_L4_events_hold_no_secret_and_say_where_they_were(stage: Stage) -> None:
    """Those that the entries above became: none is of a shape that the table of events does not know."""
    with stage.db.read() as session:
        rows = session.scalars(select(Event)).all()
    kinds = {row.kind for row in rows}
    assert {
        "role.granted",
        "policy.changed",
        "package-group.origin-changed",
        "domain.deleted",
        "user.disabled",
    } <= kinds
    for row in rows:
        assert "object" not in row.payload, (row.kind, row.payload)
        payload = json.dumps(row.payload)
        assert not SECRET.search(payload), payload
        assert not [secret for secret in stage.secrets if secret in payload], payload


def test_L4_negative_control_a_secret_is_found(stage: Stage) -> None:
    token = stage.tokens["reader"]
    with stage.db.write() as session:
        audit.record(session, stage.now, "reader", "token.issue", "user/reader", said=token)
    lines = [audit_chain.line(link) for link in audit_log.export(stage.db)]
    assert SECRET.search(lines[-1])
    assert token in stage.secrets
