"""What a wheel or a source distribution says of itself, read from the archive alone (PEP 427, PEP 625).

The upload form is never a source (``upload.check_against`` only compares it): what is indexed is what is installed.
Nothing is extracted; members are read as streams, and links are never followed.
"""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import io
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from registry.archives.rules import Limits, check_path, check_tree
from registry.archives.targz import Kind, Member, TarGzArchive, looks_like_tar
from registry.errors import Invalid, TooLarge
from registry.format import Description, Release
from registry.formats.pypi import core_metadata
from registry.formats.pypi.names import (
    DistributionFile,
    canonical_version,
    is_same_release,
    parse_filename,
    project_name,
    publishable_name,
)
from registry.formats.pypi.zip_archive import Entry, ZipArchive, looks_like_zip

DEFAULT_LIMITS = Limits()

_WHEEL_MAJOR = re.compile(rb"^Wheel-Version:[ \t]*1\.[0-9]+[ \t]*\r?$", re.MULTILINE)
_DIGESTS = ("sha256", "sha384", "sha512")  # md5, sha1 and sha224 are forbidden there


def inspect(filename: str, body: BinaryIO, limits: Limits = DEFAULT_LIMITS) -> Release:
    """Check an archive from end to end and give what it says of itself.

    ``body`` is seekable. Time is linear in the unpacked size, memory bounded by ``limits``. Raises Invalid naming the
    broken rule, or TooLarge.
    """
    parsed = parse_filename(filename)
    publishable_name(parsed.name)
    if parsed.packagetype == "bdist_wheel":
        document = _wheel_document(parsed, body, limits)
    elif filename.endswith(".zip"):
        document = _sdist_zip_document(body, limits)
    else:
        document = _sdist_tar_document(body, limits)
    where = "METADATA" if parsed.packagetype == "bdist_wheel" else "PKG-INFO"
    core = core_metadata.parse(document, where)
    if core.name != parsed.name or not is_same_release(core.version, parsed.version):
        raise Invalid(
            f"{where} says {core.display_name} {core.display_version}, "
            f"the file name says {parsed.name} {parsed.display_version}"
        )
    return _release(parsed, core, document)


def read_member(
    filename: str, body: BinaryIO, member_path: str, limit_bytes: int, limits: Limits = DEFAULT_LIMITS
) -> bytes | None:
    """Read one file out of an archive: relative to an sdist's top folder, or to a wheel's root.

    None when there is no such regular file (a link is none). Raises TooLarge over ``limit_bytes``, and Invalid for a
    broken archive; a tar archive is read only as far as the file.
    """
    check_path(member_path, limits)
    parsed = parse_filename(filename)
    if parsed.filename.endswith((".whl", ".zip")):
        archive = ZipArchive(body, limits)
        prefix = "" if parsed.packagetype == "bdist_wheel" else _top_folder(archive.entries) + "/"
        return archive.read(prefix + member_path, limit_bytes) if prefix + member_path in archive else None
    tar = TarGzArchive(body, limits)
    for member in tar:
        path = check_path(member.name, limits)
        if member.kind is Kind.FILE and path.partition("/")[2] == member_path:
            return tar.read(limit_bytes)
    return None


def glance(filename: str, body: BinaryIO, limits: Limits = DEFAULT_LIMITS) -> bytes | None:
    """A wheel's METADATA, of which only the parts that lead to it are read; None for what is no wheel.

    For wheels that lie at an upstream: their digest is checked when they are fetched as a whole, and not here. Raises
    Invalid and TooLarge, also when METADATA speaks of another name or version.
    """
    parsed = parse_filename(filename)
    if parsed.packagetype != "bdist_wheel":
        return None
    archive = ZipArchive(body, limits, is_glance=True)
    path = f"{_dist_info(archive, parsed)}/METADATA"
    if path not in archive:
        raise Invalid(f"wheel: {path} is missing")
    document = archive.read(path, limits.document_bytes)
    core = core_metadata.parse(document, "METADATA")
    if core.name != parsed.name or not is_same_release(core.version, parsed.version):
        raise Invalid("METADATA speaks of another name or version than the file name")
    return document


def describe(filename: str, body: BinaryIO, limits: Limits = DEFAULT_LIMITS) -> Description:
    """What an archive says of its version, of which only as much is read as leads there.

    Raises Invalid and TooLarge, also when it speaks of another name or version than its file name.
    """
    document = glance(filename, body, limits)
    if document is None:
        document = read_member(filename, body, "PKG-INFO", limits.document_bytes, limits)
    if document is None:
        raise Invalid(f"{filename} has neither METADATA nor PKG-INFO")
    parsed, core = parse_filename(filename), core_metadata.parse(document, filename)
    if core.name != parsed.name or not is_same_release(core.version, parsed.version):
        raise Invalid(f"{filename} speaks of another name or version than its file name")
    return Description(core.summary, {"summary": core.summary, **core.fields}, core.description, core.description_type)


def _release(parsed: DistributionFile, core: core_metadata.CoreMetadata, document: bytes) -> Release:
    extra: dict[str, Any] = {
        "packagetype": parsed.packagetype,
        "python_version": parsed.python_tag,
        "requires_python": core.requires_python,
    }
    is_wheel = parsed.packagetype == "bdist_wheel"
    if is_wheel:
        extra["core_metadata"] = {"sha256": hashlib.sha256(document).hexdigest()}
    return Release(
        name=core.name,
        display_name=core.display_name,
        version=core.version,
        display_version=core.display_version,
        filename=parsed.filename,
        summary=core.summary,
        metadata={"summary": core.summary, **core.fields},
        extra=extra,
        # An sdist's may change in the build (PEP 643), so that it is not served as final (PEP 658).
        metadata_document=document if is_wheel else None,
        description=core.description,
        description_type=core.description_type,
    )


def _wheel_document(parsed: DistributionFile, body: BinaryIO, limits: Limits) -> bytes:
    _refuse_tar(body)
    archive = ZipArchive(body, limits)
    folder = _dist_info(archive, parsed)
    for name in ("METADATA", "WHEEL", "RECORD"):
        if f"{folder}/{name}" not in archive:
            raise Invalid(f"wheel: {folder}/{name} is missing")
    document = archive.read(f"{folder}/METADATA", limits.document_bytes)
    if len(_WHEEL_MAJOR.findall(archive.read(f"{folder}/WHEEL", limits.document_bytes))) != 1:
        raise Invalid(f"wheel: {folder}/WHEEL does not say one Wheel-Version 1.x (PEP 427)")
    _check_record(archive, folder, limits)
    return document


def _dist_info(archive: ZipArchive, parsed: DistributionFile) -> str:
    """The one ``name-version.dist-info``; with two, installers differ in which they read."""
    tops = {entry.path.partition("/")[0] for entry in archive.entries}
    found = sorted(top for top in tops if top.casefold().endswith(".dist-info"))
    if len(found) != 1:
        raise Invalid(f"wheel: there must be one .dist-info folder, there are {len(found)}")
    name, _, version = found[0].removesuffix(".dist-info").partition("-")
    if project_name(name) != parsed.name or not is_same_release(canonical_version(version), parsed.version):
        raise Invalid(f"wheel: the folder {found[0]!a} belongs to another name or version than the file name")
    return found[0]


def _record_rows(archive: ZipArchive, folder: str, limits: Limits) -> Iterator[tuple[str, str]]:
    """RECORD's paths and digests, one by one: as values, 100,000 of them would take more memory than allowed."""
    raw = archive.read(f"{folder}/RECORD", limits.record_bytes)
    try:
        for row in csv.reader(io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8", newline=""), strict=True):
            if not row:
                continue
            if len(row) != 3:
                raise Invalid(f"wheel: RECORD has a damaged entry for {row[0][:200]!a}")
            yield row[0], row[1]
    except (csv.Error, UnicodeDecodeError) as error:
        raise Invalid("wheel: RECORD is not a UTF-8 table of comma-separated values") from error


def _without_digest(folder: str) -> frozenset[str]:
    """Signatures are made over RECORD, so that neither they nor it can be listed with a digest (PEP 427)."""
    return frozenset(f"{folder}/{name}" for name in ("RECORD", "RECORD.jws", "RECORD.p7s"))


def _digest(path: str, text: str) -> tuple[str, bytes]:
    algorithm, _, encoded = text.partition("=")
    if algorithm not in _DIGESTS:
        raise Invalid(f"wheel: RECORD has no digest for {path[:200]!a} that counts ({', '.join(_DIGESTS)})")
    try:
        return algorithm, base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except (binascii.Error, ValueError) as error:
        raise Invalid(f"wheel: RECORD has a damaged digest for {path[:200]!a}") from error


def _check_record(archive: ZipArchive, folder: str, limits: Limits) -> None:
    """Every file is in RECORD with its digest, and nothing else is; each member unpacks as the zip records say."""
    unlisted = _without_digest(folder)
    listed: set[str] = set()
    for path, digest in _record_rows(archive, folder, limits):
        entry = archive.find(path)
        if entry is None:
            raise Invalid(f"wheel: RECORD lists {path[:200]!a}, which is not in the archive")
        if path in listed:
            raise Invalid(f"wheel: RECORD has a repeated entry for {path[:200]!a}")
        listed.add(entry.path)
        _check_digest(archive, entry, None if path in unlisted else _digest(path, digest))
    for entry in archive.entries:
        if entry.is_folder or entry.path in listed:
            continue
        if entry.path not in unlisted:
            raise Invalid(f"wheel: {entry.path[:200]!a} is not in RECORD")
        _check_digest(archive, entry, None)


def _check_digest(archive: ZipArchive, entry: Entry, promised: tuple[str, bytes] | None) -> None:
    digest = hashlib.new(promised[0]) if promised else None
    for piece in archive.stream(entry):
        if digest is not None:
            digest.update(piece)
    if digest is not None and promised is not None and digest.digest() != promised[1]:
        raise Invalid(f"wheel: {entry.path[:200]!a} does not have the digest that RECORD gives")


def _sdist_zip_document(body: BinaryIO, limits: Limits) -> bytes:
    _refuse_tar(body)
    archive = ZipArchive(body, limits)
    path = f"{_top_folder(archive.entries)}/PKG-INFO"
    if path not in archive:
        raise Invalid(f"sdist: {path} is missing")
    for entry in archive.entries:
        if not entry.is_folder:
            _check_digest(archive, entry, None)
    return archive.read(path, limits.document_bytes)


def _top_folder(entries: list[Entry]) -> str:
    tops = {entry.path.partition("/")[0] for entry in entries}
    if len(tops) != 1 or any("/" not in entry.path and not entry.is_folder for entry in entries):
        raise Invalid(f"sdist: everything must be in one top folder, there are {len(tops)} names at the top")
    return tops.pop()


def _sdist_tar_document(body: BinaryIO, limits: Limits) -> bytes:
    if looks_like_zip(body):
        raise Invalid("sdist: the file can also be read as a zip archive")
    archive = TarGzArchive(body, limits)
    kinds: dict[str, Kind] = {}
    names_bytes = 0
    document: bytes | None = None
    for member in archive:
        path = _sdist_path(member, limits)
        # Names compress well: without this sum a small archive would fill the memory with them.
        names_bytes += len(path.encode("utf-8"))
        if names_bytes > limits.directory_bytes:
            raise TooLarge("the names in the archive", limits.directory_bytes)
        if path in kinds and not member.kind == kinds[path] == Kind.FOLDER:
            raise Invalid(f"sdist: {path[:200]!a} is there twice")
        kinds[path] = member.kind
        if path.partition("/")[2].casefold() == "pkg-info":
            if document is not None or member.kind is not Kind.FILE or not path.endswith("/PKG-INFO"):
                raise Invalid("sdist: PKG-INFO is there twice, is no file, or is written in another case")
            document = archive.read(limits.document_bytes)
    if len({path.partition("/")[0] for path in kinds}) > 1:
        raise Invalid("sdist: everything must be in one top folder")
    check_tree((path, kind is Kind.FOLDER) for path, kind in kinds.items())
    if document is None:
        raise Invalid("sdist: PKG-INFO is missing in the top folder")
    return document


def _sdist_path(member: Member, limits: Limits) -> str:
    path = check_path(member.name, limits)
    if "/" not in path and member.kind is not Kind.FOLDER:
        raise Invalid(f"sdist: {path[:200]!a} is not in the top folder")
    top = path.partition("/")[0]
    if member.kind is Kind.HARDLINK and check_path(member.target, limits).partition("/")[0] != top:
        raise Invalid(f"sdist: the hard link {path[:200]!a} leads out of the top folder")
    if member.kind is Kind.SYMLINK:
        _check_symlink(path, member.target)
    return path


def _check_symlink(path: str, target: str) -> None:
    """A target may climb first and then only descend: ``a/..`` leads elsewhere when ``a`` is itself a link.

    Together with ``check_tree`` (nothing lies below a link) no chain of links can then leave the top folder.
    """
    parts = target.split("/")
    climbs = next((position for position, part in enumerate(parts) if part != ".."), len(parts))
    # The folders between the top folder and the link: that far it may climb.
    if (
        target.startswith("/")
        or "\\" in target
        or "\0" in target
        or ".." in parts[climbs:]
        or climbs > path.count("/") - 1
    ):
        raise Invalid(f"sdist: the link {path[:200]!a} leads, or may lead, out of the top folder")


def _refuse_tar(body: BinaryIO) -> None:
    if looks_like_tar(body):
        raise Invalid("the file can also be read as a tar archive")
