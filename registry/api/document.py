"""The route that tells what the interface is."""

from __future__ import annotations

from flask import Response

from registry.api import openapi
from registry.api.routes import Route, json_response, mounted
from registry.http import context
from registry.http.auth import permissions, public

VERSION = "1"
"""The interface's version, as in its addresses. Which release runs here strangers are not told."""


def openapi_document() -> Response:
    """The interface itself: every route with its permission, input and answer (OpenAPI 3.1)."""
    return json_response(openapi.document(mounted(context.application()), permissions(context.application()), VERSION))


ROUTES = (Route("GET", "/openapi.json", public("it describes the interface and holds no data"), openapi_document),)
