"""The inbox: what waits for who looks, and what waits for others."""

from __future__ import annotations

from flask import Blueprint, render_template

from hooks.pipelines.asking import waiting
from hooks.services import HookServices
from registry.http import context
from registry.http.auth import page


class ApprovalPages:
    """The page of approvals."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self, pages: Blueprint) -> None:
        """Add the route."""
        pages.add_url_rule("/approvals", "approvals", page(self.inbox))

    def inbox(self) -> str:
        """All that waits."""
        who = context.caller()
        with self._services.db.read() as session:
            found = waiting(session, self._services.actions, who)
        return render_template(
            "pipelines/approvals.html",
            mine=[question for question in found if question.may_answer],
            others=[question for question in found if not question.may_answer],
        )
