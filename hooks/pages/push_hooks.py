"""Where forges tell a build project of pushes, on the project's page: made, changed, given another secret, deleted."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from flask import Blueprint, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from hooks.builds import pushes
from hooks.builds.project_rights import check_manage, visible_project
from hooks.builds.pushes import HookSettings
from hooks.builds.starting import place_of
from hooks.models.build import BuildProject
from hooks.models.build_source import PushHook
from hooks.pages.forms import sentence
from hooks.services import HookServices
from registry import audit
from registry.errors import Conflict, Invalid
from registry.http import context
from registry.http.auth import page
from registry.http.problems import status_of
from registry.json_text import parse
from registry.pages.appearance import redirect_with
from registry.pages.proof import proved

MOST_FILTER_CHARACTERS = 100_000
NEW_HOOK = "new"


@dataclass(frozen=True, slots=True)
class Given:
    """What to enter at the forge; the secret is shown this once."""

    hook_id: str
    provider: str
    address: str
    secret: str


class ProjectPage(Protocol):
    """Shows a project's page again."""

    def __call__(self, name: str, message: str = "", given: Given | None = None, refused: str = "") -> str:
        """With what went wrong, or with what was made. ``refused`` is the hook whose form is kept, or NEW_HOOK."""
        ...


Change = Callable[[Session, BuildProject], PushHook]


class PushHookPages:
    """The forms of push hooks. What changing a project needs is needed for its hooks."""

    def __init__(self, services: HookServices, show: ProjectPage) -> None:
        self._services = services
        self._show = show

    def routes(self, pages: Blueprint) -> None:
        """Add the routes."""
        these = "/build-projects/<name>/webhooks"
        one = f"{these}/<hook_id>"
        for rule, endpoint, view in (
            (these, "create_push_hook", proved()(self.create)),
            (one, "change_push_hook", proved()(self.change)),
            (f"{one}/rotate", "rotate_push_hook", proved()(self.rotate)),
            (f"{one}/delete", "delete_push_hook", self.delete),
        ):
            pages.add_url_rule(rule, endpoint, page(view), methods=["POST"])

    def create(self, name: str) -> ResponseReturnValue:
        """Make a hook; the page then shows its address and its secret, this once."""
        secrets: list[str] = []

        def unit(session: Session, project: BuildProject) -> PushHook:
            provider = request.form.get("provider", "")
            row, secret = pushes.create_hook(
                session, self._sealer(), project, provider=provider, settings=_settings(), now=self._services.clock()
            )
            secrets.append(secret)
            return row

        return self._told(name, "create", unit, secrets, NEW_HOOK, provider=request.form.get("provider", "")[:16])

    def change(self, name: str, hook_id: str) -> ResponseReturnValue:
        """Change which pushes it builds, what it starts, and who approves."""

        def unit(session: Session, project: BuildProject) -> PushHook:
            row = pushes.find_hook(session, hook_id, project)
            pushes.change_hook(row, _settings())
            return row

        try:
            self._write(name, "change", unit)
        except (Invalid, Conflict) as error:
            return self._show(name, sentence(error), refused=hook_id), status_of(error)
        return redirect_with("push-hook-changed", url_for("hook_pages.build_project", name=name))

    def rotate(self, name: str, hook_id: str) -> ResponseReturnValue:
        """Another secret, shown this once; the one before ends now."""
        secrets: list[str] = []

        def unit(session: Session, project: BuildProject) -> PushHook:
            row = pushes.find_hook(session, hook_id, project)
            secrets.append(pushes.renew_secret(self._sealer(), row))
            return row

        return self._told(name, "change", unit, secrets, "", rotated=True)

    def delete(self, name: str, hook_id: str) -> ResponseReturnValue:
        """Delete a hook; its address answers 404 from now on."""

        def unit(session: Session, project: BuildProject) -> PushHook:
            row = pushes.find_hook(session, hook_id, project)
            session.delete(row)
            return row

        self._write(name, "delete", unit)
        return redirect_with("push-hook-deleted", url_for("hook_pages.build_project", name=name))

    def _told(
        self, name: str, word: str, unit: Change, secrets: Sequence[str], refused: str, **about: object
    ) -> ResponseReturnValue:
        try:
            hook_id, provider = self._write(name, word, unit, **about)
        except (Invalid, Conflict) as error:
            return self._show(name, sentence(error), refused=refused), status_of(error)
        base = context.services().public_url or request.host_url.rstrip("/")
        return self._show(name, given=Given(hook_id, provider, f"{base}/hooks/v1/{hook_id}", secrets[-1]))

    def _write(self, name: str, word: str, unit: Change, **about: object) -> tuple[str, str]:
        """Do it in one transaction with its audit entry; the hook's id and provider. Raises what ``unit`` does, Denied."""
        who = context.caller()
        with self._services.db.write() as session:
            project = visible_project(session, name, who)
            check_manage(who, place_of(project))
            row = unit(session, project)
            what, now = f"build_project.{word}_webhook", self._services.clock()
            audit.record(session, now, who.name, what, f"build-project/{name}", hook=row.id, **about)
            return row.id, row.provider

    def _sealer(self) -> Any:
        return self._services.stores.server_keyring()


def _settings() -> HookSettings:
    """What the form says; filters that are left out are those of a new hook (every push). Raises Invalid."""
    form = request.form
    return HookSettings(
        _groups(form.get("filters", "").strip()),
        form.get("build_type") or None,
        form.get("approval") or None,
        _words("roles"),
        _words("accounts"),
    )


def _words(field: str) -> Sequence[str] | None:
    if field not in request.form:
        return None
    return [word for word in re.split(r"[\s,]+", request.form[field]) if word]


def _groups(text: str) -> Sequence[Sequence[Mapping[str, Any]]] | None:
    if not text:
        return None
    if len(text) > MOST_FILTER_CHARACTERS:
        raise Invalid("the filter groups are too long")
    try:
        groups = parse(text.encode())
    except Invalid as error:
        raise Invalid(f"the filter groups cannot be read: {error}") from error
    fits = isinstance(groups, list) and all(
        isinstance(group, list) and all(isinstance(each, dict) for each in group) for group in groups
    )
    if not fits:
        raise Invalid('filter groups are a list of lists of filters: [[{"type": "EVENT", "pattern": "PUSH"}]]')
    found: Sequence[Sequence[Mapping[str, Any]]] = groups
    return found
