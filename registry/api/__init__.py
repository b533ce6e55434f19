"""The management interface of the registry: JSON under ``/api/v1``, described by its own ``/openapi.json``."""

from __future__ import annotations

from flask import Blueprint

from registry.api import accounts, authorization, connections, document, packages, repositories, tokens
from registry.api.routes import register

ROUTES = (
    *accounts.ROUTES,
    *tokens.ROUTES,
    *authorization.ROUTES,
    *repositories.ROUTES,
    *connections.ROUTES,
    *packages.ROUTES,
    *document.ROUTES,
)


def blueprint() -> Blueprint:
    """All routes, to be mounted at ``/api/v1``."""
    routes = Blueprint("api", __name__)
    register(routes, ROUTES)
    return routes
