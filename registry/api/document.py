"""The route that tells what the interface is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from flask import Response

from registry.api import openapi
from registry.api.routes import Route, json_response, mounted
from registry.http import context
from registry.http.auth import permissions, public


def openapi_document() -> Response:
    """The interface itself: every route with its permission, input and answer (OpenAPI 3.1)."""
    try:
        release = version("entrepot")
    except PackageNotFoundError:
        release = "0"  # run from a source tree that was never installed
    return json_response(openapi.document(mounted(context.application()), permissions(context.application()), release))


ROUTES = (Route("GET", "/openapi.json", public("it describes the interface and holds no data"), openapi_document),)
