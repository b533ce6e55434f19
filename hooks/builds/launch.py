"""From a workspace to a running sandbox: the files it is made of, and the processes."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hooks.builds import archives, bubblewrap, forwarder, inside, sharding, shim
from hooks.builds.cgroups import Group
from hooks.builds.channel import Channel
from hooks.builds.executor import PUBLISH_PORT, REGISTRY_PORT, Network, SandboxRequest
from hooks.builds.relay import PUBLISH_SOCKET, REGISTRY_SOCKET
from hooks.builds.workspace import Workspace

NICENESS = 10
"""Builds stand back for the server: what counts where no control group can be made, and for reading and writing."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one build may use. Its files live in memory (tmpfs), so ``memory_bytes`` covers them where groups exist."""

    memory_bytes: int = 2 * 1024**3
    processes: int = 512
    open_files: int = 4096
    workspace_bytes: int = 1024**3
    tmp_bytes: int = 256 * 1024**2
    source_bytes: int = 2 * 1024**3
    artifact_bytes: int = 1024**3
    cache_bytes: int = 1024**3


def lay_out(place: Path, limits: Limits, readonly_paths: Sequence[str], *, with_network: bool) -> bubblewrap.Layout:
    """Write the files a sandbox is made of below ``place``. Raises OSError."""
    network_dir = place / "net" if with_network else None
    layout = bubblewrap.Layout(
        library_dir=place / "lib",
        etc_dir=place / "etc",
        assets_dir=place / "assets",
        network_dir=network_dir,
        workspace_bytes=limits.workspace_bytes,
        tmp_bytes=limits.tmp_bytes,
        readonly_paths=readonly_paths,
    )
    for directory in (layout.library_dir, layout.etc_dir, layout.assets_dir, network_dir):
        if directory is not None:
            directory.mkdir()
            directory.chmod(0o755)  # whatever the worker's umask is; the workspace itself is closed to others
    for module in (inside, archives, forwarder, sharding):
        shutil.copyfile(str(module.__file__), layout.library_dir / Path(str(module.__file__)).name)
    for name, content in bubblewrap.OWN_FILES.items():
        (layout.etc_dir / name).write_text(content)
    for file in (*layout.library_dir.iterdir(), *layout.etc_dir.iterdir()):
        file.chmod(0o644)
    return layout


def home_files(request: SandboxRequest) -> dict[str, str]:
    """Texts by path below the home, with the credential for the registry among them."""
    if request.credentials is None:
        return dict(request.home_files)
    # The standard file of most clients: the token stands in no variable and on no command line.
    netrc = f"machine 127.0.0.1\nlogin {request.credentials.login}\npassword {request.credentials.token}\n"
    return {".netrc": netrc, **request.home_files}


def ports_of(request: SandboxRequest) -> dict[str, int]:
    """The doors that a sandbox has: name of the socket → port of its own loopback."""
    if request.network is Network.NONE:
        return {}
    return {REGISTRY_SOCKET: REGISTRY_PORT, **({PUBLISH_SOCKET: PUBLISH_PORT} if request.publishing else {})}


def launch(
    layout: bubblewrap.Layout,
    workspace: Workspace,
    limits: Limits,
    *,
    group: Group | None,
    program: bytes | None,
    errors: int,
) -> tuple[subprocess.Popen[bytes], Channel]:
    """Start the shim, which starts bwrap, which starts the runner. Raises OSError.

    ``program`` is the system call filter, ``errors`` the descriptor for what goes wrong. The shim holds the
    workspace's locks as well: they are free when both it and the worker are gone.
    """
    request_reading, request_writing = os.pipe()
    frame_reading, frame_writing = os.pipe()
    channel = Channel(request_writing, frame_reading)
    given = [request_reading, frame_writing]
    keep: list[int] = []
    try:
        if program is not None:
            keep.append(os.memfd_create("filter", os.MFD_CLOEXEC))
            os.pwrite(keep[0], program, 0)  # leaves the position at the start, where bwrap reads
        order = _order(limits, workspace.user, group)
        order["argv"] = bubblewrap.command(layout, seccomp_descriptor=keep[0] if keep else None)
        order |= {"fds": [*given, errors], "keep": keep}
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(shim.__file__)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            pass_fds=[*given, errors, *keep, *workspace.locks],
            env={},
            cwd="/",
            start_new_session=True,
        )
    except BaseException:
        channel.close()
        raise
    finally:
        for descriptor in (*given, *keep):
            os.close(descriptor)
    if process.stdin is not None:
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()
    return process, channel


def _order(limits: Limits, user: int | None, group: Group | None) -> dict[str, Any]:
    rlimits = {"CORE": 0, "NOFILE": limits.open_files, "FSIZE": limits.workspace_bytes}
    if group is None:
        rlimits["DATA"] = limits.memory_bytes  # per process; AS would stop runtimes that reserve widely
    for name, wanted in rlimits.items():
        hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1]
        rlimits[name] = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    return {
        "uid": user,
        "gid": user,
        "niceness": NICENESS,
        "rlimits": rlimits,
        "cgroups": list(group.procs_files) if group else [],
        "ends_by_itself": True,
    }
