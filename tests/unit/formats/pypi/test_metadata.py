"""What is read out of archives and core metadata documents."""

import hashlib
import io
import json

import pytest

from registry.errors import Invalid, TooLarge
from registry.formats.pypi import core_metadata
from registry.formats.pypi.metadata import inspect, read_member
from tests.harness import packages
from tests.unit.formats.pypi.forge import (
    METADATA,
    SDIST,
    WHEEL,
    TarMember,
    ZipMember,
    sdist,
    wheel,
    write_zip,
    zip_members,
)

FULL = b"""Metadata-Version: 2.4
Name: Foo.Bar
Version: 1.0.0
Summary: All of
  it
Keywords: one,two
Author-email: "A. Person" <a@example.invalid>
License-Expression: MIT
License-File: LICENSE
Classifier: Programming Language :: Python
Classifier: Typing :: Typed
Requires-Python: >=3.8,<4
Requires-Dist: click>=8
Requires-Dist: rich; extra == "cli"
Provides-Extra: cli
Project-URL: Homepage, https://example.invalid/
Project-URL: Source, https://example.invalid/source
Description-Content-Type: text/markdown
License: UNKNOWN
X-Unknown: kept out

# Foo

\xc3\xa4 body
"""


def parse(document: bytes) -> core_metadata.CoreMetadata:
    return core_metadata.parse(document, "METADATA")


def test_all_fields() -> None:
    core = parse(FULL)
    assert (core.name, core.display_name, core.version, core.display_version) == (
        "foo-bar",
        "Foo.Bar",
        "1.0.0",
        "1.0.0",
    )
    assert (core.summary, core.requires_python) == ("All of it", ">=3.8,<4")
    assert core.fields == {
        "metadata_version": "2.4",
        "keywords": ["one", "two"],
        "author_email": '"A. Person" <a@example.invalid>',
        "license_expression": "MIT",
        "license_files": ["LICENSE"],
        "classifiers": ["Programming Language :: Python", "Typing :: Typed"],
        "requires_python": ">=3.8,<4",
        "requires_dist": ["click>=8", 'rich; extra == "cli"'],
        "provides_extra": ["cli"],
        "project_urls": {"Homepage": "https://example.invalid/", "Source": "https://example.invalid/source"},
    }
    assert (core.description, core.description_type) == ("# Foo\n\n\u00e4 body\n", "text/markdown")
    assert json.loads(json.dumps(core.fields)) == core.fields


def test_windows_line_ends_mean_the_same() -> None:
    core = parse(FULL.replace(b"\n", b"\r\n"))
    assert core.fields == parse(FULL).fields


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2", "2.0", "2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "2.99"])
def test_known_and_further_minor_versions(version: str) -> None:
    assert parse(METADATA.replace(b"2.1", version.encode())).name == "demo"


def test_a_description_in_a_field() -> None:
    document = (
        b"Metadata-Version: 1.1\nName: demo\nVersion: 1\nDescription: One\n        two\n        \n          three\n"
    )
    assert parse(document).description == "One\ntwo\n\n  three"


def test_what_a_database_cannot_hold_is_taken_out() -> None:
    document = METADATA.replace(b"Words.", b"Wo\x00rds \xff.").replace(b"A demo", "\u00e4".encode())
    core = parse(document)
    assert (core.summary, core.description) == ("\u00e4", "Words \ufffd.\n")


def test_a_long_description_is_cut_between_characters() -> None:
    core = parse(METADATA.replace(b"Words.", b"x" + "\u00e4".encode() * core_metadata.DESCRIPTION_BYTES))
    description = core.description
    assert core_metadata.DESCRIPTION_BYTES - 1 <= len(description.encode()) <= core_metadata.DESCRIPTION_BYTES
    assert set(description) == {"x", "\u00e4"}
    assert core.fields["description_is_cut"] is True
    assert "description_is_cut" not in parse(METADATA).fields


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ((b"Metadata-Version: 2.1\n", b""), "Metadata-Version is missing"),
        ((b"Metadata-Version: 2.1", b"Metadata-Version: 3.0"), "not 1.x or 2.x"),
        ((b"Name: demo\n", b""), "Name is missing"),
        ((b"Version: 1.0\n", b""), "missing"),
        ((b"Name: demo", b"Name: demo\nName: evil"), "name is there twice"),
        ((b"Name: demo", b"Name: demo\nname: evil"), "name is there twice"),
        ((b"Version: 1.0", b"Version: 1.0\nVersion: 2.0"), "version is there twice"),
        ((b"Name: demo", b"Name: demo\n evil"), "project name"),
        ((b"Name: demo", b"Name: d\xff"), "not UTF-8"),
        ((b"Name: demo", b"Name: ../../demo"), "project name"),
        ((b"Name: demo", b"Name: con"), "reserved"),
        ((b"Version: 1.0", b"Version: latest"), "PEP 440"),
        ((b"Summary: A demo", b"Requires-Python: three"), "Requires-Python"),
        ((b"Summary: A demo", b"Requires-Python: >=3\nRequires-Python: >=4"), "requires-python is there twice"),
        ((b"Summary: A demo", b"Requires-Dist: not a requirement"), "Requires-Dist"),
        ((b"Summary: A demo", b"Requires-Dist: a\nRequires-Dist: b ("), "Requires-Dist 'b \\('"),
        ((b"Summary: A demo", b"Summary: A\rName: evil"), "carriage return"),
        ((b"Summary: A demo", b"Summary: A\x00"), "NUL"),
        ((b"Summary: A demo", b"Summary: two\nlines"), "line 5 is neither"),
        ((b"Metadata-Version: 2.1", b" Metadata-Version: 2.1"), "line 1 is neither"),
        ((b"Summary: A demo", b"Content-Transfer-Encoding: base64"), "content-transfer-encoding has no place"),
    ],
)
def test_documents_that_break_a_rule(change: tuple[bytes, bytes], rule: str) -> None:
    document = METADATA.replace(*change, 1)
    assert document != METADATA
    with pytest.raises(Invalid, match=rule):
        parse(document)


@pytest.mark.parametrize(
    "field", [b"Requires-Python: " + b">=1," * 2000, b"Requires-Dist: a" + b"a" * 5000, b"X: " + b"y" * 3_000_000]
)
def test_fields_over_their_limits(field: bytes) -> None:
    with pytest.raises(TooLarge):
        parse(METADATA.replace(b"Summary: A demo", field))


def test_a_wheel() -> None:
    filename, body = packages.wheel("Foo-Bar", "1.2.0", requires=("click>=8",))
    release = inspect(filename, io.BytesIO(body))
    assert (release.name, release.display_name, release.version, release.display_version) == (
        "foo-bar",
        "Foo-Bar",
        "1.2.0",
        "1.2.0",
    )
    assert release.filename == filename
    assert release.metadata["summary"] == release.summary == "The Foo-Bar package"
    assert release.metadata["requires_dist"] == ["click>=8"]
    document = release.metadata_document
    assert document is not None
    assert document == packages.metadata("Foo-Bar", "1.2.0", requires=("click>=8",)).encode()
    assert release.extra == {
        "packagetype": "bdist_wheel",
        "python_version": "py3",
        "requires_python": ">=3.8",
        "core_metadata": {"sha256": hashlib.sha256(document).hexdigest()},
    }
    json.dumps([release.metadata, release.extra])


def test_an_sdist() -> None:
    filename, body = packages.sdist("Foo-Bar", "1.2.0")
    release = inspect(filename, io.BytesIO(body))
    assert (release.name, release.version, release.metadata_document) == ("foo-bar", "1.2.0", None)
    assert release.extra == {"packagetype": "sdist", "python_version": "source", "requires_python": ">=3.8"}


def test_the_archive_decides_not_where_the_stream_stood() -> None:
    body = io.BytesIO(wheel())
    body.seek(77)
    assert inspect(WHEEL, body).name == "demo"


def test_an_sdist_in_a_wheels_clothes() -> None:
    with pytest.raises(Invalid):
        inspect(WHEEL, io.BytesIO(sdist()))
    with pytest.raises(Invalid):
        inspect(SDIST, io.BytesIO(wheel()))


SPEC = b"version: 0.2\n"
ZIPPED = write_zip(zip_members({"demo-1.0/PKG-INFO": METADATA, "demo-1.0/buildspec.yml": SPEC}))


@pytest.mark.parametrize(
    ("filename", "archive", "path", "found"),
    [
        (SDIST, sdist(TarMember("demo-1.0/buildspec.yml", SPEC)), "buildspec.yml", SPEC),
        (SDIST, sdist(TarMember("demo-1.0/ci/buildspec.yml", SPEC)), "ci/buildspec.yml", SPEC),
        (SDIST, sdist(TarMember("demo-1.0/ci/buildspec.yml", SPEC)), "buildspec.yml", None),
        (SDIST, sdist(TarMember("demo-1.0/buildspec.yml", flag=b"2", target="PKG-INFO")), "buildspec.yml", None),
        (SDIST, sdist(TarMember("demo-1.0/buildspec.yml/", flag=b"5")), "buildspec.yml", None),
        (SDIST, sdist(), "buildspec.yml", None),
        ("demo-1.0.zip", ZIPPED, "buildspec.yml", SPEC),
        ("demo-1.0.zip", ZIPPED, "other.yml", None),
        (WHEEL, wheel(ZipMember("buildspec.yml", SPEC)), "buildspec.yml", SPEC),
        (WHEEL, wheel(), "buildspec.yml", None),
    ],
)
def test_reading_one_file(filename: str, archive: bytes, path: str, found: bytes | None) -> None:
    assert read_member(filename, io.BytesIO(archive), path, 1000) == found


@pytest.mark.parametrize(
    ("filename", "archive"),
    [
        (SDIST, sdist(TarMember("demo-1.0/buildspec.yml", SPEC))),
        ("demo-1.0.zip", ZIPPED),
        (WHEEL, wheel(ZipMember("buildspec.yml", SPEC))),
    ],
)
def test_reading_one_file_over_its_limit(filename: str, archive: bytes) -> None:
    with pytest.raises(TooLarge):
        read_member(filename, io.BytesIO(archive), "buildspec.yml", len(SPEC) - 1)


@pytest.mark.parametrize("path", ["../PKG-INFO", "/PKG-INFO", "a//b", ""])
def test_reading_a_path_that_is_none(path: str) -> None:
    with pytest.raises(Invalid):
        read_member(SDIST, io.BytesIO(sdist()), path, 1000)
