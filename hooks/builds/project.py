"""What a build project says about its sources, and how a buildspec is told from the name of one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from hooks.builds.git_address import address_fault, version_fault

MAX_SECONDARY_SOURCES = 12
MAX_DEPTH = 1_000_000
ON_LIMIT = ("queue", "reject")
QUEUED_TIMEOUT_MINUTES = 480
MAX_AUTO_RETRIES = 10


class SourceType(StrEnum):
    """Where a source comes from. PACKAGE: the package version that a build is started for.

    ARTIFACT: what another build left, handed on by a pipeline. REVISION: what a pipeline's source has fetched. No project
    can say either.
    """

    PACKAGE = "PACKAGE"
    GIT = "GIT"
    UPLOAD = "UPLOAD"
    NO_SOURCE = "NO_SOURCE"
    ARTIFACT = "ARTIFACT"
    REVISION = "REVISION"


HANDED_ON = frozenset({SourceType.ARTIFACT, SourceType.REVISION})
"""Sources that a pipeline hands to its builds."""
STORED = HANDED_ON | {SourceType.UPLOAD}
"""Sources whose bytes lie in the server's store; their versions are SHA-256 digests."""


SPELLINGS: Mapping[str, SourceType] = {
    **{kind.value: kind for kind in SourceType if kind not in HANDED_ON},
    "CODEPIPELINE": SourceType.PACKAGE,
    **dict.fromkeys(
        ("GITHUB", "GITHUB_ENTERPRISE", "GITLAB", "GITLAB_SELF_MANAGED", "BITBUCKET", "CODECOMMIT"), SourceType.GIT
    ),
}
"""CodeBuild's types of sources, and our own, by how they are carried out here."""


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """One source of a project. ``identifier`` is "" for the primary one.

    ``location`` is a git URL. ``version`` is a branch, tag or commit ("" is what the repository's HEAD names), ``depth``
    how many commits of history come along (0: all), ``submodules`` whether they are fetched too.
    """

    type: SourceType = SourceType.PACKAGE
    location: str = ""
    version: str = ""
    depth: int = 1
    submodules: bool = False
    identifier: str = ""

    def as_json(self) -> dict[str, Any]:
        """The shape that is stored."""
        return asdict(self) | {"type": self.type.value}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> SourceSettings:
        """Back from ``as_json``. Raises TypeError, ValueError for another shape."""
        return cls(**{**stored, "type": SourceType(stored["type"])})


def source_faults(source: SourceSettings, where: str) -> list[str]:
    """What keeps a source from ever being fetched; ``where`` names it."""
    if source.type is not SourceType.GIT:
        unused = [name for name in ("location", "version") if getattr(source, name)]
        return [f"{where}: {source.type} has no {name}" for name in unused]
    faults = [address_fault(source.location), version_fault(source.version) if source.version else ""]
    return [f"{where}: {fault}" for fault in faults if fault]


def is_inline(buildspec: str) -> bool:
    """Whether it is a buildspec's text; else it is the path of one in the source (CodeBuild takes either)."""
    return "\n" in buildspec or ": " in buildspec or buildspec.lstrip().startswith("{")


def path_fault(path: str) -> str:
    """What is wrong with the path of a buildspec; empty if nothing is."""
    parts = path.split("/")
    if not path or len(path) > 500 or path.startswith("/") or ".." in parts or not path.isprintable():
        return f"buildspec {path[:100]!r} is neither the text of one nor a path within the source"
    if path.startswith("arn:"):
        return "buildspec: no buildspec is fetched from S3; write its text or a path within the source"
    return ""
