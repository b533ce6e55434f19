"""What can be allowed or denied by name: CodeArtifact's actions, those of secrets and parameters, and ours.

Each stands below one of the coarse words that accounts and tokens carry (``read`` … ``admin``): an account's word is a
built-in grant of the actions below it, and a token narrows by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_READ = """
    DescribeDomain DescribePackage DescribePackageGroup DescribePackageVersion DescribeRepository
    GetAssociatedPackageGroup GetPackageVersionAsset GetPackageVersionReadme GetRepositoryEndpoint
    ListAllowedRepositoriesForGroup ListAssociatedPackages ListPackageGroups ListPackageVersionAssets
    ListPackageVersionDependencies ListPackageVersions ListPackages ListRepositoriesInDomain ListSubPackageGroups
    ReadFromRepository
"""
_PUBLISH = """
    DeletePackage DeletePackageVersions DisposePackageVersions PublishPackageVersion PutPackageMetadata
    UpdatePackageVersionsStatus
"""
_ADMIN = """
    AssociateExternalConnection CreateDomain CreatePackageGroup CreateRepository DeleteDomain
    DeleteDomainPermissionsPolicy DeletePackageGroup DeleteRepository DeleteRepositoryPermissionsPolicy
    DisassociateExternalConnection GetDomainPermissionsPolicy GetRepositoryPermissionsPolicy
    PutDomainPermissionsPolicy PutPackageOriginConfiguration PutRepositoryPermissionsPolicy UpdatePackageGroup
    UpdatePackageGroupOriginConfiguration UpdateRepository
"""
_OURS = {
    "entrepot:PollForJobs": "read",
    "entrepot:ReadBuild": "read",
    "entrepot:ReadDeployment": "read",
    "entrepot:ReadPipeline": "read",
    "entrepot:StartBuild": "publish",
    "entrepot:StartPipelineExecution": "publish",
    "entrepot:StopBuild": "publish",
    "entrepot:StopPipelineExecution": "publish",
    "entrepot:CreateDeployment": "promote",
    "entrepot:ApproveAction": "approve",
    "entrepot:Administer": "admin",
    "entrepot:ApplyPipelines": "admin",
    "entrepot:ExplainAccess": "admin",
    "entrepot:ManageAgents": "admin",
    "entrepot:ManageBuildProjects": "admin",
    "entrepot:ManageDeployments": "admin",
    "entrepot:ManageGroups": "admin",
    "entrepot:ManageKeys": "admin",
    "entrepot:ManageQuotas": "admin",
    "entrepot:ManageRoles": "admin",
    "entrepot:ManageUsers": "admin",
    "entrepot:ReadAuditLog": "admin",
    "entrepot:ReopenRelease": "admin",
}

_SECRETS = """
    secretsmanager:DeleteSecret secretsmanager:DescribeSecret secretsmanager:GetSecretValue secretsmanager:ListSecrets
    secretsmanager:PutSecretValue secretsmanager:UpdateSecret
    ssm:DeleteParameter ssm:DescribeParameters ssm:GetParameters ssm:PutParameter
"""

CATALOGUE: Mapping[str, str] = MappingProxyType(
    {
        **{f"codeartifact:{name}": "read" for name in _READ.split()},
        **{f"codeartifact:{name}": "publish" for name in _PUBLISH.split()},
        "codeartifact:CopyPackageVersions": "promote",
        **{f"codeartifact:{name}": "admin" for name in _ADMIN.split()},
        **dict.fromkeys(_SECRETS.split(), "admin"),
        **_OURS,
    }
)
"""Action → the coarse word above it."""

USUAL: Mapping[str, str] = MappingProxyType(
    {
        "read": "codeartifact:ReadFromRepository",
        "publish": "codeartifact:PublishPackageVersion",
        "promote": "codeartifact:CopyPackageVersions",
        "approve": "entrepot:ApproveAction",
        "admin": "entrepot:Administer",
    }
)
"""Coarse word → the action that is meant where a place in the code says no more than the word."""

READING = USUAL["read"].lower()
KINDS_OF_READING = frozenset(
    name.lower() for name, word in CATALOGUE.items() if word == "read" and name.startswith("codeartifact:")
) - {READING}
"""What there is to look at in a repository or package besides its files, in lower case: lists and descriptions."""

POLICY_ACTIONS = frozenset(
    {"entrepot:ExplainAccess"}
    | {
        f"codeartifact:{verb}{of}PermissionsPolicy"
        for verb in ("Get", "Put", "Delete")
        for of in ("Domain", "Repository")
    }
)
"""What finds a mistake in a policy and puts it right again: no statement keeps a server's administrator from it."""

_BY_LOWER = {name.lower(): name for name in CATALOGUE}


def known(name: str) -> str | None:
    """The action as the catalogue spells it (names are compared without regard to case), or None."""
    return _BY_LOWER.get(name.lower())
