"""``#{namespace.key}`` in configuration values (CodePipeline "Working with variables"). Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

RESERVED_NAMESPACES = frozenset({"codepipeline", "variables"})
MAX_RESOLVED_BYTES = 100 * 1024
_REFERENCE = re.compile(r"#\{([A-Za-z0-9@_-]{1,100})\.([A-Za-z0-9@_.-]{1,128})\}")

Values = Mapping[str, Mapping[str, str]]
"""Namespace → key → value."""


class Unresolved(Exception):
    """A reference has no value, or the resolved configuration is over its limit; ``str()`` says which."""


def references(text: str) -> Iterator[tuple[str, str]]:
    """All (namespace, key) that ``text`` refers to."""
    for match in _REFERENCE.finditer(text):
        yield match[1], match[2]


def has_reference(text: str) -> bool:
    """Whether ``text`` refers to a variable, or tries to."""
    return "#{" in text


def malformed(text: str) -> bool:
    """Whether ``text`` holds a ``#{`` that begins no reference."""
    return text.count("#{") != sum(1 for _ in _REFERENCE.finditer(text))


def resolve(configuration: Mapping[str, str], values: Values, json_keys: Collection[str]) -> dict[str, str]:
    """``configuration`` with every reference replaced, once: what a value brings along is not looked at again.

    In the values named by ``json_keys`` the replacement happens inside the strings of the JSON document. Raises
    Unresolved.
    """
    resolved: dict[str, str] = {}
    for key, value in configuration.items():
        if has_reference(value) and key in json_keys:
            resolved[key] = json.dumps(_in_json(json.loads(value), values), ensure_ascii=False)
        else:
            resolved[key] = _replace(value, values)
    if sum(len(value.encode()) for value in resolved.values()) > MAX_RESOLVED_BYTES:
        raise Unresolved(f"the resolved configuration is larger than {MAX_RESOLVED_BYTES} bytes")
    return resolved


def _in_json(node: Any, values: Values) -> Any:
    if isinstance(node, str):
        return _replace(node, values)
    if isinstance(node, list):
        return [_in_json(item, values) for item in node]
    if isinstance(node, dict):
        return {key: _in_json(item, values) for key, item in node.items()}
    return node


def _replace(text: str, values: Values) -> str:
    def value_of(match: re.Match[str]) -> str:
        try:
            return values[match[1]][match[2]]
        except KeyError:
            raise Unresolved(f"variable {match[0]} has no value") from None

    return _REFERENCE.sub(value_of, text)
