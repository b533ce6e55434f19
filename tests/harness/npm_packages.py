"""Small real npm packages, made on the spot, and the documents that publish and list them."""

import base64
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


def package_json(name: str, version: str, **more: Any) -> bytes:
    return json.dumps({"name": name, "version": version, "description": f"The {name} package", **more}).encode()


def tarball(
    name: str,
    version: str,
    *,
    files: Mapping[str, bytes] | None = None,
    raw: Mapping[str, bytes] | None = None,
    **more: Any,
) -> bytes:
    """A tarball as ``npm pack`` makes it. ``files`` are below the top folder, ``raw`` are whole paths; later ones win."""
    contents = {
        "package/package.json": package_json(name, version, **more),
        "package/index.js": f"module.exports = {version!r};\n".encode(),
        "package/README.md": f"# {name}\n\nA package for tests.\n".encode(),
        **{f"package/{path}": body for path, body in (files or {}).items()},
        **(raw or {}),
    }
    return tar(list(contents.items()))


def tar(members: list[tuple[str, bytes]]) -> bytes:
    """A gzipped tar with exactly these members, in order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, body in members:
            info = tarfile.TarInfo(path)
            info.size = len(body)
            info.mtime = 499_162_500  # as npm has it
            archive.addfile(info, io.BytesIO(body))
    return gzip.compress(buffer.getvalue(), mtime=0)


@dataclass(frozen=True)
class Integrity:
    """The digests of a tarball as npm writes them."""

    integrity: str
    shasum: str

    @property
    def dist(self) -> str:
        return json.dumps({"integrity": self.integrity, "shasum": self.shasum}, separators=(",", ":"))


def integrity(body: bytes) -> Integrity:
    encoded = base64.b64encode(hashlib.sha512(body).digest()).decode()
    return Integrity(f"sha512-{encoded}", hashlib.sha1(body, usedforsecurity=False).hexdigest())


def publish_document(
    name: str, version: str, body: bytes | None = None, *, tags: tuple[str, ...] = ("latest",), **manifest: Any
) -> dict[str, Any]:
    """What ``npm publish`` sends."""
    body = tarball(name, version) if body is None else body
    digests = integrity(body)
    return {
        "_id": name,
        "name": name,
        "description": f"The {name} package",
        "dist-tags": dict.fromkeys(tags, version),
        "versions": {
            version: {
                "name": name,
                "version": version,
                "_id": f"{name}@{version}",
                "_nodeVersion": "22.0.0",
                "_npmVersion": "11.0.0",
                "dist": {
                    "integrity": digests.integrity,
                    "shasum": digests.shasum,
                    "tarball": f"http://example.invalid/{name}/-/{name}-{version}.tgz",
                },
                **manifest,
            }
        },
        "access": None,
        "_attachments": {
            f"{name}-{version}.tgz": {
                "content_type": "application/octet-stream",
                "data": base64.b64encode(body).decode(),
                "length": len(body),
            }
        },
    }


def packument(
    name: str, tarballs: Mapping[str, bytes], base_url: str, *, tags: Mapping[str, str] | None = None, **dist: Any
) -> dict[str, Any]:
    """What a public registry answers: ``tarballs`` by version, ``dist`` in every version's dist."""
    versions = {}
    for version, body in tarballs.items():
        digests = integrity(body)
        filename = f"{name.rpartition('/')[2]}-{version}.tgz"
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            member = archive.extractfile("package/package.json")
            assert member is not None
            manifest = json.loads(member.read())
        versions[version] = {
            **manifest,
            "_id": f"{name}@{version}",
            "dist": {
                "integrity": digests.integrity,
                "shasum": digests.shasum,
                "tarball": f"{base_url}/{name}/-/{filename}",
                "fileCount": 3,
                "unpackedSize": 1234,
                **dist,
            },
        }
    return {
        "_id": name,
        "_rev": "42-cafe",
        "name": name,
        "dist-tags": dict(tags) if tags is not None else {"latest": list(tarballs)[-1]},
        "versions": versions,
        "time": {
            "created": "2020-01-01T00:00:00.000Z",
            "modified": "2024-01-01T00:00:00.000Z",
            **{version: f"2021-01-0{place % 9 + 1}T00:00:00.000Z" for place, version in enumerate(tarballs)},
        },
        "readme": f"# {name}",
        "maintainers": [{"name": "somebody", "email": "somebody@example.invalid"}],
    }
