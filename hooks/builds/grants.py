"""What an attempt at a build is let do, and the end of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hooks.builds.executor import Publishing
from hooks.jobs.context import OUTAGES

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A credential for one attempt. ``revoke`` ends it; it also ends by itself. ``id`` is its row's, 0 where it has none."""

    login: str
    token: str = field(repr=False)
    revoke: Callable[[], None]
    id: int = 0


@dataclass(frozen=True, slots=True)
class PublishDoor:
    """How an attempt publishes: to which (domain, repository), with what, and the variables of the clients."""

    place: tuple[str, str]
    token: IssuedToken
    publishing: Publishing
    variables: Mapping[str, str]


def revoke(*tokens: IssuedToken | None) -> None:
    """End them. While the database is away they end by themselves."""
    for token in tokens:
        if token is None:
            continue
        try:
            token.revoke()
        except OUTAGES as error:
            LOG.warning("a build's token could not be revoked and ends by itself: %s", error)
