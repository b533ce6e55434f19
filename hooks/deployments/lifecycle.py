"""Which lifecycle events a deployment has, in which order, and whose scripts run in each. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

DOWNLOAD_BUNDLE = "DownloadBundle"
INSTALL = "Install"
APPLICATION_STOP = "ApplicationStop"
CHECK_COMMANDS = "CheckCommands"
"""An agent's event behind ValidateService: the group's checks that are commands, until they have decided."""

_BLOCK = ("BeforeBlockTraffic", "BlockTraffic", "AfterBlockTraffic")
_ALLOW = ("BeforeAllowTraffic", "AllowTraffic", "AfterAllowTraffic")
_SERVER = (
    APPLICATION_STOP,
    DOWNLOAD_BUNDLE,
    "BeforeInstall",
    INSTALL,
    "AfterInstall",
    "ApplicationStart",
    "ValidateService",
)
ENGINE_EVENTS = frozenset({DOWNLOAD_BUNDLE, INSTALL, "BlockTraffic", "AllowTraffic"})
"""What the engine does itself; no script of a document runs in them."""

SCRIPTABLE_EVENTS = tuple(event for event in (*_BLOCK, *_SERVER, *_ALLOW) if event not in ENGINE_EVENTS)


class Course(Enum):
    """The course of a deployment on one machine."""

    LOCAL = "local"
    IN_PLACE = "in-place"
    IN_PLACE_BALANCED = "in-place-with-load-balancer"
    BLUE_GREEN_ORIGINAL = "blue-green-original"
    BLUE_GREEN_REPLACEMENT = "blue-green-replacement"
    BLUE_GREEN_ROLLBACK_ORIGINAL = "blue-green-rollback-original"
    BLUE_GREEN_ROLLBACK_REPLACEMENT = "blue-green-rollback-replacement"

    @property
    def events(self) -> tuple[str, ...]:
        """All events in their order. A rollback in place is a deployment like any other."""
        return _COURSES[self]


# Without a load balancer there is nothing to block and to allow; the scripts around it run all the same, for trying them.
_COURSES = {
    Course.LOCAL: (_BLOCK[0], _BLOCK[2], *_SERVER, _ALLOW[0], _ALLOW[2]),
    Course.IN_PLACE: _SERVER,
    Course.IN_PLACE_BALANCED: (*_BLOCK, *_SERVER, *_ALLOW),
    Course.BLUE_GREEN_ORIGINAL: _BLOCK,
    Course.BLUE_GREEN_REPLACEMENT: (*_SERVER, *_ALLOW),
    Course.BLUE_GREEN_ROLLBACK_ORIGINAL: _ALLOW,
    Course.BLUE_GREEN_ROLLBACK_REPLACEMENT: _BLOCK,
}


class Release(Enum):
    """Whose scripts run."""

    CURRENT = "current"
    LAST_SUCCESSFUL = "last successful"
    MOST_RECENT = "most recent"


def release_of(event: str, course: Course) -> Release:
    """Whose scripts run in an event, as long as the deployment's own bundle is not there yet (then its own do)."""
    if course in {Course.BLUE_GREEN_ROLLBACK_ORIGINAL, Course.BLUE_GREEN_ROLLBACK_REPLACEMENT}:
        if event in {_BLOCK[0], _BLOCK[2]}:
            return Release.MOST_RECENT
        if event in {_ALLOW[0], _ALLOW[2]}:
            return Release.LAST_SUCCESSFUL
    if event in {_BLOCK[0], _BLOCK[2], APPLICATION_STOP}:
        return Release.LAST_SUCCESSFUL
    return Release.CURRENT


def chosen(events: Sequence[str]) -> tuple[str, ...]:
    """A list of a person's own, with DownloadBundle and Install ahead of it where it has them not, as codedeploy-local.

    Raises ValueError for a list in which one stands twice, or Install before DownloadBundle.
    """
    missing = [event for event in (DOWNLOAD_BUNDLE, INSTALL) if event not in events]
    wanted = (*missing, *events)
    if len(set(wanted)) != len(wanted):
        raise ValueError("an event stands there twice")
    if wanted.index(DOWNLOAD_BUNDLE) > wanted.index(INSTALL):
        raise ValueError("DownloadBundle has to come before Install")
    return wanted
