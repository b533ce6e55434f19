"""A whole server in this process whose builds run in real sandboxes, for tests of what builds leave behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from config import wiring
from hooks.builds.local_caches import LocalCaches
from hooks.builds.projects import Settings as ProjectSettings
from hooks.builds.projects import create_or_update_project
from hooks.builds.records import QUEUE, get_build, start_build
from hooks.builds.source import PackageSource
from hooks.jobs import claims
from hooks.jobs.attempt import Attempt
from hooks.models import Build
from tests.build_bench import work_directory
from tests.functional.api_world import World

PACKAGE = {"domain": "default", "repository": "dev", "format": "any", "name": "thing", "version": "1.0"}


class OutputWorld(World):
    """``build`` runs a build to its end, in this thread; ``local`` are the caches of its machine."""

    local: LocalCaches | None = None

    def build(
        self,
        spec: str,
        *,
        project: str = "p",
        source: Mapping[str, Any] | None = None,
        document: Mapping[str, Any] | None = None,
    ) -> Build:
        with self.db.write() as session:
            create_or_update_project(
                session,
                name=project,
                now=self.now,
                buildspec=spec,
                environment={"network": "none"},
                settings=ProjectSettings(document=document or {}),
            )
            build = start_build(
                session,
                project=project,
                source=PackageSource(**PACKAGE, assets=()),
                initiator="joe",
                now=self.now,
            )
            if source is not None:
                build.source = {**build.source, **source}
        self.work_off()
        with self.db.read() as session:
            return get_build(session, build.id)

    def work_off(self) -> None:
        """Run the one build that waits, to its end."""
        table = wiring.build_jobs(self.settings, self.services, self.hooks.actions, local=self.local)
        with self.db.write() as session:
            (job,) = claims.claim(
                session, owner="w", queues=[QUEUE], kinds=list(table.handlers), free=1, lease_seconds=600
            )
        Attempt(
            self.db,
            job,
            handler=table.handlers[job.kind],
            settle=table.settle.get(job.kind),
            lease_seconds=600,
            first_retry_seconds=600,
        ).run()

    def log_of(self, build: Build) -> str:
        with self.db.read() as session:
            return self.hooks.logs.read(session, build.id, 0, 10**8)[0].decode()


@contextmanager
def output_world(folder: Path, **environment: str) -> Iterator[OutputWorld]:
    with work_directory() as place:
        world = OutputWorld(folder, {"ENTREPOT_BUILDS_WORKSPACE_PATH": str(place), **environment})
        try:
            yield world
        finally:
            world.close()
