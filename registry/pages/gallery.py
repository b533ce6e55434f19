"""The design system on one page: every component in every state, to look at and to test."""

from __future__ import annotations

from flask import Blueprint, render_template

from registry.http import context
from registry.http.auth import page


def routes(pages: Blueprint) -> None:
    """Add the route."""
    pages.add_url_rule("/design", "design", _design)


@page
def _design() -> str:
    return render_template("design.html", now=context.services().clock())
