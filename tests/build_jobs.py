"""Builds through the queue, for tests: the handler with real parts below it, and a table of what was told."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import insert
from sqlalchemy.orm import Session

from hooks.builds.executor import Executor, ExecutorError, Refused
from hooks.builds.executors.process import ProcessExecutor, ProcessSettings
from hooks.builds.grants import IssuedToken
from hooks.builds.handler import BuildHandler, BuildServices
from hooks.builds.records import JOB_KIND, QUEUE
from hooks.builds.source import PackageSource
from hooks.jobs.worker import Worker
from hooks.models.build import Build
from registry.clock import system_clock
from registry.db import Database
from tests.build_bench import KeySealer, tar_of
from tests.job_bench import note

TOKEN = "ent_0123456789abcdef0123456789abcdef"
SOURCES: dict[str, bytes] = {"thing-1.0.tar.gz": tar_of({"hello.txt": b"hello from the source\n"})}


class Parts:
    """What the composition root would hand in."""

    def __init__(self) -> None:
        self.revoked = 0

    def services(self, **changes: Any) -> BuildServices:
        parts: dict[str, Any] = {
            "open_asset": open_asset,
            "find_spec": lambda _source: None,
            "issue_token": lambda _build: IssuedToken("builds", TOKEN, self._revoke),
            "client_variables": lambda _source: {"INDEX": "http://127.0.0.1:7979/index/"},
            "on_finished": on_finished,
            "sealer": KeySealer(),
            "clock": system_clock,
        }
        return BuildServices(**parts | changes)

    def _revoke(self) -> None:
        self.revoked += 1


def open_asset(_source: PackageSource, filename: str) -> BinaryIO:
    if filename == "unreachable":
        raise ExecutorError("the blob store is away")
    if filename not in SOURCES:
        raise Refused(f"{filename} was deleted")
    return io.BytesIO(SOURCES[filename])


def on_finished(session: Session, build_id: str) -> None:
    """The domain's reaction, in the same transaction: one row for each time it was told."""
    session.execute(insert(note).values(text=f"{session.get_one(Build, build_id).status} {build_id}"))


def make_worker(database: Database, executor: Executor, services: BuildServices, **options: Any) -> Worker:
    handler = BuildHandler(database, {executor.name: executor}, services)
    settings: dict[str, Any] = {
        "slots": 2,
        "queues": (QUEUE,),
        "poll_seconds": 0.05,
        "heartbeat_seconds": 0.1,
        "reap_seconds": 0.1,
        "first_retry_seconds": 0.01,
    }
    return Worker(database, {JOB_KIND: handler}, settle={JOB_KIND: handler.settle}, **settings | options)


def build_worker(url: str, work_dir: Path, **options: Any) -> Worker:
    executor = ProcessExecutor(ProcessSettings(work_dir, registry_address=("127.0.0.1", 9)))
    return make_worker(Database(url), executor, Parts().services(), **options)
