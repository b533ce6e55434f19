"""What went where and why: the life of a package version, and backwards from a machine or a group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from hooks.deployments import agents
from hooks.deployments.applications import find_group
from hooks.deployments.rights import visible_application
from hooks.services import HookServices
from hooks.visibility.board import ROWS_SHOWN, Board, board
from hooks.visibility.figures import Figures, figures
from hooks.visibility.life import find_spelling, life_of
from hooks.visibility.life_shapes import PackageLife
from hooks.visibility.provenance import Provenance, provenance_of_group, provenance_of_machine
from registry.access import Action
from registry.api.coordinates import known_format, package_key
from registry.api.packages import NamespaceQuery
from registry.api.routes import Route
from registry.api.shapes import Between, Length
from registry.http import context
from registry.http.auth import charge, requires, signed_in_api
from registry.rates import CostClass


@dataclass(frozen=True, slots=True)
class ProvenanceList:
    """What is installed, each with what led to it. ``is_cut``: more is installed than the 500 targets that were read."""

    items: tuple[Provenance, ...]
    is_cut: bool


@dataclass(frozen=True, slots=True)
class BoardQuery:
    """Of one pipeline, of packages with ``search`` in their name, and where to go on: ``before`` is a page's ``next``."""

    pipeline: Annotated[str, Length(0, 100)] = ""
    search: Annotated[str, Length(0, 100)] = ""
    before: Annotated[int, Between(1, 2**31 - 1)] | None = None
    limit: Annotated[int, Between(1, 100)] = ROWS_SHOWN


@dataclass(frozen=True, slots=True)
class FiguresQuery:
    """Of what (``by``: application, group or pipeline), of the last 7, 30 or 90 days, and of which alone."""

    by: Annotated[str, Length(1, 20)] = "application"
    days: Annotated[int, Between(1, 90)] = 30
    application: Annotated[str, Length(0, 100)] = ""
    pipeline: Annotated[str, Length(0, 100)] = ""


class VisibilityViews:
    """The operations; they change nothing."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self) -> tuple[Route, ...]:
        """The part of the table."""
        version = "/domains/<domain>/packages/<format_name>/<name>/versions/<version>"
        group = "/deployment-applications/<application>/groups/<group>"
        manages = requires(Action.ADMIN, permission=agents.MANAGE)
        return (
            Route("GET", f"{version}/life", signed_in_api, self.show_life, query=NamespaceQuery, answer=PackageLife),
            Route("GET", "/agents/<agent>/provenance", manages, self.show_agent_provenance, answer=ProvenanceList),
            Route("GET", f"{group}/provenance", signed_in_api, self.show_group_provenance, answer=ProvenanceList),
            Route("GET", "/board", signed_in_api, self.show_board, query=BoardQuery, answer=Board),
            Route("GET", "/figures", signed_in_api, self.show_figures, query=FiguresQuery, answer=Figures),
        )

    def show_life(self, domain: str, format_name: str, name: str, version: str, query: NamespaceQuery) -> PackageLife:
        """A package version from its source to where it is deployed, and what keeps it, as far as the caller may see it."""
        charge(CostClass.SEARCH)
        known = known_format(context.services().formats, format_name)
        key = package_key(known, query.namespace, name)
        with self._services.db.read() as session:
            kept = find_spelling(session, domain, key, version, known.sort_key)
            return life_of(
                session,
                context.caller(),
                self._services.deployments.patience,
                domain=domain,
                key=key,
                version=kept,
                now=self._services.clock(),
            )

    def show_agent_provenance(self, agent: str) -> ProvenanceList:
        """What is installed on an agent's machine: digest, deployment, execution, approvals, build and commit of each."""
        with self._services.db.read() as session:
            name = agents.find(session, agent).name
            found, is_cut = provenance_of_machine(session, context.caller(), name)
            return ProvenanceList(tuple(found), is_cut)

    def show_group_provenance(self, application: str, group: str) -> ProvenanceList:
        """What is installed of a deployment group: digest, deployment, execution, approvals, build and commit of each."""
        caller = context.caller()
        with self._services.db.read() as session:
            row = find_group(session, visible_application(session, application, caller), group)
            found, is_cut = provenance_of_group(session, caller, row.id)
            return ProvenanceList(tuple(found), is_cut)

    def show_board(self, query: BoardQuery) -> Board:
        """Which version of what is in which environment, what comes next and what keeps it, as far as the caller may see it."""
        with self._services.db.read() as session:
            return board(
                session,
                context.caller(),
                self._services.deployments.patience,
                self._services.clock(),
                pipeline=query.pipeline,
                search=query.search.lower(),
                before=query.before,
                limit=query.limit,
            )

    def show_figures(self, query: FiguresQuery) -> Figures:
        """Deployment frequency, lead time, change failure rate and time to restore, of applications the caller may see."""
        charge(CostClass.SEARCH)
        with self._services.db.read() as session:
            return figures(
                session,
                context.caller(),
                self._services.clock(),
                kind=query.by,
                days=query.days,
                application=query.application,
                pipeline=query.pipeline,
            )
