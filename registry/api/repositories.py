"""Repositories: which there are, and what they are made of."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated

from registry import repository_changes
from registry.access import ANY_PACKAGE, Action
from registry.api import codeartifact
from registry.api.routes import Route
from registry.api.shapes import Between, Length
from registry.errors import Invalid
from registry.http import context
from registry.http.auth import requires, signed_in_api
from registry.http.delivery import repository_url
from registry.names import repository_name
from registry.repos import browse


@dataclass(frozen=True, slots=True)
class RepositoryView(browse.RepositorySummary):
    """A repository; ``repository`` says the same in CodeArtifact's words."""

    repository: codeartifact.RepositoryDescription


@dataclass(frozen=True, slots=True)
class RepositoryList:
    """Repositories the caller may read; ``next`` goes into ``after`` for the following ones, null at the end.

    ``repositories`` and ``nextToken`` say the same in CodeArtifact's words.
    """

    items: tuple[browse.RepositorySummary, ...]
    next: str | None
    repositories: tuple[codeartifact.RepositoryEntry, ...]
    next_token: str | None


@dataclass(frozen=True, slots=True)
class RepositoryQuery:
    """Where to go on in the list: ``after`` is a ``domain/repository``; so is CodeArtifact's ``nextToken``."""

    after: Annotated[str, Length(0, 200)] = ""
    limit: Annotated[int, Between(1, 200)] = 50
    next_token: Annotated[str, Length(0, 200)] = ""


@dataclass(frozen=True, slots=True)
class NewRepository:
    """A repository to make.

    ``upstreams`` are repositories of the same domain, in the order in which they are asked. ``external_connections``
    maps a format to an index URL, or to null for the one the ecosystem's own tools point at.
    """

    name: str
    description: Annotated[str, Length(0, 500)] = ""
    upstreams: Annotated[tuple[str, ...], Length(0, 32)] = ()
    external_connections: Annotated[dict[str, str | None], Length(0, 20)] | None = None
    anonymous_read: bool = False


@dataclass(frozen=True, slots=True)
class RepositoryChange:
    """What to change; a field that is not there (or null) stays as it is."""

    description: Annotated[str, Length(0, 500)] | None = None
    upstreams: Annotated[tuple[str, ...], Length(0, 32)] | None = None
    anonymous_read: bool | None = None


@dataclass(frozen=True, slots=True)
class EndpointQuery:
    """Of which package format."""

    format: Annotated[str, Length(1, 50)]


@dataclass(frozen=True, slots=True)
class RepositoryEndpoint:
    """Where clients of the format find the repository; ends in a slash."""

    repository_endpoint: str


def show_endpoint(query: EndpointQuery) -> RepositoryEndpoint:
    """The address of a repository for the clients of one format."""
    services = context.services()
    if query.format not in services.formats:
        raise Invalid(f"format {query.format!r} is none of {', '.join(sorted(services.formats))}")
    return RepositoryEndpoint(repository_url(services, query.format))


def list_repositories(query: RepositoryQuery) -> RepositoryList:
    """The repositories the caller may read, by domain and name."""
    caller = context.caller()
    with context.services().db.read() as session:
        # Sorted here, because databases sort letters each in their own way and the place is compared here.
        found = sorted(browse.repositories(session), key=lambda entry: (entry.domain, entry.name))
    place = tuple((query.after or query.next_token).split("/", 1))
    readable = [
        repository
        for repository in found
        if caller.may(Action.READ, repository.path, ANY_PACKAGE) and (repository.domain, repository.name) > place
    ]
    shown = readable[: query.limit]
    following = shown[-1].path if len(readable) > len(shown) else None
    return RepositoryList(tuple(shown), following, tuple(map(codeartifact.listed, shown)), following)


def show_repository() -> RepositoryView:
    """One repository."""
    with context.services().db.read() as session:
        return _view(browse.repository(session, context.admission().repository_id))


def create_repository(domain: str, body: NewRepository) -> RepositoryView:
    """Add a repository to a domain."""
    services, caller = context.services(), context.caller()
    name = repository_name(body.name)
    connections = body.external_connections or {}
    for format_name, url in connections.items():
        services.connections.check_format(format_name)
        if url is not None:
            services.connections.check_url(url)
    wanted = repository_changes.Wanted(name, body.description, body.upstreams, connections, body.anonymous_read)
    with services.db.write() as session:
        made = repository_changes.create(session, domain, wanted, caller, services.clock())
        return _view(browse.repository(session, made.id))


def change_repository(domain: str, repository: str, body: RepositoryChange) -> RepositoryView:
    """Change a repository's description, upstreams or anonymous reading.

    Whoever sets an upstream must be able to read it: its packages are served through this repository from then on.
    """
    services, caller = context.services(), context.caller()
    wanted = repository_changes.Change(body.description, body.upstreams, body.anonymous_read)
    with services.db.write() as session:
        row = repository_changes.change(session, domain, repository, wanted, caller, services.clock())
        return _view(browse.repository(session, row.id))


def _view(summary: browse.RepositorySummary) -> RepositoryView:
    own = [getattr(summary, each.name) for each in fields(summary)]
    return RepositoryView(*[*own, codeartifact.described(summary)])


_REPOSITORIES = "/domains/<domain>/repositories"
_REPOSITORY = f"{_REPOSITORIES}/<repository>"
ROUTES = (
    Route("GET", "/repositories", signed_in_api, list_repositories, query=RepositoryQuery, answer=RepositoryList),
    Route(
        "POST",
        _REPOSITORIES,
        requires(Action.ADMIN, domain=True, permission="codeartifact:CreateRepository"),
        create_repository,
        body=NewRepository,
        answer=RepositoryView,
        status=201,
    ),
    Route(
        "GET",
        _REPOSITORY,
        requires(Action.READ, repository=True, any_package=True),
        show_repository,
        answer=RepositoryView,
    ),
    Route(
        "GET",
        f"{_REPOSITORY}/endpoint",
        requires(Action.READ, repository=True, any_package=True, permission="codeartifact:GetRepositoryEndpoint"),
        show_endpoint,
        query=EndpointQuery,
        answer=RepositoryEndpoint,
    ),
    Route(
        "PATCH",
        _REPOSITORY,
        requires(Action.ADMIN, repository=True, permission="codeartifact:UpdateRepository"),
        change_repository,
        body=RepositoryChange,
        answer=RepositoryView,
    ),
)
