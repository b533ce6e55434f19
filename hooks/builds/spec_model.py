"""What a buildspec says, as values. Pure. ``hooks.builds.spec`` makes them, and is where others import them from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

PHASES = ("install", "pre_build", "build", "post_build")


class OnFailure(StrEnum):
    """What follows when a phase fails; without one the transition table of ``hooks.builds.phases`` decides."""

    ABORT = "ABORT"
    CONTINUE = "CONTINUE"
    RETRY = "RETRY"


@dataclass(frozen=True, slots=True)
class FailureRule:
    """``on-failure``: RETRY starts the whole build anew, up to ``retries`` times, and then ends it like ABORT.

    With a ``pattern`` (RE2 syntax) only a failure whose message holds a match is tried again; "" is any failure.
    """

    action: OnFailure
    retries: int = 0
    pattern: str = ""


@dataclass(frozen=True, slots=True)
class PhaseSpec:
    """One phase. ``finally_commands`` run after ``commands`` even when one of those failed; ``run_as`` is a user."""

    commands: tuple[str, ...] = ()
    finally_commands: tuple[str, ...] = ()
    on_failure: FailureRule | None = None
    run_as: str = ""


@dataclass(frozen=True, slots=True)
class ArtifactSpec:
    """An artifact: glob patterns relative to ``base_directory`` (itself relative to the source)."""

    files: tuple[str, ...]
    base_directory: str = ""
    discard_paths: bool = False
    exclude_paths: tuple[str, ...] = ()
    name: str = ""
    enable_symlinks: bool = False
    s3_prefix: str = ""


@dataclass(frozen=True, slots=True)
class ReportSpec:
    """A report group's files. ``name`` is a name, an ARN or a text with variables in it; formats in capitals."""

    name: str
    files: tuple[str, ...]
    base_directory: str = ""
    discard_paths: bool = False
    file_format: str = "JUNITXML"


@dataclass(frozen=True, slots=True)
class CacheSpec:
    """What is kept from build to build. Without ``paths`` the well-known caches of languages are meant.

    ``key`` and ``fallback_keys`` are texts with variables and command substitution in them; ``action`` is ``restore`` or
    ``save`` where the cache is used in one direction only.
    """

    paths: tuple[str, ...]
    key: str = ""
    fallback_keys: tuple[str, ...] = ()
    action: str = ""


@dataclass(frozen=True, slots=True)
class BatchEnvironment:
    """What a task of a batch has of its own; what is "" or None is the project's."""

    type: str = ""
    compute_type: str = ""
    fleet: str = ""
    image: str = ""
    privileged_mode: bool | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BatchTask:
    """One build of a batch. ``buildspec`` "" is this same document without its batch section."""

    identifier: str
    buildspec: str = ""
    depends_on: tuple[str, ...] = ()
    ignore_failure: bool = False
    debug_session: bool = False
    environment: BatchEnvironment = field(default_factory=BatchEnvironment)


@dataclass(frozen=True, slots=True)
class BatchMatrix:
    """``build-matrix``: each way to choose one of every non-empty list is a build."""

    ignore_failure: bool = False
    environment: BatchEnvironment = field(default_factory=BatchEnvironment)
    buildspecs: tuple[str, ...] = ()
    compute_types: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    variables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """A batch of exactly one ``kind`` (``build-list``, ``build-graph``, ``build-matrix``, ``build-fanout``).

    ``tasks`` are a list's or graph's, ``matrix`` a matrix's, ``parallelism`` (number of shards) and ``ignore_failure``
    a fanout's.
    """

    kind: str
    fast_fail: bool = False
    tasks: tuple[BatchTask, ...] = ()
    matrix: BatchMatrix | None = None
    parallelism: int = 0
    ignore_failure: bool = False


@dataclass(frozen=True, slots=True)
class BuildSpec:
    """A build's document. ``carries_state``: variables and the directory live on from command to command (0.2).

    ``parameter_store`` and ``secrets_manager`` are references by the variable they fill. ``warnings`` are lines for
    people, each with its line number.
    """

    version: str
    shell: str = "/bin/sh"
    variables: Mapping[str, str] = field(default_factory=dict)
    exported_variables: tuple[str, ...] = ()
    phases: Mapping[str, PhaseSpec] = field(default_factory=dict)
    artifacts: ArtifactSpec | None = None
    warnings: tuple[str, ...] = ()
    run_as: str = ""
    runtime_versions: Mapping[str, str] = field(default_factory=dict)
    parameter_store: Mapping[str, str] = field(default_factory=dict)
    secrets_manager: Mapping[str, str] = field(default_factory=dict)
    secondary_artifacts: Mapping[str, ArtifactSpec] = field(default_factory=dict)
    reports: tuple[ReportSpec, ...] = ()
    cache: CacheSpec | None = None
    batch: BatchSpec | None = None
    is_strict: bool = False

    @property
    def carries_state(self) -> bool:
        """False for 0.1, where every command gets a shell of its own with nothing carried over."""
        return self.version == "0.2"

    def phase(self, name: str) -> PhaseSpec:
        """The phase called ``name`` (``build``); an empty one when the document leaves it out."""
        return self.phases.get(name, PhaseSpec())

    def user_of(self, name: str) -> str:
        """The user the commands of the phase called ``name`` are to run as; "" when the document does not say."""
        return self.phase(name).run_as or self.run_as
