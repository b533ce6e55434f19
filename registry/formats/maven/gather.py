"""A program: what a Maven artifact needs at run time, from one repository into a directory.

``python -m registry.formats.maven.gather REQUEST TOKEN_FILE``; what REQUEST has is ``Request``. It runs no code of
anybody: POMs are read, files are kept. Every file's checksum is compared with what the repository says of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import requests

from registry.errors import Invalid
from registry.formats.maven.checksums import header_name, read_checksum
from registry.formats.maven.collect import Artifact, Collector, Unsolvable
from registry.formats.maven.coordinates import SNAPSHOT, base_version
from registry.formats.maven.effective import Coordinates, Lacking, Poms, check_file_part, checked
from registry.formats.maven.pom_tree import MOST_BYTES, BadPom, Machine
from registry.formats.maven.xml_reader import BadXml, read_texts

MOST_FILE_BYTES = 4 << 30
_TRIES = 4
_SECONDS = (10.0, 60.0)
_PIECE_BYTES = 1 << 18
_VERSION = ("metadata", "versioning", "versions", "version")
_BUILD = ("metadata", "versioning", "snapshotVersions", "snapshotVersion")
_BUILD_PARTS = ("classifier", "extension", "value")


class Failed(Exception):
    """It cannot be had; ``str()`` says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """``pom`` is the artifact's own, in a file; ``into`` gets the files; what came of it is written to ``answer``.

    ``repository_url`` ends in a slash. ``authorities`` is as ``requests`` takes it, "" for the usual ones.
    """

    group: str
    artifact: str
    version: str
    pom: str
    into: str
    answer: str
    repository_url: str
    authorities: str = ""
    machine: Machine = field(default_factory=Machine)

    def as_text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def of_text(text: str) -> Request:
        """What ``as_text`` has made."""
        found = json.loads(text)
        return Request(**{**found, "machine": Machine(**found["machine"])})


class Repository:
    """One repository, and nothing else: an answer that leads away from it is a fault. Raises Failed."""

    def __init__(self, url: str, token: str, authorities: str = "") -> None:
        self._url = url
        self._session = requests.Session()
        self._session.auth = ("__token__", token)
        self._session.verify = authorities or True

    def document(self, path: str) -> bytes | None:
        """A small file; None where there is none."""
        body = bytearray()

        def take(piece: bytes) -> None:
            body.extend(piece)

        found = self._fetched(path, take, body.clear, MOST_BYTES)
        return bytes(body) if found else None

    def file(self, path: str, into: BinaryIO) -> str:
        """A file into another; its SHA-256."""
        digest = hashlib.sha256()

        def take(piece: bytes) -> None:
            digest.update(piece)
            into.write(piece)

        def again() -> None:
            nonlocal digest
            digest = hashlib.sha256()
            into.seek(0)
            into.truncate()

        if not self._fetched(path, take, again, MOST_FILE_BYTES):
            raise Failed(f"{path} is not in the repository")
        return digest.hexdigest()

    def _fetched(self, path: str, take: Callable[[bytes], object], again: Callable[[], object], most: int) -> bool:
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(2.0**attempt / 2)
            again()
            try:
                return self._once(path, take, most)
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                last = f"the repository cannot be reached: {error}"
            except _Busy as error:
                last = str(error)
            except requests.RequestException as error:
                raise Failed(f"{path}: {error}") from error
        raise Failed(f"{path}: {last}")

    def _once(self, path: str, take: Callable[[bytes], object], most: int) -> bool:
        url = self._url + quote(path, safe="/+~=@!")
        with self._session.get(url, stream=True, timeout=_SECONDS, allow_redirects=False) as answer:
            if answer.status_code == 404:
                return False
            if answer.status_code == 429 or answer.status_code >= 500:
                raise _Busy(f"the repository answers {answer.status_code}")
            if answer.status_code != 200:
                raise Failed(f"{path}: the repository answers {answer.status_code}: {_beginning(answer)}")
            digests = {name: hashlib.new(name, usedforsecurity=False) for name in ("sha256", "sha1")}
            taken = 0
            for piece in answer.iter_content(_PIECE_BYTES):
                taken += len(piece)
                if taken > most:
                    raise Failed(f"{path} is larger than {most} bytes")
                for digest in digests.values():
                    digest.update(piece)
                take(piece)
            told = {name: answer.headers.get(header_name(name), "") for name in digests}
        name = "sha256" if told["sha256"] else "sha1"
        wanted = told[name] or self._checksum(path, name)
        if wanted.lower() != digests[name].hexdigest():
            raise Failed(f"{path}: its {name} is {digests[name].hexdigest()}, and the repository says {wanted}")
        return True

    def _checksum(self, path: str, name: str) -> str:
        url = f"{self._url}{quote(path, safe='/+~=@!')}.{name}"
        with self._session.get(url, stream=True, timeout=_SECONDS, allow_redirects=False) as answer:
            if answer.status_code != 200:
                raise Failed(f"{path}: the repository has no checksum of it")
            try:
                return read_checksum(_beginning(answer).encode(), name)
            except Invalid as error:
                raise Failed(f"{path}: {error}") from error


def _beginning(answer: requests.Response) -> str:
    return bytes(next(answer.iter_content(300), b"")).decode(errors="replace")


class _Busy(Exception):
    """The repository cannot answer now."""


class _Layout:
    """Where files lie in a repository, snapshots looked up."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._builds: dict[Coordinates, dict[tuple[str, str], str]] = {}

    def path(self, at: Coordinates, extension: str, classifier: str = "") -> str:
        """The path of a file."""
        checked(at)
        for part in filter(None, (extension, classifier)):
            check_file_part(part)
        version = (
            self._builds_of(at).get((classifier, extension), at.version)
            if at.version.endswith(SNAPSHOT)
            else at.version
        )
        tail = f"-{classifier}" if classifier else ""
        return f"{_folder(at.group, at.artifact)}/{base_version(at.version)}/{at.artifact}-{version}{tail}.{extension}"

    def versions(self, group: str, artifact: str) -> Sequence[str]:
        """All versions that the repository lists."""
        return [text for _, text in self._texts(f"{_folder(group, artifact)}/maven-metadata.xml", (_VERSION,)) if text]

    def _builds_of(self, at: Coordinates) -> dict[tuple[str, str], str]:
        """The newest build of a snapshot, for each of its files."""
        if at not in self._builds:
            found: dict[tuple[str, str], str] = {}
            current: dict[str, str] = {}
            wanted = (_BUILD, *((*_BUILD, name) for name in _BUILD_PARTS))
            for path, text in self._texts(f"{_folder(at.group, at.artifact)}/{at.version}/maven-metadata.xml", wanted):
                if path != _BUILD:
                    current[path[-1]] = text
                    continue
                if value := current.get("value"):
                    found[(current.get("classifier", ""), current.get("extension", ""))] = checked(
                        Coordinates(at.group, at.artifact, value)
                    ).version
                current = {}
            self._builds[at] = found
        return self._builds[at]

    def _texts(self, path: str, wanted: Sequence[tuple[str, ...]]) -> list[tuple[tuple[str, ...], str]]:
        body = self._repository.document(path)
        if body is None:
            return []
        try:
            return [each for each in read_texts(body, wanted, limit_bytes=MOST_BYTES) if each[0] in wanted]
        except BadXml as error:
            raise Failed(f"{path} cannot be read: {error}") from error


def _folder(group: str, artifact: str) -> str:
    return f"{group.replace('.', '/')}/{artifact}"


def gather(wanted: Request, token: str) -> dict[str, str]:
    """Fetch all that is needed: names of files in the order of the class path, with their SHA-256. Raises Failed."""
    repository = Repository(wanted.repository_url, token, wanted.authorities)
    layout = _Layout(repository)
    root = Coordinates(wanted.group, wanted.artifact, wanted.version)
    own = Path(wanted.pom).read_bytes()

    def read(at: Coordinates) -> bytes | None:
        return own if at == root else repository.document(layout.path(at, "pom"))

    try:
        poms = Poms(read, wanted.machine)
        model = poms.effective(root)
        assert model is not None  # its text is at hand
        collected = Collector(poms, layout.versions, model).collect()
        for note in collected.notes:
            _say(note)
        return _fetch(collected.artifacts, layout, repository, Path(wanted.into))
    except (BadPom, Lacking, Unsolvable) as error:
        raise Failed(f"what {root} depends on cannot be told: {error}") from error


def _fetch(artifacts: Sequence[Artifact], layout: _Layout, repository: Repository, into: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for artifact in artifacts:
        at = artifact.at
        path = layout.path(at, artifact.extension, artifact.classifier)
        name = path.rpartition("/")[2]
        # Two groups may have an artifact of the same name.
        name = f"{at.group}.{name}" if name in found else name
        with (into / name).open("xb") as file:
            found[name] = repository.file(path, file)
        _say(f"{at} {found[name]}")
    return found


def _say(text: str) -> None:
    """Into the log of the deployment."""
    sys.stdout.write(f"{text}\n")


def main(request: str, token_file: str) -> int:
    """Do what the request says; 1 where it cannot be done, and why is printed."""
    wanted = Request.of_text(Path(request).read_text(encoding="utf-8"))
    try:
        found = gather(wanted, Path(token_file).read_text(encoding="utf-8"))
    except (Failed, OSError) as error:
        _say(str(error))
        return 1
    Path(wanted.answer).write_text(json.dumps(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.umask(0o022)
    sys.exit(main(*sys.argv[1:]))
