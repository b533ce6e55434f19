"""What declared pipelines name and nobody has: repositories, build projects, applications and groups. Only looked at.

It is no fault: what a pipeline names may come later, and is asked for when an action starts. Whoever declares should know.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from hooks.declaring.documents import Declared
from hooks.models.build import BuildProject
from hooks.models.deployment import DeploymentApplication, DeploymentGroup
from hooks.pipelines.definition import ActionDefinition, PipelineDefinition
from hooks.pipelines.sources.git_settings import DEFAULT_DOMAIN
from hooks.triggers.match import filter_of
from registry.models import Domain, Repository

_REPOSITORIES = ("TargetRepository", "SourceRepository", "PublishRepository")
_UNKNOWN_YET = ("#{", "*", "?")
"""What stands in a name that is only known when the action starts, or in a pattern."""


@dataclass(frozen=True, slots=True)
class DeclarationWarning:
    """Something that a declared thing says without effect, or names and that is nowhere, also not among what is declared."""

    kind: str
    name: str
    file: str
    text: str


@dataclass(frozen=True, slots=True)
class _Named:
    """A name in a pipeline: ``what`` it is of, ``key`` as it is found in the database, ``where`` it is written."""

    what: str
    key: tuple[str, ...]
    where: str


def lacking(session: Session, declared: Sequence[Declared]) -> tuple[DeclarationWarning, ...]:
    """What has no effect, and what is named and nowhere, once all has been made as declared. At most four queries."""
    found = [
        (each, named)
        for each in declared
        if isinstance(each.declares, PipelineDefinition)
        for named in _names(each.declares)
    ]
    there = _there(session, {(named.what, named.key) for _, named in found})
    without_effect = [
        DeclarationWarning(each.kind, each.name, each.file, told) for each in declared for told in each.warnings
    ]
    return (
        *without_effect,
        *(
            DeclarationWarning(
                each.kind, each.name, each.file, f"{named.where}: there is no {named.what} {'/'.join(named.key)}"
            )
            for each, named in found
            if (named.what, named.key) not in there
        ),
    )


def _names(definition: PipelineDefinition) -> Iterator[_Named]:
    takes = filter_of(definition)
    domain = takes.domain if takes is not None else definition.source.configuration.get("Domain", DEFAULT_DOMAIN)
    source = definition.source.configuration.get("Repository", "")
    if source and _is_known(source):
        yield _Named("repository", (domain, source), f"{definition.stages[0].name}/{definition.source.name}")
    for stage, action in definition.actions():
        if action is not definition.source:
            yield from _of_action(action, domain, f"{stage.name}/{action.name}")


def _of_action(action: ActionDefinition, domain: str, where: str) -> Iterator[_Named]:
    configuration = {name: value for name, value in action.configuration.items() if _is_known(value)}
    for setting in _REPOSITORIES:
        if configuration.get(setting):
            yield _Named("repository", (domain, configuration[setting]), where)
    if "ProjectName" in configuration:
        yield _Named("build project", (configuration["ProjectName"],), where)
    if "ApplicationName" in configuration:
        application = configuration["ApplicationName"]
        yield _Named("application", (application,), where)
        if "DeploymentGroupName" in configuration:
            yield _Named("deployment group", (application, configuration["DeploymentGroupName"]), where)


def _is_known(value: str) -> bool:
    return not any(part in value for part in _UNKNOWN_YET)


def _there(session: Session, wanted: Collection[tuple[str, tuple[str, ...]]]) -> set[tuple[str, tuple[str, ...]]]:
    keys: dict[str, list[tuple[str, ...]]] = {}
    for what, key in wanted:
        keys.setdefault(what, []).append(key)
    statements = {
        "repository": (
            select(Domain.name, Repository.name).join(Repository, Repository.domain_id == Domain.id),
            (Domain.name, Repository.name),
        ),
        "build project": (select(BuildProject.name).where(BuildProject.deleted_at.is_(None)), (BuildProject.name,)),
        "application": (
            select(DeploymentApplication.name).where(DeploymentApplication.deleted_at.is_(None)),
            (DeploymentApplication.name,),
        ),
        "deployment group": (
            select(DeploymentApplication.name, DeploymentGroup.name)
            .join(DeploymentGroup, DeploymentGroup.application_id == DeploymentApplication.id)
            .where(DeploymentApplication.deleted_at.is_(None), DeploymentGroup.deleted_at.is_(None)),
            (DeploymentApplication.name, DeploymentGroup.name),
        ),
    }
    return {
        (what, tuple(row))
        for what, listed in keys.items()
        for row in session.execute(statements[what][0].where(tuple_(*statements[what][1]).in_(listed)))
    }
