"""A build of a directory on this machine, without server and database: the same phases, the same executors."""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast
from uuid import uuid4

from hooks.builds.executor import Executor, Interrupt, SourceBundle, SourceFile
from hooks.builds.keeping import Keeper
from hooks.builds.local_keeper import LocalKeeper
from hooks.builds.phases import PhaseRecord
from hooks.builds.plan import BuildOutcome, BuildPlan
from hooks.builds.reports.model import FAILURES, Case
from hooks.builds.reports.result import ReportResult, said
from hooks.builds.run import run_build
from registry.clock import Clock

_ARCHIVE = "source.tar"
_TOP = "source"
_SHOWN_FAILURES = 20


@dataclass(frozen=True, slots=True)
class LocalBuild:
    """What to build. ``spec_text`` None: the ``buildspec.yml`` in ``directory``. Artifacts go below ``artifacts_dir``."""

    directory: Path
    spec_text: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    artifacts_dir: Path | None = None
    timeout: timedelta = timedelta(hours=1)


class LocalReporter:
    """Implements ``hooks.builds.journal.BuildReporter``: the log goes to ``write`` as it comes, artifacts to files."""

    def __init__(self, write: Callable[[bytes], object], artifacts_dir: Path | None) -> None:
        """``artifacts_dir`` None: artifacts are not kept."""
        self._write = write
        self._artifacts_dir = artifacts_dir
        self.artifacts: list[Path] = []

    def log(self, data: bytes) -> None:
        """Show it."""
        self._write(data)

    def phases(self, records: Sequence[PhaseRecord]) -> None:
        """The log tells of them, too."""

    def found(self, tokens: Collection[str]) -> None:
        """No server is there to revoke them."""

    @property
    def keeper(self) -> Keeper:
        """Artifacts become files; raises OSError when one cannot be written."""
        return LocalKeeper(self._artifacts_dir, self.artifacts.append)

    def report(self, report: ReportResult) -> str:
        """Say what it says, and which test cases failed."""
        self._write(f"Report {report.group}: {report.status.value}, {said(report.totals)}\n".encode())
        kept = (each.entry for batch in report.batches() for each in batch)
        failed = (entry for entry in kept if isinstance(entry, Case) and entry.status in FAILURES)
        for case in islice(failed, _SHOWN_FAILURES):
            name = " ".join(f"{case.suite} {case.name}".split())
            self._write(f"  {case.status.value} {name}\n".encode(errors="replace"))
        return ""


def build_locally(
    wanted: LocalBuild, executor: Executor, reporter: LocalReporter, interrupt: Interrupt, clock: Clock
) -> BuildOutcome:
    """Carry it out on a copy of the directory; nothing in the directory itself is changed.

    Raises ExecutorError when it could not be run, OSError when the directory cannot be read or an artifact not written.
    """
    build_id = str(uuid4())
    with packed(wanted.directory, lambda text: reporter.log(f"{text}\n".encode(errors="replace"))) as source:
        now = clock()
        plan = BuildPlan(
            build_id=build_id,
            source=source,
            submitted_at=now,
            spec_text=wanted.spec_text,
            overrides=wanted.variables,
            reserved={
                "CI": "true",
                "CODEBUILD_CI": "true",
                "CODEBUILD_LOCAL_BUILD": "true",
                "CODEBUILD_BUILD_ID": f"local:{build_id}",
                "CODEBUILD_BUILD_IMAGE": executor.name,
                "CODEBUILD_START_TIME": str(int(now.timestamp() * 1000)),
            },
            timeout_seconds=wanted.timeout.total_seconds(),
        )
        return run_build(plan, executor, reporter, interrupt, clock)


@contextmanager
def packed(directory: Path, note: Callable[[str], object]) -> Iterator[SourceBundle]:
    """A directory as a source: a tar file of it, on the disk while the context lasts. Raises OSError.

    What cannot be had inside a sandbox (a link that leads out, a socket, a device) is left out; ``note`` is told.
    """
    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        with _Archive.open(fileobj=file, mode="w") as tar:
            tar.note = note
            tar.add(directory.resolve(), _TOP, filter=lambda member: _taken(member, note))
        file.flush()
        path = Path(file.name)

        def open_again() -> BinaryIO:
            return path.open("rb")

        yield SourceBundle((SourceFile(_ARCHIVE, open_again),), unpack=_ARCHIVE)


class _Archive(tarfile.TarFile):
    note: Callable[[str], object]

    def gettarinfo(self, name: Any = None, arcname: str | None = None, fileobj: Any = None) -> tarfile.TarInfo:
        """As the archive's; a socket, which has no form in one, gives nothing, and is told of."""
        found: tarfile.TarInfo | None = super().gettarinfo(name, arcname, fileobj)
        if found is None:
            self.note(f"{(arcname or '').removeprefix(f'{_TOP}/')} is left out: it is neither a file nor a directory")
        return cast("tarfile.TarInfo", found)


def _taken(member: tarfile.TarInfo, note: Callable[[str], object]) -> tarfile.TarInfo | None:
    name = member.name.removeprefix(f"{_TOP}/")
    if member.issym():
        target = os.path.normpath(os.path.join(os.path.dirname(member.name), member.linkname))  # noqa: PTH118, PTH120
        if os.path.isabs(member.linkname) or target.split("/")[0] != _TOP:  # noqa: PTH117
            note(f"{name} is left out: it is a link to {member.linkname}, outside of the directory")
            return None
    elif not (member.isreg() or member.isdir() or member.islnk()):
        note(f"{name} is left out: it is neither a file nor a directory")
        return None
    return member
