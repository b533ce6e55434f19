"""One table of routes is the API: what is registered, checked, read, answered and documented all comes from it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from types import CodeType
from typing import Any, cast

from flask import Blueprint, Flask, Response, request
from flask.blueprints import BlueprintSetupState
from flask.typing import ResponseReturnValue
from werkzeug.routing import IntegerConverter

from registry.api import shapes
from registry.api.repeating import keep, repeatable
from registry.errors import Problem, Unavailable
from registry.http import context
from registry.http.json_body import read_json


class RowId(IntegerConverter):
    """A row's number in a path (``<id:name>``): as long as ids get, so that no database and no parser chokes on it."""

    regex = "[0-9]{1,9}"


Door = Callable[[Callable[..., ResponseReturnValue]], Callable[..., ResponseReturnValue]]
_EXTENSION = "entrepot_api_routes"
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. ``path`` is relative to the API's root, in Flask's notation, row numbers as ``<id:…>``.

    ``door`` is a decorator of ``registry.http.auth``. ``view`` takes the path's arguments it names, and ``body``
    and ``query`` as instances of those shapes where they are declared; it returns an ``answer``, or a finished
    ``Response`` where ``media_type`` is not JSON. ``holds_secrets`` says that a credential may be what is sent: in other
    bodies a token of this server is a leak. With ``body_is_optional`` no body stands for an empty object. Its
    docstring is the operation's documentation. With ``body_media_type`` the body is no JSON: the view reads it itself, as
    it comes (``registry.http.upload``), and no answer to it is kept for a repetition.
    """

    method: str
    path: str
    door: Door
    view: Callable[..., Any]
    body: type[Any] = shapes.Nothing
    query: type[Any] = shapes.Nothing
    answer: type[Any] | None = None
    status: int = 200
    media_type: str = "application/json"
    holds_secrets: bool = False
    body_is_optional: bool = False
    body_media_type: str = ""


@dataclass(frozen=True, slots=True)
class Mounted:
    """A route in an application: under which prefix and endpoint."""

    prefix: str
    endpoint: str
    route: Route


@dataclass(slots=True)
class _Table:
    entries: list[Mounted] = field(default_factory=list)


def register(blueprint: Blueprint, routes: Sequence[Route]) -> None:
    """Serve ``routes`` from ``blueprint`` and make them known to the interface document."""
    blueprint.record(lambda state: state.app.url_map.converters.update(id=RowId))
    for route in routes:
        blueprint.add_url_rule(route.path, route.view.__name__, route.door(_operation(route)), methods=[route.method])

    def note(state: BlueprintSetupState) -> None:
        table = state.app.extensions.setdefault(_EXTENSION, _Table())
        for route in routes:
            endpoint = f"{blueprint.name}.{route.view.__name__}"
            table.entries.append(Mounted(state.url_prefix or "", endpoint, route))

    blueprint.record(note)


def mounted(app: Flask) -> Sequence[Mounted]:
    """All routes registered with ``app`` through ``register``."""
    return tuple(app.extensions.get(_EXTENSION, _Table()).entries)


def _operation(route: Route) -> Callable[..., ResponseReturnValue]:
    # The door needs all of the path's arguments; the view gets those it names.
    code: CodeType = cast("Any", inspect.unwrap(route.view)).__code__
    wanted = frozenset(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])

    def answered(arguments: dict[str, Any]) -> Response:
        query = shapes.read_query(route.query, request.args.to_dict(flat=False))
        if route.query is not shapes.Nothing:
            arguments["query"] = query
        if route.body is not shapes.Nothing:
            is_there = bool(request.content_length) or not route.body_is_optional
            sent = _sent(holds_secrets=route.holds_secrets) if is_there else {}
            arguments["body"] = shapes.read(route.body, sent)
        elif route.method in _WITH_BODY and request.content_length and not route.body_media_type:
            shapes.read(shapes.Nothing, _sent())
        result = route.view(**{name: value for name, value in arguments.items() if name in wanted})
        return result if isinstance(result, Response) else json_response(result, route.status)

    @wraps(route.view)
    def operation(**arguments: Any) -> ResponseReturnValue:
        again = None if route.body_media_type else repeatable(route.method)
        if isinstance(again, Response):
            return again
        try:
            answer = answered(arguments)
        except Problem as problem:
            # Of what ended without a word, or may have been done after all, the key stays with the request.
            if again is not None and not isinstance(problem, Unavailable):
                context.services().idempotency.refused(again)
            raise
        if again is not None:
            keep(again, answer)
        return answer

    return operation


def _sent(*, holds_secrets: bool = False) -> Any:
    return read_json(context.services().limits.json_bytes, holds_secrets=holds_secrets)


def json_response(value: Any, status: int = 200) -> Response:
    """``value`` (a shape, or None for no body) as JSON that is also valid JavaScript, never kept by caches."""
    if value is None:
        response = Response(status=status)
    else:
        text = json.dumps(shapes.write(value), allow_nan=False, separators=(",", ":"))
        response = Response(text + "\n", status, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
