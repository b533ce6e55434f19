"""C6, C7, C10, C11: what an upstream says of a file changes nothing of how it is served, named or replaced."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.fakes.upstream import FaultyUpstream
from tests.functional.outside_world import JSON_INDEX, OutsideWorld
from tests.harness.packages import wheel

FILENAME, BODY = wheel("outside", "1.0")
FILE = f"pypi/default/dev/files/outside/{FILENAME}"
PAGE = "pypi/default/dev/simple/outside/"
HOSTILE = {
    "Set-Cookie": "entrepot_session=planted",
    "Content-Security-Policy": "default-src *",
    "Link": "<https://evil.invalid/>; rel=preload",
    "Clear-Site-Data": '"*"',
    "Access-Control-Allow-Origin": "*",
    "Refresh": "0; url=https://evil.invalid/",
    "X-Frame-Options": "ALLOWALL",
    "Location": "https://evil.invalid/",
}


@pytest.fixture
def upstream() -> Iterator[FaultyUpstream]:
    with FaultyUpstream() as upstream:
        upstream.add_project("outside", {FILENAME: BODY})
        yield upstream


@pytest.fixture
def world(tmp_path: Path, upstream: FaultyUpstream) -> Iterator[OutsideWorld]:
    made = OutsideWorld(tmp_path)
    made.disconnect()
    made.connect(upstream)
    yield made
    made.close()


def test_C6_headers_are_ours(world: OutsideWorld, upstream: FaultyUpstream) -> None:
    for kind in ("application/octet-stream", "image/svg+xml", "text/javascript"):
        upstream.serve(f"/files/outside/{FILENAME}", BODY, content_type=kind, headers=HOSTILE)
    answer = world.get(FILE)
    assert answer.status_code == 200
    assert answer.data == BODY
    for name, value in HOSTILE.items():
        assert answer.headers.get(name) != value, name
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert "sandbox" in answer.headers["Content-Security-Policy"]


def test_C7_a_file_has_one_address(world: OutsideWorld, upstream: FaultyUpstream) -> None:
    """Whatever else is written around its name opens nothing else, and keeps nothing under another name."""
    for odd in (
        f"{FILENAME};x",
        f"{FILENAME}%2f..%2fevil",
        f"{FILENAME.upper()}",
        f"./{FILENAME}",
        f"%2e/{FILENAME}",
        f"/{FILENAME}",
        f"{FILENAME}%23",
        f"{FILENAME}%3Fx=1",
    ):
        assert world.get(f"pypi/default/dev/files/outside/{odd}").status_code in {400, 404}, odd
    assert world.get(f"{FILE}?x=1").data == BODY
    assert world.get(FILE, **{"X-Forwarded-Host": "evil.invalid", "Accept-Language": "xx"}).data == BODY
    assert upstream.count(f"/files/outside/{FILENAME}") == 1


def test_C7_pages_do_not_vary_on_what_is_not_asked(world: OutsideWorld) -> None:
    urls = [file["url"] for file in world.get(PAGE, Accept=JSON_INDEX).json["files"]]
    odd = {"X-Forwarded-Host": "evil.invalid", "X-Forwarded-Proto": "gopher", "Forwarded": "host=evil.invalid"}
    for name, value in {**odd, "X-Original-URL": "/pypi/default/prod/simple/", "Accept-Language": "xx"}.items():
        again = world.get(PAGE, Accept=JSON_INDEX, **{name: value})
        assert [file["url"] for file in again.json["files"]] == urls, name
        assert b"evil" not in again.data


def test_C10_a_file_that_changes_outside_stays_what_it_was(world: OutsideWorld, upstream: FaultyUpstream) -> None:
    assert world.get(FILE).data == BODY
    _, other = wheel("outside", "1.0", requires=("evil",))
    assert other != BODY
    upstream.add_project("outside", {FILENAME: other})
    for _ in range(2):
        world.now += timedelta(days=2)
        assert world.get(PAGE, Accept=JSON_INDEX).status_code == 200
        assert world.get(FILE).data == BODY
    digests = {file["hashes"]["sha256"] for file in world.get(PAGE, Accept=JSON_INDEX).json["files"]}
    assert digests == {hashlib.sha256(BODY).hexdigest()}


def test_C10_negative_control_what_was_never_kept_is_the_new_one(world: OutsideWorld, upstream: FaultyUpstream) -> None:
    assert world.get(PAGE, Accept=JSON_INDEX).status_code == 200
    _, other = wheel("outside", "1.0", requires=("evil",))
    upstream.add_project("outside", {FILENAME: other})
    world.now += timedelta(days=2)
    assert world.get(FILE).data == other
