"""Names, versions, tags and file names of npm packages (validate-npm-package-name, Semantic Versioning 2.0.0).

One parse decides for everything that follows: what this module returns is what is authorised, stored and served.
"""

from __future__ import annotations

import re

from registry.errors import Invalid
from registry.names import PackageKey, PackageName

FORMAT_NAME = "npm"
MAX_NAME_CHARACTERS = 214
MAX_VERSION_CHARACTERS = 200
MAX_FILENAME_CHARACTERS = 255
MAX_TAG_CHARACTERS = 200

# Upper-case letters are in names from before 2014, which upstreams still serve. ``\Z``: ``$`` lets a newline through.
_PART = r"[A-Za-z0-9~-][A-Za-z0-9~._-]*"
_NAME = re.compile(rf"(?:@?(?P<scope>{_PART})/)?(?P<name>{_PART})\Z")
_PUBLISHABLE = re.compile(r"(?:@[a-z0-9~-][a-z0-9~._-]*/)?[a-z0-9~-][a-z0-9~._-]*\Z")
# "-" is the route beside the names, the others what clients and browsers ask every server for.
_RESERVED = frozenset({"-", "node_modules", "favicon.ico"})

_NUMBER = r"(?:0|[1-9][0-9]{0,15})"
_IDENTIFIER = r"(?:0|[1-9][0-9]{0,15}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_SEMVER = re.compile(
    rf"({_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-{_IDENTIFIER}(?:\.{_IDENTIFIER})*)?)(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?\Z"
)
_LOOSE = re.compile(
    r"[v=\s]*([0-9]{1,16})(?:\.([0-9]{1,16}))?(?:\.([0-9]{1,16}))?(?:-?([0-9A-Za-z-][0-9A-Za-z.-]*))?(?:\+.*)?\Z"
)
# Versions that an index lists may be older than the rules; they become parts of URLs and file names all the same.
_LISTED_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]*\Z")
_LISTED_FILENAME = re.compile(r"[A-Za-z0-9~][A-Za-z0-9~._+-]*\.tgz\Z")
_TAG = re.compile(r"[A-Za-z0-9_~*-][A-Za-z0-9_.~*-]*\Z")
_RANGE = re.compile(r"[v=]?(?:[0-9]+|[xX*])(?:\.(?:[0-9]+|[xX*]))*(?:[-+].*)?\Z")


def package_key(written: str) -> PackageKey:
    """The package meant by ``@scope/name``, ``scope/name`` (a key's path) or ``name``. Raises Invalid.

    Names are compared exactly: two that differ in case are two packages, of which only the lower-case one can be new.
    """
    found = _NAME.match(written) if len(written) <= MAX_NAME_CHARACTERS else None
    if found is None or (found["scope"] is None and (written.startswith("@") or found["name"] in _RESERVED)):
        raise Invalid(
            f"package name {_shown(written)}: at most {MAX_NAME_CHARACTERS} of ASCII letters, digits, '-', '.', '_' and "
            "'~', perhaps behind a @scope/, neither part starting with '.' or '_'"
        )
    return PackageKey(FORMAT_NAME, found["scope"] or "", PackageName(found["name"]))


def display_name(key: PackageKey) -> str:
    """``@scope/name`` or ``name``."""
    return f"@{key.namespace}/{key.name}" if key.namespace else key.name


def publishable_key(written: str) -> PackageKey:
    """The package under whose name something is to be published. Raises Invalid also for an old-style name."""
    key = package_key(written)
    if not _PUBLISHABLE.match(display_name(key)):
        raise Invalid(f"package name {_shown(written)}: new packages have lower-case names")
    return key


def canonical_version(raw: object) -> str:
    """A version as clients compare it (``semver.clean``): without ``v``, blanks and build metadata. Raises Invalid."""
    found = _SEMVER.match(raw.strip().lstrip("=v").strip()) if isinstance(raw, str) and len(raw) < 1000 else None
    if found is None or len(found[1]) > MAX_VERSION_CHARACTERS:
        raise Invalid(f"version {_shown(raw)} is not a version of Semantic Versioning (1.2.3, 1.2.3-beta.1)")
    return found[1]


def is_listed_version(version: object) -> bool:
    """Whether a version out of an index can be offered under our URLs."""
    return isinstance(version, str) and len(version) <= MAX_VERSION_CHARACTERS and bool(_LISTED_VERSION.match(version))


def sort_key(version: str) -> tuple[int, int, int, int, int, tuple[tuple[int, int, str], ...]]:
    """Precedence (Semantic Versioning, item 11), loosely read; what is no version comes before all versions."""
    found = _LOOSE.match(version) if len(version) <= MAX_VERSION_CHARACTERS else None
    if found is None:
        return 0, 0, 0, 0, 0, ()
    major, minor, patch = (int(part or 0) for part in found.group(1, 2, 3))
    identifiers = tuple(
        (0, int(part), "") if part.isdigit() and len(part) <= 16 else (1, 0, part)
        for part in (found[4] or "").split(".")
        if part
    )
    return 1, major, minor, patch, 0 if identifiers else 1, identifiers


def is_prerelease(version: str) -> bool:
    """Whether a version is one that ranges do not take by themselves."""
    return "-" in version.partition("+")[0]


def tag_name(raw: str) -> str:
    """A dist-tag. Raises Invalid for what clients would read as a version or a range, or could not ask for."""
    if len(raw) > MAX_TAG_CHARACTERS or not _TAG.match(raw) or _RANGE.match(raw):
        raise Invalid(f"tag {_shown(raw)}: letters, digits, '-', '_', '.' and '~', and nothing that reads as a version")
    return raw


def tarball_name(key: PackageKey, version: str) -> str:
    """The file name that clients build themselves: without the scope."""
    return f"{key.name}-{version}.tgz"


def listed_filename(key: PackageKey, version: str, url: str) -> str:
    """The name under which a listed tarball is served: the index's own where it is one, for the sake of lock files."""
    found = url.partition("?")[0].partition("#")[0].rpartition("/")[2]
    if len(found) <= MAX_FILENAME_CHARACTERS and _LISTED_FILENAME.match(found):
        return found
    return tarball_name(key, version)


def _shown(raw: object) -> str:
    """Quote for a message: one line, escaped (also what turns the writing direction), bounded."""
    text = raw if isinstance(raw, str) else repr(raw)
    return ascii(text if len(text) <= 80 else text[:80] + "...")
