"""May this caller do this here? Pure: it sees values, never rows or requests.

Three things are asked, in this one place: the rules of policies and roles (``registry.policy``; an explicit deny wins),
the account's own words (a built-in grant), and the token's words, which only ever narrow.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from registry.errors import Denied, Invalid, Unauthenticated
from registry.names import PackageKey
from registry.policy.actions import USUAL
from registry.policy.book import Standing
from registry.policy.evaluate import Decision, Outcome
from registry.policy.places import Place


class Action(StrEnum):
    """What one can be allowed to do. ``ADMIN`` includes all others, everywhere."""

    READ = "read"
    PUBLISH = "publish"
    PROMOTE = "promote"
    APPROVE = "approve"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Scope:
    """A set of actions on a set of repositories. ``repositories`` holds ``domain/repository`` patterns; None means all."""

    actions: frozenset[Action]
    repositories: tuple[str, ...] | None = None

    def allows(self, action: Action, repository: str | None) -> bool:
        """Whether the scope covers ``action`` on ``repository`` (``domain/name``; None for things of the whole server)."""
        if Action.ADMIN not in self.actions and action not in self.actions:
            return False
        if self.repositories is None:
            return True
        if repository is None:
            return False
        return any(_pattern(pattern).fullmatch(repository) for pattern in self.repositories)


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

    def may(
        self,
        action: Action,
        repository: str | None = None,
        *,
        permission: str = "",
        domain: str = "",
        package: PackageKey | None = None,
    ) -> bool:
        """Whether ``action`` is allowed on ``repository`` (``domain/name``), on ``domain``, or on the server.

        ``permission`` is CodeArtifact's name for it; without one the usual one of the word. ``package`` says which
        package of the repository is concerned.
        """
        return self.decide(action, place_of(repository, domain, package), permission).allowed

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
        target = _target(place)
        if not self.scopes:
            return Decision(Outcome.IMPLICIT_DENY)
        for scope in self.scopes[1:]:
            if not scope.allows(action, target):
                return Decision(Outcome.IMPLICIT_DENY, note="the token's scope does not cover it")
        own = self.scopes[0].allows(action, target)
        if self.standing is None:
            return Decision(Outcome.ALLOW, note="the account's own rights") if own else Decision(Outcome.IMPLICIT_DENY)
        is_root = self.scopes[0].allows(Action.ADMIN, None)
        return self.standing.decide(permission or USUAL[action], place, own=own, is_root=is_root)


def place_of(repository: str | None, domain: str = "", package: PackageKey | None = None) -> Place:
    """A place from ``domain/repository``, or a domain alone, or neither: the server."""
    if repository is None:
        return Place(domain)
    name, _, rest = repository.partition("/")
    return Place(name, rest, package)


def _target(place: Place) -> str | None:
    # A domain as such is covered by who may act in all of its repositories: only a ``*`` matches a ``*``.
    return f"{place.domain}/{place.repository or '*'}" if place.domain else None


def check(
    identity: Identity | None,
    action: Action,
    repository: str | None = None,
    *,
    permission: str = "",
    domain: str = "",
    package: PackageKey | None = None,
) -> None:
    """Raise Unauthenticated for nobody and Denied for somebody who may not."""
    check_at(identity, action, place_of(repository, domain, package), permission)


def check_at(identity: Identity | None, action: Action, place: Place, permission: str = "") -> None:
    """``check``, with the place as a value."""
    if identity is None:
        raise Unauthenticated("sign in, or send a token, to do this")
    if not identity.decide(action, place, permission).allowed:
        where = f"{place.domain}/{place.repository}" if place.repository else place.domain
        raise Denied(f"{identity.name} may not {action.value}{f' on {where}' if where else ''}")


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
