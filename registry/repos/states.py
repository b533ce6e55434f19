"""What the state of a version lets through. Pure: every path (index, download, publish, copy) asks here.

The words and what they mean are CodeArtifact's:

* *Published*: listed and served.
* *Unfinished*: files are still to come; in no list, served to those who may publish.
* *Unlisted*: in no list that a client chooses from, served to who names the version or has it in a lock.
* *Archived*: neither listed nor served, until it is brought back.
* *Disposed*: its files are gone for good; the row stays, and nothing brings it back.
* *Deleted*: there is no row any more. The names of its files stay used up (``RetiredFilename``).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

PUBLISHED = "Published"
UNFINISHED = "Unfinished"
UNLISTED = "Unlisted"
ARCHIVED = "Archived"
DISPOSED = "Disposed"
DELETED = "Deleted"
ALL = (PUBLISHED, UNFINISHED, UNLISTED, ARCHIVED, DISPOSED, DELETED)

SETTABLE = (PUBLISHED, UNLISTED, ARCHIVED)
"""What a version can be set to; disposing and deleting are operations of their own."""

WITHHELD = (UNLISTED, ARCHIVED, DISPOSED)
"""States that take a version out of lists, and that a version may have without any file."""

FROZEN_AFTER = timedelta(days=14)
"""How long after its first file a version takes further ones, unless the settings say otherwise."""

UNLISTED_REASON = "this version is unlisted"
"""What lists say that show a version withdrawn rather than leave it out."""

_NEXT: Mapping[str, frozenset[str]] = {
    PUBLISHED: frozenset({PUBLISHED, UNLISTED, ARCHIVED, DISPOSED, DELETED}),
    UNFINISHED: frozenset({PUBLISHED, DISPOSED, DELETED}),
    UNLISTED: frozenset({PUBLISHED, UNLISTED, ARCHIVED, DISPOSED, DELETED}),
    ARCHIVED: frozenset({PUBLISHED, UNLISTED, ARCHIVED, DISPOSED, DELETED}),
    DISPOSED: frozenset({DISPOSED, DELETED}),
}


def may_become(status: str, target: str) -> bool:
    """Whether a version may go from one state to another."""
    return target in _NEXT.get(status, frozenset())


def is_listed(status: str) -> bool:
    """Whether clients choose from versions in this state."""
    return status == PUBLISHED


def takes_files(status: str) -> bool:
    """Whether further files of a version may come."""
    return status in (PUBLISHED, UNFINISHED, UNLISTED)


def may_be_copied(status: str) -> bool:
    """Whether a version in this state may go to another repository; it keeps its state there."""
    return status in (PUBLISHED, UNLISTED)


def is_frozen(first_at: datetime, file_at: datetime, frozen_after: timedelta) -> bool:
    """Whether a file of ``file_at`` comes too late for a version whose first file is of ``first_at``; 0 is never.

    Both are moments of publishing, which copies keep: a file that was published in time is in time everywhere.
    """
    return bool(frozen_after) and file_at - first_at > frozen_after
