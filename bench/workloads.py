"""What is measured on each target, and in which unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path

from bench import documents, load
from bench.fixtures import FIVE, LARGE, MANY, MIB, SMALL, Distribution, batch, wheel
from bench.load import Sample, Unusable
from bench.targets import HTML, JSON, Target

CONNECTIONS = 16
SMALL_PAYLOAD_BYTES = 10 * 1024 - 1330  # the rest of 10 KiB is the wheel's own files


class Group(Enum):
    """What the tables are about."""

    PYTHON = "Serving and taking Python packages"
    NPM = "Serving npm packages"
    MAVEN = "Serving Maven artifacts"
    BIG = "Packages with thousands of versions"
    INSTALLS = "Whole installs through a proxy"


@dataclass(frozen=True)
class Plan:
    """How much is done: seconds of each reading workload, rounds, and sizes.

    ``most_runs`` is how often an install is done in each round at the most, ``thousands`` how many versions the big
    packages have.
    """

    rounds: int
    seconds: int
    many_files: int
    large_bytes: int
    huge_bytes: int
    uploads: int
    twine_files: int
    most_runs: int
    thousands: int


FULL = Plan(
    rounds=3, seconds=4, many_files=500, large_bytes=64 * MIB, huge_bytes=256 * MIB, uploads=50, twine_files=20,
    most_runs=3,
    thousands=5000,
)  # fmt: skip
QUICK = Plan(
    rounds=1, seconds=1, many_files=50, large_bytes=8 * MIB, huge_bytes=16 * MIB, uploads=10, twine_files=3,
    most_runs=1,
    thousands=100,
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """What all measuring needs to know: the plan, the peers that are wanted and there, and where those are installed."""

    plan: Plan
    peers: tuple[str, ...]
    cache: Path


@dataclass(frozen=True)
class Workload:
    """One row. ``run`` is given the target, the plan and a label that no earlier run had."""

    name: str
    title: str
    unit: str
    run: Callable[[Target, Plan, str], Sample]
    is_lower_better: bool = False
    group: Group = Group.PYTHON


def apart(_target: Target, _plan: Plan, _label: str) -> Sample:
    """For rows that are not measured on servers that stay."""
    raise Unusable("measured apart")


def _read(ask: Callable[[Target], load.Ask]) -> Callable[[Target, Plan, str], Sample]:
    def run(target: Target, plan: Plan, _label: str) -> Sample:
        found = ask(target)
        return load.wrk(found, target.server, seconds=plan.seconds, connections=CONNECTIONS, as_mb_per_second=False)

    return run


def _page(project: str, media: str) -> Callable[[Target, Plan, str], Sample]:
    return _read(lambda target: target.page(project, media))


def _large_file(target: Target, plan: Plan, _label: str) -> Sample:
    ask = target.file(LARGE, len(large(plan).body))
    return load.wrk(ask, target.server, seconds=plan.seconds, connections=1, as_mb_per_second=True)


def _upload(writers: int) -> Callable[[Target, Plan, str], Sample]:
    def run(target: Target, plan: Plan, label: str) -> Sample:
        if target.door is None:
            raise Unusable("not offered")
        files = batch(f"{label}-{writers}", plan.uploads)
        return load.upload(target.door, target.server, files, writers=writers)

    return run


def _twine(target: Target, plan: Plan, label: str) -> Sample:
    if target.door is None:
        raise Unusable("not offered")
    return load.twine(target.door, target.server, batch(f"{label}-twine", plan.twine_files))


def _huge_upload(target: Target, plan: Plan, label: str) -> Sample:
    if target.door is None:
        raise Unusable("not offered")
    file = _huge(label, plan.huge_bytes)
    sample = load.upload(target.door, target.server, [file], writers=1)
    return Sample(sample.value * len(file.body) / 1e6, sample.cpu_us_per_request, sample.resident_mib)


def small() -> Distribution:
    return wheel(SMALL, "1.0", payload_bytes=SMALL_PAYLOAD_BYTES)


@lru_cache(maxsize=1)
def _large(payload_bytes: int) -> Distribution:
    return wheel(LARGE, "1.0", payload_bytes=payload_bytes)


def large(plan: Plan) -> Distribution:
    return _large(plan.large_bytes)


@lru_cache(maxsize=1)
def _huge(label: str, payload_bytes: int) -> Distribution:
    """Made once for all targets of a round."""
    return wheel(f"bench-{label}-huge", "1.0", payload_bytes=payload_bytes)


def reading(plan: Plan) -> list[Distribution]:
    """What the reading workloads ask for."""
    return [
        *(wheel(FIVE, f"1.{number}") for number in range(5)),
        *(wheel(MANY, f"1.{number}") for number in range(plan.many_files)),
        small(),
        large(plan),
    ]


def _packument(media: str) -> Callable[[Target, Plan, str], Sample]:
    return _read(lambda target: documents.packument(target, FIVE, media, 5))


def _maven(path: str, least_bytes: int) -> Callable[[Target, Plan, str], Sample]:
    return _read(lambda target: documents.maven_file(target, path, least_bytes))


SERVED = (
    Workload("page-5-html", "index page, 5 files, HTML", "req/s", _page(FIVE, HTML)),
    Workload("page-5-json", "index page, 5 files, JSON", "req/s", _page(FIVE, JSON)),
    Workload("page-many-html", "index page, many files, HTML", "req/s", _page(MANY, HTML)),
    Workload("page-many-json", "index page, many files, JSON", "req/s", _page(MANY, JSON)),
    Workload("page-304", "the same, not modified (304)", "req/s", _read(lambda target: target.known_page(MANY, JSON))),
    Workload("file-10k", "file of 10 KiB", "req/s", _read(lambda target: target.file(SMALL, len(small().body)))),
    Workload("file-large", "large file, 1 connection", "MB/s", _large_file),
    Workload("upload-1", "uploads of small wheels, 1 writer", "files/s", _upload(1)),
    Workload("upload-4", "uploads of small wheels, 4 writers", "files/s", _upload(4)),
    Workload("upload-twine", "twine upload, one run", "files/s", _twine),
    Workload("upload-huge", "upload of one large file", "MB/s", _huge_upload),
)

NPM = (
    Workload("packument-5", "packument, 5 versions", "req/s", _packument(documents.FULL), group=Group.NPM),
    Workload("packument-5-short", "the same, abbreviated", "req/s", _packument(documents.SHORT), group=Group.NPM),
    Workload("tarball-10k", "tarball of 10 KiB", "req/s", _read(documents.tarball), group=Group.NPM),
)
MAVEN = (
    Workload(
        "metadata-5", "maven-metadata.xml, 5 versions", "req/s", _maven(documents.metadata_path(), 1), group=Group.MAVEN
    ),
    Workload("jar-10k", "jar of 10 KiB", "req/s", _maven(documents.jar_path(), documents.JAR_BYTES), group=Group.MAVEN),
)
