"""The shares of a fanout: every file once, and where it belongs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hooks.builds import sharding
from hooks.builds.sharding import STRATEGIES, equal_distribution, stability

NAMES = [f"tests/test_{number:02}.py" for number in range(17)]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("count", [1, 3, 20])
def test_each_file_is_in_one_share(strategy: str, count: int) -> None:
    shares = [STRATEGIES[strategy](NAMES[::-1], index, count) for index in range(count)]
    assert sorted(name for share in shares for name in share) == NAMES


def test_equal_shares_are_contiguous_and_differ_by_one() -> None:
    shares = [equal_distribution(NAMES, index, 5) for index in range(5)]
    assert [name for share in shares for name in share] == NAMES
    assert {len(share) for share in shares} == {3, 4}


def test_a_file_stays_on_its_shard_when_others_come_and_go() -> None:
    home = {name: index for index in range(4) for name in stability(NAMES, index, 4)}
    fewer = {name: index for index in range(4) for name in stability([*NAMES[::2], "new"], index, 4)}
    assert all(home[name] == index for name, index in fewer.items() if name != "new")
    assert len(set(home.values())) > 1


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", str(sharding.__file__), *arguments]
    given = {**os.environ, **environment}
    return subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, check=False)


def test_the_command_runs_its_share_and_ends_as_the_tests_end(tmp_path: Path) -> None:
    for name in ("a b.t", "c.t", "d.x"):
        (tmp_path / name).write_text("")
    search = f"{sys.executable} -I -S {sharding.__file__} glob '**/*.t'"
    whole = ("run", "--test-command", "printf '<%s>'", "--files-search", search)
    assert run(tmp_path, *whole).stdout == "<a b.t><c.t>"
    second = {"ENTREPOT_SHARD_INDEX": "1", "ENTREPOT_SHARD_COUNT": "2"}
    assert run(tmp_path, *whole, **second).stdout == "<c.t>"
    named = ("run", "--test-command", 'echo "$CODEBUILD_CURRENT_SHARD_FILES"; exit 3', "--files-search", search)
    done = run(tmp_path, *named)
    assert (done.stdout, done.returncode) == ("a b.t\nc.t\n", 3)
    nothing = run(tmp_path, *whole, ENTREPOT_SHARD_INDEX="2", ENTREPOT_SHARD_COUNT="9")
    assert (nothing.stdout, nothing.returncode) == ("", 0)
    assert run(tmp_path, "run", "--test-command", "true", "--files-search", "echo").returncode == 1
    assert run(tmp_path, "glob", "*.none").returncode == 1
