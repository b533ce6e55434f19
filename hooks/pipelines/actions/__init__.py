"""The kinds of actions this release carries out. A further kind is one file here and one line below."""

from __future__ import annotations

from hooks.pipelines.actions import (
    approve,
    build,
    commands,
    custom,
    deploy,
    deploy_service,
    git,
    invoke,
    promote,
    publish,
    source,
    stored_object,
    webhook,
)
from hooks.pipelines.actions.kind import ActionKind
from hooks.pipelines.definition import ActionType

KINDS: tuple[ActionKind, ...] = (
    source.PACKAGE,
    git.GIT,
    git.CODESTAR,
    git.CODECOMMIT,
    stored_object.S3,
    build.BUILD,
    build.TEST,
    approve.MANUAL,
    promote.PROMOTE,
    deploy.CODEDEPLOY,
    publish.PUBLISH,
    deploy_service.SERVICE,
    commands.RUN,
    invoke.PIPELINE,
    webhook.WEBHOOK,
    custom.KIND,
)

ANY = "*"
"""The name of a provider that stands for all of its owner's."""

PROVIDERS = tuple(kind.provider for kind in KINDS if kind.provider.name != ANY)

_BY_TYPE = {(kind.provider.category, kind.provider.owner, kind.provider.name): kind for kind in KINDS}


def find_kind(action_type: ActionType) -> ActionKind | None:
    """The kind that carries an action type out, or None when this release has none."""
    found = _BY_TYPE.get((action_type.category, action_type.owner, action_type.provider))
    return found or _BY_TYPE.get((ANY, action_type.owner, ANY))
