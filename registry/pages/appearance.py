"""What all templates share: who looks, in which theme, the bar's entries, and how times, sizes and people are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from flask import Blueprint, Response, g, redirect, render_template, request, url_for
from flask.blueprints import BlueprintSetupState
from jinja2 import StrictUndefined
from markupsafe import Markup
from werkzeug.wrappers import Response as BaseResponse

from registry.access import Identity
from registry.accounts import SESSION_LIFE, BrowserSession
from registry.errors import Unavailable
from registry.http import context
from registry.http.auth import CSRF_FIELD, before_second_factor, cookie_name, open_page
from registry.pages.assets import asset_url, icon
from registry.pages.links import outward, safe_next
from registry.pages.panels import Notice, extensions

THEME_COOKIE = "entrepot_theme"
NOTICE_COOKIE = "entrepot_notice"
THEMES = ("light", "dark", "auto")
THEME_LIFE = timedelta(days=365)
NOTICE_LIFE = timedelta(minutes=1)

NOTICES: Mapping[str, Notice] = MappingProxyType(
    {
        "signed-out": Notice("good", "You are signed out."),
        "signed-out-everywhere": Notice("good", "All your browsers are signed out."),
        "password-set": Notice("good", "The password is set. All other browsers are signed out."),
        "version-yanked": Notice("good", "The version is yanked: tools take it only where it is pinned."),
        "version-unyanked": Notice("good", "The version is back: tools take it as any other."),
        "version-deleted": Notice("good", "The version is deleted."),
        "versions-changed": Notice("good", "Done; clients see it from now on."),
        "status-set": Notice("good", "The package's state is set; clients see it from now on."),
        "origin-set": Notice("good", "The origin controls are set; they count from now on."),
        "group-created": Notice("good", "The package group is made. It inherits everything until you say otherwise."),
        "group-set": Notice("good", "The package group is changed; it counts from now on."),
        "group-deleted": Notice("good", "The package group is deleted; its packages belong to its parent now."),
        "repository-made": Notice("good", "The repository is made."),
        "repository-changed": Notice("good", "The settings are saved; they count from now on."),
        "domain-made": Notice("good", "The domain is made. It has a key of its own and no repository yet."),
        "domain-deleted": Notice("good", "The domain is deleted with everything in it."),
        "role-granted": Notice("good", "The role is granted. It counts from now on."),
        "role-revoked": Notice("good", "The role is revoked. It counts no more from now on."),
        "group-changed": Notice("good", "The group is changed. That counts from now on."),
        "policy-set": Notice("good", "The policy is set. It counts from now on."),
        "policy-deleted": Notice("good", "The policy is deleted. It counts no more from now on."),
        "user-made": Notice("good", "The user is made. A one-time sign-in link lets them choose a password."),
        "service-made": Notice(
            "good", "The service account is made. Make a token for it by the API or the command line."
        ),
        "user-changed": Notice("good", "The user's own rights are changed. They count from the next request on."),
        "user-disabled": Notice("good", "The user is disabled: password, tokens and browsers stop at once."),
        "user-enabled": Notice("good", "The user may come in again."),
        "user-deleted": Notice("good", "The user is deleted, with tokens, memberships and roles."),
        "user-signed-out": Notice("good", "All browsers of the user are signed out. Tokens go on."),
        "user-factor-reset": Notice(
            "good", "The second factor is removed, and all browsers of the user are signed out."
        ),
        "quota-set": Notice("good", "The quota is set. It counts from the next publish on."),
        "session-ended": Notice("good", "That browser is signed out."),
        "second-factor-removed": Notice("good", "The second factor is removed. All other browsers are signed out."),
        "connected": Notice("good", "The account is connected. You can sign in with it from now on."),
        "token-revoked": Notice("good", "The token is revoked, with all made with it. It counts no more from now on."),
        "tokens-revoked": Notice("good", "The tokens are revoked, with all made with them."),
        "leaks-seen": Notice("good", "Noted. Leaked tokens stay in the list of your tokens."),
    }
)


@dataclass(frozen=True, slots=True)
class Link:
    """An entry of the bar, ready to be drawn."""

    label: str
    icon: str
    url: str
    is_current: bool
    count: int


def routes(pages: Blueprint) -> None:
    """Add the theme's route, and what templates use, to the application."""
    pages.add_url_rule("/theme", "theme", _set_theme, methods=["POST"])
    pages.record_once(_set_up)
    pages.after_app_request(_forget_notice)


def _set_up(state: BlueprintSetupState) -> None:
    environment = state.app.jinja_env
    # A misspelt variable must fail in a test, not show an empty cell to somebody.
    environment.undefined = StrictUndefined
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.filters.update(
        ago=ago, size=size, duration=duration, moment=moment, plural=plural, outward=outward, sentence=sentence
    )
    environment.globals.update(
        icon=icon, asset_url=asset_url, csrf_field=csrf_field, viewer=viewer, theme=theme, page_links=page_links,
        menu_links=menu_links,
        notice=_notice,
    )  # fmt: skip


def browser() -> BrowserSession | None:
    """The browser's session. Looked up here for error pages of addresses that no route, and so no door, was asked for."""
    if "browser_session" not in g and "error_browser" not in g:
        g.error_browser = _look_up()
    found: BrowserSession | None = context.browser_session() or g.get("error_browser")
    return found


def _look_up() -> BrowserSession | None:
    services = context.services()
    secret = request.cookies.get(cookie_name(), "")
    if not secret:
        return None
    try:
        with services.db.read() as session:
            return services.accounts.browser_session(session, secret, services.clock())
    except Unavailable:
        return None  # the page that says so must not need the database


def viewer() -> Identity | None:
    """Who looks at the page."""
    found = browser()
    return found.identity if found else None


def csrf_field() -> Markup:
    """The hidden field every POST form carries; empty for strangers, who have no session to protect."""
    found = browser()
    if found is None:
        return Markup()
    return Markup('<input type="hidden" name="{}" value="{}">').format(CSRF_FIELD, found.csrf_token)


def theme() -> str:
    """light, dark, or auto for what the system prefers."""
    chosen = request.cookies.get(THEME_COOKIE, "auto")
    return chosen if chosen in THEMES else "auto"


@open_page("choosing light or dark concerns the browser alone")
@before_second_factor
def _set_theme() -> BaseResponse:
    chosen = request.form.get("theme", "")
    response = redirect(safe_next(request.form.get("next")), 303)
    if chosen in THEMES:
        keep_cookie(response, THEME_COOKIE, chosen, THEME_LIFE)
    return response


def page_links(*, with_counts: bool) -> list[Link]:
    """The bar's entries for who looks; an error page leaves out counts, which would need the database."""
    who = viewer()
    here = request.path == "/" or _is_under("/repositories", "/packages", "/domains")
    links = [Link("Repositories", "repository", url_for("pages.home"), here, 0)]
    if who is None:
        return links
    for extension in extensions():
        for entry in extension.navigation:
            count = entry.count(who) if with_counts and entry.count is not None else 0
            links.append(Link(entry.label, entry.icon, url_for(entry.endpoint), _is_under(*entry.prefixes), count))
    return links


def menu_links() -> list[Link]:
    """What other packages add to the menu of who looks."""
    who = context.identity()
    entries = [
        entry
        for extension in extensions()
        for entry in extension.menu
        if entry.may_see is None or (who is not None and entry.may_see(who))
    ]
    return [Link(entry.label, entry.icon, url_for(entry.endpoint), _is_under(*entry.prefixes), 0) for entry in entries]


def _is_under(*prefixes: str) -> bool:
    return any(request.path == prefix or request.path.startswith(prefix + "/") for prefix in prefixes)


def redirect_with(notice: str, location: str) -> BaseResponse:
    """Go on to ``location`` (303) and say there what was done; ``notice`` is the key of a known sentence."""
    response = redirect(location, 303)
    keep_cookie(response, NOTICE_COOKIE, notice, NOTICE_LIFE)
    return response


def keep_cookie(response: BaseResponse, name: str, value: str, life: timedelta | None, path: str = "/") -> None:
    """Set a cookie that no script and no other site can use; ``life`` None ends it with the browser."""
    response.set_cookie(
        name, value, max_age=life, path=path, secure=context.services().cookie_secure, httponly=True, samesite="Lax"
    )


def keep_session(response: BaseResponse, secret: str) -> BaseResponse:
    """Give the browser its session: always a new one, so that none can be planted before (session fixation)."""
    keep_cookie(response, cookie_name(), secret, SESSION_LIFE)
    return response


def _notice() -> Notice | None:
    key = request.cookies.get(NOTICE_COOKIE, "")
    if not key:
        return None
    g.notice_shown = True
    for known in (NOTICES, *(extension.notices for extension in extensions())):
        if key in known:
            return known[key]
    return None


def _forget_notice(response: Response) -> Response:
    if g.get("notice_shown"):
        response.delete_cookie(NOTICE_COOKIE, secure=context.services().cookie_secure, httponly=True, samesite="Lax")
    return response


_UNITS = (("y", 365 * 86400), ("mo", 30 * 86400), ("d", 86400), ("h", 3600), ("min", 60))


def ago(at: datetime | None) -> Markup:
    """How long ago, or how soon, with the exact moment behind it."""
    if at is None:
        return Markup('<span class="soft">-</span>')
    return Markup('<time datetime="{}" title="{}" data-relative>{}</time>').format(
        at.isoformat(timespec="seconds"), moment(at), _relative((context.services().clock() - at).total_seconds())
    )


def _relative(seconds: float) -> str:
    size_seconds = abs(seconds)
    if size_seconds < 45:
        return "in a moment" if seconds < 0 else "just now"
    unit, length = next(((unit, length) for unit, length in _UNITS if size_seconds >= length), ("min", 60))
    count = max(1, round(size_seconds / length))
    return f"in {count} {unit}" if seconds < 0 else f"{count} {unit} ago"


def moment(at: datetime) -> str:
    """The exact moment."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def duration(length: timedelta | float | None) -> str:
    """A length of time in seconds, or as timedelta: ``850 ms``, ``12 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if length is None:
        return "-"
    seconds = length.total_seconds() if isinstance(length, timedelta) else float(length)
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))} ms"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def size(size_bytes: int) -> Markup:
    """A size in kB, MB, GB (powers of ten) with the exact number of bytes behind it."""
    amount, unit = float(size_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 999.5:
            break
        amount, unit = amount / 1000, larger
    shown = f"{amount:.0f}" if unit == "B" or amount >= 99.5 else f"{amount:.1f}"
    return Markup('<span class="number" title="{} bytes">{} {}</span>').format(f"{size_bytes:,}", shown, unit)


def plural(count: int, one: str, many: str = "") -> str:
    """``1 version``, ``3 versions``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def sentence(message: str) -> str:
    """An error's message with a capital at its beginning, unless that is the name of who looks."""
    who = viewer()
    return message if who is not None and message.startswith(f"{who.name} ") else message[:1].upper() + message[1:]


_ERRORS: Mapping[int, tuple[str, str]] = MappingProxyType(
    {
        400: ("That did not work", "alert"),
        403: ("Not allowed", "lock"),
        404: ("Not found", "search"),
        405: ("Not possible here", "alert"),
        409: ("Something changed meanwhile", "alert"),
        413: ("Too large", "alert"),
        429: ("Please wait a moment", "wait"),
        500: ("Something went wrong on our side", "alert"),
        502: ("An upstream does not answer", "globe"),
        503: ("Not available at the moment", "wait"),
        507: ("The disk is full", "alert"),
    }
)


# What somebody can do about it, where the message does not say so.
_ADVICE: Mapping[int, str] = MappingProxyType(
    {
        403: "An administrator can give you the right.",
        404: "It may have been removed, be spelt otherwise, or not be yours to see.",
        409: "Go back, reload the page and look again.",
        500: "The server's log says more.",
        502: "What is held here already goes on working.",
        503: "Try again in a moment.",
        507: "An administrator has to make room.",
    }
)


def render_page(status: int, message: str) -> str:
    """The page for an error. Needs no database, so that it can say that the database is away."""
    title, symbol = _ERRORS.get(status, ("That did not work", "alert"))
    return render_template(
        "error.html",
        status=status,
        message=sentence(message),
        title=title,
        symbol=symbol,
        advice=_ADVICE.get(status, ""),
    )
