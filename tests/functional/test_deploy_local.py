"""``entrepot deploy run --local``: deployments on this machine, through the command, with real scripts and files."""

from __future__ import annotations

import errno
import io
import json
import os
import pwd
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from config.cli.main import main
from hooks.deployments.host import deployment as host
from hooks.deployments.host import places, scripts
from hooks.deployments.host.steps import Place
from tests.deploying import EVENTS, IS_ROOT, Machine, bundle, said, tree
from tests.harness.processes import all_pids, command_line, is_alive

needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root gives files away and runs scripts as others")
PATIENCE_SECONDS = 30.0
SH = "#!/bin/sh\n"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "state")


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that every user can enter; pytest's own are for one."""
    place = Path(tempfile.mkdtemp(prefix="entrepot-test-", dir="/var/tmp"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


def files_to(destination: Path, source: str = "app") -> str:
    return f"files:\n  - source: {source}\n    destination: {destination}\n"


def hooks_of(**events: str) -> str:
    return "hooks:\n" + "".join(f"  {event}:\n    - {{{text}}}\n" for event, text in events.items())


def eventually(check) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- files


def test_two_releases_one_after_the_other(machine: Machine, tmp_path: Path):
    out = tmp_path / "opt/app"
    first = bundle(tmp_path / "1", files_to(out), {"app/a": "1", "app/gone/b": "1", "app/.hidden": "1"})
    (first / "app/link").symlink_to("a")
    (first / "app/a").chmod(0o640)
    os.utime(first / "app/a", (1_000_000_000, 1_000_000_000))
    machine.deploy(first)
    assert tree(out) == {"a": "1", "gone/": "", "gone/b": "1", ".hidden": "1", "link": "-> a"}
    facts = (out / "a").stat()
    assert (stat.S_IMODE(facts.st_mode), facts.st_mtime, facts.st_uid) == (0o640, 1_000_000_000, os.geteuid())
    (out / "gone/of-the-application").write_text("kept")
    machine.deploy(bundle(tmp_path / "2", files_to(out), {"app/a": "2", "app/new": "2"}))
    assert tree(out) == {"a": "2", "new": "2", "gone/": "", "gone/of-the-application": "kept"}
    # what a deployment has made above its destination goes with it
    machine.deploy(bundle(tmp_path / "3", files_to(tmp_path / "x/y"), {"app/a": "3"}))
    machine.deploy(bundle(tmp_path / "4", files_to(tmp_path / "elsewhere"), {"app/a": "4"}))
    assert not (tmp_path / "x").exists()


def test_files_that_are_there_already(machine: Machine, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a").write_text("of somebody")
    source = bundle(tmp_path / "b", files_to(out), {"app/a": "new", "app/c": "new"})
    told = machine.deploy(source, fails=True)
    assert said(told["Install"]) == ("Failed", "UnknownError")
    assert f"{out}/a: a file of that name lies there" in told["Install"]["diagnostics"]["message"]
    assert [told[event]["status"] for event in ("AfterInstall", "ValidateService")] == ["Skipped", "Skipped"]
    assert tree(out) == {"a": "of somebody"}
    machine.deploy(source, "--file-exists-behavior", "RETAIN")
    assert tree(out) == {"a": "of somebody", "c": "new"}
    machine.deploy(source, "--file-exists-behavior", "OVERWRITE")
    assert tree(out) == {"a": "new", "c": "new"}
    # what is retained was never the deployment's: it survives; what was overwritten is, and goes
    machine.deploy(bundle(tmp_path / "c", files_to(out), {"app/d": "d"}))
    assert tree(out) == {"d": "d"}


def test_a_conflict_leaves_the_release_before_in_place(machine: Machine, tmp_path: Path):
    out = tmp_path / "out"
    machine.deploy(bundle(tmp_path / "1", files_to(out), {"app/a": "1"}))
    (out / "b").write_text("of somebody")
    told = machine.deploy(bundle(tmp_path / "2", files_to(out), {"app/a": "2", "app/b": "2"}), fails=True)
    assert said(told["Install"]) == ("Failed", "UnknownError")
    assert tree(out) == {"a": "1", "b": "of somebody"}


def test_another_group_does_not_own_the_files(machine: Machine, tmp_path: Path):
    source = bundle(tmp_path / "1", files_to(tmp_path / "out"), {"app/a": "1"})
    machine.deploy(source, "--group", "one")
    told = machine.deploy(source, "--group", "two", fails=True)
    assert "not of the deployment before" in told["Install"]["diagnostics"]["message"]


@pytest.mark.parametrize("kind", ["tar", "tgz", "zip"])
def test_archives_and_their_one_directory_at_the_top(machine: Machine, tmp_path: Path, kind: str):
    out = tmp_path / "out"
    source = bundle(tmp_path / "src", files_to(out), {"app/run.sh": SH, "app/d/a": "1"})
    (source / "app/l").symlink_to("d/a")
    archive = tmp_path / f"bundle.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as packed:
            for path in sorted(source.rglob("*")):
                if path.is_symlink():
                    entry = zipfile.ZipInfo(f"top/{path.relative_to(source)}")
                    entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
                    packed.writestr(entry, str(path.readlink()))
                elif path.is_file():
                    packed.write(path, f"top/{path.relative_to(source)}")
    else:
        with tarfile.open(archive, "w:gz" if kind == "tgz" else "w") as packed:
            packed.add(source, "top")
    machine.deploy(archive)
    assert tree(out) == {"d/": "", "d/a": "1", "l": "-> d/a", "run.sh": SH}
    assert os.access(out / "run.sh", os.X_OK)


def test_appspec_yaml_is_found_for_files_and_hooks(machine: Machine, tmp_path: Path):
    appspec = files_to(tmp_path / "out") + hooks_of(AfterInstall="location: s.sh")
    source = bundle(tmp_path / "b", appspec, {"app/a": "1", "s.sh": f"{SH}touch {tmp_path}/ran"})
    (source / "appspec.yml").rename(source / "appspec.yaml")
    machine.deploy(source)
    assert (tmp_path / "ran").exists()


def test_a_faulty_document_fails_with_all_its_faults(machine: Machine, tmp_path: Path):
    told = machine.deploy(bundle(tmp_path / "b", "files: [{source: a}]\nhooks: {AfterInstall: [{}]}"), fails=True)
    message = told["DownloadBundle"]["diagnostics"]["message"]
    assert "destination is missing" in message
    assert "location is missing" in message


def test_five_archives_are_kept(machine: Machine, tmp_path: Path):
    source = bundle(tmp_path / "b", files_to(tmp_path / "out"), {"app/a": "1"})
    ids = [machine.deploy(source, "--events", EVENTS)["id"] for _ in range(7)]
    kept = {path.name for path in (machine.root / "default-local-deployment-group").iterdir() if path.is_dir()}
    assert kept == set(ids[-5:])


# --- permissions


@needs_root
def test_owners_modes_and_access_control_lists(machine: Machine, tmp_path: Path):
    out = tmp_path / "out"
    appspec = files_to(out) + (
        f"permissions:\n  - object: {out}\n    owner: daemon\n    group: daemon\n    mode: 0640\n    type: [file]\n"
        f"    acls: ['u:nobody:rw']\n  - object: {out}\n    mode: 2750\n    owner: daemon\n    type: [directory]\n"
        "    acls: ['d:u:nobody:rx']\n"
    )
    source = bundle(tmp_path / "b", appspec, {"app/d/a": "1"})
    machine.deploy(source)
    daemon, nobody = pwd.getpwnam("daemon"), pwd.getpwnam("nobody")
    facts = (out / "d/a").stat()
    assert (stat.S_IMODE(facts.st_mode), facts.st_uid, facts.st_gid) == (0o640, daemon.pw_uid, daemon.pw_gid)
    assert acl(out / "d/a", "access") == {
        (1, 6, None),
        (2, 6, nobody.pw_uid),
        (4, 4, None),
        (16, 4, None),
        (32, 0, None),
    }
    facts = (out / "d").stat()
    assert (stat.S_IMODE(facts.st_mode), facts.st_uid) == (0o2750, daemon.pw_uid)  # chown alone would clear the bit
    assert acl(out / "d", "default") == {
        (1, 7, None),
        (2, 5, nobody.pw_uid),
        (4, 5, None),
        (16, 5, None),
        (32, 0, None),
    }
    assert out.stat().st_uid == 0  # the object itself is not changed


def acl(path: Path, kind: str) -> set[tuple[int, int, int | None]]:
    data = os.getxattr(path, f"system.posix_acl_{kind}")
    rows = struct.iter_unpack("<HHI", data[4:])
    return {(tag, rights, None if who == 0xFFFFFFFF else who) for tag, rights, who in rows}


def test_an_unknown_owner_is_known_before_anything_is_changed(machine: Machine, tmp_path: Path):
    out = tmp_path / "out"
    machine.deploy(bundle(tmp_path / "1", files_to(out), {"app/a": "1"}))
    appspec = files_to(out) + f"permissions: [{{object: {out}, owner: nobody-of-this-name}}]"
    told = machine.deploy(bundle(tmp_path / "2", appspec, {"app/a": "2"}), fails=True)
    assert "this machine has no user 'nobody-of-this-name'" in told["Install"]["diagnostics"]["message"]
    appspec = files_to(out) + f"permissions: [{{object: {out}, group: 4294967295}}]"
    told = machine.deploy(bundle(tmp_path / "2", appspec, {"app/a": "2"}), fails=True)
    assert "4294967295 is no number of a group" in told["Install"]["diagnostics"]["message"]
    assert tree(out) == {"a": "1"}


def test_contexts_of_selinux_are_set_and_forgotten(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out, calls, tools = tmp_path / "out", tmp_path / "calls", tmp_path / "tools"
    bundle(tools, "", {name: f'{SH}echo {name} "$@" >>{calls}' for name in ("semanage", "restorecon")})
    appspec = (
        files_to(out) + f"permissions: [{{object: {out}/a.txt, context: {{name: system_u, type: x_t, range: s0-s1}}}}]"
    )
    source = bundle(tmp_path / "1", appspec, {"app/a.txt": "1"})
    if shutil.which("semanage") is None:
        told = machine.deploy(source, fails=True)
        assert "semanage is not installed" in told["Install"]["diagnostics"]["message"]
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    machine.deploy(source)
    pattern = f"{out}/a.txt".replace(".", "\\.")
    set_up = [f"semanage fcontext -a -t x_t -s system_u -r s0-s1 {pattern}", f"restorecon -v {out}/a.txt"]
    assert calls.read_text().splitlines()[-2:] == set_up
    machine.deploy(bundle(tmp_path / "2", files_to(out), {"app/a.txt": "2"}))
    assert calls.read_text().splitlines()[-1] == f"semanage fcontext -d {pattern}"
    # of releases behind a link: until the next release is there
    link = tmp_path / "app/current"
    spec = appspec.replace(str(out), str(link))
    ids = [machine.deploy(bundle(tmp_path / n, spec, {"app/a.txt": n}), "--atomic", link)["id"] for n in "45"]
    first, second = (f"{tmp_path}/app/releases/{name}/a.txt".replace(".", "\\.") for name in ids)
    told = [line.split() for line in calls.read_text().splitlines()[-5:] if line.startswith("semanage")]
    assert [(words[2], words[-1]) for words in told] == [("-a", first), ("-a", second), ("-d", first)]


# --- scripts


def test_scripts_run_in_order_with_codedeploys_variables(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen = tmp_path / "seen"
    script = (
        f'{SH}echo "$LIFECYCLE_EVENT $APPLICATION_NAME $DEPLOYMENT_GROUP_NAME $DEPLOYMENT_GROUP_ID $# $PWD" >>{seen}\n'
    )
    script += (
        f'echo "$DEPLOYMENT_ID $OF_THE_AGENT ${{ENTREPOT_TOKEN-none}}" >>{seen}; read line || echo no input >>{seen}'
    )
    appspec = hooks_of(**dict.fromkeys(("BeforeInstall", "AfterInstall", "AfterAllowTraffic"), "location: /s.sh"))
    monkeypatch.setenv("OF_THE_AGENT", "mine")
    monkeypatch.setenv("ENTREPOT_TOKEN", "a-token-that-no-script-sees")
    options = ("--group", "g-1", "--group-name", "prod", "--application-name", "shop")
    told = machine.deploy(bundle(tmp_path / "b", appspec, {"s.sh": script}), *options)
    lines = seen.read_text().splitlines()
    assert lines == [
        line
        for event in ("BeforeInstall", "AfterInstall", "AfterAllowTraffic")
        for line in (f"{event} shop prod g-1 0 /", f"{told['id']} mine none", "no input")
    ]


def test_how_scripts_fail(machine: Machine, tmp_path: Path):
    out = {
        "fail.sh": f"{SH}echo out; echo err >&2; printf 'no end of line'; exit 3",
        "crlf.sh": "#!/bin/sh\r\necho\r\n",
        "lost.sh": "#!/no/such/interpreter\n",
        "killed.sh": f"{SH}kill -9 $$",
    }
    expected = {
        "fail.sh": ("ScriptFailed", 4, "failed with exit code 3"),
        "missing.sh": ("ScriptMissing", 1, "Script does not exist at specified location: missing.sh"),
        "crlf.sh": ("ScriptNotExecutable", 2, "CR LF"),
        "lost.sh": ("ScriptNotExecutable", 2, "/no/such/interpreter is not on this machine"),
        "killed.sh": ("ScriptFailed", 4, "failed with exit code 137"),
    }
    for name, (code, number, words) in expected.items():
        place = tmp_path / name.partition(".")[0]
        source = bundle(place, hooks_of(BeforeInstall=f"location: {name}"), out)
        told = machine.deploy(source, fails=True)["BeforeInstall"]["diagnostics"]
        assert (told["errorCode"], told["agentErrorCode"], told["scriptName"]) == (code, number, name)
        assert words in told["message"]
        if name == "fail.sh":
            log = told["logTail"].splitlines()
            assert log[:2] == ["LifecycleEvent - BeforeInstall", "Script - fail.sh"]
            assert sorted(log[2:5]) == ["[stderr]err", "[stdout]no end of line", "[stdout]out"]


def test_scripts_that_are_not_executable_or_name_no_interpreter_run(machine: Machine, tmp_path: Path):
    files = {
        "bit.sh": f"{SH}touch {tmp_path}/bit",
        "plain.sh": f"touch {tmp_path}/plain\n",
        "mark.sh": b"\xef\xbb\xbf#!/bin/sh\n" + f"touch {tmp_path}/mark\n".encode(),
    }
    listed = "".join(f"    - location: {name}\n" for name in files)
    told = machine.deploy(bundle(tmp_path / "b", f"hooks:\n  AfterInstall:\n{listed}", files, executable=False))
    assert {"bit", "plain", "mark"} <= {path.name for path in tmp_path.iterdir()}
    assert "mark.sh begins with a byte order mark" in told["AfterInstall"]["diagnostics"]["logTail"]


def test_a_script_that_takes_too_long_ends_with_all_it_has_started(machine: Machine, tmp_path: Path):
    script = f"{SH}setsid sleep 98761 & (trap '' TERM; sleep 98762) & touch {tmp_path}/began; sleep 98763"
    source = bundle(tmp_path / "b", hooks_of(AfterInstall="location: s.sh, timeout: 1"), {"s.sh": script})
    told = machine.deploy(source, fails=True)["AfterInstall"]["diagnostics"]
    assert (told["errorCode"], told["agentErrorCode"]) == ("ScriptTimedOut", 3)
    assert told["message"] == "Script at specified location: s.sh failed to complete in 1 seconds"
    assert (tmp_path / "began").exists()
    assert not [pid for pid in all_pids() if is_alive(pid) and command_line(pid).startswith("sleep 9876")]


def test_what_a_start_script_starts_stays_and_held_output_is_told(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(scripts, "HELD_OUTPUT_NOTICE_SECONDS", 0.2)
    quiet = f"{SH}sleep 1000 >/dev/null 2>&1 </dev/null & echo $! >{tmp_path}/pid"
    machine.deploy(bundle(tmp_path / "1", hooks_of(ApplicationStart="location: s.sh"), {"s.sh": quiet}))
    pid = int((tmp_path / "pid").read_text())
    assert is_alive(pid)
    os.kill(pid, signal.SIGKILL)
    loud = f"{SH}sleep 1000 & echo $! >{tmp_path}/pid"
    source = bundle(tmp_path / "2", hooks_of(ApplicationStart="location: s.sh, timeout: 1"), {"s.sh": loud})
    told = machine.deploy(source, fails=True)["ApplicationStart"]["diagnostics"]
    assert (told["errorCode"], told["agentErrorCode"]) == ("UnknownError", 6)
    assert "s.sh has ended, but a process it has started holds its output" in told["logTail"]
    assert not is_alive(int((tmp_path / "pid").read_text()))


def test_the_log_is_whole_in_the_file_and_its_tail_is_bounded(machine: Machine, tmp_path: Path):
    script = f"{SH}i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done; printf '%09000d' 7"
    told = machine.deploy(bundle(tmp_path / "b", hooks_of(AfterInstall="location: s.sh"), {"s.sh": script}))
    tail = told["AfterInstall"]["diagnostics"]["logTail"]
    assert len(tail.encode()) <= 2048
    assert tail.endswith("0007\n")
    log = machine.log(told["id"])
    assert "[stdout]line 0\n" in log
    assert "[stdout]line 499\n" in log


def test_the_stop_script_is_that_of_the_last_successful_install(machine: Machine, tmp_path: Path):
    seen = tmp_path / "seen"

    def release(name: str, stop: str = "exit 0", start: str = "exit 0") -> Path:
        appspec = hooks_of(ApplicationStop="location: stop.sh", ApplicationStart="location: start.sh")
        files = {
            "stop.sh": f"{SH}echo stop {name} >>{seen}; {stop}",
            "start.sh": f"{SH}echo start {name} >>{seen}; {start}",
        }
        return bundle(tmp_path / name, appspec, files)

    machine.deploy(release("1"))  # the first: nothing to stop
    broken = machine.deploy(release("2", stop="exit 9", start="exit 1"), fails=True)
    assert seen.read_text().split("\n")[:-1] == ["start 1", "stop 1", "start 2"]
    # what has failed after Install is the last one that was installed: its stop script is in the way of all others
    told = machine.deploy(release("3"), fails=True)["ApplicationStop"]["diagnostics"]
    assert (told["errorCode"], told["scriptName"]) == ("ScriptFailed", "stop.sh")
    assert f"the script is that of the deployment {broken['id']}" in told["message"]
    told = machine.deploy(release("3"), "--ignore-application-stop-failures")
    assert said(told["ApplicationStop"]) == ("Failed", "ScriptFailed")
    assert seen.read_text().split("\n")[-2] == "start 3"
    before = seen.read_text()
    assert machine.run(release("4"), "--skip", "Stop").exit_code == 2
    told = machine.deploy(release("4"), "--skip", "ApplicationStop")
    assert told["ApplicationStop"]["status"] == "Skipped"
    assert seen.read_text() == before + "start 4\n"


def test_events_of_ones_own(machine: Machine, tmp_path: Path):
    appspec = hooks_of(ValidateService="location: s.sh", WarmUp="location: s.sh", AfterInstall="location: s.sh")
    source = bundle(tmp_path / "b", appspec, {"s.sh": f"{SH}echo $LIFECYCLE_EVENT >>{tmp_path}/seen"})
    told = machine.deploy(source, "--events", "ValidateService,WarmUp")
    assert list(told) == ["DownloadBundle", "Install", "ValidateService", "WarmUp", "id"]
    assert (tmp_path / "seen").read_text() == "ValidateService\nWarmUp\n"
    assert machine.run(source, "--events", "Install,DownloadBundle").exit_code == 2
    assert next(iter(machine.deploy(source, "--course", "in-place"))) == "ApplicationStop"


@needs_root
def test_scripts_run_as_users_of_the_list(open_place: Path):
    machine = Machine(open_place / "state")
    seen = open_place / "seen"
    seen.mkdir(mode=0o777)
    seen.chmod(0o777)
    script = f'{SH}echo "$(id -un) $(id -gn) $HOME $USER" >{seen}/who'
    source = bundle(open_place / "b", hooks_of(AfterInstall="location: s.sh, runas: daemon"), {"s.sh": script})
    machine.deploy(source, "--allow-runas", "daemon")
    daemon = pwd.getpwnam("daemon")
    assert (seen / "who").read_text() == f"daemon daemon {daemon.pw_dir} daemon\n"
    source = bundle(open_place / "c", hooks_of(AfterInstall="location: s.sh, runas: no-such-user"), {"s.sh": script})
    told = machine.deploy(source, fails=True)["AfterInstall"]["diagnostics"]
    assert (told["errorCode"], "no such user" in told["message"]) == ("ScriptFailed", True)


# --- release directories


def test_releases_behind_a_link(machine: Machine, tmp_path: Path):
    link = tmp_path / "app/current"
    ids = []
    for number in range(7):
        appspec = files_to(link) + f"permissions: [{{object: {link}, mode: 600, type: [file]}}]"
        source = bundle(tmp_path / str(number), appspec, {"app/a": str(number), f"app/d/{number}": ""})
        ids.append(machine.deploy(source, "--atomic", link)["id"])
        assert str(link.readlink()) == f"releases/{ids[-1]}"
        assert tree(link) == {"a": str(number), "d/": "", f"d/{number}": ""}
        assert stat.S_IMODE((link / "a").stat().st_mode) == 0o600
    assert {path.name for path in (tmp_path / "app/releases").iterdir()} == set(ids[-5:])


def test_a_release_that_cannot_be_made_leaves_the_link(machine: Machine, tmp_path: Path):
    link = tmp_path / "app/current"
    machine.deploy(bundle(tmp_path / "1", files_to(link), {"app/a": "1"}), "--atomic", link)
    elsewhere = bundle(tmp_path / "2", files_to(tmp_path / "elsewhere"), {"app/a": "2"})
    told = machine.deploy(elsewhere, "--atomic", link, fails=True)
    assert f"it is not below {link}" in told["Install"]["diagnostics"]["message"]
    appspec = files_to(link) + f"permissions: [{{object: {link}, owner: nobody-of-this-name}}]"
    machine.deploy(bundle(tmp_path / "3", appspec, {"app/a": "3"}), "--atomic", link, fails=True)
    assert (link / "a").read_text() == "1"
    directory = tmp_path / "plain"
    directory.mkdir()
    told = machine.deploy(
        bundle(tmp_path / "4", files_to(directory), {"app/a": "1"}), "--atomic", directory, fails=True
    )
    assert "it is no link" in told["Install"]["diagnostics"]["message"]


def test_what_was_installed_without_a_link_goes_after_the_switch(machine: Machine, tmp_path: Path):
    link = tmp_path / "app/current"
    machine.deploy(bundle(tmp_path / "1", files_to(tmp_path / "old"), {"app/a": "1"}))
    machine.deploy(bundle(tmp_path / "2", files_to(link), {"app/a": "2"}), "--atomic", link)
    assert not (tmp_path / "old").exists()
    assert (link / "a").read_text() == "2"


# --- looking before


def test_a_dry_run_tells_everything_and_changes_nothing(machine: Machine, tmp_path: Path):
    out = tmp_path / "out"
    machine.deploy(bundle(tmp_path / "1", files_to(out), {"app/a": "1", "app/old": "1"}))
    (out / "b").write_text("of somebody")
    source = bundle(
        tmp_path / "2", files_to(out) + hooks_of(AfterInstall="location: s.sh"), {"app/a": "2", "app/b": "2"}
    )
    before = tree(tmp_path)
    done = machine.run(source, "--dry-run")
    assert done.exit_code == 1
    assert f"remove\t{out}/old\n" in done.stdout
    assert f"create\t{out}/a\n" in done.stdout
    assert f"conflict\t{out}/b\ta file of that name" in done.stdout
    told = json.loads(machine.run(source, "--dry-run", "--json", "--file-exists-behavior", "OVERWRITE").stdout)
    assert (told["conflicts"], told["willOverwrite"], told["hooks"]) == ([], [f"{out}/b"], {"AfterInstall": ["s.sh"]})
    link = machine.run(
        bundle(tmp_path / "3", files_to(tmp_path / "l"), {"app/a": ""}), "--dry-run", "--atomic", tmp_path / "l"
    )
    assert f"switch\t{tmp_path}/l\n" in link.stdout
    shutil.rmtree(tmp_path / "3")
    assert tree(tmp_path) == before


def test_lint_looks_at_the_document_and_what_it_names(tmp_path: Path):
    files = {"crlf.sh": "#!/bin/sh\r\n", "bit.sh": SH}
    listed = "".join(f"    - location: {name}\n" for name in (*files, "none.sh"))
    source = bundle(
        tmp_path, f"files: [{{source: x, destination: /y}}]\nhooks:\n  AfterInstall:\n{listed}", files, executable=False
    )
    done = CliRunner().invoke(main, ["deploy", "lint", str(source / "appspec.yml")])
    assert done.exit_code == 0
    words = ("the bundle has no x", "CR LF", "bit.sh is not executable", "the bundle has no script none.sh")
    assert [word in line for word, line in zip(words, done.output.splitlines(), strict=True)] == [True] * 4
    done = CliRunner().invoke(main, ["deploy", "lint", "--json", "-"], input="version: 2\nos: linux")
    assert done.exit_code == 1
    assert json.loads(done.output)["faults"] == [{"line": 1, "text": "version '2' is unknown; it has to be 0.0"}]


def test_a_deployment_of_a_plain_installation_prints_a_line_for_each_event(machine: Machine, tmp_path: Path):
    done = machine.run(bundle(tmp_path / "b", hooks_of(AfterInstall="location: none.sh")), "--course", "in-place")
    assert done.exit_code == 1
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [(row[0], row[1], row[3]) for row in rows] == [
        ("ApplicationStop", "Succeeded", ""), ("DownloadBundle", "Succeeded", ""), ("BeforeInstall", "Succeeded", ""),
        ("Install", "Succeeded", ""), ("AfterInstall", "Failed", "ScriptMissing"), ("ApplicationStart", "Skipped", ""),
        ("ValidateService", "Skipped", ""),
    ]  # fmt: skip


# --- interruptions


def test_a_script_that_was_interrupted_is_not_run_again(machine: Machine, tmp_path: Path):
    script = f"{SH}echo ran >>{tmp_path}/ran; sleep 98765"
    appspec = files_to(tmp_path / "out") + hooks_of(AfterInstall="location: s.sh", ApplicationStart="location: t.sh")
    source = bundle(tmp_path / "b", appspec, {"app/a": "1", "s.sh": script, "t.sh": f"{SH}touch {tmp_path}/never"})
    with machine.started(source) as process:
        eventually((tmp_path / "ran").exists)
        busy = machine.run(source)
        assert (busy.exit_code, "is being carried out on this machine" in busy.output) == (1, True)
        process.kill()
    eventually(lambda: not [pid for pid in all_pids() if is_alive(pid) and "98765" in command_line(pid)])
    (mark,) = (machine.root / "ongoing-deployment").iterdir()
    told = machine.deploy(None, "--resume", mark.name, fails=True)
    assert said(told["Install"]) == ("Succeeded", "Success")
    assert told["AfterInstall"]["diagnostics"]["agentErrorCode"] == 7
    assert "whether it has done its work is not known" in told["AfterInstall"]["diagnostics"]["message"]
    assert (tmp_path / "ran").read_text() == "ran\n"
    assert not (tmp_path / "never").exists()
    assert not list((machine.root / "ongoing-deployment").iterdir())


def test_ctrl_c_ends_the_script_and_the_deployment(machine: Machine, tmp_path: Path):
    source = bundle(
        tmp_path / "b", hooks_of(AfterInstall="location: s.sh"), {"s.sh": f"{SH}touch {tmp_path}/ran; sleep 98764"}
    )
    with machine.started(source) as process:
        eventually((tmp_path / "ran").exists)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    events = {event["lifecycleEventName"]: event for event in json.loads(output)["lifecycleEvents"]}
    assert "was stopped" in events["AfterInstall"]["diagnostics"]["message"]
    assert events["ApplicationStart"]["status"] == "Skipped"


CAMPAIGN = Path(__file__).parents[1] / "fakes" / "killed_deployment.py"


def killed(kind: str, place: Path, every: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(CAMPAIGN), kind, str(place), str(every)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=CAMPAIGN.parents[2])


def campaign(kind: str, place: Path, every: int) -> dict[str, int]:
    done = killed(kind, place, every)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", ["plain", "atomic"])
def test_killed_at_any_step_a_deployment_goes_on_to_the_same_end(kind: str, tmp_path: Path):
    told = campaign(kind, tmp_path, 6)
    assert told["kills"] >= 8
    if kind == "atomic":
        assert told["old"] + told["new"] == told["kills"]
        assert told["old"]
        assert told["new"]


def test_notes_that_come_too_late_are_found_out(tmp_path: Path):
    """Negative control of the campaign."""
    done = killed("late", tmp_path, 20)
    assert done.returncode == 1
    # A file that nobody has noted is in the way, or a directory has not got its mode: whichever the kill left.
    assert "which is not of the deployment before" in done.stderr or "/out/app/new'" in done.stderr


@pytest.mark.long
@pytest.mark.parametrize("kind", ["plain", "atomic"])
def test_killed_at_every_step_a_deployment_goes_on_to_the_same_end(kind: str, tmp_path: Path):
    assert campaign(kind, tmp_path, 1)["kills"] >= 75


@pytest.mark.parametrize("cut", [1, 5])
def test_a_torn_last_line_of_the_record_counts_as_not_written(machine: Machine, tmp_path: Path, cut: int):
    out = tmp_path / "out"
    machine.deploy(bundle(tmp_path / "1", files_to(out), {"app/a": "1", "app/z": "1"}))
    record = machine.root / "deployment-instructions" / "default-local-deployment-group-cleanup"
    record.write_bytes(record.read_bytes()[:-cut])
    told = machine.deploy(bundle(tmp_path / "2", files_to(out), {"app/a": "2"}))
    assert tree(out) == {"a": "2", "z": "1"}
    assert said(told["Install"]) == ("Succeeded", "Success")
    record.write_bytes(b"nonsense\n")
    told = machine.deploy(bundle(tmp_path / "3", files_to(out), {"app/a": "3"}), fails=True)
    assert "line 1: this is not what was written" in told["Install"]["diagnostics"]["message"]


def test_a_directory_of_the_agent_that_others_may_write_to_is_refused(machine: Machine, tmp_path: Path):
    machine.root.mkdir()
    machine.root.chmod(0o777)
    done = machine.run(bundle(tmp_path / "b", "files:\n"))
    assert (done.exit_code, "nobody else may write to it" in done.output) == (1, True)


def test_a_bundle_that_is_no_archive(machine: Machine, tmp_path: Path):
    archive = tmp_path / "x.tgz"
    archive.write_bytes(io.BytesIO(b"\x1f\x8bnonsense").getvalue())
    told = machine.deploy(archive, fails=True)
    assert "is no tar or zip file that can be read" in told["DownloadBundle"]["diagnostics"]["message"]


# --- archives


def corrupt(path: Path, at: int) -> Path:
    data = bytearray(path.read_bytes())
    data[at : at + 200] = b"\xff" * 200
    path.write_bytes(data)
    return path


def test_broken_and_strange_archives_are_told(machine: Machine, tmp_path: Path):
    source = bundle(tmp_path / "b", files_to(tmp_path / "out"), {"app/a": "".join(map(str, range(50_000)))})
    archives = []
    for ending in ("gz", "xz"):
        with tarfile.open(tmp_path / f"x.tar.{ending}", f"w:{ending}") as tar:
            tar.add(source, arcname=".")
        archives.append(corrupt(tmp_path / f"x.tar.{ending}", 5000))
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.write(source / "app/a", "a")
    archives.append(corrupt(tmp_path / "x.zip", 5000))
    with tarfile.open(tmp_path / "late.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        entry = tarfile.TarInfo("a")
        entry.pax_headers = {"mtime": "1e30"}
        tar.addfile(entry)
    archives.append(tmp_path / "late.tar")
    with tarfile.open(tmp_path / "header.tar", "w") as tar:
        for name in ("appspec.yml", "app/a"):
            tar.add(source / name, arcname=name)
    archives.append(corrupt(tmp_path / "header.tar", 1024))  # where the second member begins
    for archive in archives:
        told = machine.deploy(archive, fails=True)["DownloadBundle"]
        assert said(told) == ("Failed", "UnknownError"), archive
        assert "is no tar or zip file that can be read" in told["diagnostics"]["message"], archive


def test_a_tar_file_that_ends_with_a_zip_file_is_one(machine: Machine, tmp_path: Path):
    jar = io.BytesIO()
    with zipfile.ZipFile(jar, "w") as file:
        file.writestr("inner", "x")
    source = bundle(tmp_path / "b", files_to(tmp_path / "out"), {"app/z.jar": jar.getvalue()})
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in ("appspec.yml", "app/z.jar"):
            tar.add(source / name, arcname=name)
    assert zipfile.is_zipfile(tmp_path / "x.tar")
    machine.deploy(tmp_path / "x.tar")
    assert (tmp_path / "out/z.jar").read_bytes() == jar.getvalue()


def test_what_a_bundles_modes_say_counts_where_it_is_installed(machine: Machine, tmp_path: Path):
    out = tmp_path / "out"
    source = bundle(tmp_path / "b", files_to(out), {"app/a": "1", "app/d/b": "1", "app/c": "1"})
    for name, mode in (("a", 0o666), ("d/b", 0o775), ("c", 0o640)):
        (source / "app" / name).chmod(mode)
    with tarfile.open(tmp_path / "x.tgz", "w:gz") as tar:
        tar.add(source, arcname="top")
    for where in (source, tmp_path / "x.tgz"):
        machine.deploy(where)
        assert [stat.S_IMODE((out / name).stat().st_mode) for name in ("a", "d/b", "c")] == [0o666, 0o775, 0o640]
    shutil.rmtree(out)
    machine.deploy(source, "--atomic", out)
    assert stat.S_IMODE((out / "a").stat().st_mode) == 0o666


# --- what is found before anything is changed


def test_a_directory_that_stays_is_in_a_files_way_before_anything_is_removed(machine: Machine, tmp_path: Path):
    out = tmp_path / "out"
    machine.deploy(bundle(tmp_path / "1", files_to(out), {"app/conf/a": "1", "app/old": "1"}))
    (out / "conf/of-the-application").write_text("kept")
    second = bundle(tmp_path / "2", files_to(out), {"app/conf": "2"})
    assert machine.run(second, "--dry-run").exit_code == 1
    told = machine.deploy(second, fails=True)["Install"]["diagnostics"]["message"]
    assert f"{out}/conf: a directory lies there" in told
    assert tree(out) == {"conf/": "", "conf/a": "1", "conf/of-the-application": "kept", "old": "1"}
    (out / "conf/of-the-application").unlink()
    machine.deploy(second)
    assert tree(out) == {"conf": "2"}


def test_a_list_that_names_an_account_twice_leaves_the_old_release(machine: Machine, tmp_path: Path):
    out = tmp_path / "out"
    machine.deploy(bundle(tmp_path / "1", files_to(out), {"app/a": "1"}))
    who = pwd.getpwuid(os.geteuid())
    acls = f'permissions: [{{object: {out}, acls: ["u:{who.pw_name}:rw", "u:{who.pw_uid}:r"]}}]'
    told = machine.deploy(bundle(tmp_path / "2", files_to(out) + acls, {"app/a": "2"}), fails=True)
    assert "stands there twice" in told["Install"]["diagnostics"]["message"]
    assert tree(out) == {"a": "1"}


def test_a_bundle_is_on_the_disk_before_that_is_noted(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The journal of DownloadBundle is synced: after a crash it must not speak of files that are empty."""
    seen: list[tuple[str, bool]] = []
    synced = host.sync_file_system

    def sync(path: Path) -> None:
        seen.append((path.name, (path / "appspec.yml").exists()))
        assert "Succeeded" not in (path.parent / "journal").read_text()
        synced(path)

    monkeypatch.setattr(host, "sync_file_system", sync)
    machine.deploy(bundle(tmp_path / "1", files_to(tmp_path / "out"), {"app/a": "1"}), "--events", EVENTS)
    assert seen == [("deployment-archive.new", True)]


def test_a_deployment_that_has_hardly_begun_is_gone_on_with(machine: Machine, tmp_path: Path):
    stop = f"{SH}touch {tmp_path}/ran; sleep 98763"
    first = bundle(tmp_path / "1", hooks_of(ApplicationStop="location: s.sh"), {"s.sh": stop})
    machine.deploy(first)
    name = os.fsdecode(b"caf\xe9")  # no UTF-8
    source = bundle(tmp_path / name, files_to(tmp_path / "out"), {"app/a": "1"})
    with machine.started(source) as process:
        eventually((tmp_path / "ran").exists)
        process.kill()
    (mark,) = (machine.root / "ongoing-deployment").iterdir()
    machine.deploy(None, "--resume", mark.name, "--ignore-application-stop-failures")
    assert (tmp_path / "out/a").read_text() == "1"


@needs_root
def test_runas_under_a_umask_that_shuts_others_out(open_place: Path):
    machine = Machine(open_place / "state")
    source = bundle(
        open_place / "b", hooks_of(AfterInstall="location: d/s.sh, runas: daemon"), {"d/s.sh": f"{SH}id -un"}
    )
    before = os.umask(0o077)
    try:
        told = machine.deploy(source, "--allow-runas", "daemon")
    finally:
        os.umask(before)
    assert "[stdout]daemon" in told["AfterInstall"]["diagnostics"]["logTail"]


def test_lint_tells_what_it_cannot_look_at(tmp_path: Path):
    long = "x" * 300
    source = bundle(
        tmp_path, f"files: [{{source: {long}, destination: /y}}]\n" + hooks_of(AfterInstall=f"location: {long}")
    )
    done = CliRunner().invoke(main, ["deploy", "lint", str(source / "appspec.yml")])
    assert (done.exit_code, done.output.count("cannot be looked at: File name too long")) == (0, 2)


def test_a_dry_run_moves_nobodys_cursor(machine: Machine, tmp_path: Path):
    source = bundle(tmp_path / "b", files_to(tmp_path / "out"), {"app/a\x1b[2Jb": "1"})
    assert "\x1b" not in machine.run(source, "--dry-run").stdout


def test_what_a_failed_deployment_did_not_come_to_is_not_its_own(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "out"
    source = bundle(tmp_path / "1", files_to(out), {"app/a": "1", "app/b": "1", "app/c": "1"})
    written = places.write_file

    def full(place: Place, *arguments, **options) -> None:
        if place.parts[-1] == "b":
            raise OSError(errno.ENOSPC, "the disk is full")
        written(place, *arguments, **options)

    monkeypatch.setattr(places, "write_file", full)
    assert "the disk is full" in machine.deploy(source, fails=True)["Install"]["diagnostics"]["message"]
    monkeypatch.undo()
    assert tree(out) == {"a": "1"}
    (out / "c").write_text("of somebody")
    told = machine.deploy(source, fails=True)["Install"]["diagnostics"]["message"]
    assert f"{out}/c: a file of that name lies there" in told
    (out / "c").unlink()
    machine.deploy(source)
    assert tree(out) == {"a": "1", "b": "1", "c": "1"}
