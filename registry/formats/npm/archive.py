"""What a package's tarball says of itself, read from the archive alone. Nothing is extracted, links are refused.

Clients unpack below the first part of each path, whatever it is called (``package/`` with all that npm packs), and read
the ``package.json`` there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import BinaryIO

from registry.archives.rules import MIB, Limits, check_path, check_tree
from registry.archives.targz import Kind, Member, TarGzArchive
from registry.errors import Invalid, TooLarge
from registry.format import Description, Release
from registry.formats.npm import manifest as manifests
from registry.formats.npm.names import canonical_version, display_name, publishable_key, tarball_name

DEFAULT_LIMITS = Limits(document_bytes=MIB)
# npm shows the first 64 KB of a readme; a longer one is not kept at all rather than cut in the middle.
_LONGEST_README_BYTES = 512 * 1024
# Somebody waits for a page while this is read.
_DESCRIBED = Limits(document_bytes=MIB, content_bytes=256 * MIB)
_README_ORDER = ("readme.md", "readme.markdown", "readme", "readme.txt")


@dataclass(slots=True)
class _Contents:
    """What the walk over an archive finds."""

    kinds: dict[str, Kind] = field(default_factory=dict)
    names_bytes: int = 0
    file_count: int = 0
    unpacked_bytes: int = 0
    document: bytes | None = None
    readmes: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    has_gyp: bool = False
    has_shrinkwrap: bool = False


def inspect(filename: str, body: BinaryIO, limits: Limits = DEFAULT_LIMITS) -> Release:
    """Check an archive from end to end and give what it says of itself.

    ``extra`` holds ``manifest`` and ``dist`` as JSON texts, in ``dist`` what was counted here. Raises Invalid naming the
    broken rule, or TooLarge.
    """
    contents = _walk(body, limits)
    if contents.document is None:
        raise Invalid("package: there is no package.json in the top folder")
    package = manifests.read_package_json(contents.document)
    key = publishable_key(package["name"] if isinstance(package.get("name"), str) else "")
    version = canonical_version(package.get("version"))
    if filename != tarball_name(key, version):
        raise Invalid(
            f"package.json says {display_name(key)} {version}, which is not what {filename[:200]!a} is called after"
        )
    manifest = manifests.published(
        package,
        name=display_name(key),
        version=version,
        files=[path.partition("/")[2] for path, kind in contents.kinds.items() if kind is Kind.FILE],
        has_gyp=contents.has_gyp,
        has_shrinkwrap=contents.has_shrinkwrap,
    )
    readme_filename, readme = _readme(contents)
    return Release(
        name=key.name,
        display_name=display_name(key),
        version=version,
        display_version=version,
        filename=filename,
        summary=manifests.summary(package),
        metadata=manifests.page_metadata(manifest, readme_filename),
        extra={
            "manifest": manifests.to_text(manifest),
            "dist": manifests.to_text({"fileCount": contents.file_count, "unpackedSize": contents.unpacked_bytes}),
        },
        metadata_document=None,
        namespace=key.namespace,
        description=manifests.clean(readme),
        description_type=manifests.readme_type(readme_filename) if readme else "",
    )


def describe(body: BinaryIO, limits: Limits = _DESCRIBED) -> Description:
    """What a tarball says of its version; it is read as far as its ``package.json`` and a README in Markdown.

    Old tarballs break rules that are younger than they are, mostly in what nobody wants to know here: what was read up to
    there counts. Raises Invalid or TooLarge when not even ``package.json`` can be read.
    """
    found = _Contents()
    archive = TarGzArchive(body, limits)
    try:
        for member in archive:
            _read_of(found, archive, member, limits)
            if found.document is not None and _README_ORDER[0] in found.readmes:
                break
    except (Invalid, TooLarge):
        if found.document is None:
            raise
    if found.document is None:
        raise Invalid("package: there is no package.json in the top folder")
    package = manifests.read_package_json(found.document)
    filename, readme = _readme(found)
    return Description(
        manifests.summary(package),
        manifests.page_metadata(package, filename),
        manifests.clean(readme),
        manifests.readme_type(filename) if readme else "",
    )


def _read_of(found: _Contents, archive: TarGzArchive, member: Member, limits: Limits) -> None:
    inner = member.name.removeprefix("./").partition("/")[2]
    folded = inner.casefold()
    if member.kind is not Kind.FILE:
        return
    if inner == "package.json" and found.document is None:
        found.document = archive.read(limits.document_bytes)
    elif folded in _README_ORDER and folded not in found.readmes and member.size_bytes <= _LONGEST_README_BYTES:
        found.readmes[folded] = (inner, archive.read(_LONGEST_README_BYTES))


def _walk(body: BinaryIO, limits: Limits) -> _Contents:
    contents = _Contents()
    archive = TarGzArchive(body, limits)
    for member in archive:
        path = _path(member, limits)
        # Names compress well: without this sum a small archive would fill the memory with them.
        contents.names_bytes += len(path.encode("utf-8"))
        if contents.names_bytes > limits.directory_bytes:
            raise TooLarge("the names in the archive", limits.directory_bytes)
        if path in contents.kinds and not member.kind == contents.kinds[path] == Kind.FOLDER:
            raise Invalid(f"package: {path[:200]!a} is there twice")
        contents.kinds[path] = member.kind
        if member.kind is Kind.FILE:
            contents.file_count += 1
            contents.unpacked_bytes += member.size_bytes
        _look_at(contents, archive, member, path.partition("/")[2], limits)
    if len({path.partition("/")[0] for path in contents.kinds}) > 1:
        # Clients strip the first part whatever it is: with two tops, two files would be one.
        raise Invalid("package: everything must be in one top folder")
    check_tree((path, kind is Kind.FOLDER) for path, kind in contents.kinds.items())
    return contents


def _path(member: Member, limits: Limits) -> str:
    path = check_path(member.name, limits)
    if member.kind in (Kind.SYMLINK, Kind.HARDLINK):
        raise Invalid(f"package: {path[:200]!a} is a {member.kind}; clients leave links out when they unpack")
    if "/" not in path and member.kind is not Kind.FOLDER:
        raise Invalid(f"package: {path[:200]!a} is not in the top folder")
    return path


def _look_at(contents: _Contents, archive: TarGzArchive, member: Member, inner: str, limits: Limits) -> None:
    folded = inner.casefold()
    if folded == "package.json":
        # On a file system that folds case the last one would win.
        if contents.document is not None or member.kind is not Kind.FILE or inner != "package.json":
            raise Invalid("package: package.json is there twice, is no file, or is written in another case")
        contents.document = archive.read(limits.document_bytes)
    elif member.kind is not Kind.FILE:
        return
    elif folded in _README_ORDER and member.size_bytes <= _LONGEST_README_BYTES:
        contents.readmes[folded] = (inner, archive.read(_LONGEST_README_BYTES))
    elif inner == "binding.gyp":
        contents.has_gyp = True
    elif inner == "npm-shrinkwrap.json":
        contents.has_shrinkwrap = True


def _readme(contents: _Contents) -> tuple[str, str]:
    for folded in _README_ORDER:
        if folded in contents.readmes:
            name, raw = contents.readmes[folded]
            return name, raw.decode("utf-8", "replace")
    return "", ""
