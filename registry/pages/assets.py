"""Style sheet, script and icons: files of this package, named by their content so that browsers keep them for good."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from flask import Blueprint, Response, request, url_for
from markupsafe import Markup

from registry.errors import NotFound
from registry.http.auth import public

_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
_SYMBOL = re.compile(r'<symbol id="([a-z]+)">(.*?)</symbol>')
_VERSION_CHARACTERS = 12


def routes(pages: Blueprint) -> None:
    """Add the assets' route."""
    pages.add_url_rule("/static/<name>", "asset", _send)


@cache
def _bodies() -> Mapping[str, bytes]:
    folder = files("registry.pages") / "static"
    return MappingProxyType({entry.name: entry.read_bytes() for entry in folder.iterdir() if _type_of(entry.name)})


@cache
def _version(name: str) -> str:
    return hashlib.sha256(_bodies()[name]).hexdigest()[:_VERSION_CHARACTERS]


def _type_of(name: str) -> str | None:
    return _TYPES.get(name.rpartition(".")[2])


def asset_url(name: str) -> str:
    """Where ``name`` is served, with its content's version in the query."""
    return url_for("pages.asset", name=name, v=_version(name))


@public("the same files for everybody, without any data")
def _send(name: str) -> Response:
    body, content_type = _bodies().get(name), _type_of(name)
    if body is None or content_type is None:
        raise NotFound("file", name)
    response = Response(body, content_type=content_type)
    response.set_etag(_version(name))
    # Only the address that names this very content may be kept for good.
    named = request.args.get("v") == _version(name)
    response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if named else "public, no-cache"
    response.make_conditional(request)
    return response


@cache
def _symbols() -> Mapping[str, str]:
    return MappingProxyType(dict(_SYMBOL.findall(_bodies()["icons.svg"].decode())))


@cache
def icon(name: str, meaning: str = "") -> Markup:
    """A symbol of the sprite as inline SVG; ``meaning`` is what it says to people who do not see it (else nothing)."""
    # Inline rather than <use href>: no second request, no flash, and nothing for the policy to allow.
    spoken = Markup('role="img" aria-label="{}"').format(meaning) if meaning else Markup('aria-hidden="true"')
    drawing = Markup(_symbols()[name])  # noqa: S704  (our own file)
    return Markup('<svg class="icon" viewBox="0 0 24 24" {}>{}</svg>').format(spoken, drawing)
