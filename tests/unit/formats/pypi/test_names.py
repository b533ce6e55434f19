"""Names, versions and file names (PEP 503, 440, 427, 625) and what attackers put in their place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import Invalid
from registry.formats.pypi import names
from registry.names import PackageName


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("demo", "demo"),
        ("Foo.Bar", "foo-bar"),
        ("foo_bar", "foo-bar"),
        ("FOO-bar", "foo-bar"),
        ("a..-__b", "a-b"),
        ("7", "7"),
        ("a" * 200, "a" * 200),
    ],
)
def test_pep_503_normal_form(raw: str, normal: str) -> None:
    assert names.project_name(raw) == normal


@pytest.mark.parametrize(
    "raw",
    [
        "", "-", ".", "..", "-a", "a-", "_a", "a.", "a\n", "a b", "a/b", "a\\b", "../../etc/passwd", "a#b", "a?b", "a%2fb",
        "a;b", "a\u2215b", "a\x00", "f\u043eo", "f\uff4fo", "\u212aa", "a\u200bb", "a\u202eb", "a" * 201, "a" * 50_000, "@s/p",
    ],
)  # fmt: skip
def test_what_is_no_name_is_refused(raw: str) -> None:
    with pytest.raises(Invalid, match="project name"):
        names.project_name(raw)


@pytest.mark.parametrize("raw", ["con", "AUX", "lpt1", "com9", "nul", "simple", "requirements.txt"])
def test_reserved_names_can_be_looked_up_but_not_published(raw: str) -> None:
    names.project_name(raw)
    with pytest.raises(Invalid, match="reserved"):
        names.publishable_name(raw)


def test_a_name_like_a_reserved_one_can_be_published() -> None:
    assert names.publishable_name("con2") == "con2"


@given(st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,30}[A-Za-z0-9])?", fullmatch=True))
def test_normalising_is_idempotent(raw: str) -> None:
    once = names.project_name(raw)
    assert names.project_name(once) == once


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        ("1.0", "1.0"),
        ("1.0.0", "1.0.0"),
        ("1.10", "1.10"),
        ("1.0a1", "1.0a1"),
        ("1.0-alpha.1", "1.0a1"),
        ("v1.2", "1.2"),
        ("1!2.0", "1!2.0"),
        ("2.0+cu121", "2.0+cu121"),
        ("1.0.post3.dev2", "1.0.post3.dev2"),
    ],
)
def test_pep_440_normal_form(raw: str, canonical: str) -> None:
    assert names.canonical_version(raw) == canonical


@pytest.mark.parametrize(
    "raw", ["", " 1.0", "1.0\n", "1..0", "latest", "1.0/2", "\u0661.0", "1.0+", "9" * 5000, "1.0\x00", "../1"]
)
def test_what_is_no_version_is_refused(raw: str) -> None:
    with pytest.raises(Invalid, match="version"):
        names.canonical_version(raw)


def test_versions_sort_in_release_order_and_rubbish_first() -> None:
    ordered = [
        "no version",
        "0.9",
        "1.0.dev1",
        "1.0a1",
        "1.0rc1",
        "1.0",
        "1.0+local",
        "1.0.post1",
        "1.2",
        "1.10",
        "1!0.1",
    ]
    backwards = list(reversed(ordered))
    assert sorted(backwards, key=names.sort_key) == ordered


@pytest.mark.parametrize(
    ("filename", "name", "version", "packagetype", "tag"),
    [
        ("demo-1.0-py3-none-any.whl", "demo", "1.0", "bdist_wheel", "py3"),
        ("Foo_Bar-2.0-1-cp311-abi3-linux_x86_64.whl", "foo-bar", "2.0", "bdist_wheel", "cp311"),
        ("torch-2.1+cu121-cp311-cp311-linux_x86_64.whl", "torch", "2.1+cu121", "bdist_wheel", "cp311"),
        ("six-1.17.0-py2.py3-none-any.whl", "six", "1.17.0", "bdist_wheel", "py2.py3"),
        ("demo-1!1.0-py3-none-any.whl", "demo", "1!1.0", "bdist_wheel", "py3"),
        ("foo_bar-1.0.tar.gz", "foo-bar", "1.0", "sdist", "source"),
        ("Foo.Bar-1.0.tar.gz", "foo-bar", "1.0", "sdist", "source"),
        ("foo-bar-1.0.zip", "foo-bar", "1.0", "sdist", "source"),
    ],
)
def test_file_names(filename: str, name: str, version: str, packagetype: str, tag: str) -> None:
    parsed = names.parse_filename(filename)
    assert (parsed.name, parsed.version, parsed.packagetype, parsed.python_tag) == (name, version, packagetype, tag)


@pytest.mark.parametrize(
    "filename",
    [
        "", ".", "..", "demo", "demo.whl", "demo-1.0.exe", "demo-1.0.tar.bz2", "demo-1.0.egg", "demo-1.0-py3-none-any.whl\n",
        "../demo-1.0.tar.gz", "/demo-1.0.tar.gz", "a/demo-1.0.tar.gz", "a\\demo-1.0.tar.gz", "C:\\demo-1.0.tar.gz",
        "demo-1.0.tar.gz\x00.whl", "demo-1.0.tar.gz#x", "demo-1.0.tar.gz?x", "demo%2f-1.0.tar.gz", "demo-1.0 .tar.gz",
        "d\u0435mo-1.0.tar.gz", "\u202edemo-1.0.tar.gz", ".demo-1.0.tar.gz", "demo-latest.tar.gz", "-1.0.tar.gz",
        "demo-1.0-py3-none-any-more-parts.whl", "demo-1.0-x1-py3-none-any.whl", "a" * 250 + "-1.0.tar.gz",
        "demo-1.0.tar.gz.metadata", "demo--1.0.tar.gz.",
    ],
)  # fmt: skip
def test_file_names_that_are_refused(filename: str) -> None:
    with pytest.raises(Invalid):
        names.parse_filename(filename)


def test_messages_show_a_hostile_name_escaped_and_short() -> None:
    with pytest.raises(Invalid) as raised:
        names.parse_filename("a\u202e\x1b[2J\n" + "b" * 200)
    assert raised.value.rule.isascii()
    assert raised.value.rule.isprintable()
    assert len(raised.value.rule) < 300


@pytest.mark.parametrize(
    ("name", "filename", "version"),
    [
        ("demo", "demo-1.0-py3-none-any.whl", "1.0"),
        ("demo", "demo-1.0-1.tar.gz", "1.0.post1"),
        ("demo-1-0", "demo-1.0-1.tar.gz", "1"),
        ("foo-bar", "foo-bar-1.0.tar.gz", "1.0"),
        ("foo", "foo-bar-1.0.tar.gz", None),
        ("demo", "demo-1.0.tar.bz2", "1.0"),
        ("demo", "demo-1.0.exe", None),
        ("demo", "demo-1.0-py3.6.egg", None),
        ("demo", "other-1.0-py3-none-any.whl", None),
        ("demo", "demo-2004d.tar.gz", None),
        ("demo", "../demo-1.0.tar.gz", None),
    ],
)
def test_listed_files_belong_to_the_project_they_are_listed_under(
    name: str, filename: str, version: str | None
) -> None:
    assert names.listed_version(PackageName(name), filename) == version
