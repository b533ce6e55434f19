"""A container engine of the tests' own: Podman's service with settings that work inside of containers and VMs.

These settings belong to the tests: they make Podman work without CAP_SYS_RESOURCE (its usual runtime raises resource
limits), and keep its images and containers away from the machine's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hooks.builds.engine import Engine
from hooks.builds.rootfs import pack_installed

IMAGE = "localhost/entrepot/build-tests"
PACKAGES = ("bash", "coreutils", "dash", "findutils", "grep", "sed", "gzip", "tar", "python3")
MISSING_ENGINE = (
    ""
    if os.geteuid() == 0 and all(map(shutil.which, ("podman", "runc", "dpkg-query")))
    else "podman and runc on Debian, and root, are needed for builds in containers"
)
CHANGES = ("ENV LANG=C.UTF-8", "ENV FROM_IMAGE=yes", "ENV PATH=/opt/tool/bin:/usr/bin:/bin")
START_SECONDS = 30.0

_CONTAINERS = """[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
log_driver = "k8s-file"
"""
_STORAGE = """[storage]
driver = "{driver}"
runroot = "{place}/run"
graphroot = "{place}/graph"
"""


@dataclass(frozen=True)
class Podman:
    """Where it listens, and how its own command is told to use the same images."""

    socket: str
    environment: dict[str, str]

    @property
    def engine(self) -> Engine:
        return Engine(self.socket)


@contextlib.contextmanager
def podman_service() -> Iterator[Podman]:
    """A running service with one image, ``IMAGE``, made of this machine's own packages."""
    place = Path(tempfile.mkdtemp(prefix="entrepot-podman-", dir="/var/tmp"))
    socket = place / "podman.sock"
    (place / "containers.conf").write_text(_CONTAINERS)
    # An overlay on an overlay (the tests themselves in a container) does not work.
    system = subprocess.run(
        ["stat", "-f", "-c", "%T", place], capture_output=True, text=True, check=True
    ).stdout.strip()
    driver = "vfs" if system == "overlayfs" else "overlay"
    (place / "storage.conf").write_text(_STORAGE.format(place=place, driver=driver))
    environment = {
        **os.environ,
        "CONTAINERS_CONF": str(place / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(place / "storage.conf"),
    }
    service = subprocess.Popen(
        ["podman", "system", "service", "--time=0", f"unix://{socket}"],
        cwd=place,  # its monitors leave a file called "oom" where they are
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=(place / "errors").open("wb"),
        start_new_session=True,
    )
    try:
        end = time.monotonic() + START_SECONDS
        while not socket.exists():
            assert service.poll() is None, (place / "errors").read_text()
            assert time.monotonic() < end, "podman does not listen"
            time.sleep(0.02)
        podman = Podman(str(socket), environment)
        with tempfile.TemporaryFile(dir="/var/tmp") as archive:
            pack_installed(dict.fromkeys(PACKAGES, ""), archive, lambda _line: None)
            archive.seek(0)
            podman.engine.load(archive, IMAGE, "latest", CHANGES)
        yield podman
    finally:
        subprocess.run(["podman", "rm", "-fa"], env=environment, capture_output=True, check=False)
        service.kill()
        service.wait()
        mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines() if str(place) in line]
        for path in sorted(mounted, reverse=True):
            subprocess.run(["umount", "-l", path], capture_output=True, check=False)
        shutil.rmtree(place, ignore_errors=True)
