"""Decompression bombs: refused within bounded memory and time, shown in processes that have no more of either (B3)."""

import gzip
import io
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.formats.pypi.forge import (
    INFO,
    METADATA,
    SDIST,
    WHEEL,
    TarMember,
    ZipMember,
    deflated,
    pax,
    record_digest,
    sdist_members,
    tar_header,
    wheel,
    wheel_files,
    write_tar,
    write_zip,
    zip_members,
)

MIB = 1024 * 1024
# The memory is measured as what the inspection adds to a warmed-up process; the time is a hard limit on CPU, many times
# what is needed, so that only an unbounded reader meets it.
CHILD = """
import resource, sys
from registry.errors import Problem
from registry.formats.pypi.metadata import inspect
def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
with open(sys.argv[2], "rb") as good:
    inspect(sys.argv[1], good)
before = peak_bytes()
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
with open("/proc/self/statm") as statm:
    mapped = int(statm.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (mapped + 64 * 1024 * 1024,) * 2)
try:
    with open(sys.argv[3], "rb") as body:
        inspect(sys.argv[1], body)
except Problem as problem:
    print(type(problem).__name__, problem)
else:
    print("accepted")
assert peak_bytes() - before < 64 * 1024 * 1024, peak_bytes() - before
"""


def inspected(tmp_path: Path, filename: str, archive: bytes) -> str:
    good = wheel() if filename == WHEEL else gzip.compress(write_tar(sdist_members()))
    (tmp_path / "good").write_bytes(good)
    (tmp_path / "archive").write_bytes(archive)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, filename, tmp_path / "good", tmp_path / "archive"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def zeros(size_bytes: int, wbits: int, head: bytes = b"") -> bytes:
    """After a full flush the packed form of a block does not depend on what precedes it: the same one, many times."""
    packer, block = zlib.compressobj(9, zlib.DEFLATED, wbits), zlib.compressobj(9, zlib.DEFLATED, -15)
    start = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    packed = block.compress(bytes(16 * MIB)) + block.flush(zlib.Z_FULL_FLUSH)
    trailer = bytes(8) if wbits > 15 else b""
    return start + packed * (size_bytes // (16 * MIB)) + deflated(b"") + trailer


def gigabytes_in_a_tar() -> bytes:
    """Nearly 8 GiB of zeros as one member, in about 8 MB."""
    member = tar_header(TarMember("demo-1.0/zeros", size=b"77777777777\0"))
    return zeros(10 * 1024 * MIB, 31, write_tar(sdist_members(), end=b"") + member)


def lying_member(size_bytes: int) -> bytes:
    """Declares its packed size and unpacks to much more."""
    return wheel(ZipMember("demo/a", bytes(10), packed=zeros(size_bytes, -15)))


def honest_member(size_bytes: int) -> bytes:
    packed = zeros(size_bytes, -15)
    truth = {"size": size_bytes}
    return wheel(ZipMember("demo/a", b"", packed=packed, local=truth, central=truth))


def long_metadata() -> bytes:
    metadata = METADATA + bytes(9 * MIB)
    return write_zip(zip_members(wheel_files(metadata=metadata)))


def many_names(count: int) -> bytes:
    template = bytearray(tar_header(TarMember("demo-1.0/000000" + "x" * 80)))
    stated = int(template[148:154], 8)
    blocks = [write_tar(sdist_members(), end=b"")]
    for number in range(count):
        digits = b"%06d" % number
        template[9:15] = digits
        template[148:154] = b"%06o" % (stated + sum(digits) - 6 * 48)
        blocks.append(bytes(template))
    return gzip.compress(b"".join(blocks) + bytes(1024), 1)


def many_long_names() -> bytes:
    blocks = [write_tar(sdist_members(), end=b"")]
    for number in range(4300):
        blocks.append(write_tar([pax({"path": f"demo-1.0/{number:06d}" + "/x" * 2030}), TarMember("a")], end=b""))
    return gzip.compress(b"".join(blocks) + bytes(1024), 1)


def deep_metadata(fields: bytes) -> bytes:
    return write_zip(zip_members(wheel_files(metadata=METADATA.replace(b"\n\n", b"\n" + fields + b"\n\n"))))


BOMBS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "a tar of gigabytes": (SDIST, gigabytes_in_a_tar, "TooLarge the archive's unpacked content"),
    "gigabytes of closing zeros": (
        SDIST, lambda: zeros(4096 * MIB, 31, write_tar(sdist_members())), "TooLarge the archive's unpacked content",
    ),
    "a member that lies about a gigabyte": (WHEEL, lambda: lying_member(1024 * MIB), "Invalid zip: member 'demo/a' unpacks to more"),
    "an honest member of a gigabyte": (WHEEL, lambda: honest_member(1024 * MIB), "TooLarge the archive's unpacked content"),
    "a METADATA over its limit": (WHEEL, long_metadata, "TooLarge demo-1.0.dist-info/METADATA"),
    "a pax header of 4 GiB": (
        SDIST,
        lambda: gzip.compress(write_tar([*sdist_members(), TarMember("x", flag=b"x", size=b"37777777777\0")])),
        "TooLarge an extended header",
    ),
    "a tar with too many members": (SDIST, lambda: many_names(100_001), "TooLarge the number of members"),
    "a tar with long names": (SDIST, many_long_names, "TooLarge the names in the archive"),
    "a zip that says it has too many members": (
        WHEEL, lambda: wheel(zip64={"entries": 10**9}, end={"entries": 0xFFFF}), "TooLarge the number of members",
    ),
    "many entries over one local file": (
        WHEEL,
        lambda: wheel(*(ZipMember(f"demo/{n}", bytes(MIB), packed=b"" if n else None, central={"offset": 0}) for n in range(50))),
        "Invalid zip",
    ),
    "nested markers": (WHEEL, lambda: deep_metadata(b"Requires-Dist: a; " + b"(" * 3000 + b"os_name=='x'"), "Invalid METADATA"),
    "many different fields": (
        WHEEL, lambda: deep_metadata(b"\n".join(b"X%d: y" % n for n in range(19_000))), "TooLarge the number of different fields",
    ),
    "many lines": (WHEEL, lambda: deep_metadata(b"\n".join([b"Classifier: y"] * 30_000)), "TooLarge the number of lines"),
    "a multipart message": (
        WHEEL,
        lambda: deep_metadata(b"Content-Type: multipart/mixed; boundary=b"),
        "Invalid METADATA: the field content-type has no place",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BOMBS)
def test_bombs_are_refused_in_64_mib(case: str, tmp_path: Path) -> None:
    filename, build, answer = BOMBS[case]
    assert inspected(tmp_path, filename, build()).startswith(answer)


def many_files_wheel() -> bytes:
    files = wheel_files()
    del files[f"{INFO}/RECORD"]
    more = {f"demo/package_{number % 100}/module_{number:06d}.py": b"" for number in range(99_000)}
    names = {**more, **files}
    record = (
        "".join(f"{path},{record_digest(body)},{len(body)}\n" for path, body in names.items()) + f"{INFO}/RECORD,,\n"
    )
    members = [ZipMember(name, body, method=0) for name, body in names.items()]
    members.append(ZipMember(f"{INFO}/RECORD", record.encode()))
    return write_zip(members, zip64={}, end={"entries": 0xFFFF})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("filename", "build"),
    [
        (WHEEL, many_files_wheel),
        (WHEEL, lambda: honest_member(48 * MIB)),
        (SDIST, lambda: many_names(99_000)),
        (SDIST, lambda: gzip.compress(write_tar([*sdist_members(), TarMember("demo-1.0/zeros", bytes(48 * MIB))]))),
    ],
    ids=["many files", "zeros under the floor", "many members", "zeros in a tar under the floor"],
)
def test_large_but_honest_archives_are_accepted_in_64_mib(
    filename: str, build: Callable[[], bytes], tmp_path: Path
) -> None:
    archive = build()
    if build is not many_files_wheel and filename == WHEEL:
        # RECORD was made for an empty body: give the true digest.
        archive = _true_zeros()
    assert inspected(tmp_path, filename, archive) == "accepted\n"


def _true_zeros() -> bytes:
    body = bytes(48 * MIB)
    return wheel(ZipMember("demo/a", body, packed=deflated(body)))


def test_the_harness_sees_what_is_over_its_limits(tmp_path: Path) -> None:
    """The negative control: reading the same body as a whole does not fit."""
    body = zeros(256 * MIB, 31)
    code = CHILD.replace(
        "        inspect(sys.argv[1], body)\nexcept", "        import gzip; gzip.decompress(body.read())\nexcept"
    )
    assert code != CHILD
    (tmp_path / "good").write_bytes(wheel())
    (tmp_path / "archive").write_bytes(body)
    done = subprocess.run(
        [sys.executable, "-c", code, WHEEL, tmp_path / "good", tmp_path / "archive"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "MemoryError" in done.stderr


def test_reading_stops_early() -> None:
    """A bomb costs what is allowed, not what it holds: most of the file is never read."""
    from registry.errors import TooLarge
    from registry.formats.pypi.metadata import inspect

    class Counted(io.BytesIO):
        taken_bytes = 0

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            self.taken_bytes += len(data)
            return data

    body = Counted(gigabytes_in_a_tar())
    with pytest.raises(TooLarge):
        inspect(SDIST, body)
    assert body.taken_bytes < len(body.getvalue()) / 4
