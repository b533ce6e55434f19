"""What pipelines add to the registry's pages: entries in the bar, and panels on the home and version pages."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from flask import g, render_template
from markupsafe import Markup
from sqlalchemy.orm import Session

from hooks.builds.project_rights import may_open_build
from hooks.deployments import board
from hooks.pages.agents import ENTRY as AGENTS
from hooks.pages.destinations import ENTRY as DESTINATIONS
from hooks.pages.keys import ENTRY
from hooks.pages.life import TAB
from hooks.pages.pipelines import startable
from hooks.pages.runners import ENTRY as RUNNERS
from hooks.pages.secrets import may_list_secrets
from hooks.pipelines import store
from hooks.pipelines.asking import waiting
from hooks.pipelines.gates import may_look_into
from hooks.services import HookServices
from registry.access import Identity
from registry.names import PackageKey, PackageName
from registry.pages.panels import Coordinate, Extension, NavigationEntry, Notice
from registry.repos import built, shelf
from registry.repos.topology import find_repository

LATEST_EXECUTIONS = 5
EXECUTIONS_OF_VERSION = 10
_LOOKED_AT = 50

NOTICES = {
    "approved": Notice("good", "Approved. The execution goes on."),
    "approved-further": Notice(
        "good", "Your approval is kept. The execution goes on when the others have approved, too."
    ),
    "rejected": Notice("good", "Rejected. The stage has failed; it can be retried."),
    "execution-started": Notice("good", "The execution has started."),
    "execution-there": Notice("idle", "This form was sent before; here is the execution it started."),
    "stage-closed": Notice("good", "The way into the stage is closed: executions wait before it."),
    "stage-opened": Notice("good", "The way into the stage is open."),
    "condition-overridden": Notice("good", "The condition counts as met now."),
    "let-through": Notice("good", "The execution is let through the freeze."),
    "stage-released": Notice("good", "What was held before the stage may enter it again."),
    "freeze-made": Notice("good", "The freeze window is made."),
    "freeze-gone": Notice("good", "The freeze window is gone; what waited for it goes on."),
    "stage-rolled-back": Notice("good", "The rollback has started."),
    "execution-stopping": Notice("good", "The execution is being stopped."),
    "stage-retried": Notice("good", "The stage is tried again."),
    "webhook-changed": Notice("good", "The webhook is changed."),
    "webhook-deleted": Notice("good", "The webhook is deleted, with the records of its deliveries."),
    "webhook-enabled": Notice("good", "The webhook is enabled. What failed meanwhile can be delivered again."),
    "webhook-disabled": Notice("good", "The webhook is disabled: nothing more is sent to it."),
    "ping-sent": Notice("good", "A ping is on its way: it stands among the deliveries."),
    "redelivered": Notice("good", "It is tried again, under the same webhook-id."),
    "subscribed": Notice("good", "You will be told by e-mail."),
    "unsubscribed": Notice("good", "You will not be told of that any more."),
    "address-asked": Notice("good", "A link is on its way to that address. Open it within a day."),
    "address-confirmed": Notice("good", "The address is confirmed: mails go there from now on."),
    "address-removed": Notice("good", "The address is forgotten."),
    "keys-rotating": Notice("good", "The worker makes a new key and wraps anew what the old ones wrap."),
    "keys-rotating-already": Notice("idle", "A rotation is waiting or running already."),
    "secret-stored": Notice("good", "It is stored. Its value is not shown again."),
    "secret-replaced": Notice("good", "The value is replaced. Builds get the new one from now on."),
    "secret-changed": Notice("good", "It is changed; the value is as it was."),
    "secret-deleted": Notice("good", "It is deleted, with all its versions."),
    "destination-set": Notice("good", "The destination is set. Its secret is not shown again."),
    "destination-deleted": Notice("good", "The destination is deleted, with its credential."),
    "push-hook-changed": Notice("good", "The webhook is changed."),
    "push-hook-deleted": Notice("good", "The webhook is deleted: its address answers 404 from now on."),
    "build-resumed": Notice("good", "The build goes on."),
    "build-stopping": Notice("good", "The build is told to stop."),
    "runner-revoked": Notice("good", "The runner is revoked. What it ran starts anew elsewhere."),
    "runner-deleted": Notice("good", "The runner is deleted."),
    "agent-revoked": Notice("good", "The agent is revoked. What it carried out has failed."),
    "agent-deleted": Notice("good", "The agent is deleted."),
    "agent-tagged": Notice("good", "The tags are set. The next deployment goes by them."),
    "agent-looked-at": Notice("good", "The alarm is cleared."),
    "build-started": Notice("good", "The build was started."),
    "deployment-made": Notice("good", "The deployment is made."),
    "deployment-stopping": Notice("good", "Nothing more of it begins; it is Stopped when what is under way has ended."),
    "deployment-paused": Notice("good", "It is paused: what is under way comes to its end, and nothing more begins."),
    "deployment-resumed": Notice("good", "It goes on."),
    "deployment-continued": Notice("good", "The wait is over; it goes on."),
    "deployment-retried": Notice("good", "This deployment repeats it, on the targets that did not succeed."),
    "deployment-rolled-back": Notice("good", "What was there before is brought back."),
    "event-skipped": Notice("good", "The event is passed over on that target."),
    "failure-answered": Notice("good", "Noted. The deployment goes on when all failures are answered for."),
}


class Panels:
    """Pipelines in the registry's pages."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def extension(self) -> Extension:
        """All of it."""
        return Extension(
            navigation=(
                NavigationEntry(
                    "Pipelines",
                    "pipeline",
                    "hook_pages.pipelines",
                    (
                        "/pipelines",
                        "/executions",
                        "/builds",
                        "/build-projects",
                        "/build-batches",
                        "/reports",
                        "/report-groups",
                    ),
                ),
                NavigationEntry(
                    "Deployments",
                    "deploy",
                    "hook_pages.deployments",
                    ("/deployments", "/applications", "/environments", "/board", "/figures"),
                ),
                NavigationEntry("Approvals", "approval", "hook_pages.approvals", ("/approvals",), self.count_for_me),
            ),
            menu=(
                NavigationEntry("Notifications", "info", "hook_pages.notifications", ("/account/notifications",)),
                NavigationEntry("Secrets", "lock", "hook_pages.secrets", ("/secrets",), may_see=may_list_secrets),
                NavigationEntry("Webhooks", "globe", "hook_pages.webhooks", ("/webhooks",)),
            ),
            administration=(ENTRY, RUNNERS, AGENTS, DESTINATIONS),
            home=self.home,
            version=self.version,
            version_tabs=(TAB,),
            notices=NOTICES,
        )

    def count_for_me(self, who: Identity) -> int:
        """How many approvals wait for this person."""
        # Once for each page, though both the bar and the home page ask.
        if "waiting_for_me" not in g:
            with self._services.db.read() as session:
                g.waiting_for_me = [
                    question for question in waiting(session, self._services.actions, who) if question.may_answer
                ]
        return len(g.waiting_for_me)

    def home(self, who: Identity) -> Markup:
        """What waits for this person, and the latest executions."""
        self.count_for_me(who)
        with self._services.db.read() as session:
            found = store.list_executions(session, limit=_LOOKED_AT)
            latest = self._first_visible(session, found, who, LATEST_EXECUTIONS)
        if not latest and not g.waiting_for_me:
            return Markup()
        page = render_template("pipelines/home_panel.html", questions=g.waiting_for_me, executions=latest)
        return Markup(page)  # noqa: S704  (a template of ours, escaped there)

    def version(self, who: Identity, at: Coordinate) -> Markup:
        """The builds that published a version, where it is installed, its executions, and the pipelines it could start."""
        package = (at.domain, at.format, at.namespace, at.name)
        with self._services.db.read() as session:
            found = store.list_executions(session, package=package, version=at.version, limit=_LOOKED_AT)
            executions = self._first_visible(session, found, who, EXECUTIONS_OF_VERSION)
            pipelines = startable(session, who, at)
            built_by = published_by(session, at)
            linked = {each.build_id for each in built_by if may_open_build(session, who, each.build_id)}
            places = board.places_of(
                session,
                who,
                domain=at.domain,
                format_name=at.format,
                namespace=at.namespace,
                name=at.name,
                version=at.version,
            )
        page = render_template("builds/version_panel.html", built_by=built_by, linked=linked) if built_by else ""
        if places:
            page += render_template("deployments/version_panel.html", places=places)
        if executions or pipelines:
            page += render_template("pipelines/version_panel.html", at=at, executions=executions, pipelines=pipelines)
        return Markup(page)  # noqa: S704  (templates of ours, escaped there)

    @staticmethod
    def _first_visible(
        session: Session, found: Iterable[store.ExecutionSummary], who: Identity, most: int
    ) -> list[store.ExecutionView]:
        visible = (entry for entry in found if may_look_into(who, entry))
        return [store.get_execution(session, entry.id) for entry in islice(visible, most)]


def published_by(session: Session, at: Coordinate) -> tuple[built.BuiltBy, ...]:
    """The builds that published files of a version."""
    _, repository = find_repository(session, at.domain, at.repository)
    key = PackageKey(at.format, at.namespace, PackageName(at.name))
    return built.of_version(session, shelf.find_version(session, repository.id, key, at.version).id)
