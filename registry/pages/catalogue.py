"""Looking around: all repositories, one repository, and packages by part of their name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Protocol

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue
from markupsafe import Markup
from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.access import Action, check
from registry.errors import NotFound, Unauthenticated
from registry.format import Format
from registry.http import context
from registry.http.auth import charge, open_page
from registry.models import Domain
from registry.names import PackageKey, PackageName
from registry.pages.panels import extensions
from registry.pages.repositories import CREATE, UPDATE
from registry.pages.sight import viewer
from registry.rates import CostClass
from registry.repos import browse, health
from registry.repos.browse import RepositorySummary

PAGE_OF_PACKAGES = 50
MOST_HITS = 100


class Named(Protocol):
    """Anything that belongs to a package."""

    @property
    def format(self) -> str:
        """The format's word."""

    @property
    def namespace(self) -> str:
        """Empty where the format has none."""

    @property
    def name(self) -> str:
        """The canonical name."""


@dataclass(frozen=True, slots=True)
class Step:
    """A place on a repository's chain: a repository, or an index outside."""

    label: str
    title: str
    is_outside: bool


@dataclass(frozen=True, slots=True)
class Card:
    """A repository with where it looks."""

    summary: RepositorySummary
    chain: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class ToolStep:
    """A line to run, and what it does."""

    text: str
    code: str


@dataclass(frozen=True, slots=True)
class Tool:
    """How a client tool is connected to a repository."""

    label: str
    steps: tuple[ToolStep, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a found package is held."""

    domain: str
    repository: str
    latest_version: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A package with all repositories that hold it."""

    package: browse.PackageSummary
    places: tuple[Place, ...]
    updated_at: datetime


def routes(pages: Blueprint) -> None:
    """Add the routes."""
    pages.add_url_rule("/", "home", _home)
    pages.add_url_rule("/search", "search", _search)
    pages.add_url_rule("/repositories/<domain>/<repository>", "repository", _repository)
    pages.add_app_template_global(package_url, "package_url")


def package_url(domain: str, repository: str, package: Named, version: str | None = None) -> str:
    """The page of a package, or of one of its versions."""
    return url_for(
        "pages.package" if version is None else "pages.version",
        domain=domain,
        repository=repository,
        format_name=package.format,
        name=f"{package.namespace}/{package.name}" if package.namespace else package.name,
        version=version,
    )


def admit(session: Session, domain: str, repository: str, key: PackageKey | None = None) -> RepositorySummary:
    """The repository, if who looks may read it, and a package of it. Raises Unauthenticated, Denied or NotFound.

    Rights come before existence: to those without, a private repository looks like a missing one.
    """
    found = next(
        (entry for entry in browse.repositories(session) if (entry.domain, entry.name) == (domain, repository)), None
    )
    if found is None:
        check(context.identity(), Action.READ, f"{domain}/{repository}")
        raise NotFound("repository", f"{domain}/{repository}")
    looks = viewer(session)
    if not looks.reads(found) or (key is not None and not looks.describes(found, key)):
        looks.refuse(found)
    return found


def readable(session: Session) -> list[RepositorySummary]:
    """All repositories who looks may read."""
    looks = viewer(session)
    return [summary for summary in browse.repositories(session) if looks.reads(summary)]


def chain(summary: RepositorySummary, known: dict[tuple[str, str], RepositorySummary]) -> tuple[Step, ...]:
    """Where the repository looks, in order, ending with the indexes outside."""
    steps: list[Step] = []
    seen: set[str] = set()

    def visit(at: RepositorySummary) -> None:
        if at.name in seen:
            return
        seen.add(at.name)
        steps.append(Step(at.name, at.description, is_outside=False))
        for name in at.upstreams:
            if (at.domain, name) in known:
                visit(known[at.domain, name])
            elif name not in seen:
                seen.add(name)
                steps.append(Step(name, "", is_outside=False))
        if at.connections:
            formats = ", ".join(sorted({connection.format for connection in at.connections}))
            steps.append(Step("outside", f"external connections for {formats}", is_outside=True))

    visit(summary)
    return tuple(steps)


@open_page("shows what anonymous readers may read, and asks to sign in when that is nothing")
def _home() -> ResponseReturnValue:
    services, who = context.services(), context.identity()
    with services.db.read() as session:
        every = {(summary.domain, summary.name): summary for summary in browse.repositories(session)}
        visible = readable(session)
        names = session.scalars(select(Domain.name).order_by(Domain.name)).all() if who is not None else []
    if who is None and not visible:
        raise Unauthenticated("sign in to see the repositories")
    # By age: repositories are made in the order in which packages travel through them.
    visible.sort(key=lambda summary: (summary.domain, summary.id))
    cards = [Card(summary, chain(summary, every)) for summary in visible]
    domains = [(domain, list(group)) for domain, group in groupby(cards, key=lambda card: card.summary.domain)]
    panels: list[Markup] = []
    if who is not None:
        panels = [panel for extension in extensions() if extension.home and (panel := extension.home(who))]
    creates = [name for name in names if who is not None and who.may(Action.ADMIN, domain=name, permission=CREATE)]
    return render_template("home.html", domains=domains, panels=panels, creates=creates)


@open_page("checks the right to read, or that anybody may")
def _repository(domain: str, repository: str) -> str:
    services, who = context.services(), context.identity()
    query, format_name = request.args.get("q", "").strip()[:200], request.args.get("format", "")
    after = request.args.get("after") or None
    with services.db.read() as session:
        summary = admit(session, domain, repository)
        every = {(other.domain, other.name): other for other in browse.repositories(session)}
        found = browse.packages(
            session,
            summary.id,
            format_name=format_name or None,
            search=query,
            after=after,
            limit=PAGE_OF_PACKAGES + 1,
            sort_keys=_sort_keys(),
        )
        connections = health.details(session, summary.id, services.clock())
        looks = viewer(session)
    page = found[:PAGE_OF_PACKAGES]
    shown = [package for package in page if looks.describes(summary, package.key)]
    return render_template(
        "repository.html",
        summary=summary,
        steps=chain(summary, every),
        packages=shown,
        next_after=page[-1].cursor if len(found) > PAGE_OF_PACKAGES else None,
        after=after,
        q=query,
        format=format_name,
        formats=sorted(services.formats),
        tools=_tools(summary),
        connections=connections,
        may_change=who is not None and who.may(Action.ADMIN, summary.path, permission=UPDATE),
    )


def _sort_keys() -> dict[str, browse.SortKey]:
    return {name: known.sort_key for name, known in context.services().formats.items()}


def repository_url(domain: str, repository: str, format_name: str) -> str:
    """Where clients of a format reach a repository; ends in a slash."""
    base = (context.services().public_url or request.host_url).rstrip("/")
    return f"{base}/{format_name}/{domain}/{repository}/"


def _tools(summary: RepositorySummary) -> Sequence[Tool]:
    return [tool for known in context.services().formats.values() for tool in _tools_of(known, summary)]


def _tools_of(known: Format, summary: RepositorySummary) -> Iterable[Tool]:
    url = repository_url(summary.domain, summary.name, known.name)
    for name, _ in known.install_hint(url, PackageKey(known.name, "", PackageName("package")), "1.0"):
        login = f"entrepot login --tool {name} --repository {summary.path}"
        yield Tool(
            name,
            (
                ToolStep("Write its configuration, with a token of yours:", login),
                ToolStep("Or look first what would be written:", f"{login} --dry-run"),
            ),
        )
    yield Tool(
        f"Other {known.name} tools",
        (ToolStep("The repository's address, also for uploading; any user name, a token as password:", url),),
    )


@open_page("searches what anonymous readers may read, and asks to sign in when that is nothing")
def _search() -> str:
    charge(CostClass.SEARCH)
    query = request.args.get("q", "").strip()[:200]
    services = context.services()
    with services.db.read() as session:
        visible = readable(session)
        if context.identity() is None and not visible:
            raise Unauthenticated("sign in to search")
        looks = viewer(session)
        found = [
            (summary, package)
            for summary in (visible if query else [])
            for package in browse.packages(session, summary.id, search=query, limit=MOST_HITS, sort_keys=_sort_keys())
            if looks.describes(summary, package.key)
        ]
    hits = _grouped(found, query.lower())
    return render_template("search.html", q=query, hits=hits[:MOST_HITS], is_cut=len(hits) > MOST_HITS)


def _grouped(found: Iterable[tuple[RepositorySummary, browse.PackageSummary]], query: str) -> list[Hit]:
    packages: dict[tuple[str, str, str], list[tuple[RepositorySummary, browse.PackageSummary]]] = {}
    for summary, package in found:
        packages.setdefault((package.format, package.namespace, package.name), []).append((summary, package))
    hits = [
        Hit(
            entries[0][1],
            tuple(Place(summary.domain, summary.name, package.latest_version) for summary, package in entries),
            max(package.updated_at for _, package in entries),
        )
        for entries in packages.values()
    ]
    # The name itself first, then names that begin with it, then the rest.
    return sorted(
        hits,
        key=lambda hit: (hit.package.name != query, not hit.package.name.startswith(query), hit.package.name),
    )
