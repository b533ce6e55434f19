"""What a build is made from: the files of a package version, pinned by digest. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

# Sources before what was built from them.
_ARCHIVES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar", ".zip", ".whl")


@dataclass(frozen=True, slots=True)
class SourceAsset:
    """A file of the version; ``sha256`` in hex is what makes it this file and no other of the same name."""

    filename: str
    sha256: str


@dataclass(frozen=True, slots=True)
class PackageSource:
    """A package version (CodeBuild has no such source; CodePipeline would call it a revision)."""

    domain: str
    repository: str
    format: str
    name: str
    version: str
    assets: tuple[SourceAsset, ...]
    namespace: str = ""

    def as_json(self) -> dict[str, Any]:
        """The shape that is stored."""
        return asdict(self) | {"assets": [asdict(asset) for asset in self.assets]}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> PackageSource:
        """Back from ``as_json``. Raises TypeError, KeyError for another shape."""
        assets = tuple(SourceAsset(**asset) for asset in stored["assets"])
        return cls(**{**stored, "assets": assets})


def choose_archive(filenames: Iterable[str]) -> str | None:
    """The one file that is unpacked into the source directory; None when there is no archive among them."""
    names = sorted(filenames)
    for ending in _ARCHIVES:
        for name in names:
            if name.lower().endswith(ending):
                return name
    return None
