"""Runs inside a sandbox: unpacks the source, packs artifacts and caches, restores caches. Standard library only.

A process of its own, because archives are the user's: whatever one does to the parser, it does in the sandbox, and the
runner lives on; all in one file, because it stands alone there. ``unpack FILE``: into the current directory. ``pack``
and ``save``: a JSON order on standard input, a zip or a compressed tar on standard output, ``{"files": number,
"detail": text}`` on standard error. ``restore HOME SOURCE``: such a tar on standard input. ``hash GLOB…``: what
``codebuild-hash-files`` prints.
"""

from __future__ import annotations

import fnmatch
import gzip
import hashlib
import json
import os
import re
import shutil
import stat
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

MAX_FILES = 100_000
MAX_BYTES = 8 * 1024**3
_COPY_BYTES = 256 * 1024
_CACHE_ROOTS = ("home", "source", "other")


class Chosen(NamedTuple):
    """A file that is taken: ``parts`` are the names on the way to it from ``base``, which itself is no link."""

    base: Path
    parts: tuple[str, ...]
    is_link: bool = False

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.base.joinpath(*self.parts)


def unpack(archive: str, *, as_is: bool = False) -> int:
    """Unpack a zip or tar file into the current directory; a single directory at its top is left out unless ``as_is``."""
    into = Path.cwd()
    staging = into.parent / "unpacking"
    staging.mkdir()
    try:
        if zipfile.is_zipfile(archive):
            _unzip(archive, staging)
        else:
            _untar(archive, staging)
    except (OSError, tarfile.TarError, zipfile.BadZipFile, ValueError, RuntimeError, EOFError) as error:
        sys.stdout.write(f"could not unpack {Path(archive).name}: {error}\n")
        return 1
    top = list(staging.iterdir())
    start = top[0] if not as_is and len(top) == 1 and top[0].is_dir() and not top[0].is_symlink() else staging
    for entry in list(start.iterdir()):
        entry.rename(into / entry.name)
    shutil.rmtree(staging)
    return 0


def _untar(archive: str, into: Path) -> None:
    # Escapes of any filter end in this sandbox; the filter keeps device files and odd modes away.
    options: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(archive) as tar:
        for member in tar:
            tar.extract(member, into, **options)


def _unzip(archive: str, into: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        for entry in file.infolist():
            path = file.extract(entry, into)
            mode = (entry.external_attr >> 16) & 0o777
            if mode and not entry.is_dir():
                Path(path).chmod(mode | 0o600)


# --- artifacts


def pack(order: Mapping[str, Any]) -> tuple[int, int, str]:
    """Write the zip to standard output: exit status, number of files, one line for people."""
    try:
        names, unmatched = select(Path.cwd(), order)
        if not names:
            return 1, 0, "no matching artifact paths found"
        allowance = _Allowance()
        with zipfile.ZipFile(sys.stdout.buffer, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
            for name, chosen in names.items():
                _add_to_zip(archive, name, chosen, allowance)
    except ValueError as error:
        return 1, 0, str(error)
    except OSError as error:  # a process that still runs removed or replaced it meanwhile
        return 1, 0, f"a matching file could not be read: {error}"
    return 0, len(names), f"no file matches {', '.join(unmatched)}" if unmatched else ""


def select(source: Path, order: Mapping[str, Any]) -> tuple[dict[str, Chosen], list[str]]:
    """Archive name → each regular file that is selected; the patterns without a match. Raises ValueError.

    Links are not followed, and taken as links only where the order says so. ``**/`` matches no directory as well as
    many; variables in patterns are expanded.
    """
    variables: Mapping[str, str] = order["variables"]
    names: dict[str, Chosen] = {}
    matched: set[int] = set()
    for base in _base_directories(source, _expand(order["base_directory"], variables)):
        wanted = [_pattern(_expand(pattern, variables), base) for pattern in order["files"]]
        unwanted = [_pattern(_expand(pattern, variables), base) for pattern in order["exclude_paths"]]
        for chosen in _files(base, with_links=order.get("enable_symlinks", False)):
            relative = "/".join(chosen.parts)
            matches = {index for index, pattern in enumerate(wanted) if pattern.fullmatch(relative)}
            if not matches or any(pattern.fullmatch(relative) for pattern in unwanted):
                continue
            matched |= matches
            name = chosen.parts[-1] if order["discard_paths"] else relative
            if name in names:
                why = "discard-paths" if order["discard_paths"] else "the base directories"
                raise ValueError(f"{why} would put two files at {name}: {names[name].path} and {chosen.path}")
            names[name] = chosen
            if len(names) > MAX_FILES:
                raise ValueError(f"more than {MAX_FILES} files match")
    return names, [text for index, text in enumerate(order["files"]) if index not in matched]


def _base_directories(source: Path, text: str) -> list[Path]:
    text = text.rstrip("/")
    if text in {"", ".", str(source)}:
        return [source]
    text = text.removeprefix(f"{source}/").removeprefix("./")
    root = Path("/") if text.startswith("/") else source
    found = [root]
    for part in Path(text.lstrip("/")).parts:
        if any(character in part for character in "*?["):
            found = [each for base in found for each in sorted(base.iterdir()) if fnmatch.fnmatchcase(each.name, part)]
        else:
            found = [base / part for base in found]
        # A link could lead anywhere, and what is behind it was never named.
        found = [each for each in found if each.is_dir() and not each.is_symlink()]
    if found:
        return found
    is_glob = any(character in text for character in "*?[")
    words = "no directory matches the base directory {}" if is_glob else "the base directory {} is not there"
    raise ValueError(words.format(text))


def _expand(text: str, variables: Mapping[str, str]) -> str:
    return re.sub(r"\$(?:(\w+)|\{(\w+)\})", lambda match: variables.get(match[1] or match[2], ""), text)


def _pattern(glob: str, base: Path) -> re.Pattern[str]:
    return _glob(glob.removeprefix(f"{base}/").removeprefix("./"))


def _glob(glob: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", glob)
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(words.get(part, re.escape(part)) for part in parts), re.DOTALL)


def _files(base: Path, *, with_links: bool) -> Iterator[Chosen]:
    """Everything below ``base`` that is a regular file (or, ``with_links``, a link), in the order of names."""
    for directory, folders, files in os.walk(base):
        folders.sort()
        linked = [name for name in folders if Path(directory, name).is_symlink()] if with_links else []
        way = Path(directory).relative_to(base).parts
        for name in sorted([*files, *linked]):
            try:
                mode = Path(directory, name).lstat().st_mode
            except OSError:
                continue  # a background process removed it
            if stat.S_ISREG(mode) or (with_links and stat.S_ISLNK(mode)):
                yield Chosen(base, (*way, name), stat.S_ISLNK(mode))


class _Allowance:
    """How many files and bytes may still be read; a file that is sparse, or grows under the reader, must not go on for ever."""

    def __init__(self) -> None:
        self._left = MAX_BYTES
        self._files_left = MAX_FILES

    def take(self, size: int) -> None:
        self._left -= size
        self._files_left -= 1
        if self._files_left < 0:
            raise ValueError(f"more than {MAX_FILES} files match")
        if self._left < 0:
            raise ValueError(f"the files that match are larger than {MAX_BYTES} bytes together")


def open_beneath(chosen: Chosen) -> BinaryIO:
    """Open what was chosen, if it still is a regular file that no link leads to. Raises OSError.

    What was looked at before may be something else by now: a link to a file with a secret, a pipe that nobody writes to.
    """
    at = os.open(chosen.base, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        for part in chosen.parts[:-1]:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = below
        file = os.open(chosen.parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
    finally:
        os.close(at)
    body = os.fdopen(file, "rb")
    if not stat.S_ISREG(os.fstat(file).st_mode):
        body.close()
        raise OSError(f"{chosen.path} is no regular file any more")
    return body


def _add_to_zip(archive: zipfile.ZipFile, name: str, chosen: Chosen, allowance: _Allowance) -> None:
    if chosen.is_link:
        entry = zipfile.ZipInfo(name)
        entry.create_system = 3
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, str(chosen.path.readlink()))
        return
    with open_beneath(chosen) as body:
        facts = os.fstat(body.fileno())
        allowance.take(facts.st_size)
        moment = time.localtime(facts.st_mtime)[:6]
        entry = zipfile.ZipInfo(name, moment if 1980 <= moment[0] <= 2107 else (1980, 1, 1, 0, 0, 0))
        entry.create_system = 3
        entry.compress_type = zipfile.ZIP_DEFLATED
        entry.external_attr = (facts.st_mode & 0xFFFF) << 16
        with archive.open(entry, "w", force_zip64=facts.st_size > 1024**3) as into:
            _copy(body, into, facts.st_size)


def _copy(body: BinaryIO, into: IO[bytes], size: int) -> None:
    """Copy at most ``size`` bytes: what is appended meanwhile is not part of it."""
    while size > 0 and (data := body.read(min(size, _COPY_BYTES))):
        into.write(data)
        size -= len(data)


# --- caches


def save(order: Mapping[str, Any]) -> tuple[int, int, str]:
    """Write a compressed tar of the order's ``paths`` to standard output; as ``pack`` answers.

    Names begin with ``home/``, ``source/`` or ``other/``, so that a cache fits where those lie elsewhere. Links are kept
    as links. ``never`` are files below the home that hold the build's own credentials.
    """
    home, source = Path(order["home"]), Path(order["source"])
    never = {home / name for name in order["never"]}
    files = 0
    try:
        with (
            gzip.GzipFile(fileobj=sys.stdout.buffer, mode="wb", compresslevel=1, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            allowance = _Allowance()
            patterns = [_rooted(_expand(pattern, order["variables"]), home, source) for pattern in order["paths"]]
            for path, chosen in {each.path: each for pattern in patterns for each in _cached(pattern)}.items():
                if path not in never:
                    files += 1
                    _add_to_tar(tar, _cache_name(path, home, source), chosen, allowance)
    except ValueError as error:
        return 1, 0, str(error)
    except OSError as error:
        return 1, 0, f"a matching file could not be read: {error}"
    return 0, files, ""


def _rooted(pattern: str, home: Path, source: Path) -> str:
    """A pattern from ``/``: ``~`` and ``/root`` (the home of builds in most documents) are the build's home."""
    for name in ("~", "/root"):
        if pattern == name or pattern.startswith(f"{name}/"):
            return f"{home}{pattern[len(name) :]}"
    return pattern if pattern.startswith("/") else f"{source}/{pattern.removeprefix('./')}"


def _cached(pattern: str) -> Iterator[Chosen]:
    """The files and links that match a pattern from ``/``; one that is a directory stands for all that is in it."""
    pattern = pattern.rstrip("/")
    parts = Path(pattern.lstrip("/")).parts
    fixed = 0
    while fixed < len(parts) and not any(character in parts[fixed] for character in "*?["):
        fixed += 1
    base = Path("/", *parts[:fixed])
    if ".." in parts:
        raise ValueError(f"the cache path {pattern} must not contain '..'")
    if fixed == len(parts):
        if base.is_symlink() or not base.is_dir():
            if base.is_symlink() or base.is_file():
                yield Chosen(base.parent, (base.name,), base.is_symlink())
            return
        rest = "**/*"
    else:
        rest = "/".join(parts[fixed:])
    if base.is_symlink() or not base.is_dir():
        return
    # What matches a directory takes along what is in it, as for a path without wildcards.
    matcher = re.compile(f"(?:{_glob(rest).pattern})(?:/.*)?", re.DOTALL)
    for chosen in _files(base, with_links=True):
        if matcher.fullmatch("/".join(chosen.parts)):
            yield chosen


def _cache_name(path: Path, home: Path, source: Path) -> str:
    for name, root in zip(_CACHE_ROOTS, (home, source, Path("/")), strict=True):
        if path.is_relative_to(root):
            return f"{name}/{path.relative_to(root)}"
    raise AssertionError(f"{path} is below the root")


def _add_to_tar(tar: tarfile.TarFile, name: str, chosen: Chosen, allowance: _Allowance) -> None:
    entry = tarfile.TarInfo(name)
    if chosen.is_link:
        entry.type = tarfile.SYMTYPE
        entry.linkname = str(chosen.path.readlink())
        tar.addfile(entry)
        return
    with open_beneath(chosen) as body:
        facts = os.fstat(body.fileno())
        allowance.take(facts.st_size)
        entry.size, entry.mtime, entry.mode = facts.st_size, int(facts.st_mtime), facts.st_mode & 0o777
        tar.addfile(entry, body)


def restore(home: str, source: str) -> int:
    """Put the files of a tar that ``save`` wrote back where they came from. What is there already stays as it is."""
    places = dict(zip(_CACHE_ROOTS, (Path(home), Path(source), Path("/")), strict=True))
    restored = skipped = 0
    try:
        with tarfile.open(fileobj=sys.stdin.buffer, mode="r|gz") as tar:
            for member in tar:
                root, _, name = member.name.partition("/")
                if root not in places or not name or ".." in Path(name).parts:
                    skipped += 1
                elif _put_back(tar, member, places[root] / name):
                    restored += 1
                else:
                    skipped += 1
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        sys.stdout.write(f"could not restore the cache: {error}\n")
        return 1
    sys.stdout.write(f"{restored} files restored" + (f", {skipped} left alone\n" if skipped else "\n"))
    return 0


def _put_back(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> bool:
    """Write one file or link, unless something is there or its place cannot be written to."""
    if path.exists() or path.is_symlink():
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if member.issym():
            path.symlink_to(member.linkname)
            return True
        body = tar.extractfile(member) if member.isreg() else None
        if body is None:
            return False
        with path.open("xb") as into:
            shutil.copyfileobj(body, into, _COPY_BYTES)
            os.fchmod(into.fileno(), member.mode & 0o777 | 0o600)
        os.utime(path, (member.mtime, member.mtime))
    except OSError as error:
        if error.errno in {28, 122}:  # no space: the rest would not fit either
            raise
        return False
    return True


# --- codebuild-hash-files


def hash_files(patterns: Sequence[str], write: Callable[[str], object]) -> int:
    """Write the SHA-256 over the contents of all files that match, in the order of their names; 1 if there are none."""
    base = Path(os.environ.get("CODEBUILD_SRC_DIR") or Path.cwd())
    matchers = [_pattern(pattern, base) for pattern in patterns]
    total, found = hashlib.sha256(), 0
    try:
        chosen_files = sorted(_files(base, with_links=False), key=lambda chosen: chosen.parts)
        for chosen in chosen_files:
            name = "/".join(chosen.parts)
            if any(matcher.fullmatch(name) for matcher in matchers):
                found += 1
                own = hashlib.sha256()
                with open_beneath(chosen) as body:
                    while data := body.read(_COPY_BYTES):
                        own.update(data)
                total.update(own.digest())
    except OSError as error:
        sys.stderr.write(f"codebuild-hash-files: {error}\n")
        return 1
    if not found:
        sys.stderr.write(f"codebuild-hash-files: no file matches {' '.join(patterns)}\n")
        return 1
    write(total.hexdigest() + "\n")
    return 0


def main() -> int:
    """Do what the command line says; the exit status."""
    verb, arguments = sys.argv[1], sys.argv[2:]
    if verb == "unpack":
        return unpack(arguments[0], as_is=arguments[1:] == ["as-is"])
    if verb == "restore":
        return restore(*arguments)
    if verb == "hash":
        return hash_files(arguments, sys.stdout.write)
    code, files, detail = (save if verb == "save" else pack)(json.loads(sys.stdin.buffer.read()))
    sys.stderr.write(json.dumps({"files": files, "detail": detail}))
    return code


if __name__ == "__main__":
    sys.exit(main())
