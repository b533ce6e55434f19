"""What somebody says of sources who starts a pipeline by hand (CodePipeline's sourceRevisions)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy.orm import Session

from hooks.builds.push_fields import COMMIT
from hooks.pipelines.definition import GIT_PROVIDERS, PipelineDefinition
from hooks.pipelines.pinning import Wanted
from hooks.pipelines.source_places import place_of
from hooks.pipelines.sources.buckets import key_fault
from hooks.triggers.match import PackageFilter, filter_of
from hooks.triggers.newest import newest_version
from hooks.triggers.pushes import find_pipeline
from registry.access import Action, Identity, check
from registry.errors import Invalid

COMMIT_ID, OBJECT_VERSION, OBJECT_KEY = TYPES = ("COMMIT_ID", "S3_OBJECT_VERSION_ID", "S3_OBJECT_KEY")


def overrides(given: Mapping[str, tuple[str, str]]) -> dict[str, Wanted]:
    """Source action → what it is to bring, of action → (revisionType, revisionValue). Raises Invalid."""
    found = {}
    for action, (kind, value) in given.items():
        if kind not in TYPES:
            raise Invalid(f"sourceRevisions: revisionType {kind[:40]!r} is not one of {', '.join(TYPES)}")
        if kind == COMMIT_ID and not COMMIT.match(value):
            raise Invalid(f"sourceRevisions: {value[:80]!r} is no commit in full")
        if kind == OBJECT_KEY and key_fault(value):
            raise Invalid(f"sourceRevisions: {key_fault(value)}")
        # Of a commit nobody has said on which branch it is: it is trusted as one that is protected by nothing.
        found[action] = {
            COMMIT_ID: Wanted(value, "", value),
            OBJECT_VERSION: Wanted(value[:32]),
            OBJECT_KEY: Wanted("", key=value),
        }[kind]
    return found


def check_kinds(definition: PipelineDefinition, given: Mapping[str, tuple[str, str]]) -> None:
    """Raise Invalid for a revision of a kind that its source does not take."""
    for action in definition.sources:
        kind = given.get(action.name, ("", ""))[0]
        if kind and (kind == COMMIT_ID) != (action.type.provider in GIT_PROVIDERS):
            raise Invalid(f"sourceRevisions: source {action.name} takes no {kind}")


def check_revisions(session: Session, who: Identity, pipeline: str, given: Collection[str]) -> None:
    """Whether somebody may say what each of these source actions brings: as if they had published it there.

    Needs ``publish`` on the repository that a git source, or an object's bucket, belongs to; what is not on its branch yet is
    built and deployed as well. Raises Denied, Invalid, and NotFound for the pipeline, a connection or a bucket.
    """
    _, definition = find_pipeline(session, pipeline)
    for action in definition.sources:
        if action.name in given and not action.is_package_source:
            check(who, Action.PUBLISH, "/".join(place_of(session, action)))


def place_of_source(session: Session, pipeline: str) -> tuple[str, str]:
    """Domain and repository of what an execution is about that is started without a version. Raises NotFound, Invalid."""
    _, definition = find_pipeline(session, pipeline)
    if definition.source.is_package_source:
        at = newest_version(session, _filter(definition))
        return at.domain, at.repository
    return place_of(session, definition.source)


def _filter(definition: PipelineDefinition) -> PackageFilter:
    found = filter_of(definition)
    if found is None:
        raise Invalid(f"pipeline {definition.name} takes no package versions")
    return found
