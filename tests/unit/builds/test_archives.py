"""Which files an artifact takes, and how a source is unpacked."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hooks.builds import archives
from hooks.builds.archives import select
from tests.build_bench import tar_of

TREE = ["a.txt", ".hidden", "dist/x.whl", "dist/sub/y.whl", "dist/sub/deep/z.txt", "my-1/out", "my-2/out", "docs/x.whl"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in TREE:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "linked").symlink_to("dist")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


def taken(tree: Path, *files: str, base: str = "", discard: bool = False, exclude: tuple[str, ...] = ()) -> list[str]:
    order = {
        "files": list(files),
        "base_directory": base,
        "discard_paths": discard,
        "exclude_paths": list(exclude),
        "variables": {"OUT": "dist", "EMPTY": ""},
    }
    return sorted(select(tree, order)[0])


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["**/*"], TREE),
        (["a.txt"], ["a.txt"]),
        (["./a.txt"], ["a.txt"]),
        (["dist/*"], ["dist/x.whl"]),
        (["dist/**/*"], ["dist/x.whl", "dist/sub/y.whl", "dist/sub/deep/z.txt"]),
        (["**/*.whl"], ["dist/x.whl", "dist/sub/y.whl", "docs/x.whl"]),
        (["$OUT/*", "${OUT}/sub/?.whl"], ["dist/x.whl", "dist/sub/y.whl"]),
        (["*"], ["a.txt", ".hidden"]),
        (["nothing"], []),
        (["link", "linked/x.whl", "pipe"], []),
    ],
)
def test_patterns(tree: Path, patterns: list[str], expected: list[str]):
    assert taken(tree, *patterns) == sorted(expected)


def test_absolute_patterns_below_the_base(tree: Path):
    assert taken(tree, f"{tree}/dist/*") == ["dist/x.whl"]


def test_base_directory_is_left_out_of_names(tree: Path):
    assert taken(tree, "**/*", base="dist") == ["sub/deep/z.txt", "sub/y.whl", "x.whl"]
    (tree / "my-2/more").write_text("2")
    assert taken(tree, "more", base="my-*") == ["more"]
    assert taken(tree, "*", base="my-2") == ["more", "out"]
    with pytest.raises(ValueError, match="two files at out"):  # which one is meant nobody can say
        taken(tree, "out", base="my-*")
    for missing in ("nowhere", "no-*", "linked", "linked/sub"):
        with pytest.raises(ValueError, match="base directory"):
            taken(tree, "**/*", base=missing)


def test_excluded_and_unmatched(tree: Path):
    assert taken(tree, "**/*", exclude=("**/.*", "dist/**/*", "my-*/*")) == ["a.txt", "docs/x.whl"]
    order = {
        "files": ["a.txt", "b"],
        "base_directory": "",
        "discard_paths": False,
        "exclude_paths": [],
        "variables": {},
    }
    assert select(tree, order)[1] == ["b"]


def test_discarded_paths_must_not_collide(tree: Path):
    assert taken(tree, "dist/**/*", discard=True) == ["x.whl", "y.whl", "z.txt"]
    with pytest.raises(ValueError, match="two files at"):
        taken(tree, "**/*.whl", discard=True)


def run_unpack(archive: Path, into: Path) -> subprocess.CompletedProcess[str]:
    into.mkdir(parents=True)
    command = [sys.executable, "-I", "-S", archives.__file__, "unpack", str(archive)]
    return subprocess.run(command, cwd=into, capture_output=True, text=True, check=False)


def test_a_tar_with_one_directory_at_its_top(tmp_path: Path):
    (tmp_path / "a.tar.gz").write_bytes(tar_of({"setup.py": b"1", "src/run.sh": b"2"}))
    assert run_unpack(tmp_path / "a.tar.gz", tmp_path / "w" / "src").returncode == 0
    assert (tmp_path / "w/src/setup.py").read_bytes() == b"1"
    assert os.access(tmp_path / "w/src/src/run.sh", os.X_OK)


def test_a_zip_with_several_things_at_its_top(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr("thing/__init__.py", "")
        archive.writestr("thing-1.dist-info/METADATA", "x")
    assert run_unpack(tmp_path / "a.whl", tmp_path / "w" / "src").returncode == 0
    assert sorted(path.name for path in (tmp_path / "w/src").iterdir()) == ["thing", "thing-1.dist-info"]


@pytest.mark.parametrize(
    "content", [b"", b"not an archive", tar_of({"x": b"y" * 10_000})[:-40]], ids=["empty", "text", "cut"]
)
def test_a_broken_archive_is_told_in_one_line(tmp_path: Path, content: bytes):
    (tmp_path / "a.tar.gz").write_bytes(content)
    done = run_unpack(tmp_path / "a.tar.gz", tmp_path / "w" / "src")
    assert done.returncode == 1
    assert done.stdout.startswith("could not unpack a.tar.gz: ")
    assert done.stderr == ""
