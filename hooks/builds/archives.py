"""Runs inside a sandbox: unpacks the source, packs the artifact. Standard library only.

A process of its own, because archives are the user's: whatever one does to the parser, it does in the sandbox, and the
runner lives on. ``unpack FILE``: into the current directory. ``pack``: a JSON selection on standard input, the zip on
standard output, ``{"files": number, "detail": text}`` on standard error.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import stat
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MAX_FILES = 100_000


def unpack(archive: str) -> int:
    """Unpack a zip or tar file into the current directory; a single directory at its top is left out."""
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
    start = top[0] if len(top) == 1 and top[0].is_dir() and not top[0].is_symlink() else staging
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


def pack(order: Mapping[str, Any]) -> tuple[int, int, str]:
    """Write the zip to standard output: exit status, number of files, one line for people."""
    try:
        names, unmatched = select(Path.cwd(), order)
        if not names:
            return 1, 0, "no matching artifact paths found"
        with zipfile.ZipFile(sys.stdout.buffer, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
            for name, path in names.items():
                archive.write(path, name)
    except ValueError as error:
        return 1, 0, str(error)
    except OSError as error:  # a process that still runs removed it meanwhile
        return 1, 0, f"a matching file could not be read: {error}"
    return 0, len(names), f"no file matches {', '.join(unmatched)}" if unmatched else ""


def select(source: Path, order: Mapping[str, Any]) -> tuple[dict[str, Path], list[str]]:
    """Archive name → path of every regular file that is selected; the patterns without a match. Raises ValueError.

    Links are not followed. ``**/`` matches no directory as well as many; variables in patterns are expanded.
    """
    variables: Mapping[str, str] = order["variables"]
    base = _base_directory(source, _expand(order["base_directory"], variables))
    wanted = [_pattern(_expand(pattern, variables), base) for pattern in order["files"]]
    unwanted = [_pattern(_expand(pattern, variables), base) for pattern in order["exclude_paths"]]
    names: dict[str, Path] = {}
    matched: set[int] = set()
    for path in _regular_files(base):
        relative = path.relative_to(base).as_posix()
        matches = {index for index, pattern in enumerate(wanted) if pattern.fullmatch(relative)}
        if not matches or any(pattern.fullmatch(relative) for pattern in unwanted):
            continue
        matched |= matches
        name = path.name if order["discard_paths"] else relative
        if name in names:
            raise ValueError(f"discard-paths would put two files at {name}")
        names[name] = path
        if len(names) > MAX_FILES:
            raise ValueError(f"more than {MAX_FILES} files match")
    return names, [text for index, text in enumerate(order["files"]) if index not in matched]


def _base_directory(source: Path, text: str) -> Path:
    if not text:
        return source
    if any(character in text for character in "*?["):
        matches = sorted(path for path in source.iterdir() if path.is_dir() and fnmatch.fnmatchcase(path.name, text))
        if not matches:
            raise ValueError(f"no directory matches the base directory {text}")
        return matches[0]
    base = source / text
    if not base.is_dir():
        raise ValueError(f"the base directory {text} is not there")
    return base


def _expand(text: str, variables: Mapping[str, str]) -> str:
    return re.sub(r"\$(?:(\w+)|\{(\w+)\})", lambda match: variables.get(match[1] or match[2], ""), text)


def _pattern(glob: str, base: Path) -> re.Pattern[str]:
    relative = glob.removeprefix(f"{base}/").removeprefix("./")
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", relative)
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(words.get(part, re.escape(part)) for part in parts), re.DOTALL)


def _regular_files(base: Path) -> Iterator[Path]:
    for directory, folders, files in os.walk(base):
        folders.sort()
        for name in sorted(files):
            path = Path(directory, name)
            try:
                mode = path.lstat().st_mode
            except OSError:
                continue  # a background process removed it
            if stat.S_ISREG(mode):
                yield path


def main() -> int:
    """Do what the command line says; the exit status."""
    if sys.argv[1] == "unpack":
        return unpack(sys.argv[2])
    code, files, detail = pack(json.loads(sys.stdin.buffer.read()))
    sys.stderr.write(json.dumps({"files": files, "detail": detail}))
    return code


if __name__ == "__main__":
    sys.exit(main())
