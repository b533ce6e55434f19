"""Tries, from inside a sandbox, what must not work there; prints one JSON line per attempt.

Run as a file by the system's interpreter, standard library only. The first argument is a JSON object of system call
numbers by name, the second, which may be left out, one of what this kind of sandbox is like (``EXPECTED``). ``refused``
false means that the sandbox lets something through.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

CLONE_NEWUSER = 0x10000000
ALLOWED_FAMILIES = {1, 2, 10}
LAST_FAMILY = 45
TIOCSTI = 0x5412
NOT_FILES = ("/proc", "/dev/pts", "/dev/mqueue")
EXPECTED: dict[str, list[str]] = {
    "init": ["bwrap"],  # what process 1 is called by
    "variables": ["PATH"],  # what its environment may hold
    "writable": ["/codebuild", "/tmp", "/dev/shm"],  # noqa: S108 - the places that are meant to be
    "hidden": ["/root", "/home", "/var", "/sys", "/run", "/etc/shadow", "/etc/ssl/private", "/boot"],
}
DEVICES = {
    *("console", "core", "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty"),
    *("urandom", "zero", "mqueue"),
}

Finding = tuple[str, bool, str]
_libc = ctypes.CDLL(None, use_errno=True)


def call(number: int, *arguments: int) -> int:
    """Make a system call; 0 when it worked, else its errno."""
    ctypes.set_errno(0)
    result = _libc.syscall(ctypes.c_long(number), *(ctypes.c_long(argument) for argument in arguments))
    return 0 if result >= 0 else ctypes.get_errno()


def word(number: int) -> str:
    """The name of an errno."""
    return errno.errorcode.get(number, str(number)) if number else "worked"


def socket_families(_numbers: dict[str, int]) -> Iterator[Finding]:
    """Sockets of every family but three, among them AF_ALG, AF_VSOCK, AF_NETLINK, AF_PACKET."""
    open_families = []
    for family in sorted(set(range(LAST_FAMILY + 1)) - ALLOWED_FAMILIES):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
            try:
                socket.socket(family, kind).close()
                open_families.append(f"{family}/{kind}: worked")
            except OSError as error:
                if error.errno != errno.EPERM:
                    open_families.append(f"{family}/{int(kind)}: {word(error.errno or 0)}")
    yield "socket families", not open_families, ", ".join(open_families[:8])


def system_calls(numbers: dict[str, int]) -> Iterator[Finding]:
    """Every refused call with arguments that no kernel would carry out."""
    for name in sorted(numbers):
        result = call(numbers[name], -1, -1, -1, -1, -1)
        yield f"system call {name}", result == errno.EPERM, word(result)


def namespaces(_numbers: dict[str, int]) -> Iterator[Finding]:
    """New namespaces by unshare, clone and clone3."""
    machine = os.uname().machine
    clone, unshare, clone3 = (220, 97, 435) if machine == "aarch64" else (56, 272, 435)
    result = call(unshare, CLONE_NEWUSER)
    yield "unshare(CLONE_NEWUSER)", result == errno.EPERM, word(result)
    yield "clone(CLONE_NEWUSER)", *_clone(clone)
    result = call(clone3, 0, 0)
    yield "clone3", result == errno.ENOSYS, word(result)


def _clone(number: int) -> tuple[bool, str]:
    ctypes.set_errno(0)
    child = _libc.syscall(ctypes.c_long(number), ctypes.c_long(CLONE_NEWUSER | signal.SIGCHLD), 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    if child > 0:
        os.waitpid(child, 0)
        return False, "worked"
    return ctypes.get_errno() == errno.EPERM, word(ctypes.get_errno())


def terminal(_numbers: dict[str, int]) -> Iterator[Finding]:
    """The worker's terminal, and typing into any."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
        yield "controlling terminal", False, "/dev/tty opens"
    except OSError as error:
        yield "controlling terminal", True, word(error.errno or 0)
    descriptor = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
    try:
        fcntl.ioctl(descriptor, TIOCSTI, b"x")
        yield "ioctl(TIOCSTI)", False, "worked"
    except OSError as error:
        yield "ioctl(TIOCSTI)", error.errno == errno.EPERM, word(error.errno or 0)
    finally:
        os.close(descriptor)


def files(_numbers: dict[str, int]) -> Iterator[Finding]:
    """Writing outside the writable places, hidden places, devices."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        place = line.split()[1]
        if not place.startswith((*EXPECTED["writable"], *NOT_FILES)) and Path(place).is_dir():
            yield f"write to {place}", *_write(Path(place, "entrepot-attack"))
    yield "write to /proc/sys", *_write(Path("/proc/sys/kernel/core_pattern"))
    yield "write to /proc/sysrq-trigger", *_write(Path("/proc/sysrq-trigger"))
    seen = [place for place in EXPECTED["hidden"] if Path(place).exists()]
    yield "hidden places", not seen, ", ".join(seen)
    devices = {entry.name for entry in Path("/dev").iterdir()} - DEVICES
    yield "devices", not devices, ", ".join(sorted(devices))


def _write(path: Path) -> tuple[bool, str]:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    except OSError as error:
        return True, word(error.errno or 0)
    return False, "worked"


def processes(_numbers: dict[str, int]) -> Iterator[Finding]:
    """The runner (our parent) and init: memory, variables and descriptors; and whom else we see."""
    runner = Path(f"/proc/{os.getppid()}")
    for name in ("mem", "environ", "maps", "auxv"):
        yield f"the runner's {name}", *_read(runner / name)
    try:
        yield "the runner's descriptors", False, ", ".join(entry.name for entry in (runner / "fd").iterdir())
    except OSError as error:
        yield "the runner's descriptors", True, word(error.errno or 0)
    first = Path("/proc/1/cmdline").read_bytes()
    words = [word.decode(errors="replace") for word in first.split(b"\0")]
    yield "processes of the machine", words[: len(EXPECTED["init"])] == EXPECTED["init"], " ".join(words)[:80]
    yield "init's variables", *_variables(Path("/proc/1/environ"))
    for process in ("1", "self"):
        mode = _status(process)["Seccomp"]
        yield f"filter on {process}", mode == "2", f"Seccomp {mode}"


def _variables(path: Path) -> tuple[bool, str]:
    try:
        names = {entry.partition(b"=")[0].decode(errors="replace") for entry in path.read_bytes().split(b"\0") if entry}
    except OSError as error:
        return True, word(error.errno or 0)
    return names <= set(EXPECTED["variables"]), ", ".join(sorted(names))


def _read(path: Path) -> tuple[bool, str]:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        return True, word(error.errno or 0)
    return False, "readable"


def _status(process: str) -> dict[str, str]:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def privileges(_numbers: dict[str, int]) -> Iterator[Finding]:
    """Capabilities, set-user-id programs, descriptors that leaked in, and the network."""
    status = _status("self")
    held = [name for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") if int(status[name], 16)]
    yield "capabilities", not held, ", ".join(held)
    yield "set-user-id programs", status["NoNewPrivs"] == "1", f"NoNewPrivs {status['NoNewPrivs']}"
    yield "root", os.getuid() != 0 and os.geteuid() != 0, f"uid {os.getuid()}"
    leaked = [name for name in os.listdir("/proc/self/fd") if int(name) > 2 and _is_open(int(name))]  # noqa: PTH208
    yield "leaked descriptors", not leaked, ", ".join(leaked)
    lines = Path("/proc/net/dev").read_text().splitlines()[2:]
    interfaces = [line.split(":")[0].strip() for line in lines]
    yield "network interfaces", interfaces == ["lo"], ", ".join(interfaces)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False  # the listing's own
    return True


ATTACKS: tuple[Callable[[dict[str, int]], Iterator[Finding]], ...] = (
    socket_families,
    system_calls,
    namespaces,
    terminal,
    files,
    processes,
    privileges,
)


def main() -> None:
    """Try everything; the last line says that nothing was left out."""
    numbers = json.loads(sys.argv[1])
    EXPECTED.update(json.loads(sys.argv[2]) if len(sys.argv) > 2 else {})
    for attack in ATTACKS:
        for name, refused, detail in attack(numbers):
            sys.stdout.write(json.dumps({"name": name, "refused": refused, "detail": detail}) + "\n")
    sys.stdout.write(json.dumps({"complete": True}) + "\n")


if __name__ == "__main__":
    main()
