"""May this caller do this here? Pure: it sees values, never rows or requests.

Three things are asked, in this one place: the rules of policies and roles (``registry.policy``; an explicit deny wins),
the account's own words (a built-in grant), and the token's words, which only ever narrow.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum
from functools import lru_cache
from typing import Final

from registry.errors import Denied, Invalid, Unauthenticated
from registry.names import PackageKey
from registry.policy.actions import USUAL
from registry.policy.book import Standing
from registry.policy.evaluate import Decision, Outcome
from registry.policy.phrases import refused
from registry.policy.places import Place

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


DESCRIBE: Final = "codeartifact:DescribePackage"
_TOO_NARROW = "the token's scope does not cover it"
EVERYTHING = Scope(frozenset({Action.ADMIN}))


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody who proved who they are. ``scopes`` are the account's own and, if used, the token's, which all narrow.

    ``standing`` holds the rules of policies and roles; they may give more than the account's own scope does, or take
    it away. A derived credential never exceeds its parent.
    """

    name: str
    account_id: int
    scopes: tuple[Scope, ...]
    via: str  # "token", "session", "password" or "internal"
    standing: Standing | None = field(default=None, compare=False, repr=False)
    # Of the token, where one was used: what is derived from it ends with it, and is bound to its row.
    token_id: int | None = None
    expires_at: datetime | None = None

    def may(
        self,
        action: Action,
        repository: str | None = None,
        package: About = None,
        *,
        permission: str = "",
        domain: str = "",
    ) -> bool:
        """Whether ``action`` is allowed on ``repository`` (``domain/name``), on ``domain``, or on the server.

        ``permission`` is CodeArtifact's name for it; without one the usual one of the word. ``package`` says which
        package of the repository is concerned, or that some are which are looked at later.
        """
        return self.decide(action, place_of(repository, domain, package), permission).allowed

    def may_look_into(self, repository: str, package: PackageKey) -> bool:
        """Whether more than a package's name may be told, where the caller may read the repository itself."""
        return self.may(Action.READ, repository) and self.may(Action.READ, repository, package, permission=DESCRIBE)

    @property
    def is_limited_to_packages(self) -> bool:
        """Whether lists of names show this caller a part only."""
        return any(scope.packages is not None for scope in self.scopes)

    def could(self, action: Action, repositories: str | None = None) -> bool:
        """Whether the account itself (not a token of it) may do ``action`` somewhere, or on a pattern of repositories.

        This is what it may give to a token; when the token is used, what the account may is asked again.
        """
        own = self.scopes[0]
        if repositories is not None:
            place = place_of(repositories)
            return own.allows(action, repositories) or (
                self.standing is not None and self.standing.decide(USUAL[action], place, own=False).allowed
            )
        has_word = Action.ADMIN in own.actions or action in own.actions
        return has_word or (self.standing is not None and self.standing.somewhere(USUAL[action]))

    def has_more(self, actions: Iterable[Action]) -> bool:
        """Whether a role or a policy gives the account one of ``actions`` somewhere, beside its own words."""
        return self.standing is not None and any(self.standing.somewhere(USUAL[action]) for action in actions)

    def decide(self, action: Action, place: Place, permission: str = "") -> Decision:
        """The decision on ``action`` at ``place``, with what decided it."""
        target, package = _target(place), _about(place)
        if not self.scopes:
            return Decision(Outcome.IMPLICIT_DENY)
        for scope in self.scopes[1:]:
            if not scope.allows(action, target, package):
                return Decision(Outcome.IMPLICIT_DENY, note=_TOO_NARROW)
        own = self.scopes[0].allows(action, target, package)
        if self.standing is None:
            return Decision(Outcome.ALLOW, note="the account's own rights") if own else Decision(Outcome.IMPLICIT_DENY)
        is_root = self.scopes[0].allows(Action.ADMIN, None)
        return self.standing.decide(permission or USUAL[action], place, own=own, is_root=is_root)


def place_of(repository: str | None, domain: str = "", package: About = None) -> Place:
    """A place from ``domain/repository``, or a domain alone, or neither: the server."""
    if repository is None:
        return Place(domain)
    name, _, rest = repository.partition("/")
    if isinstance(package, AnyPackage):
        return Place(name, rest, is_list=True)
    return Place(name, rest, package)


def _about(place: Place) -> About:
    """What an act at a place is about, for scopes."""
    return ANY_PACKAGE if place.package is None and (place.is_open or place.is_list) else place.package


def _target(place: Place) -> str | None:
    # A domain as such is covered by who may act in all of its repositories: only a ``*`` matches a ``*``.
    return f"{place.domain}/{place.repository or '*'}" if place.domain else None


def check(
    identity: Identity | None,
    action: Action,
    repository: str | None = None,
    package: About = None,
    *,
    permission: str = "",
    domain: str = "",
) -> None:
    """Raise Unauthenticated for nobody and Denied for somebody who may not."""
    check_at(identity, action, place_of(repository, domain, package), permission)


def check_at(identity: Identity | None, action: Action, place: Place, permission: str = "") -> None:
    """``check``, with the place as a value."""
    if identity is None:
        raise Unauthenticated("sign in, or send a token, to do this")
    decision = identity.decide(action, place, permission)
    if not decision.allowed:
        refusal = refused(action.value, place, permission)
        if _is_for_others(identity, action, place) and identity.decide(action, _anywhere(place), permission).allowed:
            what = f"{place.package.format}/{place.package.path}" if place.package else "what is about no package"
            raise Denied(f"the token of {identity.name} is for certain packages, and may not {refusal}: {what}")
        with_this = " with this token" if decision.note == _TOO_NARROW else ""
        raise Denied(f"{identity.name} may not {refusal}{with_this}")


def check_any(identity: Identity | None, action: Action, place: Place, permissions: Sequence[str]) -> None:
    """``check_at`` for what is decided on later: any one of ``permissions`` (not empty) lets the caller go on."""
    if identity is None or not any(identity.decide(action, place, each).allowed for each in permissions):
        check_at(identity, action, place, permissions[0])


def _anywhere(place: Place) -> Place:
    """The place, about some package of it."""
    return place._replace(package=None, is_list=True)


def _is_for_others(identity: Identity, action: Action, place: Place) -> bool:
    """Whether the packages of a token, and nothing else of it, leave out what an act is about."""
    target, about = _target(place), _about(place)
    left_out = [scope for scope in identity.scopes[1:] if not scope.allows(action, target, about)]
    return bool(left_out) and all(scope.allows(action, target, ANY_PACKAGE) for scope in left_out)


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
