"""Small real distributions, made on the spot: wheels and sdists as the tools make them."""

import base64
import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

METADATA_25 = "2.5"

DESCRIPTION = "A package for tests."


def metadata(
    name: str,
    version: str,
    *,
    requires: tuple[str, ...] = (),
    requires_python: str = ">=3.8",
    description: str = DESCRIPTION,
    metadata_version: str = "2.1",
    fields: tuple[str, ...] = (),
) -> str:
    lines = [
        f"Metadata-Version: {metadata_version}",
        f"Name: {name}",
        f"Version: {version}",
        f"Summary: The {name} package",
        f"Requires-Python: {requires_python}",
        *(f"Requires-Dist: {requirement}" for requirement in requires),
        *fields,
        "Description-Content-Type: text/markdown",
        "",
        f"# {name}",
        "",
        description,
    ]
    return "\n".join(lines) + "\n"


def wheel(
    name: str,
    version: str,
    *,
    requires: tuple[str, ...] = (),
    requires_python: str = ">=3.8",
    files: Mapping[str, bytes] | None = None,
    **more: Any,
) -> tuple[str, bytes]:
    """File name and bytes of a pure wheel with one module."""
    module = name.replace("-", "_").lower()
    info = f"{module}-{version}.dist-info"
    contents = {f"{module}/__init__.py": f"__version__ = {version!r}\n".encode(), **(files or {})}
    contents[f"{info}/METADATA"] = metadata(
        name, version, requires=requires, requires_python=requires_python, **more
    ).encode()
    contents[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = "".join(f"{path},{_record_hash(body)},{len(body)}\n" for path, body in contents.items())
    contents[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, body in contents.items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), body, zipfile.ZIP_DEFLATED)
    return f"{module}-{version}-py3-none-any.whl", buffer.getvalue()


def sdist(
    name: str,
    version: str,
    *,
    files: Mapping[str, bytes] | None = None,
    buildspec: str | None = None,
    **more: Any,
) -> tuple[str, bytes]:
    """File name and bytes of an sdist with one module and, if given, a buildspec.yml."""
    module = name.replace("-", "_").lower()
    top = f"{module}-{version}"
    contents = {
        f"{top}/PKG-INFO": metadata(name, version, **more).encode(),
        f"{top}/pyproject.toml": (
            f'[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n\n'
            f'[project]\nname = "{name}"\nversion = "{version}"\n'
        ).encode(),
        f"{top}/{module}/__init__.py": f"__version__ = {version!r}\n".encode(),
        **{f"{top}/{path}": body for path, body in (files or {}).items()},
    }
    if buildspec is not None:
        contents[f"{top}/buildspec.yml"] = buildspec.encode()
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, body in contents.items():
            info = tarfile.TarInfo(path)
            info.size = len(body)
            info.mtime = 1_577_836_800
            archive.addfile(info, io.BytesIO(body))
    return f"{top}.tar.gz", gzip.compress(raw.getvalue(), mtime=0)


def save(folder: Path, *distributions: tuple[str, bytes]) -> list[Path]:
    """Write distributions to a folder; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for filename, body in distributions:
        path = folder / filename
        path.write_bytes(body)
        paths.append(path)
    return paths


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _record_hash(body: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()
