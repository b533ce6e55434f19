"""What a definition that was pushed may say: what the account whose rights it has may do by itself, at this moment.

Whoever may push to the branch writes the definition. So each repository, connection, project and application that it names is
asked for as if that account did by hand what the pipeline does there. What no right of an account stands for is for
definitions that are applied: whoever configures a source is an administrator at that time, and to ask whether they are one
would keep nobody out. Deployments are asked for once more when they are made.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence

from sqlalchemy.orm import Session

from hooks.builds.project_rights import check_manage, may_start
from hooks.builds.projects import get_project
from hooks.builds.publishing import publish_path
from hooks.builds.starting import place_of
from hooks.deployments.applications import find_application
from hooks.deployments.rights import may_deploy
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
_DEPLOYS = {"CodeDeploy", "CodeDeployToECS"}


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
        # The rules of conditions start builds as actions do.
        for where, rule in _rules(definition):
            found = _action_faults(session, who, definition, rule, projects, place)
            faults += [f"rule {rule.name} of stage {where}: {fault}" for fault in found]
    return faults


def _rules(definition: PipelineDefinition) -> Iterator[tuple[str, ActionDefinition]]:
    """The rules of all conditions, as actions, with the names of their stages."""
    for stage in definition.stages:
        for condition in stage.conditions.values():
            for rule in condition.rules:
                yield stage.name, ActionDefinition(rule.name, rule.type, configuration=rule.configuration)


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
    if provider in _DEPLOYS:
        yield from _deploy_faults(session, who, said["ApplicationName"])
    if provider == "Promote":
        yield from _may(who, Action.PROMOTE, f"{domain}/{said['TargetRepository']}")
    if "SourceRepository" in said:
        yield from _may(who, Action.READ, f"{domain}/{said['SourceRepository']}")
    if "PublishRepository" in said:
        yield from _may(who, Action.PUBLISH, f"{domain}/{said['PublishRepository']}")
    yield from _started_faults(session, who, said, projects)
    # What these reach is not this document's to say: other pipelines, programs and registries elsewhere.
    if action.type.owner == "Custom":
        yield f"custom actions ({provider}) are for definitions that are applied"
    elif action.type.category == "Invoke" or provider == "Publish":
        yield f"{provider} is for definitions that are applied"


def _deploy_faults(session: Session, who: Identity, application: str) -> Iterator[str]:
    if "#{" in application:
        return  # known when it runs, and asked for then
    try:
        domain = find_application(session, application).domain
    except NotFound as error:
        yield str(error)
        return
    if not may_deploy(who, domain):
        yield f"{who.name} may not deploy in domain {domain}"


def _started_faults(
    session: Session, who: Identity, said: Mapping[str, str], projects: Collection[str]
) -> Iterator[str]:
    """What is wrong with a build that an action, or a rule, starts."""
    if "ProjectName" in said and said["ProjectName"] not in projects:
        try:
            fine = may_start(who, get_project(session, said["ProjectName"]))
        except NotFound:
            fine = False
        if not fine:
            yield f"{who.name} may start no builds of project {said['ProjectName']}"
    has_secrets = any(
        each.get("type", "PLAINTEXT") != "PLAINTEXT" for each in json.loads(said.get(ENVIRONMENT) or "[]")
    )
    # Secrets are given to projects, and the one of commands is everybody's.
    if has_secrets and said.get("ProjectName") not in projects:
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
        yield f"{who.name}, in whose rights the definition is, may not {action.value} at {asked}"
