"""H9: what a build can publish with its token, and when; and what is written down of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import select, update

from hooks.builds import broker, publishing
from hooks.builds.access import BuildAccess
from hooks.builds.broker import rewritten
from hooks.builds.executor import Publishing
from hooks.builds.projects import Settings, create_or_update_project
from hooks.builds.records import QUEUE, request_stop_build, start_build
from hooks.builds.source import PackageSource, SourceAsset
from hooks.jobs import claims
from hooks.models import Build, Execution, Job, Pipeline, PipelineDefinitionVersion, WorkerProcess
from hooks.triggers.collect import Coordinates, collect
from registry.errors import Invalid
from registry.models import AuditEntry, BuiltAsset, Token
from tests.functional.api_world import START, World

STAGING = ("default", "staging")
NUMBERS = itertools.count(1)
SOURCE = PackageSource("default", "dev", "generic", "thing", "1.0", (SourceAsset("a", "0" * 64),))


@dataclass
class Running:
    """A build that runs, and the token that it publishes with."""

    world: World
    build_id: str
    token: str
    count: int = 0

    def put(self, repository: str = "staging", token: str | None = None) -> Any:
        """Publish a file of its own with a token; the answer."""
        self.count = next(NUMBERS)
        path = f"/generic/default/{repository}/made/1.{self.count}/file.txt"
        return self.world.http.put(path, data=b"made", headers={"Authorization": f"Bearer {token or self.token}"})

    def made(self) -> list[BuiltAsset]:
        with self.world.db.read() as session:
            return list(session.scalars(select(BuiltAsset).where(BuiltAsset.build_id == self.build_id)))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("world"))
    made.account("builds", "read", "publish")
    with made.db.write() as session:
        place, document = ("default", "dev"), {"publishRepository": "default/staging"}
        create_or_update_project(session, name="maker", now=made.now, settings=Settings(place, document=document))
        session.add(
            WorkerProcess(
                id="w", name="runner-1", host="h", pid=1, slots=1, queues=[QUEUE], started_at=0.0, seen_at=0.0
            )
        )  # fmt: skip
    yield made
    made.close()


@pytest.fixture
def running(world: World) -> Running:
    with world.db.write() as session:
        build = start_build(session, project="maker", source=SOURCE, initiator="ann", now=world.now, publishes=True)
    with world.db.write() as session:
        claims.claim(session, owner="w", queues=[QUEUE], kinds=["build"], free=10, lease_seconds=600)
        session.get_one(Build, build.id).attempt = 1
    services = world.services
    access = BuildAccess(services.db, services.stores, services.accounts, services.formats, services.clock)
    with world.db.read() as session:
        row = session.get_one(Build, build.id)
    door = access.open_publishing(row, STAGING)
    return Running(world, build.id, door.token.token)


def test_H9_a_running_build_publishes_where_its_project_says_and_is_recorded(running: Running) -> None:
    assert running.put().status_code == 201
    (made,) = running.made()
    assert (made.project, made.attempt, made.runner, made.initiator) == ("maker", 1, "runner-1", "ann")
    assert made.source["uri"] == "pkg:generic/thing@1.0"
    assert made.source["digest"] == f"sha256:{SOURCE.digest}"
    with running.world.db.read() as session:
        entry = session.scalars(select(AuditEntry).order_by(AuditEntry.seq.desc())).first()
    assert entry is not None
    assert (entry.actor, entry.details["build"], entry.details["runner"]) == ("builds", running.build_id, "runner-1")
    # What a person publishes is nobody's build.
    assert running.put(token=running.world.tokens["admin"]).status_code == 201
    assert len(running.made()) == 1


@pytest.mark.parametrize("repository", ["dev", "prod", "open"])
def test_H9_and_nowhere_else(running: Running, repository: str) -> None:
    assert running.put(repository).status_code == 403


def stop(running: Running) -> None:
    with running.world.db.write() as session:
        request_stop_build(session, running.build_id, now=START, on_finished=lambda *_: None)


def end(running: Running) -> None:
    """The row has ended; its token could not be revoked."""
    with running.world.db.write() as session:
        session.execute(update(Build).where(Build.id == running.build_id).values(status="FAILED"))


def begin_anew(running: Running) -> None:
    with running.world.db.write() as session:
        session.get_one(Build, running.build_id).attempt = 2


def lose(running: Running) -> None:
    """The queue took the job back from a worker that does not know of it."""
    with running.world.db.write() as session:
        job_id = session.get_one(Build, running.build_id).job_id
        session.get_one(Job, job_id).state = "queued"


@pytest.mark.parametrize("happens", [stop, end, begin_anew, lose])
def test_H9_a_build_that_does_not_run_any_more_publishes_nothing(
    running: Running, happens: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert running.put().status_code == 201
    happens(running)
    refused = running.put()
    assert refused.status_code == 403
    assert "any more" in refused.text
    assert len(running.made()) == 1
    # The token alone would go on.
    monkeypatch.setattr(running.world.services.publisher, "_witness", lambda *_: None)
    assert running.put().status_code == 201


def test_H9_what_a_build_makes_with_its_token_is_its_own(running: Running) -> None:
    made = running.world.call(
        "POST", "/tokens", token=running.token,
        json={"name": "child", "actions": ["publish"], "ttlSeconds": 3600, "repositories": ["default/staging"]},
    )  # fmt: skip
    assert made.status_code == 201, made.text
    assert running.put(token=made.json["secret"]).status_code == 201
    assert len(running.made()) == 1
    end(running)
    assert running.put(token=made.json["secret"]).status_code == 403


def test_H9_a_pull_request_publishes_nothing(running: Running) -> None:
    with running.world.db.read() as session:
        build = session.get_one(Build, running.build_id)
    assert publishing.why_not(build, STAGING, ("main",)) == ""
    build.webhook = {"CODEBUILD_WEBHOOK_TRIGGER": "pr/7"}
    assert "pull request" in publishing.why_not(build, STAGING, ("main",))


def test_H9_what_a_pipelines_build_publishes_counts_as_the_executions(running: Running) -> None:
    """So that a pipeline which its own build starts again ends at a depth, and nobody approves what they started."""
    with running.world.db.write() as session:
        moments = {"created_at": START, "updated_at": START}
        pipeline = Pipeline(name="loop", current_version=1, **moments)
        session.add(pipeline)
        session.flush()
        definition = PipelineDefinitionVersion(
            pipeline_id=pipeline.id, version=1, document="", model={}, created_at=START, created_by="ann"
        )
        session.add(definition)
        session.flush()
        execution = Execution(
            pipeline_id=pipeline.id, definition_id=definition.id, status="InProgress", trigger_kind="event",
            trigger_identity="x", triggered_by="ann", domain="default", repository="dev", format="generic",
            name="thing", version="1.0", digest="0" * 64, assets={}, publishers=["zoe"], variables={}, depth=3,
            started_at=START,
        )  # fmt: skip
        session.add(execution)
        session.flush()
        session.get_one(Build, running.build_id).subject = f"execution:{execution.id}"
    assert running.put().status_code == 201
    at = Coordinates("default", "staging", "generic", "", "made", f"1.{running.count}")
    with running.world.db.read() as session:
        found = collect(session, at)
    assert found.depth == 4
    assert {"ann", "zoe"} <= found.publishers


# --- the broker ------------------------------------------------------------------------------------------------------

GRANT = Publishing(("/a/default/staging/", "/b/default/staging/"), "Bearer secret")


def head(line: str, *fields: str) -> bytes:
    return "\r\n".join([line, "Host: 127.0.0.1", *fields]).encode()


def test_H9_the_broker_adds_the_credential_and_nobody_elses() -> None:
    sent = ("Authorization: Basic b3du", "authorization: x", "Cookie: session=1", "X-Forwarded-For: 10.0.0.1",
            "Connection: keep-alive", "Content-Length: 4")  # fmt: skip
    given = rewritten(head("PUT /a/default/staging/x HTTP/1.1", *sent), GRANT).decode()
    assert given == (
        "PUT /a/default/staging/x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4\r\n"
        "Authorization: Bearer secret\r\nConnection: close\r\n\r\n"
    )


@pytest.mark.parametrize(
    "request_head",
    [
        head("PUT /a/default/prod/x HTTP/1.1"),
        head("PUT /a/default/staging HTTP/1.1"),
        head("PUT /api/v1/tokens HTTP/1.1"),
        head("PUT /a/default/staging/../prod/x HTTP/1.1"),
        head("PUT /a/default/staging/%2e%2e/prod/x HTTP/1.1"),
        head("PUT /a/default/staging/..%2fprod/x HTTP/1.1"),
        head("PUT /a/default/staging/..\\prod HTTP/1.1"),
        head("PUT http://elsewhere/a/default/staging/x HTTP/1.1"),
        head("CONNECT 127.0.0.1:1 HTTP/1.1"),
        head("DELETE /a/default/staging/x HTTP/1.1"),
        head("PUT /a/default/staging/x HTTP/2"),
        head("PUT /a/default/staging/x HTTP/1.1", " folded"),
        head("PUT /a/default/staging/x HTTP/1.1", "Authorization : Bearer own"),
        head("PUT /a/default/staging/x HTTP/1.1", "X: a\rAuthorization: Bearer own"),
    ],
)
def test_H9_the_broker_lets_nothing_else_through(request_head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Invalid):
        rewritten(request_head, GRANT)
    monkeypatch.setattr(broker, "_REQUEST", broker.re.compile(rb"([A-Z]+) (\S+) HTTP/[0-9.]+\Z"))
    monkeypatch.setattr(broker, "_FIELD", broker.re.compile(rb""))
    everything = Publishing(("",), "Bearer secret")
    monkeypatch.setattr(broker, "unquote", lambda _: "")
    assert b"Bearer secret" in rewritten(request_head, everything)


def test_H9_a_token_never_shows(running: Running) -> None:
    assert "secret" not in repr(GRANT)
    with running.world.db.read() as session:
        kinds = session.scalars(select(Token.kind).where(Token.name.like(f"%{running.build_id}%"))).all()
    assert kinds == ["build"]
