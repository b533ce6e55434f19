"""The distributions that every server is given: the same bytes, made from a fixed seed."""

from __future__ import annotations

import base64
import hashlib
import io
import random
import zipfile
from dataclasses import dataclass

from tests.harness import packages

MIB = 1024 * 1024
FIVE, MANY, SMALL, LARGE = "bench-five", "bench-many", "bench-small", "bench-large"


@dataclass(frozen=True)
class Distribution:
    """One wheel of a project."""

    project: str
    version: str
    filename: str
    body: bytes

    def form(self) -> list[tuple[str, str]]:
        """The text fields that twine sends with a file."""
        return [
            (":action", "file_upload"),
            ("protocol_version", "1"),
            ("metadata_version", "2.1"),
            ("name", self.project),
            ("version", self.version),
            ("summary", f"The {self.project} package"),
            ("description", f"# {self.project}\n\nA package for tests."),
            ("description_content_type", "text/markdown"),
            ("requires_python", ">=3.8"),
            ("filetype", "bdist_wheel"),
            ("pyversion", "py3"),
            ("md5_digest", hashlib.md5(self.body, usedforsecurity=False).hexdigest()),
            ("sha256_digest", hashlib.sha256(self.body).hexdigest()),
            ("blake2_256_digest", hashlib.blake2b(self.body, digest_size=32).hexdigest()),
        ]


def wheel(project: str, version: str, *, payload_bytes: int = 0) -> Distribution:
    """A sound wheel, uncompressed so that making it costs little, with ``payload_bytes`` of random content in it."""
    module = project.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    contents = {
        f"{module}/__init__.py": f"__version__ = {version!r}\n".encode(),
        f"{module}/data.bin": payload(project + version, payload_bytes),
        f"{info}/METADATA": packages.metadata(project, version).encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},{_record_hash(body)},{len(body)}\n" for path, body in contents.items())
    contents[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path, body in contents.items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), body)
    return Distribution(project, version, f"{module}-{version}-py3-none-any.whl", buffer.getvalue())


def payload(seed: str, size_bytes: int) -> bytes:
    chance = random.Random(seed)
    # In pieces: randbytes makes one integer of all it is asked for, which ends at 256 MiB.
    return b"".join(chance.randbytes(min(MIB, size_bytes - start)) for start in range(0, size_bytes, MIB))


def _record_hash(body: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()


def batch(name: str, count: int) -> list[Distribution]:
    """``count`` small wheels never seen before: five versions of each of some projects."""
    return [wheel(f"bench-{name}-{number // 5}", f"1.{number % 5}") for number in range(count)]
