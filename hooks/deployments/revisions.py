"""What is deployed: a package version, a build's artifact, an uploaded bundle, or the text of an appspec; pinned by digest.

Documents have CodeDeploy's shape. They are pinned when a deployment is made, and opened again and again while it goes
on: what has been replaced, deleted, quarantined or blocked since is refused, with the reason.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.builds import artifact_reading
from hooks.builds.revision_archives import find_revision
from hooks.builds.source import digest_of
from hooks.deployments.revision_files import RevisionRefused, called, served_files
from hooks.models.deployment import DeploymentApplication, DeploymentUpload
from hooks.models.pipeline import Execution
from hooks.models.pipeline_source import SourceRevision
from registry.db import Database
from registry.errors import NotFound, Unavailable
from registry.models import Blob
from registry.repos.held import OfferedFile
from registry.stores import DomainStores, handle_of
from storage.blobs import BlobHandle
from storage.errors import Damaged, Missing, StorageError
from storage.reader import open_file

__all__ = ["OpenedRevision", "RevisionRefused", "bundle_type", "label", "open_revision", "pin", "version_of"]

PACKAGE, ARTIFACT, UPLOAD, CONTENT = "Package", "BuildArtifact", "Upload", "AppSpecContent"
SOURCE = "Source"
"""What the source of a pipeline has fetched: pipelines alone deploy it, and people again what they have deployed."""
_BUNDLES = ((".tar.gz", "tgz"), (".tgz", "tgz"), (".tar", "tar"), (".zip", "zip"))


@dataclass(frozen=True, slots=True)
class OpenedRevision:
    """A revision's bytes, to be closed by who reads them; ``sha256`` is what they have to be.

    ``bundle_type`` is ``tar``, ``tgz`` or ``zip``, "" for a file of a package that is installed as such.
    """

    body: BinaryIO
    size_bytes: int
    sha256: str
    filename: str
    bundle_type: str


def bundle_type(filename: str) -> str:
    """CodeDeploy's ``bundleType`` of a file by its name, "" for what is no bundle."""
    return next((kind for ending, kind in _BUNDLES if filename.lower().endswith(ending)), "")


def pin(
    session: Session, wanted: Mapping[str, Any], application: DeploymentApplication, now: datetime
) -> dict[str, Any]:
    """The document of a revision with the digests of what it is now; ``wanted`` is one that has been read.

    Names in it are canonical. ``sha256`` in it has to be the present one. What a caller may read is the caller's to
    check. Raises RevisionRefused.
    """
    kind = wanted["revisionType"]
    if kind == PACKAGE:
        return {"revisionType": kind, "package": _pinned_package(session, wanted["package"], application)}
    if kind == ARTIFACT:
        return {"revisionType": kind, "buildArtifact": _pinned_artifact(session, wanted["buildArtifact"])}
    if kind == UPLOAD:
        row = _upload_row(session, wanted["upload"]["id"], application.id, now)
        _check_same(wanted["upload"], row.sha256, f"upload {row.id}")
        return {
            "revisionType": kind,
            "upload": {"id": row.id, "sha256": row.sha256, "bundleType": row.bundle_type},
        }
    if kind == SOURCE:
        return {"revisionType": kind, "source": _pinned_source(session, wanted["source"])}
    given = wanted["appSpecContent"]
    digest = hashlib.sha256(given["content"].encode()).hexdigest()
    _check_same(given, digest, "the appspec's content")
    return {"revisionType": CONTENT, "appSpecContent": {**given, "sha256": digest}}


def _pinned_package(session: Session, wanted: Mapping[str, Any], application: DeploymentApplication) -> dict[str, Any]:
    at = {
        "domain": wanted.get("domain") or application.domain,
        "repository": wanted["repository"],
        "format": wanted["format"],
        "namespace": wanted.get("namespace", ""),
        "name": wanted["name"],
        "version": wanted["version"],
    }
    assets = {name: str(file.hashes["sha256"]) for name, file in sorted(served_files(session, at).items())}
    asset = wanted.get("asset")
    if asset is None:
        digest = digest_of(assets)
        _check_same(wanted, digest, called(at))
        return {**at, "asset": None, "sha256": digest, "assets": assets}
    if asset not in assets:
        raise RevisionRefused(f"{called(at)} has no file {asset!r}; it has {', '.join(assets)}")
    if not bundle_type(asset):
        raise RevisionRefused(f"{asset} is no bundle: that is a tar, tgz (tar.gz) or zip file")
    _check_same(wanted, assets[asset], asset)
    return {**at, "asset": asset, "sha256": assets[asset], "bundleType": bundle_type(asset)}


def _pinned_artifact(session: Session, wanted: Mapping[str, Any]) -> dict[str, Any]:
    identifier = wanted.get("identifier", "primary")
    try:
        row, _ = artifact_reading.find(session, wanted["buildId"], identifier)
    except NotFound as error:
        raise RevisionRefused(str(error)) from error
    _check_same(wanted, row.sha256, f"artifact {identifier} of build {row.build_id}")
    return {"buildId": row.build_id, "identifier": identifier, "sha256": row.sha256, "bundleType": "zip"}


def _pinned_source(session: Session, wanted: Mapping[str, Any]) -> dict[str, Any]:
    row, execution = _source_row(session, wanted["id"])
    _check_same(wanted, row.sha256, f"source {wanted['id']}")
    if not bundle_type(row.filename):
        raise RevisionRefused(f"{row.filename} is no bundle: that is a tar, tgz (tar.gz) or zip file")
    return {
        "id": wanted["id"],
        "domain": execution.domain,
        "repository": execution.repository,
        "location": row.location,
        "revision": row.revision,
        "sha256": row.sha256,
        "bundleType": bundle_type(row.filename),
    }


def _source_row(session: Session, identifier: str) -> tuple[SourceRevision, Execution]:
    try:
        row, _ = find_revision(session, identifier)
    except NotFound as error:
        raise RevisionRefused(str(error)) from error
    return row, session.get_one(Execution, row.execution_id)


def _upload_row(session: Session, upload_id: str, application_id: int, now: datetime | None) -> DeploymentUpload:
    row = session.get(DeploymentUpload, upload_id)
    if row is None or row.application_id != application_id or (now is not None and row.expires_at < now):
        raise RevisionRefused(f"the uploaded bundle {upload_id} is not there, or has expired; upload it again")
    return row


def _check_same(wanted: Mapping[str, Any], digest: str, what: str) -> None:
    if wanted.get("sha256") not in {None, digest}:
        raise RevisionRefused(f"{what} has the SHA-256 {digest}, and {wanted['sha256']} is asked for")


# --- reading it again ------------------------------------------------------------------------------------------------


def open_revision(
    db: Database, stores: DomainStores, revision: Mapping[str, Any], application_id: int, filename: str | None = None
) -> OpenedRevision:
    """The bytes of a pinned revision; of a package that is installed as such those of its file ``filename``.

    Raises RevisionRefused where it is not to be had any more as it was pinned, Unavailable where it cannot be had now.
    Reading the body raises StorageError for what is damaged on the disk: its digest is that of the store.
    """
    if revision["revisionType"] == CONTENT:
        content = str(revision["appSpecContent"]["content"]).encode()
        return OpenedRevision(
            io.BytesIO(content), len(content), revision["appSpecContent"]["sha256"], "appspec.yml", ""
        )
    with db.read() as session:
        domain_id, handle, name = _found(session, revision, application_id, filename)
    try:
        body = open_file(stores.of(domain_id), handle)
    except (Missing, Damaged) as error:
        raise RevisionRefused(f"{label(revision)} cannot be read: {error}") from error
    except StorageError as error:
        raise Unavailable(f"{label(revision)} cannot be read now: {error}") from error
    kind = bundle_type(name) if filename is None else ""
    return OpenedRevision(cast("BinaryIO", body), handle.size_bytes, handle.digest, name, kind)


def check_served(session: Session, revision: Mapping[str, Any], application_id: int) -> None:
    """Raise RevisionRefused where a pinned revision is not to be had any more as it was pinned."""
    if revision["revisionType"] == CONTENT:
        return
    if revision["revisionType"] != PACKAGE:
        _found(session, revision, application_id, None)
        return
    package = revision["package"]
    served = served_files(session, package)
    for name in package.get("assets") or (package["asset"],):
        _same_file(served, package, name)


def _found(
    session: Session, revision: Mapping[str, Any], application_id: int, filename: str | None
) -> tuple[int, BlobHandle, str]:
    kind = revision["revisionType"]
    if kind == PACKAGE:
        return _found_asset(session, revision["package"], filename)
    if kind == ARTIFACT:
        pinned = revision["buildArtifact"]
        try:
            row, blob = artifact_reading.find(session, pinned["buildId"], pinned["identifier"])
        except NotFound as error:
            raise RevisionRefused(f"{label(revision)} cannot be deployed any more: {error}") from error
        _check_same(pinned, row.sha256, label(revision))
        return blob.domain_id, handle_of(blob), artifact_reading.filename_of(row)
    if kind == SOURCE:
        pinned = revision["source"]
        source, _ = _source_row(session, pinned["id"])
        _check_same(pinned, source.sha256, label(revision))
        blob = session.get_one(Blob, source.blob_id)
        return blob.domain_id, handle_of(blob), source.filename
    pinned = revision["upload"]
    upload = _upload_row(session, pinned["id"], application_id, None)
    _check_same(pinned, upload.sha256, label(revision))
    blob = session.get_one(Blob, upload.blob_id)
    return blob.domain_id, handle_of(blob), f"bundle.{upload.bundle_type}"


def _found_asset(session: Session, package: Mapping[str, Any], filename: str | None) -> tuple[int, BlobHandle, str]:
    name = package["asset"] or filename
    if name is None or filename not in {None, name}:
        raise RevisionRefused(f"{called(package)}: {filename!r} is no file that was pinned")
    handle = _same_file(served_files(session, package), package, name)
    domain_id = session.scalar(select(Blob.domain_id).where(Blob.locator == handle.locator))
    if domain_id is None:
        raise RevisionRefused(f"{called(package)} cannot be deployed any more: {name} is being deleted")
    return domain_id, handle, name


def _same_file(served: Mapping[str, OfferedFile], package: Mapping[str, Any], name: str) -> BlobHandle:
    """The file ``name`` of a pinned version, if it is still the one that was pinned. Raises RevisionRefused."""
    pinned = package["sha256"] if package["asset"] else package["assets"].get(name)
    file = served.get(name)
    if pinned is None or file is None or file.kept is None:
        raise RevisionRefused(f"{called(package)} cannot be deployed any more: its file {name!r} is not served")
    if file.kept.handle.digest != pinned:
        raise RevisionRefused(
            f"{called(package)} cannot be deployed any more: {name} was replaced"
            f" ({file.kept.handle.digest[:12]}… instead of {pinned[:12]}…)"
        )
    return file.kept.handle


# --- what people see -------------------------------------------------------------------------------------------------


def label(revision: Mapping[str, Any]) -> str:
    """A revision in a few words."""
    kind = revision["revisionType"]
    if kind == PACKAGE:
        package = revision["package"]
        return called(package) + (f" ({package['asset']})" if package["asset"] else "")
    if kind == ARTIFACT:
        return f"artifact {revision['buildArtifact']['identifier']} of build {revision['buildArtifact']['buildId']}"
    if kind == UPLOAD:
        return f"upload {revision['upload']['id']}"
    if kind == SOURCE:
        return f"{revision['source']['location']} {revision['source']['revision'][:12]}"
    content = revision["appSpecContent"]
    return " ".join([f"appspec {content['sha256'][:12]}", *_images(content)])


def is_native(revision: Mapping[str, Any]) -> bool:
    """Whether a pinned revision is a package version that machines install as such, without a bundle."""
    return revision["revisionType"] == PACKAGE and revision["package"]["asset"] is None


def version_of(revision: Mapping[str, Any]) -> str:
    """What is short enough for a table: a version, or the beginning of what there is instead."""
    kind = revision["revisionType"]
    if kind == PACKAGE:
        return str(revision["package"]["version"])
    if kind == ARTIFACT:
        return f"build {revision['buildArtifact']['buildId'][:8]}"
    if kind == UPLOAD:
        return f"upload {revision['upload']['sha256'][:12]}"
    if kind == SOURCE:
        return str(revision["source"]["revision"][:12])
    content = revision["appSpecContent"]
    return ", ".join(_images(content)) or f"appspec {content['sha256'][:12]}"


def _images(content: Mapping[str, Any]) -> list[str]:
    """The images of a service's revision, each by its name and the beginning of its digest."""
    task = content.get("taskDefinition") or {}
    found = [str(each.get("image", "")) for each in task.get("containerDefinitions") or ()]
    names = [image.rpartition("@") for image in found]
    return [f"{name}{at}{digest.removeprefix('sha256:')[:12]}" for name, at, digest in names]


def digest_of_revision(revision: Mapping[str, Any]) -> str:
    """The SHA-256 that a pinned revision stands for: two revisions with the same one deploy the same bytes."""
    part = {PACKAGE: "package", ARTIFACT: "buildArtifact", UPLOAD: "upload", CONTENT: "appSpecContent"}
    part[SOURCE] = "source"
    if revision["revisionType"] == CONTENT and "taskDefinition" in revision["appSpecContent"]:
        content = json.dumps(revision["appSpecContent"], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()
    return str(revision[part[revision["revisionType"]]]["sha256"])
