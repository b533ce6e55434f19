"""One build's container, seen from the worker: the same runner and the same talk as in a bubblewrap sandbox."""

from __future__ import annotations

import logging
import os
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hooks.builds import launch
from hooks.builds.cgroups import MOUNT, Group
from hooks.builds.channel import Channel
from hooks.builds.engine import Attached, Engine
from hooks.builds.executor import ExecutorError, SandboxRequest
from hooks.builds.launch import Limits
from hooks.builds.relay import Relay
from hooks.builds.sandbox import START_SECONDS, ProcessSandbox
from hooks.builds.workspace import Workspace

LOG = logging.getLogger(__name__)

_STREAM_HEADER = struct.Struct(">BxxxI")
_STANDARD_OUTPUT = 1
_ERROR_BYTES = 64 * 1024
_OWN_DIRECTORY = "/codebuild/"


class EngineChannel(Channel):
    """The runner's frames inside of the engine's. What came on standard error goes to ``errors`` (a descriptor)."""

    def __init__(self, attached: Attached, errors: int) -> None:
        """Take ``attached`` over."""
        super().__init__(*attached.release())
        self._errors = errors
        self._raw = bytearray()

    def _receive(self) -> bytes:
        # An empty answer is fine: `next_frame` asks again. A payload is handed on in pieces, as it comes.
        self._raw += super()._receive()
        output = bytearray()
        while len(self._raw) >= _STREAM_HEADER.size:
            stream, size = _STREAM_HEADER.unpack_from(self._raw)
            end = _STREAM_HEADER.size + size
            if len(self._raw) < end:
                break
            payload = self._raw[_STREAM_HEADER.size : end]
            del self._raw[:end]
            if stream == _STANDARD_OUTPUT:
                output += payload
            elif os.fstat(self._errors).st_size < _ERROR_BYTES:
                os.write(self._errors, payload)
        return bytes(output)


class EngineGroup(Group):
    """A control group that the engine made and will remove."""

    def remove(self) -> None:
        """Nothing: it is the engine's."""


@dataclass(frozen=True, slots=True)
class Room:
    """What a container's sandbox needs beside its workspace: a container that does not run yet."""

    engine: Engine
    container: str
    variables: Mapping[str, str]
    processes: int


class ContainerSandbox(ProcessSandbox):
    """Implements ``hooks.builds.executor.Sandbox`` over a container; ``begin`` comes first, once."""

    def __init__(self, workspace: Workspace, limits: Limits) -> None:
        """Own ``workspace`` from now on."""
        super().__init__(workspace, limits)
        self._room: Room | None = None

    @property
    def variables(self) -> Mapping[str, str]:
        """Those of the image, under the sandbox's own; the image's PATH behind the build's own directories."""
        own = super().variables
        image = self._room.variables if self._room else {}
        directories = [entry for entry in own["PATH"].split(":") if entry.startswith(_OWN_DIRECTORY)]
        path = ":".join([*directories, image["PATH"]]) if image.get("PATH") else own["PATH"]
        return {**image, **own, "PATH": path, "LANG": image.get("LANG", own["LANG"])}

    def begin(self, request: SandboxRequest, room: Room, *, make_relays: Callable[[], list[Relay]]) -> None:
        """Start the container and its runner. Raises ExecutorError, OSError."""
        self._room = room
        self._relays = make_relays()
        self._channel = EngineChannel(room.engine.start(room.container), self._errors)
        self._group = _group_of(room.engine.process(room.container))
        self._ask(
            {
                "environment": dict(self.variables),
                "home_files": launch.home_files(request),
                "processes": room.processes,
                "ports": launch.ports_of(request),
            },
            deadline=time.monotonic() + START_SECONDS,
        )

    def _end_processes(self) -> None:
        # The end of the stream ends the runner, and with it the container; this is for one that does not obey.
        if self._room is None:
            return
        try:
            self._room.engine.remove(self._room.container)
        except ExecutorError as error:
            LOG.warning("container %s of a build stays until the next sweep: %s", self._room.container, error)


def _group_of(process: int) -> Group | None:
    """The control groups of a process of the machine, to read from; None where they cannot be found."""
    try:
        lines = Path(f"/proc/{process}/cgroup").read_text().splitlines() if process else []
    except OSError:
        return None
    directories = []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            directories.append(MOUNT / "memory" / path.lstrip("/"))
        elif number == "0":
            directories.append(MOUNT / path.lstrip("/"))
    found = tuple(directory for directory in directories if directory.is_dir())
    return EngineGroup(found) if found else None
