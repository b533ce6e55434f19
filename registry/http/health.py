"""``/healthz``: this process answers. ``/readyz``: what it depends on answers too."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from registry.errors import Unavailable
from registry.http import auth, context
from storage.errors import StorageError


def blueprint() -> Blueprint:
    """The operations routes."""
    routes = Blueprint("health", __name__)

    @routes.get("/healthz")
    @auth.public("says only that the process runs")
    def healthz() -> Response:
        return jsonify({"status": "ok"})

    @routes.get("/readyz")
    @auth.public("says only whether requests can be served")
    def readyz() -> tuple[Response, int]:
        failures = []
        for check in context.services().readiness:
            try:
                check()
            except (Unavailable, StorageError) as error:
                failures.append(str(error))
        if failures:
            return jsonify({"status": "unavailable", "failures": failures}), 503
        return jsonify({"status": "ready"}), 200

    return routes
