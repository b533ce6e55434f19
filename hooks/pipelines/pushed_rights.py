"""What a definition that was pushed may say: what whoever configured its source may do themselves, at this moment.

Whoever may push to the branch writes the definition. So each repository, connection and project that it names is asked for as
if that person did by hand what the pipeline does there. Deployments are asked for when they are made, as for every definition.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence

from sqlalchemy.orm import Session

from hooks.builds.project_rights import check_manage, may_start
from hooks.builds.projects import get_project
from hooks.builds.publishing import publish_path
from hooks.builds.starting import place_of
from hooks.pipelines.compute import ENVIRONMENT
from hooks.pipelines.definition import (
    GIT_PROVIDERS,
    ActionDefinition,
    BuildProjectDeclaration,
    Declaration,
    PipelineDefinition,
)
from hooks.pipelines.sources.buckets import find_bucket
from hooks.pipelines.sources.connections import find_connection, locate
from hooks.pipelines.sources.git_settings import settings_of
from registry.access import Action, Identity
from registry.errors import Denied, Invalid, NotFound

DEFAULT_DOMAIN = "default"


def faults_of(
    session: Session, who: Identity, name: str, place: tuple[str, str], declared: Sequence[Declaration]
) -> list[str]:
    """Everything that a pushed document says and may not say; ``place`` is the repository that it belongs to."""
    projects = {each.name for each in declared if isinstance(each, BuildProjectDeclaration)}
    pipelines = [each for each in declared if isinstance(each, PipelineDefinition)]
    faults = []
    if [each.name for each in pipelines] != [name] or len(pipelines) + len(projects) != len(declared):
        faults.append(f"the file declares pipeline {name} and its build projects, and nothing else")
    for each in declared:
        if isinstance(each, BuildProjectDeclaration):
            faults += _project_faults(session, who, place, each)
    for definition in pipelines:
        for stage, action in definition.actions():
            found = _action_faults(session, who, definition, action, projects, place)
            faults += [f"action {stage.name}/{action.name}: {fault}" for fault in found]
    return faults


def _project_faults(
    session: Session, who: Identity, place: tuple[str, str], project: BuildProjectDeclaration
) -> Iterator[str]:
    what = f"build project {project.name}"
    if project.repository != place:
        yield f"{what} has to belong to {'/'.join(place)}, as the definition does"
        return
    try:
        known = place_of(get_project(session, project.name))
    except NotFound:
        known = place
    if known != place:
        yield f"{what} is there already, and belongs elsewhere"
    try:
        check_manage(who, place)
    except Denied as denied:
        yield f"{what}: {denied}"
    target = publish_path(project.document)
    if target is not None and not who.may(Action.PUBLISH, target):
        yield f"{what}: {who.name} may not publish to {target}"


def _action_faults(
    session: Session,
    who: Identity,
    definition: PipelineDefinition,
    action: ActionDefinition,
    projects: Collection[str],
    place: tuple[str, str],
) -> Iterator[str]:
    said, provider = action.configuration, action.type.provider
    yield from _source_faults(session, who, action)
    domain = _domain(session, definition, place)
    if provider == "Promote":
        yield from _may(who, Action.PROMOTE, f"{domain}/{said['TargetRepository']}")
    if "SourceRepository" in said:
        yield from _may(who, Action.READ, f"{domain}/{said['SourceRepository']}")
    if "PublishRepository" in said:
        yield from _may(who, Action.PUBLISH, f"{domain}/{said['PublishRepository']}")
    if "ProjectName" in said and said["ProjectName"] not in projects:
        try:
            fine = may_start(who, get_project(session, said["ProjectName"]))
        except NotFound:
            fine = False
        if not fine:
            yield f"{who.name} may start no builds of project {said['ProjectName']}"
    if any(each.get("type", "PLAINTEXT") != "PLAINTEXT" for each in json.loads(said.get(ENVIRONMENT) or "[]")):
        # Secrets are given to projects, and the one of commands is everybody's.
        is_own = said.get("ProjectName") in projects
        if not is_own and not who.may(Action.ADMIN):
            yield "secrets are for build projects that the file declares itself"


def _source_faults(session: Session, who: Identity, action: ActionDefinition) -> Iterator[str]:
    said = action.configuration
    if action.is_package_source:
        yield from _may(who, Action.READ, f"{said.get('Domain', DEFAULT_DOMAIN)}/{said.get('Repository', '')}")
    elif action.type.provider in GIT_PROVIDERS:
        yield from _git_faults(session, who, action)
    elif action.type.provider == "S3":
        try:
            bucket = find_bucket(session, said["S3Bucket"])
            yield from _may(who, Action.READ, f"{bucket.domain}/{bucket.repository}")
        except NotFound as error:
            yield str(error)


def _git_faults(session: Session, who: Identity, action: ActionDefinition) -> Iterator[str]:
    settings = settings_of(action.configuration)
    try:
        located = locate(session, settings)
        if settings.connection:
            row = find_connection(session, settings.connection)
            yield from _may(who, Action.PUBLISH, f"{row.domain}/{row.repository}")
    except (NotFound, Invalid) as error:
        yield str(error)
        return
    yield from _may(who, Action.PUBLISH, f"{located.domain}/{located.repository}")


def _domain(session: Session, definition: PipelineDefinition, place: tuple[str, str]) -> str:
    """The domain that the executions are in."""
    source = definition.source
    if source.is_package_source:
        return source.configuration.get("Domain", DEFAULT_DOMAIN)
    try:
        if source.type.provider not in GIT_PROVIDERS:
            return find_bucket(session, source.configuration["S3Bucket"]).domain
        return locate(session, settings_of(source.configuration)).domain
    except (NotFound, Invalid):
        return place[0]


def _may(who: Identity, action: Action, path: str) -> Iterator[str]:
    # What is only known when it runs may be anything: a ``*`` is matched by nothing but a ``*`` in somebody's rights.
    domain, _, repository = path.partition("/")
    asked = f"{domain}/*" if "#{" in repository else path
    if not who.may(action, asked):
        yield f"{who.name}, who configured where the definition comes from, may not {action.value} at {asked}"
