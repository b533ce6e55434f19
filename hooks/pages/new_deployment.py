"""The form of a new deployment: what, to where, how; looked at first as a dry run, and then made."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from hooks.deployments import board, configs, target_list, views, wanted
from hooks.deployments.applications import list_groups
from hooks.deployments.documents.choices import FILE_EXISTS
from hooks.deployments.documents.request import parse_request
from hooks.deployments.installed import PlannedTarget
from hooks.deployments.planning import Rules, TargetView
from hooks.deployments.revisions import digest_of_revision, label
from hooks.deployments.rights import check_deploy, visible_application, visible_deployment
from hooks.deployments.target_list import Wave
from hooks.models.deployment import DeploymentApplication
from hooks.pages.deployment_words import pace
from hooks.pages.forms import sentence
from hooks.services import HookServices
from registry.access import Identity
from registry.api import coordinates
from registry.errors import Conflict, Denied, Invalid, InvalidDocument, NotFound, Problem
from registry.http import context
from registry.http.auth import page
from registry.http.problems import status_of
from registry.pages.appearance import redirect_with

REVISIONS_LOOKED_AT = 50
TARGETS_SHOWN = 50
KINDS = ("previous", "package", "artifact")
_FLAGS = ("guidedFailure", "ignoreApplicationStopFailures", "updateOutdatedInstancesOnly")
_PART = {
    "Package": ("package", ("domain", "repository", "format", "namespace", "name", "version", "asset", "sha256")),
    "BuildArtifact": ("buildArtifact", ("buildId", "identifier", "sha256")),
    "Upload": ("upload", ("id", "sha256")),
    "AppSpecContent": ("appSpecContent", ("content", "taskDefinition", "sha256")),
}


@dataclass(frozen=True, slots=True)
class Preview:
    """What a deployment would do: ``changed`` of its targets get something else, and in which waves."""

    label: str
    group: str
    pace: str
    targets: tuple[PlannedTarget, ...]
    total: int
    changed: int
    skipped: int
    waves: tuple[Wave, ...]
    later: int


class NewDeploymentPages:
    """The form of a new deployment."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self, pages: Blueprint) -> None:
        """Add the routes."""
        one = "/applications/<application>/deploy"
        pages.add_url_rule(one, "new_deployment", page(self.show))
        pages.add_url_rule(one, "create_deployment", page(self.create), methods=["POST"])

    def show(self, application: str) -> str:
        """The form; the address may say a part of what is in it."""
        return self._page(application, request.args)

    def _page(
        self, application: str, form: Mapping[str, str], message: str = "", preview: Preview | None = None
    ) -> str:
        who = context.caller()
        with self._services.db.read() as session:
            row = visible_application(session, application, who)
            check_deploy(who, row.domain)
            groups = list_groups(session, row)
            latest = views.page_of(session, application_ids=[row.id], limit=REVISIONS_LOOKED_AT)
            names = {each.id: each.name for each in groups}
            revisions = board.recent_revisions(latest, names)
            if asked := form.get("previous", ""):
                try:
                    form, revisions = self._with_asked(session, row, asked, form, revisions, names)
                except NotFound:
                    if not message:  # with one, that is what it says
                        raise
            known = [
                name
                for name, document, _ in configs.list_configs(session)
                if document["computePlatform"] == row.compute_platform
            ]
        chosen = form.get("kind", "") or ("package" if form.get("package") or not revisions else "previous")
        return render_template(
            "deployments/new.html",
            application=row,
            groups=[each.name for each in groups],
            revisions=revisions,
            configs=known,
            formats=sorted(context.services().formats),
            behaviours=FILE_EXISTS,
            kind=chosen if chosen in KINDS else KINDS[0],
            form=form,
            message=message,
            preview=preview,
            # Sent twice (a double click, a reload), the form makes one deployment.
            request_token=form.get("request_token") or secrets.token_urlsafe(16),
        )

    @staticmethod
    def _with_asked(
        session: Session,
        application: DeploymentApplication,
        asked: str,
        form: Mapping[str, str],
        revisions: list[board.DeployedRevision],
        names: Mapping[str, str],
    ) -> tuple[Mapping[str, str], list[board.DeployedRevision]]:
        """The form with what a deployment brought chosen in it, which the list may have under a later one, or not at all.

        The form's own default would be another revision, and nobody would notice. Raises NotFound.
        """
        row, owner = visible_deployment(session, asked, context.caller())
        if owner.id != application.id:
            raise NotFound("deployment", asked)
        (wanted_one,) = board.recent_revisions([row], names)
        digest = digest_of_revision(row.revision)
        same = next((each for each in revisions if digest_of_revision(each.revision) == digest), None)
        if same is None:
            revisions = [*revisions, wanted_one]
        return {**form, "previous": (same or wanted_one).deployment_id}, revisions

    def create(self, application: str) -> ResponseReturnValue:
        """Make the deployment, or with ``do=preview`` only say what it would do. Needs the right to deploy."""
        who, services = context.caller(), self._services
        with services.db.read() as session:
            row = visible_application(session, application, who)
            check_deploy(who, row.domain)
        try:
            if request.form.get("do") == "preview":
                return self._page(application, request.form, preview=self._preview(application, who))
            with services.db.write() as session:
                parsed = parse_request(json.dumps(self._document(session, application, who)))
                made = wanted.create(session, services.deployments, who, parsed, _canonical, services.clock()).id
        except (Invalid, NotFound, Conflict, Denied) as error:
            return self._page(application, request.form, _told(error)), status_of(error)
        return redirect_with("deployment-made", url_for("hook_pages.deployment", deployment_id=made))

    def _preview(self, application: str, who: Identity) -> Preview:
        services = self._services
        with services.db.read() as session:
            parsed = parse_request(json.dumps(self._document(session, application, who)))
            found = wanted.look_up(session, services.deployments, who, parsed, _canonical, services.clock())
            planned = wanted.planned(session, services.deployments, found)
        most = parsed.options.get("maxConcurrent") or found.group.document.get("maxConcurrent")
        fleet = [
            TargetView(each.name, was_healthy=each.is_healthy is not False, zone=each.zone)
            for each in planned
            if not each.is_skipped and each.instance_label != "Blue"
        ]
        waves, later = target_list.waves(fleet, Rules.of(found.config_name, found.config, most))
        return Preview(
            label(found.revision),
            found.group.name,
            pace(found.config_name, found.config, most),
            tuple(planned[:TARGETS_SHOWN]),
            len(planned),
            sum(each.is_changed for each in planned),
            sum(each.is_skipped for each in planned),
            tuple(waves),
            later,
        )

    @staticmethod
    def _document(session: Session, application: str, who: Identity) -> dict[str, Any]:
        """The form as a CreateDeployment."""
        form = request.form
        row = visible_application(session, application, who)
        document: dict[str, Any] = {
            "applicationName": application,
            "deploymentGroupName": form.get("group", ""),
            "description": form.get("description", "").strip(),
            **{flag: True for flag in _FLAGS if flag in form},
        }
        for key in ("deploymentConfigName", "fileExistsBehavior"):
            if form.get(key):
                document[key] = form[key]
        if token := form.get("request_token", "")[:64]:
            document["clientRequestToken"] = token
        revision = _revision(session, form, row, who)
        return document if revision is None else {**document, "revision": revision}


def _revision(
    session: Session, form: Mapping[str, str], application: DeploymentApplication, who: Identity
) -> dict[str, Any] | None:
    """The revision that the form names; None for the group's last good one."""
    texts = {key: value.strip() for key, value in form.items()}
    match texts.get("kind"):
        case "package":
            known = coordinates.known_format(context.services().formats, texts.get("format", ""))
            key = known.key(texts.get("package", ""))
            package = {
                "repository": texts.get("repository", ""),
                "format": key.format,
                "namespace": key.namespace,
                "name": key.name,
                "version": texts.get("version", ""),
                "asset": texts.get("asset", ""),
            }
            return {"revisionType": "Package", "package": {key: value for key, value in package.items() if value}}
        case "artifact":
            artifact = {"buildId": texts.get("build", ""), "identifier": texts.get("artifact") or "primary"}
            return {"revisionType": "BuildArtifact", "buildArtifact": artifact}
        case "previous":
            earlier = texts.get("previous", "")
            if not earlier:
                return None
            row, owner = visible_deployment(session, earlier, who)
            if owner.id != application.id:
                raise NotFound("deployment", earlier)
            return again(row.revision)
    raise Invalid(f"what is deployed is one of {', '.join(KINDS)}")


def again(revision: Mapping[str, Any]) -> dict[str, Any]:
    """A pinned revision as one asks for it anew: the very same bytes, by their digest. Pure."""
    part, keys = _PART[revision["revisionType"]]
    found = {key: revision[part][key] for key in keys if revision[part].get(key)}
    return {"revisionType": revision["revisionType"], part: found}


def _canonical(session: Session, caller: Identity, package: Mapping[str, Any], domain: str) -> dict[str, str]:
    return coordinates.find_readable(session, context.services().formats, caller, package, domain)


def _told(error: Problem) -> str:
    """What is wrong, without the lines of a document that nobody has written."""
    if not isinstance(error, InvalidDocument):
        return sentence(error)
    faults = [each.partition("line 1: ")[2] or each for each in error.faults]
    return "; ".join(faults)[:1].upper() + "; ".join(faults)[1:]
