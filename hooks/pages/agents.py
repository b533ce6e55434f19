"""Agents of deployments: what each has installed, one more, and nothing of one any more."""

from __future__ import annotations

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select

from hooks.deployments import agents
from hooks.deployments.agent_work import installations
from hooks.deployments.agents import NewToken, Place, Tag
from hooks.models.deployment import DeploymentAgent, DeploymentApplication, DeploymentGroup
from hooks.pages.forms import sentence
from hooks.services import HookServices
from registry.access import Action, check
from registry.errors import Conflict, Invalid
from registry.http import context
from registry.http.auth import page
from registry.http.problems import status_of
from registry.pages.appearance import redirect_with
from registry.pages.panels import AdministrationEntry
from registry.pages.proof import proved
from registry.repos.signing import AGENT_COMMAND, key_id

ENTRY = AdministrationEntry(
    "Agents",
    "screen",
    "hook_pages.agents",
    ("/agents",),
    "Machines that are deployed to: what each has installed, one more, revoked.",
    lambda who: who.may(Action.ADMIN, permission=agents.MANAGE),
)
LOOKS = {
    "ONLINE": ("good", "online"),
    "OFFLINE": ("wait", "offline"),
    "PENDING": ("idle", "not enrolled yet"),
    "REVOKED": ("bad", "revoked"),
}


class AgentPages:
    """The page of agents."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self, pages: Blueprint) -> None:
        """Add the routes."""
        pages.add_url_rule("/agents", "agents", page(self.show))
        pages.add_url_rule("/agents", "add_agent", page(proved()(self.add)), methods=["POST"])
        views = (
            ("token", proved()(self.renew)),
            ("tags", self.tag),
            ("alarm", self.clear_alarm),
            ("revoke", self.revoke),
            ("delete", self.delete),
        )
        for word, view in views:
            pages.add_url_rule(f"/agents/<agent>/{word}", f"{word}_agent", page(view), methods=["POST"])

    def show(self) -> str:
        """All agents."""
        return self._shown()

    def _shown(self, *, name: str = "", given: NewToken | None = None, message: str = "") -> str:
        _check()
        key, now = _key_id() if given else "", self._services.clock()
        with self._services.db.read() as session:
            rows = session.scalars(select(DeploymentAgent).order_by(DeploymentAgent.name)).all()
            found = installations(session, [row.name for row in rows])
            named = {
                group_id: f"{application} / {group}"
                for group_id, application, group in session.execute(
                    select(DeploymentGroup.id, DeploymentApplication.name, DeploymentGroup.name)
                    .join(DeploymentApplication, DeploymentApplication.id == DeploymentGroup.application_id)
                    .where(DeploymentGroup.id.in_({each.group_id for rows in found.values() for each in rows}))
                )
            }
            silent = self._services.deployments.patience.silent
            shown = [
                (row, LOOKS[agents.state_of(row, now, silent)], agents.tags_of(row), found.get(row.name, []))
                for row in rows
            ]
        return render_template(
            "agents.html",
            agents=shown,
            groups=named,
            joined={row.name: ", ".join("=".join(tag) for tag in tags) for row, _, tags, _ in shown},
            name=name,
            given=given,
            key=key,
            message=message,
            form=request.form if message else {},
            url=context.services().public_url or request.host_url.rstrip("/"),
        )

    def add(self) -> ResponseReturnValue:
        """Make an agent; the page then shows the token it enrols with, this once."""
        _check()
        name = request.form.get("name", "").strip()
        digest = context.services().accounts.digest
        try:
            zone, address = (request.form.get(field, "").strip() for field in ("zone", "address"))
            place = Place(_tags("tags"), _words("domains"), zone, address)
            with self._services.db.write() as session:
                now, who = self._services.clock(), context.caller().name
                _, given = agents.add(session, name, place, digest=digest, created_by=who, now=now)
        except (Invalid, Conflict) as error:
            return self._shown(message=sentence(error)), status_of(error)
        return self._shown(name=name, given=given)

    def renew(self, agent: str) -> ResponseReturnValue:
        """Another enrolment token, shown this once."""
        _check()
        digest = context.services().accounts.digest
        try:
            with self._services.db.write() as session:
                now, who = self._services.clock(), context.caller().name
                given = agents.renew_enrolment(session, agent, digest=digest, by=who, now=now)
        except Conflict as error:
            return self._shown(message=sentence(error)), status_of(error)
        return self._shown(name=agent, given=given)

    def tag(self, agent: str) -> ResponseReturnValue:
        """Give an agent these tags and no others."""
        _check()
        try:
            tags = _tags("tags")
            with self._services.db.write() as session:
                gone = [key for key, _ in agents.tags_of(agents.find(session, agent))]
                who, now = context.caller().name, self._services.clock()
                agents.change(session, agent, tags=tags, untagged=gone, by=who, now=now)
        except Invalid as error:
            return self._shown(message=sentence(error)), status_of(error)
        return redirect_with("agent-tagged", url_for("hook_pages.agents"))

    def clear_alarm(self, agent: str) -> ResponseReturnValue:
        """Note that somebody has looked at an alarm."""
        _check()
        with self._services.db.write() as session:
            agents.clear_alarm(session, agent, by=context.caller().name, now=self._services.clock())
        return redirect_with("agent-looked-at", url_for("hook_pages.agents"))

    def revoke(self, agent: str) -> ResponseReturnValue:
        """End an agent."""
        _check()
        with self._services.db.write() as session:
            who, now = context.caller().name, self._services.clock()
            self._services.agents.let_go(session, agents.find(session, agent).id, agent, now)
            agents.revoke(session, agent, by=who, now=now)
        return redirect_with("agent-revoked", url_for("hook_pages.agents"))

    def delete(self, agent: str) -> ResponseReturnValue:
        """End an agent and forget it."""
        _check()
        with self._services.db.write() as session:
            who, now = context.caller().name, self._services.clock()
            self._services.agents.let_go(session, agents.find(session, agent).id, agent, now)
            agents.delete(session, agent, by=who, now=now)
        return redirect_with("agent-deleted", url_for("hook_pages.agents"))


def _check() -> None:
    check(context.caller(), Action.ADMIN, permission=agents.MANAGE)


def _key_id() -> str:
    """The fingerprint of the key for commands. Outside of any transaction: the first use makes the key."""
    return key_id(context.services().signer.public_key(AGENT_COMMAND))


def _words(field: str) -> tuple[str, ...]:
    return tuple(request.form.get(field, "").replace(",", " ").split()[:50])


def _tags(field: str) -> tuple[Tag, ...]:
    """``key=value``, one or more a line, by commas."""
    parts = request.form.get(field, "").replace("\n", ",").split(",")
    pairs = [part.partition("=") for part in parts if part.strip()]
    return tuple((key.strip(), value.strip()) for key, _, value in pairs[: agents.MOST_TAGS + 1])
