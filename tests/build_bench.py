"""What the tests of builds share: a work directory the builds' users can reach, sources, reporters, waiting."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hooks.builds.executor import Executor, SourceBundle, SourceFile, StopReason
from hooks.builds.keeping import ArtifactName, CacheKey, FoundCache, Incoming, Keeper, Kept
from hooks.builds.phases import PhaseRecord
from hooks.builds.plan import BuildOutcome, BuildPlan
from hooks.builds.reports.result import KeptEntry, ReportResult
from hooks.builds.run import run_build

PATIENCE_SECONDS = 30.0
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MISSING_SANDBOX = (
    ""
    if shutil.which("bwrap") and Path("/usr/bin/python3").exists()
    else "bubblewrap or /usr/bin/python3 is not installed on this machine"
)


@contextmanager
def work_directory() -> Iterator[Path]:
    """A directory that other users can reach: pytest's own is closed to them."""
    path = Path(tempfile.mkdtemp(prefix="entrepot-builds-", dir="/var/tmp"))
    path.chmod(0o711)
    try:
        yield path / "work"
    finally:
        shutil.rmtree(path, ignore_errors=True)


def tar_of(files: Mapping[str, bytes], top: str = "thing-1.0") -> bytes:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"{top}/{name}" if top else name)
            entry.size = len(content)
            entry.mode = 0o755 if name.endswith(".sh") else 0o644
            tar.addfile(entry, io.BytesIO(content))
    return body.getvalue()


def bundle(files: Mapping[str, bytes], unpack: str | None = None) -> SourceBundle:
    return SourceBundle(
        tuple(SourceFile(name, lambda content=content: io.BytesIO(content)) for name, content in files.items()), unpack
    )


class MemoryIncoming:
    def __init__(self, keep: Callable[[bytes], object]) -> None:
        self._keep = keep
        self._body = bytearray()

    def write(self, data: bytes) -> None:
        self._body += data

    def keep(self, files: int) -> Kept:
        self._keep(bytes(self._body))
        return Kept(len(self._body), hashlib.sha256(self._body).hexdigest())

    def abort(self) -> None:
        self._body.clear()


class MemoryKeeper:
    """Keeps artifacts by name, and caches by key and version of their paths."""

    def __init__(self, artifacts: dict[str, bytes], caches: dict[tuple[str, str], bytes]) -> None:
        self._artifacts = artifacts
        self._caches = caches

    def begin_artifact(self, name: ArtifactName) -> Incoming:
        return MemoryIncoming(lambda body: self._artifacts.update({name.name: body}))

    def find_cache(self, wanted: CacheKey) -> FoundCache | None:
        for start in (wanted.key, *wanted.fallbacks):
            for (key, version), body in reversed(self._caches.items()):
                if version == wanted.version and (
                    key == start or (start in wanted.fallbacks and key.startswith(start))
                ):
                    return FoundCache(key, "protected", len(body), key == wanted.key, lambda body=body: iter([body]))
        return None

    def begin_cache(self, wanted: CacheKey) -> Incoming | None:
        if wanted.key and (wanted.key, wanted.version) in self._caches:
            return None
        return MemoryIncoming(lambda body: self._caches.update({(wanted.key, wanted.version): body}))


class Log:
    """A reporter that keeps everything."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.commands: Sequence[str] = ()
        self.tokens: set[str] = set()
        self.records: list[PhaseRecord] = []
        self.artifacts: dict[str, bytes] = {}
        self.caches: dict[tuple[str, str], bytes] = {}
        self.reports: dict[str, tuple[ReportResult, list[KeptEntry]]] = {}

    def log(self, data: bytes) -> None:
        self.data += data

    def found(self, tokens: Collection[str]) -> None:
        self.tokens |= set(tokens)

    def phases(self, records: Sequence[PhaseRecord]) -> None:
        self.records = list(records)

    @property
    def keeper(self) -> Keeper:
        return MemoryKeeper(self.artifacts, self.caches)

    def report(self, report: ReportResult) -> str:
        self.reports[report.group] = report, [kept for batch in report.batches() for kept in batch]
        return ""

    @property
    def text(self) -> str:
        return self.data.decode()

    @property
    def output(self) -> list[str]:
        """What the commands printed, without the agent's lines (one of which may hold a command of several lines)."""
        text = self.text
        for command in self.commands:
            text = text.replace(f" Running command {command}\n", "\n")
        return [line for line in text.splitlines() if not line.startswith("[Container]") and line]


def never() -> StopReason | None:
    return None


def build(
    executor: Executor,
    spec: str | None,
    *,
    interrupt: Callable[[], StopReason | None] = never,
    log: Log | None = None,
    **plan: Any,
) -> tuple[BuildOutcome, Log]:
    log = log or Log()
    values = {"build_id": "b1", "source": SourceBundle(()), "submitted_at": NOW, "spec_text": spec} | plan
    return run_build(BuildPlan(**values), executor, log, interrupt, lambda: NOW), log


def phase_states(outcome: BuildOutcome) -> dict[str, str | None]:
    return {record.phase.value: record.status.value if record.status else None for record in outcome.phases}


def host_processes(marker: str) -> list[int]:
    """Processes of the whole machine with ``marker`` on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return [process for process in found if process != os.getpid()]


def eventually(condition: Callable[[], Any], what: str = "") -> Any:
    end, pause_seconds = time.monotonic() + PATIENCE_SECONDS, 0.02
    while not (value := condition()):
        assert time.monotonic() < end, what or "it never came true"
        time.sleep(pause_seconds)
        pause_seconds = min(pause_seconds * 1.2, 0.25)  # asking is work as well
    return value


class KeySealer:
    """A real one, with a key of its own."""

    def __init__(self) -> None:
        self._cipher = AESGCM(bytes(range(32)))

    def seal(self, data: bytes, context: str) -> bytes:
        nonce = os.urandom(12)
        return nonce + self._cipher.encrypt(nonce, data, context.encode())

    def unseal(self, sealed: bytes, context: str) -> bytes:
        try:
            return self._cipher.decrypt(sealed[:12], sealed[12:], context.encode())
        except InvalidTag as error:
            raise ValueError("sealed under another context") from error
