"""Bytes that processes of one server share."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

import storage.scratch
from storage import sealing
from storage.blobs import MIB
from storage.scratch import Scratch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


def test_what_one_puts_another_gets(folder: Path) -> None:
    Scratch(folder, MIB).put("a name/with: anything", b"rendered")
    assert Scratch(folder, MIB).get("a name/with: anything") == b"rendered"
    assert Scratch(folder, MIB).get("another") is None


def test_a_forked_process_opens_it(folder: Path) -> None:
    """The key is made before the fork, and is the same after it."""
    context = multiprocessing.get_context("fork")
    child = context.Process(target=lambda: Scratch(folder, MIB).put("name", b"of the child"))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert Scratch(folder, MIB).get("name") == b"of the child"


def test_the_newer_one_counts(folder: Path) -> None:
    scratch = Scratch(folder, MIB)
    scratch.put("name", b"old")
    scratch.put("name", b"new")
    assert scratch.get("name") == b"new"
    assert len(list(folder.iterdir())) == 1


def test_nothing_of_it_is_readable_on_the_disk(folder: Path) -> None:
    Scratch(folder, MIB).put("secret-name", b"secret body " * 100)
    (file,) = folder.iterdir()
    assert b"secret" not in file.read_bytes()
    assert "secret" not in file.name
    assert file.stat().st_mode & 0o077 == 0
    assert folder.stat().st_mode & 0o077 == 0


def test_of_another_start_it_is_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Scratch(folder, MIB).put("name", b"body")
    monkeypatch.setattr(storage.scratch, "_KEY", storage.scratch.AESGCM(sealing.new_key()))
    assert Scratch(folder, MIB).get("name") is None


@pytest.mark.parametrize("change", ["torn", "flipped", "empty", "renamed"])
def test_damaged_it_is_not_there(folder: Path, change: str) -> None:
    scratch = Scratch(folder, MIB)
    scratch.put("name", b"body" * 100)
    (file,) = folder.iterdir()
    body = file.read_bytes()
    if change == "renamed":  # another name's body is not this one's
        scratch.put("other", b"other")
        other = next(path for path in folder.iterdir() if path != file)
        other.replace(file)
    else:
        changed = {"torn": body[: len(body) // 2], "flipped": body[:-1] + bytes([body[-1] ^ 1]), "empty": b""}
        file.write_bytes(changed[change])
    assert scratch.get("name") is None


def test_the_oldest_are_dropped_over_the_limit(folder: Path) -> None:
    scratch = Scratch(folder, 40 * MIB)
    for number in range(12):
        scratch.put(str(number), bytes(8 * MIB))
        newest = max(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, ns=(number, number))
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 56 * MIB  # the limit, and what is written unseen
    assert scratch.get("0") is None
    assert scratch.get("11") is not None


def test_a_folder_that_cannot_be_written_costs_nothing_but_speed(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    scratch = Scratch(in_the_way / "scratch", MIB)
    scratch.put("name", b"body")
    assert scratch.get("name") is None
