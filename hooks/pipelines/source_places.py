"""Where sources of git and of objects belong: the repositories whose readers may know what comes from there."""

from __future__ import annotations

from sqlalchemy.orm import Session

from hooks.pipelines.definition import GIT_PROVIDERS, ActionDefinition, PipelineDefinition
from hooks.pipelines.sources.buckets import find_bucket
from hooks.pipelines.sources.connections import locate
from hooks.pipelines.sources.git_settings import settings_of
from registry.access import Action, Identity
from registry.errors import Invalid, NotFound


def place_of(session: Session, action: ActionDefinition) -> tuple[str, str]:
    """Domain and repository that a source of git, or of objects, belongs to now. Raises NotFound, Invalid."""
    if action.type.provider not in GIT_PROVIDERS:
        bucket = find_bucket(session, action.configuration["S3Bucket"])
        return bucket.domain, bucket.repository
    located = locate(session, settings_of(action.configuration))
    return located.domain, located.repository


def hidden_sources(session: Session, definition: PipelineDefinition, who: Identity) -> frozenset[str]:
    """The source actions whose revisions are not for these eyes.

    The first is never among them: executions belong to its repository, and who may see those was asked about it.
    """
    others = [action for action in definition.sources if action.name != definition.source.name]
    return frozenset(each.name for each in others if not each.is_package_source and not _may_read(session, each, who))


def _may_read(session: Session, action: ActionDefinition, who: Identity) -> bool:
    if who.may(Action.ADMIN):
        return True
    try:
        return who.may(Action.READ, "/".join(place_of(session, action)))
    except (NotFound, Invalid):  # nobody's repository now
        return False
