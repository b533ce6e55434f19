"""Builds of one batch that end at the same moment, on both databases."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from hooks import care
from hooks.builds.batch_engine import groups_of
from hooks.builds.batch_parts import part_of, write_found
from hooks.builds.batches import get_batch, start_batch, stop_batch
from hooks.builds.phases import BuildStatus
from hooks.builds.projects import create_or_update_project
from hooks.builds.records import finish_build, get_build
from hooks.builds.source import PackageSource, SourceAsset
from hooks.builds.spec import parse_buildspec
from hooks.builds.starting import Asked
from hooks.models import Build
from registry.db import Base, Database
from tests.build_bench import NOW
from tests.job_bench import BACKENDS, fresh_url

WIDE = 6
FIRST = ", ".join(f"a{number}" for number in range(WIDE))
TASKS = [f"  - {{identifier: a{number}}}\n" for number in range(WIDE)]
SPEC = (
    f"version: 0.2\nphases: {{}}\nbatch:\n  build-graph:\n{''.join(TASKS)}  - {{identifier: z, depend-on: [{FIRST}]}}\n"
)


@pytest.fixture(params=BACKENDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with fresh_url(request.param, tmp_path) as url:
        database = Database(url)
        Base.metadata.create_all(database.engine)
        yield database
        database.close()


def nobody(_session: object, _build_id: str) -> None:
    """No pipeline waits for it."""


def begin(database: Database) -> tuple[str, dict[str, str]]:
    """A batch whose document has been read; the builds that run, by identifier."""
    source = PackageSource("default", "dev", "any", "thing", "1.0", (SourceAsset("thing-1.0.tar.gz", "0" * 64),))
    with database.write() as session:
        create_or_update_project(session, name="p", now=NOW)
        asked = Asked()
        batch = start_batch(session, "p", source, asked, config={}, initiator="joe", now=NOW, on_finished=nobody)
        first = get_build(session, groups_of(session, batch.id)[0].build_id or "")
        part = part_of(session, first, ("process",))
        assert part.reading is not None
        assert part.reading.take(parse_buildspec(SPEC)) == []
        write_found(session, first, part, BuildStatus.SUCCEEDED)
        finish_build(session, first.id, BuildStatus.SUCCEEDED, now=NOW, on_finished=nobody)
        groups = groups_of(session, batch.id)
        return batch.id, {group.identifier: group.build_id for group in groups[1:] if group.build_id is not None}


def end_together(database: Database, ids: list[str]) -> None:
    """End builds in as many threads, all let loose at once."""
    start = threading.Barrier(len(ids))
    broken: list[Exception] = []

    def end(build_id: str) -> None:
        start.wait(30)
        try:
            database.retry(
                lambda session: finish_build(session, build_id, BuildStatus.SUCCEEDED, now=NOW, on_finished=nobody)
            )
        except Exception as error:
            broken.append(error)

    threads = [threading.Thread(target=end, args=(build_id,)) for build_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert broken == []


def test_what_waits_for_several_starts_once_when_they_end_at_once(database: Database) -> None:
    batch_id, running = begin(database)
    assert len(running) == WIDE
    end_together(database, list(running.values()))
    with database.read() as session:
        assert session.scalar(select(func.count()).where(Build.batch_group == "z")) == 1
        assert get_batch(session, batch_id).status == "IN_PROGRESS"
        last = groups_of(session, batch_id)[-1].build_id or ""
    end_together(database, [last])
    with database.read() as session:
        assert get_batch(session, batch_id).status == "SUCCEEDED"
    assert care.check(database) == []


def test_a_stop_among_ends_leaves_one_end(database: Database) -> None:
    batch_id, running = begin(database)
    stopping = threading.Thread(
        target=lambda: database.retry(lambda session: stop_batch(session, batch_id, now=NOW, on_finished=nobody))
    )
    stopping.start()
    end_together(database, list(running.values()))
    stopping.join(60)
    with database.read() as session:
        batch = get_batch(session, batch_id)
        groups = groups_of(session, batch_id)
    # Either the stop came before the last end, or the last build had been started by then and is told to stop.
    assert batch.ending == "STOPPED"
    assert groups[-1].status == ("SKIPPED" if batch.status == "STOPPED" else "IN_PROGRESS")
    assert groups[-1].is_stopping is (batch.status == "IN_PROGRESS")
    assert care.check(database) == []
