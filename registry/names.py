"""Names of the registry's own things, checked once at the rim; a value of these types has passed its check."""

from __future__ import annotations

import re
from typing import NamedTuple, NewType

from registry.errors import Invalid

DomainName = NewType("DomainName", str)
RepositoryName = NewType("RepositoryName", str)
AccountName = NewType("AccountName", str)
GroupName = NewType("GroupName", str)
PackageName = NewType("PackageName", str)  # canonical, as the format's ``key`` gives it


class PackageKey(NamedTuple):
    """Which package, in canonical form, wherever it is held. ``namespace`` is empty where the format has none."""

    format: str
    namespace: str
    name: PackageName

    @property
    def path(self) -> str:
        """The name behind its namespace (``namespace/name``): how patterns, pages and audit entries write it."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


# CodeArtifact's rules: a lower-case letter or digit first; ``\Z`` because ``$`` would allow a trailing newline.
_DOMAIN = re.compile(r"[a-z][a-z0-9-]{0,48}[a-z0-9]\Z")
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,99}\Z")
_ACCOUNT = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")
_ENTITY = re.compile(r"[A-Za-z0-9.@_-]{1,100}\Z")


def domain_name(text: str) -> DomainName:
    """Check a domain's name. Raises Invalid."""
    if not _DOMAIN.match(text):
        raise Invalid(f"domain name {text!r}: 2 to 50 of a-z, 0-9 and '-', a letter first, no '-' last")
    return DomainName(text)


def repository_name(text: str) -> RepositoryName:
    """Check a repository's name. Raises Invalid."""
    if not _REPOSITORY.match(text):
        raise Invalid(
            f"repository name {text!r}: 2 to 100 of letters, digits, '.', '_' and '-', a letter or digit first"
        )
    return RepositoryName(text)


def group_name(text: str) -> GroupName:
    """Check a group's name (the rule of accounts). Raises Invalid."""
    if not _ACCOUNT.match(text):
        raise Invalid(f"group name {text!r}: 1 to 63 of a-z, 0-9, '.', '_' and '-', a letter or digit first")
    return GroupName(text)


def connection_name(text: str) -> str:
    """Check an external connection's name (the rule of repositories). Raises Invalid."""
    if not _REPOSITORY.match(text):
        raise Invalid(
            f"connection name {text!r}: 2 to 100 of letters, digits, '.', '_' and '-', a letter or digit first"
        )
    return text


def account_name(text: str) -> AccountName:
    """Check a user's name. Raises Invalid."""
    if not _ACCOUNT.match(text):
        raise Invalid(f"user name {text!r}: 1 to 63 of a-z, 0-9, '.', '_' and '-', a letter or digit first")
    return AccountName(text)


def entity_name(kind: str, text: str) -> str:
    """Check the name of a pipeline, stage, action or build project (CodePipeline's rule). Raises Invalid."""
    if not _ENTITY.match(text):
        raise Invalid(f"{kind} name {text!r}: 1 to 100 of letters, digits, '.', '@', '_' and '-'")
    return text
