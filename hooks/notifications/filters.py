"""Which events somebody wants to be told of, and what an event says of itself to filters and rights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hooks.triggers.match import glob_matches
from registry import events
from registry.access import Action, Identity
from registry.errors import Denied, Invalid
from registry.names import PackageKey, PackageName

MOST_KINDS = 50
_KIND = re.compile(r"[a-z0-9.*?-]{1,64}\Z")
_PATTERN = re.compile(r"[^\s\x00-\x1f\x7f]{1,255}\Z")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an event happened, as far as it says; ``package`` is the name behind its namespace."""

    domain: str | None = None
    repository: str | None = None
    format: str | None = None
    package: str | None = None
    version: str | None = None

    @property
    def path(self) -> str:
        """What there is of it, from the domain down: an event's subject."""
        return "/".join(
            part for part in (self.domain, self.repository, self.format, self.package, self.version) if part
        )


@dataclass(frozen=True, slots=True)
class Filter:
    """Patterns know ``*`` and ``?`` and cover the whole value. ``domain`` is exact; None: of the whole server."""

    kinds: Sequence[str]
    domain: str | None = None
    repository: str | None = None
    format: str | None = None
    package: str | None = None

    def matches(self, kind: str, place: Place) -> bool:
        """Whether an event is one of those. One that says nothing of what is filtered by is none."""
        if self.domain is not None and self.domain != place.domain:
            return False
        wanted = ((self.repository, place.repository), (self.format, place.format), (self.package, place.package))
        if not all(pattern is None or (value and glob_matches(pattern, value)) for pattern, value in wanted):
            return False
        return any(glob_matches(pattern, kind) for pattern in self.kinds)


def place_of(payload: Mapping[str, Any]) -> Place:
    """Where an event happened, from its payload."""
    domain, repository, format_name, namespace, name, version = (
        str(payload[field]) if payload.get(field) else None for field in events.COORDINATES
    )
    package = f"{namespace}/{name}" if namespace and name else name
    return Place(domain, repository, format_name, package, version)


def checked(wanted: Filter) -> Filter:
    """``wanted`` with its empty texts as None. Raises Invalid for what cannot match anything, or is no pattern."""
    kinds = tuple(dict.fromkeys(wanted.kinds))
    if not 1 <= len(kinds) <= MOST_KINDS:
        raise Invalid(f"name 1 to {MOST_KINDS} kinds of events; '*' stands for all")
    for pattern in kinds:
        if not _KIND.match(pattern) or not any(glob_matches(pattern, kind) for kind in events.CATALOGUE):
            raise Invalid(f"no kind of event is called {pattern[:64]!a}")
    for what, value in (
        ("domain", wanted.domain),
        ("repository", wanted.repository),
        ("format", wanted.format),
        ("package", wanted.package),
    ):
        if value and not _PATTERN.match(value):
            raise Invalid(f"the {what} must be one word of at most 255 characters")
    if wanted.repository and not wanted.domain:
        raise Invalid("a repository needs its domain")
    return Filter(
        kinds, wanted.domain or None, wanted.repository or None, wanted.format or None, wanted.package or None
    )


def check_may_own(who: Identity, wanted: Filter) -> None:
    """Raise Denied unless ``who`` administers what an endpoint with this filter would hear of."""
    if not may_own(who, wanted.domain, wanted.repository):
        what = f"{wanted.domain}/{wanted.repository or '*'}" if wanted.domain else "the server"
        raise Denied(f"{who.name} may not send webhooks: that needs the right to administer {what}")


def may_own(who: Identity, domain: str | None, repository: str | None) -> bool:
    """Whether ``who`` administers a domain (or only ``repository``, a pattern, of it); None: the whole server."""
    return who.may(Action.ADMIN, f"{domain}/{repository or '*'}" if domain else None)


def is_entitled(who: Identity, place: Place) -> bool:
    """Whether ``who`` may know of what happened there: as its reader, else as administrator of the domain or the server.

    ``who`` stands before the rules of this moment (``Audience``): roles and policies decide as they do for requests.
    """
    if not place.domain:
        return who.may(Action.ADMIN)
    if not place.repository:
        return who.may(Action.ADMIN, domain=place.domain)
    return who.may(Action.READ, f"{place.domain}/{place.repository}", package=_key(place))


def _key(place: Place) -> PackageKey | None:
    if not place.format or not place.package:
        return None
    namespace, _, name = place.package.rpartition("/")
    return PackageKey(place.format, namespace, PackageName(name))
