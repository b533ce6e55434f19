"""Names, versions and paths of generic packages. What passes here is stored, listed and put into URLs as it is."""

from __future__ import annotations

import re
from typing import Any

from registry.errors import Invalid
from registry.names import PackageName

MAX_NAME_CHARACTERS = 255
MAX_VERSION_CHARACTERS = 255
MAX_PATH_CHARACTERS = 700  # with the version before it, below what a row takes

# CodeArtifact's rules for generic packages; ``\Z`` because ``$`` would let a trailing newline through.
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._+-]*[A-Za-z0-9+_-])?\Z")
_VERSION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._+~-]*[A-Za-z0-9+_~-])?\Z")
# In a path's parts anything that is shown, but what a shell, a header or a second decoding might take for more.
_PART = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff\\/%?#\"<>|*:]{1,255}\Z")
_PIECES = re.compile(r"[0-9]+|[a-z]+")
_DIGITS = 18


def package_name(raw: str) -> PackageName:
    """Check a package's name; upper and lower case are two names. Raises Invalid."""
    if len(raw) > MAX_NAME_CHARACTERS or not _NAME.match(raw):
        raise Invalid(
            f"package name {ascii(raw)[:80]}: 1 to {MAX_NAME_CHARACTERS} of ASCII letters, digits, '.', '_', '+' and '-', "
            "a letter or digit first, no '.' last"
        )
    return PackageName(raw)


def package_version(raw: str) -> str:
    """Check a version: any text that can stand in a path, kept as it is. Raises Invalid."""
    if len(raw) > MAX_VERSION_CHARACTERS or not _VERSION.match(raw):
        raise Invalid(
            f"version {ascii(raw)[:80]}: 1 to {MAX_VERSION_CHARACTERS} of ASCII letters, digits, '.', '_', '+', '~' and "
            "'-', a letter or digit first, no '.' last"
        )
    return raw


def asset_path(raw: str) -> str:
    """Check a file's path within its version: parts between slashes, none empty, ``.`` or ``..``. Raises Invalid."""
    parts = raw.split("/")
    if len(raw) > MAX_PATH_CHARACTERS or not all(_PART.match(part) and part.strip(". ") for part in parts):
        raise Invalid(
            f"file path {ascii(raw)[:80]}: up to {MAX_PATH_CHARACTERS} characters; no part may be empty, '.' or '..', or "
            'hold a control character or one of \\ % ? # " < > | * :'
        )
    return raw


def sort_key(version: str) -> tuple[bool, tuple[tuple[int, Any], ...]]:
    """Natural order: numbers by value, ``1.0-rc1`` before ``1.0``, and what begins with no number before all others."""
    found = _PIECES.findall(version[:MAX_VERSION_CHARACTERS].lower().removeprefix("v"))
    pieces = [(2, int(piece[:_DIGITS])) if piece.isdigit() else (0, piece) for piece in found]
    # The end stands between letters and numbers: 1.0-rc1, 1.0, 1.0.1.
    return bool(found) and found[0].isdigit(), (*pieces, (1, None))
