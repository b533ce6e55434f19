"""What happens becomes an event, in the transaction of the change: kind, place and who, for each change there is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from hooks.builds.phases import BuildStatus
from hooks.notifications.filters import place_of
from registry import audit, events
from registry.models import Event, ExternalConnection
from registry.repos.health import HealthBook
from tests.functional.api_world import World
from tests.functional.test_hooks_api import Hooks, action


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


@pytest.fixture
def hooks(tmp_path: Path) -> Iterator[Hooks]:
    made = Hooks(tmp_path)
    yield made
    made.close()


def told(world: World) -> list[tuple[str, str]]:
    """(kind, place) of the events so far, in their order."""
    with world.db.read() as session:
        rows = session.scalars(select(Event).order_by(Event.id)).all()
    for row in rows:
        events.parse(row.kind, row.payload)
    return [(row.kind, place_of(row.payload).path) for row in rows]


def last(world: World) -> dict:
    with world.db.read() as session:
        return session.scalars(select(Event).order_by(Event.id.desc())).first().payload


REPOSITORY = "/domains/default/repositories/dev"


def test_changes_of_packages_repositories_connections_people_and_tokens(world: World) -> None:
    world.publish("dev", "acme", "1.0")
    version = f"{REPOSITORY}/packages/pypi/acme/versions/1.0"
    world.call("PUT", f"{REPOSITORY}/packages/pypi/acme/status", json={"status": "archived", "reason": "done"})
    assert last(world)["reason"] == "done"
    world.call("PUT", f"{REPOSITORY}/packages/pypi/acme/status", json={"status": "active"})
    world.call("POST", f"{version}/promote", json={"target": "staging"})
    world.call("POST", f"{version}/yank", json={"reason": "bad"})
    world.call("DELETE", version)
    world.call("POST", "/domains/default/repositories", json={"name": "fresh"})
    world.call("PATCH", "/domains/default/repositories/fresh", json={"description": "new"})
    connection = {"format": "generic", "name": "partner", "url": "https://93.184.216.34/"}
    world.call("POST", f"{REPOSITORY}/connections", json=connection)
    world.call("PATCH", f"{REPOSITORY}/connections/generic/partner", json={"position": 3})
    world.call("DELETE", f"{REPOSITORY}/connections/generic/partner")
    world.call("POST", "/users", json={"name": "mel", "actions": ["read"]})
    token = world.call("POST", "/tokens", json={"name": "ci", "actions": ["read"], "ttlSeconds": 600}).json["id"]
    world.call("DELETE", f"/tokens/{token}")
    place = "default/dev/pypi/acme/1.0"
    assert told(world) == [
        ("asset.published", place),
        ("package.status-changed", "default/dev/pypi/acme"),
        ("package.status-changed", "default/dev/pypi/acme"),
        ("asset.published", "default/staging/pypi/acme/1.0"),
        ("version.copied", "default/staging/pypi/acme/1.0"),
        ("version.yanked", place),
        ("version.deleted", place),
        ("repository.created", "default/fresh"),
        ("repository.changed", "default/fresh"),
        ("connection.created", "default/dev/generic"),
        ("connection.changed", "default/dev/generic"),
        ("connection.removed", "default/dev/generic"),
        ("user.created", ""),
        ("token.issued", ""),
        ("token.revoked", ""),
    ]
    assert last(world) == {"user": "admin", "token": str(token), "by": "admin"}


@pytest.mark.parametrize(
    ("action_", "obj", "place"),
    [
        ("policy.put", "domain/default", {"domain": "default"}),
        ("policy.put", "repository/default/dev", {"domain": "default", "repository": "dev"}),
        (
            "package-group.create",
            "default/package-groups/npm/@acme/ui~",
            {"domain": "default", "pattern": "/npm/@acme/ui~"},
        ),
        ("package-group.update", "default/package-groups/*", {"domain": "default", "pattern": "/*"}),
        ("role.grant", "group/ops", {"principal_kind": "group", "principal": "ops"}),
        ("domain.delete", "default", {"domain": "default"}),
        ("policy.put", "of/another/length/altogether", {"object": "of/another/length/altogether"}),
    ],
)
def test_where_changes_of_rights_and_groups_were(world: World, action_: str, obj: str, place: dict) -> None:
    with world.db.write() as session:
        audit.record(session, world.now, "admin", action_, obj)
    assert last(world) == {**place, "by": "admin"}


def test_what_is_rolled_back_was_no_event(world: World) -> None:
    def fail() -> None:
        with world.db.write() as session:
            audit.record(session, world.now, "admin", "repository.create", "default/x")
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert told(world) == []


@pytest.mark.parametrize(
    ("obj", "place"),
    [
        ("default/dev/npm/@scope/name", "default/dev/npm/@scope/name"),
        ("default/dev/maven/a.b/c", "default/dev/maven/a.b/c"),
        ("default/dev/pypi/name", "default/dev/pypi/name"),
        ("odd", ""),
    ],
)
def test_a_name_behind_its_namespace_keeps_it(world: World, obj: str, place: str) -> None:
    with world.db.write() as session:
        audit.record(session, world.now, "admin", "package.status", obj, status="x")
    assert told(world) == [("package.status-changed", place)]


def test_an_undeclared_kind_is_a_fault_of_the_program(world: World) -> None:
    with world.db.write() as session, pytest.raises(ValueError, match="not a declared"):
        events.note(session, "nothing.such", world.now)


def test_a_lockout_is_told_once(world: World) -> None:
    browser = world.app.test_client()
    for _ in range(5):
        browser.post("/sign-in", data={"user": "reader", "password": "wrong password"})
    assert told(world) == [("sign-in.locked", "")]
    assert last(world) == {"who": "user/reader"}
    world.now += timedelta(seconds=60)
    browser.post("/sign-in", data={"user": "reader", "password": "wrong password"})
    assert len(told(world)) == 1


def test_a_connection_that_begins_to_fail_and_works_again(world: World) -> None:
    with world.db.read() as session:
        connection = session.scalars(select(ExternalConnection.id)).first()
    book = HealthBook(world.db, lambda: world.now, interval_seconds=0)
    for word in ("succeeded", "failed", "failed", "succeeded", "succeeded"):
        world.now += timedelta(seconds=1)
        book.failed(connection, "it is gone", 0) if word == "failed" else book.succeeded(connection)
    assert told(world) == [("connection.health-changed", "default/public/pypi")] * 2
    with world.db.read() as session:
        states = [row.payload["state"] for row in session.scalars(select(Event).order_by(Event.id))]
    assert states == ["Failing", "Working"]


def test_an_execution_tells_of_itself_its_stages_actions_and_approvals(hooks: Hooks) -> None:
    before = len(told(hooks))
    started = hooks.start()
    hooks.answer(started)
    hooks.work()
    hooks.answer(started, "Second", verdict="Rejected")
    kinds = [kind for kind, _ in told(hooks)][before:]
    mine = [kind for kind in kinds if kind.partition(".")[0] in {"execution", "stage", "action", "approval"}]
    assert mine[:6] == [
        "execution.started",
        "stage.started",
        "action.started",
        "action.succeeded",
        "stage.succeeded",
        "stage.started",
    ]
    for kind in ("approval.needed", "approval.decided", "action.failed", "stage.failed", "execution.failed"):
        assert kind in mine, kind
    assert mine.count("approval.needed") == 2
    assert mine[-1] == "execution.failed"
    end = last(hooks)
    assert (end["execution"], end["started_by"], end["pipeline_version"], end["trigger"]) == (
        started["id"],
        "publisher",
        1,
        "manual",
    )
    assert end["reason"].startswith("rejected by ")
    assert told(hooks)[-1][1] == "default/dev/pypi/my-pkg/1"


def test_a_build_tells_when_it_is_started_and_how_it_ended(hooks: Hooks) -> None:
    build = action(hooks.start("built"), "Test", "Unit")["buildId"]
    assert ("build.started", "default/dev/pypi/my-pkg/1") in told(hooks)
    hooks.end_build(build, BuildStatus.TIMED_OUT)
    assert ("build.timed-out", "default/dev/pypi/my-pkg/1") in told(hooks)
    hooks.end_build(build, BuildStatus.SUCCEEDED)
    assert "build.succeeded" not in [kind for kind, _ in told(hooks)]
