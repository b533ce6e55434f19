"""Which files are written for which version of control groups; the kernel's own are in the functional tests."""

from pathlib import Path

import pytest

from hooks.builds.cgroups import Cgroups, Group


def test_where_nothing_is_mounted_there_are_none(tmp_path: Path):
    groups = Cgroups(tmp_path)
    assert groups.version == 0
    assert groups.make("x", memory_bytes=1, processes=1) is None
    assert "resource limits only" in groups.describe()


def test_a_unified_hierarchy_without_the_controllers_is_not_used(tmp_path: Path):
    (tmp_path / "cgroup.controllers").write_text("cpu io\n")
    assert Cgroups(tmp_path).version == 0
    assert not (tmp_path / "entrepot").exists()


def test_directories_without_the_limits_are_not_taken_for_control_groups(tmp_path: Path):
    (tmp_path / "memory").mkdir()
    (tmp_path / "pids").mkdir()
    assert Cgroups(tmp_path).version == 0
    assert list((tmp_path / "memory").iterdir()) == []


@pytest.mark.parametrize(
    ("file", "text"),
    [("memory.events", "low 0\noom 3\noom_kill 2\n"), ("memory.oom_control", "under_oom 0\noom_kill 2\n")],
)
def test_kills_are_counted_in_both_spellings(tmp_path: Path, file: str, text: str):
    (tmp_path / file).write_text(text)
    assert Group((tmp_path,)).oom_kills() == 2
    assert Group((tmp_path / "gone",)).oom_kills() == 0
