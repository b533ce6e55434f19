"""May this caller do this here? Pure: it sees values, never rows or requests."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum
from functools import lru_cache
from typing import Final

from registry.errors import Denied, Invalid, Unauthenticated
from registry.names import PackageKey

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Action(StrEnum):
    """What one can be allowed to do. ``ADMIN`` includes all others, everywhere."""

    READ = "read"
    PUBLISH = "publish"
    PROMOTE = "promote"
    APPROVE = "approve"
    ADMIN = "admin"


class AnyPackage(Enum):
    """Stands for "some package that is looked at later, one by one": lists, and uploads whose body names theirs."""

    ANY = "any"


ANY_PACKAGE: Final = AnyPackage.ANY
About = PackageKey | AnyPackage | None
"""What an act is about: one package, some package, or (None) no package but the repository or the server itself."""


@dataclass(frozen=True, slots=True)
class Scope:
    """A set of actions on a set of repositories and packages, from a set of networks. None means all of them.

    ``repositories`` holds ``domain/repository`` patterns (``*`` within a part), ``packages`` ``format/namespace/name``
    patterns (``format/name`` where there is no namespace; ``*`` within a part, and as the whole last part everything
    below), ``networks`` CIDR blocks that the caller's address has to be in.
    """

    actions: frozenset[Action]
    repositories: tuple[str, ...] | None = None
    packages: tuple[str, ...] | None = None
    networks: tuple[str, ...] | None = None

    def allows(self, action: Action, repository: str | None, package: About = None) -> bool:
        """Whether the scope covers ``action`` on ``repository`` (``domain/name``; None for things of the whole server).

        One with ``packages`` covers nothing that is about no package. Networks are not looked at here: ``is_from``.
        """
        if Action.ADMIN not in self.actions and action not in self.actions:
            return False
        if self.packages is not None and not self._covers(package):
            return False
        if self.repositories is None:
            return True
        if repository is None:
            return False
        return any(_pattern(pattern).fullmatch(repository) for pattern in self.repositories)

    def _covers(self, package: About) -> bool:
        if package is ANY_PACKAGE:
            return True
        return isinstance(package, PackageKey) and self.covers_package(f"{package.format}/{package.path}")

    def covers_package(self, path: str) -> bool:
        """Whether ``packages`` covers a package, or everything a pattern stands for, written ``format/namespace/name``."""
        return self.packages is None or any(package_pattern(each).fullmatch(path) for each in self.packages)

    def is_from(self, address: str) -> bool:
        """Whether a caller at ``address`` (as the server sees it) is in ``networks``; an unreadable one never is."""
        return self.networks is None or is_within(address, self.networks)


EVERYTHING = Scope(frozenset({Action.ADMIN}))


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody who proved who they are. ``scopes`` all have to allow: the account's own and, if used, the token's.

    A derived credential therefore never exceeds its parent.
    """

    name: str
    account_id: int
    scopes: tuple[Scope, ...]
    via: str  # "token", "session" or "internal"
    # Of the token, where one was used: what is derived from it ends with it, and is bound to its row.
    token_id: int | None = None
    expires_at: datetime | None = None

    def may(self, action: Action, repository: str | None = None, package: About = None) -> bool:
        """Whether every scope allows ``action`` on ``repository`` and, where it is about one, ``package``."""
        return bool(self.scopes) and all(scope.allows(action, repository, package) for scope in self.scopes)

    @property
    def is_limited_to_packages(self) -> bool:
        """Whether lists of names show this caller a part only."""
        return any(scope.packages is not None for scope in self.scopes)


def check(identity: Identity | None, action: Action, repository: str | None = None, package: About = None) -> None:
    """Raise Unauthenticated for nobody and Denied for somebody who may not."""
    if identity is None:
        raise Unauthenticated("sign in, or send a token, to do this")
    if not identity.may(action, repository, package):
        where = f" on {repository}" if repository else ""
        if identity.is_limited_to_packages and identity.may(action, repository, ANY_PACKAGE):
            what = f"{package.format}/{package.path}" if isinstance(package, PackageKey) else "what is about no package"
            raise Denied(
                f"the token of {identity.name} is for certain packages, and may not {action.value}{where}: {what}"
            )
        raise Denied(f"{identity.name} may not {action.value}{where}")


def parse_actions(words: Iterable[str]) -> frozenset[Action]:
    """Actions from their words. Raises Invalid naming the known ones."""
    try:
        return frozenset(Action(word) for word in words)
    except ValueError as error:
        raise Invalid(f"{error}; actions are {', '.join(Action)}") from error


@lru_cache(maxsize=4096)
def _pattern(pattern: str) -> re.Pattern[str]:
    # ``*`` stays within a part: ``default/*`` is every repository of one domain, not of all.
    return re.compile("[^/]*".join(re.escape(part) for part in pattern.split("*")))


@lru_cache(maxsize=4096)
def package_pattern(pattern: str) -> re.Pattern[str]:
    """A pattern of packages, compiled; see ``Scope``."""
    # The whole last part alone reaches below: ``format/*`` is all of a format, ``format/acme/*`` all of a namespace.
    below = pattern.endswith("/*")
    start = pattern[:-1] if below else pattern
    return re.compile("[^/]*".join(re.escape(part) for part in start.split("*")) + (".+" if below else ""))


def is_within(address: str, networks: Iterable[str]) -> bool:
    """Whether a peer's address lies in one of the CIDR blocks."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped  # how a socket of both families shows a peer of the older one
    return any(found in network(text) for text in networks)


@lru_cache(maxsize=4096)
def network(text: str) -> Network:
    """A CIDR block, or one address. Raises Invalid."""
    try:
        return ipaddress.ip_network(text.strip())
    except ValueError as error:
        raise Invalid(f"network {text[:60]!r}: write a CIDR block such as 192.0.2.0/24 or 2001:db8::/32") from error
