"""Maven projects made on the spot, ``mvn`` in a home of its own, and deployments by plain requests."""

import hashlib
import io
import os
import subprocess
import zipfile
from pathlib import Path

import requests

from tests.harness.clients import Done
from tests.harness.server import Server

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


SETTINGS = """<settings>
<localRepository>{local}</localRepository>
<interactiveMode>false</interactiveMode>
<servers><server><id>entrepot</id><username>alice</username><password>{token}</password></server></servers>
<mirrors><mirror><id>entrepot</id><mirrorOf>*</mirrorOf><url>{url}</url></mirror></mirrors>
<profiles><profile><id>entrepot</id>
<repositories><repository><id>entrepot</id><url>{url}</url>
<releases><enabled>true</enabled><updatePolicy>always</updatePolicy></releases>
<snapshots><enabled>true</enabled><updatePolicy>always</updatePolicy></snapshots></repository></repositories>
</profile></profiles><activeProfiles><activeProfile>entrepot</activeProfile></activeProfiles>
</settings>
"""


class Mvn:
    """``mvn`` with settings, a local repository and a home of its own."""

    def __init__(self, home: Path, *, program: str = "mvn") -> None:
        self.home = home
        self.program = program
        self.settings = home / "settings.xml"
        home.mkdir(parents=True, exist_ok=True)

    def use(self, url: str, token: str, *, local: str = "repository") -> "Mvn":
        """Take everything from ``url``; without a token it asks for nothing it is not given anonymously."""
        text = SETTINGS.format(local=self.home / local, url=url, token=token)
        self.settings.write_text(text)
        return self

    def run(self, *arguments: str, cwd: Path | None = None) -> Done:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            # Not the person's settings, and one processor's worth of compiler threads.
            "MAVEN_OPTS": f"-Duser.home={self.home} -XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
            **({"JAVA_HOME": os.environ["JAVA_HOME"]} if "JAVA_HOME" in os.environ else {}),
        }
        done = subprocess.run(
            [self.program, "-B", "-ntp", "-e", "-s", str(self.settings), *arguments],
            cwd=cwd or self.home,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        return Done(done.returncode, done.stdout)

    def project(self, name: str, text: str, **files: str) -> Path:
        """A folder with a POM and more files."""
        folder = self.home / name
        for path, content in {"pom.xml": text, **files}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(content)
        return folder
