"""Publishing, and changing what is published: deprecation, withdrawal, tags.

Each has the right of its own that CodeArtifact names; where an address takes several, the body tells which is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flask import Response
from sqlalchemy.orm import Session

from registry.errors import Conflict, Denied, FileExists, Invalid, NameUsed, NotFound
from registry.format import Release
from registry.formats.npm import integrity, manifest, names, publication, publish_body
from registry.formats.npm.archive import inspect
from registry.formats.npm.bodies import answer, notice, read_json, read_object
from registry.formats.npm.elsewhere import OWNERS, STARS
from registry.formats.npm.offers import packument_of
from registry.formats.npm.packument import Packument
from registry.formats.npm.publication import Publication, revision_text
from registry.http import auth, context
from registry.http.responses import REVISION_HEADER
from registry.http.upload import counted_body
from registry.models import Asset
from registry.names import PackageKey
from registry.repos import shelf, withdraw
from registry.services import Services
from storage.intake import Intake, Received
from storage.reader import open_file

NAME = names.FORMAT_NAME
DOCUMENT_LIMIT_BYTES = 16 * 1024 * 1024
_SMALL_BYTES = 64 * 1024
# CodeArtifact's names for what can be done here.
PUBLISH, PUT_METADATA = "codeartifact:PublishPackageVersion", "codeartifact:PutPackageMetadata"
DELETE_VERSIONS, DELETE_PACKAGE = "codeartifact:DeletePackageVersions", "codeartifact:DeletePackage"


def put_package(services: Services, name: str) -> Response:
    """A publish, or, without a tarball in the document, a change of what stands in it."""
    key, admission = names.package_key(name), context.admission()
    store = services.stores.of(admission.domain_id)
    limit_bytes = services.limits.upload_bytes
    intakes: list[Intake] = []

    def make_intake() -> Intake:
        intakes.append(Intake(store, limit_bytes, algorithms=integrity.ALGORITHMS))
        return intakes[-1]

    # Base64 takes four characters for three bytes.
    source = counted_body(limit_bytes // 3 * 4 + DOCUMENT_LIMIT_BYTES)
    try:
        body = publish_body.read_body(source, make_intake, limit_bytes=DOCUMENT_LIMIT_BYTES)
        if body.attachment is None and not body.document.get(publish_body.ATTACHMENTS):
            return _change(services, key, body.document, None)
        auth.check_package(key, PUBLISH)
        wanted = publication.read(body, key)
        received = intakes[0].finish(expected=wanted.digests, declared_bytes=wanted.size_bytes)
    finally:
        for intake in intakes:
            intake.abort()
    return _publish(services, wanted, received)


def _publish(services: Services, wanted: Publication, received: Received) -> Response:
    admission = context.admission()
    store = services.stores.of(admission.domain_id)
    try:
        with open_file(store, received.handle) as body:
            release = inspect(wanted.filename, body)
        publication.check_against(wanted, release)
        package = manifest.from_text(release.extra["manifest"])
        release = _completed(services, release, wanted, received)
    except BaseException:
        store.delete(received.handle.locator)
        raise
    digests = {algorithm: received.digests[algorithm] for algorithm in integrity.ALGORITHMS}
    try:
        done = services.publisher.publish(
            admission, auth.credential_sent(), NAME, release, received.handle, digests, tags=wanted.tags
        )
    except (FileExists, NameUsed) as error:
        # What clients look for in order to tell "is there already" from other refusals.
        raise Denied(f"You cannot publish over the previously published versions: {wanted.version}.") from error
    headers = {REVISION_HEADER: done.revision}
    if differing := manifest.differing_fields(package, wanted.sent):
        headers |= notice(
            f"{', '.join(differing)} of the published document and of package.json differ: the latter counts"
        )
    return _accepted(services, wanted.key, 201 if done.is_new else 200, **headers)


def _completed(services: Services, release: Release, wanted: Publication, received: Received) -> Release:
    """The release with what the archive cannot say: its digests, our signature, who published it with what."""
    listed = manifest.from_text(release.extra["manifest"])
    listed.update(wanted.notes, _npmUser={"name": context.admission().actor, "email": ""})
    digests = integrity.written(received.digests)
    signed = f"{release.display_name}@{release.version}:{digests['integrity']}"
    signature = services.signer.sign(NAME, signed.encode())
    dist: dict[str, Any] = {
        **digests,
        **manifest.from_text(release.extra["dist"]),
        "signatures": [{"keyid": signature.key_id, "sig": signature.base64}],
    }
    document = None
    if wanted.provenance is not None:
        found = publication.read_provenance(wanted.provenance, wanted, received.digests)
        dist["attestations"] = {"url": "", "provenance": {"predicateType": found.predicate_type}}
        document = found.text.encode()
    extra = {"manifest": manifest.to_text(listed), "dist": manifest.to_text(dist)}
    return replace(release, extra=extra, provenance_document=document)


def put_revision(services: Services, name: str, rev: str) -> Response:
    """The document without the versions that are to go, or with other maintainers (``npm owner``)."""
    key = names.package_key(name)
    document = read_object(DOCUMENT_LIMIT_BYTES)
    if "versions" not in document:
        return _owners(services, key, document)
    return _change(services, key, document, rev, removes=True)


def _change(
    services: Services, key: PackageKey, document: dict[str, Any], rev: str | None, *, removes: bool = False
) -> Response:
    """Apply how a posted document differs from the present one: warnings and tags, and with ``removes`` what is gone."""
    present = _present(services, key)
    said = rev or document.get("_rev") or present.revision
    versions = document.get("versions")
    if document.get("users", {}) != present.document.get("users", {}):
        raise Invalid(STARS)
    if not isinstance(versions, dict) or any(not isinstance(entry, dict) for entry in versions.values()):
        raise Invalid("the document has no versions")
    removed = [entry.version for entry in present.entries if removes and entry.version not in versions]
    if removes and not versions:
        raise Invalid("a document without versions removes nothing; unpublish the whole package")
    warnings = _warnings(present, versions)
    tags = {} if removes else _moved_tags(present, document.get("dist-tags"))
    if removed:
        auth.check_package(key, DELETE_VERSIONS)
    if warnings or tags or not removed:
        auth.check_package(key, PUT_METADATA)

    def unit(session: Session) -> None:
        now, admission = services.clock(), context.admission()
        _check_revision(session, key, said)
        held = _published_versions(session, key)
        # Not "not found": npm takes that for "gone already", and tells the person that it is.
        if elsewhere := {*removed, *warnings, *tags.values()}.difference(held):
            raise Denied(f"{', '.join(sorted(elsewhere))} is not in {admission.path} but in a repository behind it")
        for version in removed:
            withdraw.delete_version(session, admission, key, version, now)
        for version, warning in warnings.items():
            withdraw.deprecate(session, admission, key, version, warning, now)
        for tag, version in tags.items():
            withdraw.set_tag(session, admission, key, tag, version, now, frozen_after=services.release_frozen_after)

    shelf.settle(services.db, unit)
    return _accepted(services, key, 200 if removes else 201)


def _warnings(present: Packument, versions: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in present.entries:
        said = versions.get(entry.version, {}).get("deprecated", entry.deprecated)
        if said is True or said is False or said is None:
            said = "this version is deprecated" if said else ""
        if not isinstance(said, str) or len(said) > 2000:
            raise Invalid("a deprecation is a text of at most 2000 characters")
        if said != entry.deprecated:
            found[entry.version] = manifest.clean(said)
    return found


def _moved_tags(present: Packument, said: object) -> dict[str, str]:
    if said is None:
        return {}
    if not isinstance(said, dict) or any(not isinstance(version, str) for version in said.values()):
        raise Invalid("dist-tags maps tags to versions")
    return {names.tag_name(tag): version for tag, version in said.items() if present.tags.get(tag) != version}


def _owners(services: Services, key: PackageKey, document: Mapping[str, Any]) -> Response:
    auth.check_package(key, PUT_METADATA)
    said = document.get("maintainers")
    present = _present(services, key).document.get("maintainers", [])
    if not isinstance(said, list) or {_name(entry) for entry in said} != {_name(entry) for entry in present}:
        raise Denied(OWNERS)
    return _accepted(services, key, 200)


def _name(entry: object) -> str:
    return str(entry.get("name")) if isinstance(entry, dict) else str(entry)


def delete_package(services: Services, name: str, rev: str) -> Response:
    """Take all versions that this repository holds out of it."""
    key = names.package_key(name)
    _present(services, key)  # raises NotFound

    def unit(session: Session) -> None:
        admission = context.admission()
        _check_revision(session, key, rev)
        held = _published_versions(session, key)
        if not held:
            raise Denied(f"{names.display_name(key)} is not in {admission.path} but in a repository behind it")
        # The client takes this address for the last version, too: then no more than that goes.
        auth.check_package(key, DELETE_VERSIONS if len(held) == 1 else DELETE_PACKAGE)
        for version in held:
            withdraw.delete_version(session, admission, key, version, services.clock())

    shelf.settle(services.db, unit)
    return _accepted(services, key, 200)


def delete_tarball(services: Services, name: str, filename: str, rev: str) -> Response:
    """The last step of withdrawing a version: its file. The step before took both out; then there is nothing to do."""
    key = names.package_key(name)

    def unit(session: Session) -> None:
        admission = context.admission()
        package = shelf.find_package(session, admission.repository_id, *key)
        asset: Asset | None = shelf.find_asset(session, package.id, filename) if package is not None else None
        if asset is None or package is None or package.origin != shelf.PUBLISHED:
            return
        _check_revision(session, key, rev)
        version = next(
            row for row in withdraw.versions(session, admission.repository_id, key) if row.id == asset.version_id
        )
        withdraw.delete_version(session, admission, key, version.version, services.clock())

    shelf.settle(services.db, unit)
    return _accepted(services, key, 200)


def put_tag(services: Services, name: str, tag: str) -> Response:
    """Point a tag at a version; the body is the version as a JSON string."""
    version = read_json(_SMALL_BYTES)
    if not isinstance(version, str):
        raise Invalid('the body is the version as a JSON string, "1.2.3"')
    return _set_tags(services, names.package_key(name), {names.tag_name(tag): version})


def delete_tag(services: Services, name: str, tag: str) -> Response:
    """Remove a tag, which must be there."""
    if tag == "latest":
        raise Invalid("the tag latest cannot be removed; point it at another version")
    key = names.package_key(name)
    if tag not in _present(services, key).tags:
        raise NotFound("tag", tag)
    return _set_tags(services, key, {tag: None})


def put_tags(services: Services, name: str, *, replaces: bool) -> Response:
    """Set several tags; with ``replaces`` those that are not named go."""
    key = names.package_key(name)
    moved: dict[str, str | None] = dict(
        _moved_tags(present := _present(services, key), said := read_object(_SMALL_BYTES))
    )
    if replaces:
        moved |= {tag: None for tag in present.tags if tag not in said and tag != "latest"}
    return _set_tags(services, key, moved)


def _set_tags(services: Services, key: PackageKey, tags: Mapping[str, str | None]) -> Response:
    def unit(session: Session) -> None:
        for tag, version in tags.items():
            withdraw.set_tag(
                session,
                context.admission(),
                key,
                tag,
                version,
                services.clock(),
                frozen_after=services.release_frozen_after,
            )

    shelf.settle(services.db, unit)
    return _accepted(services, key, 201)


def _present(services: Services, key: PackageKey) -> Packument:
    return packument_of(services, services.resolver.offer(context.admission(), key))


def _check_revision(session: Session, key: PackageKey, said: object) -> None:
    """Raise Conflict unless nothing changed since the document was read that a change is based on."""
    if said != revision_text(key, shelf.revision(session, context.admission().domain_id, key)):
        raise Conflict(f"{names.display_name(key)} was changed since then: read it again, and repeat")


def _published_versions(session: Session, key: PackageKey) -> list[str]:
    admission = context.admission()
    package = shelf.find_package(session, admission.repository_id, *key)
    if package is not None and package.origin != shelf.PUBLISHED:
        raise Denied(f"{names.display_name(key)} came to {admission.path} from an upstream; it is not published here")
    return [row.version for row in withdraw.versions(session, admission.repository_id, key)]


def _accepted(services: Services, key: PackageKey, status: int, **headers: str) -> Response:
    with services.db.read() as session:
        count = shelf.revision(session, context.admission().domain_id, key)
    return answer({"ok": True, "id": names.display_name(key), "rev": revision_text(key, count)}, status, **headers)
