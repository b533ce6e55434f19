"""A version's place in a repository, in canonical names: how people write it, turned into how it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from registry.access import Action, Identity, check
from registry.errors import Invalid, NotFound
from registry.format import Format
from registry.names import PackageKey, PackageName
from registry.repos import browse
from registry.repos.topology import find_repository


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


def find_readable(
    session: Session, formats: Mapping[str, Format], caller: Identity, package: Mapping[str, Any], domain: str
) -> dict[str, str]:
    """Where a version is that a document names, with its domain, in canonical names, for who may read it there.

    ``package`` has ``repository``, ``format``, ``name``, ``version``, perhaps ``namespace``, and ``domain`` unless it is
    ``domain``. Raises Denied, NotFound, Invalid.
    """
    domain, repository = package.get("domain") or domain, package["repository"]
    key = package_key(known_format(formats, package["format"]), package.get("namespace", ""), package["name"])
    check(caller, Action.READ, f"{domain}/{repository}", key)
    _, row = find_repository(session, domain, repository)
    found = find(session, formats, row.id, key.format, key.namespace, key.name, package["version"])
    return {"domain": domain, **found._asdict()}


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
