"""One operation on many versions of a package: each succeeds or fails by itself, in a transaction of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy.orm import Session

from registry.db import Database
from registry.errors import Conflict, Denied, FileExists, Invalid, NotFound, Unavailable
from registry.repos import shelf

log = logging.getLogger("entrepot.batches")

MOST_VERSIONS = 100

ALREADY_EXISTS = "ALREADY_EXISTS"
MISMATCHED_REVISION = "MISMATCHED_REVISION"
MISMATCHED_STATUS = "MISMATCHED_STATUS"
NOT_ALLOWED = "NOT_ALLOWED"
NOT_FOUND = "NOT_FOUND"
SKIPPED = "SKIPPED"


class VersionRefused(Exception):
    """One version of several is not changed; ``code`` is one of the words above (CodeArtifact's)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class SuccessfulVersion:
    """What a version is now."""

    revision: str
    status: str


@dataclass(frozen=True, slots=True)
class FailedVersion:
    """Why a version is as it was: ALREADY_EXISTS, MISMATCHED_REVISION, MISMATCHED_STATUS, NOT_ALLOWED, NOT_FOUND, SKIPPED."""

    error_code: str
    error_message: str


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of each version, by the spelling in which it was named."""

    successful_versions: dict[str, SuccessfulVersion] = field(default_factory=dict)
    failed_versions: dict[str, FailedVersion] = field(default_factory=dict)


Unit = Callable[[Session, str, str | None], SuccessfulVersion]
"""Changes one version (as named, and the revision it is to have) or raises."""


def each_version(db: Database, wanted: Mapping[str, str | None], unit: Unit) -> BatchResult:
    """Run ``unit`` for each version → revision. Raises Unavailable when the server fails before anything was done.

    After a failure of the server's what is left is SKIPPED: repeating the request for it is safe.
    """
    result = BatchResult()
    for version, revision in wanted.items():
        try:
            result.successful_versions[version] = shelf.settle(db, partial(_run, unit, version, revision))
        except VersionRefused as refused:
            result.failed_versions[version] = FailedVersion(refused.code, str(refused))
        except Unavailable as error:
            if not result.successful_versions:
                raise
            log.warning("an operation on %d versions stopped half-way: %s", len(wanted), error)
            skipped = [name for name in wanted if name not in {**result.successful_versions, **result.failed_versions}]
            result.failed_versions.update(dict.fromkeys(skipped, FailedVersion(SKIPPED, f"not tried: {error}")))
            break
    return result


def check_revision(found: str, wanted: str | None) -> None:
    """Raise VersionRefused unless the version is at the revision that the caller has seen (None: any)."""
    if wanted is not None and found != wanted:
        raise VersionRefused(MISMATCHED_REVISION, f"the version is at revision {found}, not at {wanted[:100]}")


def check_status(found: str, expected: str | None) -> None:
    """Raise VersionRefused unless the version is in the state that the caller expects (None: any)."""
    if expected is not None and found != expected:
        raise VersionRefused(MISMATCHED_STATUS, f"the version is {found}, not {expected}")


def _run(unit: Unit, version: str, revision: str | None, session: Session) -> SuccessfulVersion:
    try:
        return unit(session, version, revision)
    except NotFound as error:
        raise VersionRefused(NOT_FOUND, str(error)) from error
    except FileExists as error:
        raise VersionRefused(ALREADY_EXISTS, str(error)) from error
    except (Denied, Conflict, Invalid) as error:
        raise VersionRefused(NOT_ALLOWED, str(error)) from error
