"""All that a build is before it runs, and what it was: the two ends of ``hooks.builds.run``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from hooks.builds.debugging import DebugSession
from hooks.builds.executor import Login, Network, Publishing, RoomRequest, SourceBundle
from hooks.builds.output_settings import OutputSettings
from hooks.builds.phases import BuildStatus, PhaseRecord
from hooks.builds.references import Reference, Resolver, no_store
from hooks.builds.spec_model import BuildSpec

BATCH_IDENTIFIER = "CODEBUILD_BATCH_BUILD_IDENTIFIER"
"""The variable that tells a build of a batch which one of it it is."""


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """All that a build is. ``spec_text`` None: ``buildspec.yml`` at the top of the source; it may also be a path in it.

    Variables, weakest first: the sandbox's own, ``environment`` (the registry's addresses for clients), the buildspec's
    ``env``, ``overrides`` (the project's, then those of the start), ``reserved`` (CODEBUILD_*, CI). ``home_files`` are
    texts by path below the home. ``secrets`` are masked in all that is reported, and so is what ``resolver`` gives
    for ``references`` (overrides, too) and for those of the buildspec. ``outputs`` is what the project called
    ``project`` says about artifacts and caches. ``on_spec`` is given the document, as text and as it was read, by a
    build that does no more than read it, and returns what is wrong with it. With ``debug`` it stands at
    breakpoints.
    """

    build_id: str
    source: SourceBundle
    submitted_at: datetime
    spec_text: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    overrides: Mapping[str, str] = field(default_factory=dict)
    reserved: Mapping[str, str] = field(default_factory=dict)
    network: Network = Network.NONE
    room: RoomRequest = field(default_factory=RoomRequest)
    credentials: Login | None = None
    home_files: Mapping[str, str] = field(default_factory=dict)
    publishing: Publishing | None = None
    secrets: tuple[str, ...] = ()
    references: tuple[Reference, ...] = ()
    resolver: Resolver = no_store
    project: str = "build"
    outputs: OutputSettings = field(default_factory=OutputSettings)
    timeout_seconds: float = 3600.0
    on_spec: Callable[[str, BuildSpec], Sequence[str]] | None = None
    debug: DebugSession | None = None


@dataclass(frozen=True, slots=True)
class BuildOutcome:
    """How a build ended. ``exported`` are the values of ``exported-variables``."""

    status: BuildStatus
    phases: tuple[PhaseRecord, ...]
    exported: Mapping[str, str] = field(default_factory=dict)
