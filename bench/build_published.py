"""From a publish to the end of the build that it starts: through event, trigger, pipeline, queue and sandbox."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from tests.build_crowd import Builder, building_server
from tests.harness.publishing import publish

PATIENCE_SECONDS = 60.0
_PIPELINE = """
pipeline:
  name: bench
  stages:
    - name: Source
      actions:
        - name: Package
          actionTypeId: {category: Source, owner: Entrepot, provider: Package, version: "1"}
          configuration: {Repository: dev, Format: pypi, Name: "bench-*", SettleSeconds: "0"}
    - name: Build
      actions:
        - name: Check
          actionTypeId: {category: Build, owner: AWS, provider: CodeBuild, version: "1"}
          configuration: {ProjectName: bench}
"""


@contextmanager
def published(folder: Path, spec: str) -> Iterator[Callable[[], float]]:
    """A server with a pipeline that builds what is published; each call publishes once and gives the seconds."""
    with building_server(folder, slots=2) as server:
        token = server.token("admin")
        builder = Builder(server, token)
        builder.put_project("bench", spec)
        builder.call("PUT", "/pipelines", json={"document": _PIPELINE})
        names = (f"bench-{number}" for number in range(10**6))

        def once() -> float:
            started = time.time()
            name = next(names)
            answer = publish(server, token, name)
            answer.raise_for_status()
            return _end_of(builder, started) - started

        yield once


def _end_of(builder: Builder, since: float) -> float:
    """When the build that began after ``since`` ended, by the server's own clock, which is this machine's."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        newest = builder.call("GET", "/builds", params={"project": "bench", "limit": 1}).json()["items"]
        if newest and newest[0]["endedAt"] and _seconds(newest[0]["submittedAt"]) > since:
            if newest[0]["status"] != "SUCCEEDED":
                raise RuntimeError(f"the build ended {newest[0]['status']}")
            return _seconds(newest[0]["endedAt"])
        time.sleep(0.1)
    raise RuntimeError("no build came of the publish")


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
