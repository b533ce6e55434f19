"""The interface document (OpenAPI 3.1), made from the very table the routes were registered from."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from registry.api.routes import Mounted
from registry.api.shapes import JsonSchema, Nothing, camel, describe
from registry.idempotency import HEADER

_ARGUMENT = re.compile(r"<(?:(\w+):)?(\w+)>")
_PROBLEM: JsonSchema = {
    "type": "object",
    "description": "What went wrong (RFC 9457): `detail` is one line a person can act on.",
    "properties": {
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "faults": {
            "type": "array",
            "items": {"type": "string"},
            "description": "With the code `invalid_document`: all that is wrong with it, each with its place.",
        },
    },
    "required": ["status", "code", "detail"],
}
_REPEATABLE: JsonSchema = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "A text of your own: a request that comes again with it, within a day, is not done again.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}
_SECURITY: Mapping[str, JsonSchema] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A token: `Authorization: Bearer ent_…`"},
    "basic": {"type": "http", "scheme": "basic", "description": "User and password, or any user and a token."},
}


def document(routes: Sequence[Mounted], permissions: Mapping[str, str], version: str) -> JsonSchema:
    """Describe ``routes``. ``permissions`` (endpoint → declaration) come from the doors themselves."""
    components: dict[str, JsonSchema] = {"Problem": _PROBLEM}
    paths: dict[str, JsonSchema] = {}
    for entry in sorted(routes, key=lambda found: (found.route.path, found.route.method)):
        path = entry.prefix + _ARGUMENT.sub(lambda found: "{" + camel(found[2]) + "}", entry.route.path)
        operation = _operation(entry, permissions[entry.endpoint], components)
        paths.setdefault(path, {})[entry.route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Entrepot",
            "version": version,
            "description": "Management interface. A field or parameter that is not described here is refused (400).",
        },
        "paths": paths,
        "components": {"schemas": dict(sorted(components.items())), "securitySchemes": dict(_SECURITY)},
    }


def _operation(entry: Mounted, permission: str, components: dict[str, JsonSchema]) -> JsonSchema:
    route = entry.route
    documentation = inspect.getdoc(route.view) or ""
    summary, _, rest = documentation.partition("\n")
    operation: JsonSchema = {
        "operationId": camel(route.view.__name__),
        "summary": summary,
        "description": "\n\n".join(part for part in (rest.strip(), f"Permission: {permission}.") if part),
        "x-permission": permission,
        "security": [] if permission.startswith("public") else [{"bearer": []}, {"basic": []}],
        "responses": {
            str(route.status): _answer(entry, components),
            "default": {
                "description": "The request was refused or failed.",
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            },
        },
    }
    parameters = [*_path_parameters(route.path), *_query_parameters(route.query, components)]
    if route.method == "POST" and operation["security"] and not route.body_media_type:
        parameters.append(_REPEATABLE)
    if parameters:
        operation["parameters"] = parameters
    if route.body_media_type:
        content = {route.body_media_type: {"schema": {"type": "string", "format": "binary"}}}
        operation["requestBody"] = {"required": True, "content": content}
    if route.body is not Nothing:
        schema = describe(route.body, components, closed=True)
        operation["requestBody"] = {
            "required": not route.body_is_optional,
            "content": {"application/json": {"schema": schema}},
        }
    return operation


def _answer(entry: Mounted, components: dict[str, JsonSchema]) -> JsonSchema:
    route = entry.route
    if route.answer is None and route.media_type == "application/json":
        return {"description": "Done." if route.status == 204 else "An object."}
    schema = describe(route.answer, components, closed=False) if route.answer is not None else {"type": "string"}
    return {"description": "The answer.", "content": {route.media_type: {"schema": schema}}}


def _path_parameters(path: str) -> list[JsonSchema]:
    return [
        {
            "name": camel(name),
            "in": "path",
            "required": True,
            "schema": {"type": "integer" if converter == "id" else "string"},
        }
        for converter, name in _ARGUMENT.findall(path)
    ]


def _query_parameters(shape: type[Any], components: dict[str, JsonSchema]) -> list[JsonSchema]:
    assert is_dataclass(shape)
    kinds = get_type_hints(shape, include_extras=True)
    return [
        {
            "name": camel(field.name),
            "in": "query",
            "required": False,
            "schema": describe(kinds[field.name], components, closed=True),
        }
        for field in fields(shape)
    ]
