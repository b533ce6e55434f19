"""Packuments: read from upstreams, rendered for clients."""

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from registry.format import BadIndex, Listing
from registry.formats.npm import names, packument
from registry.formats.npm.manifest import from_text
from tests.harness import npm_packages

BASE = "https://registry.invalid/npm/default/dev/"
URL = "https://upstream.invalid/demo"
KEY = names.package_key("demo")


def listed(document: dict[str, Any], name: str = "demo") -> Listing:
    return packument.parse(names.package_key(name), json.dumps(document).encode(), f"https://upstream.invalid/{name}")


def upstream(name: str = "demo", **options: Any) -> dict[str, Any]:
    tarballs = {version: npm_packages.tarball(name, version) for version in ("1.0.0", "1.1.0", "2.0.0-beta.1")}
    return npm_packages.packument(name, tarballs, "https://files.invalid", tags={"latest": "1.1.0"}, **options)


def rendered(listing: Listing, *, short: bool = False) -> dict[str, Any]:
    entries = [
        packument.Entry(
            link.version,
            link.filename,
            link.extra["manifest"],
            link.extra["dist"],
            link.extra.get("deprecated", ""),
            link.upload_time,
        )
        for link in listing.files
    ]
    page = packument.Packument(
        names.display_name(listing.key),
        entries,
        listing.extra["tags"],
        from_text(listing.extra["document"]),
        "1-abc",
        packument.parse_time(listing.extra["created"]),
        packument.parse_time(listing.extra["modified"]),
    )
    body = packument.render_abbreviated(page, BASE) if short else packument.render_full(page, BASE)
    return json.loads(body)


def test_links_say_what_is_promised():
    listing = listed(upstream())
    first = listing.files[0]
    body = npm_packages.tarball("demo", "1.0.0")
    assert first.filename == "demo-1.0.0.tgz"
    assert first.url == "https://files.invalid/demo/-/demo-1.0.0.tgz"
    assert first.hashes["sha1"] == npm_packages.integrity(body).shasum
    assert len(first.hashes["sha512"]) == 128
    assert first.upload_time == datetime(2021, 1, 1, tzinfo=UTC)
    assert listing.extra["tags"] == {"latest": "1.1.0"}


def test_only_addresses_change_on_the_way_through():
    document = upstream(signatures=[{"keyid": "SHA256:x", "sig": "MEUC"}])
    passed_on = rendered(listed(document))
    for version, manifest in document["versions"].items():
        mine = passed_on["versions"][version]
        assert mine["dist"].pop("tarball") == f"{BASE}demo/-/demo-{version}.tgz"
        manifest["dist"].pop("tarball")
        assert mine == manifest
    assert passed_on["time"] == document["time"]
    assert passed_on["dist-tags"] == document["dist-tags"]
    assert passed_on["readme"] == document["readme"]
    assert passed_on["maintainers"] == document["maintainers"]
    assert passed_on["_rev"] == "1-abc"


def test_attestations_are_served_below_our_prefix():
    said = {
        "url": "https://upstream.invalid/-/npm/v1/attestations/@acme%2fdemo@1.0.0",
        "provenance": {"predicateType": "p"},
    }
    document = rendered(listed(upstream("@acme/demo", attestations=said), "@acme/demo"))
    found = document["versions"]["1.0.0"]["dist"]["attestations"]
    assert found == {"url": f"{BASE}-/npm/v1/attestations/@acme%2Fdemo@1.0.0", "provenance": {"predicateType": "p"}}


def test_the_abbreviated_form_has_what_installing_needs():
    document = upstream()
    document["versions"]["1.0.0"].update(
        scripts={"postinstall": "x"},
        devDependencies={"a": "1"},
        bin={"demo": "x.js"},
        author="me",
        deprecated="old",
        libc=["musl"],
    )
    short = rendered(listed(document), short=True)
    assert set(short) == {"name", "dist-tags", "versions", "modified", "time"}
    first = short["versions"]["1.0.0"]
    assert set(first) == {"name", "version", "devDependencies", "bin", "libc", "hasInstallScript", "deprecated", "dist"}
    assert "hasInstallScript" not in short["versions"]["1.1.0"]
    assert first["dist"]["tarball"] == f"{BASE}demo/-/demo-1.0.0.tgz"


def test_odd_tarball_addresses_get_a_file_name_of_ours():
    document = upstream()
    document["versions"]["1.0.0"]["dist"]["tarball"] = "https://files.invalid/download/demo/1.0.0/0123abcd"
    document["versions"]["1.1.0"]["dist"]["tarball"] = "../files/archive.tgz"
    document["versions"]["2.0.0-beta.1"]["dist"]["tarball"] = "https://files.invalid/other/archive.tgz"
    links = {link.version: link for link in listed(document).files}
    assert links["1.0.0"].filename == "demo-1.0.0.tgz"
    assert links["1.1.0"].filename == "archive.tgz"
    assert links["1.1.0"].url == "https://upstream.invalid/files/archive.tgz"
    assert links["2.0.0-beta.1"].filename == "demo-2.0.0-beta.1.tgz"


@pytest.mark.parametrize(
    "entry",
    [
        None,
        "x",
        {},
        {"dist": {}},
        {"dist": {"tarball": ""}},
        {"dist": {"tarball": 1}},
        {"dist": {"tarball": "https://x.invalid/x.tgz"}, "n": float("inf")},
    ],
)
def test_a_version_that_cannot_be_offered_is_left_out(entry: object):
    document = upstream()
    document["versions"]["3.0.0"] = entry
    document["dist-tags"]["latest"] = "3.0.0"
    listing = listed(document)
    assert [link.version for link in listing.files] == ["1.0.0", "1.1.0", "2.0.0-beta.1"]
    assert listing.extra["tags"] == {}


@pytest.mark.parametrize("version", ["../1.0.0", "1.0.0/x", "1.0.0?x", "", "1.0.0 ", "a" * 300, "1.0.0\n", "1.0.0%2e"])
def test_versions_become_parts_of_addresses_and_are_checked(version: str):
    document = upstream()
    document["versions"][version] = document["versions"]["1.0.0"]
    assert version not in {link.version for link in listed(document).files}


def test_an_unpublished_package_has_no_versions():
    listing = listed({"name": "demo", "time": {"unpublished": {"name": "x"}}})
    assert listing.files == ()


@pytest.mark.parametrize(
    "document", [{"name": "other", "versions": {}}, {"error": "not_found"}, [], 1, {"versions": {}}]
)
def test_a_document_of_something_else_is_no_index(document: Any):
    with pytest.raises(BadIndex):
        packument.parse(KEY, json.dumps(document).encode(), URL)


def test_names_and_versions_are_those_of_the_place_they_stand_in():
    document = upstream()
    document["versions"]["1.0.0"].update(name="evil", version="9.9.9")
    first = rendered(listed(document))["versions"]["1.0.0"]
    assert (first["name"], first["version"]) == ("demo", "1.0.0")


def test_surrogates_and_any_script_survive():
    document = upstream()
    document["versions"]["1.0.0"]["description"] = "\ud800 \u65e5\u672c\u8a9e \U0001f600 \u0000"
    assert (
        rendered(listed(document))["versions"]["1.0.0"]["description"] == "\ud800 \u65e5\u672c\u8a9e \U0001f600 \u0000"
    )


def test_several_digests_of_one_kind_promise_nothing():
    document = upstream()
    document["versions"]["1.0.0"]["dist"] = {
        "tarball": "https://x.invalid/x.tgz",
        "integrity": f"{npm_packages.integrity(b'a').integrity} {npm_packages.integrity(b'b').integrity}",
    }
    assert listed(document).files[0].hashes == {}


def test_thousands_of_versions_take_time_in_proportion():
    one = upstream()["versions"]["1.0.0"]
    one["dependencies"] = {f"package-{number}": "^1.0.0" for number in range(40)}
    document = upstream()
    document["versions"] = {
        f"1.{number}.0": {
            **one,
            "dist": {**one["dist"], "tarball": f"https://files.invalid/demo/-/demo-1.{number}.0.tgz"},
        }
        for number in range(5000)
    }
    body = json.dumps(document).encode()
    started = time.process_time()
    listing = packument.parse(KEY, body, URL)
    assert len(rendered(listing)["versions"]) == 5000
    assert time.process_time() - started < 20  # about 0.5 on an idle machine; this is to find squares
