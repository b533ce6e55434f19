"""PUT and DELETE. A version's files come one by one, and the client's metadata, sent last, says that they are all there.

Until then the version is Unfinished. The metadata itself is read for the names in it and dropped: what is served is
rendered from what is here (``documents``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flask import Response, request
from sqlalchemy.orm import Session

from registry.access import Action
from registry.errors import Conflict, FileExists, Invalid, NotFound
from registry.formats.maven import FORMAT, metadata, paths
from registry.formats.maven.checksums import promised_in, read_checksum
from registry.formats.maven.coordinates import base_version
from registry.formats.maven.inspection import inspect
from registry.formats.maven.xml_reader import BadXml
from registry.http import auth, context
from registry.http.responses import REVISION_HEADER
from registry.http.upload import BUFFER_BYTES, CountedBody, counted_body
from registry.models import PackageVersion
from registry.names import PackageKey
from registry.repos import freezing, promises, shelf, withdraw
from registry.repos.promises import Outcome
from registry.services import Services
from storage.blobs import KIB, BlobHandle
from storage.errors import DigestMismatch
from storage.intake import Intake, Received
from storage.reader import open_file

NAME = FORMAT.name
CHECKSUM_LIMIT_BYTES = 4 * KIB


@dataclass(frozen=True, slots=True)
class _Here:
    """What the repository knows under a file's name before it comes: the digests of one that is here, and promises."""

    digests: Mapping[str, str] | None
    promised: Mapping[str, str]


def deploy(services: Services, path: str) -> Response:
    """Take in what is sent for ``path``. Raises what the registry refuses; nothing is kept then."""
    place = paths.parse(path)
    if request.headers.get("Content-Encoding", "identity").lower() != "identity" or "Content-Range" in request.headers:
        raise Invalid("send the file whole and as it is: neither Content-Encoding nor Content-Range is taken")
    if isinstance(place, paths.FilePath):
        return _checksum(services, place) if place.checksum else _file(services, place)
    if isinstance(place, paths.ServicePath):
        raise Invalid(f"{place.name} is made by the server and cannot be sent")
    if place.checksum:
        # Of the client's document; what is served is another one, with checksums of its own.
        _read_small(CHECKSUM_LIMIT_BYTES)
    else:
        _metadata(services, place)
    return _created(f"{path} is taken as a sign, and rendered anew for each reader")


def delete(services: Services, path: str) -> Response:
    """Take out the version whose folder ``path`` is; of a snapshot all builds, or the one that is named.

    The names of the files never come back with other bytes.
    """
    place = paths.parse_version(path)
    admission, now = context.admission(), services.clock()

    def unit(session: Session) -> int:
        rows = [
            row
            for row in withdraw.versions(session, admission.repository_id, place.key)
            if place.version in (row.version, base_version(row.version))
        ]
        for row in rows:
            withdraw.delete_version(session, admission, place.key, row.version, now)
        return len(rows)

    if not shelf.settle(services.db, unit):
        raise NotFound("version", f"{place.key.path} {place.version}")
    return Response(status=204)


def _file(services: Services, place: paths.FilePath) -> Response:
    here = _look(services, place)
    promised = {**here.promised, **promised_in(dict(request.headers))}
    if here.digests is not None:
        return _again(services, place, here.digests, promised)
    received = _receive(services, promised)
    store = services.stores.of(context.admission().domain_id)
    try:
        with open_file(store, received.handle) as body:
            release = inspect(place, body)
    except BaseException:
        store.delete(received.handle.locator)
        raise
    hashes = {name: value for name, value in received.digests.items() if name != "sha256"}
    try:
        published = services.publisher.publish(
            context.admission(), auth.credential_sent(), NAME, release, received.handle, hashes, is_finished=False
        )
    except FileExists as error:
        raise Conflict(str(error)) from error
    return _created(f"{place.filename} is here", published.revision)


def _look(services: Services, place: paths.FilePath) -> _Here:
    """Raises Denied when it is certain already that the file cannot be published."""
    admission = context.admission()
    with services.db.read() as session:
        promised = promises.promised(session, admission.repository_id, place.key, place.filename)
        package = services.publisher.check_may_publish(session, admission, place.key)
        if package is None:
            return _Here(None, promised)
        asset = shelf.find_asset(session, package.id, place.filename)
        if asset is None:
            return _Here(None, promised)
        freezing.check_state(session.get_one(PackageVersion, asset.version_id), admission.path)
        return _Here({**asset.hashes, "sha256": asset.sha256}, promised)


def _again(
    services: Services, place: paths.FilePath, digests: Mapping[str, str], promised: Mapping[str, str]
) -> Response:
    """A file of that name is here: the same bytes are fine (a deployment that is repeated), others never are.

    What the client promises of other bytes is refused unread; else they are read and compared, and not stored.
    """
    is_same = all(digests.get(name, digest) == digest for name, digest in promised.items())
    if is_same and not (_is_checksum_deploy() and promised):
        body = counted_body(services.limits.upload_bytes)
        is_same = _sha256(body) == digests["sha256"]
    if not is_same:
        raise Conflict(f"{place.filename} is here already with other content, and what is published never changes")
    return _created(f"{place.filename} is here already")


def _sha256(body: CountedBody) -> str:
    running = hashlib.sha256()
    _pump(body, running.update)
    return running.hexdigest()


def _receive(services: Services, promised: Mapping[str, str]) -> Received:
    limit_bytes = services.limits.upload_bytes
    with Intake(services.stores.of(context.admission().domain_id), limit_bytes, algorithms=FORMAT.digests) as intake:
        if _is_checksum_deploy():
            _copy_known(services, promised, intake)
        else:
            _pump(counted_body(limit_bytes), intake.write)
        try:
            return intake.finish(expected=promised)
        except DigestMismatch as error:
            raise Invalid(f"the file is not what its checksum promised: {error}") from error


def _pump(body: CountedBody, write: Callable[[bytes], object]) -> None:
    while piece := body.read(BUFFER_BYTES):
        write(piece)
    body.check_complete()


def _is_checksum_deploy() -> bool:
    return request.headers.get("X-Checksum-Deploy", "").lower() == "true"


def _copy_known(services: Services, promised: Mapping[str, str], intake: Intake) -> None:
    """Fill in the bytes of a file that is named by its SHA-256 alone. Raises NotFound: then the client sends them.

    Only bytes in a repository that the caller may read: knowing a digest is no right to the file.
    """
    admission, who = context.admission(), context.identity()

    def may_read(repository: str) -> bool:
        return who is not None and who.may(Action.READ, f"{admission.domain}/{repository}")

    handle: BlobHandle | None = None
    if digest := promised.get("sha256"):
        with services.db.read() as session:
            handle = shelf.find_readable_blob(session, admission.domain_id, digest, may_read)
    if handle is None:
        raise NotFound("file of that checksum", promised.get("sha256", "without SHA-256"))
    for piece in services.stores.of(admission.domain_id).open(handle):
        intake.write(piece)


def _checksum(services: Services, place: paths.FilePath) -> Response:
    algorithm = place.checksum or ""
    digest = read_checksum(_read_small(CHECKSUM_LIMIT_BYTES), algorithm)
    admission, now = context.admission(), services.clock()

    def unit(session: Session) -> Outcome:
        return promises.promise(session, admission, place.key, place.version, place.filename, algorithm, digest, now)

    if not _is_fulfilled(services, place, algorithm, digest):
        outcome = shelf.settle(services.db, unit)
        if outcome is Outcome.REMOVED:
            raise Invalid(f"{place.filename} has another {algorithm} checksum and is removed; send the file again")
        if outcome is Outcome.DIFFERENT:
            raise Invalid(f"{place.filename} has another {algorithm} checksum")
    return _created(f"the {algorithm} checksum of {place.filename} is noted")


def _is_fulfilled(services: Services, place: paths.FilePath, algorithm: str, digest: str) -> bool:
    """Whether the file is here and is the one, and nothing was promised of it: the usual case needs no writing."""
    here = _look(services, place)
    return here.digests is not None and here.digests.get(algorithm) == digest and not here.promised


def _metadata(services: Services, place: paths.MetadataPath | paths.SnapshotPath) -> None:
    """Finish the versions that a client's metadata names, if they are here and Unfinished. Raises Invalid, Conflict."""
    try:
        found = metadata.read(_read_small(metadata.LIMIT_BYTES))
    except BadXml as error:
        raise Invalid(f"{paths.METADATA} cannot be read: {error}") from error
    if place.key is None:
        return
    if isinstance(place, paths.SnapshotPath):
        base = place.version.removesuffix("-SNAPSHOT")
        names = {file.value for file in found.files}
        if found.timestamp:
            names.add(f"{base}-{found.timestamp}-{found.build_number}")
    else:
        # The builds of a snapshot wait for the snapshot's own list, which names the build that is meant.
        names = {*found.versions, *found.named}
    _finish(services, place.key, names)


def _finish(services: Services, key: PackageKey, names: set[str]) -> None:
    admission = context.admission()
    with services.db.read() as session:
        waiting = [
            row.version
            for row in withdraw.versions(session, admission.repository_id, key)
            if row.status == shelf.UNFINISHED and row.version in names
        ]
    for version in waiting:
        services.publisher.finish(admission, key, version)


def _read_small(limit_bytes: int) -> bytes:
    pieces: list[bytes] = []
    _pump(counted_body(limit_bytes), pieces.append)
    return b"".join(pieces)


def _created(message: str, revision: str | None = None) -> Response:
    headers = {REVISION_HEADER: revision} if revision is not None else {}
    return Response(f"{message}\n", 201, headers=headers, content_type="text/plain; charset=utf-8")
