"""``maven-metadata.xml`` at its three levels: read, merged and rendered. What is served is always rendered here.

Rendering is stable: the same versions, builds and plugins give the same bytes, whoever listed them in whatever order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape

from registry.errors import Invalid
from registry.formats.maven.coordinates import check_artifact, check_version, is_snapshot, snapshot_build
from registry.formats.maven.version_order import sort_key
from registry.formats.maven.xml_reader import BadXml, read_texts
from registry.names import PackageKey

LIMIT_BYTES = 8 * 1024 * 1024
_ROOT = ("metadata",)
_VERSIONING = (*_ROOT, "versioning")
_VERSION = (*_VERSIONING, "versions", "version")
_LAST_UPDATED = (*_VERSIONING, "lastUpdated")
_SNAPSHOT = (*_VERSIONING, "snapshot")
_SNAPSHOT_VERSION = (*_VERSIONING, "snapshotVersions", "snapshotVersion")
_PLUGIN = (*_ROOT, "plugins", "plugin")
_WANTED = frozenset(
    {
        _VERSION,
        _LAST_UPDATED,
        (*_VERSIONING, "release"),
        (*_VERSIONING, "latest"),
        _SNAPSHOT,
        (*_SNAPSHOT, "timestamp"),
        (*_SNAPSHOT, "buildNumber"),
        _SNAPSHOT_VERSION,
        *((*_SNAPSHOT_VERSION, name) for name in ("classifier", "extension", "value", "updated")),
        _PLUGIN,
        *((*_PLUGIN, name) for name in ("name", "prefix", "artifactId")),
    }
)


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin of a group: ``mvn prefix:goal`` finds it by its prefix."""

    prefix: str
    artifact: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """What a snapshot's file of one classifier and extension stands for: ``value`` is the build's version."""

    classifier: str
    extension: str
    value: str
    updated: str


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a document says; ``last_updated`` is ``yyyyMMddHHmmss`` or empty. Names that are none are left out."""

    versions: tuple[str, ...] = ()
    last_updated: str = ""
    timestamp: str = ""
    build_number: int = 0
    files: tuple[SnapshotFile, ...] = ()
    plugins: tuple[Plugin, ...] = ()
    named: tuple[str, ...] = field(default=())  # what release and latest name

    def as_extra(self) -> dict[str, Any]:
        """The artifact's part of it, as JSON."""
        return {"versions": list(self.versions), "last_updated": self.last_updated}


def read(body: bytes) -> Metadata:
    """Read a document of any level. Raises BadXml."""
    texts = list(read_texts(body, _WANTED, limit_bytes=LIMIT_BYTES))
    if texts[-1][0] != _ROOT:
        raise BadXml("its root is not <metadata>")
    by_path: dict[tuple[str, ...], list[str]] = {}
    for path, text in texts:
        by_path.setdefault(path, []).append(text)
    timestamp, number = (_only(by_path, (*_SNAPSHOT, name)) for name in ("timestamp", "buildNumber"))
    named = (_only(by_path, (*_VERSIONING, name)) for name in ("release", "latest"))
    return Metadata(
        versions=tuple(dict.fromkeys(text for text in by_path.get(_VERSION, []) if _is_version(text))),
        last_updated=_digits(_only(by_path, _LAST_UPDATED)),
        timestamp=timestamp,
        build_number=int(number) if number.isascii() and number.isdigit() and len(number) < 10 else 0,
        files=tuple(_snapshot_files(texts)),
        plugins=tuple(_plugins(texts)),
        named=tuple(text for text in named if _is_version(text)),
    )


def stamp(moment: datetime) -> str:
    """``yyyyMMddHHmmss`` in UTC, as the documents write it."""
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%S")


def render_artifact(
    key: PackageKey | None, versions: Iterable[str], last_updated: str, plugins: Iterable[Plugin] = ()
) -> bytes:
    """The document of an artifact (None: there is no such artifact) and of the group whose folder it shares."""
    ordered = sorted(set(versions), key=sort_key)
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<metadata>"]
    if key is not None and ordered:
        releases = [version for version in ordered if not is_snapshot(version)]
        lines += [_element(2, "groupId", key.namespace), _element(2, "artifactId", key.name), "  <versioning>"]
        lines += [_element(4, "latest", ordered[-1])]
        lines += [_element(4, "release", releases[-1])] if releases else []
        lines += ["    <versions>", *(_element(6, "version", version) for version in ordered), "    </versions>"]
        lines += [_element(4, "lastUpdated", last_updated)] if last_updated else []
        lines += ["  </versioning>"]
    chosen = sorted({plugin.prefix: plugin for plugin in plugins}.values(), key=lambda plugin: plugin.prefix)
    if chosen:
        lines += ["  <plugins>", *(line for plugin in chosen for line in _plugin_lines(plugin)), "  </plugins>"]
    return ("\n".join([*lines, "</metadata>"]) + "\n").encode()


def render_snapshot(key: PackageKey, version: str, found: Metadata) -> bytes:
    """The document that lists a snapshot's newest build and what each of its files stands for."""
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', '<metadata modelVersion="1.1.0">']
    lines += [_element(2, "groupId", key.namespace), _element(2, "artifactId", key.name)]
    lines += [_element(2, "version", version), "  <versioning>", "    <snapshot>"]
    lines += [_element(6, "timestamp", found.timestamp), _element(6, "buildNumber", str(found.build_number))]
    lines += ["    </snapshot>", _element(4, "lastUpdated", found.last_updated)]
    if found.files:
        lines.append("    <snapshotVersions>")
        for file in sorted(found.files, key=lambda file: (file.classifier, file.extension)):
            lines.append("      <snapshotVersion>")
            lines += [_element(8, "classifier", file.classifier)] if file.classifier else []
            lines += [_element(8, "extension", file.extension), _element(8, "value", file.value)]
            lines += [_element(8, "updated", file.updated), "      </snapshotVersion>"]
        lines.append("    </snapshotVersions>")
    return ("\n".join([*lines, "  </versioning>", "</metadata>"]) + "\n").encode()


def merge_snapshots(documents: Iterable[Metadata]) -> Metadata | None:
    """One list of builds out of several: the newest build, and the newest file of each classifier and extension."""
    known = [document for document in documents if document.timestamp]
    if not known:
        return None
    newest = max(known, key=lambda document: (document.timestamp, document.build_number))
    files: dict[tuple[str, str], SnapshotFile] = {}
    for document in known:
        for file in document.files:
            other = files.get((file.classifier, file.extension))
            if other is None or (file.updated, file.value) > (other.updated, other.value):
                files[file.classifier, file.extension] = file
    updated = max([document.last_updated for document in known] + [newest.timestamp.replace(".", "")])
    return Metadata(
        last_updated=updated,
        timestamp=newest.timestamp,
        build_number=newest.build_number,
        files=tuple(files[place] for place in sorted(files)),
    )


def own_builds(files: Iterable[tuple[str, str, str]]) -> Metadata | None:
    """The list of builds that files make: each is (build's version, classifier, extension). None without any build."""
    documents = []
    for version, classifier, extension in files:
        build = snapshot_build(version)
        if build is not None:
            updated = build.timestamp.replace(".", "")
            file = SnapshotFile(classifier, extension, version, updated)
            documents.append(Metadata((), updated, build.timestamp, build.number, (file,)))
    return merge_snapshots(documents)


def _element(indent: int, name: str, text: str) -> str:
    return f"{' ' * indent}<{name}>{escape(text)}</{name}>"


def _plugin_lines(plugin: Plugin) -> Iterator[str]:
    yield "    <plugin>"
    yield _element(6, "name", plugin.name or plugin.artifact)
    yield _element(6, "prefix", plugin.prefix)
    yield _element(6, "artifactId", plugin.artifact)
    yield "    </plugin>"


def _groups(texts: Iterable[tuple[tuple[str, ...], str]], group: tuple[str, ...]) -> Iterator[Mapping[str, str]]:
    """The texts in each element at ``group``, by their names: the element itself comes behind what is in it."""
    current: dict[str, str] = {}
    for path, text in texts:
        if path == group:
            yield current
            current = {}
        elif path[:-1] == group:
            current[path[-1]] = text


def _snapshot_files(texts: Iterable[tuple[tuple[str, ...], str]]) -> Iterator[SnapshotFile]:
    for entry in _groups(texts, _SNAPSHOT_VERSION):
        value, extension = entry.get("value", ""), entry.get("extension", "")
        if extension and len(extension) < 100 and _is_version(value):
            classifier = entry.get("classifier", "")[:200]
            yield SnapshotFile(classifier, extension, value, _digits(entry.get("updated", "")))


def _plugins(texts: Iterable[tuple[tuple[str, ...], str]]) -> Iterator[Plugin]:
    for entry in _groups(texts, _PLUGIN):
        prefix, artifact = entry.get("prefix", ""), entry.get("artifactId", "")
        try:
            check_artifact(artifact)
        except Invalid:
            continue
        if prefix and len(prefix) < 200:
            yield Plugin(prefix, artifact, entry.get("name", "")[:500])


def _only(by_path: Mapping[tuple[str, ...], list[str]], path: tuple[str, ...]) -> str:
    return by_path.get(path, [""])[0]


def _is_version(text: str) -> bool:
    try:
        check_version(text)
    except Invalid:
        return False
    return True


def _digits(text: str) -> str:
    return text if text.isascii() and text.isdigit() and len(text) <= 20 else ""
