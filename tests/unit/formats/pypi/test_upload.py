"""The legacy upload form, as the tools send it and as attackers do."""

import base64
import hashlib
import io

import pytest

from registry.errors import Invalid
from registry.formats.pypi.metadata import inspect
from registry.formats.pypi.upload import Gone, check_against, parse_form
from tests.unit.formats.pypi.forge import SDIST, WHEEL, sdist, wheel

SHA256 = hashlib.sha256(b"x").hexdigest()
MD5 = hashlib.md5(b"x").hexdigest()


def form(**changes: str | list[str] | None) -> dict[str, list[str]]:
    fields: dict[str, str | list[str] | None] = {
        ":action": "file_upload", "protocol_version": "1", "metadata_version": "2.1", "name": "demo", "version": "1.0",
        "filetype": "bdist_wheel", "pyversion": "py3", "sha256_digest": SHA256, **changes,
    }  # fmt: skip
    return {key: value if isinstance(value, list) else [value] for key, value in fields.items() if value is not None}


def test_a_form() -> None:
    parsed = parse_form(form(
        name="Demo", md5_digest=MD5.upper(), blake2_256_digest=SHA256, classifiers=["a", "b"], summary="UNKNOWN",
        description="text\x00", attestations="[{}]", import_names=["demo"], import_name=["demo", "demo.sub"], comment="",
    ))  # fmt: skip
    assert (parsed.name, parsed.version, parsed.filetype, parsed.pyversion) == ("demo", "1.0", "bdist_wheel", "py3")
    assert parsed.digests == {"sha256": SHA256, "md5": MD5, "blake2b_256": SHA256}
    assert parsed.attestations == "[{}]"
    assert parsed.metadata == {"classifiers": ("a", "b"), "description": ("text",), "import_name": ("demo", "demo.sub")}


@pytest.mark.parametrize(
    "changes",
    [
        {"filetype": "sdist", "pyversion": "source"},
        {"filetype": "sdist", "pyversion": None},
        {"sha256_digest": None, "md5_digest": MD5},
        {"sha256_digest": None, "blake2_256_digest": SHA256},
        {"version": "1.0+local.1"},
        {"metadata_version": None},
    ],
)
def test_what_tools_leave_out_or_add(changes: dict[str, str | None]) -> None:
    assert parse_form(form(**changes)).name == "demo"


def test_an_md5_in_base64_is_the_same_digest() -> None:
    said = base64.urlsafe_b64encode(bytes.fromhex(MD5)).rstrip(b"=").decode()
    assert parse_form(form(md5_digest=said)).digests["md5"] == MD5


@pytest.mark.parametrize("action", ["submit", "submit_pkg_info", "doc_upload"])
def test_actions_that_are_gone(action: str) -> None:
    with pytest.raises(Gone, match=action) as raised:
        parse_form(form(**{":action": action}))
    assert raised.value.code == "gone"


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({":action": None}, ":action"),
        ({":action": "evil"}, ":action"),
        ({"protocol_version": None}, "protocol_version"),
        ({"protocol_version": "2"}, "protocol_version"),
        ({"name": None}, "name is missing"),
        ({"name": "UNKNOWN"}, "name is missing"),
        ({"name": "../../evil"}, "project name"),
        ({"name": "d\u0435mo"}, "project name"),
        ({"name": "nul"}, "reserved"),
        ({"name": ["demo", "evil"]}, "name is there twice"),
        ({"name": ["demo", "demo"]}, "name is there twice"),
        ({"version": None}, "version is missing"),
        ({"version": "latest"}, "PEP 440"),
        ({"version": ["1.0", "2.0"]}, "version is there twice"),
        ({"filetype": None}, "filetype"),
        ({"filetype": "bdist_egg"}, "filetype"),
        ({"pyversion": None}, "pyversion"),
        ({"pyversion": "source"}, "pyversion"),
        ({"filetype": "sdist"}, "pyversion"),
        ({"sha256_digest": None}, "no digest"),
        ({"sha256_digest": "abc"}, "64 hex"),
        ({"sha256_digest": "g" * 64}, "64 hex"),
        ({"sha256_digest": [SHA256, SHA256]}, "twice"),
        ({"md5_digest": "!" * 22}, "base64"),
        ({"attestations": ["[]", "[]"]}, "twice"),
    ],
)
def test_forms_that_break_a_rule(changes: dict[str, str | list[str] | None], rule: str) -> None:
    with pytest.raises(Invalid, match=rule):
        parse_form(form(**changes))


def test_a_digest_is_not_needed_where_it_is_said_so() -> None:
    assert parse_form(form(sha256_digest=None), require_digest=False).digests == {}


def test_form_file_name_and_archive_agree() -> None:
    check_against(parse_form(form(name="DEMO", version="1.0.0")), inspect(WHEEL, io.BytesIO(wheel())))
    check_against(parse_form(form(filetype="sdist", pyversion=None)), inspect(SDIST, io.BytesIO(sdist())))


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"name": "beta"}, "name beta"),
        ({"version": "1.1"}, "version 1.1"),
        ({"version": "1.0+local"}, r"version 1.0\+local"),
        ({"filetype": "sdist", "pyversion": "source"}, "filetype sdist"),
        ({"pyversion": "cp311"}, "pyversion"),
    ],
)
def test_a_form_about_something_else_is_refused(changes: dict[str, str], rule: str) -> None:
    with pytest.raises(Invalid, match=rule):
        check_against(parse_form(form(**changes)), inspect(WHEEL, io.BytesIO(wheel())))
