"""npm packages and Maven artifacts: made, published, and asked for as their clients do."""

from __future__ import annotations

import io
import zipfile
from typing import Any
from urllib.parse import quote

import requests

from bench.fixtures import FIVE, SMALL, payload
from bench.load import Ask, Unusable
from bench.processes import loopback_session
from bench.targets import Target, get
from tests.harness import maven, npm_packages

FULL = "application/json"
SHORT = "application/vnd.npm.install-v1+json"
_ACCEPT = {FULL: FULL, SHORT: f"{SHORT}; q=1.0, {FULL}; q=0.8, */*"}
# What a version of an ordinary library says of itself: some 800 bytes of each version in a packument.
_MANIFEST: dict[str, Any] = {
    "license": "MIT",
    "main": "index.js",
    "bin": {"bench": "index.js"},
    "engines": {"node": ">=18"},
    "keywords": ["bench", "library", "measure"],
    "author": {"name": "A. Author", "email": "author@example.org"},
    "repository": {"type": "git", "url": "git+https://git.example.org/bench/library.git"},
    "scripts": {"test": "mocha", "lint": "eslint .", "build": "webpack"},
    "dependencies": {f"bench-dependency-{number}": f"^{number}.1.0" for number in range(8)},
    "devDependencies": {"eslint": "^9.0.0", "mocha": "^10.0.0", "webpack": "^5.0.0"},
}
TARBALL_BYTES, JAR_BYTES = 9500, 9900  # the rest of 10 KiB is the packages' own files
MAVEN_PATH = f"com/acme/{FIVE}"


def npm_document(name: str, version: str, *, payload_bytes: int = 0) -> dict[str, Any]:
    """What ``npm publish`` sends."""
    body = npm_packages.tarball(name, version, files={"data.bin": payload(name + version, payload_bytes)}, **_MANIFEST)
    return npm_packages.publish_document(name, version, body, **_MANIFEST)


def publish_npm(target: Target, name: str, version: str, *, payload_bytes: int = 0) -> None:
    """Raises Unusable."""
    document = npm_document(name, version, payload_bytes=payload_bytes)
    with loopback_session() as session:
        address = target.base + quote(name, safe="@")
        _check(session.put(address, json=document, headers=target.headers, timeout=120))


def fill_npm(target: Target) -> None:
    """The packages of the reading rows."""
    for number in range(5):
        publish_npm(target, FIVE, f"1.{number}.0")
    publish_npm(target, SMALL, "1.0.0", payload_bytes=TARBALL_BYTES)


def packument(target: Target, name: str, media: str, count: int) -> Ask:
    """The request of a packument, tried once: it must list ``count`` versions. Raises Unusable."""
    ask = Ask(target.base + name, {**target.headers, "Accept": _ACCEPT[media], "Accept-Encoding": "gzip, deflate"})
    answer = get(ask)
    found = len(answer.json()["versions"])
    if found != count:
        raise Unusable(f"{found} versions for {count}")
    if media == SHORT and "_nodeVersion" in answer.text:
        raise Unusable("not offered")
    return ask


def tarball_path() -> str:
    return f"{SMALL}/-/{SMALL}-1.0.0.tgz"


def tarball(target: Target) -> Ask:
    """The request of the small tarball, tried once. Raises Unusable."""
    return _file(Ask(target.base + tarball_path(), {**target.headers, "Accept-Encoding": "identity"}), TARBALL_BYTES)


def _file(ask: Ask, least_bytes: int) -> Ask:
    if len(get(ask).content) < least_bytes:
        raise Unusable("not the whole file")
    return ask


def maven_file(target: Target, path: str, least_bytes: int) -> Ask:
    """The request of a file of a Maven repository, tried once. Raises Unusable."""
    return _file(Ask(f"{target.base}{path}", {**target.headers, "Accept-Encoding": "gzip,deflate"}), least_bytes)


def metadata_path() -> str:
    return f"{MAVEN_PATH}/maven-metadata.xml"


def jar_path() -> str:
    return f"{MAVEN_PATH}/1.4/{FIVE}-1.4.jar"


def fill_maven(target: Target) -> None:
    """Five releases of an artifact, each of them POM and jar, and the metadata that names them."""
    versions = [f"1.{number}" for number in range(5)]
    with loopback_session() as session:
        session.headers.update(target.headers)
        for version in versions:
            folder = f"{target.base}{MAVEN_PATH}/{version}/{FIVE}-{version}"
            _check(session.put(f"{folder}.jar", data=_jar(version), timeout=60))
            _check(session.put(f"{folder}.pom", data=maven.pom(FIVE, version).encode(), timeout=60))
        _check(session.put(target.base + metadata_path(), data=maven.metadata(*versions).encode(), timeout=60))


def _jar(version: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, body in {
            "META-INF/MANIFEST.MF": b"Manifest-Version: 1.0\n",
            "data.bin": payload(version, JAR_BYTES),
        }.items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), body)
    return buffer.getvalue()


def _check(answer: requests.Response) -> None:
    if answer.status_code not in {200, 201}:
        raise Unusable(f"publish: {answer.status_code} {answer.reason}: {answer.text[:200]}")
