"""Deployments on a machine: bundles, destinations and users that somebody else has a hand in (I5)."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hooks.deployments.host import atomic, install, places, scripts
from hooks.deployments.host import bundle as bundles
from hooks.deployments.host.bundle import BundleError, take
from hooks.deployments.host.plan import UnsafePlace
from hooks.deployments.host.steps import Kind, Place, SetOwner
from tests.deploying import HEAD, IS_ROOT, Machine, bundle, said

OUTSIDE = "must stay as it is"
Members = list[tuple[tarfile.TarInfo, bytes]]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "state")


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A directory that no deployment of these tests may touch."""
    place = tmp_path / "outside"
    place.mkdir()
    (place / "victim").write_text(OUTSIDE)
    yield place
    assert [path.name for path in place.iterdir()] == ["victim"]
    assert (place / "victim").read_text() == OUTSIDE


def member(name: str, *, kind: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o644, body: bytes = b"x"):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.mode = kind, target, mode
    entry.size = len(body) if kind == tarfile.REGTYPE else 0
    return entry, body


def tar(path: Path, *members) -> Path:
    with tarfile.open(path, "w") as archive:
        for entry, body in members:
            archive.addfile(entry, io.BytesIO(body) if entry.isreg() else None)
    return path


HOSTILE: dict[str, Callable[[Path], list]] = {
    "dots": lambda _out: [member("../escaped")],
    "dots inside": lambda _out: [member("a/../../escaped")],
    "absolute": lambda out: [member(f"{out}/escaped")],
    "backslashes": lambda _out: [member("..\\escaped")],
    "link to outside": lambda out: [member("l", kind=tarfile.SYMTYPE, target=str(out))],
    "relative link to outside": lambda _out: [member("a/l", kind=tarfile.SYMTYPE, target="../../outside")],
    "below a link": lambda _out: [member("l", kind=tarfile.SYMTYPE, target="."), member("l/escaped")],
    "chain of links": lambda _out: [
        member("a", kind=tarfile.DIRTYPE), member("a/b", kind=tarfile.SYMTYPE, target=".."),
        member("c", kind=tarfile.SYMTYPE, target="a/b/../outside"), member("c/escaped"),
    ],
    "hard link to outside": lambda out: [member("h", kind=tarfile.LNKTYPE, target=f"{out}/victim")],
    "hard link by dots": lambda _out: [member("h", kind=tarfile.LNKTYPE, target="../outside/victim")],
    "hard link to a link": lambda _out: [
        member("l", kind=tarfile.SYMTYPE, target="x"), member("h", kind=tarfile.LNKTYPE, target="l"),
    ],
    "device": lambda _out: [member("d", kind=tarfile.CHRTYPE)],
    "pipe": lambda _out: [member("p", kind=tarfile.FIFOTYPE)],
    "twice": lambda _out: [member("a"), member("a")],
    "file and directory": lambda _out: [member("a"), member("a/b")],
    "no name": lambda _out: [member(".")],
}  # fmt: skip


@pytest.mark.parametrize("attack", HOSTILE)
def test_I5_archives_that_lead_out_of_the_bundle(attack: str, outside: Path, tmp_path: Path):
    archive = tar(tmp_path / "b.tar", *HOSTILE[attack](outside))
    with pytest.raises(BundleError):
        take(archive, tmp_path / "archive", "appspec.yml")
    assert not (tmp_path / "escaped").exists()


def test_I5_zip_files_too(outside: Path, tmp_path: Path):
    for number, name in enumerate(("../escaped", "/escaped", "l")):
        archive = tmp_path / f"{number}.zip"
        with zipfile.ZipFile(archive, "w") as packed:
            entry = zipfile.ZipInfo(name)
            entry.create_system = 3
            entry.external_attr = ((stat.S_IFLNK if name == "l" else stat.S_IFREG) | 0o777) << 16
            packed.writestr(entry, str(outside))
        with pytest.raises(BundleError):
            take(archive, tmp_path / f"archive-{number}", "appspec.yml")


def test_I5_without_the_checks_the_archive_would_write_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Negative control: the same archive, with names taken as they are and links followed."""
    place = tmp_path / "victims"
    place.mkdir()
    monkeypatch.setattr(bundles._Writer, "link", lambda self, name, target: (self.into / name).symlink_to(target))
    monkeypatch.setattr(
        bundles._Writer, "place", lambda self, name, _kind: Place(str(self.into), tuple(name.split("/")))
    )
    monkeypatch.setattr(places._Walk, "_target", lambda self, name: (self._back_to(1), str(place).split("/"))[1])
    archive = tar(tmp_path / "b.tar", member("l", kind=tarfile.SYMTYPE, target=str(place)), member("l/escaped"))
    take(archive, tmp_path / "archive", "appspec.yml")
    assert (place / "escaped").exists()


def test_I5_numbers_and_sizes_are_bounded_and_set_user_id_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    take(tar(tmp_path / "s.tar", member("s", mode=0o6755)), tmp_path / "s", "appspec.yml")
    assert stat.S_IMODE((tmp_path / "s/s").stat().st_mode) == 0o755
    monkeypatch.setattr(bundles, "MAX_MEMBERS", 3)
    with pytest.raises(BundleError, match="more than 3 members"):
        take(tar(tmp_path / "n.tar", *(member(f"{n}") for n in range(4))), tmp_path / "n", "appspec.yml")
    monkeypatch.setattr(bundles, "MAX_BYTES", 100)
    with pytest.raises(BundleError, match="larger than 100 bytes"):
        take(tar(tmp_path / "b.tar", member("b", body=b"x" * 101)), tmp_path / "b", "appspec.yml")


# --- destinations


def deployed(machine: Machine, tmp_path: Path, out: Path, *options: str, fails: bool = True) -> str:
    source = bundle(
        tmp_path / "bundle", f"files: [{{source: app, destination: {out}}}]\n", {"app/d/victim": "overwritten"}
    )
    told = machine.deploy(source, "--file-exists-behavior", "OVERWRITE", *options, fails=fails)
    return told["Install"]["diagnostics"]["message"]


def writable_by_all(path: Path) -> Path:
    path.mkdir(parents=True)
    path.chmod(0o777)
    return path


def test_I5_a_link_that_another_user_has_put_into_the_destination(machine: Machine, tmp_path: Path, outside: Path):
    out = writable_by_all(tmp_path / "out")
    (out / "d").symlink_to(outside)
    message = deployed(machine, tmp_path, out)
    assert "is a link to" in message
    assert "others than this user could have made" in message


def test_I5_a_link_of_our_own_that_leads_out_of_the_destination(machine: Machine, tmp_path: Path, outside: Path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "d").symlink_to(outside)
    assert f"out of the destination {out}" in deployed(machine, tmp_path, out)
    (out / "d").unlink()
    (out / "d").symlink_to("../outside")
    assert "out of the destination" in deployed(machine, tmp_path, out)


def test_I5_links_of_the_administrator_are_followed(machine: Machine, tmp_path: Path):
    """What is refused is not everything: a link to the destination, and one within it."""
    real = tmp_path / "disk2/app"
    (real / "kept").mkdir(parents=True)
    (real / "d").symlink_to("kept")
    (tmp_path / "out").symlink_to("disk2/app")
    deployed(machine, tmp_path, tmp_path / "out", fails=False)
    assert (real / "kept/victim").read_text() == "overwritten"


def test_I5_a_parent_that_everybody_may_write_to(machine: Machine, tmp_path: Path):
    shared = writable_by_all(tmp_path / "shared")
    assert f"everybody may write to {shared}" in deployed(machine, tmp_path, shared / "app")
    shared.chmod(0o1777)
    deployed(machine, tmp_path, shared / "app", fails=False)


def test_I5_without_the_checks_files_would_go_through_the_link(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Negative control: links followed wherever they lead."""
    victims = tmp_path / "victims"
    victims.mkdir()
    (victims / "victim").write_text("mine")
    out = writable_by_all(tmp_path / "out")
    (out / "d").symlink_to(victims)
    monkeypatch.setattr(places._Walk, "_target", lambda self, name: (self._back_to(1), str(victims).split("/"))[1])
    deployed(machine, tmp_path, out, fails=False)
    assert (victims / "victim").read_text() == "overwritten"


def test_I5_a_directory_exchanged_for_a_link_between_two_deployments(machine: Machine, tmp_path: Path, outside: Path):
    """The next deployment removes what this one has put there, and not what a link leads to by then."""
    out = tmp_path / "out"
    deployed(machine, tmp_path, out, fails=False)
    out.chmod(0o777)
    (out / "d").rename(out / "moved")
    (out / "d").symlink_to(outside)
    empty = bundle(tmp_path / "empty", f"files: [{{source: other, destination: {out}}}]\n", {"other/x": "1"})
    told = machine.deploy(empty)
    assert "d/victim is not removed" in told["Install"]["diagnostics"]["logTail"]


def test_I5_modes_and_owners_reach_the_file_and_no_link_in_its_place(tmp_path: Path, outside: Path):
    before = (outside / "victim").stat()
    for name, make in (("soft", os.symlink), ("hard", os.link)):
        make(outside / "victim", tmp_path / name)
        with pytest.raises(UnsafePlace), places.held(Place.of(str(tmp_path / name))) as path:
            Path(path).chmod(0o777)
    places.change_owner(Place.of(str(tmp_path / "soft")), os.getuid(), os.getgid())  # the link's own
    assert (outside / "victim").stat().st_mode == before.st_mode
    with pytest.raises(UnsafePlace):
        places.change_owner(Place.of(str(tmp_path / "hard")), os.getuid(), os.getgid())
    (tmp_path / "hard").unlink()


def test_I5_what_comes_between_looking_and_copying_is_not_overwritten(tmp_path: Path):
    (tmp_path / "source").write_text("new")
    place = Place(str(tmp_path), ("a",))
    assert places.find(place) is None
    (tmp_path / "a").write_text("of somebody, a moment later")
    with (tmp_path / "source").open("rb") as source, pytest.raises(FileExistsError):
        places.write_file(place, source.fileno(), replaces=False)
    assert (tmp_path / "a").read_text() == "of somebody, a moment later"
    assert places.find(Place(str(tmp_path), (".",))) is Kind.DIRECTORY
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "source"]


def test_I5_ids_that_are_paths(machine: Machine, tmp_path: Path):
    source = bundle(tmp_path / "b", "files:\n")
    for name in ("../x", "a/b", ".", "", "a" * 101, "a\n"):
        done = machine.run(source, "--group", name)
        assert (done.exit_code, "is no id" in done.output) == (1, True), name
        done = machine.run(None, "--resume", name)
        assert done.exit_code in {1, 2}
    assert not (tmp_path / "x").exists()


# --- scripts


def test_I5_a_script_that_is_a_link_out_of_the_bundle(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = bundle(tmp_path / "b", "hooks: {AfterInstall: [{location: s.sh}]}\n")
    (source / "s.sh").symlink_to("/bin/true")
    told = machine.deploy(source, fails=True)
    assert "s.sh' is a link to '/bin/true', out of the bundle" in told["DownloadBundle"]["diagnostics"]["message"]


@pytest.mark.skipif(not IS_ROOT, reason="only root runs scripts as others")
def test_I2_scripts_run_as_nobody_that_this_machine_does_not_allow(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    script = f"#!/bin/sh\ntouch {tmp_path}/ran\n"
    source = bundle(tmp_path / "b", "hooks: {AfterInstall: [{location: s.sh, runas: daemon}]}\n", {"s.sh": script})
    for options in ((), ("--allow-runas", "nobody")):
        told = machine.deploy(source, *options, fails=True)["AfterInstall"]
        assert said(told) == ("Failed", "ScriptFailed")
        assert "not on this machine's list of users" in told["diagnostics"]["message"]
    assert not (tmp_path / "ran").exists()
    # negative control: with everybody on the list it is started as daemon (who cannot enter this directory)
    monkeypatch.setattr(scripts, "_identity", lambda _script, _settings: scripts._Identity(1, 1, (1,)))
    told = machine.deploy(source, fails=True)["AfterInstall"]["diagnostics"]
    assert "failed with exit code 126" in told["message"]


def test_I5_documents_are_read_once_and_bounded(machine: Machine, tmp_path: Path):
    source = bundle(tmp_path / "b", "x: " + "y" * 300_000)
    assert "larger than 256 KiB" in machine.deploy(source, fails=True)["DownloadBundle"]["diagnostics"]["message"]
    (source / "appspec.yml").unlink()
    (source / "real").write_text(HEAD)
    (source / "appspec.yml").symlink_to("real")
    assert "has no appspec.yml" in machine.deploy(source, fails=True)["DownloadBundle"]["diagnostics"]["message"]


# --- what others of the machine could change


def world_writable(place: Path) -> Path:
    source = bundle(
        place,
        "files:\nhooks: {ApplicationStop: [{location: d/stop.sh}]}\n",
        {"d/stop.sh": "#!/bin/sh\n", "d/lib": "x"},
    )
    for path in (source / "d", *(source / "d").iterdir()):
        path.chmod(0o777)
    return source


def writable_by_others(place: Path) -> list[str]:
    return [path.name for path in place.rglob("*") if path.lstat().st_mode & 0o022]


@pytest.mark.parametrize("kind", ["directory", "tar", "zip"])
def test_I5_nobody_else_may_write_to_an_unpacked_bundle(
    kind: str, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Zip files made on Windows say 0777, and the scripts run later as who deploys."""
    source = world_writable(tmp_path / "b")
    if kind == "tar":
        with tarfile.open(tmp_path / "x.tar", "w") as archive:
            archive.add(source, arcname=".")
        source = tmp_path / "x.tar"
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
            for name in ("appspec.yml", "d", "d/stop.sh", "d/lib"):
                file.write(source / name, name)
        source = tmp_path / "x.zip"
    unpacked = machine.root / "default-local-deployment-group" / machine.deploy(source)["id"] / "deployment-archive"
    assert (unpacked / "d/stop.sh").exists()
    assert writable_by_others(unpacked) == []
    # negative control: the modes of the bundle as they are
    monkeypatch.setattr(bundles, "_SHARED_WRITE", 0)
    unpacked = unpacked.parents[1] / machine.deploy(source)["id"] / "deployment-archive"
    assert sorted(writable_by_others(unpacked)) == ["d", "lib", "stop.sh"]


@pytest.mark.skipif(not IS_ROOT, reason="only root makes links of other users")
def test_I5_old_releases_are_not_removed_where_somebodys_link_leads(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    elsewhere, app = tmp_path / "elsewhere", tmp_path / "app"
    for number in range(9):
        (elsewhere / str(number)).mkdir(parents=True)
    app.mkdir()
    os.chown(app, 1, 1)
    switched = atomic.switch

    def switch(link: str, deployment_id: str) -> None:
        switched(link, deployment_id)
        (app / "releases").rename(app / "moved")
        (app / "releases").symlink_to(elsewhere)
        os.chown(app / "releases", 1, 1, follow_symlinks=False)

    monkeypatch.setattr(atomic, "switch", switch)
    source = bundle(tmp_path / "b", f"files: [{{source: app, destination: {app}/current}}]\n", {"app/a": "1"})
    told = machine.deploy(source, "--atomic", app / "current")
    assert "old releases are not removed" in told["Install"]["diagnostics"]["logTail"]
    assert len(list(elsewhere.iterdir())) == 9
    # negative control: the link followed
    monkeypatch.setattr(atomic, "switch", switched)
    monkeypatch.setattr(places._Walk, "_target", lambda self, name: (self._back_to(1), str(elsewhere).split("/"))[1])
    machine.deploy(source, "--atomic", app / "current")
    assert len(list(elsewhere.iterdir())) == 5


@pytest.mark.skipif(not IS_ROOT, reason="only root gives files away")
def test_I5_a_set_user_id_bit_stays_on_the_deployments_own_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def given_to_root(owner: int, special: int) -> int:
        path = tmp_path / "tool"
        path.write_text("of somebody")
        os.chown(path, owner, owner)
        path.chmod(0o4755)
        install.take_step(tmp_path, SetOwner(Place.of(str(path)), "root", "daemon", special), {})
        return stat.S_IMODE(path.stat().st_mode)

    assert given_to_root(0, 0o4000) == 0o4755
    assert given_to_root(1, 0) == 0o755, "the document says nothing of the bit, the kernel takes it away"
    with pytest.raises(UnsafePlace, match="is somebody else's now"):
        given_to_root(1, 0o4000)
    # negative control: without the look at whose file it is
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    assert given_to_root(1, 0o4000) == 0o4755
