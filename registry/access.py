"""May this caller do this here? Pure: it sees values, never rows or requests."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from registry.errors import Denied, Invalid, Unauthenticated


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
    """Somebody who proved who they are. ``scopes`` all have to allow: the account's own and, if used, the token's.

    A derived credential therefore never exceeds its parent.
    """

    name: str
    account_id: int
    scopes: tuple[Scope, ...]
    via: str  # "token", "session" or "internal"

    def may(self, action: Action, repository: str | None = None) -> bool:
        """Whether every scope allows ``action`` on ``repository``."""
        return bool(self.scopes) and all(scope.allows(action, repository) for scope in self.scopes)


def check(identity: Identity | None, action: Action, repository: str | None = None) -> None:
    """Raise Unauthenticated for nobody and Denied for somebody who may not."""
    if identity is None:
        raise Unauthenticated("sign in, or send a token, to do this")
    if not identity.may(action, repository):
        where = f" on {repository}" if repository else ""
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
