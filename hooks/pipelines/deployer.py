"""Deployments of pipelines: the same ones that people make, of what the execution is pinned to.

A pipeline may deploy where its group names it (``pipelines``); where a group names none, where the author of the definition
may, asked when the deployment is made. For a definition that comes from its source both are asked. It installs the bytes that
the execution is about, whatever the version has by now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from sqlalchemy.orm import Session

from hooks.builds.handing_over import keeper_of_artifacts
from hooks.builds.source import digest_of
from hooks.deployments import engine, installed
from hooks.deployments.applications import find_application, find_group
from hooks.deployments.configs import chosen_config
from hooks.deployments.parts import Parts
from hooks.deployments.planning import DeploymentStatus
from hooks.deployments.request import DeploymentRequest
from hooks.deployments.revisions import (
    ARTIFACT,
    CONTENT,
    PACKAGE,
    SOURCE,
    check_served,
    digest_of_revision,
    label,
    pin,
)
from hooks.deployments.rights import check_deploy
from hooks.models.deployment import Deployment, DeploymentApplication, DeploymentGroup
from hooks.models.pipeline_source import PipelineLocation
from hooks.pipelines.parts import DeploymentOrder, DeploymentOutcome, TextPlace
from hooks.pipelines.service_texts import StoredTexts
from registry.access import Action, Identity, check
from registry.errors import Conflict, Denied, Invalid, InvalidDocument, NotFound
from registry.names import PackageKey, PackageName

Member = Callable[[Session, str, datetime], Identity | None]
"""The account of a name by the rules of the moment; None when nobody can act under it."""


class PipelineDeployer:
    """``hooks.pipelines.parts.Deployer`` over the engine of deployments."""

    def __init__(self, deployments: Parts, member: Member, texts: StoredTexts | None = None) -> None:
        """``texts`` reads the documents of services out of artifacts; None: this process deploys none."""
        self._deployments = deployments
        self._member = member
        self._texts = texts

    def create(self, session: Session, order: DeploymentOrder, now: datetime) -> str:
        """Make a deployment of what was pinned, in the right of the group's word or the definition's author."""
        application = find_application(session, order.application)
        group = find_group(session, application, order.group)
        self._check_right(session, order, application, group, now)
        revision = _revision(session, order, application, now)
        platform = installed.platform_of(self._deployments, application)
        if faults := list(platform.check_revision(revision)):
            raise InvalidDocument("revision", faults)
        config_name, config = chosen_config(session, None, group.document, application.compute_platform)
        # As builds do (CODEBUILD_INITIATOR): it is the pipeline that deploys, and nobody in person.
        request = DeploymentRequest(
            group.id,
            revision,
            f"codepipeline/{order.pipeline}",
            config_name=config_name,
            config=config,
            description=f"{order.source.full_name} {order.source.version}"[:256],
            subject=order.subject,
        )
        return engine.create(session, self._deployments, request, now).id

    def _check_right(
        self,
        session: Session,
        order: DeploymentOrder,
        application: DeploymentApplication,
        group: DeploymentGroup,
        now: datetime,
    ) -> None:
        named = group.document.get("pipelines")
        if named is not None:
            if order.pipeline not in named:
                raise Denied(f"group {group.name} names the pipelines that deploy to it, and {order.pipeline} is none")
            # The group's word is about a definition that administrators wrote: whoever may push can take its approvals out.
            if session.get(PipelineLocation, order.pipeline) is None:
                return
        author = self._member(session, order.author, now)
        if author is None:
            raise Denied(
                f"{order.author}, who wrote the pipeline's definition, is not there or is disabled; let somebody else"
                f" apply it, or, if it is not pushed, name {order.pipeline} in the pipelines of group {group.name}"
            )
        try:
            check_deploy(author, application.domain)
            if order.artifact is None:
                source = order.source
                key = PackageKey(source.format, source.namespace, PackageName(source.name))
                check(author, Action.READ, f"{source.domain}/{order.repository}", key if source.is_package else None)
        except Denied as denied:
            raise Denied(f"{author.name}, who wrote the pipeline's definition, may not: {denied}") from denied

    def read_text(self, place: TextPlace) -> str:
        """A file of an artifact, for the documents of a service."""
        if self._texts is None:
            raise Conflict("this process reads no artifacts")
        return self._texts.read(place)

    def outcome(self, session: Session, deployment_id: str) -> DeploymentOutcome | None:
        """How a deployment ended; one that was undone by itself has failed, and its summary says by which one."""
        row = session.get(Deployment, deployment_id)
        if row is None:
            raise NotFound("deployment", deployment_id)
        if row.completed_at is None:
            return None
        succeeded = row.status == DeploymentStatus.SUCCEEDED
        told = f"deployment {row.id} of {label(row.revision)}: {row.status}"
        if row.error_code or row.error_message:
            told += ", " + ": ".join(part for part in (row.error_code, row.error_message) if part)
        elif row.details.get("result"):
            told += f", {row.details['result']}"
        if row.rolled_back_by is not None:
            told += f"; it is rolled back by {row.rolled_back_by}"
        elif row.rollback_message:
            told += f"; {row.rollback_message}"
        return DeploymentOutcome(succeeded, told, digest_of_revision(row.revision))

    def stop(self, session: Session, deployment_id: str, actor: str, now: datetime) -> None:
        """Stop a deployment; whether it is then rolled back is its group's to say."""
        row = session.get(Deployment, deployment_id)
        if row is None:
            return
        run = engine.locked(session, self._deployments, deployment_id)
        if run.deployment.completed_at is None and not run.is_stopping:
            engine.stop(session, self._deployments, deployment_id, now, actor=actor)


def _revision(
    session: Session, order: DeploymentOrder, application: DeploymentApplication, now: datetime
) -> Mapping[str, Any]:
    """The document of what is deployed, with the digests that the execution has. Raises RevisionRefused, Invalid."""
    if order.service is not None:
        content = {"content": order.service.appspec, "taskDefinition": dict(order.service.task_definition)}
        return pin(session, {"revisionType": CONTENT, "appSpecContent": content}, application, now)
    if order.artifact is not None:
        build_id, identifier = order.artifact
        wanted = {"buildId": keeper_of_artifacts(session, build_id), "identifier": identifier}
        return pin(session, {"revisionType": ARTIFACT, "buildArtifact": wanted}, application, now)
    if order.revision is not None:
        return pin(session, {"revisionType": SOURCE, "source": {"id": order.revision}}, application, now)
    source = order.source
    if not source.is_package:
        raise Invalid("nothing is deployed without an input artifact where the execution is about no package version")
    at = {
        "domain": source.domain,
        "repository": order.repository,
        "format": source.format,
        "namespace": source.namespace,
        "name": source.name,
        "version": source.version,
    }
    if order.asset is not None:
        asset = _asset(order.asset, source.assets)
        wanted = {**at, "asset": asset, "sha256": source.assets[asset]}
        return pin(session, {"revisionType": PACKAGE, "package": wanted}, application, now)
    # Files that came to the version since are not what was tested and approved: the execution's own list counts.
    package = {**at, "asset": None, "sha256": digest_of(source.assets), "assets": dict(source.assets)}
    revision = {"revisionType": PACKAGE, "package": package}
    check_served(session, revision, application.id)
    return revision


def _asset(pattern: str, assets: Mapping[str, str]) -> str:
    found = sorted(name for name in assets if fnmatchcase(name, pattern))
    if len(found) != 1:
        told = "none of the files" if not found else f"{', '.join(found)}"
        raise Invalid(f"configuration Asset: {pattern!r} has to match one file, and matches {told}")
    return found[0]
