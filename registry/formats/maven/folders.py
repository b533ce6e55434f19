"""Folders as pages: what is kept or published here, for people who look around and tools that read such pages.

What lies outside is not listed. The links are as file servers write them, name by name, because that is what Ivy and
Gradle read: the text of each is what it leads to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from urllib.parse import quote

from registry.errors import Invalid, NotFound
from registry.formats.maven import FORMAT, documents, paths
from registry.formats.maven.coordinates import SNAPSHOT
from registry.formats.maven.version_order import sort_key
from registry.http import context
from registry.repos import holdings
from registry.repos.documents import Document, Stamp, make_document
from registry.repos.resolve import OfferedFile
from registry.services import Services

HTML_TYPE = "text/html; charset=utf-8"
_LIST_VERSIONS, _LIST_FILES = "codeartifact:ListPackageVersions", "codeartifact:ListPackageVersionAssets"
_SAFE = "+~!=@"


@dataclass(frozen=True, slots=True)
class Entry:
    """What a folder holds: a file with its size and time, or another folder."""

    size_bytes: int | None = None
    modified: datetime | None = None


def folder_page(services: Services, path: str) -> Document:
    """The page of the folder ``path``, which ends in a slash or is empty. Raises NotFound for one that holds nothing."""
    folders = path.split("/")[:-1]
    entries: dict[str, Entry] = dict.fromkeys(_groups_and_artifacts(services, folders), Entry())
    try:
        place = paths.parse_artifact(folders)
    except Invalid:
        place = None
    admission = context.admission()
    if place is not None and admission.describes(place.key, _LIST_VERSIONS):
        entries |= _versions(_kept(services, place))
    try:
        version = paths.parse_version(path)
    except Invalid:
        version = None
    if version is not None and admission.describes(version.key, _LIST_FILES):
        entries |= _files(_kept(services, version), version.version)
    if not entries and folders:
        raise NotFound("folder", path)
    body = render(f"/{path}", entries, has_parent=bool(folders))
    # Not kept: a file that comes from outside changes the page, and no revision tells of it.
    return make_document(body, HTML_TYPE, Stamp(0, 0), None)


def render(title: str, entries: Mapping[str, Entry], *, has_parent: bool) -> bytes:
    """The page: folders before files, versions in their order; every name is escaped, whoever made it up."""
    heading = f"Index of {escape(title)}"
    lines = ["<!DOCTYPE html>", f'<html lang="en"><head><meta charset="utf-8"><title>{heading}</title></head><body>']
    lines += [f"<h1>{heading}</h1>", "<pre>", *(['<a href="../">../</a>'] if has_parent else [])]
    for name in sorted(entries, key=lambda name: (not name.endswith("/"), sort_key(name.rstrip("/")), name)):
        entry = entries[name]
        about = ""
        if entry.size_bytes is not None and entry.modified is not None:
            about = f"  {entry.modified.astimezone(UTC):%Y-%m-%d %H:%M}  {entry.size_bytes}"
        lines.append(f'<a href="{escape(quote(name, safe=f"/{_SAFE}"))}">{escape(name)}</a>{about}')
    return "\n".join([*lines, "</pre></body></html>", ""]).encode()


def _groups_and_artifacts(services: Services, folders: list[str]) -> Iterable[str]:
    """The next folders of groups below this one, and the artifacts of the group that it is itself."""
    if any("." in folder for folder in folders):
        return
    admission = context.admission()
    ids = [node.id for node in services.resolver.chain(admission)]
    group = ".".join(folders)
    if admission.sees_all:
        with services.db.read() as session:
            held = holdings.namespaces(session, ids, FORMAT.name)
            artifacts = holdings.names(session, ids, FORMAT.name, group) if group else []
    else:
        keys = [key for key, _ in services.resolver.names(admission, FORMAT.name)]
        held = sorted({key.namespace for key in keys})
        artifacts = [key.name for key in keys if key.namespace == group]
    yield from (f"{name}/" for name in artifacts)
    for namespace in held:
        parts = namespace.split(".")
        if len(parts) > len(folders) and parts[: len(folders)] == folders:
            yield f"{parts[len(folders)]}/"


def _kept(services: Services, place: paths.ArtifactPath | paths.VersionPath) -> tuple[OfferedFile, ...]:
    documents.finish_idle(services, place.key)
    return services.resolver.kept(context.admission(), place.key).files


def _versions(files: Iterable[OfferedFile]) -> dict[str, Entry]:
    found = {f"{file.filename.partition('/')[0]}/": Entry() for file in files}
    return {**found, paths.METADATA: Entry()} if found else {}


def _files(files: Iterable[OfferedFile], version: str) -> dict[str, Entry]:
    found = {
        name: Entry(file.size_bytes, file.upload_time)
        for file in files
        for folder, _, name in [file.filename.partition("/")]
        if folder == version
    }
    return {**found, paths.METADATA: Entry()} if found and version.endswith(SNAPSHOT) else found
