"""Queue times, durations and success rates, on the pages and at /metrics."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.event import listen, remove
from sqlalchemy.orm import Session

from hooks.builds import tally
from hooks.builds.metrics import figures, quantile, totals
from hooks.builds.projects import Settings, create_or_update_project
from hooks.builds.source import PackageSource
from hooks.models import Build, BuildProject
from registry.db import Base, Database
from tests.functional.api_world import START, World
from tests.job_bench import BACKENDS, fresh_url

SOURCE = PackageSource("default", "dev", "any", "thing", "1.0", ()).as_json()
# (seconds in the queue, seconds of running, status): None never came.
BUILDS = [(2, 10, "SUCCEEDED"), (4, 30, "SUCCEEDED"), (9, 20, "FAILED"), (5, 1, "STOPPED"), (None, None, "TIMED_OUT"),
          (3, None, "IN_PROGRESS"), (None, None, "IN_PROGRESS")]  # fmt: skip


def fill(session: Any, project: BuildProject) -> None:
    for number, (queue, took, status) in enumerate(BUILDS, 1):
        started = START + timedelta(seconds=queue) if queue is not None else None
        ended = started + timedelta(seconds=took) if started and took is not None else None
        if status == "TIMED_OUT":
            ended = START + timedelta(hours=8)
        session.add(
            build := Build(
                id=f"{project.name}-{number}", project_id=project.id, number=number, status=status, phase="QUEUED",
                phases=[], source=SOURCE, environment={}, timeout_minutes=60, variables={}, exported_variables={},
                initiator="ann", submitted_at=START, started_at=started, ended_at=ended,
            )
        )  # fmt: skip
        if ended is not None:
            session.flush()
            tally.count(session, build)


def project(session: Any, name: str, repository: str) -> BuildProject:
    return create_or_update_project(session, name=name, now=START, settings=Settings(("default", repository)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_figures_are_those_of_the_rows_on_each_database(backend: str, tmp_path: Any) -> None:
    with fresh_url(backend, tmp_path) as url:
        database = Database(url)
        Base.metadata.create_all(database.engine)
        with database.write() as session:
            made = BuildProject(
                name="p", environment={}, timeout_minutes=60, document={}, created_at=START, updated_at=START
            )
            session.add(made)
            session.flush()
            fill(session, made)
            project_id = made.id
        with database.read() as session:
            plans = plans_of(session, lambda: totals(session, [project_id]))
            shown = figures(session, project_id, START + timedelta(days=1))
            total = totals(session, [project_id])[project_id]
            gone = figures(session, project_id, START + timedelta(days=40))
        database.close()
    assert (shown.count, shown.succeeded, shown.rate) == (5, 2, 0.5)  # a stopped one counts neither way
    assert (shown.queue_median, shown.queue_p95) == (4.0, 9.0)
    assert (shown.duration_median, shown.duration_p95) == (10.0, 30.0)
    assert [number for number, *_ in shown.durations] == [1, 2, 3, 4]
    assert total.ended == {"SUCCEEDED": 2, "FAILED": 1, "STOPPED": 1, "TIMED_OUT": 1}
    assert (total.running, total.waiting, total.begun, total.finished) == (1, 1, 5, 4)
    assert total.queue_seconds == pytest.approx(23, abs=0.01)
    assert total.duration_seconds == pytest.approx(61, abs=0.01)
    assert total.rate == 0.5
    assert (gone.count, gone.rate, gone.durations) == (0, None, ())
    # The builds there ever were are not looked at: of their table only the index of those that have not ended.
    (of_builds,) = [plan for plan in plans if "build_tally" not in plan]
    assert "ix_build_open" in of_builds
    assert "SCAN build" not in of_builds
    assert "Seq Scan" not in of_builds


def plans_of(session: Session, act: Callable[[], object]) -> list[str]:
    """How the database goes about each statement that ``act`` sends; small tables are no reason to read them whole."""
    sent: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        sent.append((statement, parameters))

    connection = session.connection()
    listen(connection, "before_cursor_execute", note)
    act()
    remove(connection, "before_cursor_execute", note)
    explain = "EXPLAIN QUERY PLAN"
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        explain = "EXPLAIN"
    found = [connection.exec_driver_sql(f"{explain} {statement}", parameters) for statement, parameters in sent]
    return ["\n".join(str(row) for row in plan) for plan in found]


def test_a_quantile_is_a_value_that_was_there() -> None:
    assert quantile([], 0.5) is None
    assert [quantile([1.0, 2.0, 3.0, 4.0], share) for share in (0.5, 0.75, 0.95, 1.0)] == [2.0, 3.0, 4.0, 4.0]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("world"))
    with made.db.write() as session:
        fill(session, project(session, "open-one", "dev"))
        fill(session, project(session, "closed-one", "prod"))
        project(session, "idle", "dev")
    yield made
    made.close()


def scrape(world: World, who: str | None) -> Any:
    headers = {"Authorization": f"Bearer {world.tokens[who]}"} if who else {}
    return world.http.get("/metrics", headers=headers)


def test_metrics_are_told_to_those_who_are_known_and_of_what_they_may_see(world: World) -> None:
    assert scrape(world, None).status_code == 401
    answer = scrape(world, "reader")
    assert answer.status_code == 200
    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert 'entrepot_builds_total{project="open-one",status="SUCCEEDED"} 2' in answer.text
    assert 'entrepot_build_queue_seconds_count{project="open-one"} 5' in answer.text
    assert 'entrepot_builds_running{project="open-one"} 1' in answer.text
    assert "entrepot_build_projects 2" in answer.text
    assert 'entrepot_builds_total{project="idle",status="FAILED"} 0' in answer.text
    # No name and no sum of what is closed; it is there for others.
    assert "closed-one" not in answer.text
    assert 'project="closed-one"' in scrape(world, "admin").text


def test_metrics_are_in_the_format_of_prometheus(world: World) -> None:
    sample = re.compile(r"[a-z_]+(?:\{[a-z]+=\"[^\"\n]*\"(?:,[a-z]+=\"[^\"\n]*\")*\})? \d+(?:\.\d+)?\Z")
    lines = scrape(world, "admin").text.splitlines()
    declared = {line.split()[2] for line in lines if line.startswith("# TYPE ")}
    for line in lines:
        if line.startswith(("# HELP ", "# TYPE ")):
            continue
        assert sample.match(line), line
        name = line.partition("{")[0].partition(" ")[0]
        assert {name, name.removesuffix("_sum"), name.removesuffix("_count")} & declared, line
