"""Wheels: every rule with an archive that breaks it alone, beside a good one that comes close (B1, B2, A5)."""

import io
import stat
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.archives.rules import Limits
from registry.errors import Invalid, Problem, TooLarge
from registry.formats.pypi.metadata import inspect
from tests.unit.formats.pypi.forge import (
    INFO,
    METADATA,
    WHEEL,
    TarMember,
    ZipMember,
    deflated,
    record_digest,
    tar_header,
    wheel,
    wheel_files,
    write_zip,
    zip_members,
)

BODY = b"contents " * 20
LINK, DEVICE, FOLDER, FILE = (kind << 16 for kind in (stat.S_IFLNK, stat.S_IFCHR, stat.S_IFDIR, stat.S_IFREG | 0o644))


def zip64(*values: int) -> bytes:
    return struct.pack(f"<2H{len(values)}Q", 1, 8 * len(values), *values)


def descriptor(body: bytes, *, wide: bool = False, size: int | None = None, magic: bytes = b"PK\7\x08") -> bytes:
    import zlib

    form = "<I2Q" if wide else "<3I"
    return magic + struct.pack(form, zlib.crc32(body), len(deflated(body)), len(body) if size is None else size)


def streamed(**changes: object) -> ZipMember:
    """A member as it is written to a pipe: sizes and checksum behind the data."""
    open_fields = {"crc": 0, "packed": 0, "size": 0}
    return ZipMember("demo/a", BODY, flags=8, local=open_fields, **{"descriptor": descriptor(BODY), **changes})  # type: ignore[arg-type]


GOOD: dict[str, Callable[[], bytes]] = {
    "plain": lambda: wheel(),
    "a comment": lambda: wheel(comment=b"made by hand"),
    "a folder entry": lambda: wheel(ZipMember("demo/", method=0, attributes=FOLDER)),
    "a stored member": lambda: wheel(ZipMember("demo/a", BODY, method=0, attributes=FILE)),
    "an empty member": lambda: wheel(ZipMember("demo/a", b"", method=0)),
    "a UTF-8 name": lambda: wheel(ZipMember("demo/\u00e9", BODY, flags=0x800)),
    "a data descriptor": lambda: wheel(streamed()),
    "a wide descriptor": lambda: wheel(
        ZipMember(
            "demo/a", BODY, flags=8, descriptor=descriptor(BODY, wide=True),
            local={"crc": 0, "packed": 0xFFFFFFFF, "size": 0xFFFFFFFF, "extra": zip64(0, 0)},
        )
    ),
    "zip64 records": lambda: wheel(zip64={}),
    "zip64 records that are needed": lambda: wheel(zip64={}, end={"entries": 0xFFFF, "size": 0xFFFFFFFF, "offset": 0xFFFFFFFF}),
    "zip64 sizes": lambda: wheel(
        ZipMember(
            "demo/a", BODY, method=0,
            local={"packed": 0xFFFFFFFF, "size": 0xFFFFFFFF, "extra": zip64(len(BODY), len(BODY))},
            central={"size": 0xFFFFFFFF, "extra": zip64(len(BODY))},
        )
    ),
    "members out of order in the directory": lambda: _reordered(),
    "an RECORD.jws beside RECORD": lambda: write_zip([*zip_members(wheel_files()), ZipMember(f"{INFO}/RECORD.jws", b"{}")]),
    "a stronger digest": lambda: _with_record(lambda text: text.replace(record_digest(METADATA), record_digest(METADATA, "sha512"))),
}  # fmt: skip

BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    # names (B1)
    "climbing": (lambda: wheel(ZipMember("../evil", BODY)), "'..' part"),
    "climbing within": (lambda: wheel(ZipMember("demo/../../evil", BODY)), "'..' part"),
    "absolute": (lambda: wheel(ZipMember("/etc/evil", BODY)), "absolute"),
    "a drive": (lambda: wheel(ZipMember("C:evil", BODY)), "absolute"),
    "a backslash": (lambda: wheel(ZipMember("demo\\..\\evil", BODY)), "backslash"),
    "a dot": (lambda: wheel(ZipMember("./demo/a", BODY)), "'.'"),
    "an empty part": (lambda: wheel(ZipMember("demo//a", BODY)), "empty"),
    "a NUL": (lambda: wheel(ZipMember("demo/a\0.py", BODY)), "control character"),
    "a line break": (lambda: wheel(ZipMember("demo/a\nb", BODY)), "control character"),
    "turned writing": (lambda: wheel(ZipMember("demo/\u202ea", BODY, flags=0x800)), "control character"),
    "a long name": (lambda: wheel(ZipMember("a" * 4097, BODY)), "4096"),
    "not ASCII and not marked": (lambda: wheel(ZipMember("demo/\u00e9", BODY)), "UTF-8"),
    "marked but not UTF-8": (lambda: wheel(ZipMember("demo/a", BODY, flags=0x800, central={"name": b"demo/\xff"})), "UTF-8"),
    "a symbolic link": (lambda: wheel(ZipMember("demo/a", b"/etc/passwd", attributes=LINK)), "link"),
    "a device": (lambda: wheel(ZipMember("demo/a", b"", method=0, attributes=DEVICE)), "device"),
    "a file that says folder": (lambda: wheel(ZipMember("demo/a", BODY, attributes=FOLDER)), "contradicts its name"),
    "a folder that says file": (lambda: wheel(ZipMember("demo/a/", method=0, attributes=FILE)), "contradicts its name"),
    "a folder with content": (lambda: wheel(ZipMember("demo/a/", BODY, method=0)), "folder with content"),
    # records (B2)
    "twice": (lambda: wheel(ZipMember("demo/a", BODY), ZipMember("demo/a", BODY)), "twice"),
    "twice but for case": (lambda: wheel(ZipMember("demo/a", BODY), ZipMember("demo/A", BODY)), "twice"),
    "file and folder": (lambda: wheel(ZipMember("demo/a", BODY), ZipMember("demo/a/b/c", BODY)), "file and a folder"),
    "another name in the local header": (lambda: wheel(ZipMember("demo/a", BODY, local={"name": b"demo/b"})), "another name"),
    "only in a local header": (lambda: wheel(ZipMember("demo/a", BODY, central={"absent": True})), "start where"),
    "another method": (lambda: wheel(ZipMember("demo/a", BODY, local={"method": 0})), "another method"),
    "another size": (lambda: wheel(ZipMember("demo/a", BODY, local={"size": 3})), "another size"),
    "another checksum": (lambda: wheel(ZipMember("demo/a", BODY, local={"crc": 3})), "another size or checksum"),
    "a wrong checksum everywhere": (lambda: wheel(ZipMember("demo/a", BODY, local={"crc": 3}, central={"crc": 3})), "declared checksum"),
    "a gap": (lambda: wheel(ZipMember("demo/a", BODY), ZipMember("demo/b", BODY, gap=b"hidden")), "next record"),
    "data before the archive": (lambda: wheel(prefix=b"#!/bin/sh\n"), "start where"),
    "data before, offsets not moved": (lambda: b"MZ" + wheel(), "right before the end record"),
    "data before the end record": (lambda: wheel(between=b"hidden"), "right before the end record"),
    "data behind": (lambda: wheel(suffix=b"hidden"), "after the end record"),
    "a cut end": (lambda: wheel()[:-3], "after the end record|no end record"),
    "two end records": (lambda: wheel() + wheel()[-22:], "right before the end record"),
    "two archives": (lambda: wheel() + wheel(), "right before the end record"),
    "an end record in the comment": (lambda: _second_end_record(), "several end records|right before|after the end"),
    "a comment longer than it is": (lambda: wheel(end={"comment": 5}), "after the end record"),
    "fewer entries than there are": (lambda: wheel(end={"entries": 3}), "longer than its number"),
    "more entries than there are": (lambda: wheel(end={"entries": 5}), "shorter than its number"),
    "another disk": (lambda: wheel(end={"disk": 1}), "split"),
    "overlapping members": (lambda: _overlapping(), "next record starts"),
    "a quoted member": (lambda: _quoted(), "start where|next record"),
    "encrypted": (lambda: wheel(ZipMember("demo/a", BODY, flags=1)), "encrypted"),
    "bzip2": (lambda: wheel(ZipMember("demo/a", BODY, method=12)), "another way"),
    "lzma": (lambda: wheel(ZipMember("demo/a", BODY, method=14)), "another way"),
    "stored with two sizes": (lambda: wheel(ZipMember("demo/a", BODY, method=0, packed=BODY + b"x")), "two different sizes"),
    "stored with its size behind it": (lambda: wheel(streamed(method=0)), "size behind it"),
    "a descriptor that lies": (lambda: wheel(streamed(descriptor=descriptor(BODY, size=1))), "data descriptor"),
    "no descriptor": (lambda: wheel(streamed(descriptor=b"")), "data descriptor"),
    "a descriptor of the other width": (lambda: wheel(streamed(descriptor=descriptor(BODY, wide=True))), "data descriptor"),
    "half a descriptor's fields": (lambda: wheel(ZipMember("demo/a", BODY, flags=8, local={"size": 0}, descriptor=descriptor(BODY))), "another size"),
    "data behind the packed data": (lambda: wheel(ZipMember("demo/a", BODY, packed=deflated(BODY) + b"hidden")), "data behind its end"),
    "packed data that break off": (lambda: wheel(ZipMember("demo/a", BODY, packed=deflated(BODY)[:-3])), "breaks off|not deflate"),
    "no packed data": (lambda: wheel(ZipMember("demo/a", BODY, packed=b"\xff" * 9)), "not deflate"),
    "more than declared": (lambda: wheel(ZipMember("demo/a", BODY, local={"size": 5}, central={"size": 5})), "more than its declared"),
    "less than declared": (lambda: wheel(ZipMember("demo/a", BODY, local={"size": 500}, central={"size": 500})), "less than its declared"),
    "a zip64 lie": (lambda: wheel(ZipMember("demo/a", BODY, central={"extra": zip64(7)})), "zip64 field"),
    "a zip64 field too short": (lambda: wheel(ZipMember("demo/a", BODY, method=0, central={"size": 0xFFFFFFFF, "packed": 0xFFFFFFFF, "extra": zip64(len(BODY))})), "zip64 field"),
    "two zip64 fields": (lambda: wheel(ZipMember("demo/a", BODY, method=0, central={"size": 0xFFFFFFFF, "extra": zip64(len(BODY)) * 2})), "extra field"),
    "a zip64 end record that lies": (lambda: wheel(zip64={"entries": 3}), "contradicts"),
    "a zip64 end record elsewhere": (lambda: wheel(zip64={}, locator={"at": 0}), "locator"),
    "a zip64 end record of another form": (lambda: wheel(zip64={"record": 50}), "damaged"),
    "several disks": (lambda: wheel(zip64={}, locator={"disks": 2}), "locator"),
    "a second name in an extra field": (lambda: wheel(ZipMember("demo/a", BODY, central={"extra": struct.pack("<2H", 0x7075, 9) + b"\1\0\0\0\0evil"})), "names it again"),
    "a damaged extra field": (lambda: wheel(ZipMember("demo/a", BODY, local={"extra": b"\1\2\3"})), "damaged extra"),
    "no zip at all": (lambda: b"hello", "no end record"),
    "empty": (lambda: b"", "no end record"),
    "also a tar": (lambda: _tar_and_zip(), "tar archive"),
    # what a wheel needs (PEP 427)
    "no METADATA": (lambda: _without("METADATA"), "METADATA is missing"),
    "no WHEEL": (lambda: _without("WHEEL"), "WHEEL is missing"),
    "no RECORD": (lambda: write_zip(zip_members(wheel_files())[:-1]), "RECORD is missing"),
    "no dist-info": (lambda: write_zip([ZipMember("demo/a", BODY)]), "there are 0"),
    "two dist-info": (lambda: wheel(ZipMember("evil-1.0.dist-info/METADATA", METADATA)), "there are 2"),
    "another wheel's dist-info": (lambda: write_zip(zip_members(wheel_files(info="evil-1.0.dist-info"))), "belongs to another"),
    "another version's dist-info": (lambda: write_zip(zip_members(wheel_files(info="demo-2.0.dist-info"))), "belongs to another"),
    "a future wheel": (lambda: _future_wheel(), "Wheel-Version"),
    "a file that RECORD does not list": (lambda: write_zip([*zip_members(wheel_files()), ZipMember("demo/evil.py", BODY)]), "not in RECORD"),
    "a file that only RECORD lists": (lambda: _with_record(lambda text: text + "demo/lost.py,,\n"), "digest|not in the archive"),
    "a listed file with digest that is lost": (lambda: _with_record(lambda text: text + f"demo/lost.py,{record_digest(b'')},0\n"), "not in the archive"),
    "a wrong digest in RECORD": (lambda: _with_record(lambda text: text.replace(record_digest(METADATA), record_digest(b"x"))), "digest that RECORD"),
    "a weak digest in RECORD": (lambda: _with_record(lambda text: text.replace(record_digest(METADATA), record_digest(METADATA, "md5"))), "digest"),
    "RECORD lists twice": (lambda: _with_record(lambda text: text + f"{INFO}/RECORD,,\n"), "repeated"),
    "RECORD is no table": (lambda: _with_record(lambda _: '"'), "comma-separated|damaged"),
    # who it is (A5)
    "another name inside": (lambda: write_zip(zip_members(wheel_files(metadata=METADATA.replace(b"demo", b"beta")))), "file name says"),
    "another version inside": (lambda: write_zip(zip_members(wheel_files(metadata=METADATA.replace(b"1.0", b"1.1")))), "file name says"),
    "a traversing name inside": (lambda: write_zip(zip_members(wheel_files(metadata=METADATA.replace(b"demo", b"../../x")))), "project name"),
}  # fmt: skip


def _with_record(change: Callable[[str], str]) -> bytes:
    files = wheel_files()
    files[f"{INFO}/RECORD"] = change(files[f"{INFO}/RECORD"].decode()).encode()
    return write_zip(zip_members(files))


def _without(name: str) -> bytes:
    files = wheel_files()
    del files[f"{INFO}/{name}"]
    return write_zip(zip_members(files))


def _future_wheel() -> bytes:
    files = wheel_files()
    files[f"{INFO}/WHEEL"] = files[f"{INFO}/WHEEL"].replace(b"1.0", b"2.0")
    return write_zip(zip_members(files))


def _reordered() -> bytes:
    good = wheel()
    at = good.index(b"PK\1\2")
    end = good.rindex(b"PK\5\6")
    records = [b"PK\1\2" + record for record in good[at:end].split(b"PK\1\2")[1:]]
    return good[:at] + b"".join(reversed(records)) + good[end:]


def _second_end_record() -> bytes:
    """Both end records reach the end of the file: the outer one has the inner one for its comment."""
    other = wheel()
    inner = other[-22:]
    return wheel(comment=inner)


def _overlapping() -> bytes:
    """Many entries of the directory over one local file."""
    first = ZipMember("demo/a", BODY)
    more = [ZipMember(f"demo/a{number}", BODY, central={"offset": 0}) for number in range(3)]
    return wheel(first, *more)


def _quoted() -> bytes:
    """The second member lies inside the data of the first, in a stored block."""
    inner = write_zip([ZipMember("demo/b", BODY, method=0)])
    local = inner[: inner.index(b"PK\1\2")]
    outer = ZipMember("demo/a", local, method=0)
    inside = ZipMember(
        "demo/b", BODY, method=0, packed=b"", central={"offset": 30 + len("demo/a"), "packed": len(BODY)}
    )
    return wheel(outer, inside)


def _tar_and_zip() -> bytes:
    """A first member, stored, whose local header and data are a tar header as well."""
    name = "demo/a"
    start = 30 + len(name)
    header = bytearray(tar_header(TarMember("x")))
    # The tar checksum counts the zip's CRC, which counts the tar checksum: settle it by search over two free bytes.
    for number in range(1 << 16):
        header[300:302] = number.to_bytes(2, "little")
        member = ZipMember(name, bytes(header[start:]), method=0)
        block = write_zip([member])[:512]
        stated = sum(block) - sum(block[148:156]) + 256
        header[148:156] = b"%06o\0 " % stated
        member = ZipMember(name, bytes(header[start:]), method=0)
        block = write_zip([member])[:512]
        if sum(block) - sum(block[148:156]) + 256 == stated:
            return wheel(member)
    raise AssertionError("no polyglot was found")


@pytest.mark.parametrize("case", GOOD)
def test_good_wheels_are_accepted(case: str) -> None:
    release = inspect(WHEEL, io.BytesIO(GOOD[case]()))
    assert (release.name, release.version, release.metadata_document) == ("demo", "1.0", METADATA)


@pytest.mark.parametrize("case", BAD)
def test_bad_wheels_are_refused(case: str) -> None:
    build, rule = BAD[case]
    with pytest.raises(Invalid, match=rule):
        inspect(WHEEL, io.BytesIO(build()))


@pytest.mark.parametrize(
    ("limits", "what"),
    [
        (Limits(members=4), "number of members"),
        (Limits(directory_bytes=300), "directory"),
        (Limits(content_bytes=3000), "unpacked content"),
        (Limits(ratio=1, ratio_floor_bytes=100), "unpacked content"),
        (Limits(document_bytes=len(METADATA) - 1), "METADATA"),
        (Limits(record_bytes=100), "RECORD"),
    ],
)
def test_limits(limits: Limits, what: str) -> None:
    archive = wheel(ZipMember("demo/a", BODY * 20))
    inspect(WHEEL, io.BytesIO(archive))
    with pytest.raises(TooLarge, match=what):
        inspect(WHEEL, io.BytesIO(archive), limits)


@pytest.mark.parametrize("case", GOOD)
def test_other_readers_see_the_same_members(case: str, tmp_path: Path) -> None:
    path = tmp_path / WHEEL
    path.write_bytes(GOOD[case]())
    with zipfile.ZipFile(path) as archive:
        names = sorted(archive.namelist())
        assert archive.testzip() is None
    listed = subprocess.run(
        ["unzip", "-Z1", path], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}
    )
    assert sorted(listed.stdout.decode().splitlines()) == names
    local = sorted(_local_names(path.read_bytes()))
    assert local == names


def _local_names(data: bytes) -> list[str]:
    """Names as a reader sees them that never looks at the directory (only for archives without descriptors)."""
    names, position = [], 0
    while data[position : position + 4] == b"PK\3\4":
        flags, packed, name, extra = (
            *struct.unpack_from("<H", data, position + 6), *struct.unpack_from("<I", data, position + 18),
            *struct.unpack_from("<2H", data, position + 26),
        )  # fmt: skip
        raw = data[position + 30 : position + 30 + name]
        names.append(raw.decode("utf-8" if flags & 0x800 else "ascii"))
        start = position + 30 + name + extra
        position = data.index(b"PK", start + (0 if flags & 8 or packed == 0xFFFFFFFF else packed))
        if data[position : position + 4] == b"PK\7\x08":
            position = data.index(b"PK", position + 4)
    return names


def test_every_flipped_bit_is_refused_or_changes_nothing_that_counts() -> None:
    """A damaged archive never yields another identity and never an error of another kind."""
    good = wheel(ZipMember("demo/a", BODY))
    for position in range(len(good)):
        damaged = bytearray(good)
        damaged[position] ^= 0x41
        try:
            release = inspect(WHEEL, io.BytesIO(bytes(damaged)))
        except Problem:
            continue
        assert (release.name, release.version, release.metadata_document) == ("demo", "1.0", METADATA)


def test_python_writes_what_is_accepted(tmp_path: Path) -> None:
    class Pipe(io.RawIOBase):
        """Not seekable, so that zipfile writes data descriptors."""

        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, piece: object) -> int:
            self.data += bytes(piece)  # type: ignore[call-overload]
            return len(bytes(piece))  # type: ignore[call-overload]

    for force in (False, True):
        pipe = Pipe()
        with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[arg-type]
            for name, body in wheel_files().items():
                info = zipfile.ZipInfo(name)
                info.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(info, "w", force_zip64=force) as member:
                    member.write(body)
        assert inspect(WHEEL, io.BytesIO(pipe.data)).name == "demo"


def test_inspection_imports_no_request_no_database_no_framework() -> None:
    code = (
        "import sys\nfrom registry.formats.pypi import FORMAT\nimport registry.formats.pypi.upload, registry.formats.pypi.login\n"
        "print(sorted({'flask', 'sqlalchemy', 'requests', 'urllib3', 'werkzeug', 'pypi_simple'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
