"""The registry's tables. Relations are foreign keys; nothing is loaded by attribute access."""

from registry.models.account import (
    Account,
    AccountGroup,
    ClientLogin,
    GroupMember,
    SetupLogin,
    Token,
    TokenLeak,
    WebSession,
)
from registry.models.audit import AuditEntry
from registry.models.event import Event
from registry.models.package import (
    Asset,
    Blob,
    Package,
    PackageState,
    PackageTag,
    PackageVersion,
    PromisedDigest,
    RetiredFilename,
)
from registry.models.repository import (
    ConnectionHealth,
    Domain,
    DomainKey,
    ExternalConnection,
    Repository,
    RepositoryUpstream,
)
from registry.models.signing import SigningKey
from registry.models.upstream import UpstreamPage

__all__ = [
    "Account",
    "AccountGroup",
    "Asset",
    "AuditEntry",
    "Blob",
    "ClientLogin",
    "ConnectionHealth",
    "Domain",
    "DomainKey",
    "Event",
    "ExternalConnection",
    "GroupMember",
    "Package",
    "PackageState",
    "PackageTag",
    "PackageVersion",
    "PromisedDigest",
    "Repository",
    "RepositoryUpstream",
    "RetiredFilename",
    "SetupLogin",
    "SigningKey",
    "Token",
    "TokenLeak",
    "UpstreamPage",
    "WebSession",
]
