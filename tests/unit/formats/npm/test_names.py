"""Names, versions, tags and file names of npm packages."""

import random
import time

import pytest

from registry.errors import Invalid
from registry.formats.npm import names


@pytest.mark.parametrize(
    ("written", "namespace", "name"),
    [
        ("ms", "", "ms"),
        ("@acme/demo", "acme", "demo"),
        ("acme/demo", "acme", "demo"),
        ("JSONStream", "", "JSONStream"),
        ("lodash.merge", "", "lodash.merge"),
        ("@a/-", "a", "-"),
        ("--", "", "--"),
        ("a" * 214, "", "a" * 214),
    ],
)
def test_keys(written: str, namespace: str, name: str):
    key = names.package_key(written)
    assert (key.namespace, key.name) == (namespace, name)
    assert names.package_key(names.display_name(key)) == key


@pytest.mark.parametrize("raw", ["@Acme/demo", "Demo", "@acme/Demo"])
def test_old_names_are_read_and_not_published(raw: str):
    names.package_key(raw)
    with pytest.raises(Invalid, match="lower-case"):
        names.publishable_key(raw)


@pytest.mark.parametrize("raw", ["a" * 215, "a/b/c", "..", "a\\b", "a%2fb", "a\u202eb", "@a/../b", "a?b", "a;b", " a"])
def test_what_is_no_name(raw: str):
    with pytest.raises(Invalid):
        names.package_key(raw)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("1.2.3", "1.2.3"),
        ("v1.2.3", "1.2.3"),
        (" =1.2.3 ", "1.2.3"),
        ("1.2.3+build.5", "1.2.3"),
        ("1.0.0-a.1+b", "1.0.0-a.1"),
    ],
)
def test_versions(raw: str, clean: str):
    assert names.canonical_version(raw) == clean


@pytest.mark.parametrize(
    "raw",
    [
        "1.0",
        "01.0.0",
        "1.0.0-01",
        "1.0.0-",
        "1.0.0+",
        "",
        "latest",
        "1.0.0\n1",
        "1." + "9" * 30 + ".0",
        None,
        1,
        "1.0.0/../2",
    ],
)
def test_what_is_no_version(raw: object):
    with pytest.raises(Invalid):
        names.canonical_version(raw)


def test_precedence_is_that_of_the_specification():
    ordered = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1",
               "1.0.0", "2.0.0", "2.1.0", "2.1.1", "10.0.0"]  # fmt: skip
    shuffled = random.Random(1).sample(ordered, len(ordered))
    assert sorted(shuffled, key=names.sort_key) == ordered


@pytest.mark.parametrize("raw", ["latest", "next", "v-next", "beta-2", "~", "canary.1"])
def test_tags(raw: str):
    assert names.tag_name(raw) == raw


@pytest.mark.parametrize(
    "raw", ["1.0.0", "1", "v2", "1.x", "*", "x", "=1", "a b", "a/b", "", "../x", "a" * 201, "1.0.0-beta"]
)
def test_what_reads_as_a_version_is_no_tag(raw: str):
    with pytest.raises(Invalid):
        names.tag_name(raw)


def test_a_listed_file_keeps_its_name_where_it_is_one():
    key = names.package_key("@acme/demo")
    assert names.listed_filename(key, "1.0.0", "https://x.invalid/d/demo-1.0.0.tgz?sig=1#x") == "demo-1.0.0.tgz"
    assert names.listed_filename(key, "1.0.0", "https://x.invalid/d/odd_name.tgz") == "odd_name.tgz"
    for hostile in ("..%2f..%2fx.tgz", "0123456789abcdef", "a b.tgz", ".tgz", "x.tar.gz", "a" * 300 + ".tgz"):
        assert names.listed_filename(key, "1.0.0", f"https://x.invalid/{hostile}") == "demo-1.0.0.tgz"


def test_no_expression_backtracks():
    started = time.process_time()
    for text in (
        "a" * 50_000,
        "1." * 20_000,
        "1.0.0-" + "a." * 20_000,
        "1.0.0-" + "0" * 50_000,
        "@" * 50_000,
        "v" * 50_000,
    ):
        for read in (names.package_key, names.canonical_version, names.tag_name):
            with pytest.raises(Invalid):
                read(text)
        names.sort_key(text)
        names.is_listed_version(text)
        names.listed_filename(names.package_key("a"), "1.0.0", text)
    assert time.process_time() - started < 5
