"""What actions are called in sentences to people: ``may not manage users (entrepot:ManageUsers)``."""

from __future__ import annotations

import re

from registry.policy.actions import USUAL
from registry.policy.places import Place

_WORD = re.compile(r"[A-Z][a-z]*")
_NEW = frozenset({"Create", "Reopen"})
_BARE = {
    "read": ("read", "read {}"),
    "publish": ("publish", "publish in {}"),
    "promote": ("promote", "promote in {}"),
    "approve": ("approve", "approve in {}"),
    "admin": ("administer this server", "administer {}"),
}


def refused(word: str, place: Place, permission: str = "") -> str:
    """What somebody may not do, to go behind "may not": ``read default/prod``.

    ``word`` is the coarse word above ``permission``, which is named where it says more than the word does.
    """
    where = f"{place.domain}/{place.repository}" if place.repository else place.domain
    if permission in {"", USUAL[word]}:
        nowhere, somewhere = _BARE[word]
        return somewhere.format(where) if where else nowhere
    named = f"{permission} on {where}" if where else permission
    return f"{spelt(permission)} ({named})"


def spelt(permission: str) -> str:
    """An action's name as words: ``codeartifact:CreateRepository`` is "create a repository"."""
    words: list[str] = _WORD.findall(permission.partition(":")[2])
    verb, *rest = words
    if not rest:
        return verb.lower()
    is_one = not rest[-1].endswith("s") or rest[-1] == "Status"
    article = [] if not is_one else ["a"] if verb in _NEW else ["the"]
    return " ".join([verb.lower(), *article, *(word.lower() for word in rest)])
