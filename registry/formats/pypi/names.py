"""Names, versions and file names of Python distributions (PEP 503, 440, 427, 625).

One parse decides for everything that follows: what this module returns is what is authorised, stored and served.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    canonicalize_version,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from registry.errors import Invalid
from registry.names import PackageName

Packagetype = Literal["bdist_wheel", "sdist"]

MAX_NAME_CHARACTERS = 200
MAX_VERSION_CHARACTERS = 200
MAX_FILENAME_CHARACTERS = 255  # what file systems take, and so what clients can save

# Core metadata, "Name". ``\Z`` because ``$`` would let a trailing newline through; no IGNORECASE, because with it
# ``[a-z]`` also matches the Kelvin sign and the long s.
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\Z")
# Letters of names and tags, and what PEP 440 adds: ``+`` (local), ``!`` (epoch). No slash, percent, blank or control.
_FILENAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*\Z")
# As the name of a folder these are devices on Windows, where mirrors and caches make such folders.
_DEVICES = {"con", "prn", "aux", "nul"} | {f"{port}{digit}" for port in ("com", "lpt") for digit in range(10)}
# ``simple`` is a route beside the names; the other is what people install by mistake for ``-r requirements.txt``.
_RESERVED = _DEVICES | {"simple", "requirements-txt"}
# Suffixes which clients install though nobody may publish them any more (PEP 527, PEP 625).
_LISTED_SUFFIXES = (".tar.gz", ".zip", ".tar.bz2", ".tgz", ".tar.xz", ".tbz", ".txz", ".tar")


@dataclass(frozen=True, slots=True)
class DistributionFile:
    """A file name taken apart. ``name`` and ``version`` are canonical; ``python_tag`` is ``source`` for an sdist."""

    filename: str
    name: PackageName
    version: str
    display_version: str
    packagetype: Packagetype
    python_tag: str


def project_name(raw: str) -> PackageName:
    """Normalise a project's name (PEP 503). Raises Invalid for what is no name."""
    if len(raw) > MAX_NAME_CHARACTERS or not _NAME.match(raw):
        raise Invalid(
            f"project name {_shown(raw)}: 1 to {MAX_NAME_CHARACTERS} of ASCII letters, digits, '.', '_' and '-', "
            "a letter or digit first and last"
        )
    return PackageName(canonicalize_name(raw))


def publishable_name(raw: str) -> PackageName:
    """Normalise a name under which something is to be published. Raises Invalid also for reserved names."""
    name = project_name(raw)
    if name in _RESERVED:
        raise Invalid(f"project name {name!r} is reserved; choose another")
    return name


@lru_cache(maxsize=8192)  # an index lists each version once for every platform
def canonical_version(raw: str) -> str:
    """Give a version's normal form (PEP 440), with the zeros its author wrote. Local versions are fine.

    ``1.0`` and ``1.0.0`` are one release all the same: compare by ``is_same_release`` or ``sort_key``. Raises Invalid.
    The length limit also keeps numbers under the interpreter's limit for converting digits.
    """
    if len(raw) > MAX_VERSION_CHARACTERS or not raw.isascii() or raw != raw.strip():
        raise Invalid(f"version {_shown(raw)}: at most {MAX_VERSION_CHARACTERS} ASCII characters (PEP 440)")
    try:
        return str(Version(raw))
    except InvalidVersion as error:
        raise Invalid(f"version {_shown(raw)} is not a version of PEP 440") from error


def is_same_release(one: str, other: str) -> bool:
    """Whether two canonical versions name one release: trailing zeros do not count (PEP 440)."""
    return canonicalize_version(one) == canonicalize_version(other)


@lru_cache(maxsize=8192)
def sort_key(version: str) -> tuple[int, Version]:
    """Release order; what is no version comes before all versions."""
    try:
        return 1, Version(version if len(version) <= MAX_VERSION_CHARACTERS else "")
    except InvalidVersion:
        return 0, Version("0")


def parse_filename(filename: str) -> DistributionFile:
    """Take apart the name of a file that is to be published: a wheel, or an sdist in .tar.gz or .zip. Raises Invalid."""
    _check_characters(filename)
    try:
        if filename.endswith(".whl"):
            name, version, _, _ = parse_wheel_filename(filename)
            python_tag = filename.removesuffix(".whl").split("-")[-3]
            packagetype: Packagetype = "bdist_wheel"
        else:
            name, version = parse_sdist_filename(filename)
            python_tag, packagetype = "source", "sdist"
    except (InvalidWheelFilename, InvalidSdistFilename) as error:
        raise Invalid(
            f"file name {_shown(filename)} is neither a wheel's (name-version-python-abi-platform.whl) "
            "nor a source distribution's (name-version.tar.gz)"
        ) from error
    return DistributionFile(
        filename=filename,
        name=project_name(name),
        version=canonical_version(str(version)),
        display_version=str(version),
        packagetype=packagetype,
        python_tag=python_tag,
    )


def listed_version(name: PackageName, filename: str) -> str | None:
    """Canonical version of a file that an index lists under ``name``; None if no client could install it from there.

    Wider than ``parse_filename``: knowing the project, ``foo-1.0-1.tar.gz`` is version ``1.0-1`` of ``foo``.
    """
    if len(filename) > MAX_FILENAME_CHARACTERS or not _FILENAME.match(filename):
        return None
    if filename.endswith(".whl"):
        parts = filename.split("-", 6)
        return _listed_version(parts[1]) if len(parts) in (5, 6) and _canonical_name(parts[0]) == name else None
    suffix = next((suffix for suffix in _LISTED_SUFFIXES if filename.endswith(suffix)), None)
    return None if suffix is None else _version_after_name(name, filename.removesuffix(suffix))


def _version_after_name(name: PackageName, stem: str) -> str | None:
    for dash in (position for position, character in enumerate(stem) if character == "-"):
        if _canonical_name(stem[:dash]) == name:
            return _listed_version(stem[dash + 1 :])
    return None


@lru_cache(maxsize=8192)
def _canonical_name(raw: str) -> str:
    return str(canonicalize_name(raw))


def _listed_version(raw: str) -> str | None:
    try:
        return canonical_version(raw)
    except Invalid:
        return None


def _check_characters(filename: str) -> None:
    # Before any parser of others sees it: no path, no percent escape, no fragment, nothing invisible.
    if len(filename) > MAX_FILENAME_CHARACTERS:
        raise Invalid(f"file name is longer than {MAX_FILENAME_CHARACTERS} characters")
    if not _FILENAME.match(filename):
        raise Invalid(
            f"file name {_shown(filename)}: only ASCII letters, digits, '.', '_', '-', '+' and '!', "
            "a letter or digit first"
        )


def _shown(text: str) -> str:
    """Quote for a message: one line, escaped (also what turns the writing direction), bounded."""
    return ascii(text if len(text) <= 80 else text[:80] + "...")
