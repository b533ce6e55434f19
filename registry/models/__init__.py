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
from registry.models.advisory import Advisory, AdvisoryPackage
from registry.models.audit import AuditCheckpoint, AuditEntry
from registry.models.built import BuiltAsset
from registry.models.event import Event
from registry.models.idempotency import IdempotencyKey
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
from registry.models.package_group import PackageGroup, PackageGroupRepository
from registry.models.policy import AccessState, PolicyPrincipal, ResourcePolicy, RetiredId, RoleGrant
from registry.models.rate import RateUse
from registry.models.repository import (
    ConnectionHealth,
    Domain,
    DomainKey,
    ExternalConnection,
    Repository,
    RepositoryUpstream,
)
from registry.models.sign_in import ExternalIdentity, PendingSignIn, RecoveryCode, Totp
from registry.models.signing import SigningKey
from registry.models.upstream import UpstreamPage

__all__ = [
    "AccessState",
    "Account",
    "AccountGroup",
    "Advisory",
    "AdvisoryPackage",
    "Asset",
    "AuditCheckpoint",
    "AuditEntry",
    "Blob",
    "BuiltAsset",
    "ClientLogin",
    "ConnectionHealth",
    "Domain",
    "DomainKey",
    "Event",
    "ExternalConnection",
    "ExternalIdentity",
    "GroupMember",
    "IdempotencyKey",
    "Package",
    "PackageGroup",
    "PackageGroupRepository",
    "PackageState",
    "PackageTag",
    "PackageVersion",
    "PendingSignIn",
    "PolicyPrincipal",
    "PromisedDigest",
    "RateUse",
    "RecoveryCode",
    "Repository",
    "RepositoryUpstream",
    "ResourcePolicy",
    "RetiredFilename",
    "RetiredId",
    "RoleGrant",
    "SetupLogin",
    "SigningKey",
    "Token",
    "TokenLeak",
    "Totp",
    "UpstreamPage",
    "WebSession",
]
