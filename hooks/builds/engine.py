"""A container engine (Docker, or Podman's socket) through the Docker Engine API, with its errors in our words."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import docker
import docker.errors
import requests.exceptions

from hooks.builds.executor import ExecutorError

LOG = logging.getLogger(__name__)

API_VERSION = "1.41"
TIMEOUT_SECONDS = 60
PULL_SECONDS = 1800
_REMOVE_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)
_MAX_FILE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Image:
    """An image of the engine: ``digest`` (``sha256:…``, which names its content), its variables and size."""

    digest: str
    names: tuple[str, ...]
    variables: Mapping[str, str]
    size_bytes: int = 0
    created: str = ""


class Attached:
    """A container's standard streams as descriptors.

    What is written goes in as it is; what is read is in the engine's frames (one byte stream, three zero, four length).
    """

    def __init__(self, stream: Any) -> None:
        """Take the stream of docker's ``attach_socket`` over."""
        self._stream = stream
        self.writing = os.dup(stream.fileno())
        self.reading = os.dup(stream.fileno())
        os.set_blocking(self.writing, True)  # the library sets a time-out, which makes the connection non-blocking

    def release(self) -> tuple[int, int]:
        """Hand both descriptors over; this object holds nothing any more."""
        self._stream._response.close()  # noqa: SLF001 - the library keeps the connection alive by it
        self._stream.close()
        return self.writing, self.reading


class Engine:
    """One engine at a UNIX socket. Thread-safe. Every method raises ExecutorError when the engine cannot do it."""

    def __init__(self, socket_path: str) -> None:
        """Touches nothing yet."""
        self._socket_path = socket_path
        self._local = threading.local()
        self._greeting: Mapping[str, str] = {}

    def describe(self) -> str:
        """The engine's name and version; asks it (Podman takes a second over the question)."""
        with self._errors("does not answer"):
            version = str(self._client().version().get("Version", ""))
        return f"{'Podman' if self.is_podman else 'Docker'} {version}"

    @property
    def is_podman(self) -> bool:
        """Whether it is Podman, which takes a profile of system calls as a path and not as a text."""
        self._client()
        return "libpod-api-version" in self._greeting

    def create(self, image: str, name: str, *, host: Mapping[str, Any], **options: Any) -> str:
        """Make a container that does not run yet; its identifier."""
        client = self._client()
        with self._errors("makes no container"):
            config = client.create_host_config(**host)
            made = client.create_container(image, name=name, host_config=config, **options)
        return str(made["Id"])

    def start(self, container: str) -> Attached:
        """Take hold of a container's streams, then let it run."""
        client = self._client()
        with self._errors("starts no container"):
            stream = client.attach_socket(container, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
            attached = Attached(stream)
            client.start(container)
        return attached

    def process(self, container: str) -> int:
        """Number of a running container's first process on the machine, 0 when it does not run."""
        with self._errors("tells nothing of a container"):
            return int(self._client().inspect_container(container)["State"].get("Pid", 0))

    def remove(self, container: str) -> None:
        """Kill and remove a container with its anonymous volumes; one that is gone is fine."""
        for pause in (*_REMOVE_PAUSES, None):
            try:
                with self._errors("removes no container"), contextlib.suppress(docker.errors.NotFound):
                    self._client().remove_container(container, force=True, v=True)
            except ExecutorError:
                if pause is None:
                    raise
                time.sleep(pause)  # one that is ending by itself just now is neither running nor stopped to Podman
            else:
                return

    def containers(self, label: str) -> Sequence[tuple[str, Mapping[str, str]]]:
        """Identifier and labels of every container with ``label`` (``name=value``), running or not."""
        with self._errors("lists no containers"):
            found = self._client().containers(all=True, filters={"label": [label]})
        return [(str(entry["Id"]), dict(entry.get("Labels") or {})) for entry in found]

    def image(self, name: str) -> Image | None:
        """The image called ``name``; None when it is not on this machine."""
        with self._errors("tells nothing of an image"):
            try:
                found = self._client().inspect_image(name)
            except docker.errors.ImageNotFound:
                return None
        pairs = (entry.partition("=") for entry in (found.get("Config") or {}).get("Env") or ())
        digest = str(found["Id"])
        return Image(
            digest if digest.startswith("sha256:") else f"sha256:{digest}",
            tuple(found.get("RepoTags") or ()),
            {key: value for key, _, value in pairs},
            int(found.get("Size", 0)),
            str(found.get("Created", "")),
        )

    def images(self, label: str) -> Sequence[Image]:
        """Every image with ``label`` (``name`` or ``name=value``)."""
        with self._errors("lists no images"):
            found = self._client().images(filters={"label": [label]})
        listed = (self.image(str(entry["Id"])) for entry in found)
        return [image for image in listed if image is not None]

    def pull(self, name: str) -> None:
        """Have an image from its registry."""
        client = self._connect(PULL_SECONDS)
        with self._errors(f"cannot pull {name}"):
            client.pull(name)

    def load(self, archive: BinaryIO, repository: str, tag: str, changes: Sequence[str]) -> Image:
        """Make an image out of a tar of its root file system. ``changes`` are lines of a Dockerfile (ENV, LABEL, CMD)."""
        client = self._connect(PULL_SECONDS)
        with self._errors("imports no image"):
            said = str(client.import_image_from_data(archive, changes=list(changes))).strip()
            made = re.findall(r'"status": ?"(sha256:[0-9a-f]{64})"', said)
            if not made:  # what went wrong after the answer had begun is in it
                raise ExecutorError(f"the container engine imports no image: {said[-500:]}")
            client.tag(made[-1], repository, tag)  # Podman would not take it with the import
        image = self.image(f"{repository}:{tag}")
        if image is None:
            raise ExecutorError(f"the container engine has lost the image {repository}:{tag}")
        return image

    def file_of(self, container: str, path: str) -> str:
        """A text file of a container (at most 256 KiB); "" when there is none."""
        with self._errors("reads no file"):
            try:
                pieces, _ = self._client().get_archive(container, path)
            except docker.errors.NotFound:
                return ""
            body = bytearray()
            for piece in pieces:
                body += piece
                if len(body) > _MAX_FILE_BYTES:
                    raise ExecutorError(f"{path} of the image is larger than {_MAX_FILE_BYTES} bytes")
        with tarfile.open(fileobj=io.BytesIO(bytes(body))) as archive:
            for entry in archive:
                content = archive.extractfile(entry) if entry.isfile() else None
                if content is not None:
                    return content.read().decode(errors="replace")
        return ""

    def _client(self) -> Any:
        # A client holds connections that one thread at a time may use.
        found = getattr(self._local, "client", None)
        if found is None:
            found = self._local.client = self._connect(TIMEOUT_SECONDS)
        return found

    def _connect(self, timeout_seconds: int) -> Any:
        with self._errors("does not answer"):
            if not self._greeting:
                # The library would learn the version by a question that takes Podman seconds to answer.
                client = docker.APIClient(f"unix://{self._socket_path}", API_VERSION, TIMEOUT_SECONDS)
                answer = client.get(f"{client.base_url}/_ping")
                answer.raise_for_status()
                self._greeting = {name.lower(): value for name, value in answer.headers.items()}
            version = self._greeting.get("api-version", API_VERSION)
            return docker.APIClient(f"unix://{self._socket_path}", version, timeout_seconds)

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except docker.errors.APIError as error:
            if isinstance(error, docker.errors.NotFound):
                raise ExecutorError(f"the container engine {what}: {error.explanation}") from error
            raise ExecutorError(f"the container engine {what}: {error.explanation or error}") from error
        except (docker.errors.DockerException, requests.exceptions.RequestException, OSError) as error:
            raise ExecutorError(f"the container engine at {self._socket_path} {what}: {error}") from error
