"""The system calls a build may not make, as a classic BPF program for ``bwrap --seccomp``.

Namespaces alone leave much of the kernel in reach: with ``--unshare-all`` a build could still open AF_VSOCK, AF_ALG
and AF_NETLINK sockets, use io_uring, bpf, keyctl, and make user namespaces of its own (each the way in of a published
escape). A deny-list with an allow-list for socket families keeps compilers and threaded interpreters working.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Mapping

ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
ERRNO = 0x00050000
X32_BIT = 0x40000000

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
# struct seccomp_data: nr, arch, instruction pointer, six 64-bit arguments (little-endian on both machines)
_NUMBER, _ARCH, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 4, 16, 24

ALLOWED_FAMILIES = (1, 2, 10)  # AF_UNIX, AF_INET, AF_INET6
# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET; NEWTIME shares its bit with clone's exit signal
CLONE_NAMESPACES = 0x7E020000
UNSHARE_NAMESPACES = CLONE_NAMESPACES | 0x80
TERMINAL_REQUESTS = _TIOCSTI, _TIOCLINUX = 0x5412, 0x541C  # both put key strokes into somebody's terminal

_ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# Names and numbers: <asm/unistd_64.h> and <asm-generic/unistd.h>.
_SINCE_5_1 = {
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_getfd": 438,
    "process_madvise": 440,
    "mount_setattr": 442,
    "quotactl_fd": 443,
}
_DENIED: Mapping[str, Mapping[str, int]] = {
    "x86_64": {
        "ptrace": 101,
        "syslog": 103,
        "uselib": 134,
        "modify_ldt": 154,
        "pivot_root": 155,
        "chroot": 161,
        "acct": 163,
        "settimeofday": 164,
        "mount": 165,
        "umount2": 166,
        "swapon": 167,
        "swapoff": 168,
        "reboot": 169,
        "iopl": 172,
        "ioperm": 173,
        "init_module": 175,
        "delete_module": 176,
        "quotactl": 179,
        "lookup_dcookie": 212,
        "clock_settime": 227,
        "kexec_load": 246,
        "add_key": 248,
        "request_key": 249,
        "keyctl": 250,
        "perf_event_open": 298,
        "fanotify_init": 300,
        "name_to_handle_at": 303,
        "open_by_handle_at": 304,
        "setns": 308,
        "process_vm_readv": 310,
        "process_vm_writev": 311,
        "kcmp": 312,
        "finit_module": 313,
        "kexec_file_load": 320,
        "bpf": 321,
        "userfaultfd": 323,
        **_SINCE_5_1,
    },
    "aarch64": {
        "lookup_dcookie": 18,
        "umount2": 39,
        "mount": 40,
        "pivot_root": 41,
        "chroot": 51,
        "quotactl": 60,
        "acct": 89,
        "kexec_load": 104,
        "init_module": 105,
        "delete_module": 106,
        "clock_settime": 112,
        "syslog": 116,
        "ptrace": 117,
        "reboot": 142,
        "settimeofday": 170,
        "add_key": 217,
        "request_key": 218,
        "keyctl": 219,
        "swapon": 224,
        "swapoff": 225,
        "perf_event_open": 241,
        "fanotify_init": 262,
        "name_to_handle_at": 264,
        "open_by_handle_at": 265,
        "setns": 268,
        "process_vm_readv": 270,
        "process_vm_writev": 271,
        "kcmp": 272,
        "finit_module": 273,
        "bpf": 280,
        "userfaultfd": 282,
        "kexec_file_load": 294,
        **_SINCE_5_1,
    },
}
_CHECKED: Mapping[str, Mapping[str, int]] = {
    "x86_64": {"ioctl": 16, "socket": 41, "socketpair": 53, "clone": 56, "unshare": 272, "clone3": 435},
    "aarch64": {"ioctl": 29, "unshare": 97, "socket": 198, "socketpair": 199, "clone": 220, "clone3": 435},
}


class UnsupportedMachine(Exception):
    """There is no filter for this processor, so no build may run on it."""


def denied(machine: str | None = None) -> Mapping[str, int]:
    """Number of every call that is refused whatever its arguments. Raises UnsupportedMachine."""
    machine = machine or platform.machine()
    if machine not in _ARCHES:
        raise UnsupportedMachine(f"no system call filter for {machine}; builds run on x86_64 and aarch64")
    return _DENIED[machine]


def build_filter(machine: str | None = None) -> bytes:
    """The program (``struct sock_filter`` array) for ``machine``, default this one. Raises UnsupportedMachine.

    Refused calls give EPERM; ``clone3`` gives ENOSYS so that libraries fall back to ``clone``, whose flags a filter can
    read; a foreign architecture or the x32 table ends the process.
    """
    machine = machine or platform.machine()
    refused = denied(machine)
    checked = _CHECKED[machine]
    refuse = _statement(_RETURN, ERRNO | errno.EPERM)
    allow = _statement(_RETURN, ALLOW)
    program = [
        _statement(_LOAD, _ARCH),
        _jump(_JUMP_EQUAL, _ARCHES[machine], 1, 0),
        _statement(_RETURN, KILL_PROCESS),
        _statement(_LOAD, _NUMBER),
    ]
    if machine == "x86_64":
        program += [_jump(_JUMP_AT_LEAST, X32_BIT, 0, 1), _statement(_RETURN, KILL_PROCESS)]
    for number in refused.values():
        program += [_jump(_JUMP_EQUAL, number, 0, 1), refuse]
    program += [_jump(_JUMP_EQUAL, checked["clone3"], 0, 1), _statement(_RETURN, ERRNO | errno.ENOSYS)]
    for name in ("socket", "socketpair"):
        last = len(ALLOWED_FAMILIES)
        families = [_jump(_JUMP_EQUAL, family, last - place, 0) for place, family in enumerate(ALLOWED_FAMILIES)]
        program += _when(checked[name], [_statement(_LOAD, _FIRST_ARGUMENT), *families, refuse, allow])
    for name, bits in (("clone", CLONE_NAMESPACES), ("unshare", UNSHARE_NAMESPACES)):
        test = [_statement(_LOAD, _FIRST_ARGUMENT), _jump(_JUMP_ANY_BIT, bits, 0, 1), refuse, allow]
        program += _when(checked[name], test)
    requests = [_jump(_JUMP_EQUAL, _TIOCSTI, 1, 0), _jump(_JUMP_EQUAL, _TIOCLINUX, 0, 1)]
    program += _when(checked["ioctl"], [_statement(_LOAD, _SECOND_ARGUMENT), *requests, refuse, allow])
    return b"".join([*program, allow])


def _when(number: int, body: list[bytes]) -> list[bytes]:
    return [_jump(_JUMP_EQUAL, number, 0, len(body)), *body]


def _statement(code: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, 0, 0, value)


def _jump(code: int, value: int, if_true: int, if_false: int) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
