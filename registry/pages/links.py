"""Where a page may send somebody: back into this application, or out over links a stranger wrote."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from flask import url_for
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect

from registry.http import context

_LONGEST_TARGET = 2000


def safe_next(target: str | None) -> str:
    r"""``target`` when it is the absolute path of a page of ours, else the home page.

    Browsers read ``//host``, ``/\host`` and control characters in a path as another origin (open redirect).
    """
    home = url_for("pages.home")
    if not target or len(target) > _LONGEST_TARGET or not target.startswith("/") or target.startswith("//"):
        return home
    if "\\" in target or not target.isprintable() or " " in target:
        return home
    return target if _is_page(unquote(urlsplit(target).path)) else home


def _is_page(path: str) -> bool:
    if "\\" in path or "//" in path or not path.isprintable():
        return False
    try:
        endpoint, _ = context.application().url_map.bind("").match(path, method="GET")
    except (HTTPException, RequestRedirect):
        return False
    return "pages." in endpoint and endpoint != "pages.asset"


def outward(url: object) -> str | None:
    """A link somebody published, when it is http(s); None for everything else (``javascript:`` and its kin)."""
    if not isinstance(url, str) or not url.isprintable() or " " in url:
        return None
    try:
        parts = urlsplit(url)
        return url if parts.scheme.lower() in {"http", "https"} and parts.hostname else None
    except ValueError:
        return None
