"""What a request carries: the process's services, and who is calling. The only place that touches Flask's globals."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import cast

from flask import Flask, current_app, g, request

from registry import audit
from registry.access import Identity
from registry.accounts import BrowserSession
from registry.errors import Unauthenticated
from registry.repos.admission import Admission
from registry.services import Services

_EXTENSION = "entrepot"


def attach(app: Flask, services: Services) -> None:
    """Give an application its services."""
    app.extensions[_EXTENSION] = services
    app.before_request(_begin)
    # The thread serves others after this request: what they do must not look as if this caller did it.
    app.teardown_request(lambda _: audit.comes_from(None))


def _begin() -> None:
    audit.comes_from(audit.Origin(None, request.remote_addr, secrets.token_hex(8)))


def is_attached() -> bool:
    """Whether the application that handles this request is a whole server's, and not just some of its parts."""
    return _EXTENSION in current_app.extensions


def application() -> Flask:
    """The application that handles this request: its routes and extensions."""
    return cast("Flask", current_app._get_current_object())  # type: ignore[attr-defined]  # noqa: SLF001  (Flask's own documented way)


def services() -> Services:
    """The services of the application that handles this request."""
    return cast("Services", current_app.extensions[_EXTENSION])


def address_of_setup(secret: str) -> str:
    """Where a one-time sign-in is opened: at the configured address, or at the one this request was sent to."""
    base = services().public_url or request.host_url
    return f"{base.rstrip('/')}/setup?code={secret}"


def identity() -> Identity | None:
    """Who is calling, or None for an anonymous caller."""
    return cast("Identity | None", g.get("identity"))


def caller() -> Identity:
    """Who is calling; raises Unauthenticated for an anonymous caller."""
    found = identity()
    if found is None:
        raise Unauthenticated("sign in to do this")
    return found


def admission() -> Admission:
    """The repository this request was let into; only on routes that name one."""
    return cast("Admission", g.admission)


def browser_session() -> BrowserSession | None:
    """The signed-in browser behind this request, on page routes."""
    return cast("BrowserSession | None", g.get("browser_session"))


def body(read: Callable[[], bytes]) -> bytes:
    """The request's body, which can be read only once: by ``read`` the first time."""
    if "body" not in g:
        g.body = read()
    return cast("bytes", g.body)


def remember(*, who: Identity | None, admitted: Admission | None = None, browser: BrowserSession | None = None) -> None:
    """Note for this request who calls and where; done once, by ``registry.http.auth``."""
    g.identity = who
    if who is not None:
        audit.proved_by(who.via)
    g.admission = admitted
    g.browser_session = browser
