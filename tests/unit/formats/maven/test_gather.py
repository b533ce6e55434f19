"""What an artifact needs, fetched: from one repository, with every checksum compared; and which of a version's files is it."""

from __future__ import annotations

import hashlib
import io
import shutil
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from registry.formats.maven.gather import Failed, Request, gather
from registry.formats.maven.native import MavenInstaller
from registry.native import Installation, InstallFault, NativeVersion

SHOP = NativeVersion("com.acme", "shop", "1.0")
DEPENDENCY = (
    "<dependency><groupId>g.h</groupId><artifactId>lib</artifactId><version>1.1-SNAPSHOT</version></dependency>"
)
POM = f"<project><groupId>com.acme</groupId><artifactId>shop</artifactId><version>1.0</version><dependencies>{DEPENDENCY}</dependencies></project>"
FOLDER = "/repo/g/h/lib/1.1-SNAPSHOT"
BUILD = "<snapshotVersion><extension>jar</extension><value>1.1-20260101.120000-7</value></snapshotVersion>"
SERVED = {
    f"{FOLDER}/maven-metadata.xml": f"<metadata><versioning><snapshotVersions>{BUILD}</snapshotVersions></versioning></metadata>",
    f"{FOLDER}/lib-1.1-20260101.120000-7.jar": "a jar",
}


class _Served(ThreadingHTTPServer):
    """A repository by its files. ``headers`` are further ones, by path; ``asked`` is what was asked for."""

    daemon_threads = True

    def __init__(self, files: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.files, self.asked = files, list[tuple[str, str]]()
        self.headers: dict[str, dict[str, str]] = {}
        self.status: dict[str, int] = {}


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        served: Any = self.server
        served.asked.append((self.path, self.headers.get("Authorization", "")))
        body = served.files.get(self.path)
        self.send_response(served.status.get(self.path, 200 if body is not None else 404))
        for name, value in served.headers.get(self.path, {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write((body or "").encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def served() -> Iterator[_Served]:
    with _Served(dict(SERVED)) as server:
        for path, text in SERVED.items():
            server.headers[path] = {"X-Checksum-Sha256": hashlib.sha256(text.encode()).hexdigest()}
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def gathered(served: _Served, folder: Path) -> dict[str, str]:
    (folder / "pom.xml").write_text(POM)
    lib = folder / "lib"
    lib.mkdir()
    url = f"http://127.0.0.1:{served.server_port}/repo/"
    return gather(Request("com.acme", "shop", "1.0", str(folder / "pom.xml"), str(lib), "", url), "secret")


def test_the_newest_build_of_a_snapshot_is_fetched_with_its_checksum(served: _Served, tmp_path: Path) -> None:
    assert gathered(served, tmp_path) == {"lib-1.1-20260101.120000-7.jar": hashlib.sha256(b"a jar").hexdigest()}
    assert (tmp_path / "lib" / "lib-1.1-20260101.120000-7.jar").read_text() == "a jar"
    assert all(path.startswith(FOLDER) and rights.startswith("Basic ") for path, rights in served.asked)


@pytest.mark.parametrize(
    ("headers", "status", "words"),
    [
        ({"X-Checksum-Sha256": "0" * 64}, 200, "its sha256 is .* and the repository says 0000"),
        ({}, 200, "has no checksum"),
        ({"Location": "http://localhost:1/elsewhere.jar"}, 302, "answers 302"),
        ({}, 404, "is not in the repository"),
        ({}, 403, "answers 403"),
    ],
)
def test_what_is_not_what_the_repository_promises_is_not_taken(
    served: _Served, tmp_path: Path, headers: dict[str, str], status: int, words: str
) -> None:
    jar = f"{FOLDER}/lib-1.1-20260101.120000-7.jar"
    served.headers[jar], served.status[jar] = headers, status
    with pytest.raises(Failed, match=words):
        gathered(served, tmp_path)


def _jar(manifest: str, *more: str) -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", manifest)
        for name in more:
            archive.writestr(name, "x")
    return body.getvalue()


def _installed(tmp_path: Path, extension: str, body: bytes) -> Path:
    """An artifact installed that needs nothing from outside."""
    files = tmp_path / "files" / "1.0"
    files.mkdir(parents=True)
    (files / f"shop-1.0.{extension}").write_bytes(body)
    (files / "shop-1.0.pom").write_text(POM)

    def run(*_: object) -> None:
        raise AssertionError("nothing has to be fetched")

    @contextmanager
    def secret(_: str) -> Iterator[str]:
        yield "/dev/null"

    environment = tmp_path / "environment"
    names = [
        f"1.0/shop-1.0{rest}" for rest in (f".{extension}", ".pom", "-sources.jar", f".{extension}.asc", ".module")
    ]
    chosen = MavenInstaller().choose(SHOP, names, runs_package_code=False)
    wanted = {"environment": environment, "scratch": tmp_path, "stable_path": "/srv/shop/current", "token": "t"}
    wanted |= {"repository_url": "http://127.0.0.1:1/", "authorities": "", "runs_package_code": False}
    paths = [tmp_path / "files" / name for name in chosen]
    MavenInstaller().install(Installation(version=SHOP, files=paths, run=run, secret_file=secret, **wanted))  # type: ignore[arg-type]
    assert MavenInstaller().installed_version(environment, SHOP) == "1.0"
    return environment


def test_a_file_that_is_no_jar_lies_there_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))  # where none is: it is another program's
    environment = _installed(tmp_path, "war", b"a war")
    assert sorted(path.name for path in environment.iterdir()) == ["installed.json", "pom.xml", "shop.war"]
    (environment / "shop.war").write_bytes(b"another")
    assert MavenInstaller().installed_version(environment, SHOP) == ""
    with pytest.raises(InstallFault, match="there is no java on this machine in JAVA_HOME"):
        _installed(tmp_path / "jar", "jar", _jar("Main-Class: a.B\n"))


@pytest.mark.skipif(shutil.which("java") is None, reason="there is no java")
def test_a_jar_that_carries_its_libraries_needs_none(tmp_path: Path) -> None:
    manifest = (
        "Manifest-Version: 1.0\r\nMain-Class: org.example.loader.\r\n JarLauncher\r\n\r\nName: x\r\nMain-Class: no\r\n"
    )
    environment = _installed(tmp_path, "jar", _jar(manifest, "BOOT-INF/lib/a.jar"))
    assert 'org.example.loader.JarLauncher "$@"' in (environment / "bin" / "shop").read_text()
    assert not (environment / "lib").exists()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["1.0/shop-1.0.jar"], "has no POM"),
        (["1.0/shop-1.0.pom", "1.0/shop-1.0-sources.jar"], "it has none"),
        (["1.0/shop-1.0.pom", "1.0/shop-1.0.zip", "1.0/shop-1.0.tar.gz"], "shop-1.0.tar.gz, 1.0/shop-1.0.zip"),
        (["../../etc/passwd", "shop.jar"], "it has none"),
    ],
)
def test_a_version_without_a_main_file_is_refused(names: list[str], words: str) -> None:
    with pytest.raises(InstallFault, match=words):
        MavenInstaller().choose(SHOP, names, runs_package_code=True)
