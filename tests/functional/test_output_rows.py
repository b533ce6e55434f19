"""The rows of caches and the retention of outputs, on each database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.builds import cache_rows
from hooks.builds.cache_scope import PROTECTED, Level, Scope
from hooks.builds.executor import Refused
from hooks.builds.keeping import CacheKey
from hooks.builds.output_care import Retention, expire
from hooks.builds.projects import create_or_update_project
from hooks.builds.records import start_build
from hooks.builds.source import PackageSource
from hooks.models import Build, BuildArtifact, BuildCache, Execution
from hooks.models.pipeline import Pipeline, PipelineDefinitionVersion
from hooks.pipelines.rolling_back import new_rollback
from registry.db import Base, Database
from registry.models import Blob, Domain
from registry.names import DomainName
from registry.repos import topology
from tests.build_bench import NOW
from tests.job_bench import BACKENDS, fresh_url

BRANCH = Scope(Level.BRANCH, "branch/x")


@pytest.fixture(params=BACKENDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with fresh_url(request.param, tmp_path) as url:
        database = Database(url)
        Base.metadata.create_all(database.engine)
        with database.write() as session:
            topology.create_domain(session, DomainName("default"), NOW)
        yield database
        database.close()


def blob(session: Session, number: int) -> Blob:
    digest = f"{number:064}"
    known = session.scalar(select(Blob).where(Blob.sha256 == digest))
    domain = session.scalars(select(Domain.id)).one()
    row = known or Blob(
        domain_id=domain, sha256=digest, size_bytes=100, locator=digest, envelope=b"", created_at=NOW, touched_at=NOW
    )
    session.add(row)
    session.flush()
    return row


def test_keys_fallbacks_scopes_and_room(database: Database) -> None:
    def put(key: str, scope: Scope = PROTECTED, minutes: int = 0, limit: int = 1000) -> None:
        with database.write() as session:
            body = blob(session, int.from_bytes(key.encode(), "big") % 1000)
            written = cache_rows.Written("b", body.domain_id, "project/1", scope, CacheKey("v", key), 1, 100)
            cache_rows.put(session, written, body, limit, NOW + timedelta(minutes=minutes))

    def found(key: str, *fallbacks: str, scope: Scope = PROTECTED) -> str | None:
        with database.read() as session:
            domain = session.scalars(select(Domain.id)).one()
            row = cache_rows.find(session, domain, "project/1", scope.readable, CacheKey("v", key, fallbacks))
            return row and f"{row.scope} {row.key}"

    put("a-1")
    put("a-2", minutes=2)
    put("a-3", BRANCH, minutes=3)
    assert found("a-1") == "protected a-1"
    assert found("a-9", "b-", "a-") == "protected a-2"
    assert found("a-9", "A-") is None  # keys differ by case
    assert found("a-9", "a-", scope=BRANCH) == "branch/x a-3"
    assert found("a_1") is None
    put("a-4", BRANCH, minutes=4, limit=300)  # the branch's own oldest goes, though protected ones are older
    assert found("a-3", scope=BRANCH) is None
    with pytest.raises(Refused, match="more trusted"):
        put("a-5", BRANCH, limit=200)
    put("a-6", limit=200)
    assert (found("a-4", scope=BRANCH), found("a-1"), found("a-2")) == (None, None, "protected a-2")


def going_back_to(session: Session, build: Build) -> int:
    """A running rollback to an execution that has ended, whose build it was."""
    pipeline = Pipeline(name="p", current_version=1, created_at=NOW, updated_at=NOW)
    session.add(pipeline)
    session.flush()
    definition = PipelineDefinitionVersion(
        pipeline_id=pipeline.id, version=1, document="", model={}, created_at=NOW, created_by="joe"
    )
    session.add(definition)
    session.flush()
    target = Execution(
        pipeline_id=pipeline.id, definition_id=definition.id, status="Succeeded", trigger_kind="manual",
        trigger_identity="m", triggered_by="joe", revision_type="PACKAGE", domain="default", repository="dev",
        format="any", namespace="", name="thing", version="1.0", digest="", assets={}, publishers=[], variables={},
        depth=0, mode="QUEUED", started_at=NOW,
    )  # fmt: skip
    session.add(target)
    session.flush()
    build.subject = f"execution:{target.id}"
    rollback = new_rollback(target, "Ship", kind="rollback", identity="r", actor="joe", now=NOW)
    session.add(rollback)
    session.flush()
    return rollback.id


def test_retention_by_days_and_by_count(database: Database) -> None:
    with database.write() as session:
        create_or_update_project(session, name="p", now=NOW, buildspec="version: 0.2\nphases: {}\n")
        for number in range(3):
            source = PackageSource("default", "dev", "any", "thing", "1.0", ())
            build = start_build(session, project="p", source=source, initiator="joe", now=NOW)
            build.status = "IN_PROGRESS" if number == 0 else "SUCCEEDED"
            body = blob(session, number)
            session.add(
                BuildArtifact(
                    build_id=build.id, identifier="primary", name="a", packaging="ZIP", files=1, size_bytes=100,
                    sha256=body.sha256, md5="", blob_id=body.id, created_at=NOW + timedelta(days=number),
                )
            )  # fmt: skip
    later = NOW + timedelta(days=2)
    assert expire(database, Retention(artifact_days=0, artifact_count=3), later) == (0, 0)
    assert expire(database, Retention(artifact_days=0, artifact_count=1), later) == (1, 0)  # the first still runs
    with database.write() as session:
        made = session.scalars(select(Build).where(Build.status == "SUCCEEDED").order_by(Build.number.desc())).first()
        assert made is not None
        rollback = going_back_to(session, made)
    # What a running rollback may hand on stays, though the execution that made it has ended.
    assert expire(database, Retention(artifact_days=90), later + timedelta(days=91)) == (0, 0)
    with database.write() as session:
        session.get_one(Execution, rollback).status = "Stopped"
    assert expire(database, Retention(artifact_days=90), later + timedelta(days=91)) == (1, 0)
    with database.read() as session:
        assert len(session.scalars(select(BuildArtifact)).all()) == 1
        assert session.scalars(select(BuildCache)).all() == []
