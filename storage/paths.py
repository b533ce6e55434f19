"""Where the file system store keeps what.

::

    DIR/                                     the blob root, 0700
    ├── tmp/                                 bodies being written; what stays here belongs to writers that died
    │   └── <locator>                        0600
    └── y/                                   the last but one character of the locator
        └── z/                               the last character of the locator
            └── <locator>                    0600; a whole body, always

=====================================  ==========================================
path                                   name here
=====================================  ==========================================
``DIR/tmp/``                           ``Layout.temporary_directory``
``DIR/tmp/<locator>``                  ``Layout.temporary(locator)``
``DIR/y/z/``                           ``Layout.shard(locator)``
``DIR/y/z/<locator>``                  ``Layout.body(locator)``
=====================================  ==========================================

Shards are cut from the end of the locator, which is random; its beginning is the time, and would put a day's bodies
into one directory. 32 x 32 shards hold a million bodies at a thousand each, and soon exist all: from then on a commit
makes no directory and costs two fsyncs (file, shard). A wider fan-out would pay four for nearly every body.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from storage.blobs import Locator
from storage.locators import check_locator


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths under one blob root. Every method raises Permanent for what is not a locator."""

    root: Path

    @property
    def temporary_directory(self) -> Path:
        """Where bodies are while they are written; on the same file system, so that a rename moves them out."""
        return self.root / "tmp"

    def temporary(self, locator: Locator) -> Path:
        """A body while it is written."""
        return self.temporary_directory / check_locator(locator)

    def shard(self, locator: Locator) -> Path:
        """The directory of a body."""
        name = check_locator(locator)
        return self.root / name[-2] / name[-1]

    def body(self, locator: Locator) -> Path:
        """A committed body."""
        return self.shard(locator) / locator

    @staticmethod
    def is_shard_name(name: str) -> bool:
        """Whether an entry of the root, or of a directory in it, is part of the way to a shard."""
        return len(name) == 1
