"""What somebody says of sources who starts a pipeline by hand (CodePipeline's sourceRevisions)."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.orm import Session

from hooks.builds.push_fields import COMMIT
from hooks.pipelines.pinning import Wanted
from hooks.pipelines.sources.connections import locate
from hooks.pipelines.sources.git_settings import settings_of
from hooks.triggers.pushes import find_pipeline
from registry.errors import Invalid

COMMIT_ID = "COMMIT_ID"


def overrides(given: Mapping[str, tuple[str, str]]) -> dict[str, Wanted]:
    """Source action → what it is to bring, of action → (revisionType, revisionValue). Raises Invalid."""
    found = {}
    for action, (kind, value) in given.items():
        if kind != COMMIT_ID:
            raise Invalid(f"sourceRevisions: revisionType {kind[:40]!r} is not {COMMIT_ID}")
        if not COMMIT.match(value):
            raise Invalid(f"sourceRevisions: {value[:80]!r} is no commit in full")
        # Nobody has said on which branch it is: it is trusted as one that is protected by nothing.
        found[action] = Wanted(value, "", value)
    return found


def place_of_source(session: Session, pipeline: str) -> tuple[str, str]:
    """Domain and repository of what an execution without a package version is about. Raises NotFound, Invalid."""
    _, definition = find_pipeline(session, pipeline)
    if definition.source.is_package_source:
        raise Invalid(f"pipeline {pipeline} takes a package version; say which")
    located = locate(session, settings_of(definition.source.configuration))
    return located.domain, located.repository
