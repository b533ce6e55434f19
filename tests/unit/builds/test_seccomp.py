"""The filter's decisions, by interpreting it: so the program for a machine we are not on is tested as well."""

import errno
import struct

import pytest

from hooks.builds.seccomp import ALLOW, ERRNO, KILL_PROCESS, UnsupportedMachine, build_filter, denied

EPERM = ERRNO | errno.EPERM
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CALLS = {
    "x86_64": {
        "read": 0,
        "ioctl": 16,
        "socket": 41,
        "socketpair": 53,
        "clone": 56,
        "execve": 59,
        "unshare": 272,
        "clone3": 435,
    },
    "aarch64": {
        "read": 63,
        "ioctl": 29,
        "socket": 198,
        "socketpair": 199,
        "clone": 220,
        "execve": 221,
        "unshare": 97,
        "clone3": 435,
    },
}


def decide(program: bytes, arch: int, number: int, *arguments: int) -> int:
    data = struct.pack("<IIQ6Q", number, arch, 0, *(arguments + (0,) * 6)[:6])
    instructions = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    accumulator = at = 0
    while True:
        code, if_true, if_false, value = instructions[at]
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif code == 0x06:
            return value
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[code]
            at += if_true if holds else if_false


@pytest.fixture(params=["x86_64", "aarch64"])
def machine(request: pytest.FixtureRequest) -> str:
    return request.param


def test_every_denied_call_is_refused_and_ordinary_ones_pass(machine: str):
    program, arch, calls = build_filter(machine), ARCH[machine], CALLS[machine]
    assert {decide(program, arch, number) for number in denied(machine).values()} == {EPERM}
    assert decide(program, arch, calls["read"]) == ALLOW
    assert decide(program, arch, calls["execve"]) == ALLOW
    assert decide(program, arch, calls["clone3"]) == ERRNO | errno.ENOSYS


def test_socket_families(machine: str):
    program, arch = build_filter(machine), ARCH[machine]
    for name in ("socket", "socketpair"):
        allowed = {family for family in range(64) if decide(program, arch, CALLS[machine][name], family) == ALLOW}
        assert allowed == {1, 2, 10}
        # the kernel reads an int: what stands above its 32 bits must not help
        assert decide(program, arch, CALLS[machine][name], (1 << 32) | 38) == EPERM


def test_namespaces_and_threads(machine: str):
    program, arch, calls = build_filter(machine), ARCH[machine], CALLS[machine]
    for bit in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert decide(program, arch, calls["clone"], bit | 17) == EPERM
        assert decide(program, arch, calls["unshare"], bit) == EPERM
    assert decide(program, arch, calls["unshare"], 0x80) == EPERM
    assert decide(program, arch, calls["clone"], 0x3D0F00) == ALLOW  # pthread_create
    assert decide(program, arch, calls["clone"], 0x1200011) == ALLOW  # fork
    assert decide(program, arch, calls["unshare"], 0x200) == ALLOW  # CLONE_FS


def test_typing_into_terminals(machine: str):
    program, arch, calls = build_filter(machine), ARCH[machine], CALLS[machine]
    assert decide(program, arch, calls["ioctl"], 0, 0x5412) == EPERM
    assert decide(program, arch, calls["ioctl"], 0, 0x541C) == EPERM
    assert decide(program, arch, calls["ioctl"], 0, 0x5413) == ALLOW


def test_foreign_calls_end_the_process(machine: str):
    program = build_filter(machine)
    assert decide(program, 0x40000003, 1) == KILL_PROCESS
    assert decide(build_filter("x86_64"), ARCH["x86_64"], 0x40000000 | 41, 38) == KILL_PROCESS


def test_an_unknown_machine_gets_no_builds():
    with pytest.raises(UnsupportedMachine):
        build_filter("riscv64")
