"""The documents that list what there is: metadata at its three levels, and the prefixes of groups. All are rendered here.

What a client uploads under these names is never served: it was computed from what that client had read before, and two
of them at once would lose each other's versions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import NamedTuple

from registry.errors import NotFound, UpstreamUnavailable
from registry.format import BadIndex
from registry.formats.maven import FORMAT, archetypes, metadata, paths, prefixes
from registry.formats.maven.coordinates import base_version
from registry.formats.maven.inspection import PLUGIN_PREFIX
from registry.formats.maven.metadata import Metadata, Plugin
from registry.formats.maven.pure import XML_ACCEPT
from registry.formats.maven.xml_reader import BadXml
from registry.http import context
from registry.names import PackageKey, PackageName
from registry.repos import holdings, shelf
from registry.repos.documents import Document, Stamp, make_document
from registry.repos.resolve import OfferedFile
from registry.services import Services

NAME = FORMAT.name
XML_TYPE = "application/xml"
TEXT_TYPE = "text/plain; charset=utf-8"
EVERYTHING = PackageKey(NAME, "", PackageName(""))


class Rendered(NamedTuple):
    """A document's bytes, until when they hold (None: until a row changes), and whether an outage made them old.

    ``revision`` is the name's state that they show, None for the one the request came in under.
    """

    body: bytes
    valid_until: datetime | None
    is_stale: bool
    revision: int | None = None


def document(services: Services, place: paths.MetadataPath | paths.SnapshotPath | paths.ServicePath) -> Document:
    """The document at ``place``, rendered at most once per change. Raises NotFound and UpstreamUnavailable."""
    admission = context.admission()
    if isinstance(place, paths.SnapshotPath):
        return _cached(services, place.key.path, f"metadata of {place.version}", 0, lambda: _snapshot(services, place))
    if isinstance(place, paths.MetadataPath):
        group = PackageKey(NAME, place.group, PackageName(""))
        with services.db.read() as session:
            # Group and artifact share the path, and each has changes of its own.
            revision = shelf.revision(session, admission.domain_id, group) if place.group else 0
        name = place.key.path if place.key is not None else place.group
        return _cached(services, name, "metadata", revision, lambda: _above_versions(services, place))
    if place.name == paths.PREFIXES:
        return _cached(services, "", "prefixes", 0, lambda: _prefixes(services), TEXT_TYPE)
    return _archetypes(services)


def _cached(
    services: Services,
    name: str,
    representation: str,
    revision: int,
    render: Callable[[], Rendered],
    content_type: str = XML_TYPE,
) -> Document:
    admission = context.admission()
    key = (admission.repository_id, NAME, name, representation)

    def stamp(of_name: int) -> Stamp:
        # Both revisions only grow, and so does their sum with each change of either.
        return Stamp(admission.topology_revision, of_name + revision)

    found = services.documents.get(key, stamp(admission.package_revision), services.clock())
    if found is None:
        made = render()
        under = stamp(admission.package_revision if made.revision is None else made.revision)
        found = make_document(made.body, content_type, under, made.valid_until, stale=made.is_stale)
        services.documents.put(key, found)
    return found


def _above_versions(services: Services, place: paths.MetadataPath) -> Rendered:
    key, valid_until, is_stale = place.key, None, False
    versions: set[str] = set()
    updated: list[str] = []
    is_closed = False
    revision: int | None = None
    if key is not None:
        valid_until = finish_idle(services, key)
        is_closed = services.resolver.is_closed(context.admission(), key)
        try:
            offer = services.resolver.offer(context.admission(), key)
        except NotFound:
            pass
        else:
            # A quarantined package offers nothing, and what the outside lists of it does not count either.
            extras = offer.extras if offer.status != shelf.QUARANTINED else ()
            listed = [file for file in offer.files if offer.withheld.lists(file.version)]
            versions = {base_version(file.version) for file in listed}
            updated = [metadata.stamp(file.upload_time) for file in listed if file.upload_time]
            for extra in extras:
                versions.update(version for version in extra["versions"] if offer.withheld.lists(version))
                updated.append(extra["last_updated"])
            valid_until, is_stale = _earlier(valid_until, offer.valid_until), offer.is_stale
            revision = offer.revision
    plugins: list[Plugin] = []
    if place.group:
        plugins, until, stale = _plugins(services, place, asks_outside=not is_closed)
        valid_until, is_stale = _earlier(valid_until, until), is_stale or stale
    if not versions and not plugins:
        raise NotFound("metadata", key.path if key is not None else place.group)
    body = metadata.render_artifact(key, versions, max(updated, default=""), plugins)
    return Rendered(body, valid_until, is_stale, revision)


def _plugins(
    services: Services, place: paths.MetadataPath, *, asks_outside: bool
) -> tuple[list[Plugin], datetime | None, bool]:
    """The plugins of a group. The outside is not asked where the path is that of an artifact of ours."""
    admission = context.admission()
    marked = services.resolver.marked(admission, NAME, place.group, PLUGIN_PREFIX)
    own = [
        Plugin(extra[PLUGIN_PREFIX], name, extra.get("plugin_name", ""))
        for name, extras in marked.extras.items()
        for extra in extras[-1:]
    ]
    if not asks_outside:
        return own, None, False
    path = f"{place.group.replace('.', '/')}/{paths.METADATA}"
    found, valid_until, is_stale = _outside(services, place.key, path)
    theirs = [
        plugin
        for document in found
        for plugin in document.plugins
        if not marked.is_closed(PackageName(plugin.artifact))
    ]
    # The last one of a prefix counts: ours, then those of the first connection that has it.
    return [*reversed(theirs), *own], valid_until, is_stale


def _snapshot(services: Services, place: paths.SnapshotPath) -> Rendered:
    valid_until = finish_idle(services, place.key)
    kept = services.resolver.kept(context.admission(), place.key)
    own = metadata.own_builds(_builds(place, kept.files))
    documents = [own] if own is not None else []
    is_stale = False
    if not kept.is_closed:
        path = f"{paths.artifact_folder(place.key)}/{place.version}/{paths.METADATA}"
        found, until, is_stale = _outside(services, place.key, path)
        documents += found
        valid_until = _earlier(valid_until, until)
    merged = metadata.merge_snapshots(documents)
    if merged is None:
        raise NotFound("metadata", f"{place.key.path} {place.version}")
    return Rendered(metadata.render_snapshot(place.key, place.version, merged), valid_until, is_stale)


def _builds(place: paths.SnapshotPath, files: Iterable[OfferedFile]) -> Iterable[tuple[str, str, str]]:
    folder = paths.artifact_folder(place.key)
    for file in files:
        if file.filename.startswith(f"{place.version}/"):
            parsed = paths.parse(f"{folder}/{file.filename}")
            if isinstance(parsed, paths.FilePath):
                yield parsed.version, parsed.classifier, parsed.extension


def _outside(services: Services, key: PackageKey | None, path: str) -> tuple[list[Metadata], datetime | None, bool]:
    """What the external connections have at ``path``: the documents, until when they hold, whether one is old."""

    def check(body: bytes) -> None:
        try:
            metadata.read(body)
        except BadXml as error:
            raise BadIndex(str(error)) from error

    found = services.resolver.outside(context.admission(), NAME, key, path, accept=XML_ACCEPT, check=check)
    valid_until = min((each.valid_until for each in found), default=None)
    read = [metadata.read(each.body) for each in found if each.body is not None]
    return read, valid_until, any(each.is_stale for each in found)


def _prefixes(services: Services) -> Rendered:
    """The groups that can be had here. None is left out, or there is no document: a client believes it strictly."""
    admission = context.admission()
    lines = prefixes.own_prefixes(key.namespace for key, _ in services.resolver.names(admission, NAME))
    try:
        found = services.resolver.outside(
            admission, NAME, None, paths.PREFIXES, accept="text/plain, */*;q=0.1", check=_check_prefixes
        )
    except UpstreamUnavailable as error:
        raise NotFound("document", paths.PREFIXES) from error
    for each in found:
        theirs = prefixes.read_prefixes(each.body) if each.body is not None else None
        if theirs is None:
            raise NotFound("document", paths.PREFIXES)  # what that connection has is not known
        lines |= theirs
    if not lines:
        raise NotFound("document", paths.PREFIXES)
    valid_until = min((each.valid_until for each in found), default=None)
    return Rendered(prefixes.render_prefixes(lines), valid_until, any(each.is_stale for each in found))


def _archetypes(services: Services) -> Document:
    """What can be begun with: the archetypes published here. A catalogue without any is one, too.

    It tells of versions and descriptions, so that it has those only that the caller may look into.
    """
    admission = context.admission()
    ids = [node.id for node in services.resolver.chain(admission)]
    with services.db.read() as session:
        found = holdings.versions_with(session, ids, NAME, "packaging", "maven-archetype")
    told = [each for each in found if admission.describes(PackageKey(NAME, each.namespace, PackageName(each.name)))]
    stamp = Stamp(admission.topology_revision, admission.package_revision)
    return make_document(archetypes.render(told), XML_TYPE, stamp, None)


def _check_prefixes(body: bytes) -> None:
    prefixes.read_prefixes(body)


def finish_idle(services: Services, key: PackageKey) -> datetime | None:
    """Publish what has come to rest, so that a server without a worker does; gives when to look again."""
    chain = services.resolver.chain(context.admission())
    return services.idle.finish([node.id for node in chain], key)


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    return min((moment for moment in (one, other) if moment is not None), default=None)
