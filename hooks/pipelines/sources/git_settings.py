"""What a git source action says: CodePipeline's keys of CodeStarSourceConnection and CodeCommit, and our own. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from hooks.builds.git_address import address_fault, version_fault
from hooks.pipelines.provider import Setting
from registry.errors import Invalid
from registry.names import domain_name, repository_name

CODECOMMIT = "codecommit"
"""The connection that CodeCommit's actions use: they name a repository alone."""
CLONE_REF = "CODEBUILD_CLONE_REF"
DEFAULT_DOMAIN = "default"
_CONNECTION = re.compile(r"[A-Za-z0-9._-]{1,100}\Z")
_ARN = re.compile(r"arn:[A-Za-z0-9:_-]+:connection/([A-Za-z0-9._-]{1,100})\Z")
_FULL_NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_.][A-Za-z0-9_.-]*)*\Z")


@dataclass(frozen=True, slots=True)
class GitSettings:
    """A git source. ``connection`` "" : ``url`` says all. ``depth`` 0 is the whole history, and brings ``.git`` along.

    ``repository`` "": that of the connection. ``detects`` and ``polls``: whether pushes that are told start the pipeline,
    and whether the server asks for them itself.
    """

    url: str
    connection: str
    full_name: str
    branch: str
    with_history: bool
    submodules: bool
    domain: str
    repository: str
    detects: bool
    polls: bool


def settings_of(configuration: Mapping[str, str]) -> GitSettings:
    """Read a configuration that was checked."""
    full_name = configuration.get("FullRepositoryId") or configuration.get("RepositoryName") or ""
    connection = configuration.get("Connection") or connection_name(configuration.get("ConnectionArn", ""))
    if "RepositoryName" in configuration:
        connection = CODECOMMIT
    url = configuration.get("Url", "")
    return GitSettings(
        url=url,
        connection=connection,
        full_name=full_name or name_in(url),
        branch=configuration["BranchName"],
        with_history=_is_true(configuration.get("FullClone")) or configuration.get("OutputArtifactFormat") == CLONE_REF,
        submodules=_is_true(configuration.get("FetchSubmodules")),
        domain=configuration.get("Domain", DEFAULT_DOMAIN),
        repository=configuration.get("Repository", ""),
        detects=not _is_false(configuration.get("DetectChanges")),
        # CodeCommit's is on where nothing is said (its action reference).
        polls=_is_true(configuration.get("PollForSourceChanges", str("RepositoryName" in configuration))),
    )


def connection_name(text: str) -> str:
    """A connection by its name, or by the end of an ARN; "" for anything else."""
    found = _ARN.match(text)
    return found[1] if found else text if _CONNECTION.match(text) else ""


def name_in(url: str) -> str:
    """A repository's full name (``team/app``) by its address."""
    path = url.partition("://")[2].partition("/")[2] if "://" in url else url.partition(":")[2]
    return path.strip("/").removesuffix(".git")


def faults_of(configuration: Mapping[str, str]) -> list[tuple[str, str]]:
    """(setting, what is wrong) between the settings of a git source of ours."""
    has_url, has_name = bool(configuration.get("Url")), bool(configuration.get("FullRepositoryId"))
    if has_url == has_name:
        return [("Url", "either Url, or Connection with FullRepositoryId, says which repository it is")]
    if has_name and not configuration.get("Connection"):
        return [("FullRepositoryId", "a repository's name needs the Connection below which it is")]
    if not configuration.get("Repository") and not configuration.get("Connection"):
        return [("Repository", "Repository is missing: the repository whose readers may see what comes from there")]
    return []


def _is_true(value: str | None) -> bool:
    return (value or "").lower() == "true"


def _is_false(value: str | None) -> bool:
    return (value or "").lower() == "false"


def _boolean(value: str) -> str | None:
    return None if value.lower() in {"true", "false"} else "neither true nor false"


def _url(value: str) -> str | None:
    return address_fault(value) or None


def _branch(value: str) -> str | None:
    if value.startswith("refs/") or "^{" in value:
        return f"{value!r}: write the branch's name alone"
    return version_fault(value) or None


def _connection(value: str) -> str | None:
    return None if connection_name(value) else f"{value[:100]!r} is no name of a connection, and no ARN of one"


def _full_name(value: str) -> str | None:
    if _FULL_NAME.match(value) and ".." not in value.split("/") and len(value) <= 255:
        return None
    return f"{value[:100]!r} is no repository's name below a connection"


def _format(value: str) -> str | None:
    return None if value in {"CODE_ZIP", CLONE_REF} else f"{value[:50]!r} is neither CODE_ZIP nor {CLONE_REF}"


def _domain(value: str) -> str | None:
    try:
        domain_name(value)
    except Invalid as error:
        return error.rule
    return None


def _repository(value: str) -> str | None:
    try:
        repository_name(value)
    except Invalid as error:
        return error.rule
    return None


PLACE = (Setting("Domain", check=_domain), Setting("Repository", check=_repository))
"""Whose readers may see what comes from a source: a repository's, of a domain."""
_COMMON = (
    Setting("BranchName", is_required=True, check=_branch),
    Setting("OutputArtifactFormat", check=_format),
    Setting("PollForSourceChanges", check=_boolean),
    *PLACE,
)
OWN = (
    Setting("Url", check=_url),
    Setting("Connection", check=_connection),
    Setting("FullRepositoryId", check=_full_name),
    Setting("FullClone", check=_boolean),
    Setting("FetchSubmodules", check=_boolean),
    Setting("DetectChanges", check=_boolean),
    *_COMMON,
)
CODESTAR = (
    Setting("ConnectionArn", is_required=True, check=_connection),
    Setting("FullRepositoryId", is_required=True, check=_full_name),
    Setting("DetectChanges", check=_boolean),
    *_COMMON,
)
CODECOMMIT_KEYS = (Setting("RepositoryName", is_required=True, check=_full_name), *_COMMON)
