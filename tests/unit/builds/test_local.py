"""A directory as a source of a build on one's own machine."""

import os
import socket
import tarfile
from pathlib import Path

import pytest

from hooks.builds.keeping import ArtifactName
from hooks.builds.local import LocalReporter, packed


def members(directory: Path) -> tuple[dict[str, str], list[str]]:
    """Names in the archive with their kinds, and what was said."""
    said: list[str] = []
    with packed(directory, said.append) as source:
        (file,) = source.files
        assert source.unpack == file.name
        with file.open() as body, tarfile.open(fileobj=body) as tar:
            kinds = {tarfile.REGTYPE: "file", tarfile.DIRTYPE: "directory", tarfile.SYMTYPE: "link"}
            return {entry.name: kinds[entry.type] for entry in tar}, sorted(said)


def test_what_lies_in_the_directory_is_taken_and_what_leads_out_is_not(tmp_path: Path):
    place = tmp_path / "place"
    (place / "sub").mkdir(parents=True)
    (place / "sub" / "file").write_text("x")
    (place / ".hidden").write_text("x")
    for name, target in {
        "inner": "sub/file",
        "sub/up": "../.hidden",
        "self": ".",
        "dangling": "nothing",
        "absolute": str(place / "sub"),
        "out": "../elsewhere",
        "sub/far": "../../place/../elsewhere",
    }.items():
        (place / name).symlink_to(target)
    os.mkfifo(place / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place / "socket"))
        found, said = members(place)
    assert found == {
        "source": "directory",
        "source/sub": "directory",
        "source/sub/file": "file",
        "source/.hidden": "file",
        "source/inner": "link",
        "source/sub/up": "link",
        "source/self": "link",
        "source/dangling": "link",
    }
    assert [text.partition(" is left out: ")[0] for text in said] == ["absolute", "out", "pipe", "socket", "sub/far"]


def test_a_directory_may_be_named_by_a_link(tmp_path: Path):
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "file").write_text("x")
    (tmp_path / "link").symlink_to("place")
    assert members(tmp_path / "link")[0] == {"source": "directory", "source/file": "file"}


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("", "artifacts.zip"),
        ("wheels", "wheels.zip"),
        ("app.zip", "app.zip"),
        ("../../etc/passwd", "etc_passwd.zip"),
        ("out/made here", "out_made_here.zip"),
        ("..", "artifacts.zip"),
    ],
)
def test_artifacts_stay_below_their_directory(tmp_path: Path, name: str, file: str):
    reporter = LocalReporter(lambda _: None, tmp_path / "kept")
    incoming = reporter.keeper.begin_artifact(ArtifactName("primary", name))
    assert incoming is not None
    incoming.write(b"PK")
    assert not (tmp_path / "kept" / file).exists()
    incoming.keep(1)
    incoming.abort()
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [file]
    assert reporter.artifacts == [tmp_path / "kept" / file]
    assert (tmp_path / "kept" / file).read_bytes() == b"PK"
