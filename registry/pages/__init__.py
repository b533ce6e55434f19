"""The pages people look at: server-rendered, complete without script, under a strict content security policy."""

from __future__ import annotations

from flask import Blueprint

from registry.pages import (
    access,
    account,
    administration,
    appearance,
    assets,
    audit,
    catalogue,
    client_login,
    entrance,
    gallery,
    groups,
    manage,
    origins,
    package_groups,
    packages,
    policies,
    proof,
    providers,
    quotas,
    repositories,
    second_factor,
    token_parts,
    users,
    version_changes,
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
        second_factor,
        providers,
        proof,
        client_login,
        account,
        token_parts,
        catalogue,
        packages,
        repositories,
        manage,
        administration,
        users,
        groups,
        access,
        policies,
        quotas,
        audit,
        origins,
        package_groups,
        version_changes,
        gallery,
    ):
        part.routes(pages)
    return pages
