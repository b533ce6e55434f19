"""What the page of tokens is made of beside its form: presets, whose tokens are shown, ending many, and leaks."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from flask import Blueprint, request, url_for
from flask.blueprints import BlueprintSetupState
from flask.typing import ResponseReturnValue
from sqlalchemy import select

from registry import leaks, self_service
from registry.access import Action, Identity, check
from registry.accounts import find_account
from registry.http import context
from registry.http.auth import page
from registry.models import Account
from registry.pages.appearance import redirect_with

_USUAL_LIFE_DAYS = 90


@dataclass(frozen=True, slots=True)
class TokenForm:
    """What stands in the form for a new token."""

    name: str = ""
    actions: tuple[str, ...] = (Action.READ.value,)
    repositories: str = ""
    packages: str = ""
    networks: str = ""
    life_days: int = _USUAL_LIFE_DAYS


@dataclass(frozen=True, slots=True)
class Preset:
    """A form that is filled in already: for what it is, in words."""

    label: str
    form: TokenForm = field(default_factory=TokenForm)


PRESETS = {
    "ci": Preset("Read for CI", TokenForm("ci", (Action.READ.value,))),
    "publish-one": Preset(
        "Publish one package",
        TokenForm("release", (Action.READ.value, Action.PUBLISH.value), "default/dev", "*/your-package"),
    ),
    "release-day": Preset(
        "Publish for a day", TokenForm("release day", (Action.READ.value, Action.PUBLISH.value), life_days=1)
    ),
    "promote": Preset(
        "Promote between repositories", TokenForm("promotion", (Action.READ.value, Action.PROMOTE.value))
    ),
}


@dataclass(frozen=True, slots=True)
class Leak:
    """A leaked token of who looks, that they were not told of yet."""

    name: str
    place: str
    found_at: datetime


def routes(pages: Blueprint) -> None:
    """Add the routes, and the leaks to what templates know."""
    pages.add_url_rule("/account/tokens/revoke-all", "revoke_tokens", _revoke_tokens, methods=["POST"])
    pages.add_url_rule("/account/leaks/seen", "leaks_seen", _leaks_seen, methods=["POST"])
    pages.record_once(_set_up)


def _set_up(state: BlueprintSetupState) -> None:
    state.app.jinja_env.globals.update(leaks_of=_leaks_of)


def _leaks_of(who: Identity) -> list[Leak]:
    with context.services().db.read() as session:
        return [Leak(*found) for found in leaks.unseen(session, who.account_id)]


def preset_form() -> TokenForm:
    """The form of the preset in the address, or an empty one."""
    chosen = PRESETS.get(request.args.get("preset", ""))
    return chosen.form if chosen is not None else TokenForm()


def owner_shown(who: Identity) -> str:
    """Whose tokens the page shows: one's own, or as administrator those of the ``user`` in the address. Raises Denied."""
    asked = request.values.get("user", "") or who.name
    if asked != who.name:
        check(who, Action.ADMIN)
    return asked


def owners(who: Identity) -> list[str]:
    """The accounts an administrator can choose from; nobody for others."""
    if not who.may(Action.ADMIN):
        return []
    with context.services().db.read() as session:
        return list(session.scalars(select(Account.name).order_by(Account.name).limit(1000)))


def tokens_of(owner: str) -> list[self_service.TokenSummary]:
    """An account's tokens. Raises NotFound."""
    services = context.services()
    with services.db.read() as session:
        return self_service.tokens(session, find_account(session, owner).id, services.clock())


def after_ending(who: Identity, notice: str) -> ResponseReturnValue:
    """Back to the tokens that were shown."""
    owner = owner_shown(who)
    return redirect_with(notice, url_for("pages.tokens", user=None if owner == who.name else owner))


@page
def _revoke_tokens() -> ResponseReturnValue:
    services, who = context.services(), context.caller()
    owner, kind = owner_shown(who), request.form.get("kind", "") or None
    with services.db.write() as session:
        self_service.revoke_tokens(session, who, owner, kind, services.clock())
    return after_ending(who, "tokens-revoked")


@page
def _leaks_seen() -> ResponseReturnValue:
    services, who = context.services(), context.caller()
    with services.db.write() as session:
        leaks.note_seen(session, who.account_id, services.clock())
    return redirect_with("leaks-seen", url_for("pages.tokens"))
