"""Source distributions: every rule with an archive that breaks it alone, beside good ones that come close (B1 to B3, A5)."""

import bz2
import gzip
import io
import lzma
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.archives.rules import Limits
from registry.errors import Invalid, Problem, TooLarge
from registry.formats.pypi.metadata import inspect
from tests.unit.formats.pypi.forge import (
    METADATA,
    SDIST,
    TarMember,
    ZipMember,
    pax,
    sdist,
    sdist_members,
    write_tar,
    write_zip,
    zip_members,
)

BODY = b"contents " * 100
LONG = "demo-1.0/" + "long/" * 30 + "a"


def long_name(flag: bytes, text: str) -> TarMember:
    return TarMember("././@LongLink", text.encode() + b"\0", flag)


def packed(*members: TarMember, end: bytes = bytes(1024)) -> bytes:
    return gzip.compress(write_tar(members, end=end), mtime=0)


GOOD: dict[str, Callable[[], bytes]] = {
    "plain": lambda: sdist(),
    "no folder entries": lambda: packed(*sdist_members()[1:]),
    "a folder twice": lambda: sdist(TarMember("demo-1.0/", flag=b"5")),
    "padding to a record": lambda: sdist(end=bytes(10240)),
    "one closing block": lambda: sdist(end=bytes(512)),
    "a folder as tar wrote it before POSIX": lambda: sdist(TarMember("demo-1.0/old/", flag=b"\0")),
    "a link inside": lambda: sdist(TarMember("demo-1.0/a", flag=b"2", target="demo/__init__.py")),
    "a link that climbs but stays": lambda: sdist(TarMember("demo-1.0/demo/a", flag=b"2", target="../PKG-INFO")),
    "a hard link inside": lambda: sdist(TarMember("demo-1.0/a", flag=b"1", target="demo-1.0/PKG-INFO")),
    "a long name (pax)": lambda: sdist(pax({"path": LONG, "mtime": "1.5"}), TarMember("short", BODY)),
    "a long name (GNU)": lambda: sdist(long_name(b"L", LONG), TarMember("short", BODY)),
    "a long name (prefix)": lambda: sdist(TarMember("a", BODY, prefix=LONG.rpartition("/")[0].encode())),
    "a long link (GNU)": lambda: sdist(long_name(b"K", "demo/" * 30 + "a"), TarMember("demo-1.0/a", flag=b"2", target="x")),
    "a size given again": lambda: sdist(pax({"size": str(len(BODY))}), TarMember("demo-1.0/a", BODY)),
    "a comment for all": lambda: packed(pax({"comment": "0a1b2c"}, b"g"), *sdist_members()),
    "an extended attribute in bytes": lambda: sdist(pax({"SCHILY.xattr.user.a": "\udcff\udcfe"}), TarMember("demo-1.0/a", BODY)),
    "GNU headers": lambda: sdist(TarMember("demo-1.0/a", BODY, magic=b"ustar  \0")),
    "PKG-INFO further down as well": lambda: sdist(TarMember("demo-1.0/demo.egg-info/PKG-INFO", b"Name: other\n")),
}  # fmt: skip

BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    # names (B1)
    "climbing": (lambda: sdist(TarMember("demo-1.0/../../evil", BODY)), "'..' part"),
    "absolute": (lambda: sdist(TarMember("/etc/evil", BODY)), "absolute"),
    "a drive": (lambda: sdist(TarMember("C:/evil", BODY)), "absolute"),
    "a backslash": (lambda: sdist(TarMember("demo-1.0\\..\\evil", BODY)), "backslash"),
    "a dot": (lambda: sdist(TarMember("./demo-1.0/PKG-INFO", METADATA)), "'.'"),
    "a member named dot": (lambda: sdist(TarMember(".", flag=b"5")), "'.'"),
    "no name": (lambda: sdist(TarMember("", BODY)), "empty"),
    "climbing in a pax path": (lambda: sdist(pax({"path": "demo-1.0/../../evil"}), TarMember("demo-1.0/a", BODY)), "'..' part"),
    "climbing in a GNU name": (lambda: sdist(long_name(b"L", "demo-1.0/../../evil"), TarMember("demo-1.0/a", BODY)), "'..' part"),
    "climbing in a prefix": (lambda: sdist(TarMember("evil", BODY, prefix=b"demo-1.0/../..")), "'..' part"),
    "a NUL in a pax path": (lambda: sdist(pax({"path": "demo-1.0/a\0b"}), TarMember("demo-1.0/a", BODY)), "control character"),
    "not UTF-8": (lambda: sdist(pax({"path": "demo-1.0/\udcff"}), TarMember("demo-1.0/a", BODY)), "not UTF-8"),
    "a link out": (lambda: sdist(TarMember("demo-1.0/a", flag=b"2", target="/etc/passwd")), "leads"),
    "a link that climbs out": (lambda: sdist(TarMember("demo-1.0/a", flag=b"2", target="../evil")), "leads"),
    "a link that climbs out behind a folder": (lambda: sdist(TarMember("demo-1.0/a", flag=b"2", target="demo/../../evil")), "leads"),
    "a chain of links": (
        lambda: sdist(TarMember("demo-1.0/a", flag=b"2", target="."), TarMember("demo-1.0/b", flag=b"2", target="a/..")), "leads",
    ),
    "a member below a link": (
        lambda: sdist(TarMember("demo-1.0/a", flag=b"2", target="demo"), TarMember("demo-1.0/a/b", BODY)), "file and a folder",
    ),
    "a long link out": (lambda: sdist(long_name(b"K", "../" * 40 + "evil"), TarMember("demo-1.0/a", flag=b"2", target="x")), "leads"),
    "a pax link out": (lambda: sdist(pax({"linkpath": "../../evil"}), TarMember("demo-1.0/a", flag=b"2", target="x")), "leads"),
    "a hard link out": (lambda: sdist(TarMember("demo-1.0/a", flag=b"1", target="/etc/passwd")), "absolute"),
    "a hard link beside": (lambda: sdist(TarMember("demo-1.0/a", flag=b"1", target="evil/a")), "leads out"),
    "a character device": (lambda: sdist(TarMember("demo-1.0/a", flag=b"3")), "device"),
    "a block device": (lambda: sdist(TarMember("demo-1.0/a", flag=b"4")), "device"),
    "a FIFO": (lambda: sdist(TarMember("demo-1.0/a", flag=b"6")), "device"),
    "a sparse file (GNU)": (lambda: sdist(TarMember("demo-1.0/a", BODY, flag=b"S")), "sparse"),
    "a sparse file (pax)": (lambda: sdist(pax({"GNU.sparse.major": "1"}), TarMember("demo-1.0/a", BODY)), "GNU.sparse"),
    "an unknown type": (lambda: sdist(TarMember("demo-1.0/a", BODY, flag=b"Z")), "unknown type"),
    # headers (B2, B3)
    "a wrong checksum": (lambda: sdist(TarMember("demo-1.0/a", BODY, checksum=b"000001\0 ")), "checksum"),
    "a negative size": (lambda: sdist(TarMember("demo-1.0/a", size=b"\xff" * 12)), "negative or beyond"),
    "a huge size": (lambda: sdist(TarMember("demo-1.0/a", size=b"\x80" + b"\xff" * 11)), "negative or beyond"),
    "a signed size": (lambda: sdist(TarMember("demo-1.0/a", size=b"-0000000001\0")), "number is damaged"),
    "a size that is no octal number": (lambda: sdist(TarMember("demo-1.0/a", size=b"00000000019\0")), "number is damaged"),
    "two sizes": (lambda: sdist(pax({"size": "0"}), TarMember("demo-1.0/a", BODY)), "two sizes"),
    "a size for another header": (
        lambda: sdist(pax({"size": "9"}), long_name(b"L", LONG), TarMember("demo-1.0/a", b"123456789")), "not followed by its member",
    ),
    "a path for all": (lambda: sdist(pax({"path": "demo-1.0/x"}, b"g"), TarMember("demo-1.0/a", BODY)), "for all members"),
    "two names": (lambda: sdist(pax({"path": "demo-1.0/x"}), long_name(b"L", "demo-1.0/y"), TarMember("demo-1.0/a")), "twice"),
    "a record twice": (lambda: sdist(TarMember("x", b"17 path=demo-1/a\n" * 2, b"x"), TarMember("demo-1.0/a")), "a thing twice"),
    "another charset": (lambda: sdist(pax({"hdrcharset": "BINARY"}), TarMember("demo-1.0/a", BODY)), "hdrcharset"),
    "a damaged extended header": (lambda: sdist(TarMember("x", b"99 path=a\n", b"x"), TarMember("demo-1.0/a")), "damaged"),
    "an extended header of nothing": (lambda: packed(*sdist_members(), pax({"path": "demo-1.0/x"})), "belongs to no member"),
    "a prefix where GNU has times": (lambda: sdist(TarMember("a", BODY, magic=b"ustar  \0", prefix=b"demo-1.0")), "not POSIX"),
    "a file with a folder's name": (lambda: sdist(TarMember("demo-1.0/a/", BODY)), "folder's name"),
    "a folder with content": (lambda: sdist(TarMember("demo-1.0/a/", BODY, flag=b"5")), "with content"),
    "a link with content": (lambda: sdist(TarMember("demo-1.0/a", BODY, flag=b"2", target="demo")), "with content"),
    "no end": (lambda: sdist(end=b""), "breaks off"),
    "a cut member": (lambda: gzip.compress(write_tar([*sdist_members(), TarMember("demo-1.0/a", BODY)])[:-1800]), "breaks off"),
    "members behind the end": (lambda: sdist(end=bytes(1024) + write_tar([TarMember("demo-1.0/evil", BODY)])), "after the end"),
    "members behind one block of zeros": (lambda: sdist(end=bytes(512) + write_tar([TarMember("demo-1.0/evil", BODY)])), "after the end"),
    # gzip
    "a second gzip member": (lambda: sdist() + gzip.compress(write_tar([TarMember("demo-1.0/evil", BODY)])), "after the end"),
    "bytes behind": (lambda: sdist() + b"hidden", "after the end"),
    "a cut file": (lambda: sdist()[:-20], "break off"),
    "a wrong checksum of the whole": (lambda: sdist()[:-8] + b"\0\0\0\0" + sdist()[-4:], "damaged"),
    "bzip2": (lambda: bz2.compress(write_tar(sdist_members())), "not a gzip"),
    "xz": (lambda: lzma.compress(write_tar(sdist_members())), "not a gzip"),
    "plain tar": (lambda: write_tar(sdist_members()), "not a gzip"),
    "gzip in gzip": (lambda: gzip.compress(sdist()), "checksum|breaks off"),
    "a zip": (lambda: write_zip(zip_members({"demo-1.0/PKG-INFO": METADATA})), "zip archive"),
    "also a zip": (lambda: gzip.compress(write_tar(sdist_members())) + write_zip(zip_members({"a": b"b"})), "zip archive"),
    "also a zip, within the gzip data": (lambda: _zip_in_stored_gzip(), "zip archive"),
    "empty": (lambda: b"", "not a gzip"),
    # what an sdist needs (PEP 625, PEP 643)
    "no PKG-INFO": (lambda: packed(TarMember("demo-1.0/a", BODY)), "PKG-INFO is missing"),
    "PKG-INFO deeper only": (lambda: packed(TarMember("demo-1.0/demo/PKG-INFO", METADATA)), "PKG-INFO is missing"),
    "PKG-INFO as a link": (
        lambda: packed(TarMember("demo-1.0/a", METADATA), TarMember("demo-1.0/PKG-INFO", flag=b"2", target="a")), "no file",
    ),
    "PKG-INFO twice": (lambda: sdist(TarMember("demo-1.0/PKG-INFO", METADATA.replace(b"demo", b"evil"))), "twice"),
    "PKG-INFO in another case": (lambda: sdist(TarMember("demo-1.0/pkg-info", METADATA)), "another case"),
    "a file twice": (lambda: sdist(TarMember("demo-1.0/demo/__init__.py", b"evil")), "twice"),
    "two top folders": (lambda: sdist(TarMember("evil-1.0/a", BODY)), "one top folder"),
    "a file at the top": (lambda: sdist(TarMember("setup.py", BODY)), "not in the top folder"),
    "another name inside": (lambda: packed(TarMember("demo-1.0/PKG-INFO", METADATA.replace(b"demo", b"beta"))), "file name says"),
    "another version inside": (lambda: packed(TarMember("demo-1.0/PKG-INFO", METADATA.replace(b"1.0", b"3"))), "file name says|Metadata"),
}  # fmt: skip


def _zip_in_stored_gzip() -> bytes:
    """The archive's last member is a zip, kept plain by gzip's stored blocks, whose end record is near the file's end."""
    inner = write_zip(zip_members({"evil": b"evil"}), comment=bytes(600))
    return gzip.compress(write_tar([*sdist_members(), TarMember("demo-1.0/a.zip", inner)]), compresslevel=0)


def test_a_small_zip_far_from_the_end_is_just_a_file() -> None:
    inner = write_zip(zip_members({"evil": b"evil"}))
    members = [*sdist_members(), TarMember("demo-1.0/a.zip", inner), TarMember("demo-1.0/b", bytes(range(256)) * 300)]
    inspect(SDIST, io.BytesIO(gzip.compress(write_tar(members), compresslevel=0)))


@pytest.mark.parametrize("case", GOOD)
def test_good_sdists_are_accepted(case: str) -> None:
    release = inspect(SDIST, io.BytesIO(GOOD[case]()))
    assert (release.name, release.version, release.metadata_document) == ("demo", "1.0", None)


@pytest.mark.parametrize("case", BAD)
def test_bad_sdists_are_refused(case: str) -> None:
    build, rule = BAD[case]
    with pytest.raises(Invalid, match=rule):
        inspect(SDIST, io.BytesIO(build()))


@pytest.mark.parametrize("case", GOOD)
def test_other_readers_see_the_same_members(case: str, tmp_path: Path) -> None:
    from registry.archives.targz import TarGzArchive

    path = tmp_path / SDIST
    path.write_bytes(GOOD[case]())
    ours = [
        (member.name.rstrip("/"), member.size_bytes) for member in TarGzArchive(io.BytesIO(path.read_bytes()), Limits())
    ]
    with tarfile.open(path) as archive:
        assert [(member.name, 0 if member.islnk() else member.size) for member in archive] == ours
    listed = subprocess.run(
        ["tar", "-tzf", path], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}
    )
    assert [line.rstrip("/") for line in listed.stdout.decode().splitlines()] == [name for name, _ in ours]


@pytest.mark.parametrize(
    ("limits", "what"),
    [
        (Limits(members=3), "number of members"),
        (Limits(directory_bytes=30), "names"),
        (Limits(content_bytes=3000), "unpacked content"),
        (Limits(ratio=1, ratio_floor_bytes=100), "unpacked content"),
        (Limits(document_bytes=len(METADATA) - 1), "document"),
    ],
)
def test_limits(limits: Limits, what: str) -> None:
    archive = sdist(TarMember("demo-1.0/a", BODY))
    inspect(SDIST, io.BytesIO(archive))
    with pytest.raises(TooLarge, match=what):
        inspect(SDIST, io.BytesIO(archive), limits)


def test_every_flipped_bit_of_the_tar_keeps_the_identity_or_is_refused() -> None:
    good = write_tar([*sdist_members(), pax({"path": LONG}), TarMember("a", BODY)])
    for position in range(0, len(good) - 1024, 3):
        damaged = bytearray(good)
        damaged[position] ^= 0x41
        try:
            release = inspect(SDIST, io.BytesIO(gzip.compress(damaged, compresslevel=0)))
        except Problem:
            continue
        assert (release.name, release.version) == ("demo", "1.0")


ZIPPED = {"demo-1.0/PKG-INFO": METADATA, "demo-1.0/setup.py": b"setup()\n"}


def test_a_legacy_zip_is_accepted() -> None:
    release = inspect("demo-1.0.zip", io.BytesIO(write_zip(zip_members(ZIPPED))))
    assert (release.name, release.extra["packagetype"]) == ("demo", "sdist")


@pytest.mark.parametrize(
    ("archive", "rule"),
    [
        (write_zip(zip_members({**ZIPPED, "evil/a": b""})), "one top folder"),
        (write_zip(zip_members({**ZIPPED, "evil": b""})), "one top folder"),
        (write_zip(zip_members({"demo-1.0/setup.py": b""})), "PKG-INFO is missing"),
        (write_zip([]), "one top folder"),
        (
            write_zip([*zip_members(ZIPPED), ZipMember("demo-1.0/a", b"x", local={"crc": 1}, central={"crc": 1})]),
            "checksum",
        ),
        (sdist(), "no end record"),
    ],
)
def test_bad_legacy_zips_are_refused(archive: bytes, rule: str) -> None:
    with pytest.raises(Invalid, match=rule):
        inspect("demo-1.0.zip", io.BytesIO(archive))
