"""Runners: what each does now, one more, and none of one any more."""

from __future__ import annotations

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select

from hooks.builds import runners
from hooks.builds.runners import Limits, NewToken
from hooks.models.runner import BuildRunner
from hooks.pages.forms import sentence
from hooks.services import HookServices
from registry.access import Action, check
from registry.errors import Conflict, Invalid, NotFound
from registry.http import context
from registry.http.auth import page
from registry.http.problems import status_of
from registry.pages.appearance import redirect_with
from registry.pages.panels import AdministrationEntry
from registry.pages.proof import proved

ENTRY = AdministrationEntry(
    "Runners",
    "screen",
    "hook_pages.runners",
    ("/runners",),
    "Machines that run builds for this server: what each does, one more, revoked.",
    lambda who: who.may(Action.ADMIN),
)
LOOKS = {
    "ONLINE": ("good", "online"),
    "OFFLINE": ("wait", "offline"),
    "PENDING": ("idle", "not registered yet"),
    "REVOKED": ("bad", "revoked"),
}


class RunnerPages:
    """The page of runners."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self, pages: Blueprint) -> None:
        """Add the routes."""
        pages.add_url_rule("/runners", "runners", page(self.show))
        pages.add_url_rule("/runners", "add_runner", page(proved()(self.add)), methods=["POST"])
        for word, view in (("token", proved()(self.renew)), ("revoke", self.revoke), ("delete", self.delete)):
            pages.add_url_rule(f"/runners/<runner>/{word}", f"{word}_runner", page(view), methods=["POST"])

    def show(self) -> str:
        """All runners."""
        return self._shown()

    def _shown(self, *, name: str = "", given: NewToken | None = None, message: str = "") -> str:
        check(context.caller(), Action.ADMIN)
        now = self._services.clock()
        with self._services.db.read() as session:
            rows = session.scalars(select(BuildRunner).order_by(BuildRunner.name)).all()
            held = runners.held_now(session, [row.id for row in rows])
            found = [(row, LOOKS[runners.state_of(row, now)], held.get(row.id, [])) for row in rows]
        return render_template(
            "runners.html",
            runners=found,
            name=name,
            given=given,
            message=message,
            form=request.form if message else {},
            url=context.services().public_url or request.host_url.rstrip("/"),
        )

    def add(self) -> ResponseReturnValue:
        """Make a runner; the page then shows the token it registers with, this once."""
        check(context.caller(), Action.ADMIN)
        name = request.form.get("name", "").strip()
        limits = Limits(_words("projects"), _words("domains"))
        digest = context.services().accounts.digest
        try:
            with self._services.db.write() as session:
                now, who = self._services.clock(), context.caller().name
                _, given = runners.add(session, name, limits, digest=digest, created_by=who, now=now)
        except (Invalid, NotFound, Conflict) as error:
            return self._shown(message=sentence(error)), status_of(error)
        return self._shown(name=name, given=given)

    def renew(self, runner: str) -> ResponseReturnValue:
        """Another registration token, shown this once."""
        check(context.caller(), Action.ADMIN)
        digest = context.services().accounts.digest
        try:
            with self._services.db.write() as session:
                now, who = self._services.clock(), context.caller().name
                given = runners.renew_registration(session, runner, digest=digest, by=who, now=now)
        except Conflict as error:
            return self._shown(message=sentence(error)), status_of(error)
        return self._shown(name=runner, given=given)

    def revoke(self, runner: str) -> ResponseReturnValue:
        """End a runner."""
        check(context.caller(), Action.ADMIN)
        end_token = self._services.runners.work.end_token
        with self._services.db.write() as session:
            who, now = context.caller().name, self._services.clock()
            runners.revoke(session, runner, by=who, now=now, end_token=end_token)
        return redirect_with("runner-revoked", url_for("hook_pages.runners"))

    def delete(self, runner: str) -> ResponseReturnValue:
        """End a runner and forget it."""
        check(context.caller(), Action.ADMIN)
        end_token = self._services.runners.work.end_token
        with self._services.db.write() as session:
            who, now = context.caller().name, self._services.clock()
            runners.delete(session, runner, by=who, now=now, end_token=end_token)
        return redirect_with("runner-deleted", url_for("hook_pages.runners"))


def _words(field: str) -> tuple[str, ...]:
    return tuple(request.form.get(field, "").replace(",", " ").split()[:200])
