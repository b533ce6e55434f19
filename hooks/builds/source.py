"""What a build is made from: the files of a package version pinned by digest, and what is fetched beside or instead. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

from hooks.builds.project import SourceSettings

# Sources before what was built from them.
_ARCHIVES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar", ".zip", ".whl")


@dataclass(frozen=True, slots=True)
class SourceAsset:
    """A file of the version; ``sha256`` in hex is what makes it this file and no other of the same name."""

    filename: str
    sha256: str


@dataclass(frozen=True, slots=True)
class PackageSource:
    """A package version (CodeBuild has no such source; CodePipeline would call it a revision), or what stands for one.

    ``domain`` and ``repository`` are where the build belongs: whose rights count, and what its token reads. Without a
    package ``format`` and ``name`` are "", and ``version`` is the source version that was asked for; of what a pipeline's
    source has fetched ``name`` is its location, ``version`` its commit. ``inputs`` are
    fetched as well: the one without an identifier is the primary source, the others are secondary ones. ``outputs`` are the
    artifacts that a pipeline hands on from here.
    """

    domain: str
    repository: str
    format: str
    name: str
    version: str
    assets: tuple[SourceAsset, ...]
    namespace: str = ""
    inputs: tuple[SourceSettings, ...] = ()
    outputs: tuple[str, ...] = ()

    @property
    def is_package(self) -> bool:
        """Whether a package version is what is built."""
        return bool(self.format)

    @property
    def primary(self) -> SourceSettings | None:
        """The primary source where it is no package; None also for a build without a source."""
        return next((each for each in self.inputs if not each.identifier), None)

    @property
    def purl(self) -> str:
        """The package URL of what is built."""
        return package_url(self.format, self.namespace, self.name, self.version)

    @property
    def digest(self) -> str:
        """One SHA-256 (hex) over the package's files."""
        return digest_of({asset.filename: asset.sha256 for asset in self.assets})

    def as_json(self) -> dict[str, Any]:
        """The shape that is stored."""
        return asdict(self) | {
            "assets": [asdict(asset) for asset in self.assets],
            "inputs": [each.as_json() for each in self.inputs],
            "outputs": list(self.outputs),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> PackageSource:
        """Back from ``as_json``. Raises TypeError, KeyError for another shape."""
        assets = tuple(SourceAsset(**asset) for asset in stored["assets"])
        inputs = tuple(SourceSettings.from_json(each) for each in stored.get("inputs", ()))
        outputs = tuple(stored.get("outputs", ()))
        return cls(**{**stored, "assets": assets, "inputs": inputs, "outputs": outputs})


def package_url(format_name: str, namespace: str, name: str, version: str) -> str:
    """The package URL (purl specification); formats are named by their purl types."""
    full_name = f"{namespace}/{name}" if namespace else name
    path = "/".join(quote(part, safe="") for part in full_name.split("/"))
    return f"pkg:{format_name}/{path}@{quote(version, safe='')}"


def digest_of(assets: Mapping[str, str]) -> str:
    """One SHA-256 (hex) over names and digests of all files, in the form that ``sha256sum`` prints."""
    lines = "".join(f"{sha256}  {filename}\n" for filename, sha256 in sorted(assets.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def choose_archive(filenames: Iterable[str]) -> str | None:
    """The one file that is unpacked into the source directory; None when there is no archive among them."""
    names = sorted(filenames)
    for ending in _ARCHIVES:
        for name in names:
            if name.lower().endswith(ending):
                return name
    return None
