"""Maven projects made on the spot, ``mvn`` in a home of its own, and deployments by plain requests."""

import hashlib
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import requests

from tests.harness.clients import Done
from tests.harness.server import ROOT, Server

GROUP = "com.acme"


def pom(artifact: str, version: str, *, group: str = GROUP, packaging: str = "jar", more: str = "") -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<project xmlns="http://maven.apache.org/POM/4.0.0">\n'
        f"<modelVersion>4.0.0</modelVersion><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
        f"<version>{version}</version><packaging>{packaging}</packaging>\n"
        "<properties><project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>"
        "<maven.compiler.source>8</maven.compiler.source><maven.compiler.target>8</maven.compiler.target></properties>\n"
        f"{more}\n</project>\n"
    )


def jar(**files: str) -> bytes:
    """A jar with some members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in {"META-INF/MANIFEST.MF": "Manifest-Version: 1.0\n", **files}.items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), text)
    return buffer.getvalue()


def metadata(*versions: str) -> str:
    """What a client sends last: an artifact's versions as it has come to know them."""
    listed = "".join(f"<version>{version}</version>" for version in versions)
    return f"<metadata><versioning><versions>{listed}</versions></versioning></metadata>"


def digest(body: bytes, algorithm: str = "sha1") -> str:
    return hashlib.new(algorithm, body).hexdigest()


class Repository:
    """A repository as plain requests see it."""

    def __init__(self, server: Server, token: str | None, name: str = "dev") -> None:
        self.url = f"{server.url}/maven/default/{name}/"
        self.auth = ("x", token) if token else None
        self.session = requests.Session()

    def put(self, path: str, body: bytes | str = b"", **headers: str) -> requests.Response:
        return self.session.put(self.url + path, data=body, auth=self.auth, headers=headers, timeout=60)

    def get(self, path: str, **headers: str) -> requests.Response:
        return self.session.get(self.url + path, auth=self.auth, headers=headers, timeout=60)

    def head(self, path: str) -> requests.Response:
        return self.session.head(self.url + path, auth=self.auth, timeout=60)

    def delete(self, path: str) -> requests.Response:
        return self.session.delete(self.url + path, auth=self.auth, timeout=60)

    def send(self, artifact: str, version: str, *, group: str = GROUP) -> None:
        """All files of a release with their checksums, as mvn sends them, without the metadata that finishes it."""
        folder = f"{group.replace('.', '/')}/{artifact}/{version}"
        for extension, body in (
            ("jar", jar(**{"v.txt": version})),
            ("pom", pom(artifact, version, group=group).encode()),
        ):
            path = f"{folder}/{artifact}-{version}.{extension}"
            for suffix, content in (("", body), (".sha1", digest(body)), (".md5", digest(body, "md5"))):
                answer = self.put(path + suffix, content)
                assert answer.status_code == 201, answer.text

    def finish(self, artifact: str, *versions: str, group: str = GROUP) -> requests.Response:
        """The metadata that says that everything is there."""
        return self.put(f"{group.replace('.', '/')}/{artifact}/maven-metadata.xml", metadata(*versions))

    def deploy(self, artifact: str, version: str, *, group: str = GROUP) -> None:
        self.send(artifact, version, group=group)
        answer = self.finish(artifact, version, group=group)
        assert answer.status_code == 201, answer.text

    def versions(self, artifact: str, *, group: str = GROUP) -> list[str]:
        """What the artifact's metadata lists; nothing where there is none."""
        from xml.etree import ElementTree as ET

        answer = self.get(f"{group.replace('.', '/')}/{artifact}/maven-metadata.xml")
        if answer.status_code == 404:
            return []
        assert answer.status_code == 200, answer.text
        return [element.text or "" for element in ET.fromstring(answer.content).iter("version")]


class Mvn:
    """``mvn`` with a home of its own: settings, local repository and all."""

    def __init__(self, home: Path, *, program: str = "mvn") -> None:
        self.home = home
        self.program = program
        (home / ".m2").mkdir(parents=True)

    @property
    def local(self) -> Path:
        """What it has fetched and built."""
        return self.home / ".m2" / "repository"

    def login(self, server: Server, token: str, *, tool: str = "mvn") -> None:
        """Set it up as people do."""
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "config.cli.main",
                "login",
                "--tool",
                tool,
                "--repository",
                "dev",
                "--url",
                server.url,
            ],
            cwd=ROOT,
            env={**server.child_environment(), "HOME": str(self.home), "ENTREPOT_TOKEN": token},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr

    def mirror(self, url: str) -> None:
        """Take everything from ``url``, as nobody."""
        place = f"<mirror><id>m</id><mirrorOf>*</mirrorOf><url>{url}</url></mirror>"
        (self.home / ".m2" / "settings.xml").write_text(f"<settings><mirrors>{place}</mirrors></settings>")

    def run(self, *arguments: str, cwd: Path | None = None) -> Done:
        options = f"-Duser.home={self.home} -XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
        return run([self.program, "-B", "-ntp", *arguments], self.home, cwd=cwd, MAVEN_OPTS=options)

    def project(self, name: str, text: str, **files: str) -> Path:
        """A folder with a POM and more files."""
        folder = self.home / name
        for path, content in {"pom.xml": text, **files}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(content)
        return folder


def run(command: list[str], home: Path, *, cwd: Path | None = None, **more: str) -> Done:
    """Run a client with a home of its own, and nothing of this person's environment but the path."""
    kept = {name: os.environ[name] for name in ("PATH", "JAVA_HOME") if name in os.environ}
    done = subprocess.run(
        command,
        cwd=cwd or home,
        env={**kept, "HOME": str(home), **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    return Done(done.returncode, done.stdout)
