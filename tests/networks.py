"""Machines with a network of their own: named namespaces on a bridge, and links that can be cut."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

MISSING_NETWORKS = "" if os.geteuid() == 0 and shutil.which("ip") else "network namespaces need root, and ip"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@dataclass(frozen=True)
class Networks:
    """``names`` are at ``address(name)``, and reach this machine at ``here``."""

    tag: str
    names: Sequence[str]
    here: str = "10.213.77.1"

    def address(self, name: str) -> str:
        return f"10.213.77.{11 + self.names.index(name)}"

    def inside(self, name: str) -> tuple[str, ...]:
        return ("ip", "netns", "exec", f"{self.tag}-{name}")

    def link(self, name: str, state: str) -> None:
        """``up`` or ``down``."""
        _ip("link", "set", f"{self.tag}v{self.names.index(name)}", state)


@contextmanager
def networks(names: Sequence[str]) -> Iterator[Networks]:
    made = Networks(f"e{os.getpid()}", names)
    _ip("link", "add", f"{made.tag}b", "type", "bridge")
    try:
        _ip("addr", "add", f"{made.here}/24", "dev", f"{made.tag}b")
        _ip("link", "set", f"{made.tag}b", "up")
        for number, name in enumerate(names):
            space, outer = f"{made.tag}-{name}", f"{made.tag}v{number}"
            _ip("netns", "add", space)
            _ip("link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", space)
            _ip("link", "set", outer, "master", f"{made.tag}b", "up")
            _ip("-n", space, "addr", "add", f"{made.address(name)}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", space, "link", "set", device, "up")
        yield made
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", f"{made.tag}-{name}"], check=False, capture_output=True)
        _ip("link", "del", f"{made.tag}b")
