"""Headers that every answer carries: what browsers may do with our pages, and what nobody may keep.

Artifacts have a stricter policy of their own (``registry.http.responses.INERT_HEADERS``); it is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from flask import Flask, request
from werkzeug.wrappers import Response

from registry.http import context

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; object-src 'none'"
)
PAGE_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
HSTS_SECONDS = 365 * 24 * 3600


def register(app: Flask) -> None:
    """Add the headers to all answers of ``app``."""
    app.after_request(_add)


def _add(response: Response) -> Response:
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    if "Content-Security-Policy" not in response.headers:
        for name, value in PAGE_HEADERS.items():
            response.headers.setdefault(name, value)
    if request.is_secure:
        # Over plain http browsers must ignore it (RFC 6797 §8.1), and a proxy that forwards it would lock users out.
        response.headers.setdefault("Strict-Transport-Security", f"max-age={HSTS_SECONDS}")
    if _shows_somebody(response):
        response.headers.setdefault("Cache-Control", "no-store")
        if response.headers["Cache-Control"] == "no-store":
            response.vary.add("Cookie")
    return response


def _shows_somebody(response: Response) -> bool:
    # Sign-in and setup have no session yet, and still nothing of them may stay in a shared browser's cache. Error pages
    # of addresses without a route name who looks, too; documents for clients say themselves how long they hold.
    is_page = request.blueprint is not None and "pages" in request.blueprint
    return is_page or context.browser_session() is not None or response.mimetype == "text/html"
