"""Deployments: all applications with what is where, and the board of environments."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, render_template, request
from sqlalchemy.orm import Session

from hooks.deployments import board
from hooks.deployments.rights import may_manage
from hooks.services import HookServices
from registry.http import context
from registry.http.auth import page
from registry.models import Domain

APPLICATIONS_SHOWN = 30
_LONGEST_NAME = 100


class DeploymentListPages:
    """The pages on which all applications are."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self, pages: Blueprint) -> None:
        """Add the routes."""
        pages.add_url_rule("/deployments", "deployments", page(self.list))
        pages.add_url_rule("/environments", "environments", page(self.environments))
        pages.add_url_rule("/environments/live", "environments_live", page(self.environments_live))

    def list(self) -> str:
        """All applications that somebody may see, with their groups."""
        with self._services.db.read() as session:
            shown = self._shown(session)
            domains = [] if shown["applications"] else sorted(session.query(Domain.name).all())
        may_make = any(may_manage(context.caller(), domain) for (domain,) in domains)
        return render_template("deployments/list.html", **shown, may_make=may_make)

    def environments(self) -> str:
        """Which version is where."""
        with self._services.db.read() as session:
            return render_template("deployments/environments.html", **self._shown(session))

    def environments_live(self) -> str:
        """The part that changes, for a page that is open."""
        with self._services.db.read() as session:
            return render_template("deployments/environments_live.html", **self._shown(session))

    @staticmethod
    def _shown(session: Session) -> dict[str, Any]:
        who, after = context.caller(), request.args.get("after", "")[:_LONGEST_NAME]
        rows, following = board.seen_applications(session, who, after=after, limit=APPLICATIONS_SHOWN)
        return {"applications": board.states(session, rows, who), "after": after, "following": following}
