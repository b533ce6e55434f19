"""The denials of ``hooks.builds.seccomp`` as a profile for container engines (the JSON of Docker and Podman)."""

from __future__ import annotations

import errno
import json
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from hooks.builds import seccomp

_ARCHES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
_LOW_HALF = 0xFFFFFFFF


def build_profile(machine: str | None = None) -> str:
    """The profile for ``machine``, default this one. Raises UnsupportedMachine.

    Everything is allowed but what ``seccomp.denied`` names, sockets of all families but three, new namespaces, and
    typing into terminals. A foreign architecture ends the process: only one is listed.
    """
    machine = machine or platform.machine()
    refused = sorted(seccomp.denied(machine))
    families = seccomp.ALLOWED_FAMILIES
    sockets = [family for family in range(max(families)) if family not in families]
    rules = [
        _rule(refused),
        _rule(["clone3"], errno.ENOSYS),
        # The kernel looks at 32 bits of these arguments, libseccomp compares 64: a family with a high bit is "greater".
        *(_rule(["socket", "socketpair"], arguments=[_argument(0, family, "SCMP_CMP_EQ")]) for family in sockets),
        _rule(["socket", "socketpair"], arguments=[_argument(0, max(families), "SCMP_CMP_GT")]),
        *(_masked("clone", 0, bit, bit) for bit in _bits(seccomp.CLONE_NAMESPACES)),
        *(_masked("unshare", 0, bit, bit) for bit in _bits(seccomp.UNSHARE_NAMESPACES)),
        *(_masked("ioctl", 1, _LOW_HALF, request) for request in seccomp.TERMINAL_REQUESTS),
    ]
    return json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "architectures": [_ARCHES[machine]], "syscalls": rules})


def _bits(flags: int) -> Sequence[int]:
    return [1 << place for place in range(32) if flags >> place & 1]


def _masked(name: str, index: int, mask: int, value: int) -> Mapping[str, Any]:
    return _rule([name], arguments=[{**_argument(index, mask, "SCMP_CMP_MASKED_EQ"), "valueTwo": value}])


def _argument(index: int, value: int, operator: str) -> dict[str, Any]:
    return {"index": index, "value": value, "op": operator}


def _rule(names: Sequence[str], code: int = errno.EPERM, arguments: Sequence[Any] = ()) -> Mapping[str, Any]:
    return {"names": list(names), "action": "SCMP_ACT_ERRNO", "errnoRet": code, "args": list(arguments)}
