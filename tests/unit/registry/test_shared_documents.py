"""A page is rendered once for all processes of a server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from registry.repos.documents import DocumentCache, Stamp, make_document
from storage.blobs import MIB
from storage.scratch import Scratch

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = (1, "name", "text/html", "pypi")
STAMP = Stamp(3, 4)


def _caches(folder: Path) -> tuple[DocumentCache, DocumentCache]:
    return DocumentCache(shared=Scratch(folder, 64 * MIB)), DocumentCache(shared=Scratch(folder, 64 * MIB))


@pytest.mark.parametrize("size_bytes", [10, 5_000, 2 * MIB])
@pytest.mark.parametrize("until", [None, NOW + timedelta(minutes=1)])
def test_a_sibling_finds_what_was_rendered(tmp_path: Path, size_bytes: int, until: datetime | None) -> None:
    one, other = _caches(tmp_path)
    made = make_document(b"x" * size_bytes, "text/html", STAMP, until, stale=until is not None)
    one.put(KEY, made)
    assert other.get(KEY, STAMP, NOW) == made


def test_what_has_changed_is_not_found(tmp_path: Path) -> None:
    one, other = _caches(tmp_path)
    one.put(KEY, make_document(b"old", "text/html", STAMP, NOW + timedelta(minutes=1)))
    assert other.get(KEY, Stamp(3, 5), NOW) is None
    assert other.get(KEY, Stamp(4, 4), NOW) is None
    assert other.get(KEY, STAMP, NOW + timedelta(minutes=1)) is None
    assert other.get((2, *KEY[1:]), STAMP, NOW) is None


def test_the_newer_one_of_a_sibling_takes_the_place_of_an_old_one(tmp_path: Path) -> None:
    one, other = _caches(tmp_path)
    other.put(KEY, make_document(b"old", "text/html", STAMP, None))
    new = make_document(b"new", "text/html", Stamp(3, 5), None)
    one.put(KEY, new)
    assert other.get(KEY, Stamp(3, 5), NOW) == new
