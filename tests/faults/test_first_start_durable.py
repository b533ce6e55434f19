"""Each directory that the first start makes is on the medium before anything is made in it.

A file that is synced is lost all the same when power fails and the name of a directory above it was never synced.
"""

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from config import data_lock, first_start
from config.settings import Settings, load
from storage.disk import make_directories
from tests.faults.model_disk import ModelDisk

Event = tuple[str, Path]


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """What the process asks of the system from here on: (call, path), of directories made, files opened and syncs."""
    seen: list[Event] = []
    opened: dict[int, Path] = {}
    real_mkdir, real_open, real_fsync = os.mkdir, os.open, os.fsync

    def mkdir(path: str | Path, *rest: object, **options: object) -> None:
        real_mkdir(path, *rest, **options)  # type: ignore[arg-type]
        seen.append(("mkdir", Path(path)))

    def open_(path: str | Path, *rest: object, **options: object) -> int:
        descriptor = real_open(path, *rest, **options)  # type: ignore[arg-type]
        opened[descriptor] = Path(path)
        seen.append(("open", Path(path)))
        return descriptor

    def fsync(descriptor: int) -> None:
        real_fsync(descriptor)
        seen.append(("fsync", opened.get(descriptor, Path("?"))))

    for name, double in (("mkdir", mkdir), ("open", open_), ("fsync", fsync)):
        monkeypatch.setattr(os, name, double)
    return seen


def not_durable(events: list[Event], below: Path) -> list[Path]:
    """Directories in which something was made or opened before their own names were synced."""
    found = []
    for number, (call, made) in enumerate(events):
        if call != "mkdir" or not made.is_relative_to(below):
            continue
        later = itertools.takewhile(lambda event, made=made: not within(event, made), events[number + 1 :])
        if ("fsync", made.parent) not in list(later):
            found.append(made)
    return found


def within(event: Event, folder: Path) -> bool:
    return event[1] != folder and event[1].is_relative_to(folder)


def start(settings: Settings) -> None:
    with data_lock.lock(settings.data, settings.server.bind):
        first_start.prepare(settings)


def test_every_directory_of_a_first_start_is_synced_before_it_is_used(tmp_path: Path, events: list[Event]) -> None:
    settings = load(tmp_path / "srv" / "packages" / "data", {}, storage={"keys_path": str(tmp_path / "far" / "keys")})
    start(settings)
    made = {path for call, path in events if call == "mkdir"}
    folders = {settings.data, settings.data.parent, settings.blobs_path, settings.blobs_path / "tmp"}
    assert made >= folders | {settings.keys_path, settings.keys_path.parent, settings.locks_path, settings.data / "run"}
    assert not_durable(events, tmp_path) == []


def test_negative_control_a_plain_mkdir_is_found(tmp_path: Path, events: list[Event]) -> None:
    settings = load(tmp_path / "srv" / "data", {})
    settings.data.mkdir(parents=True)
    start(settings)
    # The lower one is synced by the start that finds it; nobody would look after the upper one.
    assert not_durable(events, tmp_path) == [settings.data.parent]


@pytest.mark.parametrize("kept", range(1, 4))
def test_what_a_killed_start_left_unsynced_is_synced_by_the_next(kept: int) -> None:
    disk = ModelDisk()
    wanted = Path("/volume/a/b/c")

    class Killed(Exception):
        pass

    def stop_before(number: int) -> Callable[[], None]:
        left = itertools.count(number, -1)

        def look() -> None:
            if next(left) == 0:
                raise Killed

        return look

    disk.watch = stop_before(2 * kept)  # each takes one mkdir and one sync: killed between the two
    with pytest.raises(Killed):
        make_directories(wanted, disk)
    disk.watch = lambda: None
    make_directories(wanted, disk)
    assert all(state.is_directory(wanted) for state in disk.states_after_power_loss())
