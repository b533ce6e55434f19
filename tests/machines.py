"""Machines for tests: network namespaces on a bridge of their own, each with a directory at a path that all of them have.

They can be cut off, their clocks be wrong and their disks small. Everything has names and addresses of its own in each
run, and is gone at the end of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import random
import secrets
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_CLONE_NEWNET = 0x40000000
_NAMESPACES = Path("/run/netns")
# 198.18.0.0/15 is for trials of networks, and no network of anybody's.
_SECONDS, _THIRDS = (18, 19), range(256)


def ip(*words: str, may_fail: bool = False) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert may_fail or done.returncode == 0, (words, done.stderr)
    return done.stdout


@dataclass
class Machine:
    """A network namespace. ``own`` is its directory, which its programs find at ``seen_at``."""

    name: str
    namespace: str
    link: str
    address: str
    own: Path
    seen_at: Path
    is_mounted: bool = False

    def prefix(self) -> tuple[str, ...]:
        """In front of a command that is to run there: the process that is started becomes the command."""
        bind = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
        return ("ip", "netns", "exec", self.namespace, "sh", "-c", bind, "sh", str(self.own), str(self.seen_at))

    def cut_off(self, *, inside: bool = False) -> None:
        """From the outside as by a pulled plug; ``inside``: the machine has taken its network down itself."""
        if inside:
            ip("-n", self.namespace, "link", "set", "eth0", "down")
        else:
            ip("link", "set", self.link, "down")

    def join_again(self) -> None:
        ip("-n", self.namespace, "link", "set", "eth0", "up")
        ip("link", "set", self.link, "up")

    def limit_disk(self, megabytes: int) -> None:
        """Let its directory be a file system of its own."""
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "none", str(self.own)], check=True)
        self.is_mounted = True

    def fill_disk(self) -> None:
        with (self.own / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"x" * 65536):
                pass

    def free_disk(self) -> None:
        (self.own / "ballast").unlink(missing_ok=True)

    def processes(self) -> list[int]:
        return [int(word) for word in ip("netns", "pids", self.namespace, may_fail=True).split()]

    def remove(self) -> None:
        """Its processes, its namespace with both ends of the link, its file system."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        ip("netns", "del", self.namespace, may_fail=True)
        ip("link", "del", self.link, may_fail=True)
        if self.is_mounted:
            subprocess.run(["umount", "-l", str(self.own)], check=False)


@dataclass
class Network:
    """A bridge; ``address`` is this machine's on it, at which a server may listen."""

    folder: Path
    word: str = field(default_factory=lambda: secrets.token_hex(3))
    machines: dict[str, Machine] = field(default_factory=dict)
    subnet: str = ""

    @property
    def bridge(self) -> str:
        return f"ent{self.word}"

    @property
    def address(self) -> str:
        return f"{self.subnet}.1"

    @property
    def seen_at(self) -> Path:
        return self.folder / "srv"

    def make(self) -> None:
        self.seen_at.mkdir(parents=True, exist_ok=True)
        ip("link", "add", self.bridge, "type", "bridge")
        ip("link", "set", self.bridge, "up")
        for _ in range(20):
            self.subnet = f"198.{random.choice(_SECONDS)}.{random.choice(_THIRDS)}"
            ip("addr", "add", f"{self.address}/24", "dev", self.bridge)
            if addresses().count(self.address) == 1:
                return
            ip("addr", "flush", "dev", self.bridge)  # another run has it
        raise AssertionError("there is no free address")

    def add(self, name: str) -> Machine:
        number = len(self.machines) + 2
        made = Machine(
            name,
            f"ent-{self.word}-{name}",
            f"e{self.word}n{number}",
            f"{self.subnet}.{number}",
            self.folder / f"srv-of-{name}",
            self.seen_at,
        )
        self.machines[name] = made
        made.own.mkdir()
        ip("netns", "add", made.namespace)
        ip("link", "add", made.link, "type", "veth", "peer", "name", "eth0", "netns", made.namespace)
        ip("link", "set", made.link, "master", self.bridge, "up")
        ip("-n", made.namespace, "link", "set", "lo", "up")
        ip("-n", made.namespace, "addr", "add", f"{made.address}/24", "dev", "eth0")
        ip("-n", made.namespace, "link", "set", "eth0", "up")
        return made

    def remove(self) -> None:
        for machine in self.machines.values():
            machine.remove()
        ip("link", "del", self.bridge, may_fail=True)

    def left_over(self) -> list[str]:
        """What there still is of this run; nothing, once it is removed."""
        links = [each["ifname"] for each in json.loads(ip("-j", "link"))]
        found = [name for name in links if self.word in name]
        found += [path.name for path in _NAMESPACES.glob(f"ent-{self.word}-*")]
        return found + [line for line in Path("/proc/mounts").read_text().splitlines() if str(self.folder) in line]


def addresses() -> list[str]:
    """This machine's, outside of namespaces."""
    found = json.loads(ip("-j", "-4", "addr"))
    return [each["local"] for link in found for each in link.get("addr_info", ())]


@contextmanager
def network(folder: Path) -> Iterator[Network]:
    """A network that is gone afterwards, whatever happens."""
    made = Network(folder)
    try:
        made.make()
        yield made
    finally:
        made.remove()
        assert made.left_over() == []


@functools.cache
def wrong_clock() -> Mapping[str, str]:
    """Variables with which a program takes the wall clock for what ``FAKETIME`` says."""
    said = subprocess.run(["faketime", "-f", "+1d", "env"], capture_output=True, text=True, check=True).stdout
    found = dict(line.partition("=")[::2] for line in said.splitlines())
    return {"LD_PRELOAD": found["LD_PRELOAD"], "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}


class Inside(threading.Thread):
    """Does something again and again as a program on a machine would; ``look`` is called in its namespace."""

    def __init__(self, machine: Machine, look: Callable[[], Any], pause_seconds: float) -> None:
        super().__init__(daemon=True)
        self._namespace, self._look, self._pause = machine.namespace, look, pause_seconds
        self._over = threading.Event()

    def run(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = os.open(_NAMESPACES / self._namespace, os.O_RDONLY)
        try:
            # Of this thread alone: other threads stay where they are.
            assert libc.setns(descriptor, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        finally:
            os.close(descriptor)
        while not self._over.wait(self._pause):
            self._look()

    def end(self) -> None:
        self._over.set()
        self.join()
