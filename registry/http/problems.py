"""The one table from what went wrong to a status, and the shapes in which it is said."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable
from typing import cast

from flask import Flask, Response, jsonify, redirect, request, url_for
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.wrappers import Response as BaseResponse

from registry import errors
from storage import errors as storage_errors

log = logging.getLogger("entrepot.http")

# Most specific first: the first class the error is an instance of decides.
STATUS: tuple[tuple[type[Exception], int], ...] = (
    (errors.FileExists, 400),  # what twine and uv recognise together with "File already exists" in reason and body
    (errors.NotFound, 404),
    (errors.Gone, 410),
    (errors.NotAcceptable, 406),
    (errors.Conflict, 409),
    (errors.Invalid, 400),
    (errors.Unauthenticated, 401),
    (errors.Denied, 403),
    (errors.TooLarge, 413),
    (errors.QuotaExceeded, 413),
    (errors.Misdirected, 421),
    (errors.RateLimited, 429),
    (errors.OutOfSpace, 507),
    (errors.UpstreamUnavailable, 502),
    (errors.Unavailable, 503),
    (storage_errors.BodyTooLarge, 413),
    (storage_errors.BodyRejected, 400),
    (storage_errors.NoSpace, 507),
    (storage_errors.Transient, 503),
    (storage_errors.KeyDestroyed, 410),
    (storage_errors.KeyUnavailable, 503),
)
REASON_LIMIT = 200
BASIC_CHALLENGE = 'Basic realm="entrepot", charset="UTF-8"'  # RFC 7617


def status_of(error: Exception) -> int:
    """The HTTP status that tells of ``error``; 500 for what is nobody's expected failure."""
    for kind, status in STATUS:
        if isinstance(error, kind):
            return status
    return 500


NO_ROUTE = "there is nothing at this address"
KEY_SECONDS = 30
"""When to ask again for what a key is missing for: somebody has to see to it first."""


def _told(error: Exception) -> str:
    """What the caller is told: of a missing key no more than that, the rest is for the log."""
    if isinstance(error, storage_errors.KeyDestroyed):
        return "the keys of this domain were destroyed, and what they encrypted is unreadable for good"
    if isinstance(error, storage_errors.KeyUnavailable | storage_errors.ProviderAway):
        log.error("a key cannot be had for %s %s: %s", request.method, request.path, error)
        return "the key that this is encrypted under cannot be had now; the server's log says why"
    return str(error)


PROBLEM = "application/problem+json"
Say = Callable[[int, str, str], BaseResponse]
"""Makes an answer of a status, one line for a person, and the error's code."""


def register(app: Flask, render_page: Callable[[int, str], str] | None = None) -> None:
    """Answer all errors of ``app``. ``render_page(status, message)`` makes the page that people see."""
    app.register_error_handler(
        Exception, answering(lambda status, message, code: _say(status, message, code, render_page))
    )


def answering(say: Say) -> Callable[[Exception], BaseResponse]:
    """An error handler for an application or a blueprint that says in its own shape what the table decides."""

    def answer(error: Exception) -> BaseResponse:
        if isinstance(error, HTTPException):
            if error.response is not None:
                return cast("BaseResponse", error.response)
            words = (
                NO_ROUTE if type(error) is NotFound and error.description == NotFound.description else error.description
            )
            return say(error.code or 500, words or error.name, "http")
        status = status_of(error)
        if status == 500:
            reference = uuid.uuid4().hex[:12]
            log.error("request failed", exc_info=error, extra={"reference": reference, "path": request.path})
            return say(500, f"internal error; the server's log has it under {reference}", "internal")
        response = say(status, _told(error), getattr(error, "code", "refused"))
        if isinstance(error, errors.InvalidDocument) and response.mimetype == PROBLEM:
            # An extension member (RFC 9457 section 3.2): the faults one by one, for who shows them to people.
            response.set_data(json.dumps({**response.get_json(), "faults": error.faults}) + "\n")
        if status == 401:
            response.headers.setdefault("WWW-Authenticate", BASIC_CHALLENGE)
        if isinstance(error, errors.Unavailable | errors.RateLimited):
            response.headers["Retry-After"] = str(error.retry_after_seconds)
        elif isinstance(error, storage_errors.KeyUnavailable | storage_errors.ProviderAway) and status == 503:
            response.headers["Retry-After"] = str(KEY_SECONDS)
        return response

    return answer


def _say(status: int, message: str, code: str, render_page: Callable[[int, str], str] | None) -> BaseResponse:
    if request.path.startswith("/api/"):
        # RFC 9457 problem details
        response: BaseResponse = jsonify({"status": status, "code": code, "detail": message})
        response.status_code = status
        response.content_type = PROBLEM
    elif render_page is not None and _is_page():
        if status == 401:
            return redirect(url_for("pages.sign_in", next=request.full_path.rstrip("?")), 303)
        response = Response(render_page(status, message), status, content_type="text/html; charset=utf-8")
    else:
        # twine and pip show the reason phrase, uv the body: the same line in both.
        response = Response(message + "\n", content_type="text/plain; charset=utf-8")
        response.status = f"{status} {reason_phrase(message)}"
    return response


def _is_page() -> bool:
    endpoint = request.endpoint or ""
    if request.blueprint is not None and "pages" in request.blueprint:
        return True
    return not endpoint and "text/html" in request.headers.get("Accept", "")


def reason_phrase(message: str) -> str:
    """``message`` as an HTTP reason phrase: one line of latin-1 (anything else makes gunicorn answer 500), capped."""
    line = " ".join(message.split())
    return line.encode("latin-1", "replace").decode("latin-1")[:REASON_LIMIT]
