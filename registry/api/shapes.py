"""What goes in and out of the API, described once by dataclasses: read strictly, written in camelCase, documented.

A field of an input shape is named, typed and bounded, or the request is refused: a field nobody declared (``isAdmin``)
is an error and never passes through to a row. Known types: ``str``, ``int``, ``bool``, ``datetime`` (out only),
``float`` (out only), ``Any`` (out only), ``X | None``, ``tuple[X, ...]``, ``dict[str, X]`` and other dataclasses.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from registry.errors import Invalid

T = TypeVar("T")
JsonSchema = dict[str, Any]
_KNOWN_HINTS: dict[Any, dict[str, Any]] = {}  # by shape: reading the annotations costs more than reading most bodies


@dataclass(frozen=True, slots=True)
class Length:
    """Bounds of a text (characters) or a list or map (entries), written ``Annotated[str, Length(1, 100)]``."""

    least: int = 0
    most: int = 1000


@dataclass(frozen=True, slots=True)
class Between:
    """Bounds of a number, both included, written ``Annotated[int, Between(1, 200)]``."""

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Nothing:
    """No field at all."""


def camel(name: str) -> str:
    """``published_at`` → ``publishedAt``, ``from_`` → ``from``."""
    first, *rest = name.rstrip("_").split("_")
    return first + "".join(part.capitalize() for part in rest)


def read(shape: type[T], value: Any) -> T:
    """A JSON value as ``shape``. Raises Invalid naming the first field that breaks it."""
    return cast("T", _read(shape, value, "the body"))


def read_query(shape: type[T], arguments: Mapping[str, list[str]]) -> T:
    """A query string's parameters as ``shape`` (texts and whole numbers). Raises Invalid."""
    value: dict[str, Any] = {}
    kinds = {camel(name): kind for name, kind in _hints(shape).items()}
    for name, given in arguments.items():
        if len(given) != 1:
            raise Invalid(f"parameter {name!r} is there more than once")
        value[name] = _number(name, given[0]) if name in kinds and _wants_number(kinds[name]) else given[0]
    return cast("T", _read(shape, value, "the query"))


def _wants_number(kind: Any) -> bool:
    return kind is int or any(_wants_number(argument) for argument in get_args(kind))


def _number(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise Invalid(f"parameter {name!r} must be a whole number")
    return int(text)


def _read(kind: Any, value: Any, place: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        found = _read(arguments[0], value, place)
        for bound in arguments[1:]:
            _check_bound(bound, found, place)
        return found
    if origin in {Union, types.UnionType}:
        return None if value is None else _read(_without_none(arguments), value, place)
    if origin is tuple:
        return tuple(_read(arguments[0], entry, f"an entry of {place}") for entry in _typed(list, value, place))
    if kind is Any:
        return value
    if origin is dict:
        given = _typed(dict, value, place)
        return {
            _text(key, place): _read(arguments[1], entry, f"{place}: {key[:100]!r}") for key, entry in given.items()
        }
    if is_dataclass(kind):
        return _read_object(cast("type[Any]", kind), value, place)
    return _text(value, place) if kind is str else _typed(kind, value, place)


def _read_object(shape: type[Any], value: Any, place: str) -> Any:
    given = _typed(dict, value, place)
    known = {camel(field.name): field for field in fields(shape)}
    for name in given:
        if name not in known:
            allowed = ", ".join(known) if known else "none"
            raise Invalid(f"{place} has an unknown field {name[:100]!r}; known are: {allowed}")
    missing = [name for name, field in known.items() if name not in given and _is_required(field)]
    if missing:
        raise Invalid(f"{place} lacks the field {missing[0]!r}")
    kinds = _hints(shape)
    return shape(**{known[name].name: _read(kinds[known[name].name], entry, name) for name, entry in given.items()})


_WORDS = {str: "a text", int: "a whole number", bool: "true or false", list: "a list", dict: "an object"}


def _typed(kind: type[Any], value: Any, place: str) -> Any:
    # bool is an int to Python, and not to JSON.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise Invalid(f"{place} must be {_WORDS[kind]}")
    return value


def _text(value: Any, place: str) -> str:
    text = cast("str", _typed(str, value, place))
    if "\0" in text:
        raise Invalid(f"{place} holds a NUL character")  # PostgreSQL keeps none
    return text


def _check_bound(bound: Any, value: Any, place: str) -> None:
    if value is None:
        return
    if isinstance(bound, Length) and not bound.least <= len(value) <= bound.most:
        what = "characters" if isinstance(value, str) else "entries"
        raise Invalid(f"{place} must have {bound.least} to {bound.most} {what}")
    if isinstance(bound, Between) and not bound.least <= value <= bound.most:
        raise Invalid(f"{place} must be from {bound.least} to {bound.most}")


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _without_none(arguments: tuple[Any, ...]) -> Any:
    return next(argument for argument in arguments if argument is not type(None))


def _hints(shape: Any) -> dict[str, Any]:
    found = _KNOWN_HINTS.get(shape)
    if found is None:
        found = _KNOWN_HINTS[shape] = get_type_hints(shape, include_extras=True)
    return found


def write(value: Any) -> Any:
    """A shape as JSON: camelCase names, moments as RFC 3339 in UTC. Maps keep their keys as they are."""
    if is_dataclass(value):
        return {camel(field.name): write(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, Mapping):
        return {str(key): write(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [write(entry) for entry in value]
    return value


def describe(kind: Any, components: dict[str, JsonSchema], *, closed: bool) -> JsonSchema:
    """The JSON Schema of a shape (OpenAPI 3.1 dialect); dataclasses go into ``components`` and are referred to.

    ``closed`` says that unknown fields are refused: true of what comes in; answers may grow fields.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        schema = describe(arguments[0], components, closed=closed)
        for bound in arguments[1:]:
            schema = {**schema, **_described_bound(bound, schema)}
        return schema
    if origin in {Union, types.UnionType}:
        return {"anyOf": [describe(_without_none(arguments), components, closed=closed), {"type": "null"}]}
    if origin is tuple:
        return {"type": "array", "items": describe(arguments[0], components, closed=closed)}
    if origin in {dict, Mapping}:
        return {"type": "object", "additionalProperties": describe(arguments[1], components, closed=closed)}
    if is_dataclass(kind):
        return _described_object(cast("type[Any]", kind), components, closed=closed)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return {"type": "string", "enum": [str(each) for each in kind]}
    return dict(_DESCRIBED[kind])


_NAMED: dict[str, type[Any]] = {}

_DESCRIBED: Mapping[Any, JsonSchema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    datetime: {"type": "string", "format": "date-time"},
    Any: {},
}


def _described_object(shape: type[Any], components: dict[str, JsonSchema], *, closed: bool) -> JsonSchema:
    if _NAMED.setdefault(shape.__name__, shape) is not shape:
        raise TypeError(f"two shapes are called {shape.__name__}: the interface document can hold one")
    if shape.__name__ not in components:
        components[shape.__name__] = {}  # taken before the fields are looked at, so that a shape may hold itself
        kinds = _hints(shape)
        components[shape.__name__] = {
            "type": "object",
            "description": (shape.__doc__ or "").strip(),
            "properties": {
                camel(field.name): describe(kinds[field.name], components, closed=closed) for field in fields(shape)
            },
            "required": [camel(field.name) for field in fields(shape) if _is_required(field)],
        }
        if closed:
            components[shape.__name__]["additionalProperties"] = False
    return {"$ref": f"#/components/schemas/{shape.__name__}"}


def _described_bound(bound: Any, schema: JsonSchema) -> JsonSchema:
    if isinstance(bound, Between):
        return {"minimum": bound.least, "maximum": bound.most}
    if isinstance(bound, Length):
        what = {"string": "Length", "array": "Items", "object": "Properties"}[schema["type"]]
        return {f"min{what}": bound.least, f"max{what}": bound.most}
    return {}
