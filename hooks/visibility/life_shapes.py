"""The shapes of a package version's life, from where it came from to where it is. Values, as they are told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Blocker:
    """Why an execution is not further than it is.

    ``kind``: ``approval``, ``transition`` (the way in is closed), ``stage`` (another execution is in it), ``hold`` (a rollback
    holds it), ``freeze`` (a freeze window), ``condition`` (it is being judged), ``deployment`` (it
    waits; ``text`` says for what), ``running`` (nothing keeps it: it is at work), ``failed``, ``stopped``.

    ``approvers`` are the repositories (``domain/repository``) on which one needs the right to approve. ``since`` is when it
    came to this.
    """

    kind: str
    text: str
    execution_id: int
    pipeline: str
    stage: str
    action: str | None
    since: datetime | None
    approvers: tuple[str, ...] = ()
    build_id: str | None = None
    deployment_id: str | None = None


@dataclass(frozen=True, slots=True)
class LifeSource:
    """Where the version came from first. ``kind``: ``build``, ``person`` or ``upstream`` (kept from outside).

    ``by`` is who published it; ``via`` how that account proved who it is (``token``, ``password``, ``oidc`` …), "" where
    that is not kept. Of a build: ``uri`` is what it was made from, ``commit`` the commit, or the version of a package,
    ``digest`` that of either.
    """

    kind: str
    by: str
    via: str
    at: datetime
    repository: str
    build_id: str | None = None
    project: str = ""
    number: int | None = None
    uri: str = ""
    commit: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class LifePlace:
    """A repository that holds the version. ``digest`` is a SHA-256 (hex) over names and digests of its files there.

    Two places with the same digest hold the same bytes under the same names. ``execution_id`` is the pipeline's execution that
    brought it there.
    """

    repository: str
    status: str
    package_status: str
    digest: str
    files: int
    promoted_from: str | None
    at: datetime
    by: str
    via: str
    execution_id: int | None
    pipeline: str | None


@dataclass(frozen=True, slots=True)
class LifeBuild:
    """A build that published files of the version, or that an execution ran on it (``execution_id``).

    ``status`` is None for one that is not kept any more, or not to be seen; then nothing leads to it.
    """

    build_id: str
    project: str
    number: int
    status: str | None
    has_published: bool
    execution_id: int | None
    initiator: str
    commit: str
    at: datetime


@dataclass(frozen=True, slots=True)
class LifeReport:
    """A report that one of the builds left. ``line_coverage_percent`` is of a coverage report."""

    report_id: str
    build_id: str
    group: str
    type: str
    status: str
    total: int
    succeeded: int
    failed: int
    line_coverage_percent: float | None
    at: datetime


@dataclass(frozen=True, slots=True)
class LifeExecution:
    """An execution of a pipeline for the version. ``digest`` is over the files that it is pinned to."""

    execution_id: int
    pipeline: str
    status: str
    execution_type: str
    repository: str
    digest: str
    triggered_by: str
    started_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class LifeAnswer:
    """What one person said to an approval: ``Approved`` or ``Rejected``."""

    account: str
    verdict: str
    comment: str
    at: datetime


@dataclass(frozen=True, slots=True)
class LifeApproval:
    """An approval that was asked for. ``verdict``: ``Waiting``, ``Approved``, ``Rejected``, ``Expired`` or ``Abandoned``.

    ``digest`` is what was approved: the files that the execution is pinned to. ``required`` people had to approve;
    ``answers`` are all that were given, in their order. ``by`` and ``comment`` are those of the last one, which decided.
    """

    execution_id: int
    pipeline: str
    stage: str
    action: str
    attempt: int
    verdict: str
    by: str | None
    comment: str
    digest: str
    asked_at: datetime
    decided_at: datetime | None
    required: int
    answers: tuple[LifeAnswer, ...]

    @property
    def approvals(self) -> int:
        """How many have approved."""
        return sum(said.verdict == "Approved" for said in self.answers)

    @property
    def deciders(self) -> tuple[str, ...]:
        """Who made it what it is: all who approved, or who rejected; nobody while it waits, or when its time was over."""
        found = tuple(said.account for said in self.answers if said.verdict == self.verdict)
        return found or ((self.by,) if self.by else ())


@dataclass(frozen=True, slots=True)
class LifeTarget:
    """A machine that had the version from ``since`` on. ``is_there``: it has it now, as far as the server knows.

    ``until`` is when something else came there, None where nothing has, or that is not known.
    """

    name: str
    since: datetime
    until: datetime | None
    is_there: bool
    is_healthy: bool | None


@dataclass(frozen=True, slots=True)
class LifeDeployment:
    """A deployment of the version.

    ``since`` is when the group had it, None when it never did; ``until`` when another deployment succeeded there with
    something else (``replaced_by``), None while it is there.
    ``digest`` is what was deployed. ``target_count`` machines got it, of which ``targets`` (at most 50) are told;
    ``there_count`` of them have the version now, by whichever deployment.
    """

    deployment_id: str
    application: str
    group: str
    status: str
    error: str
    rollback_of: str | None
    rolled_back_by: str | None
    digest: str
    repository: str
    initiator: str
    execution_id: int | None
    created_at: datetime
    ended_at: datetime | None
    since: datetime | None
    until: datetime | None
    replaced_by: str | None
    targets: tuple[LifeTarget, ...]
    target_count: int
    there_count: int


@dataclass(frozen=True, slots=True)
class LifeMoment:
    """A moment of the timeline. ``tone`` is good, bad, busy, wait or idle; the references say what it is about."""

    at: datetime
    kind: str
    tone: str
    text: str
    detail: str = ""
    repository: str | None = None
    build_id: str | None = None
    execution_id: int | None = None
    deployment_id: str | None = None


@dataclass(frozen=True, slots=True)
class PackageLife:
    """A package version of a domain from its source to where it is now, as far as the caller may see it.

    Of executions the newest 50 are looked at, of deployments the newest 100 (``is_cut``: there are more).
    """

    domain: str
    format: str
    namespace: str
    name: str
    version: str
    source: LifeSource | None
    places: tuple[LifePlace, ...]
    builds: tuple[LifeBuild, ...]
    reports: tuple[LifeReport, ...]
    executions: tuple[LifeExecution, ...]
    approvals: tuple[LifeApproval, ...]
    deployments: tuple[LifeDeployment, ...]
    blocking: tuple[Blocker, ...]
    timeline: tuple[LifeMoment, ...]
    is_cut: bool
