"""What an installing client asks next is had before it asks; and nothing of ours is asked for outside on the way."""

import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest

from registry.formats.pypi import installer
from registry.formats.pypi.ahead import requirements
from registry.repos.ahead import ReadAhead
from tests.fakes.upstream import FaultyUpstream
from tests.functional.outside_world import JSON_INDEX, OutsideWorld
from tests.functional.test_refresh import soon
from tests.harness.packages import wheel


@pytest.fixture
def upstream() -> Iterator[FaultyUpstream]:
    with FaultyUpstream() as running:
        yield running


@pytest.fixture
def make(tmp_path: Path, upstream: FaultyUpstream) -> Iterator[Callable[..., OutsideWorld]]:
    made: list[OutsideWorld] = []

    def world(**environment: str) -> OutsideWorld:
        made.append(OutsideWorld(tmp_path, environment))
        made[-1].disconnect()
        made[-1].connect(upstream)
        return made[-1]

    yield world
    for each in made:
        each.close()


def add(upstream: FaultyUpstream, name: str, *requires: str, bare: bool = False) -> tuple[str, bytes]:
    filename, body = wheel(name, "1.0", requires=requires)
    with zipfile.ZipFile(BytesIO(body)) as archive:
        document = archive.read(f"{name}-1.0.dist-info/METADATA")
    upstream.add_project(name, {filename: body}, json=not bare, metadata={} if bare else {filename: document})
    return filename, body


def page(world: OutsideWorld, name: str) -> int:
    return world.get(f"pypi/default/dev/simple/{name}/", Accept=JSON_INDEX).status_code


@pytest.mark.parametrize("bare", [False, True], ids=["with metadata", "without"])
def test_the_pages_of_what_a_release_requires_are_there_before_they_are_asked(make, upstream, bare) -> None:
    add(upstream, "top", "middle>=1", 'optional; extra == "x"', bare=bare)
    add(upstream, "middle", "bottom", bare=bare)
    add(upstream, "bottom", bare=bare)
    add(upstream, "optional", bare=bare)
    world = make()
    assert page(world, "top") == 200
    soon(lambda: upstream.count("/simple/bottom/") == 1)
    assert page(world, "middle") == page(world, "bottom") == 200
    assert upstream.count("/simple/middle/") == upstream.count("/simple/bottom/") == 1
    assert upstream.count("/simple/optional/") == 0


def test_a_wheel_whose_metadata_was_read_is_fetched_once(make, upstream) -> None:
    filename, body = add(upstream, "single")
    world = make()
    assert page(world, "single") == 200
    assert upstream.count(f"/files/single/{filename}") == 0  # a page alone asks for no wheel
    assert world.get(f"pypi/default/dev/files/single/{filename}.metadata").status_code == 200
    soon(lambda: upstream.count(f"/files/single/{filename}") == 1)
    assert world.get(f"pypi/default/dev/files/single/{filename}").data == body
    assert upstream.count(f"/files/single/{filename}") == 1


def test_a_wheel_of_unknown_size_is_not_fetched_ahead(make, upstream) -> None:
    filename, _ = add(upstream, "unsized", bare=True)  # lists in HTML have no sizes
    world = make()
    assert world.get(f"pypi/default/dev/files/unsized/{filename}.metadata").status_code == 200
    time.sleep(0.5)
    fetched = [seen for seen in upstream.requests if seen.path.endswith(".whl") and "range" not in seen.headers]
    assert fetched == []


def test_a_name_published_here_is_never_asked_for_outside(make, upstream) -> None:
    add(upstream, "top", "ours", "theirs")
    add(upstream, "ours")
    add(upstream, "theirs")
    world = make()
    world.publish("dev", "ours", "0.1")
    assert page(world, "top") == 200
    soon(lambda: upstream.count("/simple/theirs/") == 1)
    time.sleep(0.3)  # "ours" comes first in the list
    assert upstream.count("/simple/ours/") == 0


def test_it_can_be_switched_off(make, upstream) -> None:
    filename, _ = add(upstream, "top", "middle")
    add(upstream, "middle")
    world = make(ENTREPOT_UPSTREAM_READ_AHEAD="false")
    assert page(world, "top") == 200
    assert world.get(f"pypi/default/dev/files/top/{filename}.metadata").status_code == 200
    time.sleep(0.5)
    assert upstream.count("/simple/middle/") == 0
    assert upstream.count(f"/files/top/{filename}") == 0


def test_what_is_required_is_read_out_of_metadata() -> None:
    document = (
        b"Metadata-Version: 2.1\nName: x\nVersion: 1\nRequires-Dist: Some.Name >=1\nRequires-Dist: some_name[extra]\n"
        b'Requires-Dist: old; python_version < "3"\nRequires-Dist: opt; extra == "e"\nRequires-Dist: ???\n'
        b"Requires-Dist: there @ https://h.invalid/x.whl\n\nRequires-Dist: in-the-text\n"
    )
    assert requirements(document) == ["some-name"]


def test_work_is_done_once_in_a_while_and_never_more_than_fits() -> None:
    now = 0.0
    ahead = ReadAhead(threads=1, monotonic=lambda: now)
    gate, done = threading.Event(), []
    assert ahead.start("first", lambda: (gate.wait(60), done.append("first"))[1])
    assert not ahead.start("first", lambda: done.append("again"))
    begun = sum(ahead.start(f"more {number}", lambda: done.append("more")) for number in range(1000))
    assert begun < 300
    gate.set()
    soon(lambda: len(done) == begun + 1)
    now += 3600
    assert ahead.start("first", lambda: done.append("later"))
    soon(lambda: done[-1] == "later")


def test_a_failure_ends_no_thread() -> None:
    ahead = ReadAhead(threads=1)
    done: list[str] = []

    def fail() -> None:
        raise ZeroDivisionError

    ahead.start("bad", fail)
    ahead.start("good", lambda: done.append("good"))
    soon(lambda: done == ["good"])


PIP = (
    'pip/25.0 {"ci":null,"cpu":"x86_64","implementation":{"name":"CPython","version":"3.11.7"},'
    '"installer":{"name":"pip","version":"25.0"},"python":"3.11.7","system":{"name":"Linux","release":"6"}}'
)


def test_of_a_release_for_many_platforms_only_the_likely_wheels_are_read(make, upstream) -> None:
    _, body = wheel("many", "1.0")
    tags = ("cp310-cp310-manylinux_2_17_x86_64", "cp311-cp311-macosx_11_0_arm64", "cp311-cp311-manylinux_2_17_x86_64",
            "cp311-cp311-win_amd64", "cp312-cp312-manylinux_2_17_x86_64")  # fmt: skip
    upstream.add_project("many", {f"many-1.0-{tag}.whl": body for tag in tags}, json=False)
    world = make()
    world.get("pypi/default/dev/simple/many/", Accept=JSON_INDEX, User_Agent=PIP)
    wanted = "/files/many/many-1.0-cp311-cp311-manylinux_2_17_x86_64.whl"
    soon(lambda: upstream.count(wanted) > 0)
    time.sleep(0.3)
    assert {seen.path for seen in upstream.requests if seen.path.endswith(".whl")} == {wanted}


@pytest.mark.parametrize(
    "said", ["", "curl/8", "x {", 'x {"python": 3}', 'x {"python":"3.11","system":{"name":"Plan 9"}}']
)
def test_who_says_nothing_of_itself_is_no_known_installer(said: str) -> None:
    assert installer.parse(said) is None
    assert installer.parse(PIP) == installer.Installer("311", "linux", ("x86_64",))
