"""Builds in a bubblewrap sandbox on the worker's own machine, with the machine's own tools.

Not safe against a hole in the kernel: the build and the worker share it. Worker → shim (a life line: the worker's death
ends the build) → bwrap (namespaces, read-only system, sized tmpfs, no capabilities, system call filter) → the runner
of ``hooks.builds.inside`` → the commands. A worker of root's gives each build a user of its own and control groups.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hooks.builds import seccomp
from hooks.builds.cgroups import Cgroups
from hooks.builds.executor import Availability, ExecutorError, Network, Refused, Sandbox, SandboxRequest
from hooks.builds.launch import Limits
from hooks.builds.probe import ProbeReport, attack
from hooks.builds.sandbox import ProcessSandbox
from hooks.builds.workspace import UserRange, WorkRoot

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """``work_dir`` must be reachable by ``users`` when the worker is root's (each parent directory with ``x``).

    ``registry_address`` is what builds with network ``registry`` reach, and all they reach (an address, or what makes
    the other end of each connection). ``readonly_paths`` are
    further host paths builds may read (``/etc/java-17-openjdk``, ``/opt/sdk``). ``uses_filter`` exists for the
    negative control of the tests: without the filter ``available`` refuses.
    """

    work_dir: Path
    registry_address: tuple[str, int] | Callable[[], socket.socket] | None = None
    users: UserRange = field(default_factory=UserRange)
    limits: Limits = field(default_factory=Limits)
    readonly_paths: tuple[str, ...] = ()
    uses_filter: bool = True


class ProcessExecutor:
    """Implements ``hooks.builds.executor.Executor``."""

    name = "process"

    def __init__(self, settings: ProcessSettings) -> None:
        """Touches nothing yet."""
        self._settings = settings
        self._root = WorkRoot(settings.work_dir, settings.users)
        self._cgroups: Cgroups | None = None

    def available(self) -> Availability:
        """Sweep what dead workers left, then attack a sandbox; ok only when every attack was refused."""
        for program in ("bwrap", "/usr/bin/python3"):
            if shutil.which(program) is None:
                return Availability(ok=False, reason=f"{program} is not installed")
        try:
            self._root.check()
            self.sweep()
            report = self.probe()
        except (ExecutorError, seccomp.UnsupportedMachine) as error:
            return Availability(ok=False, reason=str(error))
        return Availability(report.ok, report.summary)

    def probe(self) -> ProbeReport:
        """Attack a fresh sandbox and report. Raises ExecutorError when there is none."""
        return attack(self.prepare, self._groups().describe())

    def sweep(self) -> int:
        """Remove the workspaces of workers that died; how many there were. Raises ExecutorError."""
        return self._root.sweep(self._groups().remove)

    def prepare(self, request: SandboxRequest) -> Sandbox:
        """A running, empty sandbox. Raises ExecutorError, Refused."""
        _say_what_is_not_had(request)
        program = seccomp.build_filter() if self._settings.uses_filter else None
        self.sweep()  # here too: another worker of this machine may have died since
        workspace = self._root.take()
        sandbox = ProcessSandbox(workspace, self._settings.limits)
        try:
            limits = self._settings.limits
            group = self._groups().make(
                workspace.path.name, memory_bytes=limits.memory_bytes, processes=limits.processes
            )
            sandbox.start(
                request,
                group=group,
                program=program,
                registry_address=self._settings.registry_address,
                readonly_paths=self._settings.readonly_paths,
            )
        except OSError as error:
            sandbox.destroy()
            raise ExecutorError(f"no sandbox: {error}") from error
        except BaseException:
            sandbox.destroy()
            raise
        return sandbox

    def _groups(self) -> Cgroups:
        if self._cgroups is None:
            # An ordinary user's worker has no say over control groups, even where their files look writable.
            self._cgroups = Cgroups() if os.geteuid() == 0 else Cgroups(Path("/nonexistent"))
            LOG.info("%s", self._cgroups.describe())
        return self._cgroups


def _say_what_is_not_had(request: SandboxRequest) -> None:
    room = request.room
    if request.network is Network.FULL or room.is_privileged:
        raise Refused("environment type process has neither network 'full' nor privilegedMode")
    for what, value in (("image", room.image), ("computeType", room.compute_type)):
        if value:
            request.say(f"Warning: {what} {value} is not used: environment type process runs on the machine itself")
