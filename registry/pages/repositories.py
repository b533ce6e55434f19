"""Making a repository, and changing what it asks, what it is for and who reads it (administrators)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from registry import repository_changes
from registry.access import Action, check, place_of
from registry.errors import Conflict, Denied, Invalid, NotFound, Problem
from registry.existence import check_there
from registry.http import context
from registry.http.auth import page
from registry.http.problems import status_of
from registry.names import repository_name
from registry.pages.administration import sentence
from registry.pages.appearance import redirect_with
from registry.pages.proof import proved
from registry.repos import browse
from registry.repos.browse import RepositorySummary

CREATE, UPDATE = "codeartifact:CreateRepository", "codeartifact:UpdateRepository"
_LONGEST_SHOWN = 20_000
_FEWEST_CHOICES, _FREE_CHOICES, _MOST_UPSTREAMS = 3, 2, 32


@dataclass(frozen=True, slots=True)
class RepositoryForm:
    """What stands in the form, and the sentence for the field that is at fault."""

    name: str = ""
    description: str = ""
    upstreams: tuple[str, ...] = ()
    anonymous_read: bool = False
    at_fault: str = ""
    why: str = ""
    shown: str = ""
    """The settings as they were when the form was shown, for the form to bring back; empty for a new repository."""

    def fault(self, name: str) -> str:
        """What is wrong with a field; empty for nothing."""
        return self.why if name == self.at_fault else ""

    @property
    def choices(self) -> list[str]:
        """The chosen upstreams in their order, and room for more."""
        count = min(max(len(self.upstreams) + _FREE_CHOICES, _FEWEST_CHOICES), _MOST_UPSTREAMS)
        return [*self.upstreams, *[""] * count][: max(count, len(self.upstreams))]


def routes(pages: Blueprint) -> None:
    """Add the routes."""
    new, settings = "/domains/<domain>/new-repository", "/repositories/<domain>/<repository>/settings"
    pages.add_url_rule(new, "new_repository", _new)
    pages.add_url_rule(new, "create_repository", _create, methods=["POST"])
    pages.add_url_rule(settings, "repository_settings", _settings)
    pages.add_url_rule(settings, "change_repository", _change, methods=["POST"])


def _check_create(domain: str) -> None:
    check(context.caller(), Action.ADMIN, domain=domain, permission=CREATE)
    with context.services().db.read() as session:
        check_there(session, place_of(None, domain))


@page
def _new(domain: str) -> str:
    _check_create(domain)
    return _form(domain, None, RepositoryForm())


@page
@proved()
def _create(domain: str) -> ResponseReturnValue:
    _check_create(domain)
    services, form = context.services(), _sent()
    at_fault = "name"
    try:
        name = repository_name(form.name)
        wanted = repository_changes.Wanted(name, form.description, form.upstreams, anonymous_read=form.anonymous_read)
        with services.db.write() as session:
            repository_changes.create(session, domain, wanted, context.caller(), services.clock())
    except (Invalid, Conflict, NotFound, Denied) as error:
        is_of_name = isinstance(error, Conflict) or "repository name" in str(error)
        return _refused(domain, None, form, at_fault if is_of_name else "upstreams", error)
    return redirect_with("repository-made", url_for("pages.repository", domain=domain, repository=name))


@page
def _settings(domain: str, repository: str) -> str:
    summary = _found(domain, repository)
    return _form(
        domain,
        repository,
        RepositoryForm(
            summary.name,
            summary.description,
            summary.upstreams,
            summary.anonymous_read,
            shown=_as_shown(summary.description, summary.upstreams, anonymous_read=summary.anonymous_read),
        ),
    )


@page
@proved()
def _change(domain: str, repository: str) -> ResponseReturnValue:
    services, present, form = context.services(), _found(domain, repository), _sent()
    # Only what is different from what the form said before: somebody else's upstream, which stays, need not be one that who
    # sends this may read, and what somebody else has changed since then (closed to the public, say) is not undone.
    description, upstreams, anonymous_read = _read_shown(form.shown, present)
    wanted = repository_changes.Change(
        form.description if form.description != description else None,
        form.upstreams if form.upstreams != upstreams else None,
        form.anonymous_read if form.anonymous_read != anonymous_read else None,
    )
    try:
        with services.db.write() as session:
            repository_changes.change(session, domain, repository, wanted, context.caller(), services.clock())
    except (Invalid, NotFound, Denied) as error:
        return _refused(domain, repository, form, "upstreams", error)
    return redirect_with("repository-changed", url_for("pages.repository", domain=domain, repository=repository))


def _as_shown(description: str, upstreams: Sequence[str], *, anonymous_read: bool) -> str:
    return json.dumps([description, list(upstreams), anonymous_read])


def _read_shown(text: str, present: RepositorySummary) -> tuple[str, tuple[str, ...], bool]:
    """What the form was shown with; the present settings for one that does not say."""
    try:
        description, upstreams, anonymous_read = json.loads(text)
        return str(description), tuple(map(str, upstreams)), bool(anonymous_read)
    except (ValueError, TypeError, RecursionError):
        return present.description, present.upstreams, present.anonymous_read


def _found(domain: str, repository: str) -> RepositorySummary:
    check(context.caller(), Action.ADMIN, f"{domain}/{repository}", permission=UPDATE)
    with context.services().db.read() as session:
        return _summary(session, domain, repository)


def _summary(session: Session, domain: str, repository: str) -> RepositorySummary:
    for each in browse.repositories(session):
        if (each.domain, each.name) == (domain, repository):
            return each
    raise NotFound("repository", f"{domain}/{repository}")


def _sent() -> RepositoryForm:
    return RepositoryForm(
        request.form.get("name", "").strip()[:200],
        request.form.get("description", "").strip()[: repository_changes.LONGEST_DESCRIPTION],
        tuple(filter(None, request.form.getlist("upstreams")))[: _MOST_UPSTREAMS + 1],
        request.form.get("anonymous_read") == "yes",
        shown=request.form.get("shown", "")[:_LONGEST_SHOWN],
    )


def _refused(
    domain: str, repository: str | None, form: RepositoryForm, at_fault: str, error: Problem
) -> ResponseReturnValue:
    return _form(domain, repository, replace(form, at_fault=at_fault, why=sentence(error))), status_of(error)


def _form(domain: str, repository: str | None, form: RepositoryForm) -> str:
    who = context.caller()
    with context.services().db.read() as session:
        names = [
            each.name
            for each in browse.repositories(session)
            if each.domain == domain and each.name != repository and who.may(Action.READ, each.path)
        ]
    # What is chosen is a choice, also where it is not to be read, or no repository at all: the form says what was sent.
    known = [*names, *dict.fromkeys(name for name in form.upstreams if name not in names)]
    return render_template("repository_settings.html", domain=domain, repository=repository, form=form, known=known)
