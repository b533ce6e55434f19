"""The files a build is given: a package's, and what is fetched beside or instead of them, in the shape executors take."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from hooks.builds.executor import Interrupt, Refused, SourceBundle, SourceFile
from hooks.builds.git_fetch import BrokenOff, Fetched
from hooks.builds.local_caches import SourceCache
from hooks.builds.project import HANDED_ON, STORED, SourceSettings, SourceType
from hooks.builds.source import PackageSource, choose_archive

OpenAsset = Callable[[PackageSource, str], BinaryIO]
FetchInput = Callable[[int, PackageSource, SourceSettings, Interrupt, SourceCache | None], Fetched]
"""(project id, the build's source, the input, interrupt, what git fetched before): its archive.

Raises Refused, ExecutorError.
"""


def fetches_nothing(
    _project: int,
    _source: PackageSource,
    wanted: SourceSettings,
    _interrupt: Interrupt,
    _cache: SourceCache | None = None,
) -> Fetched:
    """For a worker that has no way to fetch anything."""
    raise Refused(f"this worker fetches no {wanted.type} sources")


@dataclass(slots=True)
class Inputs:
    """The inputs of one attempt at a build. ``on_resolved`` is told an identifier and its commit, once it is known.

    ``cache`` has what git fetched for builds before.
    """

    project_id: int
    source: PackageSource
    fetch: FetchInput
    interrupt: Interrupt
    on_resolved: Callable[[str, str], None]
    cache: SourceCache | None = None
    _commits: dict[str, str] = field(default_factory=dict)

    def bundle(self, open_asset: OpenAsset) -> SourceBundle:
        """All files. Nothing is fetched before it is opened."""
        source = self.source
        files = [
            SourceFile(_plain(asset.filename), _opener(open_asset, source, asset.filename)) for asset in source.assets
        ]
        package = choose_archive(file.name for file in files)
        archives: dict[str, str] = {}
        for wanted in source.inputs:
            if wanted.type is SourceType.PACKAGE:
                archives |= {wanted.identifier: package} if package else {}
            if wanted.type is SourceType.GIT or wanted.type in STORED:
                archives[wanted.identifier] = name = _name_of(wanted)
                files.append(SourceFile(name, self._opener(wanted)))
        unpack = archives.pop("", None) or package
        as_is = frozenset(each.identifier for each in source.inputs if each.type in HANDED_ON)
        return SourceBundle(tuple(files), unpack, archives, self.facts, as_is)

    def facts(self) -> Mapping[str, str]:
        """CODEBUILD_RESOLVED_SOURCE_VERSION, for each source whose commit is known."""
        return {_named("CODEBUILD_RESOLVED_SOURCE_VERSION", each): commit for each, commit in self._commits.items()}

    def _opener(self, wanted: SourceSettings) -> Callable[[], BinaryIO]:
        def opened() -> BinaryIO:
            try:
                fetched = self.fetch(self.project_id, self.source, wanted, self.interrupt, self.cache)
            except BrokenOff:
                return io.BytesIO()  # the executor asks for the reason next, and ends the build by it
            if fetched.commit:
                self._commits[wanted.identifier] = fetched.commit
                self.on_resolved(wanted.identifier, fetched.commit)
            return fetched.body

        return opened


def source_variables(source: PackageSource) -> dict[str, str]:
    """CODEBUILD_SOURCE_VERSION and CODEBUILD_SOURCE_REPO_URL of all sources, and the package's coordinates."""
    found = {"ENTREPOT_PACKAGE_DOMAIN": source.domain, "ENTREPOT_PACKAGE_REPOSITORY": source.repository}
    if source.is_package:
        found |= {
            "CODEBUILD_SOURCE_VERSION": source.version,
            "CODEBUILD_RESOLVED_SOURCE_VERSION": source.version,
            "ENTREPOT_PACKAGE_FORMAT": source.format,
            "ENTREPOT_PACKAGE_NAMESPACE": source.namespace,
            "ENTREPOT_PACKAGE_NAME": source.name,
            "ENTREPOT_PACKAGE_VERSION": source.version,
        }
    elif source.primary is not None and source.primary.type is SourceType.REVISION:
        found |= {
            "CODEBUILD_SOURCE_VERSION": source.version,
            "CODEBUILD_RESOLVED_SOURCE_VERSION": source.version,
            "CODEBUILD_SOURCE_REPO_URL": source.name,
        }
    for wanted in source.inputs:
        if wanted.version and wanted.type not in HANDED_ON:
            found[_named("CODEBUILD_SOURCE_VERSION", wanted.identifier)] = wanted.version
        if wanted.type is SourceType.GIT:
            found[_named("CODEBUILD_SOURCE_REPO_URL", wanted.identifier)] = wanted.location
    return found


def _named(variable: str, identifier: str) -> str:
    return f"{variable}_{identifier}" if identifier else variable


def _name_of(wanted: SourceSettings) -> str:
    if wanted.type is SourceType.UPLOAD:
        return "source.zip"
    if wanted.type is SourceType.REVISION:
        filename = wanted.location.rpartition("/")[2]
        return f"source-{wanted.identifier}-{filename}" if wanted.identifier else filename
    if wanted.type is SourceType.ARTIFACT:
        return f"artifact-{wanted.identifier}.zip" if wanted.identifier else "artifact.zip"
    return f"source-{wanted.identifier}.tar" if wanted.identifier else "source.tar"


def _plain(filename: str) -> str:
    """A file's own name, where the format has folders: what a build gets of a version lies in one directory."""
    return filename.rpartition("/")[2]


def _opener(open_asset: OpenAsset, source: PackageSource, filename: str) -> Callable[[], BinaryIO]:
    return lambda: open_asset(source, filename)
