"""Archives with exactly one thing wrong: a zip writer and a tar writer that lie where they are told to."""

import base64
import gzip
import hashlib
import io
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

INFO = "demo-1.0.dist-info"
WHEEL = "demo-1.0-py3-none-any.whl"
SDIST = "demo-1.0.tar.gz"
METADATA = b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\nSummary: A demo\n\nWords.\n"


def record(files: Mapping[str, bytes], info: str = INFO) -> bytes:
    lines = [f"{path},{record_digest(body)},{len(body)}" for path, body in files.items()]
    return ("\n".join([*lines, f"{info}/RECORD,,"]) + "\n").encode()


def record_digest(body: bytes, algorithm: str = "sha256") -> str:
    digest = base64.urlsafe_b64encode(hashlib.new(algorithm, body).digest()).rstrip(b"=").decode()
    return f"{algorithm}={digest}"


def wheel_files(
    more: Mapping[str, bytes] | None = None, *, metadata: bytes = METADATA, info: str = INFO
) -> dict[str, bytes]:
    """The files of a good wheel, RECORD included and last."""
    files = {
        "demo/__init__.py": b"answer = 42\n",
        **(more or {}),
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    return {**files, f"{info}/RECORD": record(files, info)}


@dataclass
class ZipMember:
    """A member; every ``local_…`` is what its local header says instead of the truth, every ``central_…`` likewise."""

    name: str
    body: bytes = b""
    method: int = 8
    flags: int = 0
    attributes: int = 0
    packed: bytes | None = None
    local: dict[str, object] = field(default_factory=dict)
    central: dict[str, object] = field(default_factory=dict)
    descriptor: bytes | None = None
    gap: bytes = b""


def zip_members(files: Mapping[str, bytes]) -> list[ZipMember]:
    return [ZipMember(name, body) for name, body in files.items()]


def deflated(body: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(body) + packer.flush()


def write_zip(
    members: Iterable[ZipMember],
    *,
    prefix: bytes = b"",
    between: bytes = b"",
    suffix: bytes = b"",
    comment: bytes = b"",
    end: Mapping[str, int] | None = None,
    zip64: Mapping[str, int] | None = None,
    locator: Mapping[str, int] | None = None,
) -> bytes:
    """A zip file. ``between`` stands before the end record; ``zip64`` (also empty) adds the 64-bit records."""
    out, central = io.BytesIO(), io.BytesIO()
    out.write(prefix)
    count = 0
    for member in members:
        out.write(member.gap)
        packed = member.packed
        if packed is None:
            packed = deflated(member.body) if member.method == 8 else member.body
        truth: dict[str, object] = {
            "name": member.name.encode(), "flags": member.flags, "method": member.method, "crc": zlib.crc32(member.body),
            "packed": len(packed), "size": len(member.body), "extra": b"", "offset": out.tell(),
            "attributes": member.attributes, "disk": 0, "comment": b"", "magic": b"",
        }  # fmt: skip
        said = {**truth, **member.local}
        out.write(struct.pack(
            "<4s5H3I2H", said["magic"] or b"PK\3\4", 20, said["flags"], said["method"], 0, 0x21, said["crc"], said["packed"],
            said["size"], len(said["name"]), len(said["extra"]),
        ) + said["name"] + said["extra"] + packed + (member.descriptor or b""))  # fmt: skip
        said = {**truth, **member.central}
        if said.get("absent"):
            continue
        count += 1
        central.write(struct.pack(
            "<4s6H3I5H2I", b"PK\1\2", 0x0314, 20, said["flags"], said["method"], 0, 0x21, said["crc"], said["packed"],
            said["size"], len(said["name"]), len(said["extra"]), len(said["comment"]), said["disk"], 0, said["attributes"],
            said["offset"],
        ) + said["name"] + said["extra"] + said["comment"])  # fmt: skip
    offset, directory = out.tell(), central.getvalue()
    out.write(directory + between)
    if zip64 is not None:
        at = out.tell()
        wide = {"entries": count, "size": len(directory), "offset": offset, "record": 44, **zip64}
        out.write(struct.pack(
            "<4sQ2H2I4Q", b"PK\6\6", wide["record"], 45, 45, 0, 0, wide["entries"], wide["entries"], wide["size"], wide["offset"],
        ))  # fmt: skip
        where = {"at": at, "disks": 1, **(locator or {})}
        out.write(struct.pack("<4sIQI", b"PK\6\7", 0, where["at"], where["disks"]))
    last = {
        "entries": count,
        "size": len(directory),
        "offset": offset,
        "comment": len(comment),
        "disk": 0,
        **(end or {}),
    }
    out.write(struct.pack(
        "<4s4H2IH", b"PK\5\6", last["disk"], 0, last["entries"], last["entries"], last["size"], last["offset"], last["comment"],
    ) + comment)  # fmt: skip
    return out.getvalue() + suffix


def wheel(*extra: ZipMember, files: Mapping[str, bytes] | None = None, **options: object) -> bytes:
    """A wheel whose RECORD lists ``extra`` correctly, so that nothing but ``extra``'s lie is wrong with it."""
    named = {member.name: member.body for member in extra if not member.name.endswith("/")}
    members = zip_members(wheel_files(files))
    good = wheel_files({**(files or {}), **named})
    members[-1].body = good[f"{INFO}/RECORD"]
    return write_zip([*extra, *members], **options)  # type: ignore[arg-type]


@dataclass
class TarMember:
    """A member; ``raw`` fields overwrite parts of its header after the truth was written, before the checksum."""

    name: str
    body: bytes = b""
    flag: bytes = b"0"
    target: str = ""
    size: bytes | None = None
    magic: bytes = b"ustar\x0000"
    prefix: bytes = b""
    checksum: bytes | None = None


def tar_header(member: TarMember) -> bytes:
    header = bytearray(512)
    header[0:100] = member.name.encode()[:100].ljust(100, b"\0")
    header[100:124] = b"0000644\x000000000\x000000000\x00"
    header[124:136] = (member.size or b"%011o\0" % len(member.body)).ljust(12, b"\0")
    header[136:148] = b"00000000000\0"
    header[148:156] = b" " * 8
    header[156:157] = member.flag
    header[157:257] = member.target.encode()[:100].ljust(100, b"\0")
    header[257:265] = member.magic
    header[345:500] = member.prefix.ljust(155, b"\0")
    header[148:156] = member.checksum or b"%06o\0 " % sum(header)
    return bytes(header)


def write_tar(members: Iterable[TarMember], *, end: bytes = bytes(1024)) -> bytes:
    parts = [tar_header(member) + member.body + bytes(-len(member.body) % 512) for member in members]
    return b"".join(parts) + end


def pax(records: Mapping[str, str], flag: bytes = b"x") -> TarMember:
    body = b""
    for key, value in records.items():
        rest = b" " + key.encode() + b"=" + value.encode("utf-8", "surrogateescape") + b"\n"
        length = len(rest) + 1
        while len(str(length)) + len(rest) != length:
            length += 1
        body += str(length).encode() + rest
    return TarMember("PaxHeaders/x", body, flag)


def sdist_members() -> list[TarMember]:
    return [
        TarMember("demo-1.0/", flag=b"5"),
        TarMember("demo-1.0/PKG-INFO", METADATA),
        TarMember("demo-1.0/demo/__init__.py", b"answer = 42\n"),
    ]


def sdist(*extra: TarMember, end: bytes = bytes(1024)) -> bytes:
    return gzip.compress(write_tar([*sdist_members(), *extra], end=end), mtime=0)
