"""A project's page out of an offer: passed on entry by entry, it is the page that is rendered of the files."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.format import Listing
from registry.formats.pypi import pages, reading, writing
from registry.formats.pypi.ahead import likely_wheel
from registry.formats.pypi.installer import Installer
from registry.names import PackageKey, PackageName
from registry.repos.resolve import KeptFile, Offer, OfferedFile
from registry.repos.topology import Connection
from storage.blobs import BlobHandle, Digest, Locator

DEMO = PackageKey("pypi", "", PackageName("demo"))
ADDRESS = "https://index.invalid/simple/demo/"
ROOT = "http://127.0.0.1:1/pypi/default/dev"
RELATIVE, ABSOLUTE = pages.Addresses(ROOT), pages.Addresses.absolute(ROOT)
SHA, OTHER = "0a" * 32, "1B" * 32
CONNECTIONS = tuple(
    Connection(id=number, repository_id=1, domain_id=1, name=f"outside-{number}", format="pypi", url=None)
    for number in (1, 2)
)

FILENAMES = st.sampled_from(
    [
        "demo-1.0.tar.gz",
        "demo-1.0-py3-none-any.whl",
        "demo-1.0.0-py3-none-any.whl",
        "Demo-1.0-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "demo-1!2.0+local.1-py3-none-any.whl",
        "demo-2.0rc1.zip",
        "demo-10.0.tar.gz",
        "other-1.0.tar.gz",
        "demo-1.0.exe",
        "demo-../x.whl",
    ]
)
DIGESTS = st.dictionaries(
    st.sampled_from(["sha256", "md5", "sha512", "crc"]),
    st.sampled_from([SHA, OTHER, "0a" * 16, "0a" * 64, "zz" * 32, "", 5]),
    max_size=3,
)
WORDS = st.sampled_from(["", " ", ">=3.8", "why", 'a "quote" & é\ud800', 3, None, True, False])
MOMENTS = st.sampled_from(
    [
        None,
        5,
        "",
        "2024-01-01T00:00:00.123456Z",
        "2024-13-01T00:00:00.123456Z",
        "2024-02-30T00:00:00.123456Z",
        "2024-01-01T24:00:00.123456Z",
        "2024-01-01T00:00:00Z",
        "2024-01-01T00:00:00.1234567+02:00",
        "2024-01-01",
        "2024-01-01T00:00:00.123456Z\n",
    ]
)
LINKS = st.sampled_from(
    [
        None,
        7,
        "",
        "x/demo-1.0.tar.gz",
        "https://files.invalid/a/demo-1.0.tar.gz#sha256=aa",
        "ftp://files.invalid/x",
        "http://[",
        "//files.invalid/demo%20x",
    ]
)
ENTRIES = st.fixed_dictionaries(
    {"filename": FILENAMES},
    optional={
        "url": LINKS,
        "hashes": DIGESTS | st.none(),
        "size": st.sampled_from([0, 12345, -1, True, "5", None, 1.5]),
        "upload-time": MOMENTS,
        "requires-python": WORDS,
        "yanked": WORDS,
        "core-metadata": DIGESTS | st.booleans() | st.none(),
        "data-dist-info-metadata": DIGESTS | st.booleans(),
        "dist-info-metadata": DIGESTS | st.booleans(),
        "provenance": LINKS,
    },
)
STATUSES = st.sampled_from(
    [None, {"status": "archived", "reason": "old"}, {"state": "deprecated"}, {"status": "quarantined"}]
)


def listing(entries: list[dict[str, Any]], status: object = None) -> Listing:
    page = {"meta": {"api-version": "1.4"}, "name": "demo", "files": entries, "project-status": status}
    return reading.parse(DEMO.name, json.dumps(page).encode(), "", ADDRESS)


def kept(filename: str, *, provenance: int | None = None, linked_by: Connection | None = None) -> OfferedFile:
    handle = BlobHandle(Locator("x"), Digest(SHA), 5, b"")
    at = datetime(2026, 1, 2, tzinfo=UTC)
    return OfferedFile(
        filename,
        "1.0",
        {"sha256": SHA, "md5": "0a" * 16},
        5,
        at,
        {"core_metadata": {"sha256": SHA}, "requires_python": ">=3.9"},
        None,
        KeptFile(1, 1, handle, None, at, provenance),
        None,
        linked_by,
    )


OWN = st.dictionaries(
    st.sampled_from(["demo-1.0.tar.gz", "demo-1.0-py3-none-any.whl", "demo-0.9.tar.gz"]),
    st.tuples(st.none() | st.just(3), st.none() | st.just(CONNECTIONS[0])),
    max_size=2,
)


@given(
    st.lists(st.tuples(st.lists(ENTRIES, max_size=6), STATUSES), max_size=2), OWN, st.sampled_from([RELATIVE, ABSOLUTE])
)
def test_entries_are_passed_on_as_they_would_be_rendered(
    upstreams: list[tuple[list[dict[str, Any]], object]],
    own: dict[str, tuple[int | None, Connection | None]],
    addresses: pages.Addresses,
) -> None:
    listings = tuple(
        (connection, listing(entries, status))
        for connection, (entries, status) in zip(CONNECTIONS, upstreams, strict=False)
    )
    files = {name: kept(name, provenance=number, linked_by=by) for name, (number, by) in own.items()}
    offer = Offer(DEMO, files, listings, None, False, "archived", "old")
    passed, has_root = pages.as_json(offer, addresses)
    shown = pages.view(offer, addresses)
    assert passed == writing.render_json(shown)
    read = json.loads(passed)["files"]
    assert has_root == any(file["provenance"] for file in read)
    assert all(file["url"].startswith((addresses.files, "../..")) for file in read)
    assert addresses == ABSOLUTE or has_root == (ROOT in passed.decode())
    # One file is the same alone as among all of them.
    assert offer.files == tuple(offer.file(file.filename) for file in offer.files)
    listed = list(pages.listed(offer))
    assert len(listed) == len(dict(listed))
    assert {(file.filename, file.version) for file in offer.files} == {
        pair for pair in listed if offer.file(pair[0]) is not None
    }


def test_a_page_in_html_among_them_is_rendered() -> None:
    html = reading.parse(DEMO.name, b'<a href="demo-3.0.tar.gz#sha256=' + SHA.encode() + b'">x</a>', "", ADDRESS)
    entry = {"filename": "demo-1.0.tar.gz", "url": "x", "hashes": {"sha256": SHA}}
    offer = Offer(DEMO, {}, ((CONNECTIONS[0], listing([entry])), (CONNECTIONS[1], html)), None, False)
    page = json.loads(pages.as_json(offer, RELATIVE)[0])
    assert [file["filename"] for file in page["files"]] == ["demo-1.0.tar.gz", "demo-3.0.tar.gz"]
    assert page["versions"] == ["1.0", "3.0"]


@pytest.mark.parametrize(
    ("entries", "likely"),
    [
        ({"demo-2.0-py3-none-any.whl": False, "demo-10.0-py3-none-any.whl": False}, "demo-10.0-py3-none-any.whl"),
        ({"demo-2.0-py3-none-any.whl": False, "demo-10.0-py3-none-any.whl": "bad"}, "demo-2.0-py3-none-any.whl"),
        ({"demo-2.0-py3-none-any.whl": False, "demo-3.0rc1-py3-none-any.whl": False}, "demo-2.0-py3-none-any.whl"),
        ({"demo-3.0rc1-py3-none-any.whl": False, "demo-2.0.tar.gz": False}, "demo-3.0rc1-py3-none-any.whl"),
        ({"demo-2.0.tar.gz": False}, None),
        ({}, None),
    ],
)
def test_the_likely_wheel(entries: dict[str, object], likely: str | None) -> None:
    told = [
        {"filename": name, "url": name, "hashes": {"sha256": SHA}, "yanked": yanked} for name, yanked in entries.items()
    ]
    offer = Offer(DEMO, {}, ((CONNECTIONS[0], listing(told)),), None, False)
    found = likely_wheel(offer, Installer("311", "linux", ("x86_64",)))
    assert (found.filename if found else None) == likely
