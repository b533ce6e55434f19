"""A host of containers through the Docker Engine API, with its errors in our words."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import docker
import docker.errors
import requests.exceptions
from docker.tls import TLSConfig

from hooks.deployments.platform import PlatformUnavailable
from hooks.deployments.platforms.container.settings import HostSettings

API_VERSION = "1.41"
TIMEOUT_SECONDS = 60
PULL_SECONDS = 1800
MAX_STOP_SECONDS = 120
_PIECE_BYTES = 64 * 1024
MAX_LOG_BYTES = 2048
_TAKEN = ("already allocated", "already in use", "address already", "port is already")
_HTTP_UNAVAILABLE = 503


class HostRefused(Exception):
    """The host does not do it, however often it is asked; ``str()`` says why."""


class PortTaken(HostRefused):
    """Somebody else has the port that a container was to have."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container as the host lists it. ``created`` is a UNIX time."""

    id: str
    labels: Mapping[str, str]
    state: str
    created: int


@dataclass(frozen=True, slots=True)
class State:
    """How a container is. ``restarts``: how often the host has started it again after it had ended by itself."""

    is_running: bool
    was_started: bool
    exit_code: int
    restarts: int
    is_out_of_memory: bool


class ContainerHost:
    """One host. Thread-safe. Methods raise HostRefused, and PlatformUnavailable where nobody answers."""

    def __init__(self, name: str, settings: HostSettings) -> None:
        """Touches nothing yet."""
        self.name = name
        self.settings = settings
        self._local = threading.local()
        self._version = ""

    def containers(self, labels: Mapping[str, str]) -> Sequence[Container]:
        """All containers that have these labels, running or not."""
        wanted = [f"{name}={value}" if value else name for name, value in labels.items()]
        with self._errors("lists no containers"):
            found = self._client().containers(all=True, filters={"label": wanted})
        return [
            Container(
                str(entry["Id"]),
                dict(entry.get("Labels") or {}),
                str(entry.get("State", "")).lower(),
                int(entry.get("Created", 0)),
            )
            for entry in found
        ]

    def image(self, name: str) -> str | None:
        """The identifier of an image that is there; None when it is not."""
        with self._errors("tells nothing of an image"):
            try:
                return str(self._client().inspect_image(name)["Id"])
            except docker.errors.ImageNotFound:
                return None

    def pull(self, name: str) -> None:
        """Have an image from its registry; with the digest in its name it is that one or none."""
        with self._errors(f"cannot pull {name}"):
            self._connect(PULL_SECONDS).pull(name)

    def create(self, name: str, image: str, host: Mapping[str, Any], **options: Any) -> str:
        """Make a container that does not run yet; its identifier. One of the name that is there already is taken."""
        client = self._client()
        with self._errors("makes no container"):
            try:
                config = client.create_host_config(**host)
                return str(client.create_container(image, name=name, host_config=config, **options)["Id"])
            except docker.errors.APIError as error:
                if "already in use" not in str(error.explanation):
                    raise
                return str(client.inspect_container(name)["Id"])

    def start(self, container: str) -> None:
        """Let it run; one that runs goes on. Raises PortTaken, too."""
        with self._errors("starts no container"):
            self._client().start(container)

    def state(self, container: str) -> State:
        """How a container is."""
        with self._errors("tells nothing of a container"):
            found = self._client().inspect_container(container)
        state = found["State"]
        started = str(state.get("StartedAt") or "0001")
        return State(
            bool(state.get("Running")) and not state.get("Restarting"),
            not started.startswith("0001"),
            int(state.get("ExitCode") or 0),
            int(found.get("RestartCount") or 0),
            bool(state.get("OOMKilled")),
        )

    def log(self, container: str) -> str:
        """The end of what it has written, at most ``MAX_LOG_BYTES``; "" where its log is kept elsewhere."""
        with contextlib.suppress(HostRefused), self._errors("reads no log"):
            told = self._client().logs(container, stdout=True, stderr=True, tail=100)
            return bytes(told)[-MAX_LOG_BYTES:].decode(errors="replace").replace("\0", "")
        return ""

    def run_inside(self, container: str, command: Sequence[str], timeout_seconds: int) -> int | None:
        """Exit code of a command in a running container; None when it takes longer."""
        client = self._client()
        deadline = time.monotonic() + timeout_seconds
        with self._errors("runs no command"):
            made = client.exec_create(container, list(command))
            # Detached, Podman tells of no end for minutes; and the library's own stream would wait without an end.
            stream = client.exec_start(made["Id"], socket=True)
            try:
                _wait_for_end(stream.fileno(), deadline)
            finally:
                stream._response.close()  # noqa: SLF001 - the library keeps the connection alive by it
                stream.close()
            found = client.exec_inspect(made["Id"])
        return None if found["Running"] or found["ExitCode"] is None else int(found["ExitCode"])

    def stop(self, container: str) -> None:
        """Ask it to end, and end it after the time that it was made with; one that is gone is fine."""
        with self._errors("stops no container"), contextlib.suppress(docker.errors.NotFound):
            self._connect(MAX_STOP_SECONDS + TIMEOUT_SECONDS).stop(container)

    def remove(self, container: str) -> None:
        """Kill and remove it with its anonymous volumes; one that is gone is fine."""
        with self._errors("removes no container"), contextlib.suppress(docker.errors.NotFound):
            self._client().remove_container(container, force=True, v=True)

    def _client(self) -> Any:
        # A client holds connections that one thread at a time may use.
        found = getattr(self._local, "client", None)
        if found is None:
            found = self._local.client = self._connect(TIMEOUT_SECONDS)
        return found

    def _connect(self, timeout_seconds: int) -> Any:
        settings = self.settings
        tls: Any = False
        with self._errors("does not answer"):
            if settings.tls_directory:
                place = settings.tls_directory
                tls = TLSConfig(
                    client_cert=(f"{place}/cert.pem", f"{place}/key.pem"), ca_cert=f"{place}/ca.pem", verify=True
                )
            if not self._version:
                # The library would learn the version by a question that takes Podman seconds to answer.
                client = docker.APIClient(settings.api, API_VERSION, TIMEOUT_SECONDS, tls=tls)
                answer = client.get(f"{client.base_url}/_ping")
                answer.raise_for_status()
                self._version = answer.headers.get("Api-Version", API_VERSION)
            return docker.APIClient(settings.api, self._version, timeout_seconds, tls=tls)

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        where = f"the container host {self.name}"
        try:
            yield
        except docker.errors.APIError as error:
            told = str(error.explanation or error)[:1000]
            if error.status_code == _HTTP_UNAVAILABLE:
                raise PlatformUnavailable(f"{where} {what}: {told}") from error
            kind = PortTaken if any(word in told for word in _TAKEN) else HostRefused
            raise kind(f"{where} {what}: {told}") from error
        except (docker.errors.DockerException, requests.exceptions.RequestException, OSError) as error:
            raise PlatformUnavailable(f"{where} {what}: {error}") from error


def _wait_for_end(descriptor: int, deadline: float) -> None:
    """Read a stream to its end and throw it away, or until ``deadline`` (monotonic seconds)."""
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    while (left := deadline - time.monotonic()) > 0:
        if waiting.poll(left * 1000) and not os.read(descriptor, _PIECE_BYTES):
            return
