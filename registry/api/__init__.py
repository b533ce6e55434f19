"""The management interface of the registry: JSON under ``/api/v1``, described by its own ``/openapi.json``."""

from __future__ import annotations

from flask import Blueprint

from registry.api import (
    accounts,
    advisories,
    audit_log,
    authorization,
    connections,
    document,
    domains,
    explain,
    origins,
    package_groups,
    packages,
    policies,
    quotas,
    repositories,
    roles,
    sign_in,
    tokens,
    version_contents,
    versions,
)
from registry.api.routes import register

ROUTES = (
    *accounts.ROUTES,
    *sign_in.ROUTES,
    *tokens.ROUTES,
    *authorization.ROUTES,
    *repositories.ROUTES,
    *connections.ROUTES,
    *packages.ROUTES,
    *quotas.ROUTES,
    *advisories.ROUTES,
    *audit_log.ROUTES,
    *origins.ROUTES,
    *package_groups.ROUTES,
    *versions.ROUTES,
    *version_contents.ROUTES,
    *domains.ROUTES,
    *policies.ROUTES,
    *roles.ROUTES,
    *explain.ROUTES,
    *document.ROUTES,
)


def blueprint() -> Blueprint:
    """All routes, to be mounted at ``/api/v1``."""
    routes = Blueprint("api", __name__)
    register(routes, ROUTES)
    return routes
