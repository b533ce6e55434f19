"""Builds in containers of a Docker-compatible engine (Docker, or Podman's socket) on the worker's own machine.

Worker → engine → container (an image by its digest; no network, no capability, read-only root, sized tmpfs, system call
filter, limits) → ``hooks.builds.first`` → the runner of ``hooks.builds.inside`` → the commands. Worker and runner talk
over the container's attached streams as they do over pipes elsewhere: when the worker dies, the stream ends, and with
it the container.
"""

from __future__ import annotations

import logging
import os
import resource
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from socket import socket as connection
from typing import Any

from docker.types import LogConfig, Mount, Ulimit

from hooks.builds import bubblewrap, first, inside, seccomp, seccomp_profile
from hooks.builds.compute import ImageNames, Meant, Share, share
from hooks.builds.container_sandbox import ContainerSandbox, Room
from hooks.builds.engine import Engine, Image
from hooks.builds.executor import (
    Availability,
    ExecutorError,
    Network,
    Refused,
    Sandbox,
    SandboxRequest,
)
from hooks.builds.launch import Limits, lay_out
from hooks.builds.probe import ProbeReport, attack
from hooks.builds.relay import Relay, open_relays
from hooks.builds.workspace import UserRange, WorkRoot, Workspace

LOG = logging.getLogger(__name__)

LABEL_ROOT = "entrepot.builds"
LABEL_WORKSPACE = "entrepot.workspace"
LABEL_BUILD = "entrepot.build"
_INTERPRETER = "python3"
_FIRST = "/entrepot/lib/first.py"
_ENGINE_VARIABLES = ("PATH", "HOME", "HOSTNAME", "TERM", "container")
_TMPFS = "rw,exec,nosuid,nodev"
_CPU_SHARES = 64  # of each build, where everything else has 1024: the server goes first
_CPU_UNIT = 10**9
_SCRATCH = ("/tmp", "/var/tmp")  # noqa: S108 - paths in the container
_RUN_BYTES = 1024**2


@dataclass(frozen=True, slots=True)
class ContainerSettings:
    """``socket`` is the engine's; whoever may use it is as good as root on this machine.

    ``work_dir`` and ``users`` as for bubblewrap sandboxes, and not shared with them. ``most`` bounds what a project's
    ``computeType`` may ask for. ``moved_images`` says what happens when a name means another image than at a project's
    first build: "stop" or "warn". ``full_network`` is the engine's network for network ``full``, "" when no build may
    have that. ``disk_bytes`` limits a writable root where the engine's storage can. ``uses_filter`` exists for the
    negative control of the tests.
    """

    socket: str
    work_dir: Path
    registry_address: tuple[str, int] | Callable[[], connection] | None = None
    users: UserRange = field(default_factory=lambda: UserRange(60578, 14))
    limits: Limits = field(default_factory=Limits)
    processors: int = 2
    most: Share = field(default_factory=lambda: Share(16 * 1024**3, 8))
    images: ImageNames = field(default_factory=ImageNames)
    pulls: bool = False
    moved_images: str = "stop"
    full_network: str = ""
    runs_as_root: bool = False
    capabilities: tuple[str, ...] = ()
    has_writable_root: bool = False
    disk_bytes: int = 0
    allows_privileged: bool = False
    uses_filter: bool = True


class ContainerExecutor:
    """Implements ``hooks.builds.executor.Executor``."""

    name = "container"

    def __init__(self, settings: ContainerSettings) -> None:
        """Touches nothing yet."""
        self._settings = settings
        self._engine = Engine(settings.socket)
        self._root = WorkRoot(settings.work_dir, settings.users)
        self._accounts: dict[str, Mapping[str, str]] = {}

    def available(self) -> Availability:
        """Sweep what dead workers left, then attack a container of the usual image; ok when every attack is refused."""
        try:
            self._root.check()
            engine = self._engine.describe()
            self.sweep()
            report = self.probe()
        except (ExecutorError, Refused, seccomp.UnsupportedMachine) as error:
            return Availability(ok=False, reason=str(error))
        return Availability(report.ok, f"{engine}: {report.summary}")

    def probe(self) -> ProbeReport:
        """Attack a fresh container and report. Raises ExecutorError, Refused."""
        image = self._image(self._settings.images.resolve(""), lambda _line: None)
        expected = {
            "init": [_INTERPRETER, "-I", "-S", _FIRST],
            "writable": [str(inside.ROOT), "/dev/shm", *_SCRATCH],  # noqa: S108 - a path in the container
            "variables": [*_ENGINE_VARIABLES, *image.variables],
            "hidden": [str(self._settings.work_dir), self._settings.socket],
        }
        return attack(self._plain, "limits by the engine", interpreter=_INTERPRETER, expected=expected)

    def sweep(self) -> int:
        """Remove the containers and workspaces of workers that died; how many workspaces. Raises ExecutorError."""
        swept = self._root.sweep(lambda _name: None)
        for container, labels in self._engine.containers(f"{LABEL_ROOT}={self._settings.work_dir}"):
            if not (self._root.path / labels.get(LABEL_WORKSPACE, "none")).exists():
                LOG.info("removing container %s of a dead worker", container)
                self._engine.remove(container)
        return swept

    def prepare(self, request: SandboxRequest) -> Sandbox:
        """A container with a runner in it. Raises ExecutorError, Refused."""
        self._check(request)
        meant = self._settings.images.resolve(request.room.image)
        for line in meant.lines:
            request.say(line)
        image = self._image(meant, request.say)
        request.say(f"Image {meant.image} {image.digest}")
        self._check_digest(request, meant, image)
        settings = self._settings
        usual = Share(settings.limits.memory_bytes, settings.processors)
        given, line = share(request.room.compute_type, usual, settings.most)
        if line:
            request.say(line)
        self.sweep()
        return self._begin(request, image, replace(settings.limits, memory_bytes=given.memory_bytes), given)

    def _plain(self, request: SandboxRequest) -> Sandbox:
        """A container as most builds have it, for the attack: as an ordinary user, on a read-only root."""
        settings = replace(self._settings, runs_as_root=False, has_writable_root=False, capabilities=())
        return ContainerExecutor(settings).prepare(request)

    def _begin(self, request: SandboxRequest, image: Image, limits: Limits, given: Share) -> Sandbox:
        workspace = self._root.take()
        sandbox = ContainerSandbox(workspace, limits)
        try:
            with_registry = request.network is not Network.NONE
            layout = lay_out(workspace.path, limits, (), with_network=with_registry)
            (layout.library_dir / "first.py").write_bytes(Path(str(first.__file__)).read_bytes())
            (layout.library_dir / "first.py").chmod(0o644)
            container = self._create(request, image, workspace, layout, limits, given)
            room = Room(self._engine, container, image.variables, limits.processes if workspace.user else 0)
            sandbox.begin(
                request,
                room,
                make_relays=self._relay_maker(request, layout, workspace),
            )
        except OSError as error:
            sandbox.destroy()
            raise ExecutorError(f"no container: {error}") from error
        except BaseException:
            sandbox.destroy()
            raise
        return sandbox

    # --- what is asked for

    def _check(self, request: SandboxRequest) -> None:
        settings = self._settings
        if request.network is Network.FULL and not settings.full_network:
            raise Refused("network 'full': this server allows it to no build (builds.container.full_network)")
        if request.room.is_privileged and not settings.allows_privileged:
            raise Refused("privilegedMode: this server allows it to no build (builds.container.allows_privileged)")
        if request.network is not Network.NONE and settings.registry_address is None:
            raise ExecutorError(f"no registry address is configured, so a build cannot have network {request.network}")

    def _image(self, meant: Meant, say: Callable[[str], object]) -> Image:
        name = meant.image
        image = self._engine.image(name)
        if image is None and self._settings.pulls:
            say(f"Pulling image {name}")
            self._engine.pull(name)
            image = self._engine.image(name)
        if image is None:
            raise Refused(
                f"image {name} is not on this machine"
                + ("" if self._settings.pulls else ", and this server pulls none (builds.container.pulls)")
            )
        return image

    def _check_digest(self, request: SandboxRequest, meant: Meant, image: Image) -> None:
        room = request.room
        if room.pinned_digest and room.pinned_digest != image.digest:
            moved = f"image {meant.image} was {room.pinned_digest} and is {image.digest} now"
            if self._settings.moved_images == "stop" and not meant.is_the_servers:
                raise Refused(f"{moved}; save the build project again to accept it")
            request.say(f"Warning: {moved}")
        room.on_digest(image.digest)

    # --- the container

    def _create(
        self,
        request: SandboxRequest,
        image: Image,
        workspace: Workspace,
        layout: bubblewrap.Layout,
        limits: Limits,
        given: Share,
    ) -> str:
        settings = self._settings
        user = workspace.user or bubblewrap.USER_INSIDE
        if settings.runs_as_root or request.room.is_privileged:
            user = 0
        self._write_accounts(image, layout.etc_dir, user)
        host: dict[str, Any] = {
            "network_mode": settings.full_network if request.network is Network.FULL else "none",
            "mounts": _mounts(layout),
            "tmpfs": {
                str(inside.ROOT): f"{_TMPFS},size={limits.workspace_bytes},mode=1777",
                **dict.fromkeys(_SCRATCH, f"{_TMPFS},size={limits.tmp_bytes},mode=1777"),
                "/run": f"{_TMPFS},size={_RUN_BYTES},mode=755",
            },
            "shm_size": limits.tmp_bytes,
            "mem_limit": limits.memory_bytes,
            "memswap_limit": limits.memory_bytes,
            "nano_cpus": min(given.processors or 1024, os.cpu_count() or 1) * _CPU_UNIT,
            "cpu_shares": _CPU_SHARES,
            "pids_limit": limits.processes,
            "ulimits": _ulimits(limits, has_own_user=workspace.user is not None),
            "log_config": LogConfig(type="none"),
            "read_only": not settings.has_writable_root,
            **self._confinement(request, workspace),
        }
        if settings.has_writable_root and settings.disk_bytes:
            host["storage_opt"] = {"size": str(settings.disk_bytes)}
        return self._engine.create(
            image.digest,
            workspace.path.name,
            host=host,
            entrypoint=[_INTERPRETER],
            command=["-I", "-S", _FIRST],
            user=f"{user}:{user}",
            hostname=bubblewrap.HOSTNAME,
            stdin_open=True,
            working_dir="/",
            labels={
                LABEL_ROOT: str(settings.work_dir),
                LABEL_WORKSPACE: workspace.path.name,
                LABEL_BUILD: request.build_id,
            },
        )

    def _confinement(self, request: SandboxRequest, workspace: Workspace) -> dict[str, Any]:
        if request.room.is_privileged:
            request.say("Warning: this build is privileged: it can take this machine over")
            return {"privileged": True}
        profile = self._profile(workspace) if self._settings.uses_filter else "unconfined"
        return {
            "cap_drop": ["ALL"],
            "cap_add": list(self._settings.capabilities) if self._settings.runs_as_root else [],
            "security_opt": ["no-new-privileges", f"seccomp={profile}"],
        }

    def _profile(self, workspace: Workspace) -> str:
        text = seccomp_profile.build_profile()
        if not self._engine.is_podman:
            return text
        path = workspace.path / "filter.json"
        path.write_text(text)
        return str(path)

    def _relay_maker(
        self, request: SandboxRequest, layout: bubblewrap.Layout, workspace: Workspace
    ) -> Callable[[], list[Relay]]:
        directory, address = layout.network_dir, self._settings.registry_address

        def make() -> list[Relay]:
            if directory is None or address is None:
                return []
            owner = None if workspace.user is None else (workspace.user, workspace.user)
            # Nobody else gets to the workspace; whom a container's user is outside of it is the engine's affair.
            return open_relays(directory, address, request.publishing, owner, mode=0o666)

        return make

    def _write_accounts(self, image: Image, directory: Path, user: int) -> None:
        """The image's own users and groups, and the build's: programs ask who they are."""
        known = self._accounts.get(image.digest)
        if known is None:
            known = self._accounts[image.digest] = self._read_accounts(image)
        for name in ("passwd", "group"):
            entry = f"build:x:{user}:{user}::{bubblewrap.HOME_DIR}:/bin/sh" if name == "passwd" else f"build:x:{user}:"
            others = [
                line
                for line in known[name].splitlines()
                if line.count(":") > 2 and line.split(":")[2] != str(user) and not line.startswith("build:")
            ]
            # Root stays root where the build is root.
            entry = entry.replace("build:", "root:", 1) if user == 0 else entry
            (directory / name).write_text("\n".join([*others, entry, ""]))

    def _read_accounts(self, image: Image) -> Mapping[str, str]:
        name = f"entrepot-look-{os.getpid()}-{os.urandom(4).hex()}"
        labels = {LABEL_ROOT: str(self._settings.work_dir)}
        container = self._engine.create(
            image.digest, name, host={"network_mode": "none"}, command=["true"], labels=labels
        )
        try:
            return {
                name: self._engine.file_of(container, f"/etc/{name}") or bubblewrap.OWN_FILES[name]
                for name in ("passwd", "group")
            }
        finally:
            self._engine.remove(container)


def _mounts(layout: bubblewrap.Layout) -> Sequence[Mount]:
    places = {
        "/entrepot/lib": layout.library_dir,
        bubblewrap.ASSETS_DIR: layout.assets_dir,
        "/etc/passwd": layout.etc_dir / "passwd",
        "/etc/group": layout.etc_dir / "group",
    }
    if layout.network_dir is not None:
        places["/entrepot/net"] = layout.network_dir
    return [Mount(target, str(source), type="bind", read_only=True) for target, source in places.items()]


def _ulimits(limits: Limits, *, has_own_user: bool) -> Sequence[Ulimit]:
    wanted = {"nofile": limits.open_files, "core": 0}
    if has_own_user:
        wanted["nproc"] = limits.processes
    found = []
    for name, value in wanted.items():
        hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1]
        limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
        found.append(Ulimit(name=name, soft=limit, hard=limit))
    return found
