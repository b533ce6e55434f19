"""Builds in real containers of a real engine: attacks with their controls, limits, networks, images, and what is left."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hooks.builds.compute import ImageNames, Share
from hooks.builds.executor import Network, RoomRequest
from hooks.builds.executors.container import ContainerExecutor, ContainerSettings
from hooks.builds.launch import Limits
from hooks.builds.phases import BuildStatus
from hooks.builds.plan import BuildOutcome
from tests.build_bench import Log, build, eventually, host_processes, work_directory
from tests.functional.test_build_run import FETCH, web_server
from tests.harness.podman import IMAGE, Podman

MIB = 1024**2
SMALL = Limits(memory_bytes=128 * MIB, processes=40, workspace_bytes=8 * MIB, tmp_bytes=4 * MIB)


@pytest.fixture(scope="module")
def settings(podman: Podman) -> Iterator[ContainerSettings]:
    with work_directory() as place:
        yield ContainerSettings(podman.socket, place, images=ImageNames(usual=IMAGE))
        assert not podman.engine.containers(f"entrepot.builds={place}"), "a build left its container"
        assert not list(place.glob("build-*")), "a build left its workspace"


@pytest.fixture(scope="module")
def executor(settings: ContainerSettings) -> ContainerExecutor:
    return ContainerExecutor(settings)


def run(executor: ContainerExecutor, *commands: str, **plan) -> tuple[BuildOutcome, Log]:
    spec = json.dumps({"version": "0.2", "phases": {"build": {"commands": commands}}})  # which is YAML, too
    outcome, log = build(executor, spec, **plan)
    log.commands = commands
    return outcome, log


# --- attacks (H2, H3), each with a control


def test_H2_H3_every_way_out_is_refused_and_the_probe_would_see_it(executor, settings):
    report = executor.probe()
    assert report.ok, report.summary
    assert len(report.findings) > 60
    without = ContainerExecutor(dataclasses.replace(settings, uses_filter=False))
    availability = without.available()
    assert not availability.ok
    for name in ("socket families", "system call io_uring_setup", "system call keyctl", "clone3", "filter on self"):
        assert name in availability.reason
    report = executor.probe()
    assert {"the runner's mem", "unshare(CLONE_NEWUSER)", "capabilities", "system call bpf", "system call mount"} <= {
        finding.name for finding in report.findings
    }


def test_H2_memory_and_variables_of_others_stay_closed(executor, settings):
    os.environ["ENTREPOT_TEST_CANARY"] = "canary-8272"
    try:
        _, log = run(
            executor,
            "grep -c canary /proc/*/environ 2>/dev/null | grep -vc :0 || true",
            "ls -d /proc/[0-9]* | wc -l",
            "head -c1 /proc/kcore 2>/dev/null | wc -c",
            "cat /proc/1/environ /proc/1/maps 2>/dev/null | wc -c",
            f"ls {settings.work_dir} {settings.socket} 2>/dev/null || echo hidden",
            "id -un; id -u; cat /proc/self/status | grep -E 'CapBnd|NoNewPrivs'",
            "echo x >/usr/bin/x || echo read-only",
        )
    finally:
        del os.environ["ENTREPOT_TEST_CANARY"]
    output = [line for line in log.output if "Read-only" not in line]
    assert output[0] == "0"
    assert int(output[1]) < 10
    assert output[2:5] == ["0", "0", "hidden"]
    assert output[5] == "build"
    assert int(output[6]) >= settings.users.first
    assert [line.split()[1] for line in output[7:9]] == ["0" * 16, "1"]
    assert output[9] == "read-only"


# --- resources (H5)


def test_H5_processes_memory_and_files_have_their_ceilings(settings):
    small = ContainerExecutor(dataclasses.replace(settings, limits=SMALL))
    outcome, log = run(
        small,
        *(
            f"head -c 16000000 /dev/zero >{place}/big || echo refused"
            for place in ("/codebuild/src", "/tmp", "/dev/shm")
        ),
        "rm -f /codebuild/src/big /tmp/big /dev/shm/big; head -c 3000000 /dev/zero >/tmp/small && echo fits",
        "python3 -c 'bytearray(400 * 1024 * 1024)' || echo killed",
        "python3 -c 'print(len(bytearray(20 * 1024 * 1024)))'",
        "for i in $(seq 200); do sleep 100 >/dev/null 2>&1 & done; echo made it",
    )
    said = [line for line in log.output if line in {"refused", "fits", "killed", "made it", str(20 * MIB)}]
    assert said == ["refused", "refused", "refused", "fits", "killed", str(20 * MIB)]
    assert "fork" in log.text
    assert outcome.status is BuildStatus.FAILED
    # the control: the same bomb under the usual limit is no bomb
    usual = ContainerExecutor(settings)
    assert run(usual, "for i in $(seq 60); do sleep 100 >/dev/null 2>&1 & done; echo made it")[1].output == ["made it"]


def test_H5_a_daemon_ends_with_its_build(executor):
    marker = f"29{os.getpid()}"
    _, log = run(executor, f"{DAEMON} {marker} >/dev/null 2>&1", f"grep -lz {marker} /proc/[0-9]*/cmdline | wc -l")
    assert int(log.output[0]) >= 1, "the daemon did not live on after its item"
    assert not host_processes(f"sleep\0{marker}")


DAEMON = 'python3 -c \'import os, sys; os.fork() or (os.setsid(), os.execvp("sleep", ["sleep", sys.argv[1]]))\''
KEEPER = """
import sys
from pathlib import Path
from hooks.builds.compute import ImageNames
from hooks.builds.executor import Item, SandboxRequest, SourceBundle
from hooks.builds.executors.container import ContainerExecutor, ContainerSettings
settings = ContainerSettings(sys.argv[1], Path(sys.argv[2]), images=ImageNames(usual=sys.argv[3]))
sandbox = ContainerExecutor(settings).prepare(SandboxRequest("kept"))
sandbox.fetch(SourceBundle(()), print, lambda: None)
sandbox.define(sandbox.variables)
sandbox.run(Item(sys.argv[5] + " " + sys.argv[4] + "; exec sleep " + sys.argv[4]), print, lambda: None)
"""


def test_H5_a_killed_worker_leaves_nothing_after_the_next_sweep(executor, settings, podman: Podman):
    marker = f"31{os.getpid()}"
    worker = subprocess.Popen(
        [sys.executable, "-c", KEEPER, podman.socket, str(settings.work_dir), IMAGE, marker, DAEMON],
        cwd=Path(__file__).parents[2],
    )
    try:
        eventually(lambda: len(host_processes(f"sleep\0{marker}")) == 2)
        executor.sweep()
        assert len(host_processes(f"sleep\0{marker}")) == 2, "the sweep took a living worker's build"
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    eventually(lambda: not host_processes(f"sleep\0{marker}"), "the container outlived its worker")
    assert executor.sweep() == 1
    assert not podman.engine.containers(f"entrepot.builds={settings.work_dir}")
    assert not list(settings.work_dir.glob("build-*"))


# --- the network (H4)


def test_H4_networks_reach_nothing_the_registry_or_what_the_server_allows(settings, executor):
    with web_server() as registry, web_server() as other:
        fetches = [
            FETCH.format("http://127.0.0.1:7979/x"),
            FETCH.format(f"http://127.0.0.1:{other[1]}/y"),
            "python3 -c 'import socket; socket.socket(40, socket.SOCK_STREAM)' 2>&1 | tail -1",
        ]
        linked = ContainerExecutor(dataclasses.replace(settings, registry_address=registry))
        _, log = run(linked, *fetches, network=Network.REGISTRY)
        assert log.output[0].startswith("registry says /x"), log.text
        assert log.output[1] == "unreachable"
        assert "Operation not permitted" in log.output[2]
        assert run(linked, *fetches[:2], network=Network.NONE)[1].output == ["unreachable", "unreachable"]
        outcome, log = run(linked, "true", network=Network.FULL)
        assert outcome.status is BuildStatus.FAILED
        assert "network 'full': this server allows it to no build" in log.text
        # the control: with the engine's network of the machine itself the other server answers
        opened = ContainerExecutor(dataclasses.replace(settings, registry_address=registry, full_network="host"))
        assert run(opened, fetches[1], network=Network.FULL)[1].output[0].startswith("registry says /y")


# --- users, privileges, sizes


def test_H3_root_and_privileges_are_the_settings_to_give(settings, executor):
    outcome, log = run(executor, "true", room=RoomRequest(is_privileged=True))
    assert (outcome.status, "privilegedMode: this server allows it" in log.text) == (BuildStatus.FAILED, True)
    rooted = dataclasses.replace(settings, runs_as_root=True, has_writable_root=True, capabilities=("CHOWN",))
    _, log = run(
        ContainerExecutor(rooted),
        "id -u; id -un; echo x >/usr/bin/x && echo written",
        "grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status",
    )
    assert log.output[:3] == ["0", "root", "written"]
    assert [line.split()[1] for line in log.output[3:]] == ["0" * 15 + "1", "1"]
    privileged = ContainerExecutor(dataclasses.replace(settings, allows_privileged=True))
    _, log = run(privileged, "grep CapEff /proc/self/status", room=RoomRequest(is_privileged=True))
    assert int(log.output[0].split()[1], 16) > 0
    assert "it can take this machine over" in log.text


def test_compute_types_are_limits_that_the_server_bounds(settings):
    bounded = ContainerExecutor(dataclasses.replace(settings, most=Share(4 * 1024**3, 1)))
    script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max"
    _, log = run(bounded, script, room=RoomRequest(compute_type="BUILD_GENERAL1_SMALL"))
    assert log.output == [str(3 * 1024**3)]
    assert "this server gives 3 GiB and 1" in log.text
    outcome, log = run(bounded, script, room=RoomRequest(compute_type="BUILD_HUGE"))
    assert (outcome.status, "computeType 'BUILD_HUGE'" in log.text) == (BuildStatus.FAILED, True)


# --- images (H12)


def test_images_that_are_not_allowed_or_not_here(settings, executor):
    for image, message in (
        ("example.test/tool:1", "is not among those that this server allows"),
        ("localhost/nothing", "localhost/nothing:latest is not on this machine, and this server pulls none"),
        ("sha256:" + "0" * 64, "is not the name of an image"),
        ("aws/codebuild/standard:2.0", ""),
    ):
        outcome, log = run(executor, "echo $FROM_IMAGE $PATH", room=RoomRequest(image=image))
        if message:
            assert (outcome.status, message in log.text) == (BuildStatus.FAILED, True), log.text
        else:
            assert "aws/codebuild/standard:2.0 is one that CodeBuild has retired" in log.text
            assert log.output == ["yes /codebuild/home/.local/bin:/codebuild/user/bin:/opt/tool/bin:/usr/bin:/bin"]


@pytest.mark.long  # test_container_projects shows it from a project on
def test_H12_a_name_that_means_another_image_stops_the_build_until_it_is_accepted(settings, executor, podman: Podman):
    used: list[str] = []
    _, log = run(executor, "true", room=RoomRequest(on_digest=used.append))
    digest = podman.engine.image(f"{IMAGE}:latest").digest
    assert used == [digest]
    assert f"Image {IMAGE}:latest {digest}" in log.text
    assert run(executor, "true", room=RoomRequest(pinned_digest=digest))[0].status is BuildStatus.SUCCEEDED
    before = "sha256:" + "0" * 64
    moved = RoomRequest(image=IMAGE, pinned_digest=before, on_digest=used.append)
    outcome, log = run(executor, "true", room=moved)
    assert outcome.status is BuildStatus.FAILED
    assert "save the build project again to accept it" in log.text
    assert used == [digest], "a refused image is not the project's"
    warned = ContainerExecutor(dataclasses.replace(settings, moved_images="warn"))
    outcome, log = run(warned, "true", room=moved)
    assert (outcome.status, "Warning: image" in log.text, used) == (BuildStatus.SUCCEEDED, True, [digest, digest])
    # the image of the server's own settings is its operator's to renew
    outcome, log = run(executor, "true", room=RoomRequest(pinned_digest=before))
    assert (outcome.status, "Warning: image" in log.text) == (BuildStatus.SUCCEEDED, True)


def test_an_engine_that_is_not_there_is_said(settings):
    gone = ContainerExecutor(dataclasses.replace(settings, socket="/nonexistent/engine.sock"))
    availability = gone.available()
    assert not availability.ok
    assert "/nonexistent/engine.sock" in availability.reason
