"""Group ids, artifact ids, versions and the builds of snapshots: what they may be made of, and nothing about paths."""

from __future__ import annotations

import re
from typing import NamedTuple

from registry.errors import Invalid
from registry.names import PackageKey, PackageName

NAME = "maven"
LONGEST = 255  # what a database column and most file systems hold
SNAPSHOT = "-SNAPSHOT"

# Maven's own rule for ids (DefaultModelValidator), with a letter or digit first. ``\Z`` because ``$`` would let a
# trailing newline through.
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")
# Maven forbids \ / : " < > | ? * [ ] ( ) { } and the comma in versions; what could start a query, a fragment or an
# escape in a URL, and everything invisible, is refused as well.
_VERSION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+~!=@-]*\Z")
_BUILD = re.compile(r"(?P<base>.+)-(?P<timestamp>\d{8}\.\d{6})-(?P<number>\d{1,9})\Z", re.ASCII)


class SnapshotBuild(NamedTuple):
    """One build of a snapshot: ``base`` is ``1.1-SNAPSHOT``, ``timestamp`` ``yyyyMMdd.HHmmss`` in UTC."""

    base: str
    timestamp: str
    number: int


def package_key(group: str, artifact: str) -> PackageKey:
    """The key of an artifact. Raises Invalid for what is no group or artifact id."""
    check_group(group)
    check_artifact(artifact)
    return PackageKey(NAME, group, PackageName(artifact))


def read_key(written: str) -> PackageKey:
    """The artifact that ``group:artifact`` or ``group/artifact`` names. Raises Invalid."""
    group, separator, artifact = written.partition(":" if ":" in written else "/")
    if not separator:
        raise Invalid(f"{_shown(written)} names no artifact: write group:artifact")
    return package_key(group, artifact)


def check_group(group: str) -> None:
    """Raise Invalid for what is no group id: ids joined by single dots."""
    if len(group) > LONGEST or not _ID.match(group) or "" in group.split("."):
        raise Invalid(f"group id {_shown(group)}: at most {LONGEST} of ASCII letters, digits, '.', '_' and '-'")


def check_artifact(artifact: str) -> None:
    """Raise Invalid for what is no artifact id."""
    if len(artifact) > LONGEST or not _ID.match(artifact) or artifact.endswith("."):
        raise Invalid(f"artifact id {_shown(artifact)}: at most {LONGEST} of ASCII letters, digits, '.', '_' and '-'")


def check_version(version: str) -> None:
    """Raise Invalid for what is no version."""
    if len(version) > LONGEST or not _VERSION.match(version) or version.endswith("."):
        raise Invalid(
            f"version {_shown(version)}: at most {LONGEST} of ASCII letters, digits and '.', '_', '-', '+', '~'"
        )


def snapshot_build(version: str) -> SnapshotBuild | None:
    """Which build of which snapshot a version with a time in it is; None for every other version."""
    found = _BUILD.match(version)
    if found is None:
        return None
    return SnapshotBuild(found["base"] + SNAPSHOT, found["timestamp"], int(found["number"]))


def base_version(version: str) -> str:
    """The version as people ask for it, and as folders are called: that of a snapshot for its builds."""
    build = snapshot_build(version)
    return build.base if build is not None else version


def is_snapshot(version: str) -> bool:
    """Whether it is a snapshot, or a build of one."""
    return version.endswith(SNAPSHOT) or snapshot_build(version) is not None


def _shown(text: str) -> str:
    """Quote for a message: one line, escaped (also what turns the writing direction), bounded."""
    return ascii(text if len(text) <= 80 else text[:80] + "...")
