"""The pages people look at: server-rendered, complete without script, under a strict content security policy."""

from __future__ import annotations

from flask import Blueprint

from registry.pages import (
    account,
    appearance,
    assets,
    catalogue,
    client_login,
    entrance,
    gallery,
    manage,
    packages,
    token_parts,
)
from registry.pages.appearance import render_page

__all__ = ["blueprint", "render_page"]


def blueprint() -> Blueprint:
    """All pages of the registry, to be mounted at ``/``."""
    pages = Blueprint("pages", __name__, template_folder="templates")
    for part in (
        assets,
        appearance,
        entrance,
        client_login,
        account,
        token_parts,
        catalogue,
        packages,
        manage,
        gallery,
    ):
        part.routes(pages)
    return pages
