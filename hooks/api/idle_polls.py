"""The answer "nothing to do" to idle agents, given before the framework is reached.

It is the most frequent request of all: hundreds of agents make it every few seconds, and almost always it has the same
answer. This gives that answer and no other. Whatever is not exactly the usual question of an agent in a session that
counts, without work, goes on to the route, as if this were not here: it has the door, the shapes and all refusals.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from hooks.api.agent_shapes import PollResult
from hooks.services import HookServices
from registry.api import shapes
from registry.errors import Problem
from registry.http.headers import HSTS_SECONDS, PAGE_HEADERS
from registry.rates import CostClass
from registry.services import Services
from registry.token_shape import looks_like_token

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PATH = "/api/v1/agent/poll"
_MOST_BYTES = 64
_IDLE = re.compile(rb'\{"running": ?\[\], ?"free": ?(?:[0-9]|1[0-6])\}')
_HEADERS = (
    ("Content-Type", "application/json"),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    *PAGE_HEADERS.items(),
)


class IdlePolls:
    """WSGI middleware."""

    def __init__(self, app: WSGIApplication, services: Services, hooks: HookServices) -> None:
        """``app`` answers whatever this does not."""
        self._app = app
        self._services = services
        self._hooks = hooks

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer an idle agent, or pass the request on."""
        if environ.get("PATH_INFO") != PATH or not _is_usual(environ):
            return self._app(environ, start_response)
        length = int(environ["CONTENT_LENGTH"])
        body = environ["wsgi.input"].read(length)
        environ["wsgi.input"] = io.BytesIO(body)
        is_idle = len(body) == length and _IDLE.fullmatch(body) is not None
        answer = self._answer(environ["HTTP_AUTHORIZATION"][7:]) if is_idle else None
        if answer is None:
            return self._app(environ, start_response)
        headers = [*_HEADERS, ("Content-Length", str(len(answer)))]
        if environ.get("wsgi.url_scheme") == "https":
            headers.append(("Strict-Transport-Security", f"max-age={HSTS_SECONDS}"))
        start_response("200 OK", headers)
        return [answer]

    def _answer(self, credential: str) -> bytes | None:
        services = self._services
        now = services.clock()
        try:
            found = self._hooks.agents.presence.poll(services.accounts.digest(credential), now)
            if found is None:
                return None
            services.rates.spend(CostClass.MANAGE, f"agent:{found[0]}", now)
        except Problem:
            return None  # the route asks the same, and says what is the matter
        return _said(found[1])


def _is_usual(environ: WSGIEnvironment) -> bool:
    length = environ.get("CONTENT_LENGTH", "")
    return (
        environ.get("REQUEST_METHOD") == "POST"
        and not environ.get("QUERY_STRING")
        and environ.get("CONTENT_TYPE") == "application/json"
        and "HTTP_CONTENT_ENCODING" not in environ
        and "HTTP_TRANSFER_ENCODING" not in environ
        and length.isascii()
        and length.isdigit()
        and int(length) <= _MOST_BYTES
        and environ.get("HTTP_AUTHORIZATION", "").startswith("Bearer ")
        # Before the body is read: nobody without a credential keeps a thread waiting for one.
        and looks_like_token(environ["HTTP_AUTHORIZATION"][7:])
    )


@lru_cache(maxsize=64)
def _said(seconds: float) -> bytes:
    told = shapes.write(PollResult(None, (), seconds))
    return json.dumps(told, allow_nan=False, separators=(",", ":")).encode() + b"\n"
