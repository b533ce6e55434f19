"""Bundles: a directory or an archive, taken into a directory of our own, and what is in it.

An archive is a stranger's. Nothing of it is written through a link, no name leaves the directory, links that lead out
of the bundle, devices and names that stand there twice are refused, set-user-id bits are left out, and numbers and
sizes are bounded.

Nobody but this user may write to what lies here, whatever the bundle says: its scripts run later, perhaps as root. The
rights that files have beyond that are kept beside, and count where the files are installed.
"""

from __future__ import annotations

import gzip
import json
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, BinaryIO, NoReturn, Self

from hooks.deployments.appspec_model import OTHER_FILENAME
from hooks.deployments.host import places
from hooks.deployments.host.steps import Kind, Place

MAX_MEMBERS = 100_000
MAX_BYTES = 8 * 1024**3
MAX_NAME_BYTES = 4096
_COPY_BYTES = 1024 * 1024
_SHARED_WRITE = 0o022
_UNREADABLE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    gzip.BadGzipFile,
    lzma.LZMAError,
    EOFError,
    OverflowError,
    RuntimeError,
    NotImplementedError,
    ValueError,
)
"""What broken and strange archives raise, apart from OSError."""


class BundleError(Exception):
    """The bundle cannot be used; ``str()`` says why, with the name of the member."""


def take(source: Path, into: Path, appspec_name: str) -> None:
    """Copy a directory, or unpack a tar (plain or compressed) or zip file, into the new directory ``into``.

    A single directory at an archive's top that has the appspec in it is left out. Raises BundleError, OSError.
    """
    if source.is_dir() and into.resolve().is_relative_to(source.resolve()):
        raise BundleError(f"{into} lies in the bundle {source} itself; keep the state of deployments somewhere else")
    into.mkdir()
    into.chmod(0o755)  # whatever the umask: scripts in it may run as other users
    writer = _Writer(into)
    with places.directories_kept_open():
        _take(source, writer)
    lifted = "" if source.is_dir() else _lift(into, appspec_name)
    start = f"{lifted}/" if lifted else ""
    rights = {name.removeprefix(start): mode for name, mode in writer.rights.items()}
    rights_file(into).write_text(json.dumps(rights), encoding="ascii")


def rights_file(directory: Path) -> Path:
    """Where the rights are kept that the files of an unpacked bundle have beyond those they have here."""
    return directory.with_name(f"{directory.name}.rights")


def rights_of(directory: Path) -> Mapping[str, int]:
    """Path in the bundle → mode, for files that others than their owner may write to once they are installed."""
    try:
        found: dict[str, int] = json.loads(rights_file(directory).read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise BundleError(f"{rights_file(directory)} is not what was written") from error
    return found


def _take(source: Path, writer: _Writer) -> None:
    if source.is_dir():
        _copy_tree(source, writer)
        return
    try:
        # In this order: a tar whose last member is a zip file ends as a zip file does.
        if not tarfile.is_tarfile(source) and zipfile.is_zipfile(source):
            _unzip(source, writer)
        else:
            _untar(source, writer)
    except _UNREADABLE as error:
        raise BundleError(f"{source.name} is no tar or zip file that can be read: {error}") from error


def listing(directory: Path) -> dict[str, Kind]:
    """Everything below a directory, by its path there."""
    found: dict[str, Kind] = {}
    for place, folders, files in os.walk(directory, onerror=_refuse):
        start = os.path.relpath(place, directory)
        for name in (*folders, *files):
            path = name if start == "." else f"{start}/{name}"
            found[path] = places.kind_of(os.lstat(os.path.join(place, name)).st_mode)  # noqa: PTH118
    return found


def _refuse(error: OSError) -> NoReturn:
    """What cannot be read is not left out silently."""
    raise error


def find_appspec(directory: Path, name: str) -> Path | None:
    """The appspec of a bundle: ``name``, or where that is the usual one also ``appspec.yaml``. None: there is none."""
    for candidate in (name, OTHER_FILENAME) if name == "appspec.yml" else (name,):
        path = directory / candidate
        if path.is_file() and not path.is_symlink():
            return path
    return None


def _lift(into: Path, appspec_name: str) -> str:
    """The name of the directory that was left out; "" for none."""
    top = list(into.iterdir())
    if len(top) != 1 or top[0].is_symlink() or not top[0].is_dir() or find_appspec(top[0], appspec_name) is None:
        return ""
    # Under a name that nothing in it can have: the directory may hold one of its own name.
    lifted = top[0].rename(into.with_name(f"{into.name}.lifted"))
    into.rmdir()
    lifted.rename(into)
    return top[0].name


@dataclass(slots=True)
class _Writer:
    """Puts members below a directory, and counts."""

    into: Path
    members: int = 0
    total: int = 0
    kinds: dict[str, Kind] = field(default_factory=dict)
    rights: dict[str, int] = field(default_factory=dict)
    """Modes of files that others may write to, once they are installed."""

    def place(self, name: str, kind: Kind) -> Place | None:
        """Where a member goes, with the directories above it made; None for the top itself. Raises BundleError."""
        self.members += 1
        if self.members > MAX_MEMBERS:
            raise BundleError(f"the bundle has more than {MAX_MEMBERS} members")
        parts = [part for part in name.split("/") if part not in {"", "."}]
        if name.startswith("/") or ".." in parts or "\0" in name or "\\" in name:
            raise BundleError(f"the member {name!r} would lie outside of the bundle")
        if len(os.fsencode(name)) > MAX_NAME_BYTES:
            raise BundleError("the name of a member is too long")
        if not parts:
            return None
        path = "/".join(parts)
        for count in range(1, len(parts)):
            above = "/".join(parts[:count])
            if self.kinds.setdefault(above, Kind.DIRECTORY) is not Kind.DIRECTORY:
                raise BundleError(f"the member {name!r} lies below {above!r}, which is no directory")
        if path in self.kinds and not (kind is Kind.DIRECTORY and self.kinds[path] is kind):
            raise BundleError(f"two members have the name {path!r}")
        self.kinds[path] = kind
        for count in range(1, len(parts)):
            self._make(Place(str(self.into), tuple(parts[:count])))
        return Place(str(self.into), tuple(parts))

    def count(self, number: int) -> None:
        self.total += number
        if self.total > MAX_BYTES:
            raise BundleError(f"the bundle is larger than {MAX_BYTES} bytes")

    def _make(self, place: Place) -> None:
        if not os.path.isdir(place.path):  # noqa: PTH112 - we made what is there, and no link to a directory counts
            places.make_directory(place)

    def directory(self, name: str, mode: int) -> None:
        place = self.place(name, Kind.DIRECTORY)
        if place is not None:
            self._make(place)
            with places.held(place) as path:
                os.chmod(path, (mode & 0o777 & ~_SHARED_WRITE) | 0o700)  # noqa: PTH101

    def file(self, name: str, body: IO[bytes], mode: int, moment: float | None) -> None:
        place = self.place(name, Kind.FILE)
        if place is None:
            raise BundleError(f"a member has no name: {name!r}")
        with places.opened(place) as (directory, last):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            target = os.open(last, flags, 0o600, dir_fd=directory)
            with os.fdopen(target, "wb") as file:
                while data := body.read(_COPY_BYTES):
                    self.count(len(data))
                    file.write(data)
                file.flush()
                os.fchmod(file.fileno(), (mode & 0o777 & ~_SHARED_WRITE) | 0o400)
                if moment is not None:
                    os.utime(file.fileno(), (moment, moment))
        if mode & _SHARED_WRITE:
            self.rights["/".join(place.parts)] = (mode & 0o777) | 0o400

    def link(self, name: str, target: str) -> None:
        place = self.place(name, Kind.LINK)
        parts = [*name.split("/")[:-1], *target.split("/")]
        depth = 0
        for part in parts:
            depth += {"": 0, ".": 0, "..": -1}.get(part, 1)
            if depth < 0:
                break
        if place is None or target.startswith("/") or depth < 0 or not target:
            raise BundleError(f"{name!r} is a link to {target!r}, out of the bundle")
        places.make_link(place, target, replaces=False)


def _copy_tree(source: Path, writer: _Writer) -> None:
    for folder, folders, files in os.walk(source, onerror=_refuse):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = Path(folder, name)
            relative = str(path.relative_to(source))
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                writer.link(relative, str(path.readlink()))
            elif stat.S_ISDIR(mode):
                writer.directory(relative, mode)
            elif stat.S_ISREG(mode):
                with path.open("rb") as body:
                    writer.file(relative, body, mode, os.fstat(body.fileno()).st_mtime)
            else:
                raise BundleError(f"{relative!r} is neither a file nor a directory")


class _Member(tarfile.TarInfo):
    """A member of a tar file. One that cannot be read is a fault, where ``tarfile`` takes it for the archive's end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if not buf.strip(b"\0"):
                raise  # the end, as it should be
            raise tarfile.ReadError(f"it is damaged: {error}") from error


def _untar(source: Path, writer: _Writer) -> None:
    with tarfile.open(source, tarinfo=_Member) as tar:
        for member in tar:
            if member.isdir():
                writer.directory(member.name, member.mode)
            elif member.issym():
                writer.link(member.name, member.linkname)
            elif member.islnk():
                with _already_there(writer, member) as body:
                    mode = writer.rights.get(_path_of(member.linkname), os.fstat(body.fileno()).st_mode)
                    writer.file(member.name, body, mode, member.mtime)
            elif member.isreg():
                taken = tar.extractfile(member)
                if taken is None:
                    raise BundleError(f"the member {member.name!r} has no content")
                writer.file(member.name, taken, member.mode, member.mtime)
            else:
                raise BundleError(f"the member {member.name!r} is neither a file nor a directory nor a link")
        # What was compressed has its checksum behind the last member.
        while rest := tar.fileobj.read(_COPY_BYTES):
            writer.count(len(rest))


def _path_of(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in {"", "."})


def _already_there(writer: _Writer, member: tarfile.TarInfo) -> BinaryIO:
    """The file that a hard link names, which has to be a member from before."""
    path = _path_of(member.linkname)
    if writer.kinds.get(path) is not Kind.FILE:
        raise BundleError(f"{member.name!r} is a hard link to {member.linkname!r}, which is no file of the bundle")
    return (writer.into / path).open("rb")


def _unzip(source: Path, writer: _Writer) -> None:
    with zipfile.ZipFile(source) as archive:
        for entry in archive.infolist():
            mode = entry.external_attr >> 16
            if entry.is_dir():
                writer.directory(entry.filename, mode or 0o755)
            elif stat.S_ISLNK(mode):
                if entry.file_size > MAX_NAME_BYTES:
                    raise BundleError(f"the target of the link {entry.filename!r} is too long")
                writer.link(entry.filename, os.fsdecode(archive.read(entry)))
            elif stat.S_IFMT(mode) in {0, stat.S_IFREG}:
                with archive.open(entry) as body:
                    writer.file(entry.filename, body, mode & 0o777 or 0o644, _moment(entry))
            else:
                raise BundleError(f"the member {entry.filename!r} is neither a file nor a directory nor a link")


def _moment(entry: zipfile.ZipInfo) -> float | None:
    from datetime import datetime

    try:
        return datetime(*entry.date_time).timestamp()  # noqa: DTZ001 - zip files know the local time alone
    except (ValueError, OverflowError):
        return None
