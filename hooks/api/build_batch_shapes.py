"""What goes in and out of the API of batch builds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from hooks.api.build_project_shapes import PackageVersion, SecondaryVersion, Variable
from registry.api.shapes import Between, Length


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """A batch in a list. ``startTime`` is when it was submitted; ``complete`` whether it has ended.

    ``domain`` and ``repository`` are where it belongs; the package version it builds is named as a build's.
    """

    id: str
    arn: str
    project_name: str
    build_batch_number: int
    build_batch_status: str
    current_phase: str
    domain: str
    repository: str
    format: str
    namespace: str
    name: str
    version: str
    initiator: str
    message: str
    start_time: datetime
    end_time: datetime | None
    complete: bool


@dataclass(frozen=True, slots=True)
class SummaryArtifact:
    """An artifact of a build; ``location`` is its path at this server."""

    type: str
    identifier: str
    location: str


@dataclass(frozen=True, slots=True)
class BuildSummaryOfGroup:
    """One build of a group."""

    id: str
    arn: str
    build_number: int
    requested_on: datetime
    build_status: str
    primary_artifact: SummaryArtifact | None
    secondary_artifacts: tuple[SummaryArtifact, ...]


@dataclass(frozen=True, slots=True)
class BuildGroup:
    """The builds of one identifier. ``currentBuildSummary`` is null before the first, and for one that is not to start.

    ``status`` is that of its build, or PENDING or SKIPPED; ``chosen`` is what a matrix chose for it.
    """

    identifier: str
    depends_on: tuple[str, ...]
    ignore_failure: bool
    status: str
    chosen: dict[str, str]
    current_build_summary: BuildSummaryOfGroup | None
    prior_build_summary_list: tuple[BuildSummaryOfGroup, ...]


@dataclass(frozen=True, slots=True)
class BatchAutoRetry:
    """How often what fails is retried by itself, and how often it was since somebody last asked."""

    auto_retry_limit: int
    auto_retry_number: int


@dataclass(frozen=True, slots=True)
class BatchDetail(BatchSummary):
    """A batch with its phases and groups; the group DOWNLOAD_SOURCE is the build that read the document.

    ``endingAs`` is STOPPED or TIMED_OUT while it goes on only until what runs has ended; ``attempt`` counts the retries,
    1 first. Combined artifacts are those of the build of DOWNLOAD_SOURCE. With ``debugSessionEnabled`` each build stands at
    its breakpoints.
    """

    phases: tuple[dict[str, Any], ...]
    build_groups: tuple[BuildGroup, ...]
    build_batch_config: dict[str, Any]
    resolved_source_version: str
    build_timeout_in_minutes: int
    queued_timeout_in_minutes: int
    ending_as: str | None
    attempt: int
    auto_retry_config: BatchAutoRetry
    debug_session_enabled: bool
    subject: str | None


@dataclass(frozen=True, slots=True)
class BatchList:
    """Batches; ``next`` goes into ``after``, null at the end."""

    items: tuple[BatchSummary, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class BatchesFound:
    """Those that were asked for, as far as they are there for the caller."""

    build_batches: tuple[BatchDetail, ...]
    build_batches_not_found: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BatchQuery:
    """Which batches, in which order, and where to go on."""

    project: Annotated[str, Length(1, 100)] | None = None
    status: Annotated[str, Length(1, 16)] | None = None
    sort_order: Annotated[str, Length(1, 16)] = "DESCENDING"
    after: Annotated[str, Length(1, 36)] | None = None
    limit: Annotated[int, Between(1, 200)] = 50


@dataclass(frozen=True, slots=True)
class BatchIds:
    """Ids with commas between them."""

    ids: Annotated[str, Length(1, 3700)]


@dataclass(frozen=True, slots=True)
class BatchRestrictions:
    """What a batch may have; a start can only restrict further than its project."""

    maximum_builds_allowed: Annotated[int, Between(1, 100)] | None = None
    compute_types_allowed: Annotated[tuple[str, ...], Length(0, 20)] | None = None


@dataclass(frozen=True, slots=True)
class BatchConfig:
    """CodeBuild's ProjectBuildBatchConfig; what is left out is the project's."""

    combine_artifacts: bool | None = None
    restrictions: BatchRestrictions | None = None
    timeout_in_mins: Annotated[int, Between(5, 2160)] | None = None
    batch_report_mode: Annotated[str, Length(1, 32)] | None = None


@dataclass(frozen=True, slots=True)
class NewBatch:
    """CodeBuild's StartBuildBatch. ``sourceUpload``, ``package`` and ``priority`` are as for a build.

    ``buildTimeoutInMinutesOverride`` is each build's; the batch's own is in ``buildBatchConfigOverride``.
    """

    source_version: Annotated[str, Length(1, 300)] | None = None
    secondary_sources_version_override: Annotated[tuple[SecondaryVersion, ...], Length(0, 12)] = ()
    environment_variables_override: Annotated[tuple[Variable, ...], Length(0, 500)] = ()
    buildspec_override: Annotated[str, Length(1, 262_144)] | None = None
    git_clone_depth_override: Annotated[int, Between(0, 1_000_000)] | None = None
    build_timeout_in_minutes_override: Annotated[int, Between(5, 2160)] | None = None
    queued_timeout_in_minutes_override: Annotated[int, Between(5, 480)] | None = None
    auto_retry_limit_override: Annotated[int, Between(0, 10)] | None = None
    build_batch_config_override: BatchConfig | None = None
    debug_session_enabled: bool = False
    idempotency_token: Annotated[str, Length(1, 64)] | None = None
    priority: Annotated[int, Between(-10, 10)] = 0
    source_upload: Annotated[str, Length(36, 36)] | None = None
    package: PackageVersion | None = None


@dataclass(frozen=True, slots=True)
class RetryBatch:
    """What to do anew: RETRY_ALL_BUILDS or RETRY_FAILED_BUILDS."""

    retry_type: Annotated[str, Length(1, 32)] = "RETRY_ALL_BUILDS"
