"""What the engine is given from outside: builds, promotion and deployments (``wiring.py`` has the real ones)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy.orm import Session

from hooks.builds.source import digest_of, package_url
from hooks.pipelines.definition import BuildProjectDeclaration
from hooks.secret_store.store import Sealer
from registry.clock import Clock
from registry.names import PackageKey
from registry.repos.advisories import AdvisoryView


@dataclass(frozen=True, slots=True)
class PinnedVersion:
    """A package version with exactly the files it had: what an execution builds, approves and promotes.

    ``assets`` is file name → SHA-256 (hex).
    """

    domain: str
    repository: str
    format: str
    namespace: str
    name: str
    version: str
    assets: Mapping[str, str]

    @property
    def is_package(self) -> bool:
        """Whether it is a package version; else a revision of another kind, whose format is ""."""
        return bool(self.format)

    @property
    def digest(self) -> str:
        """One SHA-256 (hex) over names and digests of all files, in the form that ``sha256sum`` prints.

        Of a revision of another kind that of its one archive, "" until it was fetched.
        """
        if not self.is_package:
            return next(iter(self.assets.values()), "")
        return digest_of(self.assets)

    @property
    def full_name(self) -> str:
        """The canonical name, behind its namespace if it has one."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    @property
    def purl(self) -> str:
        """The package URL (purl specification); formats are named by their purl types. Of no package: name and version."""
        if not self.is_package:
            return f"{self.name}@{self.version}" if self.version else self.name
        return package_url(self.format, self.namespace, self.name, self.version)


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """A build that an action asks for. ``variables`` override those of the project and the buildspec.

    ``inputs`` are the artifacts it is handed beside the version's own files, as (name, build, identifier); the name "" is
    that of the primary one. No build means the version's files, or with an identifier (``17/Source``) what the source
    action of an execution has fetched. ``outputs`` are the artifacts that it hands on.
    With ``is_batch`` it is a batch build; ``combines_artifacts`` None leaves that to the project. ``publish_repository`` is
    where, of the version's domain, it may publish if its project does so, too; None: nowhere. ``project`` "": the commands
    of ``buildspec`` in the server's default environment. ``revision`` is what the execution is about (``17/Source``) where
    that is no package version.
    """

    project: str
    source: PinnedVersion
    variables: Mapping[str, Any]
    initiator: str
    subject: str
    inputs: tuple[tuple[str, str | None, str], ...] = ()
    outputs: tuple[str, ...] = ()
    is_batch: bool = False
    combines_artifacts: bool | None = None
    publish_repository: str | None = None
    buildspec: str | None = None
    timeout_minutes: int | None = None
    revision: str = ""


@dataclass(frozen=True, slots=True)
class BuildOutcome:
    """How a build ended. ``variables`` are the exported ones; ``summary`` is for people.

    A build that has not left what it was to hand on has not succeeded.
    """

    succeeded: bool
    summary: str
    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ServiceDocuments:
    """What a service is deployed by: the text of an ``appspec.yaml``, and the document of a task definition."""

    appspec: str
    task_definition: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TextPlace:
    """A file of a pinned artifact. ``keeper`` None: ``path`` is a file of the version ``source`` in ``repository``."""

    path: str
    source: PinnedVersion
    repository: str
    keeper: str | None = None
    identifier: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class DeploymentOrder:
    """A deployment that an action asks for: of files of ``source``, or of what an earlier action has made.

    ``artifact`` is (build, identifier) of a build's; ``revision`` (``17/Source``) what a source action has fetched.
    ``repository`` is where, of the version's domain, machines get its files; ``asset`` a pattern for the one of them that
    is the bundle, None: the version itself is installed. With ``service`` these documents are deployed. ``author`` is who
    wrote the definition that the execution runs.
    """

    application: str
    group: str
    source: PinnedVersion
    repository: str
    pipeline: str
    author: str
    subject: str
    asset: str | None = None
    artifact: tuple[str, str] | None = None
    revision: str | None = None
    service: ServiceDocuments | None = None


@dataclass(frozen=True, slots=True)
class DeploymentOutcome:
    """How a deployment ended. ``digest`` is the SHA-256 (hex) of what it brought; ``summary`` is for people."""

    succeeded: bool
    summary: str
    digest: str


@dataclass(frozen=True, slots=True)
class PublishOrder:
    """A publication that an action asks for: of ``source``, as its files are in ``repository`` of its domain."""

    destination: str
    source: PinnedVersion
    repository: str
    tag: str


class PublishedFile(Protocol):
    """A file that is at the destination now. ``was_there``: it had these bytes before."""

    @property
    def filename(self) -> str:
        """Its name here."""
        ...

    @property
    def url(self) -> str:
        """Where it is there."""
        ...

    @property
    def sha256(self) -> str:
        """Its digest (hex)."""
        ...

    @property
    def was_there(self) -> bool:
        """Whether nothing had to be sent."""
        ...


Publish = Callable[[PublishOrder, Callable[[], bool]], Sequence[PublishedFile] | None]
"""Publishes, outside of any transaction; None when the second argument said to stop. Repeating it is harmless.

Raises NotFound, Conflict or Invalid for what will not be taken, UpstreamUnavailable for what may pass."""


class Deployer(Protocol):
    """Deployments, as actions start and steer them."""

    def create(self, session: Session, order: DeploymentOrder, now: datetime) -> str:
        """Make a deployment; its id. Raises NotFound, Conflict, Invalid, and Denied for who may not deploy there."""
        ...

    def outcome(self, session: Session, deployment_id: str) -> DeploymentOutcome | None:
        """How it ended; None while it goes on. Raises NotFound."""
        ...

    def read_text(self, place: TextPlace) -> str:
        """A file of an artifact, in no transaction. Raises NotFound, Conflict, Invalid, and Unavailable for later."""
        ...

    def stop(self, session: Session, deployment_id: str, actor: str, now: datetime) -> None:
        """Let nothing more of it begin. Nothing happens to one that has ended or is being stopped."""
        ...


@dataclass(frozen=True, slots=True)
class InvocationOrder:
    """An execution that an action asks for: of ``pipeline``, about ``source`` as ``repository`` of its domain has it.

    ``author`` is who wrote the definition that the execution runs; ``depth`` counts the executions that led to the new one.
    """

    pipeline: str
    source: PinnedVersion
    repository: str
    variables: Mapping[str, str]
    publishers: tuple[str, ...]
    author: str
    execution_id: int
    action_execution_id: int
    depth: int


class Invoker(Protocol):
    """Starts executions of other pipelines."""

    def __call__(self, session: Session, order: InvocationOrder, now: datetime) -> int:
        """Start the execution, once for the action; its id. Raises NotFound, Conflict, Invalid, Denied."""
        ...


class Promote(Protocol):
    """``registry.repos.promote.promote``."""

    def __call__(
        self,
        session: Session,
        *,
        domain: str,
        format: str,  # noqa: A002  (the design's word)
        namespace: str,
        name: str,
        version: str,
        assets: Mapping[str, str],
        source: str,
        target: str,
        actor: str,
        now: datetime,
    ) -> None:
        """Copy a version's rows. Raises NotFound, Conflict or Invalid; repeating it is harmless."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything works in the session it is given, and commits nothing.

    ``start_build`` returns the id of the build, or of the batch build, and raises NotFound for an unknown project.
    ``build_outcome`` is None while the build has not ended.
    ``apply_build_project`` returns ``created``, ``updated`` or ``unchanged``.
    ``deployer`` None: this process deploys nothing.
    ``may_approve`` tells whether the account of a name may approve on all of some ``domain/repository`` paths, now;
    None: everybody may whose answer was let in. ``attested`` reads, outside of any transaction, who attested the files
    of a version in a ``domain/repository`` (file name → publishers); None: nobody is known.
    ``publisher`` None: this process publishes nothing outside. ``advisories`` finds those about a version; None: none is
    known of, and a gate that asks for them is not met. ``invoker`` None: it starts no pipeline from another. ``sealer``
    None: it seals nothing.
    """

    start_build: Callable[[Session, BuildRequest, datetime], str]
    build_outcome: Callable[[Session, str], BuildOutcome | None]
    stop_build: Callable[[Session, str, datetime], None]
    apply_build_project: Callable[[Session, BuildProjectDeclaration, datetime], str]
    promote: Promote
    clock: Clock
    deployer: Deployer | None = None
    may_approve: Callable[[Session, str, Sequence[str]], bool] | None = None
    publisher: Publish | None = None
    advisories: Callable[[Session, PackageKey, str], Sequence[AdvisoryView]] | None = None
    attested: Callable[[str, PackageKey, str], Mapping[str, tuple[str, ...]]] | None = None
    invoker: Invoker | None = None
    sealer: Sealer | None = None
