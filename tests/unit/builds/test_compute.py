"""Compute types, names of images, the profile of system calls, and sources of packages: what is pure of containers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hooks.builds import rootfs, seccomp
from hooks.builds.compute import COMPUTE_TYPES, GIB, ImageNames, Share, container_faults, share, with_tag
from hooks.builds.executor import ExecutorError, Refused
from hooks.builds.seccomp_profile import build_profile

USUAL, MOST = Share(GIB, 1), Share(8 * GIB, 4)


def test_a_compute_type_is_a_share_of_the_machine_up_to_what_the_server_gives() -> None:
    assert share("", USUAL, MOST) == (USUAL, "")
    assert share("BUILD_GENERAL1_MEDIUM", USUAL, MOST) == (Share(7 * GIB, 4), "")
    given, line = share("BUILD_GENERAL1_LARGE", USUAL, MOST)
    assert given == MOST
    assert line == "Warning: BUILD_GENERAL1_LARGE is 15 GiB and 8 processors; this server gives 8 GiB and 4"
    with pytest.raises(Refused, match="BUILD_GENERAL1_SMALL"):
        share("build_general1_small", USUAL, MOST)
    assert COMPUTE_TYPES["BUILD_LAMBDA_10GB"] == (10 * GIB, 5)


@pytest.mark.parametrize(
    ("name", "image", "lines"),
    [
        ("", "localhost/usual:1", 0),
        ("aws/codebuild/standard:7.0", "localhost/usual:1", 1),
        ("aws/codebuild/amazonlinux2-x86_64-standard:5.0", "localhost/usual:1", 1),
        ("aws/codebuild/standard:4.0", "localhost/usual:1", 2),
        ("aws/codebuild/amazonlinux2-x86_64-standard:2.0", "localhost/usual:1", 2),
        ("aws/codebuild/ubuntu-base:14.04", "localhost/usual:1", 2),
        ("aws/codebuild/python:3.6.5", "localhost/usual:1", 2),
        ("aws/codebuild/amazonlinux2-aarch64-standard:3.0", "localhost/arm:latest", 1),
        ("registry.example/old/tool", "localhost/tool:latest", 1),
        ("localhost/mine", "localhost/mine:latest", 0),
    ],
)
def test_names_of_images(name: str, image: str, lines: int) -> None:
    aliases = {"*aarch64*": "localhost/arm", "registry.example/old/tool": "localhost/tool"}
    meant = ImageNames("localhost/usual:1", aliases).resolve(name)
    assert (meant.image, len(meant.lines)) == (image, lines)
    assert meant.is_the_servers == (name != "localhost/mine")


@pytest.mark.parametrize(
    "name", ["registry.example/tool:1", "sha256:" + "a" * 64, "0123456789ab", "-x", "a b", "x" * 300]
)
def test_images_that_may_not_be_named(name: str) -> None:
    with pytest.raises(Refused):
        ImageNames().resolve(name)
    assert (
        ImageNames(allowed=("registry.example/*",)).resolve("registry.example/tool:1").image
        == "registry.example/tool:1"
    )


def test_tags_and_what_is_wrong_with_a_project() -> None:
    assert [with_tag(name) for name in ("a", "a:1", "h:5000/a", "a@sha256:0")] == [
        "a:latest",
        "a:1",
        "h:5000/a:latest",
        "a@sha256:0",
    ]
    assert container_faults("", "") == container_faults("aws/codebuild/standard:7.0", "BUILD_GENERAL1_SMALL") == []
    assert len(container_faults("deadbeefcafe", "HUGE")) == 2


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_profile_refuses_what_the_filter_refuses(machine: str) -> None:
    profile = json.loads(build_profile(machine))
    assert profile["defaultAction"] == "SCMP_ACT_ALLOW"
    assert len(profile["architectures"]) == 1
    always = {name for rule in profile["syscalls"] if not rule["args"] for name in rule["names"]}
    assert always == {*seccomp.denied(machine), "clone3"}
    families = [rule["args"][0] for rule in profile["syscalls"] if "socket" in rule["names"]]

    def is_refused(family: int) -> bool:
        compare = {"SCMP_CMP_EQ": family.__eq__, "SCMP_CMP_GT": family.__gt__}
        return any(compare[argument["op"]](argument["value"]) is True for argument in families)

    assert {family for family in range(64) if not is_refused(family)} == set(seccomp.ALLOWED_FAMILIES)
    assert is_refused(2 + (1 << 32))
    masks = [rule["args"][0] for rule in profile["syscalls"] if "clone" in rule["names"]]
    assert sum(argument["value"] for argument in masks) == seccomp.CLONE_NAMESPACES
    with pytest.raises(seccomp.UnsupportedMachine):
        build_profile("riscv64")


ONE_LINE = "# a comment\ndeb [signed-by=/k.gpg arch=amd64] http://mirror.example/debian bookworm main\n"
PARAGRAPHS = """Types: deb
URIs: http://security.example/debian
Suites: bookworm-security

Types: deb
URIs: http://mirror.example/debian http://other.example/debian
Suites: bookworm bookworm-updates
Components: main
"""


@pytest.mark.parametrize("text", [ONE_LINE, PARAGRAPHS])
def test_the_mirror_is_the_machines_own(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "debian.sources").write_text(text)
    monkeypatch.setattr(rootfs, "_SOURCES", (str(tmp_path),))

    def read(path: Path) -> str:
        return 'VERSION_CODENAME="bookworm"\n' if path == Path("/etc/os-release") else path.read_text()

    assert rootfs.mirror(read) == ("bookworm", "http://mirror.example/debian")
    with pytest.raises(ExecutorError, match="no archive of its own release"):
        rootfs.mirror(lambda path: read(path).replace('"bookworm"', "trixie"))
