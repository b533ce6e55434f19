"""Whether this web process is about to end: who answers for long looks, so that the end need not wait for them."""

from __future__ import annotations

import threading

_ENDING = threading.Event()


def begin() -> None:
    """The process takes no new connections any more."""
    _ENDING.set()


def has_begun() -> bool:
    """Whether ``begin`` was called."""
    return _ENDING.is_set()
