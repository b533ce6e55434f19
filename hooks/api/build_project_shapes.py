"""What goes in and out of the API of build projects."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from registry.api.shapes import Between, Length

MOST_DOCUMENT_CHARACTERS = 512 * 1024


@dataclass(frozen=True, slots=True)
class ProjectDocument:
    """CodeBuild's project document, as YAML or JSON."""

    document: Annotated[str, Length(1, MOST_DOCUMENT_CHARACTERS)]


@dataclass(frozen=True, slots=True)
class ProjectSummary:
    """A project in a list; ``repository`` is where it belongs, null for one that goes with the version it is given."""

    name: str
    repository: str | None
    description: str
    source_type: str
    location: str
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class ProjectDetail(ProjectSummary):
    """A project with its document in CodeBuild's shape. ``change`` and ``warnings`` answer a PUT.

    ``credentials`` is source identifier ("" for the primary one) → kind of the credential it is fetched with.
    """

    document: dict[str, Any]
    credentials: dict[str, str]
    created_at: datetime
    change: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProjectList:
    """Projects by name; ``next`` goes into ``after`` for the following ones, null at the end."""

    items: tuple[ProjectSummary, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class ProjectQuery:
    """Where to go on in the list."""

    after: Annotated[str, Length(0, 100)] = ""
    limit: Annotated[int, Between(1, 200)] = 50


@dataclass(frozen=True, slots=True)
class NewCredential:
    """What a git source is fetched with (CodeBuild's ImportSourceCredentials).

    ``authType`` is PERSONAL_ACCESS_TOKEN, BASIC_AUTH (with ``username``) or SSH_KEY (``token`` is the private key, and
    ``knownHosts`` the host's keys).
    """

    auth_type: Annotated[str, Length(1, 32)]
    token: Annotated[str, Length(1, 20_000)]
    username: Annotated[str, Length(0, 255)] = ""
    known_hosts: Annotated[str, Length(0, 20_000)] = ""
    source_identifier: Annotated[str, Length(0, 128)] = ""


@dataclass(frozen=True, slots=True)
class CredentialQuery:
    """Of which source; the primary one if not said."""

    source_identifier: Annotated[str, Length(0, 128)] = ""


@dataclass(frozen=True, slots=True)
class Upload:
    """A zip that was taken: ``id`` goes into a start's ``sourceUpload``."""

    id: str
    sha256: str
    size_bytes: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class UploadQuery:
    """The project that is going to build it."""

    project: Annotated[str, Length(0, 100)] = ""


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable. ``type``: PLAINTEXT, or PARAMETER_STORE or SECRETS_MANAGER, whose ``value`` names the value."""

    name: Annotated[str, Length(1, 255)]
    value: Annotated[str, Length(0, 65_536)]
    type: Annotated[str, Length(1, 32)] = "PLAINTEXT"


@dataclass(frozen=True, slots=True)
class SecondaryVersion:
    """The version of a secondary source."""

    source_identifier: Annotated[str, Length(1, 128)]
    source_version: Annotated[str, Length(1, 300)]


@dataclass(frozen=True, slots=True)
class PackageVersion:
    """A package version to build."""

    domain: Annotated[str, Length(1, 50)]
    repository: Annotated[str, Length(1, 100)]
    format: Annotated[str, Length(1, 32)]
    name: Annotated[str, Length(1, 255)]
    version: Annotated[str, Length(1, 255)]
    namespace: Annotated[str, Length(0, 255)] = ""


@dataclass(frozen=True, slots=True)
class NewBuild:
    """CodeBuild's StartBuild. ``sourceUpload`` is an uploaded zip, ``package`` the version for a project without a source.

    The same ``idempotencyToken`` within five minutes is the same build. ``priority``: higher goes first.
    """

    source_version: Annotated[str, Length(1, 300)] | None = None
    secondary_sources_version_override: Annotated[tuple[SecondaryVersion, ...], Length(0, 12)] = ()
    environment_variables_override: Annotated[tuple[Variable, ...], Length(0, 500)] = ()
    buildspec_override: Annotated[str, Length(1, 262_144)] | None = None
    git_clone_depth_override: Annotated[int, Between(0, 1_000_000)] | None = None
    timeout_in_minutes_override: Annotated[int, Between(5, 2160)] | None = None
    queued_timeout_in_minutes_override: Annotated[int, Between(5, 480)] | None = None
    auto_retry_limit_override: Annotated[int, Between(0, 10)] | None = None
    debug_session_enabled: bool = False
    idempotency_token: Annotated[str, Length(1, 64)] | None = None
    priority: Annotated[int, Between(-10, 10)] = 0
    source_upload: Annotated[str, Length(36, 36)] | None = None
    package: PackageVersion | None = None


@dataclass(frozen=True, slots=True)
class BuildDebugSession:
    """Whether the build stands at breakpoints, and since when it stands at one now."""

    session_enabled: bool
    paused_at: datetime | None
