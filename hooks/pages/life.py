"""The life of a package version as a timeline, and what is installed on a machine with all that led to it."""

from __future__ import annotations

from flask import Blueprint, render_template, request, url_for

from hooks.deployments import agents
from hooks.deployments.applications import find_group
from hooks.deployments.rights import visible_application
from hooks.pages.chart import draw
from hooks.pages.forms import number
from hooks.services import HookServices
from hooks.visibility.board import board
from hooks.visibility.figures import KINDS, WINDOWS, figures
from hooks.visibility.life import life_of
from hooks.visibility.provenance import provenance_of_group, provenance_of_machine
from registry.access import Action, check
from registry.errors import Invalid, NotFound
from registry.http import context
from registry.http.auth import charge, page
from registry.names import PackageKey
from registry.pages import sight
from registry.pages.catalogue import admit, readable
from registry.pages.panels import Coordinate, VersionTab
from registry.rates import CostClass
from registry.repos import browse


def _address(at: Coordinate) -> str:
    return url_for(
        "hook_pages.life",
        domain=at.domain,
        repository=at.repository,
        format_name=at.format,
        name=f"{at.namespace}/{at.name}" if at.namespace else at.name,
        version=at.version,
    )


_LONGEST = 100
TAB = VersionTab("Life", _address)


class LifePages:
    """The pages of what went where and why."""

    def __init__(self, services: HookServices) -> None:
        self._services = services

    def routes(self, pages: Blueprint) -> None:
        """Add the routes. A name may hold slashes (a namespace), a version cannot."""
        version = "/packages/<domain>/<repository>/<format_name>/<path:name>/-/<version>"
        pages.add_url_rule(f"{version}/life", "life", page(self.show))
        pages.add_url_rule("/agents/<agent>", "agent", page(self.show_agent))
        group = "/applications/<application>/groups/<deployment_group>/provenance"
        pages.add_url_rule(group, "group_provenance", page(self.show_group))
        pages.add_url_rule("/board", "board", page(self.show_board))
        pages.add_url_rule("/figures", "figures", page(self.show_figures))

    def show(self, domain: str, repository: str, format_name: str, name: str, version: str) -> str:
        """A version's life: the timeline, where it is now, and what keeps it."""
        charge(CostClass.SEARCH)
        with self._services.db.read() as session:
            key = _key(format_name, name)
            summary = admit(session, domain, repository, key)
            known = context.services().formats[format_name]
            kept = browse.canonical_version(session, summary.id, *key, version, sort_key=known.sort_key)
            looks = sight.viewer(session)
            seen = {each.name for each in readable(session) if each.domain == domain and looks.describes(each, key)}
            life = life_of(
                session,
                context.caller(),
                self._services.deployments.patience,
                domain=domain,
                key=key,
                version=kept,
                now=self._services.clock(),
                sees=seen.__contains__,
            )
        return render_template("life/version.html", life=life, repository=repository, seen=seen)

    def show_agent(self, agent: str) -> str:
        """One agent: what is installed on its machine, by which deployment and execution, approved by whom, built of what."""
        check(context.caller(), Action.ADMIN, permission=agents.MANAGE)
        with self._services.db.read() as session:
            row = agents.find(session, agent)
            found, is_cut = provenance_of_machine(session, context.caller(), row.name)
            return render_template(
                "life/installed.html",
                title=row.name,
                trail=_trail(("Administration", "pages.administration"), ("Agents", "hook_pages.agents"), row.name),
                agent=row,
                state=agents.state_of(row, self._services.clock(), self._services.deployments.patience.silent),
                tags=agents.tags_of(row),
                found=found,
                is_cut=is_cut,
            )

    def show_group(self, application: str, deployment_group: str) -> str:
        """The same of a deployment group: what it has, each deployment once with its machines."""
        caller = context.caller()
        with self._services.db.read() as session:
            shown = visible_application(session, application, caller)
            group = find_group(session, shown, deployment_group)
            found, is_cut = provenance_of_group(session, caller, group.id)
        return render_template(
            "life/installed.html",
            title=f"{application} / {deployment_group}",
            trail=[
                ("Deployments", url_for("hook_pages.deployments")),
                (application, url_for("hook_pages.application", application=application)),
                (deployment_group, url_for("hook_pages.deployment_group", application=application,
                                           deployment_group=deployment_group)),
                ("Provenance", ""),
            ],
            agent=None,
            found=found,
            is_cut=is_cut,
        )  # fmt: skip

    def show_board(self) -> str:
        """Which version of what is in which environment, what comes next, and what keeps it."""
        pipeline, search = (request.args.get(name, "").strip()[:_LONGEST] for name in ("pipeline", "q"))
        before = request.args.get("before", type=int)
        with self._services.db.read() as session:
            found = board(
                session,
                context.caller(),
                self._services.deployments.patience,
                self._services.clock(),
                pipeline=pipeline,
                search=search.lower(),
                before=number(before) if before is not None else None,
            )
        return render_template("life/board.html", board=found, pipeline=pipeline, q=search, before=before)

    def show_figures(self) -> str:
        """The figures of delivery, with a small picture of each day's deployments."""
        charge(CostClass.SEARCH)
        by, days = request.args.get("by", ""), request.args.get("days", 30, type=int)
        kind = by if by in KINDS else KINDS[0]
        length = days if days in WINDOWS else 30
        with self._services.db.read() as session:
            found = figures(session, context.caller(), self._services.clock(), kind=kind, days=length)
        charts = {
            item.name: draw([(float(count), f"{count} on day {day}") for day, count in enumerate(item.per_day, 1)])
            for item in found.items
        }
        return render_template("life/figures.html", figures=found, charts=charts, kinds=KINDS, windows=WINDOWS)


def _trail(*parts: tuple[str, str] | str) -> list[tuple[str, str]]:
    return [(part, "") if isinstance(part, str) else (part[0], url_for(part[1])) for part in parts]


def _key(format_name: str, name: str) -> PackageKey:
    known = context.services().formats.get(format_name)
    if known is None:
        raise NotFound("format", format_name)
    try:
        return known.key(name)
    except Invalid as error:
        raise NotFound("package", name) from error
