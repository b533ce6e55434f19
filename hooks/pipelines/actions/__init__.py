"""The kinds of actions this release carries out. A further kind is one file here and one line below."""

from __future__ import annotations

from hooks.pipelines.actions import approve, build, commands, deploy, git, promote, publish, source, stored_object
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
    commands.RUN,
)

PROVIDERS = tuple(kind.provider for kind in KINDS)

_BY_TYPE = {(kind.provider.category, kind.provider.owner, kind.provider.name): kind for kind in KINDS}


def find_kind(action_type: ActionType) -> ActionKind | None:
    """The kind that carries an action type out, or None when this release has none."""
    return _BY_TYPE.get((action_type.category, action_type.owner, action_type.provider))
