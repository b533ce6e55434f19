"""What a pipeline's build hands on: artifacts of one build as sources of another, pinned by digest."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import BinaryIO, cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.builds import artifact_reading
from hooks.builds.batch_plan import DOWNLOAD_SOURCE
from hooks.builds.executor import ExecutorError, Refused
from hooks.builds.keeping import PRIMARY
from hooks.builds.project import SourceSettings, SourceType
from hooks.models.build_batch import BuildBatchGroup
from registry.db import Database
from registry.errors import NotFound
from registry.stores import DomainStores
from storage.errors import Damaged, Missing, StorageError
from storage.reader import open_file

LOG = logging.getLogger(__name__)


def identifier_of(name: str, outputs: Sequence[str]) -> str:
    """Which artifact of a build an action's output ``name`` is (CodeBuild action reference).

    The only output is the primary artifact; of several each is the secondary one of its name.
    """
    return PRIMARY if len(outputs) == 1 else name


def keeper_of_artifacts(session: Session, build_id: str) -> str:
    """The build with which the artifacts are kept: of a batch build its first one, which has the combined ones."""
    first = (BuildBatchGroup.batch_id == build_id) & (BuildBatchGroup.identifier == DOWNLOAD_SOURCE)
    return session.scalar(select(BuildBatchGroup.build_id).where(first)) or build_id


def artifact_source(session: Session, build_id: str, identifier: str, called: str) -> SourceSettings:
    """The artifact of a build as a source ``called`` so ("" for the primary one). Raises NotFound when it is not there."""
    row, _ = artifact_reading.find(session, build_id, identifier)
    return SourceSettings(SourceType.ARTIFACT, f"{build_id}/{identifier}", row.sha256, identifier=called)


def missing_outputs(session: Session, build_id: str, outputs: Sequence[str]) -> list[str]:
    """Those of an action's outputs that its build has not left."""
    left = {row.identifier for row in artifact_reading.of_build(session, build_id)}
    return [name for name in outputs if identifier_of(name, outputs) not in left]


def open_artifact(db: Database, stores: DomainStores, source: SourceSettings) -> BinaryIO:
    """The bytes of such a source. Raises Refused when they are gone or others, ExecutorError when they cannot be had now."""
    build_id, _, identifier = source.location.partition("/")
    try:
        with db.read() as session:
            row, blob = artifact_reading.find(session, build_id, identifier)
        if row.sha256 != source.version:
            raise Refused(f"artifact {identifier} of build {build_id} is not the one that was handed on")
        return cast("BinaryIO", open_file(*artifact_reading.body_of(stores, blob)))
    except (NotFound, Missing, Damaged) as error:
        raise Refused(str(error)) from error
    except StorageError as error:
        raise ExecutorError(f"artifact {identifier} of build {build_id} cannot be read now: {error}") from error
