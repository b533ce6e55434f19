"""Debug sessions of builds: one that was started with ``debugSessionEnabled`` stands at ``codebuild-breakpoint``. Pure.

It stands until somebody resumes it, or a process of its own calls ``codebuild-resume``; its time-out counts on meanwhile.
Nobody gets a shell in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class DebugSession(Protocol):
    """Who a standing build is told to, and who says when it goes on."""

    def stands(self) -> None:
        """It has come to a breakpoint."""
        ...

    def goes_on(self) -> bool:
        """Whether somebody has resumed it; asked several times a second while it stands."""
        ...

    def moved(self) -> None:
        """It goes on by itself."""
        ...


class Halts:
    """Implements ``hooks.builds.executor.Breakpoints``: tells the log and the session."""

    def __init__(self, session: DebugSession, say: Callable[[str], object]) -> None:
        self._session = session
        self._say = say

    def stands(self) -> None:
        """As ``Breakpoints``."""
        self._say("Build is paused at a breakpoint, until it is resumed; its time-out counts on")
        self._session.stands()

    def goes_on(self) -> bool:
        """As ``Breakpoints``."""
        if not self._session.goes_on():
            return False
        self._say("Build is resumed")
        return True

    def moved(self) -> None:
        """As ``Breakpoints``."""
        self._say("Build goes on from its breakpoint by itself")
        self._session.moved()
