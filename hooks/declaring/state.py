"""What is there now of a declared thing, as text that can be compared and shown line by line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from difflib import unified_diff
from typing import Any

import yaml
from sqlalchemy import select
from sqlalchemy.orm import Session

from hooks.builds.project_shown import as_document
from hooks.declaring.documents import (
    ApplicationDeclaration,
    Declared,
    DomainDeclaration,
    RepositoryDeclaration,
)
from hooks.deployments.configs import list_configs
from hooks.deployments.documents.config import ParsedConfig
from hooks.deployments.documents.group import ParsedGroup
from hooks.models.build import BuildProject
from hooks.models.deployment import DeploymentApplication, DeploymentConfig, DeploymentGroup
from hooks.models.pipeline import Pipeline, PipelineDefinitionVersion
from hooks.pipelines.definition import BuildProjectDeclaration, PipelineDefinition
from registry import policies
from registry.models import Domain, ExternalConnection, Repository, RepositoryUpstream
from registry.rulebook import hold


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such: a buildspec is compared line by line."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def lock_declared(session: Session, declared: Sequence[Declared]) -> None:
    """Keep others from changing what is declared, from before it is looked at until the transaction ends.

    A plan is to be held to: PostgreSQL would otherwise let somebody change a thing between our look and our change of it.
    Whoever declares holds the rules, too, so that two come one after the other, also with what is not there yet. Upstreams
    and connections are changed together with their domain's row, and policies with the rules.
    """
    hold(session)
    kinds: dict[type, set[str]] = {}
    for each in declared:
        kinds.setdefault(type(each.declares), set()).add(each.name)
    repositories = {each.partition("/") for each in kinds.get(RepositoryDeclaration, ())}
    domains = kinds.get(DomainDeclaration, set()) | {domain for domain, *_ in repositories}
    for model, names in (
        (Domain, domains),
        (DeploymentApplication, kinds.get(ApplicationDeclaration, set())),
        (BuildProject, kinds.get(BuildProjectDeclaration, set())),
    ):
        session.execute(select(model.id).where(model.name.in_(sorted(names))).order_by(model.id).with_for_update())
    named = select(Repository.id).join(Domain, Domain.id == Repository.domain_id)
    of_domains = named.where(
        Domain.name.in_(sorted(domains)), Repository.name.in_(sorted(name for *_, name in repositories))
    )
    session.execute(of_domains.order_by(Repository.id).with_for_update(of=Repository))
    groups = {each.partition("/")[0] for each in kinds.get(ParsedGroup, ())}
    of_applications = (
        select(DeploymentGroup.id)
        .join(DeploymentApplication, DeploymentApplication.id == DeploymentGroup.application_id)
        .where(DeploymentApplication.name.in_(sorted(groups)))
    )
    session.execute(of_applications.order_by(DeploymentGroup.id).with_for_update(of=DeploymentGroup))


def version_of(session: Session, declared: Declared) -> int | None:
    """The version of a pipeline's definition in force; None for everything that has no versions."""
    if not isinstance(declared.declares, PipelineDefinition):
        return None
    return session.scalar(select(Pipeline.current_version).where(Pipeline.name == declared.name))


def state_of(session: Session, declared: Declared) -> str | None:
    """The text of what is there under that name; None where there is nothing."""
    match declared.declares:
        case DomainDeclaration(name=name):
            return _domain(session, name)
        case RepositoryDeclaration(domain=domain, name=name):
            return _repository(session, domain, name)
        case ParsedConfig(name=name):
            found = {each: document for each, document, _ in list_configs(session)}.get(name)
            return None if found is None else _yaml({"deploymentConfigName": name, **found})
        case ApplicationDeclaration(name=name):
            row = _application(session, name)
            if row is None:
                return None
            return _yaml({"applicationName": name, "computePlatform": row.compute_platform, "domain": row.domain})
        case ParsedGroup(application=application, name=name):
            return _group(session, application, name)
        case BuildProjectDeclaration(name=name):
            living = select(BuildProject).where(BuildProject.name == name, BuildProject.deleted_at.is_(None))
            project = session.scalar(living)
            return None if project is None else _yaml(as_document(project))
        case PipelineDefinition(name=name):
            return session.scalar(
                select(PipelineDefinitionVersion.document)
                .join(Pipeline, Pipeline.id == PipelineDefinitionVersion.pipeline_id)
                .where(Pipeline.name == name, PipelineDefinitionVersion.version == Pipeline.current_version)
            )


def undeclared(session: Session, declared: list[Declared]) -> list[tuple[str, str]]:
    """(kind, name) of what is there and stands in no declaration; by kind and name."""
    known = {(each.kind, each.name) for each in declared}
    there: list[tuple[str, str]] = [("domain", name) for name in session.scalars(select(Domain.name))]
    repositories = select(Domain.name, Repository.name).join(Repository, Repository.domain_id == Domain.id)
    there += [("repository", f"{domain}/{name}") for domain, name in session.execute(repositories)]
    there += [("deployment configuration", name) for name in session.scalars(select(DeploymentConfig.name))]
    living = select(DeploymentApplication).where(DeploymentApplication.deleted_at.is_(None))
    applications = {row.id: row.name for row in session.scalars(living)}
    there += [("application", name) for name in applications.values()]
    groups = select(DeploymentGroup).where(DeploymentGroup.deleted_at.is_(None))
    there += [
        ("deployment group", f"{applications[row.application_id]}/{row.name}")
        for row in session.scalars(groups)
        if row.application_id in applications
    ]
    projects = select(BuildProject.name).where(BuildProject.deleted_at.is_(None))
    there += [("build project", name) for name in session.scalars(projects)]
    there += [("pipeline", name) for name in session.scalars(select(Pipeline.name))]
    return sorted(set(there) - known)


def difference(before: str | None, after: str | None) -> str:
    """A unified diff, without its head; "" where both are the same."""
    lines = unified_diff((before or "").splitlines(), (after or "").splitlines(), lineterm="", n=2)
    return "\n".join(line for line in list(lines)[2:])


def _domain(session: Session, name: str) -> str | None:
    if session.scalar(select(Domain.id).where(Domain.name == name)) is None:
        return None
    return _yaml({"domain": name, "policyDocument": _policy(session, name, None)})


def _repository(session: Session, domain: str, name: str) -> str | None:
    row = find_repository(session, domain, name)
    if row is None:
        return None
    return _yaml(
        {
            "domain": domain,
            "repository": name,
            "description": row.description,
            "upstreams": upstreams_of(session, row),
            "externalConnections": [
                {"format": each.format, "name": each.name, "url": each.url} for each in connections_of(session, row)
            ],
            "anonymousRead": row.anonymous_read,
            "policyDocument": _policy(session, domain, name),
        }
    )


def find_repository(session: Session, domain: str, name: str) -> Repository | None:
    """The row of a repository."""
    of_domain = select(Domain.id).where(Domain.name == domain).scalar_subquery()
    return session.scalar(select(Repository).where(Repository.domain_id == of_domain, Repository.name == name))


def upstreams_of(session: Session, row: Repository) -> list[str]:
    """Names of a repository's upstreams, in the order in which they are asked."""
    return list(
        session.scalars(
            select(Repository.name)
            .join(RepositoryUpstream, RepositoryUpstream.upstream_id == Repository.id)
            .where(RepositoryUpstream.repository_id == row.id)
            .order_by(RepositoryUpstream.position)
        )
    )


def connections_of(session: Session, row: Repository) -> list[ExternalConnection]:
    """A repository's external connections, in the order in which they are asked."""
    of_this = select(ExternalConnection).where(ExternalConnection.repository_id == row.id)
    return list(session.scalars(of_this.order_by(ExternalConnection.position, ExternalConnection.id)))


def _application(session: Session, name: str) -> DeploymentApplication | None:
    living = DeploymentApplication.deleted_at.is_(None)
    return session.scalar(select(DeploymentApplication).where(DeploymentApplication.name == name, living))


def _group(session: Session, application: str, name: str) -> str | None:
    parent = _application(session, application)
    if parent is None:
        return None
    living = DeploymentGroup.deleted_at.is_(None)
    row = session.scalar(
        select(DeploymentGroup).where(DeploymentGroup.application_id == parent.id, DeploymentGroup.name == name, living)
    )
    if row is None:
        return None
    return _yaml({"applicationName": application, "deploymentGroupName": name, **row.document})


def _policy(session: Session, domain: str, repository: str | None) -> Any:
    found = policies.find(session, domain, repository)
    return None if found is None else json.loads(found.document)


def _yaml(value: Any) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
