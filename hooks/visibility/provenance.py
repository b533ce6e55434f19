"""Backwards from a machine or a group: what is installed, by which deployment and execution, who approved it, and of what."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from hooks.builds.project_rights import may_see_build
from hooks.builds.source import PackageSource
from hooks.deployments.installed import drift_of
from hooks.deployments.revisions import ARTIFACT, PACKAGE, digest_of_revision, label, version_of
from hooks.deployments.rights import may_see as may_see_domain
from hooks.models.build import Build, BuildProject
from hooks.models.deployment import (
    Deployment,
    DeploymentApplication,
    DeploymentGroup,
    DeploymentInstallation,
)
from hooks.pipelines import store
from hooks.pipelines.gates import may_see
from hooks.visibility.life import approvals_of
from hooks.visibility.life_shapes import LifeApproval
from hooks.visibility.whereabouts import execution_of
from registry.access import Identity
from registry.models import Asset, BuiltAsset, Domain, Package, PackageVersion, Repository
from registry.names import PackageKey, PackageName

MOST_INSTALLATIONS = 500


@dataclass(frozen=True, slots=True)
class ProvenPackage:
    """The package version that is installed, and the repository its files came from."""

    domain: str
    repository: str
    format: str
    namespace: str
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class ProvenBuild:
    """The build that made what is installed. ``build_id`` is None for one that is gone, or not to be seen.

    ``uri`` and ``commit`` are what it was made from.
    """

    build_id: str | None
    project: str
    number: int
    initiator: str
    uri: str
    commit: str


@dataclass(frozen=True, slots=True)
class ProvenExecution:
    """The pipeline's execution that deployed it. ``digest`` is over the files that it is pinned to, and was approved."""

    execution_id: int
    pipeline: str
    status: str
    digest: str
    triggered_by: str
    started_at: datetime


@dataclass(frozen=True, slots=True)
class ProvenTarget:
    """A machine (or another target) on which it is. ``drift`` is what the agent saw: none, changed, other or unknown."""

    name: str
    is_healthy: bool
    installed_at: datetime
    drift: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """What is installed of a group, and all that led to it, as far as the caller may see it.

    ``digest`` is the SHA-256 of what was deployed; ``deployment_status`` None for a deployment that is not kept any more.
    What is not a pipeline's has no ``execution``, what no build published here no ``build``.
    """

    application: str
    group: str
    targets: tuple[ProvenTarget, ...]
    revision_label: str
    version: str
    digest: str
    package: ProvenPackage | None
    deployment_id: str
    deployment_status: str | None
    rollback_of: str | None
    initiator: str | None
    deployed_at: datetime | None
    execution: ProvenExecution | None
    approvals: tuple[LifeApproval, ...]
    builds: tuple[ProvenBuild, ...]


def provenance_of_machine(session: Session, caller: Identity, name: str) -> tuple[list[Provenance], bool]:
    """All that is installed on a machine, of applications that the caller may see; and whether there is more than was read."""
    return _provenance(session, caller, DeploymentInstallation.target == name)


def provenance_of_group(session: Session, caller: Identity, group_id: str) -> tuple[list[Provenance], bool]:
    """All that is installed of a group, each deployment once with its targets; and whether there is more than was read."""
    return _provenance(session, caller, DeploymentInstallation.group_id == group_id)


def _provenance(session: Session, caller: Identity, which: Any) -> tuple[list[Provenance], bool]:
    """At most ``MOST_INSTALLATIONS`` are looked at. It costs about ten queries, however many they are."""
    rows = session.execute(
        select(DeploymentInstallation, DeploymentGroup.name, DeploymentApplication, Deployment)
        .join(DeploymentGroup, DeploymentGroup.id == DeploymentInstallation.group_id)
        .join(DeploymentApplication, DeploymentApplication.id == DeploymentGroup.application_id)
        .outerjoin(Deployment, Deployment.id == DeploymentInstallation.deployment_id)
        .where(which)
        .order_by(DeploymentInstallation.group_id, DeploymentInstallation.target)
        .limit(MOST_INSTALLATIONS + 1)
    ).all()
    seen = [row for row in rows[:MOST_INSTALLATIONS] if row[0].revision and may_see_domain(caller, row[2].domain)]
    executions = _executions(session, caller, [row[3] for row in seen])
    builds = _builds(session, caller, [row[0].revision for row in seen])
    found: dict[tuple[str, str], list[Any]] = {}
    for row in seen:
        found.setdefault((row[0].group_id, row[0].deployment_id), []).append(row)
    return [_one(listed, executions, builds) for listed in found.values()], len(rows) > MOST_INSTALLATIONS


def _one(
    rows: Sequence[Any], executions: Mapping[int, store.ExecutionView], builds: Mapping[str, tuple[ProvenBuild, ...]]
) -> Provenance:
    (installation, group, application, deployment), revision = rows[0], rows[0][0].revision
    view = executions.get(execution_of(deployment.subject) or 0) if deployment is not None else None
    digest = digest_of_revision(revision)
    return Provenance(
        application.name,
        group,
        tuple(ProvenTarget(row[0].target, row[0].is_healthy, row[0].installed_at, drift_of(row[0])) for row in rows),
        label(revision),
        version_of(revision),
        digest,
        _package(revision),
        installation.deployment_id,
        deployment.status if deployment is not None else None,
        deployment.rollback_of if deployment is not None else None,
        deployment.initiator if deployment is not None else None,
        deployment.completed_at if deployment is not None else None,
        _execution(view.summary) if view is not None else None,
        tuple(approvals_of(view)) if view is not None else (),
        builds.get(digest, ()),
    )


def _package(revision: Mapping[str, Any]) -> ProvenPackage | None:
    if revision["revisionType"] != PACKAGE:
        return None
    names = ("domain", "repository", "format", "namespace", "name", "version")
    return ProvenPackage(*(str(revision["package"][each]) for each in names))


def _execution(summary: store.ExecutionSummary) -> ProvenExecution:
    return ProvenExecution(
        summary.id, summary.pipeline, summary.status, summary.digest, summary.triggered_by, summary.started_at
    )


def _executions(
    session: Session, caller: Identity, deployments: Iterable[Deployment | None]
) -> Mapping[int, store.ExecutionView]:
    numbers = [execution_of(row.subject) for row in deployments if row is not None]
    wanted = {number for number in numbers if number is not None}
    found = store.get_executions(session, wanted)
    return {number: view for number, view in found.items() if may_see(caller, view)}


# --- builds ----------------------------------------------------------------------------------------------------------


def _builds(
    session: Session, caller: Identity, revisions: Collection[Mapping[str, Any]]
) -> Mapping[str, tuple[ProvenBuild, ...]]:
    """By the digests of revisions: which builds made what they bring."""
    packages = [each["package"] for each in revisions if each["revisionType"] == PACKAGE]
    published = _published(session, packages)
    artifacts = {
        digest_of_revision(each): str(each["buildArtifact"]["buildId"])
        for each in revisions
        if each["revisionType"] == ARTIFACT
    }
    ids = {each.build_id for listed in published.values() for each in listed} | set(artifacts.values())
    rows = session.execute(
        select(Build, BuildProject.name).join(BuildProject, BuildProject.id == Build.project_id).where(Build.id.in_(ids))
    ).all() if ids else []  # fmt: skip
    seen = {row.id: (row, name) for row, name in rows if may_see_build(caller, PackageSource.from_json(row.source))}
    found = {
        digest_of_revision({"revisionType": PACKAGE, "package": package}): _of_package(package, caller, published, seen)
        for package in packages
    }
    for digest, build_id in artifacts.items():
        if build_id in seen:
            row, name = seen[build_id]
            commit = row.resolved_versions.get("", "")
            found[digest] = (ProvenBuild(row.id, name, row.number, row.initiator, "", commit),)
    return found


def _of_package(
    package: Mapping[str, Any],
    caller: Identity,
    published: Mapping[tuple[str, ...], Sequence[BuiltAsset]],
    seen: Collection[str],
) -> tuple[ProvenBuild, ...]:
    key = PackageKey(package["format"], package["namespace"], PackageName(package["name"]))
    if not caller.may_look_into(f"{package['domain']}/{package['repository']}", key):
        return ()
    unique = {each.build_id: each for each in published.get(_names(package), ())}
    return tuple(
        ProvenBuild(
            each.build_id if each.build_id in seen else None, each.project, each.number, each.initiator,
            each.source.get("uri", ""), each.source.get("version", ""),
        )
        for each in unique.values()
    )  # fmt: skip


_NAMES = ("domain", "repository", "format", "namespace", "name", "version")


def _names(package: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(package[each]) for each in _NAMES)


def _published(session: Session, packages: Iterable[Mapping[str, Any]]) -> dict[tuple[str, ...], list[BuiltAsset]]:
    """Where a version is → who built those of its files that were deployed, digest for digest."""
    wanted = {_names(package): _digests(package) for package in packages}
    if not wanted:
        return {}
    columns = (Domain.name, Repository.name, Package.format, Package.namespace, Package.name, PackageVersion.version)
    rows = session.execute(
        select(*columns, Asset.sha256, BuiltAsset)
        .join(Repository, Repository.domain_id == Domain.id)
        .join(Package, Package.repository_id == Repository.id)
        .join(PackageVersion, PackageVersion.package_id == Package.id)
        .join(Asset, Asset.version_id == PackageVersion.id)
        .join(BuiltAsset, BuiltAsset.asset_id == Asset.id)
        .where(tuple_(*columns).in_(list(wanted)))
        .order_by(BuiltAsset.published_at, Asset.id)
    )
    found: dict[tuple[str, ...], list[BuiltAsset]] = {}
    for *names, sha256, built in rows:
        at = tuple(names)
        if sha256 in wanted[at]:
            found.setdefault(at, []).append(built)
    return found


def _digests(package: Mapping[str, Any]) -> frozenset[str]:
    if package["asset"] is not None:
        return frozenset({str(package["sha256"])})
    return frozenset(map(str, package["assets"].values()))
