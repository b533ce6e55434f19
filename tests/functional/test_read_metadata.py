"""METADATA of wheels at an upstream that serves none: read out of the wheel by ranges, once, and told from then on."""

import hashlib
import os
import zipfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pytest

from registry.errors import Invalid
from registry.formats.pypi.metadata import glance
from registry.repos.derived import MOST_REQUESTS, PartBody
from registry.upstream.answers import FilePart
from tests.fakes.upstream import Fault, FaultyUpstream
from tests.functional.outside_world import JSON_INDEX, OutsideWorld
from tests.functional.test_refresh import soon
from tests.harness.packages import wheel


def big_wheel(version: str = "1.0") -> tuple[str, bytes]:
    return wheel("bare", version, files={"bare/data.bin": os.urandom(600_000)})


def metadata_of(body: bytes) -> bytes:
    with zipfile.ZipFile(BytesIO(body)) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA")))


@pytest.fixture
def upstream() -> Iterator[FaultyUpstream]:
    with FaultyUpstream() as running:
        yield running


@pytest.fixture
def world(tmp_path: Path, upstream: FaultyUpstream) -> Iterator[OutsideWorld]:
    # What is read ahead besides would be counted with what is looked at here.
    made = OutsideWorld(tmp_path, {"ENTREPOT_UPSTREAM_READ_AHEAD": "false"})
    made.disconnect()
    made.connect(upstream)
    yield made
    made.close()


def listed(world: OutsideWorld) -> dict[str, dict]:
    answer = world.get("pypi/default/dev/simple/bare/", Accept=JSON_INDEX)
    return {entry["filename"]: entry for entry in answer.json["files"]}


def soon_told(world: OutsideWorld, filename: str) -> dict:
    soon(lambda: bool(listed(world)[filename].get("core-metadata")))
    return listed(world)[filename]


def test_it_is_read_by_ranges_and_told_from_then_on(world: OutsideWorld, upstream) -> None:
    filename, body = big_wheel()
    upstream.add_project("bare", {filename: body}, json=False)
    upstream.serve(f"/files/bare/{filename}", body, headers={"Last-Modified": "Tue, 05 Mar 2024 10:00:00 GMT"})
    assert listed(world)[filename].get("core-metadata", False) is False
    told = soon_told(world, filename)
    document = metadata_of(body)
    assert told["core-metadata"] == {"sha256": hashlib.sha256(document).hexdigest()}
    assert told["upload-time"].startswith("2024-03-05T10:00:00")
    assert world.get(f"pypi/default/dev/files/bare/{filename}.metadata").data == document
    ranges = [seen.headers.get("range") for seen in upstream.requests if seen.path.endswith(".whl")]
    assert None not in ranges
    assert len(ranges) <= MOST_REQUESTS
    # Once: not for another list, another repository, another day.
    world.now += timedelta(days=1)
    world.get("pypi/default/public/simple/bare/", Accept=JSON_INDEX)
    assert world.get(f"pypi/default/dev/files/bare/{filename}.metadata").data == document
    assert len([seen for seen in upstream.requests if seen.path.endswith(".whl")]) == len(ranges)


def test_what_the_upstream_tells_is_left_alone(world: OutsideWorld, upstream) -> None:
    filename, body = big_wheel()
    upstream.add_project("bare", {filename: body}, metadata={filename: metadata_of(body)})
    assert listed(world)[filename]["core-metadata"]
    assert listed(world)[filename]["upload-time"].startswith("2024-02-29")
    assert [seen for seen in upstream.requests if seen.path.endswith(".whl")] == []


def test_the_newest_release_is_read_ahead_and_an_older_one_when_asked(world: OutsideWorld, upstream) -> None:
    (old, old_body), (new, new_body) = big_wheel("1.0"), big_wheel("2.0")
    upstream.add_project("bare", {old: old_body, new: new_body}, json=False)
    soon_told(world, new)
    assert not listed(world)[old].get("core-metadata")
    assert world.get(f"pypi/default/dev/files/bare/{old}.metadata").data == metadata_of(old_body)
    assert listed(world)[old]["core-metadata"]


@pytest.mark.parametrize("body", [b"no zip at all" * 100, b"", b"PK\5\6" + bytes(18)])
def test_what_is_no_wheel_has_none_and_is_no_error(world: OutsideWorld, upstream, body: bytes) -> None:
    filename, _ = big_wheel()
    upstream.add_project("bare", {filename: body}, json=False)
    assert world.get(f"pypi/default/dev/files/bare/{filename}.metadata").status_code in {404, 502}
    assert not listed(world)[filename].get("core-metadata")


def test_without_ranges_nothing_is_downloaded_and_nothing_promised(world: OutsideWorld, upstream) -> None:
    filename, body = big_wheel()
    upstream.add_project("bare", {filename: body}, json=False)
    upstream.serve(f"/files/bare/{filename}", body, takes_ranges=False)
    assert world.get(f"pypi/default/dev/files/bare/{filename}.metadata").status_code == 404
    assert world.get(f"pypi/default/dev/files/bare/{filename}.metadata").status_code == 404
    assert upstream.count(f"/files/bare/{filename}") == 1
    assert not listed(world)[filename].get("core-metadata")
    # Once the wheel is here, it is read from here.
    assert world.get(f"pypi/default/dev/files/bare/{filename}").data == body
    assert world.get(f"pypi/default/dev/files/bare/{filename}.metadata").data == metadata_of(body)


def test_an_outage_is_not_kept_as_an_absence(world: OutsideWorld, upstream) -> None:
    filename, body = big_wheel()
    upstream.add_project("bare", {filename: body}, json=False)
    upstream.serve(f"/files/bare/{filename}", body, fault=Fault.RESET_START)
    assert world.get(f"pypi/default/dev/files/bare/{filename}.metadata").status_code == 502
    upstream.serve(f"/files/bare/{filename}", body)
    assert world.get(f"pypi/default/dev/files/bare/{filename}.metadata").data == metadata_of(body)


def test_another_file_of_that_name_is_read_anew(world: OutsideWorld, upstream) -> None:
    (filename, first), (_, second) = big_wheel(), big_wheel()
    upstream.add_project("bare", {filename: first}, json=False)
    soon_told(world, filename)
    upstream.add_project("bare", {filename: second}, json=False)
    world.now += timedelta(hours=1)
    assert not listed(world)[filename].get("core-metadata")


def serving(body: bytes, asked: list[str]) -> Callable[[str], FilePart | None]:
    def fetch(part: str) -> FilePart:
        asked.append(part)
        first, _, last = part.partition("-")
        start = int(first) if first else max(0, len(body) - int(last))
        stop = int(last) + 1 if first else len(body)
        return FilePart(body[start:stop], start, len(body), None)

    return fetch


def test_a_wheel_of_any_size_costs_a_few_parts() -> None:
    filename, body = wheel("bare", "1.0", files={"bare/data.bin": os.urandom(5_000_000)})
    asked: list[str] = []
    assert glance(filename, PartBody(serving(body, asked))) == metadata_of(body)
    assert len(asked) <= 3


def test_more_parts_than_allowed_are_refused() -> None:
    reader = PartBody(serving(os.urandom(10_000_000), []))
    for at in range(1, MOST_REQUESTS):
        reader.seek(at * 1_000_000)
        reader.read(10)
    reader.seek(9_000_000)
    with pytest.raises(Invalid, match="parts of the file"):
        reader.read(10)


def test_a_member_that_was_changed_is_refused() -> None:
    filename, body = wheel("bare", "1.0")
    at = body.index(b"Metadata-Version") if b"Metadata-Version" in body else body.rindex(b"METADATA", 0, len(body) // 2)
    damaged = body[: at + 12] + bytes([body[at + 12] ^ 0xFF]) + body[at + 13 :]
    with pytest.raises(Invalid):
        glance(filename, PartBody(serving(damaged, [])))
