"""What a credential may be given by somebody: never more than they have themselves. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from registry.access import Action, Identity
from registry.errors import Denied, Invalid

_PATTERN = re.compile(r"[a-z0-9*-]{1,50}/[A-Za-z0-9._*-]{1,100}\Z")


def checked_patterns(patterns: Sequence[str] | None) -> list[str] | None:
    """Repository patterns (``domain/repository``, ``*`` within a part), or None for all. Raises Invalid."""
    if patterns is None:
        return None
    for pattern in patterns:
        if not _PATTERN.match(pattern):
            raise Invalid(f"repository pattern {pattern!r}: write domain/repository, with '*' for any part of a name")
    if not patterns:
        raise Invalid("repositories names none; leave it out (or null) for all of them")
    return list(patterns)


def within(identity: Identity, actions: Sequence[Action], repositories: Sequence[str] | None) -> list[str] | None:
    """The repositories a credential gets that ``identity`` makes with these rights: those asked for, or their own.

    Asking for all (None) gives what the maker is limited to. Raises Denied when an action or a repository goes beyond
    any of the maker's scopes.
    """
    granted = checked_patterns(repositories)
    own, *narrowing = identity.scopes
    # What roles and policies give goes beyond the account's own scope, which then is no limit to hand on: what the
    # account may is asked again whenever the token is used.
    limits = [*reversed(narrowing), *([] if identity.has_more(actions) else [own])]
    for scope in limits:
        if granted is None and scope.repositories is not None:
            granted = list(scope.repositories)
    # A ``*`` in an asked pattern is read as a plain character, which only a ``*`` of the scope matches: so whatever the
    # asked one stands for, the scope's stands for as well.
    for action in actions:
        for pattern in granted or (None,):
            if not (identity.could(action, pattern) and all(scope.allows(action, pattern) for scope in narrowing)):
                where = f" on {pattern}" if pattern else ""
                raise Denied(f"{identity.name} may not {action.value}{where}, and cannot give a token that right")
    return granted
