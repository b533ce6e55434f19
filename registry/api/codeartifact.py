"""Repositories, domains and packages as CodeArtifact's answers have them, beside the fields of our own.

What has an owner there (an account of AWS) has none here, so that ``owner`` and ``administratorAccount`` are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from registry.repos.browse import PackageSummary, RepositorySummary


@dataclass(frozen=True, slots=True)
class UpstreamInfo:
    """A repository that is asked next."""

    repository_name: str


@dataclass(frozen=True, slots=True)
class ExternalConnectionInfo:
    """An index outside that a repository is connected to."""

    external_connection_name: str
    package_format: str
    status: str


@dataclass(frozen=True, slots=True)
class RepositoryDescription:
    """CodeArtifact's RepositoryDescription; ``upstreams`` in the order in which they are asked."""

    name: str
    domain_name: str
    arn: str
    description: str
    upstreams: tuple[UpstreamInfo, ...]
    external_connections: tuple[ExternalConnectionInfo, ...]


@dataclass(frozen=True, slots=True)
class RepositoryEntry:
    """CodeArtifact's RepositorySummary."""

    name: str
    domain_name: str
    arn: str
    description: str


@dataclass(frozen=True, slots=True)
class DomainDescription:
    """CodeArtifact's DomainDescription."""

    name: str
    arn: str
    status: str
    created_time: datetime
    repository_count: int
    asset_size_bytes: int


@dataclass(frozen=True, slots=True)
class DomainEntry:
    """CodeArtifact's DomainSummary."""

    name: str
    arn: str
    status: str
    created_time: datetime


@dataclass(frozen=True, slots=True)
class PackageEntry:
    """CodeArtifact's PackageSummary; ``namespace`` is empty where there is none."""

    format: str
    namespace: str
    package: str


def described(summary: RepositorySummary) -> RepositoryDescription:
    """A repository, described."""
    return RepositoryDescription(
        summary.name,
        summary.domain,
        _arn(summary),
        summary.description,
        tuple(UpstreamInfo(name) for name in summary.upstreams),
        tuple(ExternalConnectionInfo(each.name, each.format, "Available") for each in summary.connections),
    )


def listed(summary: RepositorySummary) -> RepositoryEntry:
    """A repository in a list."""
    return RepositoryEntry(summary.name, summary.domain, _arn(summary), summary.description)


def package(summary: PackageSummary) -> PackageEntry:
    """A package in a list."""
    return PackageEntry(summary.format, summary.namespace, summary.name)


def _arn(summary: RepositorySummary) -> str:
    return f"repository/{summary.path}"
