"""The documents of a service's deployment, out of artifacts: read before anything is locked, and filled in.

CodePipeline's CodeDeployToECS: ``taskdef.json`` with ``<IMAGE1_NAME>`` for images that ``imageDetail.json`` names, and an
``appspec.yaml``, whose ``<TASK_DEFINITION>`` stands for that very document.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hooks.builds import artifact_reading
from hooks.deployments.revisions import PACKAGE, open_revision
from hooks.pipelines.parts import TextPlace
from registry.db import Database
from registry.errors import Invalid, NotFound, Unavailable
from registry.stores import DomainStores
from storage.errors import Damaged, Missing, StorageError
from storage.reader import open_file

MAX_BYTES = 3 * 1024**2
"""CodePipeline's limit for the artifacts of this action."""


class StoredTexts:
    """Reads them from the stores. Holds no transaction while it reads."""

    def __init__(self, db: Database, stores: DomainStores) -> None:
        self._db = db
        self._stores = stores

    def read(self, place: TextPlace) -> str:
        """The text of a file, UTF-8. Raises NotFound, Invalid, RevisionRefused, and Unavailable for what can be had later."""
        try:
            data = self._of_artifact(place) if place.keeper is not None else self._of_version(place)
        except (Missing, Damaged) as error:
            raise Invalid(f"{place.path} cannot be read: {error}") from error
        except StorageError as error:
            raise Unavailable(f"{place.path} cannot be read now: {error}") from error
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise Invalid(f"{place.path} is not UTF-8") from error

    def _of_artifact(self, place: TextPlace) -> bytes:
        with self._db.read() as session:
            row, blob = artifact_reading.find(session, place.keeper or "", place.identifier)
            store, handle = artifact_reading.body_of(self._stores, blob)
        if row.sha256 != place.sha256:
            raise Invalid(f"artifact {place.identifier} is not the one that was handed on")
        if row.size_bytes > MAX_BYTES:
            raise Invalid(f"artifact {place.identifier} is larger than {MAX_BYTES} bytes")
        try:
            with (
                open_file(store, handle) as body,
                artifact_reading.open_zip(body) as archive,
                archive.open(place.path) as member,
            ):
                return _bounded(member.read(MAX_BYTES + 1), place)
        except KeyError as error:
            raise NotFound("file", f"{place.path} in artifact {place.identifier}") from error
        except (artifact_reading.Unreadable, *artifact_reading.NOT_READABLE) as error:
            raise Invalid(f"artifact {place.identifier} cannot be read: {error}") from error

    def _of_version(self, place: TextPlace) -> bytes:
        source = place.source
        if place.path not in source.assets:
            raise NotFound("file", f"{place.path} of {source.full_name} {source.version}")
        package = {
            "domain": source.domain,
            "repository": place.repository,
            "format": source.format,
            "namespace": source.namespace,
            "name": source.name,
            "version": source.version,
            "asset": place.path,
            "sha256": source.assets[place.path],
        }
        opened = open_revision(self._db, self._stores, {"revisionType": PACKAGE, "package": package}, 0)
        with opened.body as body:
            return _bounded(body.read(MAX_BYTES + 1), place)


def _bounded(data: bytes, place: TextPlace) -> bytes:
    if len(data) > MAX_BYTES:
        raise Invalid(f"{place.path} is larger than {MAX_BYTES} bytes")
    return data


def image_of(text: str) -> str:
    """The image that an ``imageDetail.json`` names. Raises Invalid."""
    found = _parsed("imageDetail.json", text)
    image = found.get("ImageURI") if isinstance(found, dict) else None
    if not isinstance(image, str) or not image or len(image) > 1000:
        raise Invalid("imageDetail.json has no ImageURI")
    return image


def task_definition(text: str, images: Mapping[str, str]) -> dict[str, Any]:
    """The document of ``taskdef.json`` with each ``<NAME>`` of ``images`` replaced, inside its strings. Raises Invalid."""
    found = _filled(_parsed("taskdef.json", text), {f"<{name}>": image for name, image in images.items()})
    if not isinstance(found, dict):
        raise Invalid("taskdef.json is no JSON object")
    return found


def _parsed(what: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{what} is no JSON") from error


def _filled(node: Any, images: Mapping[str, str]) -> Any:
    if isinstance(node, str):
        for name, image in images.items():
            node = node.replace(name, image)
        return node
    if isinstance(node, list):
        return [_filled(item, images) for item in node]
    if isinstance(node, dict):
        return {key: _filled(item, images) for key, item in node.items()}
    return node
