"""A version's place in a repository, in canonical names: how people write it, turned into how it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy.orm import Session

from registry.errors import Invalid, NotFound
from registry.format import Format
from registry.names import PackageKey, PackageName
from registry.repos import browse


class Coordinate(NamedTuple):
    """Format, namespace, canonical name, canonical version: in this order wherever the registry takes them."""

    format: str
    namespace: str
    name: str
    version: str

    @property
    def key(self) -> PackageKey:
        """The package it is a version of."""
        return PackageKey(self.format, self.namespace, PackageName(self.name))


def find(
    session: Session,
    formats: Mapping[str, Format],
    repository_id: int,
    format_name: str,
    namespace: str,
    name: str,
    version: str,
) -> Coordinate:
    """The coordinate of a version that a repository holds, however its name and version are spelt. Raises NotFound."""
    known = known_format(formats, format_name)
    key = package_key(known, namespace, name)
    kept = browse.canonical_version(session, repository_id, *key, version, sort_key=known.sort_key)
    return Coordinate(*key, kept)


def package_key(known: Format, namespace: str, name: str) -> PackageKey:
    """The package that a request names, however it spells it. Raises Invalid, or NotFound for a foreign namespace."""
    if not namespace:
        return known.key(name)
    try:
        return known.key(f"{namespace}/{name}")
    except Invalid as error:
        raise NotFound("package", f"{namespace}/{name}") from error


def known_format(formats: Mapping[str, Format], format_name: str) -> Format:
    """The format of that name. Raises NotFound."""
    if format_name not in formats:
        raise NotFound("format", format_name)
    return formats[format_name]


def sort_keys(formats: Mapping[str, Format]) -> Mapping[str, browse.SortKey]:
    """Each format's order of versions."""
    return {name: known.sort_key for name, known in formats.items()}
