"""Paths of a Maven repository, taken apart by the names of their folders.

Versions and artifact ids hold dots and hyphens, so that a file's name alone says little: ``a-1.0-1.jar`` is the
classifier ``1`` of version ``1.0``, or version ``1.0-1``. The folders decide.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from registry.errors import Invalid
from registry.formats.maven.coordinates import SNAPSHOT, check_group, check_version, package_key, snapshot_build
from registry.names import PackageKey

CHECKSUMS = ("md5", "sha1", "sha256", "sha512")
METADATA = "maven-metadata.xml"
PREFIXES = ".meta/prefixes.txt"
ARCHETYPES = "archetype-catalog.xml"

LONGEST_PATH = 1000
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+~!=@-]*\Z")
_TIMESTAMPED = re.compile(r"-(\d{8}\.\d{6}-\d{1,9})(?=[.-])", re.ASCII)
# Endings of several words that are one extension behind a classifier, whose own dots would else be taken for it.
_ENDINGS = re.compile(
    r"\.(?P<extension>(?:tar\.[a-z0-9]{1,4}|cyclonedx\.(?:json|xml)|[^.]+)(?:\.asc|\.sigstore(?:\.json)?)*)\Z"
)


@dataclass(frozen=True, slots=True)
class FilePath:
    """A file of a version. ``filename`` is ``{folder}/{file}``, how the file is kept within its artifact.

    ``version`` is the build's for files of a snapshot with a time in their names, else the folder's name.
    ``checksum`` names the algorithm if the path is that of the file's checksum and not of the file.
    """

    key: PackageKey
    version: str
    filename: str
    classifier: str
    extension: str
    checksum: str | None

    @property
    def folder(self) -> str:
        """The version as the folder is called: that of the snapshot for its builds."""
        return self.filename.partition("/")[0]


@dataclass(frozen=True, slots=True)
class MetadataPath:
    """A ``maven-metadata.xml`` above versions: of the artifact whose folder it is in, and of the group of that name.

    The path does not tell which, and one document may be both. ``key`` is None where no artifact can lie, ``group``
    empty where no group can.
    """

    key: PackageKey | None
    group: str
    checksum: str | None


@dataclass(frozen=True, slots=True)
class SnapshotPath:
    """The ``maven-metadata.xml`` that lists a snapshot's builds. ``version`` ends in ``-SNAPSHOT``."""

    key: PackageKey
    version: str
    checksum: str | None


@dataclass(frozen=True, slots=True)
class ServicePath:
    """A document about the repository as a whole: ``PREFIXES`` or ``ARCHETYPES``."""

    name: str
    checksum: str | None


@dataclass(frozen=True, slots=True)
class VersionPath:
    """A version's folder."""

    key: PackageKey
    version: str


@dataclass(frozen=True, slots=True)
class ArtifactPath:
    """An artifact's folder."""

    key: PackageKey


Place = FilePath | MetadataPath | SnapshotPath | ServicePath


def parse(path: str) -> Place:
    """What lies at ``path``, which is relative to the repository and decoded. Raises Invalid for every other layout."""
    if len(path) > LONGEST_PATH:
        raise Invalid(f"the path is longer than {LONGEST_PATH} characters")
    bare, checksum = _without_checksum(path)
    if bare in (PREFIXES, ARCHETYPES):
        return ServicePath(bare, checksum)
    *folders, name = bare.split("/")
    if name == METADATA:
        return _metadata(folders, checksum)
    if len(folders) < 3:
        raise Invalid(f"{_shown(path)} is no path of a file: group/artifact/version/artifact-version.extension")
    *group, artifact, version = folders
    return _file(_key(group, artifact), version, name, checksum)


def parse_version(path: str) -> VersionPath:
    """The version whose folder ``path`` is, with or without a slash at its end. Raises Invalid."""
    folders = path.removesuffix("/").split("/")
    if len(folders) < 3:
        raise Invalid(f"{_shown(path)} is no version's folder: group/artifact/version/")
    *group, artifact, version = folders
    check_version(version)
    return VersionPath(_key(group, artifact), version)


def parse_artifact(folders: list[str]) -> ArtifactPath:
    """The artifact whose folder is the last of ``folders``. Raises Invalid."""
    if len(folders) < 2:
        raise Invalid("an artifact's folder lies in one of its group")
    return ArtifactPath(_key(folders[:-1], folders[-1]))


def artifact_folder(key: PackageKey) -> str:
    """Where an artifact's versions are, without a slash at the end."""
    return f"{key.namespace.replace('.', '/')}/{key.name}"


def _without_checksum(path: str) -> tuple[str, str | None]:
    for algorithm in CHECKSUMS:
        if path.endswith(f".{algorithm}"):
            return path[: -len(algorithm) - 1], algorithm
    return path, None


def _metadata(folders: list[str], checksum: str | None) -> MetadataPath | SnapshotPath:
    if not folders:
        raise Invalid(f"{METADATA} belongs to a group or an artifact, not to the repository")
    if len(folders) >= 3 and folders[-1].endswith(SNAPSHOT):
        *group, artifact, version = folders
        check_version(version)
        return SnapshotPath(_key(group, artifact), version, checksum)
    # An artifact id may hold dots, a folder of a group may not: then it is no group's document.
    key = _key(folders[:-1], folders[-1]) if len(folders) >= 2 else None
    group_id = "" if "." in folders[-1] else _group_id(folders)
    if key is None and not group_id:
        raise Invalid(f"{_shown(folders[0])} is no folder of a group")
    return MetadataPath(key, group_id, checksum)


def _key(group: list[str], artifact: str) -> PackageKey:
    return package_key(_group_id(group), artifact)


def _group_id(folders: list[str]) -> str:
    # Else com.acme/demo would be a second address of com/acme/demo.
    if any("." in folder for folder in folders):
        raise Invalid("a group is a folder for each of its parts: com/acme, not com.acme")
    group = ".".join(folders)
    check_group(group)
    return group


def _file(key: PackageKey, folder: str, name: str, checksum: str | None) -> FilePath:
    check_version(folder)
    if snapshot_build(folder) is not None:
        raise Invalid(f"the builds of a snapshot lie in the snapshot's folder, not in {folder}/")
    prefix = f"{key.name}-"
    if not name.startswith(prefix) or not _FILE.match(name):
        raise Invalid(
            f"file {_shown(name)} of {key.name} must be called {prefix}{folder}... with ASCII letters and digits"
        )
    rest, version = name[len(prefix) - 1 :], folder
    timestamped = _timestamped(rest, folder)
    if timestamped is not None:
        version, rest = timestamped
    elif rest.startswith(f"-{folder}"):
        rest = rest[len(folder) + 1 :]
    else:
        raise Invalid(
            f"file {_shown(name)} is in the folder of version {folder} and must be called {prefix}{folder}..."
        )
    classifier, extension = _classifier_and_extension(name, rest)
    if extension.rpartition(".")[2] in CHECKSUMS:
        raise Invalid(f"file {_shown(name)} is a checksum; there are none of checksums")
    return FilePath(key, version, f"{folder}/{name}", classifier, extension, checksum)


def _timestamped(rest: str, folder: str) -> tuple[str, str] | None:
    """The build and what follows it, for a file with a time in its name in a snapshot's folder."""
    base = folder.removesuffix(SNAPSHOT)
    if base == folder or not rest.startswith(f"-{base}-"):
        return None
    found = _TIMESTAMPED.match(rest, len(base) + 1)
    return None if found is None else (f"{base}-{found[1]}", rest[found.end() :])


def _classifier_and_extension(name: str, rest: str) -> tuple[str, str]:
    if rest.startswith(".") and len(rest) > 1:
        return "", rest[1:]
    found = _ENDINGS.search(rest)
    classifier = rest[1 : found.start()] if found is not None else ""
    if not rest.startswith("-") or found is None or not classifier:
        raise Invalid(f"file {_shown(name)} has no extension, or something else than a classifier behind its version")
    return classifier, found["extension"]


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 120 else text[:120] + "...")
