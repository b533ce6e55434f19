"""One deployment: how far it is, its targets with their lifecycle events, and all that somebody may do to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, TypeVar

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from hooks.builds.project_rights import may_open_build
from hooks.deployments import engine, target_list, views, wanted
from hooks.deployments.documents.settings import GroupSettings
from hooks.deployments.ending import can_go_back, next_of
from hooks.deployments.engine import Answer, WaitType
from hooks.deployments.phases import Phase, ready_wait_minutes, termination_wait_minutes
from hooks.deployments.revisions import label
from hooks.deployments.rights import may_deploy, visible_deployment
from hooks.deployments.targets import IGNORABLE
from hooks.deployments.views import DeploymentDetail
from hooks.deployments.waiting import wait_reasons
from hooks.models.deployment import Deployment, DeploymentApplication, DeploymentGroup, DeploymentTarget
from hooks.pages.builds import execution_of
from hooks.pages.deployment_words import facts_of_group, steps_of
from hooks.pages.forms import number, sentence
from hooks.pages.terminal import render_tail
from hooks.services import HookServices
from registry.access import Action, Identity
from registry.errors import Conflict, Invalid, NotFound
from registry.http import context
from registry.http.auth import page
from registry.http.problems import status_of
from registry.names import PackageKey, PackageName
from registry.pages.appearance import redirect_with

TARGETS_SHOWN = 24
_MOST = 10_000
_CHOICES = {"": None, "yes": True, "no": False}

Word = TypeVar("Word", bound=Enum)


@dataclass(frozen=True, slots=True)
class Acts:
    """What who looks may do to a deployment as it stands now."""

    stop: bool = False
    pause: bool = False
    resume: bool = False
    reroute: bool = False
    let_go: bool = False
    retry: bool = False
    roll_back: bool = False
    targets: bool = False


class DeploymentPages:
    """The pages of one deployment."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self, pages: Blueprint) -> None:
        """Add the routes."""
        one = "/deployments/<deployment_id>"
        target = f"{one}/targets/<int:target_id>"
        pages.add_url_rule(one, "deployment", page(self.show))
        pages.add_url_rule(f"{one}/live", "deployment_live", page(self.live))
        pages.add_url_rule(target, "deployment_target", page(self.show_target))
        for word, view in (
            ("stop", self.stop),
            ("pause", self.pause),
            ("resume", self.resume),
            ("continue", self.go_on),
            ("retry", self.retry),
            ("rollback", self.roll_back),
        ):
            pages.add_url_rule(f"{one}/{word}", f"{word}_deployment", page(view), methods=["POST"])
        pages.add_url_rule(f"{target}/skip", "skip_event", page(self.skip), methods=["POST"])
        pages.add_url_rule(f"{target}/answer", "answer_failure", page(self.answer), methods=["POST"])

    # --- looking

    def show(self, deployment_id: str) -> str:
        """The whole page."""
        return self._page(deployment_id)

    def live(self, deployment_id: str) -> str:
        """The part that changes, for a page that is open."""
        with self._services.db.read() as session:
            row, application = visible_deployment(session, deployment_id, context.caller())
            return render_template("deployments/deployment_live.html", **self._facts(session, row, application))

    def _page(self, deployment_id: str, message: str = "") -> str:
        with self._services.db.read() as session:
            row, application = visible_deployment(session, deployment_id, context.caller())
            waves, later = target_list.waves_of(session, row)
            settings = (row.group_document, row.config_name, row.config_document, row.options)
            return render_template(
                "deployments/deployment.html",
                **self._facts(session, row, application),
                facts=facts_of_group(*settings),
                link=_link(session, context.caller(), row.revision),
                before=label(row.previous_revision) if row.previous_revision is not None else "",
                waves=waves,
                later=later,
                execution_id=execution_of(row.subject),
                message=message,
            )

    def _facts(self, session: Session, row: Deployment, application: DeploymentApplication) -> dict[str, Any]:
        group = session.get_one(DeploymentGroup, row.group_id)
        began, now = row.started_at or row.created_at, self._services.clock()
        waits = wait_reasons(session, [row], self._services.deployments.patience, now).get(row.id, ())
        detail = views.detail(session, row, waits)
        show = request.args.get("show", "")
        statuses = (show,) if show in detail.deployment_overview else ()
        after = min(_MOST, max(0, request.args.get("after", 0, type=int)))
        parts = self._services.deployments
        cards = target_list.worst_first(session, parts, row, statuses=statuses, after=after, limit=TARGETS_SHOWN + 1)
        ahead = next_of(session, row.group_id) if row.status == "Queued" else None
        return {
            "deployment": detail,
            "domain": application.domain,
            "steps": _steps(row, application),
            "trail": _crumbs(group, application),
            "acts": _acts(session, context.caller(), row, application, detail),
            "cards": cards[:TARGETS_SHOWN],
            "worst": [(name, detail.deployment_overview.get(name, 0)) for name in target_list.WORST_FIRST],
            "total": sum(detail.deployment_overview.values()),
            "show": show if statuses else "",
            "after": after,
            "following": after + TARGETS_SHOWN if len(cards) > TARGETS_SHOWN else None,
            "awaiting": sorted(row.details.get("awaiting") or {}),
            # The page says the others in words of its own.
            "waits": [each for each in waits if each.kind in {"silent", "turn", "zone", "keeping"}],
            "is_stopping": "ending" in row.details and row.completed_at is None,
            "paused_by": row.details.get("pausedBy", ""),
            "alarms": sorted((row.details.get("alarms") or {}).items()),
            "ahead": ahead.id if ahead is not None and ahead.id != row.id else "",
            "took": ((row.completed_at or now) - began).total_seconds(),
            "now": now,
            "show_log": render_tail,
        }

    def show_target(self, deployment_id: str, target_id: int) -> str:
        """One target with all its lifecycle events and the last of what their scripts wrote."""
        who, parts = context.caller(), self._services.deployments
        with self._services.db.read() as session:
            row, application = visible_deployment(session, deployment_id, who)
            group = session.get_one(DeploymentGroup, row.group_id)
            target = views.find_target(session, deployment_id, number(target_id))
            (shown,) = views.shown_targets(session, [target], lambda event: target_list.open_log(parts, event))
            return render_template(
                "deployments/target.html",
                deployment=views.detail(session, row),
                card=target_list.card(row, target, shown),
                may_act=may_deploy(who, application.domain) and row.completed_at is None,
                details=_details(target),
                trail=_crumbs(group, application),
                now=self._services.clock(),
                show_log=render_tail,
            )

    # --- acting

    def stop(self, deployment_id: str) -> ResponseReturnValue:
        """Stop it; ``rollback`` is yes, no, or empty for what the group says."""
        parts = self._services.deployments

        def act(session: Session, who: str, now: datetime) -> Deployment:
            chosen = request.form.get("rollback", "")
            if chosen not in _CHOICES:
                raise Invalid("rollback is yes, no or empty")
            return engine.stop(session, parts, deployment_id, now, actor=who, rolls_back=_CHOICES[chosen])

        return self._steer(deployment_id, act, "deployment-stopping")

    def pause(self, deployment_id: str) -> ResponseReturnValue:
        """Let nothing more of it begin."""
        parts = self._services.deployments
        return self._steer(
            deployment_id,
            lambda session, who, now: engine.pause(session, parts, deployment_id, now, actor=who),
            "deployment-paused",
        )

    def resume(self, deployment_id: str) -> ResponseReturnValue:
        """Let it go on."""
        parts = self._services.deployments
        return self._steer(
            deployment_id,
            lambda session, who, now: engine.resume(session, parts, deployment_id, now, actor=who),
            "deployment-resumed",
        )

    def go_on(self, deployment_id: str) -> ResponseReturnValue:
        """End the wait before the traffic changes sides, or the one before the old side is let go."""
        parts = self._services.deployments

        def act(session: Session, who: str, now: datetime) -> Deployment:
            wait = _word(WaitType, request.form.get("wait", ""))
            return engine.continue_deployment(session, parts, deployment_id, wait, now, actor=who)

        return self._steer(deployment_id, act, "deployment-continued")

    def retry(self, deployment_id: str) -> ResponseReturnValue:
        """Deploy the same to the targets alone that did not succeed: a new deployment."""
        parts = self._services.deployments

        def act(session: Session, who: str, now: datetime) -> Deployment:
            skips = tuple(sorted(IGNORABLE & set(request.form.getlist("skip"))))
            return engine.retry_failed(session, parts, deployment_id, now, actor=who, skips=skips)

        return self._steer(deployment_id, act, "deployment-retried", brings=lambda row: row.revision)

    def roll_back(self, deployment_id: str) -> ResponseReturnValue:
        """Bring back what was there before: a new deployment, or the end of one that goes on and then that."""
        parts = self._services.deployments
        return self._steer(
            deployment_id,
            lambda session, who, now: engine.rollback(session, parts, deployment_id, now, actor=who),
            "deployment-rolled-back",
            brings=lambda row: row.previous_revision,
        )

    def skip(self, deployment_id: str, target_id: int) -> ResponseReturnValue:
        """Pass over a script of the release that goes, which hangs on one target."""
        parts = self._services.deployments

        def act(session: Session, who: str, now: datetime) -> Deployment:
            name = views.find_target(session, deployment_id, number(target_id)).name
            event = request.form.get("event", "")
            return engine.skip_event(session, parts, deployment_id, name, event, now, actor=who)

        return self._steer(deployment_id, act, "event-skipped")

    def answer(self, deployment_id: str, target_id: int) -> ResponseReturnValue:
        """Say what becomes of a target that failed under guided failure."""
        parts = self._services.deployments

        def act(session: Session, who: str, now: datetime) -> Deployment:
            name = views.find_target(session, deployment_id, number(target_id)).name
            answer = _word(Answer, request.form.get("answer", ""))
            return engine.answer_failure(session, parts, deployment_id, name, answer, now, actor=who)

        return self._steer(deployment_id, act, "failure-answered")

    def _steer(
        self,
        deployment_id: str,
        act: wanted.Act,
        notice: str,
        *,
        brings: Callable[[Deployment], Mapping[str, Any] | None] = lambda _row: None,
    ) -> ResponseReturnValue:
        caller, services = context.caller(), self._services

        def unit(session: Session) -> str:
            return wanted.steer(session, caller, deployment_id, act, services.clock(), brings=brings).id

        try:
            # A worker that ends a job has the job before the deployment: the one of the two that is turned away asks again.
            done = services.db.retry(unit)
        except (Invalid, Conflict, NotFound) as error:
            return self._page(deployment_id, sentence(error)), status_of(error)
        return redirect_with(notice, url_for("hook_pages.deployment", deployment_id=done))


def _acts(
    session: Session, who: Identity, row: Deployment, application: DeploymentApplication, detail: DeploymentDetail
) -> Acts:
    """What may be done now, as far as the rows say: the engine looks once more under its lock."""
    if not may_deploy(who, application.domain):
        return Acts()
    is_open = row.completed_at is None and "ending" not in row.details
    has_begun, phase = is_open and row.status != "Queued", Phase(row.phase)
    goes_on = has_begun and not row.is_paused
    has_ended = row.completed_at is not None
    succeeded, total = detail.deployment_overview["Succeeded"], sum(detail.deployment_overview.values())
    is_blue_green = _is_blue_green(row, application)
    return Acts(
        stop=is_open,
        pause=goes_on,
        resume=has_begun and row.is_paused and not row.details.get("awaiting"),
        reroute=goes_on and phase is Phase.READY_WAIT,
        let_go=goes_on and phase is Phase.BAKE,
        retry=has_ended and not is_blue_green and succeeded < total,
        roll_back=has_ended and row.rolled_back_by is None and _can_go_back(session, row),
        targets=has_begun,
    )


def _can_go_back(session: Session, row: Deployment) -> bool:
    """As the engine says. Without an earlier revision there are only sides, which change again once they have changed."""
    return row.previous_revision is not None or (Phase(row.phase).has_rerouted and can_go_back(session, row))


def _crumbs(group: DeploymentGroup, application: DeploymentApplication) -> list[tuple[str, str]]:
    """The way here. What is deleted is named and not linked: by that name there is nothing now, or something else."""
    of_group = url_for("hook_pages.deployment_group", application=application.name, deployment_group=group.name)
    is_there, has_group = application.deleted_at is None, group.deleted_at is None
    return [
        ("Deployments", url_for("hook_pages.deployments")),
        (application.name, url_for("hook_pages.application", application=application.name) if is_there else ""),
        (group.name, of_group if is_there and has_group else ""),
    ]


def _is_blue_green(row: Deployment, application: DeploymentApplication) -> bool:
    return application.compute_platform == "ECS" or GroupSettings.of(row.group_document).is_blue_green


def _steps(row: Deployment, application: DeploymentApplication) -> list[Any]:
    is_blue_green = _is_blue_green(row, application)
    settings = GroupSettings.of(row.group_document, row.options)
    kept = termination_wait_minutes(row.group_document) or 0
    return steps_of(
        row.phase,
        row.status,
        is_blue_green=is_blue_green,
        bakes=bool(settings.bake_minutes or (is_blue_green and row.rollback_of is None and kept)),
        waits=ready_wait_minutes(row.group_document) is not None,
    )


def _details(target: DeploymentTarget) -> list[tuple[str, str]]:
    """What a platform knows of a target that people may want: where it is."""
    words = {"address": "Address", "host": "Container host", "service": "Service"}
    return [(label, str(target.details[key])) for key, label in words.items() if target.details.get(key)]


def _link(session: Session, who: Identity, revision: Mapping[str, Any]) -> str:
    """Where a revision can be looked at, "" for nowhere, or nowhere for who looks."""
    if revision["revisionType"] == "Package":
        package = revision["package"]
        path = f"{package['domain']}/{package['repository']}"
        key = PackageKey(package["format"], package["namespace"], PackageName(package["name"]))
        if not who.may(Action.READ, path) or not who.may(Action.READ, path, key):
            return ""
        name = f"{package['namespace']}/{package['name']}" if package["namespace"] else package["name"]
        return url_for(
            "pages.version",
            domain=package["domain"],
            repository=package["repository"],
            format_name=package["format"],
            name=name,
            version=package["version"],
        )
    if revision["revisionType"] == "BuildArtifact":
        build_id = revision["buildArtifact"]["buildId"]
        return url_for("hook_pages.build", build_id=build_id) if may_open_build(session, who, build_id) else ""
    return ""


def _word(words: type[Word], text: str) -> Word:
    try:
        return words(text)
    except ValueError:
        raise Invalid(f"it is {' or '.join(str(word.value) for word in words)}, and not {text[:40]!r}") from None
