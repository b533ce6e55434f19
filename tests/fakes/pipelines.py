"""A world for pipelines: real tables, queue, promotion and build records. Only the commands of builds never run;
a test ends a build when it likes, as the handler of builds would.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from hooks.builds import stopping
from hooks.builds.phases import BuildStatus
from hooks.builds.projects import create_or_update_project
from hooks.builds.records import finish_build, get_build
from hooks.jobs import claims
from hooks.jobs.attempt import Attempt
from hooks.models.build import Build
from hooks.models.job import Job
from hooks.pipelines import handlers as pipeline_handlers
from hooks.pipelines.actions import promote as promote_action
from hooks.pipelines.applying import apply_document
from hooks.pipelines.engine import on_build_finished
from hooks.pipelines.parts import Parts
from hooks.pipelines.store import ExecutionView, get_execution, list_executions
from hooks.pipelines.wiring import real_parts
from hooks.triggers import start
from hooks.triggers.collect import Coordinates
from hooks.triggers.dispatch import dispatch
from registry import events
from registry.db import Base, Database
from registry.errors import NotFound
from registry.models import AuditEntry, Repository
from registry.names import DomainName, RepositoryName
from registry.repos import shelf
from registry.repos.topology import create_domain, create_repository, find_repository
from storage.blobs import BlobHandle, Digest, Locator
from tests import postgres


def _on_build_finished(parts: Parts, session: Session, build_id: str) -> None:
    on_build_finished(session, parts, build_id)


class Killed(BaseException):
    """The process died here."""


class World:
    """One database with a domain, its repositories, and everything a pipeline needs."""

    def __init__(self, url: str) -> None:
        self.db = Database(url)
        Base.metadata.create_all(self.db.engine)
        self._fuses = threading.local()
        sa.event.listen(self.db.engine, "before_cursor_execute", self._burn)
        sa.event.listen(self.db.engine, "commit", self._burn)
        self._fill()

    def _fill(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.use(real_parts(lambda: self.now))
        with self.db.write() as session:
            domain = create_domain(session, DomainName("default"), self.now)
            for name in ("dev", "staging", "prod"):
                create_repository(session, domain.id, RepositoryName(name), now=self.now)
            create_or_update_project(session, name="tests", now=self.now)

    def reset(self) -> None:
        """Empty everything (PostgreSQL: much quicker than a new database)."""
        tables = ", ".join(f'"{name}"' for name in Base.metadata.tables)
        with self.db.write() as session:
            # Without triggers, for this transaction: those of the audit log refuse to let it go.
            session.execute(sa.text("SET LOCAL session_replication_role = replica"))
            session.execute(sa.text(f"TRUNCATE {tables} RESTART IDENTITY CASCADE"))
        self._fill()

    def use(self, parts: Parts) -> None:
        """Let the engine work with these parts from now on."""
        self.parts = parts
        on_finished = functools.partial(_on_build_finished, parts)
        self._handlers = {
            **pipeline_handlers.handlers(parts),
            **start.handlers(parts),
            **stopping.handlers(parts.clock, on_finished),
        }

    def close(self) -> None:
        self.db.close()

    # --- builds

    def end_build(
        self,
        build_id: str,
        status: BuildStatus = BuildStatus.SUCCEEDED,
        *,
        variables: Mapping[str, str] | None = None,
    ) -> Callable[[Session], None]:
        """The unit that ends a build, as its handler does it: the row and the engine in one transaction."""

        def unit(session: Session) -> None:
            finish_build(
                session,
                build_id,
                status,
                now=self.now,
                on_finished=lambda session, build_id: on_build_finished(session, self.parts, build_id),
                exported_variables=variables or {},
            )

        return unit

    def build(self, build_id: str) -> Build:
        with self.db.read() as session:
            return get_build(session, build_id)

    # --- crashes

    def _burn(self, *_: Any) -> None:
        left = getattr(self._fuses, "left", None)
        if left is not None:
            self._fuses.left = left - 1
            if left <= 0:
                self._fuses.left = None
                raise Killed

    def dies(self, statements: int | None, unit: Callable[[], None]) -> bool:
        """Run ``unit``; die before the statement (or commit) after the first ``statements`` of this thread.

        Returns whether it died; with fewer statements, or None, ``unit`` comes to its end.
        """
        self._fuses.left = statements
        try:
            unit()
        except Killed:
            return True
        finally:
            self._fuses.left = None
        return False

    def reap(self) -> None:
        """Take all jobs from workers that died with them."""
        with self.db.write() as session:
            session.execute(sa.update(Job).where(Job.state == "running").values(lease_until=0))
            for hold in claims.expired(session, [*self._handlers]):
                claims.reclaim(session, hold)

    # --- the registry

    def publish(
        self,
        name: str,
        version: str,
        filename: str,
        body: bytes = b"x",
        *,
        repository: str = "dev",
        by: str = "alice",
        domain: str = "default",
    ) -> None:
        """Publish a file: its rows and its event, as the registry writes them."""
        with self.db.write() as session:
            owner, place = find_repository(session, domain, repository)
            sha256 = hashlib.sha256(body).hexdigest()
            known = shelf.find_package(session, place.id, "fmt", "", name)
            package = shelf.open_package(
                session, known, place.id, "fmt", "", name, display_name=name, origin=shelf.PUBLISHED, now=self.now
            )
            row = shelf.ensure_version(
                session, package, version, display_version=version, summary="", metadata_={}, origin="published",
                promoted_from=None, yanked_reason=None, published_at=self.now, published_by=by,
            )  # fmt: skip
            handle = BlobHandle(Locator(sha256[:32]), Digest(sha256), len(body))
            blob, _ = shelf.ensure_blob(session, owner.id, handle, self.now)
            shelf.add_asset(
                session, row, filename, blob, hashes={}, extra={}, metadata_blob=None, published_at=self.now,
                published_by=by,
            )  # fmt: skip
            event = events.AssetPublished(domain, repository, "fmt", "", name, version, filename, sha256, by)
            events.record(session, event, self.now)

    def files(self, repository: str, name: str, version: str) -> dict[str, str]:
        """File name → SHA-256 of a version; empty when it is not there."""
        from hooks.triggers.collect import collect

        with self.db.read() as session:
            try:
                return dict(collect(session, self.at(name, version, repository)).version.assets)
            except NotFound:
                return {}

    def at(self, name: str, version: str, repository: str = "dev") -> Coordinates:
        return Coordinates("default", repository, "fmt", "", name, version)

    def add_repository(self, name: str) -> None:
        with self.db.write() as session:
            domain = session.scalar(sa.select(Repository.domain_id).limit(1))
            create_repository(session, domain, RepositoryName(name), now=self.now)

    # --- pipelines

    def apply(self, text: str, actor: str = "admin") -> Any:
        with self.db.write() as session:
            return apply_document(session, self.parts, text, actor=actor, now=self.now)

    def dispatch(self) -> int:
        return dispatch(self.db, self.now)

    def settled(self) -> None:
        """Let the waiting time of all start jobs be over."""
        with self.db.write() as session:
            session.execute(sa.update(Job).where(Job.kind == start.JOB_KIND, Job.state == "queued").values(run_after=0))

    def work(self, *kinds: str) -> int:
        """Run all due jobs, as a worker does; returns how many."""
        handlers = {kind: handler for kind, handler in self._handlers.items() if not kinds or kind in kinds}
        done = 0
        while True:
            with self.db.write() as session:
                claimed = claims.claim(
                    session, owner="w", queues=["default"], kinds=list(handlers), free=10, lease_seconds=600
                )
            if not claimed:
                return done
            for job in claimed:
                settle = None
                if job.kind == promote_action.JOB_KIND:
                    settle = lambda session, ended: pipeline_handlers.settle(session, self.parts, ended)  # noqa: E731
                Attempt(
                    self.db, job, handler=handlers[job.kind], settle=settle, lease_seconds=600, first_retry_seconds=600
                ).run()
                done += 1

    def publish_and_start(self, name: str = "acme", version: str = "1.0", *, by: str = "alice") -> int:
        """Publish one file and run the one pipeline that takes it; returns the execution's id."""
        self.publish(name, version, f"{name}-{version}.bin", by=by)
        self.dispatch()
        self.settled()
        self.work(start.JOB_KIND)
        return self.executions()[0].id

    def executions(self, pipeline: str | None = None) -> list[Any]:
        with self.db.read() as session:
            return list_executions(session, pipeline=pipeline)

    def execution(self, execution_id: int) -> ExecutionView:
        with self.db.read() as session:
            return get_execution(session, execution_id)

    def statuses(self, execution_id: int) -> tuple[str, dict[str, str | None], dict[str, str | None]]:
        """Execution's status, stage → status, ``stage/action`` → status."""
        view = self.execution(execution_id)
        actions = {f"{stage.name}/{action.name}": action.status for stage in view.stages for action in stage.actions}
        return view.summary.status, {stage.name: stage.status for stage in view.stages}, actions

    def action(self, execution_id: int, path: str) -> Any:
        stage, name = path.split("/")
        view = self.execution(execution_id)
        return next(a for s in view.stages if s.name == stage for a in s.actions if a.name == name)

    def audited(self, action: str) -> list[AuditEntry]:
        with self.db.read() as session:
            return list(session.scalars(sa.select(AuditEntry).where(AuditEntry.action == action)))

    def later(self, **delta: float) -> None:
        self.now += timedelta(**delta)


@contextmanager
def new_world(kind: str, folder: Path) -> Iterator[World]:
    """A world on a fresh ``sqlite`` or ``postgresql`` database."""
    if kind == "sqlite":
        made = World(f"sqlite:///{folder / 'test.db'}")
        yield made
        made.close()
        return
    made = _postgres_world()
    made.reset()
    yield made


@functools.cache
def _postgres_world() -> World:
    fresh = postgres.shared().fresh_database()
    atexit.register(fresh.__exit__, None, None, None)
    made = World(fresh.__enter__())
    atexit.register(made.close)
    return made


def source(repository: str = "dev", name: str = "*", *, namespace: str = "src") -> str:
    """The first stage of a pipeline document, without waiting time."""
    return f"""
  - name: Source
    actions:
    - name: Package
      actionTypeId: {{category: Source, owner: Entrepot, provider: Package}}
      namespace: {namespace}
      configuration:
        Repository: "{repository}"
        Format: fmt
        Name: "{name}"
        SettleSeconds: "0"
"""


def pipeline(stages: str, *, name: str = "release", first: str | None = None) -> str:
    """A pipeline document of a source stage and ``stages`` (YAML list items, indented by two)."""
    return f"name: {name}\nstages:{first if first is not None else source()}{stages}"


def stage(name: str, *actions: str) -> str:
    return f"  - name: {name}\n    actions:\n" + "".join(actions)


def approval(name: str, *, run_order: int = 1, configuration: str = "{}", extra: str = "") -> str:
    return (
        f"    - name: {name}\n      runOrder: {run_order}\n      configuration: {configuration}\n"
        f"      actionTypeId: {{category: Approval, provider: Manual}}\n{extra}"
    )


def build(name: str, *, run_order: int = 1, project: str = "tests", extra: str = "", more: str = "") -> str:
    return (
        f"    - name: {name}\n      runOrder: {run_order}\n"
        f"      configuration: {{ProjectName: '{project}'{more}}}\n"
        f"      actionTypeId: {{category: Build, owner: AWS, provider: CodeBuild, version: '1'}}\n{extra}"
    )


def promotion(name: str, target: str, *, run_order: int = 1, more: str = "") -> str:
    return (
        f"    - name: {name}\n      runOrder: {run_order}\n"
        f"      configuration: {{TargetRepository: '{target}'{more}}}\n"
        f"      actionTypeId: {{category: Deploy, owner: Entrepot, provider: Promote}}\n"
    )
