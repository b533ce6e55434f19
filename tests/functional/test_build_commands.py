"""Each row of the table of observable behaviour of commands, in both shells, in one sandbox for each of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hooks.builds.executor import Item, Sandbox, SandboxRequest, SourceBundle
from hooks.builds.executors.process import ProcessExecutor, ProcessSettings
from tests.build_bench import MISSING_SANDBOX, never, work_directory

pytestmark = pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX)


@pytest.fixture(scope="module")
def room() -> Iterator[Sandbox]:
    with work_directory() as place:
        sandbox = ProcessExecutor(ProcessSettings(place)).prepare(SandboxRequest("b"))
        try:
            assert sandbox.fetch(SourceBundle(()), lambda _: None, never).succeeded
            yield sandbox
        finally:
            sandbox.destroy()


@pytest.fixture
def sandbox(room: Sandbox) -> Sandbox:
    """As a build finds it: an empty source directory, the first variables."""
    clean = room.run(Item("rm -rf /codebuild/src && mkdir /codebuild/src", carries_state=False), lambda _: None, never)
    assert clean.succeeded
    room.define(room.variables)
    return room


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        (["FOO=bar", "echo $FOO"], ["bar"]),
        (["export FOO='two  words\nand a line'", 'echo "$FOO"'], ["two  words", "and a line"]),
        (["mkdir app", "cd app", "pwd", "cd ..", "pwd"], ["/codebuild/src/app", "/codebuild/src"]),
        (
            ["mkdir bin && echo 'echo mine' >bin/tool && chmod +x bin/tool", "export PATH=$PWD/bin:$PATH", "tool"],
            ["mine"],
        ),
        (["f() { echo f; }", "command -v f || echo lost"], ["lost"]),
        (["alias a='echo a'", "alias a 2>/dev/null || echo lost"], ["lost"]),
        (["set -e; true", "false; echo still here"], ["still here"]),
        (["set -u", 'echo "[$NOBODY]"'], ["[]"]),
        (["trap 'echo bye' EXIT", "echo next"], ["bye", "next"]),
        (["umask 077", "umask"], ["0022"]),
        (["umask 777; A=kept", "echo $A"], ["kept"]),
        (["set -C; A=kept", "echo $A"], ["kept"]),
        (["false\necho last"], ["last"]),
        (["set -e\nX=1\nexit 0\necho never", "echo $X"], ["1"]),
        (["exit 0", "echo the phase goes on"], ["the phase goes on"]),
        (["false | true", "echo fine"], ["fine"]),
        (["echo 'echo by word splitting' >cmd", "$(cat cmd)"], ["by word splitting"]),
        (["exec true", "echo after exec"], ["after exec"]),
        (["A=1", "A=2; exec true", "echo $A"], ["1"]),
        (["cd /tmp && rmdir /codebuild/src && mkdir /codebuild/src", "pwd"], ["/tmp"]),
        (["unset HOME", "echo [$HOME]"], ["[]"]),
        (["cat; echo no input"], ["no input"]),
        (["A='=x=' B=''; export B", "echo $A[$B]"], ["=x=[]"]),
    ],
)
def test_what_lives_on_from_command_to_command(sandbox: Sandbox, shell: str, commands: list[str], expected: list[str]):
    output = bytearray()
    for command in commands:
        outcome = sandbox.run(Item(command, shell), output.extend, never)
        assert outcome.succeeded, (command, outcome)
    assert output.decode().splitlines() == expected
